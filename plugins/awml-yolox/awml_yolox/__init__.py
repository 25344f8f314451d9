"""YOLOX-opt-ELAN and YOLOX for awml-deploy."""
