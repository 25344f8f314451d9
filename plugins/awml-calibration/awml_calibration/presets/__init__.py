"""Configs of real size, one file each; `awml-deploy init --model calibration DIR --preset NAME` copies NAME.py."""
