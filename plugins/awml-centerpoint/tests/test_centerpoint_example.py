"""The example: a data set that is what it claims, the same everywhere, and a network as good as promised."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve
from torch import Tensor, nn

from awml_centerpoint.architecture import architecture, geometry
from awml_centerpoint.data import samples
from awml_centerpoint.example import write
from awml_centerpoint.example.bodies import CLASSES
from awml_centerpoint.example.ride import merge, moments
from awml_centerpoint.example.train import ARCHITECTURE, GEOMETRY
from awml_centerpoint.example.write import INFO, LAG, TIMES, TOWNS, draw
from awml_centerpoint.hooks import Config, build_pipeline, compute_metrics, export_workflow, load_model, load_samples
from awml_centerpoint.voxels import voxelise
from awml_centerpoint.wrapper import wrap
from awml_deploy_core.config import RuntimeIO
from awml_deploy_core.records import Component, Record, Sample
from awml_deploy_core.settings import Options, settle

HERE = Path(write.__file__).parent


class Torch:
    """A run that is the network itself."""

    device = "cpu"

    def __init__(self, model: nn.Module, config: Config) -> None:
        self.components: dict[str, Component] = {each.name: each for each in export_workflow(config)}
        self.modules = {name: wrap(model, name, config) for name in self.components}
        self.notes: dict[str, float] = {}

    def note(self, name: str, value: float = 1) -> None:
        self.notes[name] = self.notes.get(name, 0) + value

    def __call__(self, component: str, /, **inputs: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            found = self.modules[component](*inputs.values())
        named = (each.name for each in self.components[component].outputs)
        return dict(zip(named, found if isinstance(found, tuple) else (found,), strict=True))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("town")
    draw(root, TOWNS)
    return root


@pytest.fixture(scope="module")
def config(data: Path) -> Config:
    found = settle(HERE / "config.py", Options(model="centerpoint"), config_class=Config).config
    assert isinstance(found, Config)
    # The config's paths start in its folder; a test must not change the working directory of others.
    assert found.checkpoint_path == Path("weights.safetensors")
    assert found.runtime_io == RuntimeIO(info_file=Path("data") / INFO, data_root=Path("data"))
    io = RuntimeIO(info_file=data / INFO, data_root=data)
    return evolve(found, checkpoint_path=HERE / "weights.safetensors", runtime_io=io)


@pytest.fixture(scope="module")
def content(data: Path) -> Any:
    return pickle.loads((data / INFO).read_bytes())


def points(data: Path, lidar: Any) -> Any:
    return np.fromfile(data / lidar["lidar_path"], "<f4").reshape(-1, lidar["num_pts_feats"])


# ---------------------------------------------------------------- the data set


def test_it_holds_a_few_rides_with_everybody_in_them(content: Any) -> None:
    items = content["data_list"]
    assert content["metainfo"]["classes"] == list(CLASSES)
    assert len(items) == len(TOWNS) * len(TIMES) == 24
    assert len({item["token"] for item in items}) == len(items)
    assert len({item["scene_token"] for item in items}) == len(TOWNS)
    assert [item["sample_idx"] for item in items] == list(range(24))
    seen = np.bincount(
        [one["bbox_label_3d"] for item in items for one in item["instances"] if one["num_lidar_pts"] > 4]
    )
    assert (seen > 30).all()
    assert len(seen) == len(CLASSES)


def test_its_boxes_hold_the_points_that_it_says(data: Path, content: Any) -> None:
    """Counted anew from the files, box by box in the complex plane."""
    for item in content["data_list"][::5]:
        cloud = points(data, item["lidar_points"]).astype(np.float64)
        assert np.isfinite(cloud).all()
        assert len(cloud) > 15_000
        for one in item["instances"]:
            x, y, z, long, wide, tall, yaw = one["bbox_3d"]
            flat = ((cloud[:, 0] - x) + 1j * (cloud[:, 1] - y)) * np.exp(-1j * yaw)
            out = np.stack([abs(flat.real) - long / 2, abs(flat.imag) - wide / 2, abs(cloud[:, 2] - z) - tall / 2])
            most, least = ((out < slack).all(0).sum() for slack in (1e-6, -1e-6))
            assert least <= one["num_lidar_pts"] <= most
            assert one["bbox_3d_isvalid"] is (one["num_lidar_pts"] > 0)
            assert one["gt_nusc_name"] == CLASSES[one["bbox_label"]]


def test_a_sweep_is_read_to_where_it_was_measured(config: Config) -> None:
    """Through the plugin's own reader, against the simulator's poses."""
    frames = [sample.load() for sample in samples(config)]
    columns = list(geometry(config).columns)
    for town, seed in enumerate(TOWNS):
        turns = moments(seed, [round(time - lag, 3) for time in TIMES for lag in (LAG, 0.0)])
        for index, (earlier, key) in enumerate(zip(turns[::2], turns[1::2], strict=True)):
            frame = frames[town * len(TIMES) + index]
            np.testing.assert_allclose(frame.inputs["points"], merge(key, earlier)[:, columns], atol=2e-4)
            kept = key.counts > 0
            np.testing.assert_allclose(frame.ground_truth["boxes"], key.truth.boxes[kept], atol=1e-4)
            np.testing.assert_array_equal(frame.ground_truth["labels"], key.truth.labels[kept])
            np.testing.assert_array_equal(frame.ground_truth["points"], key.counts[kept])
            np.testing.assert_allclose(frame.ground_truth["velocities"], key.truth.velocities[kept], atol=1e-5)


def test_no_pillar_is_left_out(config: Config) -> None:
    grid = geometry(config)
    for sample in samples(config)[::4]:
        voxels = voxelise(torch.from_numpy(sample.load().inputs["points"]), grid)
        assert voxels.unopened == 0
        assert voxels.not_finite == 0
        assert 2000 < len(voxels.counts) < grid.max_voxels


def test_same_bytes_every_time(data: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        draw(folder, range(1, 2))
    found = [{path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")} for folder in folders]
    assert found[0] == found[1]
    clouds = {path: raw for path, raw in found[0].items() if path.name != INFO}
    assert len(clouds) == 2 * len(TIMES)
    assert all((data / path).read_bytes() == raw for path, raw in clouds.items())


# ---------------------------------------------------------------- the network


def test_the_config_is_that_of_the_training(config: Config) -> None:
    """`heatmap_bias` is where training starts; a deployment has no use for it."""
    wanted = evolve(ARCHITECTURE, heatmap_bias=architecture(config).heatmap_bias)
    assert architecture(config) == wanted
    assert geometry(config) == GEOMETRY
    assert config.class_names == CLASSES


def test_shipped_weights_are_small() -> None:
    assert (HERE / "weights.safetensors").stat().st_size < 3_000_000


def test_write_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "TOWNS", range(1))
    write.write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.py", "data", "weights.safetensors"]
    assert (tmp_path / "data" / INFO).is_file()


@pytest.mark.slow
def test_precision_is_as_promised(config: Config) -> None:
    run, pipeline = Torch(load_model(config), config), build_pipeline("cpu", config)

    def answer(index: int, sample: Sample) -> Record:
        frame = sample.load()
        prediction = pipeline.predict(frame.inputs, run)
        return Record(id=sample.id, index=index, prediction=prediction, ground_truth=frame.ground_truth)

    records = [answer(index, sample) for index, sample in enumerate(load_samples("evaluate", config))]
    found = compute_metrics(records, config).values
    assert len(records) == 24
    assert found["mAP"] is not None
    assert found["mAP"] >= 0.5
    assert found["mAP"] >= (config.evaluation.gates["mAP"].min or 1)
    assert run.notes.get("pillars_over_max_voxels", 0) == 0
