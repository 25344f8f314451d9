"""What the plugin says of itself: its settings and their faults, its hooks, what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from awml_centerpoint import hooks
from awml_centerpoint.hooks import Config
from awml_deploy_core.audit import audit_config
from awml_deploy_core.config import Config as CoreConfig
from awml_deploy_core.errors import ConfigError
from awml_deploy_core.hookspecs import REQUIRED
from awml_deploy_core.records import Frame, Record
from awml_deploy_core.settings import Options, settle, show
from awml_deploy_core.strict import describe


def settled(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "config.py"
    path.write_text(f"checkpoint_path = 'epoch_49.pth'\n{text}\n")
    config = settle(path, Options(model="centerpoint"), config_class=Config).config
    assert isinstance(config, Config)
    return config


# ---------------------------------------------------------------- settings


def test_every_setting_is_described() -> None:
    own = {field.name for field in attrs.fields(Config)} - {field.name for field in attrs.fields(CoreConfig)}
    texts = describe(Config)
    assert [name for name in sorted(own) if not texts[name]] == []
    assert audit_config(Config) == []


def test_settings_that_are_not_given_are_those_of_the_base_model(tmp_path: Path) -> None:
    assert settled(tmp_path, "model = 'centerpoint'") == Config(
        model="centerpoint", checkpoint_path=Path("epoch_49.pth")
    )


def test_settings_read_back_as_they_were(tmp_path: Path) -> None:
    config = settled(
        tmp_path,
        "tasks = [['car', 'truck', 'bus'], ['bicycle', 'pedestrian']]\n"
        "common_heads = dict(reg=(2, 2), height=(1, 2), dim=(3, 2), rot=(2, 2))\n"
        "score_thresholds = dict(car=(0.4, 0.3, 0.2, 0.1))\n"
        "remap_by_area = dict(car=dict(truck=(12.1, 36.0)))\n"
        "metric_ranges = [(0, 50)]\n",
    )
    path = tmp_path / "again.py"
    path.write_text(show(config))
    assert settle(path, Options(), config_class=Config).config == config


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "point_cloud_range = (-50, -50, -3, 50.1, 50, 5); voxel_size = (0.2, 0.2, 8)",
            r"100.1 m along x is 500.5 voxels",
        ),
        (
            "point_cloud_range = (-48, -50, -3, 48, 50, 5)",
            "100 m along y is 416.7 voxels of 0.24 m, not a whole number",
        ),
        ("point_cloud_range = (-48, -48, -3, 48, 48, 4)", "7 m along z is 0.875 voxels of 8 m"),
        ("point_cloud_range = (50, -50, -3, -50, 50, 5)", "low corner"),
        ("point_cloud_range = (-50, 50)", "expected 6 values, got 2"),
        ("voxel_size = (0.24, 0, 8)", "above 0"),
        ("point_columns = (0, 1, 2, 5)", r"5 is beyond the file's 5 columns"),
        ("point_columns = (1, 0, 2)", "must begin with 0, 1, 2"),
        ("point_columns = (0, 1, 2, 4, 4)", "once each"),
        ("point_columns = (0, 1)", "must begin with 0, 1, 2"),
        ("max_num_points = 0", "max_num_points"),
        ("max_voxels = 0", "max_voxels"),
        ("out_size_factor = 0", "out_size_factor"),
        ("encoder = 'forward'", "allowed: pillar, backward"),
        ("backbone = 'convnext'", "did you mean 'convnext_pc'"),
        ("feat_channels = ()", "feat_channels"),
        ("layer_nums = (3, -1, 5)", "at least 0"),
        ("layer_strides = (1, 0, 2)", "above 0"),
        ("upsample_strides = (-0.5, 1, 2)", "above 0"),
        ("common_heads = dict(reg=(2, 2), dim=(3, 2), rot=(2, 2))", "the heads lack height"),
        ("common_heads = dict(reg=(2, 2), height=(1, 2), dim=(3, 2), rot=(2, 0))", "rot must have at least 1"),
        (
            "common_heads = dict(reg=(2, 2), height=(1, 2), dim=(3, 2), rot=(2, 2), heatmap=(5, 2))",
            "the heads name the heat map",
        ),
        ("tasks = [['car', 'bus'], ['truck']]", "tasks: they hold car, bus, truck, which is not class_names in order"),
        ("class_names = ['car', 'bus']; tasks = [['bus'], ['car']]", "class_names in order: car, bus"),
        ("score_threshold = 1.0", "score_threshold"),
        ("score_thresholds = dict(lorry=(0.3, 0.3, 0.3, 0.3))", "'lorry' is no class; there are car, truck"),
        ("score_thresholds = dict(car=(0.3, 0.3))", r"score_thresholds.car: 2 scores for 4 distances"),
        ("score_distance_bins = (90, 50)", "ascending order"),
        ("yaw_norm_thresholds = (0.3, 0.3)", "2 numbers for 5 classes"),
        ("nms = 'square'", "nms"),
        ("nms_threshold = -1.0", "nms_threshold"),
        ("decoding = 'autowar'", "did you mean 'autoware'"),
        ("metric = 'kitti'", "metric"),
        ("metric_ranges = [(50, 0)]", "ascending distances"),
        ("min_points = -1", "min_points"),
        ("sweeps = -1", "sweeps"),
        ("voxel_sizes = (1, 1, 1)", "did you mean 'voxel_size'"),
    ],
)
def test_faulty_settings_are_named(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settled(tmp_path, line)


@pytest.mark.parametrize(
    "line",
    [
        "point_cloud_range = (-121.6, -121.6, -3, 121.6, 121.6, 5); voxel_size = (0.32, 0.32, 8)",
        "point_cloud_range = (-121.6, -121.6, -3, 121.6, 121.6, 5); voxel_size = (0.2, 0.2, 8)",
        "point_cloud_range = (-51.2, -51.2, -3, 51.2, 51.2, 5); voxel_size = (0.16, 0.16, 8)",
        "point_cloud_range = (-76.8, -76.8, -4, 76.8, 76.8, 6); voxel_size = (0.32, 0.32, 10)",
    ],
)
def test_ranges_of_released_models_are_whole_numbers_of_voxels(tmp_path: Path, line: str) -> None:
    assert settled(tmp_path, line).point_cloud_range[5] > 0


def test_all_faults_of_a_config_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        settled(
            tmp_path,
            "yaw_norm_thresholds = (0.3,)\nscore_thresholds = dict(lorry=(0.3,))\npoint_columns = (0, 1, 2, 7)",
        )
    for part in ("yaw_norm_thresholds", "lorry", "1 scores for 4", "7 is beyond"):
        assert part in caught.value.message


# ---------------------------------------------------------------- hooks


def test_every_required_hook_is_there() -> None:
    assert [name for name in REQUIRED if not hasattr(hooks, name)] == []


BOX = np.array([[10, 2, 0.5, 4, 2, 1.5, 0.3]], np.float32)


def tree(boxes: np.ndarray[Any, Any], *, scored: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"boxes": boxes, "labels": np.zeros(len(boxes), np.int64)}
    return {**found, "scores": np.full(len(boxes), 0.9, np.float32)} if scored else found


@pytest.mark.parametrize("metric", ["t4", "nuscenes"])
def test_metrics_are_those_of_the_task(metric: Any) -> None:
    record = Record(id="a", index=0, prediction=tree(BOX, scored=True), ground_truth=tree(BOX, scored=False))
    found = hooks.compute_metrics([record], Config(metric=metric))
    assert found.values[found.primary] == pytest.approx(1)
    far = hooks.compute_metrics([record], Config(metric=metric, metric_ranges=((0.0, 9.0),)))
    assert far.values[far.primary] is None


def test_points_that_a_true_box_needs_are_the_configs() -> None:
    truth = {**tree(BOX, scored=False), "points": np.array([3])}
    record = Record(id="a", index=0, prediction=tree(BOX, scored=True), ground_truth=truth)
    assert hooks.compute_metrics([record], Config(min_points=3)).values["mAP"] == pytest.approx(1)
    assert hooks.compute_metrics([record], Config(min_points=4)).values["mAP"] != pytest.approx(1)


def test_predictions_agree_by_matched_boxes() -> None:
    same = hooks.compare_predictions(tree(BOX, scored=True), tree(BOX, scored=True), Config())
    assert (same.matched, same.unmatched, same.score) == (1, 0, 1)
    moved = hooks.compare_predictions(tree(BOX, scored=True), tree(BOX + 5, scored=True), Config())
    assert moved.score == 0


def test_a_box_that_the_rule_may_keep_or_drop_decides_nothing() -> None:
    thresholds = dict.fromkeys(hooks.CLASS_NAMES, (0.6, 0.5, 0.6, 0.6))
    node = Config(decoding="autoware", score_thresholds=thresholds)
    edge = {**tree(BOX, scored=True), "scores": np.array([0.501], np.float32)}
    nothing = tree(BOX[:0], scored=True)
    assert hooks.compare_predictions(edge, nothing, node).score > 0.99
    # Where the rule keeps weaker boxes, this one is a sure one.
    for other in (Config(score_thresholds=thresholds), Config(decoding="autoware")):
        assert hooks.compare_predictions(edge, nothing, other).score < 0.9
    only_cars = Config(decoding="autoware", score_thresholds={"car": (0.6, 0.5, 0.6, 0.6)})
    assert hooks.compare_predictions(edge, nothing, only_cars).score < 0.9


def test_the_score_at_which_boxes_are_kept_may_stand_in_the_model_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = import_module("awml_centerpoint.architecture")
    monkeypatch.setattr(there, "settled", lambda config: attrs.evolve(config, score_threshold=0.5))
    edge = {**tree(BOX, scored=True), "scores": np.array([0.501], np.float32)}
    found = hooks.compare_predictions(edge, tree(BOX[:0], scored=True), Config(model_config=tmp_path / "model.py"))
    assert found.score > 0.99


def test_a_frame_is_drawn_from_above() -> None:
    points = np.random.default_rng(0).uniform(-50, 50, (500, 4)).astype(np.float32)
    frame = Frame(inputs={"points": points}, ground_truth=tree(BOX, scored=False))
    picture = hooks.draw_sample(frame, {"trained": tree(BOX, scored=True)}, Config())
    assert picture.png.startswith(b"\x89PNG")


def test_the_pipeline_is_told_what_the_model_config_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = import_module("awml_centerpoint.architecture")
    known = attrs.evolve(Config(), max_num_points=7)
    monkeypatch.setattr(there, "settled", lambda config: known)
    made = hooks.build_pipeline("cpu", Config(model_config=tmp_path / "model.py"))
    assert getattr(made, "config", None) is known


# ---------------------------------------------------------------- cost


def test_the_hooks_module_imports_nothing_heavy() -> None:
    code = "import sys, awml_centerpoint.hooks; print([m for m in ('torch', 'numpy', 'onnx') if m in sys.modules])"
    there = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert there.stdout.strip() == "[]"


def test_describing_the_graphs_needs_no_network() -> None:
    code = (
        "import sys; from awml_centerpoint.hooks import Config, export_workflow; export_workflow(Config());"
        "print([m for m in ('torch', 'onnx') if m in sys.modules])"
    )
    there = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert there.stdout.strip() == "[]"


def test_a_config_can_be_checked_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text("checkpoint_path = 'epoch_49.pth'\nmax_voxels = 'many'\n")
    command = [sys.executable, "-m", "awml_deploy_core", "config", "check", "--model", "centerpoint", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert "$.max_voxels" in done.stderr
    assert "Traceback" not in done.stderr
    path.write_text("checkpoint_path = 'epoch_49.pth'\n")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
