"""Stock YOLOX against mmdet's and Megvii's own modules, where somebody has installed them."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from awml_yolox.layouts import renamed
from awml_yolox.network import build, named
from awml_yolox.network.description import SIZES, Arch

SMALL: tuple[Arch, ...] = ("nano", "tiny", "s", "m")


def oracle(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return import_module(name)
        except ImportError as error:
            pytest.skip(f"{name} cannot be imported: {error}")


def shake(model: nn.Module) -> None:
    torch.manual_seed(3)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if "running_var" in name:
                value.uniform_(0.5, 2)
            elif name.endswith(("running_mean", "bias")):
                value.normal_(0, 0.3)


def assert_same(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


@pytest.mark.parametrize("arch", SMALL)
def test_mmdet_names_and_numbers(arch: Arch) -> None:
    backbones, necks = oracle("mmdet.models.backbones.csp_darknet"), oracle("mmdet.models.necks.yolox_pafpn")
    heads = oracle("mmdet.models.dense_heads.yolox_head")
    wanted, (deepen, widen) = named(arch, classes=5), SIZES[arch]
    split = wanted.backbone.depthwise
    theirs: Any = nn.Module()
    theirs.backbone = backbones.CSPDarknet(deepen_factor=deepen, widen_factor=widen, use_depthwise=split)
    theirs.neck = necks.YOLOXPAFPN(
        in_channels=list(wanted.neck.inputs),
        out_channels=wanted.neck.outputs,
        num_csp_blocks=wanted.neck.blocks,
        use_depthwise=split,
    )
    channels = wanted.neck.outputs
    theirs.bbox_head = heads.YOLOXHead(num_classes=5, in_channels=channels, feat_channels=channels, use_depthwise=split)
    shake(theirs.eval())
    ours = build(wanted).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.rand(2, 3, 96, 64) * 255
    with torch.no_grad():
        expected = theirs.bbox_head(theirs.neck(theirs.backbone(x)))
        found = ours(x)
    for part in range(3):
        for level in range(3):
            assert_same(found[level][part], expected[part][level])


@pytest.mark.parametrize("arch", SMALL)
def test_megvii_names_and_numbers(arch: Arch) -> None:
    models = oracle("yolox.models")
    (deepen, widen), split = SIZES[arch], arch == "nano"
    theirs = models.YOLOX(
        models.YOLOPAFPN(deepen, widen, depthwise=split), models.YOLOXHead(5, widen, depthwise=split)
    ).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = 1e-3, 0.03  # as its Exp does
    shake(theirs)
    theirs.head.decode_in_inference = False
    ours = build(named(arch, classes=5)).eval()
    ours.load_state_dict(renamed(theirs.state_dict()))
    x = torch.rand(2, 3, 96, 64) * 255
    with torch.no_grad():
        levels = [torch.cat([box, obj.sigmoid(), cls.sigmoid()], 1).flatten(2) for cls, box, obj in ours(x)]
        assert_same(torch.cat(levels, 2).transpose(1, 2), theirs(x))
