"""Tensors out of checkpoints, info files out of pickles, and weights into networks; nothing is ever executed."""

from awml_deploy_core.checkpoint.machine import Inert
from awml_deploy_core.checkpoint.read import Checkpoint, read_checkpoint, read_info
from awml_deploy_core.checkpoint.state import load_state

__all__ = ["Checkpoint", "Inert", "load_state", "read_checkpoint", "read_info"]
