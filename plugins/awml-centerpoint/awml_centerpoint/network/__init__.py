"""CenterPoint in plain torch, with mmdetection3d's names for its weights."""

from __future__ import annotations

from torch import Tensor, nn

from awml_centerpoint.architecture import Architecture
from awml_centerpoint.network.convnext import ConvNext
from awml_centerpoint.network.encoder import PillarFeatures
from awml_centerpoint.network.head import CenterHead
from awml_centerpoint.network.neck import SecondFpn
from awml_centerpoint.network.second import Second
from awml_centerpoint.network.start import start

__all__ = ["Architecture", "CenterPoint", "build"]


class CenterPoint(nn.Module):
    """Everything that has weights; what lies between encoder and backbone has none.

    Args:
        architecture: Which CenterPoint.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        made = architecture
        levels = [made.out_channels[level] for level in made.levels]
        self.pts_voxel_encoder = PillarFeatures(made.channels, made.feat_channels, made.encoder_norm)
        self.pts_backbone = _backbone(made)
        self.pts_neck = SecondFpn(
            levels,
            made.upsample_channels,
            made.upsample_strides,
            made.neck_norm,
            conv_for_no_stride=made.use_conv_for_no_stride,
        )
        self.pts_bbox_head = CenterHead(made, sum(made.upsample_channels))

    def encode(self, features: Tensor) -> Tensor:
        """Features (pillars, 1, features) of decorated points (pillars, points, channels)."""
        encoded: Tensor = self.pts_voxel_encoder(features)
        return encoded

    def detect(self, canvas: Tensor) -> list[dict[str, Tensor]]:
        """For every task its maps by name, the heat map first, from a canvas (batch, features, y, x)."""
        maps: list[dict[str, Tensor]] = self.pts_bbox_head(self.pts_neck(self.pts_backbone(canvas)))
        return maps


def _backbone(made: Architecture) -> nn.Module:
    if made.backbone == "convnext_pc":
        return ConvNext(made.features, made.out_channels, made.layer_nums, made.levels)
    return Second(made.features, made.out_channels, made.layer_nums, made.layer_strides, made.backbone_norm)


def build(architecture: Architecture) -> CenterPoint:
    """A network with the weights that training starts from, in training mode."""
    model = CenterPoint(architecture)
    start(model, architecture.heatmap_bias)
    return model
