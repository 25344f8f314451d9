"""From a network to an ONNX file that computes the same, with real exporters and real sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from awml_deploy_core.errors import LoadError
from awml_deploy_core.export import Exported, export_onnx
from awml_deploy_core.record import resize_inputs
from awml_deploy_core.records import Axis, Component, Tensor

if TYPE_CHECKING:
    from pathlib import Path

BATCH = Axis(name="batch", independent=True)


class Heads(nn.Module):
    """Two inputs, two outputs, batch norm, and a pooling that has another form from opset 18 on."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4, 2)

    def forward(self, image: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.body(image)
        return features, self.head(features.mean((2, 3))) + bias


def tensor(name: str, *shape: int | str, dtype: str = "float32") -> Any:
    sizes: Any = shape
    return Tensor(name=name, shape=sizes, dtype=dtype)


def component(name: str, inputs: Any, outputs: Any, axes: Any = (BATCH,)) -> Component:
    return Component(name=name, inputs=inputs, outputs=outputs, axes=axes)


HEADS = component(
    "heads",
    [tensor("image", "batch", 3, "H", "W"), tensor("bias", "batch", 2)],
    [tensor("map", "batch", 4, "h", "w"), tensor("logits", "batch", 2)],
    [BATCH, *(Axis(name=name) for name in "HWhw")],
)


def heads_inputs() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {"image": torch.randn(1, 3, 8, 12), "bias": torch.randn(1, 2)}


def run_file(path: Path, inputs: dict[str, torch.Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, {n: t.numpy() for n, t in inputs.items()}), strict=True))


def dims(values: Any) -> dict[str, list[str | int]]:
    return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


def assert_same(module: nn.Module, described: Component, exported: Exported, inputs: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        result = module(*(inputs[t.name].clone() for t in described.inputs))
    wanted = result if isinstance(result, tuple) else (result,)
    answer = run_file(exported.artifact.path, inputs)
    assert list(answer) == [value.name for value in described.outputs]
    for name, want in zip(answer, wanted, strict=True):
        np.testing.assert_allclose(answer[name], want.numpy(), rtol=1e-4, atol=1e-5)
        assert answer[name].dtype == want.numpy().dtype


@pytest.mark.parametrize(
    ("exporter", "opset", "used"),
    [
        ("torchscript", 13, "torchscript"),
        ("torchscript", 16, "torchscript"),
        ("torchscript", 17, "torchscript"),
        ("torchscript", 18, "torchscript"),
        ("torchscript", 20, "torchscript"),
        ("dynamo", 18, "dynamo"),
        ("dynamo", 20, "dynamo"),
        ("auto", 20, "dynamo"),
        ("auto", 16, "torchscript"),
    ],
)
def test_the_file_holds_what_was_asked_for(tmp_path: Path, exporter: Any, opset: int, used: str) -> None:
    module = Heads().eval()
    exported = export_onnx(
        module,
        HEADS,
        heads_inputs(),
        tmp_path / "heads.onnx",
        opset_version=opset,
        exporter=exporter,
        metadata={"model": "toy", "checkpoint": "abc"},
        producer=("awml-toy", "1.2"),
        made_from="abc",
    )
    model = onnx.load(tmp_path / "heads.onnx")
    assert (exported.exporter, exported.opset) == (used, opset)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    assert exported.ir_version == model.ir_version
    assert dims(model.graph.input) == {"image": ["batch", 3, "H", "W"], "bias": ["batch", 2]}
    assert dims(model.graph.output) == {"map": ["batch", 4, "h", "w"], "logits": ["batch", 2]}
    assert (model.producer_name, model.producer_version) == ("awml-toy", "1.2")
    props = [(entry.key, entry.value) for entry in model.metadata_props]
    assert props == [("checkpoint", "abc"), ("exporter", f"torch {torch.__version__} {used}"), ("model", "toy")]
    assert exported.artifact.made_from == "abc"
    assert exported.artifact.size == (tmp_path / "heads.onnx").stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["heads.onnx"]
    assert_same(module, HEADS, exported, heads_inputs())
    assert_same(module, HEADS, exported, {"image": torch.randn(3, 3, 10, 6), "bias": torch.randn(3, 2)})
    if exporter == "auto" and opset == 16:
        assert exported.notes == ("torchscript was used: dynamo implements opset 18 and up, not 16",)
    else:
        assert exported.notes == ()


def test_an_opset_that_dynamo_cannot_give_is_an_error_where_dynamo_was_chosen(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="component heads cannot be exported: dynamo: it gives opset 18 where 13"):
        export_onnx(Heads().eval(), HEADS, heads_inputs(), tmp_path / "heads.onnx", opset_version=13, exporter="dynamo")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- networks of other shapes


class Labels(nn.Module):
    def forward(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return scores.argmax(1), scores > 0


class Cell(nn.Module):
    """A recurrent step: its memory goes in and out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell = nn.GRUCell(3, 4)

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        state = self.cell(x, state)
        return state.sum(1), state


class Inplace(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x -= 0.5
        x[:, 0] = 0
        return x.sigmoid_()


LABELS = component(
    "labels",
    [tensor("scores", "batch", 5)],
    [tensor("label", "batch", dtype="int64"), tensor("hot", "batch", 5, dtype="bool")],
)
CELL = component(
    "cell",
    [tensor("x", "batch", 3), tensor("state", "batch", 4)],
    [tensor("sum", "batch"), tensor("next", "batch", 4)],
)
PLAIN = component("plain", [tensor("x", "batch", 6)], [tensor("y", "batch", 6)])


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize(
    ("module", "described", "inputs"),
    [
        (Labels(), LABELS, {"scores": torch.randn(2, 5)}),
        (Cell(), CELL, {"x": torch.randn(1, 3), "state": torch.zeros(1, 4)}),
        (Inplace(), PLAIN, {"x": torch.randn(2, 6)}),
    ],
    ids=["integers and flags", "recurrent", "in place"],
)
def test_kinds_of_networks(
    tmp_path: Path, exporter: Any, module: nn.Module, described: Component, inputs: dict[str, torch.Tensor]
) -> None:
    before = {name: tensor.clone() for name, tensor in inputs.items()}
    exported = export_onnx(module.eval(), described, inputs, tmp_path / "m.onnx", opset_version=18, exporter=exporter)
    assert all(torch.equal(inputs[name], before[name]) for name in inputs)
    assert_same(module, described, exported, resize_inputs(described, inputs))
    assert exported.notes == ()


def test_recorded_inputs_may_be_numpy_arrays(tmp_path: Path) -> None:
    x, state = np.ones((2, 3), np.float32), np.zeros((2, 4), np.float32)
    x.flags.writeable = False
    exported = export_onnx(Cell().eval(), CELL, {"x": x, "state": state}, tmp_path / "m.onnx", exporter="torchscript")
    assert_same(Cell(), CELL, exported, {"x": torch.randn(5, 3), "state": torch.randn(5, 4)})


@pytest.mark.parametrize("rows", [0, 1])
def test_recorded_inputs_may_be_empty_or_single(tmp_path: Path, rows: int) -> None:
    module = Cell().eval()
    inputs = {"x": torch.randn(rows, 3), "state": torch.zeros(rows, 4)}
    exported = export_onnx(module, CELL, inputs, tmp_path / "m.onnx", exporter="torchscript")
    assert_same(module, CELL, exported, {"x": torch.randn(5, 3), "state": torch.randn(5, 4)})


def test_a_fixed_batch_stands_in_the_file(tmp_path: Path) -> None:
    fixed = Axis(name="batch", dynamic=False, min=3, opt=3, max=3, independent=True)
    described = component("cell", CELL.inputs, CELL.outputs, [fixed])
    inputs = {"x": torch.randn(1, 3), "state": torch.zeros(1, 4)}
    exported = export_onnx(Cell().eval(), described, inputs, tmp_path / "m.onnx", exporter="torchscript")
    model = onnx.load(exported.artifact.path)
    assert dims(model.graph.input) == {"x": [3, 3], "state": [3, 4]}
    assert dims(model.graph.output) == {"sum": [3], "next": [3, 4]}


def test_an_input_that_the_network_ignores_stays(tmp_path: Path) -> None:
    class First(nn.Module):
        def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x.sum(1), x.repeat(1, 2)[:, :4]

    inputs = {"x": torch.randn(2, 3), "state": torch.zeros(2, 4)}
    exported = export_onnx(First().eval(), CELL, inputs, tmp_path / "m.onnx", exporter="torchscript")
    assert list(dims(onnx.load(exported.artifact.path).graph.input)) == ["x", "state"]
    assert_same(First(), CELL, exported, inputs)


def test_the_network_is_left_as_it_was(tmp_path: Path) -> None:
    module = Heads()
    module.head.eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    export_onnx(module, HEADS, heads_inputs(), tmp_path / "m.onnx", exporter="torchscript")
    assert module.training
    assert not module.head.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
