"""One call on every backend: what goes in is checked, what comes out belongs to the caller."""

from __future__ import annotations

import gc
import hashlib
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from awml_deploy_core.backends import Device, open_run, parse_device
from awml_deploy_core.backends import onnxruntime as ort_backend
from awml_deploy_core.errors import (
    ArtifactError,
    ConfigError,
    DeployError,
    ExitCode,
    LoadError,
    PluginError,
    RequirementError,
)
from awml_deploy_core.records import Artifact, Axis, Component, Run, Tensor, Variant

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def tensor(name: str, *shape: int | str, dtype: str = "float32") -> Any:
    sizes: Any = shape
    return Tensor(name=name, shape=sizes, dtype=dtype)


def component(inputs: Any, outputs: Any, *axes: Any) -> Component:
    return Component(name="net", inputs=inputs, outputs=outputs, axes=axes)


N = Axis(name="n", independent=True)
NET = component(
    [tensor("x", "n", 3), tensor("gate", "n", dtype="bool")],
    [tensor("y", "n", 3), tensor("hot", "n", 3, dtype="bool"), tensor("same", "n", 3)],
    N,
)


class Net(nn.Module):
    """Works in place, gives its input back, and drops out when it is not in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
        self.drop = nn.Dropout(0.9)

    def forward(self, x: torch.Tensor, gate: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = self.drop(x * self.weight)
        x[~gate] = 0
        return y, y > 1, x


def save(path: Path, *, batch: int | str = "n") -> Artifact:
    """The same network written as ONNX by hand."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Mul", ["x", "weight"], ["y"]),
        helper.make_node("Greater", ["y", "one"], ["hot"]),
        helper.make_node("Cast", ["gate"], ["open"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["open", "last"], ["column"]),
        helper.make_node("Mul", ["x", "column"], ["same"]),
    ]
    inputs = [value("x", TensorProto.FLOAT, [batch, 3]), value("gate", TensorProto.BOOL, [batch])]
    outputs = [
        value("y", TensorProto.FLOAT, [batch, 3]),
        value("hot", TensorProto.BOOL, [batch, 3]),
        value("same", TensorProto.FLOAT, [batch, 3]),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.array([1, 2, 3], np.float32), "weight"),
        helper.make_tensor("one", TensorProto.FLOAT, [], [1]),
        helper.make_tensor("last", TensorProto.INT64, [1], [1]),
    ]
    write(path, nodes, inputs, outputs, constants)
    return artifact(path)


def write(path: Path, nodes: Any, inputs: Any, outputs: Any, constants: Any = ()) -> None:
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(constants))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def artifact(path: Path) -> Artifact:
    content = path.read_bytes()
    return Artifact(
        component="net", format="onnx", path=path, sha256=hashlib.sha256(content).hexdigest(), size=len(content)
    )


def onnx_variant(*made: Artifact, device: str = "cpu") -> Variant:
    files: Any = made
    return Variant(name="onnx", backend="onnx", device=device, artifacts=files)


@pytest.fixture(params=["pytorch", "onnx"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """Opens the network on either backend."""

    def open_net(described: Component = NET, module: nn.Module | None = None) -> Any:
        if request.param == "pytorch":
            variant = Variant(name="trained", backend="pytorch")
            return open_run(variant, [described], modules={"net": module or Net()}, threads=1)
        return open_run(onnx_variant(save(tmp_path / "net.onnx")), [described], threads=1)

    return open_net


X = torch.tensor([[0.1, 1.0, -2.0], [3.0, 0.0, 0.4]])
GATE = torch.tensor([True, False])


def test_torch_in_torch_out(opened: Callable[..., Any]) -> None:
    with opened() as run:
        answer = run("net", x=X, gate=GATE)
        assert isinstance(run, Run)
        assert (run.device, dict(run.components)) == ("cpu", {"net": NET})
    torch.testing.assert_close(answer["y"], X * torch.tensor([1.0, 2.0, 3.0]))
    assert answer["hot"].tolist() == [[False, True, False], [True, False, True]]
    assert answer["hot"].dtype == torch.bool
    assert answer["same"].tolist() == [X[0].tolist(), [0, 0, 0]]
    assert not any(value.requires_grad for value in answer.values())


def test_numpy_in_numpy_out(opened: Callable[..., Any]) -> None:
    frozen = np.asfortranarray(X.numpy())
    frozen.flags.writeable = False
    with opened() as run:
        answer = run("net", x=frozen, gate=GATE.numpy()[::-1])
    assert {name: (type(value), str(value.dtype)) for name, value in answer.items()} == {
        "y": (np.ndarray, "float32"),
        "hot": (np.ndarray, "bool"),
        "same": (np.ndarray, "float32"),
    }
    np.testing.assert_allclose(answer["same"], [[0, 0, 0], X[1].tolist()])


def test_the_answer_belongs_to_the_caller_and_inputs_are_never_written(opened: Callable[..., Any]) -> None:
    x, gate = X.clone(), GATE.clone()
    with opened() as run:
        first = run("net", x=x, gate=gate)
        kept = {name: value.clone() for name, value in first.items()}
        assert torch.equal(x, X)
        for value in first.values():
            value.zero_()
        assert torch.equal(x, X)
        assert torch.equal(gate, GATE)
        second = run("net", x=x, gate=gate)
    del run
    gc.collect()
    assert all(torch.equal(second[name], kept[name]) for name in kept)
    assert all(value.is_contiguous() for value in second.values())


def test_a_network_that_keeps_or_shares_its_outputs_cannot_reach_the_caller() -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("state", torch.ones(2, 3))

        def forward(self, x: torch.Tensor, gate: torch.Tensor) -> list[Any]:
            return [self.state, gate[:, None].expand(2, 3), self.state]

    module = Keeps()
    with open_run(Variant(name="trained", backend="pytorch"), [NET], modules={"net": module}) as run:
        answer = run("net", x=X, gate=GATE)
        answer["y"].zero_()
        answer["hot"].fill_(True)
    assert answer["same"].tolist() == [[1, 1, 1]] * 2
    assert torch.equal(module.state, torch.ones(2, 3))  # type: ignore[arg-type]
    assert GATE.tolist() == [True, False]


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 7])
def test_a_static_batch_takes_any_number_of_rows(tmp_path: Path, rows: int) -> None:
    x, gate = torch.randn(rows, 3), torch.rand(rows) > 0.5
    with open_run(onnx_variant(save(tmp_path / "net.onnx", batch=3)), [NET]) as run:
        answer = run("net", x=x, gate=gate)
    torch.testing.assert_close(answer["y"], x * torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(answer["same"], x * gate[:, None])


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_declared_limits_hold_on_every_backend(opened: Callable[..., Any], rows: int) -> None:
    described = component(NET.inputs, NET.outputs, Axis(name="n", min=2, max=4, independent=True))
    x = torch.randn(rows, 3)
    with opened(described) as run:
        answer = run("net", x=x, gate=torch.ones(rows, dtype=torch.bool))
    torch.testing.assert_close(answer["same"], x)


BAD_CALLS: list[tuple[dict[str, Any], str]] = [
    ({"x": X}, "input 'gate' is missing"),
    ({"x": X, "gate": GATE, "y": X}, "there is no input 'y', only x, gate"),
    ({"x": X.double(), "gate": GATE}, "input 'x' must be float32, got float64"),
    ({"x": X.numpy().astype(np.float64), "gate": GATE.numpy()}, "input 'x' must be float32, got float64"),
    ({"x": X, "gate": GATE.to(torch.uint8)}, "input 'gate' must be bool, got uint8"),
    ({"x": X[:, :2], "gate": GATE}, "input 'x' must have shape [n, 3] with n = 2, got [2, 2]"),
    ({"x": X[0], "gate": GATE}, "input 'x' must have shape [n, 3], got [3]"),
    ({"x": X, "gate": GATE[:1]}, "input 'gate' must have shape [n] with n = 2, got [1]"),
    ({"x": X, "gate": GATE.numpy()}, "input 'gate' must be a torch tensor like the others, got ndarray"),
    ({"x": X.tolist(), "gate": GATE.numpy()}, "input 'x' must be a numpy array, got list"),
    ({"x": np.array([["a"]]), "gate": GATE.numpy()}, "input 'x' is of numpy's type <U1, which torch has not"),
    ({"x": X.to("meta"), "gate": GATE}, "input 'x' must live on cpu, got meta"),
]


@pytest.mark.parametrize(("inputs", "said"), BAD_CALLS)
def test_a_wrong_call_names_pipeline_component_and_tensor(
    opened: Callable[..., Any], inputs: dict[str, Any], said: str
) -> None:
    with opened() as run, pytest.raises(PluginError) as caught:
        run("net", **inputs)
    assert caught.value.message == f"pipeline: component net: {said}"
    assert caught.value.hint


def test_an_unknown_component_is_refused_with_the_nearest(opened: Callable[..., Any]) -> None:
    with opened() as run, pytest.raises(PluginError, match="pipeline: runs 'nets', but the components are net"):
        run("nets", x=X)


def test_an_axis_that_is_not_independent_must_keep_its_limits(opened: Callable[..., Any]) -> None:
    described = component(NET.inputs, NET.outputs, Axis(name="n", min=3, max=4))
    with opened(described) as run, pytest.raises(PluginError, match="axis n must be from 3 to 4, got 2"):
        run("net", x=X, gate=GATE)


def test_notes_are_counted(opened: Callable[..., Any]) -> None:
    with opened() as run:
        run.note("capped")
        run.note("capped", 2.5)
        assert run.notes == {"capped": 3.5}


def test_a_closed_run_runs_nothing(opened: Callable[..., Any]) -> None:
    with opened() as run:
        pass
    run.close()
    with pytest.raises(PluginError, match=r"after the run of variant .* was closed"):
        run("net", x=X, gate=GATE)


# ---------------------------------------------------------------- PyTorch


def test_a_network_runs_in_eval_mode_and_gets_its_mode_back() -> None:
    module = Net()
    with open_run(Variant(name="trained", backend="pytorch"), [NET], modules={"net": module}) as run:
        modes = [module.training, module.drop.training]
        assert run.providers == {"net": "torch cpu"}
    assert [*modes, module.training, module.drop.training] == [False, False, True, True]


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with open_run(Variant(name="trained", backend="pytorch"), [NET], modules={"net": Net()}, threads=before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_a_failing_network_is_named_with_its_reason() -> None:
    variant = Variant(name="trained", backend="pytorch")
    with open_run(variant, [NET], modules={"net": nn.Linear(3, 3)}) as run, pytest.raises(LoadError) as caught:
        run("net", x=X, gate=GATE)
    assert caught.value.message.startswith("component net: its module fails: TypeError: ")
    assert isinstance(caught.value.__cause__, TypeError)


def test_a_component_without_a_module_is_refused() -> None:
    with pytest.raises(DeployError, match="variant trained: no module was given for component net"):
        open_run(Variant(name="trained", backend="pytorch"), [NET], modules={})


# ---------------------------------------------------------------- ONNX Runtime


def test_the_session_is_freed_when_the_run_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[Any]] = []
    honest = onnxruntime.InferenceSession

    def watched(*args: Any, **options: Any) -> Any:
        session = honest(*args, **options)
        alive.append(weakref.ref(session))
        return session

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    made = save(tmp_path / "net.onnx")
    other = Component(name="other", inputs=NET.inputs, outputs=NET.outputs, axes=NET.axes)
    with pytest.raises(ArtifactError, match="variant onnx: there is no ONNX file for component other"):
        open_run(onnx_variant(made), [NET, other])
    gc.collect()
    run = open_run(onnx_variant(made), [NET], threads=1)
    held_by_somebody = run._sessions["net"].call
    with pytest.raises(KeyError, match="pipeline"), run:
        raise KeyError("pipeline")
    gc.collect()
    assert [ref() for ref in alive] == [None, None]
    assert callable(held_by_somebody)


def test_the_provider_that_runs_is_reported(tmp_path: Path) -> None:
    with open_run(onnx_variant(save(tmp_path / "net.onnx")), [NET]) as run:
        assert run.providers == {"net": "CPUExecutionProvider"}


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA is here")
def test_a_provider_that_is_not_there_is_a_requirement(tmp_path: Path) -> None:
    path = str(save(tmp_path / "net.onnx").path)
    with pytest.raises(RequirementError, match="has no CUDAExecutionProvider for cuda:1") as caught:
        ort_backend.open_file(path, Device(kind="cuda", index=1), None, "net")
    assert caught.value.exit_code == ExitCode.ENVIRONMENT


def test_a_provider_that_gives_way_in_silence_is_a_requirement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a machine whose CUDA libraries do not fit: the provider is listed, and the CPU runs the session.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    path = str(save(tmp_path / "net.onnx").path)
    with pytest.raises(RequirementError, match="CUDAExecutionProvider was asked for, but CPUExecutionProvider runs"):
        ort_backend.open_file(path, Device(kind="cuda"), None, "net")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "does not exist"),
        (100, "has 100 bytes, it had"),
        (b"", "cannot be loaded"),
        (b"abc" * 9, "cannot be loaded"),
    ],
)
def test_a_file_that_is_missing_or_broken(tmp_path: Path, content: Any, said: str) -> None:
    made = save(tmp_path / "net.onnx")
    if content is None:
        made.path.unlink()
    elif isinstance(content, int):
        made.path.write_bytes(made.path.read_bytes()[:content])
    else:
        made.path.write_bytes(content)
        made = artifact(made.path)
    with pytest.raises(ArtifactError, match=said) as caught:
        open_run(onnx_variant(made), [NET])
    assert str(made.path) in caught.value.message
    assert caught.value.message.startswith("component net: ")
    assert caught.value.exit_code == ExitCode.ARTIFACT
    assert caught.value.hint


def test_weights_beside_the_file_that_are_missing(tmp_path: Path) -> None:
    made = save(tmp_path / "net.onnx")
    onnx.save(onnx.load(made.path), made.path, save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    (tmp_path / "net.onnx.data").unlink()
    with pytest.raises(ArtifactError, match=r"net\.onnx cannot be loaded"):
        open_run(onnx_variant(artifact(made.path)), [NET])


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        ([tensor("x", "n", 3)], NET.outputs, "has the inputs gate, x, the component x"),
        (NET.inputs, [tensor("logits", "n", 3)], "has the outputs hot, same, y, the component logits"),
        ([tensor("x", "n", 4), NET.inputs[1]], NET.outputs, "takes x as tensor.float. .'n', 3., the component as"),
        ([tensor("x", "n", 3, dtype="float64"), NET.inputs[1]], NET.outputs, "the component as tensor.double."),
        ([tensor("x", "n", 3, 1), NET.inputs[1]], NET.outputs, "the component as tensor.float. .'n', 3, 1."),
    ],
)
def test_a_file_of_another_model(tmp_path: Path, inputs: Any, outputs: Any, said: str) -> None:
    with pytest.raises(ArtifactError, match=said) as caught:
        open_run(onnx_variant(save(tmp_path / "net.onnx")), [component(inputs, outputs, N)])
    assert "net.onnx" in caught.value.message


def test_a_graph_that_fails_on_these_sizes_is_named(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [1, 3])
    path = tmp_path / "net.onnx"
    write(path, [node], [value("x", TensorProto.FLOAT, ["n", 3])], [value("y", TensorProto.FLOAT, ["n", 3])], [shape])
    described = component([tensor("x", "n", 3)], [tensor("y", "n", 3)], N)
    with open_run(onnx_variant(artifact(path)), [described]) as run:
        assert run("net", x=X[:1])["y"].tolist() == X[:1].tolist()
        with pytest.raises(ArtifactError, match=r"component net: .*net\.onnx fails to run: .*[Rr]eshape") as caught:
            run("net", x=X)
    assert "traced" in str(caught.value.hint)


def test_outputs_outlive_the_session_also_when_memory_is_bound(tmp_path: Path) -> None:
    """The path of CUDA, taken on the CPU: booleans come through dlpack, empty tensors have no address."""
    path = save(tmp_path / "net.onnx").path
    cpu = Device(kind="cpu")
    session = ort_backend.open_file(str(path), cpu, 1, "net")
    x, gate = X.clone(), GATE.clone()
    first = ort_backend._run_bound(session, cpu, {"x": x.T.contiguous().T, "gate": gate})
    again = ort_backend._run_bound(session, cpu, {"x": x, "gate": gate})
    empty = ort_backend._run_bound(session, cpu, {"x": x[:0], "gate": gate[:0]})
    first["y"].zero_()
    del session
    gc.collect()
    assert again["hot"].dtype == torch.bool
    assert again["hot"].tolist() == [[False, True, False], [True, False, True]]
    torch.testing.assert_close(again["y"], X * torch.tensor([1.0, 2.0, 3.0]))
    assert torch.equal(x, X)
    assert {name: tuple(value.shape) for name, value in empty.items()} == dict.fromkeys(["y", "hot", "same"], (0, 3))


def test_bfloat16_goes_through(tmp_path: Path) -> None:
    value, path = helper.make_tensor_value_info, tmp_path / "net.onnx"
    kind = TensorProto.BFLOAT16
    write(path, [helper.make_node("Identity", ["x"], ["y"])], [value("x", kind, ["n"])], [value("y", kind, ["n"])])
    described = component([tensor("x", "n", dtype="bfloat16")], [tensor("y", "n", dtype="bfloat16")], N)
    x = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    with open_run(onnx_variant(artifact(path)), [described]) as run:
        assert torch.equal(run("net", x=x)["y"], x)


# ---------------------------------------------------------------- devices


@pytest.mark.parametrize(
    ("text", "kind", "index"), [("cpu", "cpu", 0), ("cuda", "cuda", 0), ("cuda:0", "cuda", 0), ("cuda:12", "cuda", 12)]
)
def test_devices_are_read(text: str, kind: Any, index: int) -> None:
    assert parse_device(text) == Device(kind=kind, index=index)
    assert parse_device(str(parse_device(text))) == parse_device(text)


@pytest.mark.parametrize("text", ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "CUDA", "cuda:0 "])
def test_other_devices_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not known"):
        parse_device(text)


@pytest.mark.parametrize("backend", ["pytorch", "onnx"])
def test_a_device_that_does_not_exist_is_a_requirement(tmp_path: Path, backend: Any) -> None:
    files: Any = (save(tmp_path / "net.onnx"),)
    variant = Variant(name="v", backend=backend, device="cuda:99", artifacts=files)
    with pytest.raises(RequirementError, match="variant v: device cuda:99 does not exist here") as caught:
        open_run(variant, [NET], modules={"net": Net()})
    assert caught.value.exit_code == ExitCode.ENVIRONMENT
