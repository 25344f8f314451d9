"""What stands in an exported file beside the numbers: versions, weights, and nothing of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from awml_deploy_core.errors import LoadError
from awml_deploy_core.export import Exported, export_onnx
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


PLAIN = component("plain", [tensor("x", "batch", 6)], [tensor("y", "batch", 6)])


def run_file(path: Path, inputs: dict[str, torch.Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, {n: t.numpy() for n, t in inputs.items()}), strict=True))


def assert_same(module: nn.Module, exported: Exported, inputs: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        result = module(*inputs.values())
    answer = run_file(exported.artifact.path, inputs)
    for got, want in zip(answer.values(), result if isinstance(result, tuple) else (result,), strict=True):
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-5)


def export_heads(tmp_path: Path, **options: Any) -> tuple[Exported, onnx.ModelProto]:
    options.setdefault("exporter", "torchscript")
    exported = export_onnx(Heads().eval(), HEADS, heads_inputs(), tmp_path / "heads.onnx", **options)
    return exported, onnx.load(exported.artifact.path)


def test_the_ir_version_is_capped(tmp_path: Path) -> None:
    exported, model = export_heads(tmp_path, opset_version=18, exporter="dynamo", max_ir_version=8)
    assert exported.ir_version == model.ir_version == 8
    assert_same(Heads().eval(), exported, heads_inputs())


def test_an_ir_version_below_the_opset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="opset 20 needs IR version 9, but at most 8") as caught:
        export_heads(tmp_path, opset_version=20, max_ir_version=8)
    assert "opset_version" in str(caught.value.hint)


def test_weights_can_be_listed_as_inputs(tmp_path: Path) -> None:
    exported, model = export_heads(tmp_path, keep_initializers_as_inputs=True)
    stored = {tensor.name for tensor in model.graph.initializer}
    assert stored
    assert {value.name for value in model.graph.input} == stored | {"image", "bias"}
    assert_same(Heads().eval(), exported, heads_inputs())


def test_weights_can_be_left_out_and_given_at_run_time(tmp_path: Path) -> None:
    exported, model = export_heads(tmp_path, export_params=False)
    _, whole = export_heads(tmp_path / "whole")
    names = {value.name for value in model.graph.input} - {"image", "bias"}
    weights = {t.name: torch.tensor(onnx.numpy_helper.to_array(t)) for t in whole.graph.initializer if t.name in names}
    assert names == set(weights)
    assert exported.artifact.size < (tmp_path / "whole/heads.onnx").stat().st_size
    answer = run_file(exported.artifact.path, heads_inputs() | weights)
    whole_answer = run_file(tmp_path / "whole/heads.onnx", heads_inputs())
    np.testing.assert_allclose(answer["logits"], whole_answer["logits"], rtol=1e-6)


class Wide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(6, 6)
        self.table = nn.Parameter(torch.randn(1000, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layer(x) @ self.table.T) @ self.table


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_weights_can_stand_beside_the_file_and_its_hash_covers_them(tmp_path: Path, exporter: Any) -> None:
    def export(module: nn.Module) -> Exported:
        path = tmp_path / "wide.onnx"
        return export_onnx(
            module, PLAIN, {"x": torch.randn(2, 6)}, path, exporter=exporter, opset_version=18, external_data="external"
        )

    module = Wide().eval()
    first = export(module)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wide.onnx", "wide.onnx.data"]
    assert first.artifact.size < 6000 < (tmp_path / "wide.onnx.data").stat().st_size
    assert_same(module, first, {"x": torch.randn(3, 6)})
    with torch.no_grad():
        module.table[-1, -1] += 1
    assert export(module).artifact.sha256 != first.artifact.sha256


def test_weights_that_do_not_fit_into_one_file_go_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("awml_deploy_core.export._INLINE", 23_999)
    x, path = {"x": torch.randn(2, 6)}, tmp_path / "wide.onnx"
    exported = export_onnx(Wide().eval(), PLAIN, x, path, exporter="torchscript")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wide.onnx", "wide.onnx.data"]
    assert_same(Wide().eval(), exported, x)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @staticmethod
    def symbolic(g: Any, x: Any) -> Any:
        return g.op("awml::Double", x).setType(x.type())


def test_an_operator_of_an_extra_library_is_exported_and_the_missing_check_is_noted(tmp_path: Path) -> None:
    class Custom(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return Doubled.apply(x)  # type: ignore[no-untyped-call]

    x = {"x": torch.randn(2, 6)}
    exported = export_onnx(Custom().eval(), PLAIN, x, tmp_path / "m.onnx", exporter="torchscript")
    assert [node.domain for node in onnx.load(exported.artifact.path).graph.node] == ["awml"]
    assert exported.notes == ("not checked in ONNX Runtime, not simplified: it lacks the operators of awml",)


@pytest.mark.parametrize("folding", [True, False])
def test_constants_are_folded_on_request(tmp_path: Path, folding: bool) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("a", torch.arange(6.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * (torch.sqrt(self.a) + 1)  # type: ignore[arg-type]

    exported = export_onnx(
        Scaled().eval(),
        PLAIN,
        {"x": torch.randn(2, 6)},
        tmp_path / "m.onnx",
        exporter="torchscript",
        do_constant_folding=folding,
        simplify=False,
    )
    operators = {node.op_type for node in onnx.load(exported.artifact.path).graph.node}
    assert ("Sqrt" in operators) is not folding


def test_a_graph_is_simplified_on_request(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x.exp() + x.exp()).reshape(x.shape[0], 2, 3).reshape(x.shape[0], 6)

    counts = {}
    for simplify in (True, False):
        exported = export_onnx(
            Twice().eval(),
            PLAIN,
            {"x": torch.randn(2, 6)},
            tmp_path / "m.onnx",
            exporter="torchscript",
            simplify=simplify,
        )
        assert_same(Twice(), exported, {"x": torch.randn(4, 6)})
        counts[simplify] = len(onnx.load(exported.artifact.path).graph.node)
    assert counts[True] < counts[False]


def test_a_simplification_that_changes_the_numbers_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxslim

    honest = onnxslim.slim

    def lying(model: onnx.ModelProto, **options: Any) -> onnx.ModelProto:
        slimmed: onnx.ModelProto = honest(model, **options)
        weight = next(tensor for tensor in slimmed.graph.initializer if len(tensor.dims) == 4)
        array = onnx.numpy_helper.to_array(weight) * np.float32(1.001)
        weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
        return slimmed

    monkeypatch.setattr(onnxslim, "slim", lying)
    exported, model = export_heads(tmp_path)
    assert len(exported.notes) == 1
    assert exported.notes[0].startswith("left unsimplified: map differs by 0.00")
    arrays = {name: value.numpy() for name, value in heads_inputs().items()}
    evaluator: Any = ReferenceEvaluator(model)
    answer = evaluator.run(["map"], arrays)[0]
    np.testing.assert_allclose(answer, run_file(exported.artifact.path, heads_inputs())["map"], rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        np.testing.assert_allclose(answer, Heads().eval()(*heads_inputs().values())[0].numpy(), rtol=1e-4, atol=1e-5)


def test_a_simplification_that_fails_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: onnx.ModelProto, **options: Any) -> onnx.ModelProto:
        raise ValueError("no such pattern\nat all")

    monkeypatch.setattr("onnxslim.slim", broken)
    exported, _ = export_heads(tmp_path)
    assert exported.notes == ("left unsimplified: onnxslim fails: ValueError: no such pattern",)
    assert_same(Heads().eval(), exported, heads_inputs())


SCRIPT = textwrap.dedent("""
    import sys, warnings
    from pathlib import Path
    import torch
    from torch import nn
    from awml_deploy_core.export import export_onnx
    from awml_deploy_core.records import Axis, Component, Tensor

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1))
        def forward(self, x):
            y = self.a(x)
            return y.flatten(2).softmax(-1), y.amax((2, 3))

    component = Component(
        name="net", inputs=(Tensor(name="x", shape=("n", 3, 8, 8)),), axes=(Axis(name="n", independent=True),),
        outputs=(Tensor(name="y", shape=("n", 4, 36)), Tensor(name="z", shape=("n", 4))),
    )
    for exporter, simplify in (("dynamo", True), ("dynamo", False), ("torchscript", True), ("torchscript", False)):
        export_onnx(Net().eval(), component, {"x": torch.ones(1, 3, 8, 8)}, Path(f"{exporter}{simplify}.onnx"),
                    opset_version=18, exporter=exporter, simplify=simplify, metadata={"b": "1", "a": "2"})
""")


def test_the_bytes_do_not_depend_on_process_folder_or_hash_seed(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "deeper/two"]
    running = []
    for seed, folder in enumerate(folders):
        folder.mkdir(parents=True)
        (folder / f"script{seed}.py").write_text("\n" * seed + SCRIPT)
        command = [sys.executable, "-W", "error", f"script{seed}.py"]
        environment = {**os.environ, "PYTHONHASHSEED": str(seed + 1), "OMP_NUM_THREADS": "1"}
        running.append(
            subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        )
    said = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    # Also a plain interpreter, without pytest's capture, sees nothing of the exporters' chatter.
    assert said == [b"", b""]
    for name in ("dynamoTrue.onnx", "dynamoFalse.onnx", "torchscriptTrue.onnx", "torchscriptFalse.onnx"):
        one, two = ((folder / name).read_bytes() for folder in folders)
        assert one == two
        assert b"script0" not in one
        assert str(tmp_path).encode() not in one
        assert b"site-packages" not in one
