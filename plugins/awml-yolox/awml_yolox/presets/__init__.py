"""Configs of real size, one file each; `awml-deploy init --model yolox DIR --preset NAME` copies NAME.py."""
