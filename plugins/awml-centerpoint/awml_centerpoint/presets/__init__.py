"""Configs of real size, one file each; `awml-deploy init --model centerpoint DIR --preset NAME` copies NAME.py."""
