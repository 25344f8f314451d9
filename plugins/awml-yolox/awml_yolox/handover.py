"""What Autoware's node `autoware_tensorrt_yolox` wants beside the graph, and what it would trip over.

Two parameter files are written because the node renamed some of its parameters after v0.43; a node ignores what it does
not declare, so either file suits the node that it is for and no other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import onnx

from awml_deploy_core.records import Finding, Handover
from awml_yolox.hooks import THRESHOLDS
from awml_yolox.rules import OVERLAID, REMAPPED, Graph, findings, known_class

if TYPE_CHECKING:
    from awml_deploy_core.records import Artifact
    from awml_yolox.hooks import Config

LABELS, REMAP = "label.txt", "label_remap.csv"
PRECISIONS = {"auto": "fp16", "fp16": "fp16", "fp32": "fp32", "fp32_tf32": "fp32", "explicit_int8": "int8"}
"""The node's word for each policy that it has one for."""


def autoware(artifacts: Sequence[Artifact], config: Config) -> Handover:
    """Label files, parameters by the node's names, and findings with the node's own rule.

    Args:
        artifacts: What will be handed over; the graph is read for the values that it decides.
        config: Says classes, thresholds and precision.
    """
    graphs = [artifact for artifact in artifacts if artifact.format == "onnx"]
    chosen = next((one for one in graphs if one.precision == "fp32"), graphs[0] if graphs else None)
    if chosen is None:
        rule = "The node builds its engine from an ONNX file on the vehicle."
        missing = Finding(level="error", subject="artifacts", fact="there is no ONNX file among them", rule=rule)
        return Handover(files={LABELS: _lines(config.names)}, findings=(missing,))
    graph = Graph.of(onnx.load(chosen.path, load_external_data=False), chosen.path.name)
    settings = parameters(graph, config)
    files = {
        LABELS: _lines(config.names),
        REMAP: _lines(["name,id", *(f"{name},{REMAPPED[known_class(name)]}" for name in config.names)]),
        "yolox.param.yaml": _yaml(settings | _current()),
        "yolox_v0.43.param.yaml": _yaml(settings | _older()),
    }
    return Handover(files=files, findings=tuple(findings(graph, config, settings)))


def parameters(graph: Graph, config: Config) -> dict[str, Any]:
    """What both generations of the node call the same."""
    # Thresholds of AWML's rule are for measuring; with them a node would publish next to everything.
    given = (config.score_threshold, config.nms_threshold) if config.decoding == "autoware" else (None, None)
    score, overlap = (own if said is None else said for said, own in zip(given, THRESHOLDS["autoware"], strict=True))
    return {
        "model_path": graph.name,
        "label_path": LABELS,
        "score_threshold": float(score),
        "nms_threshold": float(overlap),
        "precision": PRECISIONS.get(config.backend_config.common_config.precision_policy, "fp16"),
        "calibration_algorithm": "Entropy",
        "calibration_image_list_path": "",
        "clip_value": 6.0 if graph.clipped else 0.0,
        "dla_core_id": -1,
        "quantize_first_layer": False,
        "quantize_last_layer": False,
        "profile_per_layer": False,
        "gpu_id": 0,
        "is_publish_color_mask": False,
        "overlap_roi_score_threshold": 0.3,
    }


def _current() -> dict[str, Any]:
    overlaid = dict.fromkeys((*OVERLAID, "HAZARD"), False)
    return {
        "roi_remap_path": REMAP,
        "semantic_segmentation_color_map_path": "",
        "is_roi_overlap_segmentation": False,
        "roi_overlay_segmentation_label": overlaid,
    }


def _older() -> dict[str, Any]:
    return {
        "preprocess_on_gpu": True,
        "color_map_path": "not-specified",
        "is_roi_overlap_segment": False,
        "roi_overlay_segment_label": dict.fromkeys(OVERLAID, False),
    }


def _yaml(settings: Mapping[str, Any]) -> bytes:
    # What JSON writes in one line is YAML, too.
    return _lines(["/**:", "  ros__parameters:", *(f"    {key}: {json.dumps(v)}" for key, v in settings.items())])


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
