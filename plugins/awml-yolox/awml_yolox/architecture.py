"""Which network a config means: AWML's or mmdet's own config if it names one, else its own keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from awml_deploy_core.configfile import read_config
from awml_deploy_core.errors import ConfigError
from awml_yolox.network.description import (
    EPS,
    Activation,
    Architecture,
    Backbone,
    Head,
    Kind,
    Neck,
    Stage,
    csp_stages,
    elan_stages,
    named,
)

if TYPE_CHECKING:
    from awml_yolox.hooks import Config

BACKBONES: dict[str, Kind] = {"ELANDarknet": "elan", "CSPDarknet": "csp"}
NECKS: dict[str, Kind] = {"YOLOXPAFPN_ELAN": "elan", "YOLOXPAFPN": "csp"}
ACTIVATIONS: dict[str, Activation] = {"ReLU6": "ReLU6", "ReLU": "ReLU", "Swish": "Swish", "SiLU": "Swish"}
STRIDES = (8, 16, 32)

TRAINING = {"type", "init_cfg", "frozen_stages", "norm_eval", "train_cfg", "test_cfg"} | {
    f"loss_{part}" for part in ("cls", "bbox", "obj", "l1")
}
"""Keys of any section that leave the network as it is."""

STYLE = {"act_cfg", "norm_cfg", "use_depthwise", "conv_cfg"}
BACKBONE = {"arch", "deepen_factor", "widen_factor", "out_indices", "aspp_dilations"} | {
    # The middle one and the last are mmdet's spelling.
    "arch_overwrite",
    "arch_ovewrite",
    "spp_kernal_sizes",
}
HEAD = {"num_classes", "in_channels", "feat_channels", "stacked_convs", "strides", "conv_bias", "dcn_on_last_conv"}

OWN_KEYS = (
    "deepen_factor",
    "widen_factor",
    "activation",
    "out_channels",
    "feat_channels",
    "stacked_convs",
    "num_elan_blocks",
    "stage_blocks",
    "add_identity",
    "expand_ratio",
    "aspp",
    "depthwise",
)


def architecture(config: Config) -> Architecture:
    """The network that the config means.

    Raises:
        ConfigError: The model config is of another network, or what it says of classes differs from `class_names`.
    """
    if config.model_config is None:
        said = {key: getattr(config, key) for key in OWN_KEYS}
        return named(config.arch, classes=len(config.names), **said)
    found = read(config.model_config, letterbox=config.preprocessing == "letterbox")
    if found.head.classes != len(config.names):
        raise ConfigError(
            f"{config.model_config}: model.bbox_head.num_classes is {found.head.classes}, "
            f"class_names lists {len(config.names)} ({', '.join(config.names)})",
            hint="Set class_names to the classes of the training, in its order.",
        )
    return found


def read(path: Path, *, letterbox: bool = True) -> Architecture:
    """The network that an AWML or mmdet config describes.

    Args:
        path: The config.
        letterbox: Whether images will come as they are, so that a network for normalised ones is refused.

    Raises:
        ConfigError: It describes something else, or something about it is not known here.
    """
    model = Section.of(read_config(path).values, "model", path)
    model.kind({"YOLOX": "YOLOX"}, "YOLOX")
    if letterbox:
        _require_raw_images(model)
    backbone = _backbone(model.section("backbone"))
    neck = _neck(model.section("neck"), backbone)
    head = _head(model.section("bbox_head"), neck)
    try:
        return Architecture(backbone=backbone, neck=neck, head=head)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}", hint="Correct in_channels and out_channels of its model.") from error


def _require_raw_images(model: Section) -> None:
    given = model.values.get("data_preprocessor") or {}
    wrong = [key for key in ("mean", "std", "bgr_to_rgb") if given.get(key)]
    if wrong:
        raise ConfigError(
            f"{model.path}: model.data_preprocessor sets {', '.join(wrong)}, but the letterbox gives raw BGR pixels",
            hint="Set preprocessing to 'model_config', or name the config of a network that takes raw images.",
        )


# ---------------------------------------------------------------- its parts


def _backbone(section: Section) -> Backbone:
    kind = section.kind(BACKBONES, "CSPDarknet")
    section.only(BACKBONE)
    deepen = section.number("deepen_factor", 2.0 if kind == "elan" else 1.0)
    widen = section.number("widen_factor", 1.0)
    indices = tuple(section.get("out_indices", (2, 3, 4)))
    overwritten = section.get("arch_overwrite") or section.get("arch_ovewrite")
    if overwritten:
        stem, stages = _rows(section, kind, overwritten, deepen, widen)
    else:
        stem, stages = int((32 if kind == "elan" else 64) * widen), _table(section, kind, deepen, widen)
    if indices != (2, 3, 4) or len(stages) != 4:
        raise ConfigError(
            f"{section.name} gives the features of stages {indices} of {len(stages)}",
            hint="Decoding knows the strides 8, 16 and 32, which are stages 2, 3 and 4 of four.",
        )
    return Backbone(
        kind=kind,
        stem=stem,
        stages=stages,
        out_indices=indices,
        dilations=tuple(section.get("aspp_dilations", (1, 6, 12, 18))),
        kernels=tuple(section.get("spp_kernal_sizes", (5, 9, 13))),
        **section.style("ReLU" if kind == "elan" else "Swish"),
    )


def _table(section: Section, kind: Kind, deepen: float, widen: float) -> tuple[Stage, ...]:
    arch = section.get("arch", "P5")
    if kind == "elan" and arch in ("P5", "P5_ASPP"):
        return elan_stages(deepen, widen, aspp=arch == "P5_ASPP")
    if kind == "csp" and arch == "P5":
        return csp_stages(deepen, widen)
    known = "P5, P5_ASPP" if kind == "elan" else "P5"
    raise ConfigError(f"{section.name}.arch is {arch!r}", hint=f"Available: {known}.")


def _rows(
    section: Section, kind: Kind, rows: Sequence[Sequence[Any]], deepen: float, widen: float
) -> tuple[int, tuple[Stage, ...]]:
    """Stem and stages out of a table of one's own.

    A row is (inputs, outputs, blocks, expand ratio, add, aspp) for ELAN and (inputs, outputs, blocks, add, spp) else.
    """
    stages, before = [], None
    for row in rows:
        if len(row) != (6 if kind == "elan" else 5) or (before is not None and row[0] != before):
            raise ConfigError(
                f"{section.name}.arch_overwrite: {list(row)} does not follow from the row before it, or has "
                f"{len(row)} values",
                hint="Give each row the outputs of the one before it as inputs, and as many values as mmdet's table.",
            )
        *_, add, pools = row
        before, blocks = row[1], max(round(row[2] * deepen), 1)
        stages.append(
            Stage(
                channels=int(before * widen),
                blocks=blocks,
                expand_ratio=row[3] if kind == "elan" else 0.5,
                add_identity=add,
                pooling=("aspp" if kind == "elan" else "spp") if pools else None,
            )
        )
    return int(rows[0][0] * widen), tuple(stages)


def _neck(section: Section, backbone: Backbone) -> Neck:
    kind = section.kind(NECKS, "YOLOXPAFPN")
    blocks = "num_elan_blocks" if kind == "elan" else "num_csp_blocks"
    section.only({"in_channels", "out_channels", blocks, "upsample_cfg"})
    upsample = section.get("upsample_cfg", {})
    if upsample and (upsample.get("scale_factor"), upsample.get("mode")) != (2, "nearest"):
        raise ConfigError(f"{section.name}.upsample_cfg is {upsample}", hint="Available: nearest, by 2.")
    return Neck(
        kind=kind,
        inputs=tuple(section.get("in_channels", backbone.outputs)),
        outputs=section.whole("out_channels"),
        blocks=section.whole(blocks, 2 if kind == "elan" else 3),
        **section.style("Swish"),
    )


def _head(section: Section, neck: Neck) -> Head:
    section.kind({"YOLOXHead": "YOLOXHead"}, "YOLOXHead")
    section.only(HEAD)
    if tuple(section.get("strides", STRIDES)) != STRIDES:
        raise ConfigError(f"{section.name}.strides is {section.get('strides')}", hint="Available: 8, 16, 32.")
    for key, plain in (("conv_bias", "auto"), ("dcn_on_last_conv", False)):
        if section.get(key, plain) not in (plain, False):
            raise ConfigError(f"{section.name}.{key} is {section.get(key)!r}", hint=f"Available: {plain!r}.")
    return Head(
        classes=section.whole("num_classes"),
        inputs=section.whole("in_channels", neck.outputs),
        features=section.whole("feat_channels", 256),
        convs=section.whole("stacked_convs", 2),
        levels=len(neck.inputs),
        **section.style("Swish"),
    )


# ---------------------------------------------------------------- sections of the file


@frozen(kw_only=True)
class Section:
    """One section of a config, which knows where it stands.

    Args:
        path: The file.
        place: Dotted name inside.
        values: What it says.
    """

    path: Path
    place: str
    values: Mapping[str, Any]

    @classmethod
    def of(cls, values: Mapping[str, Any], key: str, path: Path, place: str = "") -> Section:
        """A section by its key."""
        found = values.get(key)
        if not isinstance(found, Mapping):
            hint = "Name AWML's or mmdet's config of the model, or leave model_config out and set arch."
            raise ConfigError(f"{path}: has no section {place}{key}, from which the network is read", hint=hint)
        return cls(path=path, place=f"{place}{key}", values=found)

    @property
    def name(self) -> str:
        """File and place, for messages."""
        return f"{self.path}: {self.place}"

    def section(self, key: str) -> Section:
        """A section inside this one."""
        return Section.of(self.values, key, self.path, f"{self.place}.")

    def get(self, key: str, default: Any = None) -> Any:
        """A value as it is."""
        return self.values.get(key, default)

    def number(self, key: str, default: float) -> float:
        """A positive number."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ConfigError(f"{self.name}.{key} is {value!r}, not a number above 0")
        return float(value)

    def whole(self, key: str, default: int | None = None) -> int:
        """A positive whole number."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{self.name}.{key} is {value!r}, not a whole number above 0")
        return value

    def kind(self, known: Mapping[str, Any], default: str) -> Any:
        """What the section's `type` stands for, with or without the scope of a registry."""
        said = str(self.get("type", default))
        if said.rpartition(".")[2] not in known:
            raise ConfigError(f"{self.name} is a {said}", hint=f"Available: {', '.join(known)}.")
        return known[said.rpartition(".")[2]]

    def only(self, keys: set[str]) -> None:
        """Refuse what is not known here, since it may change the network."""
        known = TRAINING | STYLE | keys
        strange = sorted(key for key, value in self.values.items() if key not in known and value is not None)
        if strange:
            raise ConfigError(
                f"{self.name}: {', '.join(strange)} is not known here, so the network would be another one",
                hint="Remove it if it leaves the network as it is.",
            )

    def style(self, activation: str) -> dict[str, Any]:
        """Activation, depthwise convolutions and the constant of the batch norms."""
        act = dict(self.get("act_cfg") or {"type": activation})
        norm = dict(self.get("norm_cfg") or {"type": "BN", "eps": EPS})
        if act.get("type") not in ACTIVATIONS:
            raise ConfigError(f"{self.name}.act_cfg is {act}", hint=f"Available: {', '.join(ACTIVATIONS)}.")
        if norm.get("type") not in ("BN", "BN2d", "SyncBN") or self.get("conv_cfg"):
            raise ConfigError(
                f"{self.name}: norm_cfg is {norm}, conv_cfg is {self.get('conv_cfg')}",
                hint="Available: BN and SyncBN, plain convolutions.",
            )
        return {
            "activation": ACTIVATIONS[act["type"]],
            "depthwise": bool(self.get("use_depthwise")),
            "eps": norm.get("eps", 1e-5),  # torch's own, which mmcv takes where a config says nothing
        }
