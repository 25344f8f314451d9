"""What cannot be exported, and how it is said."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import onnx
import pytest
import torch
from torch import nn

from awml_deploy_core.errors import ExitCode, LoadError, PluginError
from awml_deploy_core.export import attempt, export_onnx, graph
from awml_deploy_core.export.trace import Unfit
from awml_deploy_core.records import Axis, Component, Tensor

if TYPE_CHECKING:
    from pathlib import Path

BATCH = Axis(name="batch", independent=True)


def tensor(name: str, *shape: int | str, dtype: str = "float32") -> Any:
    sizes: Any = shape
    return Tensor(name=name, shape=sizes, dtype=dtype)


def component(name: str, inputs: Any, outputs: Any, axes: Any = (BATCH,)) -> Component:
    return Component(name=name, inputs=inputs, outputs=outputs, axes=axes)


def test_a_doubtful_graph_is_taken_where_no_other_exporter_gives_any(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"torchscript": attempt.Held(exporter="torchscript", model=onnx.ModelProto(), doubt="y jumps at a tie")}

    def traced(task: Any, exporter: Any) -> attempt.Held:
        if exporter not in made:
            raise Unfit("it has no such operator")
        return made[exporter]

    monkeypatch.setattr(attempt, "_traced", traced)
    task: Any = None
    held = attempt.first_that_holds(task, ["torchscript", "dynamo"])
    assert held.exporter == "torchscript"
    assert held.notes == [
        "dynamo was given up: it has no such operator; torchscript was used",
        "torchscript: y jumps at a tie; verification is to judge",
    ]
    made["dynamo"] = attempt.Held(exporter="dynamo", model=onnx.ModelProto())
    assert attempt.first_that_holds(task, ["torchscript", "dynamo"]).exporter == "dynamo"


PLAIN = component("plain", [tensor("x", "batch", 6)], [tensor("y", "batch", 6)])


class Inner(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return torch.linalg.eigvals(x.reshape(-1, 1, 1) * torch.eye(3)).real[:, 0]


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.inner(x[:, 0])
        return y[:, None] + x


@pytest.mark.parametrize(
    ("exporter", "said"),
    [
        ("torchscript", "torchscript: the operator aten::linalg_eigvals in inner has no ONNX form here"),
        ("dynamo", "dynamo: the operator aten.linalg_eig has no ONNX form here"),
    ],
)
def test_an_operator_without_onnx_form_is_named(tmp_path: Path, exporter: Any, said: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"the file of an earlier run")
    with pytest.raises(LoadError, match="component plain cannot be exported") as caught:
        export_onnx(Outer().eval(), PLAIN, {"x": torch.randn(2, 6)}, path, opset_version=18, exporter=exporter)
    assert said in caught.value.message
    assert "wrap_for_onnx" in str(caught.value.hint)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 200
    assert caught.value.exit_code == ExitCode.EXPORT
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"m.onnx": b"the file of an earlier run"}


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ([tensor("y", "batch", 7)], "y is declared float32 [batch = 2, 7], but the network gives float32 [2, 6]"),
        ([tensor("y", "batch", 6, dtype="float16")], "float16 [batch = 2, 6], but the network gives float32 [2, 6]"),
        ([tensor("y", "batch")], "y is declared float32 [batch = 2], but the network gives float32 [2, 6]"),
        ([tensor("y", "batch", 6), tensor("z", 1)], "must return the tensors y, z in this order, got 1 tensors"),
    ],
)
def test_a_network_that_gives_something_else_than_declared(tmp_path: Path, outputs: Any, said: str) -> None:
    described = component("plain", PLAIN.inputs, outputs)
    with pytest.raises(LoadError) as caught:
        export_onnx(nn.ReLU().eval(), described, {"x": torch.randn(2, 6)}, tmp_path / "m.onnx")
    assert said in caught.value.message


def test_a_network_that_returns_a_dict_is_told_what_to_return(tmp_path: Path) -> None:
    class Named(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"y": x}

    with pytest.raises(LoadError, match="must return the tensors y in this order, got a dict") as caught:
        export_onnx(Named().eval(), PLAIN, {"x": torch.randn(2, 6)}, tmp_path / "m.onnx")
    assert "tuple of tensors" in str(caught.value.hint)


def test_example_inputs_are_held_against_the_component(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="component plain: input 'x' must be float32, got float64"):
        export_onnx(nn.ReLU(), PLAIN, {"x": torch.randn(2, 6).double()}, tmp_path / "m.onnx")


def test_a_graph_with_other_tensors_than_the_component_is_refused() -> None:
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Relu", ["a"], ["b"])
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", [value("a", 1, ["n", 6])], [value("b", 1, ["n", 6])])
    )
    with pytest.raises(Unfit, match="the graph has the inputs a instead of x"):
        graph.declare(model, PLAIN, {"batch": 2})


def test_warnings_of_the_tracer_become_notes_and_chatter_goes_to_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if x.abs().sum() > 0 else x - 1

    with caplog.at_level(logging.DEBUG, logger="awml_deploy_core.export"):
        exported = export_onnx(
            Branch().eval(), PLAIN, {"x": torch.ones(2, 6)}, tmp_path / "m.onnx", exporter="auto", opset_version=18
        )
    assert exported.exporter == "torchscript"
    assert "dynamo was given up" in exported.notes[0]
    assert any("test_export_faults.py:" in note and "Python boolean" in note for note in exported.notes[1:])
    assert "DeprecationWarning" not in "".join(exported.notes)
    assert any(each.name.endswith("export.trace") and each.getMessage().strip() for each in caplog.records)
    assert capfd.readouterr() == ("", "")


# ---------------------------------------------------------------- sizes that are traced in


class Branch(nn.Module):
    """Takes another road for a single row."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.shape[0] == 1 else x * 3


class Baked(nn.Module):
    """Turns the batch into a number, which TorchScript keeps and dynamo does not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(int(x.shape[0]), 2, 3).reshape(int(x.shape[0]), 6) * 2


class Mean(nn.Module):
    """Right shapes at every size, wrong numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / int(x.shape[0])


@pytest.mark.parametrize(
    ("module", "rows", "exporter"),
    [
        (Branch(), 1, "auto"),
        (Branch(), 1, "dynamo"),
        (Branch(), 2, "torchscript"),
        (Baked(), 1, "torchscript"),
        (Mean(), 2, "torchscript"),
    ],
)
def test_a_traced_in_size_is_found_and_named(tmp_path: Path, module: nn.Module, rows: int, exporter: Any) -> None:
    inputs = {"x": torch.randn(rows, 6)}
    with pytest.raises(LoadError, match="component plain cannot be exported") as caught:
        export_onnx(module.eval(), PLAIN, inputs, tmp_path / "m.onnx", opset_version=18, exporter=exporter)
    assert "the size of batch is traced into the graph" in caught.value.message
    assert "declare the axis fixed" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_auto_takes_the_exporter_that_does_not_trace_the_size_in(tmp_path: Path) -> None:
    inputs = {"x": torch.randn(1, 6)}
    exported = export_onnx(Baked().eval(), PLAIN, inputs, tmp_path / "m.onnx", opset_version=18)
    assert (exported.exporter, exported.notes) == ("dynamo", ())


def test_the_same_network_with_a_fixed_axis_is_exported(tmp_path: Path) -> None:
    described = component("plain", PLAIN.inputs, PLAIN.outputs, [Axis(name="batch", dynamic=False, independent=True)])
    inputs = {"x": torch.randn(2, 6)}
    exported = export_onnx(Mean().eval(), described, inputs, tmp_path / "m.onnx", exporter="torchscript")
    assert [d.dim_value for d in onnx.load(exported.artifact.path).graph.output[0].type.tensor_type.shape.dim] == [2, 6]


def test_only_the_guilty_axis_is_named(tmp_path: Path) -> None:
    class Tall(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x / int(x.shape[1])

    axes = [BATCH, Axis(name="H"), Axis(name="W")]
    described = component("tall", [tensor("x", "batch", "H", "W")], [tensor("y", "batch", "H", "W")], axes)
    with pytest.raises(LoadError, match="the size of H is traced into the graph"):
        export_onnx(Tall().eval(), described, {"x": torch.randn(1, 4, 6)}, tmp_path / "m.onnx", exporter="torchscript")


def test_a_network_that_refuses_another_number_of_rows_is_told_so(tmp_path: Path) -> None:
    class Single(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.ones(1, 6).expand(x.shape[0], 6) if x.shape[0] == 1 else x.reshape(1, 6)

    with pytest.raises(LoadError, match="with another number of rows on batch") as caught:
        export_onnx(Single().eval(), PLAIN, {"x": torch.randn(1, 6)}, tmp_path / "m.onnx")
    assert "any number of rows" in str(caught.value.hint)


def test_a_size_that_the_network_cannot_run_at_is_noted(tmp_path: Path) -> None:
    class Square(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ x.new_ones(6, 6)

    described = component(
        "square", [tensor("x", "batch", "W")], [tensor("y", "batch", 6)], [BATCH, Axis(name="W", min=3, max=6)]
    )
    path = tmp_path / "m.onnx"
    exported = export_onnx(
        Square().eval(), described, {"x": torch.randn(1, 6)}, path, exporter="torchscript", simplify=False
    )
    (note,) = exported.notes
    assert note.startswith("not checked at another size than recorded: at W = 3 component square: its module fails")
