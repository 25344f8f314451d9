"""The example: complete, the same everywhere, and as accurate as promised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from attrs import evolve
from torch import Tensor, nn

from awml_calibration.example.write import INFO, draw
from awml_calibration.hooks import Config, build_pipeline, compute_metrics, load_model, load_samples, write_example
from awml_deploy_core.config import RuntimeIO
from awml_deploy_core.records import Component, Record, Sample
from awml_deploy_core.settings import Options, settle


class Torch:
    """A run that is the network itself."""

    device = "cpu"
    components: dict[str, Component] = {}  # noqa: RUF012  never written

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def note(self, name: str, value: float = 1) -> None:
        pass

    def __call__(self, component: str, /, **inputs: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return {"output": self.model(inputs["input"])}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("street")
    assert write_example(directory)
    return directory


@pytest.fixture(scope="module")
def config(folder: Path) -> Config:
    found = settle(folder / "config.py", Options(model="calibration"), config_class=Config).config
    assert isinstance(found, Config)
    # The config's paths start in its folder; a test must not change the working directory of others.
    assert found.checkpoint_path == Path("weights.safetensors")
    assert found.runtime_io == RuntimeIO(info_pkl=Path("data") / INFO, data_root=Path("data"))
    io = RuntimeIO(info_pkl=folder / "data" / INFO, data_root=folder / "data")
    return evolve(found, checkpoint_path=folder / "weights.safetensors", runtime_io=io)


@pytest.fixture(scope="module")
def records(config: Config) -> list[Record]:
    pipeline, run = build_pipeline("cpu", config), Torch(load_model(config))

    def answer(index: int, sample: Sample) -> Record:
        frame = sample.load()
        prediction = pipeline.predict(frame.inputs, run)
        return Record(id=sample.id, index=index, prediction=prediction, ground_truth=frame.ground_truth)

    return [answer(index, sample) for index, sample in enumerate(load_samples("evaluate", config))]


def test_accuracy_is_as_promised(records: list[Record], config: Config) -> None:
    found = compute_metrics(records, config)
    assert len(records) == 48
    assert found.values["accuracy"] is not None
    assert found.values["accuracy"] >= 0.9
    assert found.values["accuracy"] >= (config.evaluation.gates["accuracy"].min or 1)


def test_network_compares_image_and_points(config: Config) -> None:
    """Points of one place on the image of another are no calibration, though each alone looks right."""
    pipeline, run = build_pipeline("cpu", config), Torch(load_model(config))
    calibrated = [sample.load().inputs for sample in load_samples("evaluate", config)[::2]]
    mixed = [evolve(a, image=b.image) for a, b in zip(calibrated, calibrated[3:] + calibrated[:3], strict=True)]
    answers = [pipeline.predict(view, run)["label"] for view in mixed]
    assert np.mean(answers) < 0.2


def test_shipped_weights_are_small(folder: Path) -> None:
    assert (folder / "weights.safetensors").stat().st_size < 2_000_000


def test_some_cameras_bend_the_light_and_all_differ(config: Config) -> None:
    views = [sample.load().inputs for sample in load_samples("evaluate", config)[::2]]
    bent = [bool(view.distortion.any()) for view in views]
    assert 0 < sum(bent) < len(bent)
    assert len({view.lidar_to_camera.tobytes() for view in views}) == len(views)
    assert {view.image.shape for view in views} == {(192, 320, 3)}


def test_same_bytes_every_time(folder: Path, tmp_path: Path) -> None:
    draw(tmp_path, range(1))
    drawn = [path for path in sorted(tmp_path.rglob("*")) if path.is_file() and path.name != INFO]
    assert len(drawn) == 4
    for path in drawn:
        assert path.read_bytes() == (folder / "data" / path.relative_to(tmp_path)).read_bytes()
