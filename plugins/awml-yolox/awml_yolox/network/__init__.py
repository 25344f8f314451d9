"""The networks in plain torch, with mmdet's names for their weights."""

from awml_yolox.network.description import Activation, Architecture, Backbone, Head, Neck, Stage, named
from awml_yolox.network.yolox import Yolox, build

__all__ = ["Activation", "Architecture", "Backbone", "Head", "Neck", "Stage", "Yolox", "build", "named"]
