"""Running an engine: what is checked before TensorRT is asked, and, where it accepts the GPU, the numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
import pytest
import torch

from awml_deploy_core.backends import Device, open_run, tensorrt
from awml_deploy_core.backends.tensorrt import accepted, described, open_session, require_fitting, require_gpu
from awml_deploy_core.build.document import Built, Settings
from awml_deploy_core.build.document import described as document
from awml_deploy_core.build.policy import plan
from awml_deploy_core.build.profiles import Range
from awml_deploy_core.build.receipt import Facts, hold
from awml_deploy_core.errors import ArtifactError, ExitCode, RequirementError
from awml_deploy_core.files import sha256_file, write_json
from awml_deploy_core.records import Artifact, Axis, Component, Tensor, Variant

GPU = Device(kind="cuda")
NET = Component(
    name="net",
    inputs=[Tensor(name="x", shape=("batch", 3, 8, 8))],
    outputs=[Tensor(name="y", shape=("batch", 8, 8, 8))],
    axes=[Axis(name="batch", max=8, independent=True)],
)
HONEST = Facts(
    strong=True,
    flags=(),
    tensors={"FLOAT": 2},
    compute=(),
    quantized=0,
    graph_quantized=0,
    graph_tensors={"FLOAT": 2},
)

Lay = Callable[..., Variant]


@pytest.fixture
def lay(tmp_path: Path) -> Lay:
    """An engine with its document, as a build leaves them; its bytes mean nothing."""

    def write(**more: Any) -> Variant:
        path = tmp_path / "net.engine"
        path.write_bytes(b"an engine")
        asked = plan("fp32", None)
        built = Built(
            component="net",
            engine=path.name,
            sha256=sha256_file(path),
            size=path.stat().st_size,
            made_from="0",
            flavor="tensorrt_rtx",
            version="1.7.1.116",
            builder="polygraphy",
            seconds=1.0,
            plan=asked,
            profiles=({"x": Range(min=(1, 3, 8, 8), opt=(2, 3, 8, 8), max=(4, 3, 8, 8))},),
            settings=Settings(),
            libraries=(),
            receipt=hold(asked, HONEST, {}),
        )
        write_json(path.with_name("net.engine.json"), document(attrs.evolve(built, **more)))
        artifact = Artifact(component="net", format="engine", path=path, sha256=built.sha256, size=built.size)
        return Variant(name="engine", backend="tensorrt", device="cuda:0", artifacts=[artifact])

    return write


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that there is a GPU, as far as the checks before loading go."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (8, 6))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "NVIDIA RTX A2000")


def path_of(variant: Variant) -> Path:
    return variant.artifacts[0].path


# ---------------------------------------------------------------- what is refused before loading


def test_without_a_driver_it_is_said_so(lay: Lay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RequirementError, match="variant engine: no CUDA driver") as caught:
        open_run(lay(), [NET])
    assert "--stages verify,evaluate,report" in (caught.value.hint or "")
    with pytest.raises(RequirementError, match="no CUDA driver"):
        open_session(lay(), NET, GPU)


@pytest.mark.usefixtures("driver")
def test_an_engine_with_flipped_bytes(lay: Lay) -> None:
    variant = lay()
    path_of(variant).write_bytes(b"an enginf")
    with pytest.raises(
        ArtifactError, match=r"net\.engine is not the engine that net\.engine\.json describes"
    ) as caught:
        open_session(variant, NET, GPU)
    assert caught.value.exit_code == ExitCode.ARTIFACT


def test_an_engine_that_is_gone(lay: Lay) -> None:
    variant = lay()
    path_of(variant).unlink()
    with pytest.raises(ArtifactError, match="does not exist"):
        open_session(variant, NET, GPU)
    with pytest.raises(ArtifactError, match="there is no engine for component other"):
        open_session(variant, attrs.evolve(NET, name="other"), GPU)


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "[]",
        "{}",
        '{"schema": "awml-deploy/report"}',
        '{"schema": "awml-deploy/engine", "schema_version": 99}',
    ],
)
def test_an_engine_that_nobody_described(content: str | None, lay: Lay) -> None:
    path = path_of(lay())
    beside = path.with_name("net.engine.json")
    if content is None:
        beside.unlink()
    else:
        beside.write_text(content)
    with pytest.raises(ArtifactError, match="cannot be read, so nobody knows what it was built for"):
        described(path)


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("more", "version", "gpu", "fits"),
    [
        ({}, "1.7.1.116", "A2000 (8.6)", True),
        ({}, "1.7.1.116", None, True),
        ({}, "1.8.0.1", "A2000 (8.6)", False),
        ({}, "1.6.0.1", "A2000 (8.6)", False),
        ({"settings": Settings(options={"version_compatible": True})}, "1.8.0.1", "A2000 (8.6)", True),
        ({"settings": Settings(options={"version_compatible": True})}, "1.6.0.1", "A2000 (8.6)", False),
        ({"settings": Settings(options={"version_compatible": True})}, "2.0.0", "A2000 (8.6)", False),
        ({"gpu": "RTX 4090 (8.9)"}, "1.7.1.116", "A2000 (8.6)", True),
        ({"settings": Settings(compute_capabilities=("SM89",))}, "1.7.1.116", "A2000 (8.6)", False),
        ({"settings": Settings(compute_capabilities=("SM86", "SM89"))}, "1.7.1.116", "A2000 (8.6)", True),
        ({"settings": Settings(compute_capabilities=("SM120",))}, "1.7.1.116", "RTX 5090 (12.0)", True),
        ({"flavor": "tensorrt", "gpu": "RTX 4090 (8.9)"}, "1.7.1.116", "A2000 (8.6)", False),
        ({"flavor": "tensorrt", "gpu": "RTX 3090 (8.6)"}, "1.7.1.116", "A2000 (8.6)", True),
        (
            {"flavor": "tensorrt", "gpu": "RTX 4090 (8.9)", "settings": Settings(hardware="AMPERE_PLUS")},
            "1.7.1.116",
            "A2000 (8.6)",
            True,
        ),
        (
            {"flavor": "tensorrt", "gpu": "RTX 4090 (8.9)", "settings": Settings(hardware="AMPERE_PLUS")},
            "1.7.1.116",
            "T4 (7.5)",
            False,
        ),
    ],
)
def test_whether_an_engine_fits_this_machine(
    more: dict[str, Any], version: str, gpu: str | None, fits: bool, lay: Lay
) -> None:
    path = path_of(lay(**more))
    said = described(path)
    if fits:
        require_fitting(path, said, version, gpu)
        return
    with pytest.raises(ArtifactError, match=r"was built with TensorRT"):
        require_fitting(path, said, version, gpu)


def test_the_sentence_names_both_sides_and_the_remedy(lay: Lay) -> None:
    path = path_of(lay(flavor="tensorrt", version="10.3.0", gpu="RTX 4090 (8.9)", driver="12.8"))
    with pytest.raises(ArtifactError) as caught:
        require_fitting(path, described(path), "10.9.0", "NVIDIA RTX A2000 (8.6)")
    assert caught.value.message == (
        f"{path} was built with TensorRT 10.3.0 for RTX 4090 (8.9), driver for CUDA 12.8; "
        "this machine has TensorRT 10.9.0 and NVIDIA RTX A2000 (8.6)"
    )
    assert "export.mode = 'trt'" in (caught.value.hint or "")
    assert "flavor = 'tensorrt'" in (caught.value.hint or "")


@pytest.mark.usefixtures("driver")
def test_an_engine_of_a_tensorrt_that_is_not_here(lay: Lay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setenv("POLYGRAPHY_USE_TENSORRT_RTX", "0")
    with pytest.raises(RequirementError, match="built with TensorRT, which cannot be imported here"):
        open_session(lay(flavor="tensorrt"), NET, GPU)


def test_a_gpu_that_rtx_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "NVIDIA H200")
    known = SimpleNamespace(__version__="1.7.1", ComputeCapability=SimpleNamespace(__members__={"SM86": 1, "SM120": 2}))
    with pytest.raises(RequirementError, match=r"TensorRT-RTX 1\.7\.1 does not run on NVIDIA H200 \(9\.0\)"):
        require_gpu(known, "tensorrt_rtx", GPU)
    require_gpu(known, "tensorrt", GPU)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (12, 0))
    require_gpu(known, "tensorrt_rtx", GPU)


def test_a_library_that_is_another_one_now(lay: Lay, tmp_path: Path) -> None:
    library = tmp_path / "custom.so"
    library.write_bytes(b"new")
    said = {"libraries": [{"path": str(library), "sha256": "old", "creators": []}]}
    with pytest.raises(ArtifactError, match=r"custom\.so is another one than which the engine was built"):
        tensorrt._load_libraries(said)
    said["libraries"][0]["sha256"] = sha256_file(library)
    with pytest.raises(RequirementError, match=r"custom\.so cannot be loaded"):
        tensorrt._load_libraries(said)
    library.unlink()
    with pytest.raises(ArtifactError, match=r"custom\.so is not there"):
        tensorrt._load_libraries(said)


# ---------------------------------------------------------------- sizes


def test_the_sizes_of_the_profile_are_the_sizes_that_it_takes(lay: Lay) -> None:
    said = described(path_of(lay()))
    assert accepted(NET, said) == {"batch": (1, 4)}
    assert accepted(NET, {**said, "profiles": []}) == {}


def test_a_profile_of_another_model(lay: Lay) -> None:
    said = json.loads(json.dumps(described(path_of(lay()))).replace('"x"', '"image"'))
    with pytest.raises(ArtifactError, match="the engine's profile names image with 4 sizes"):
        accepted(NET, said)


# ---------------------------------------------------------------- on a GPU


def refused_here() -> str | None:
    """Why no engine can be run here."""
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    try:
        import tensorrt_rtx
    except ImportError:
        return "TensorRT-RTX is not installed"
    try:
        require_gpu(tensorrt_rtx, "tensorrt_rtx", GPU)
    except RequirementError as error:
        return error.message
    return None


REASON = refused_here()
on_gpu = pytest.mark.skipif(REASON is not None, reason=REASON or "")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Variant, torch.nn.Module]:
    """A convolution, built for the GPU that is here."""
    from awml_deploy_core.build.engine import build_engine
    from awml_deploy_core.build.flavor import choose
    from awml_deploy_core.export import export_onnx

    folder = tmp_path_factory.mktemp("engine")
    torch.manual_seed(0)
    net = torch.nn.Conv2d(3, 8, 3, padding=1).eval()
    given = {"x": torch.randn(2, 3, 8, 8)}
    made = export_onnx(net, NET, given, folder / "net.onnx", exporter="torchscript").artifact
    flavor = choose("tensorrt_rtx")
    sizes = {"x": Range(min=(1, 3, 8, 8), opt=(2, 3, 8, 8), max=(4, 3, 8, 8))}
    artifact, _ = build_engine(made, folder / "net.engine", flavor=flavor, plan=plan("fp32", flavor), profiles=[sizes])
    return Variant(name="engine", backend="tensorrt", device="cuda:0", artifacts=[artifact]), net


@pytest.mark.gpu
@on_gpu
def test_an_engine_gives_the_numbers_of_the_network(engine: tuple[Variant, torch.nn.Module]) -> None:
    variant, net = engine
    given = torch.randn(7, 3, 8, 8)  # more than the profile takes, so it is split
    with torch.no_grad(), open_run(variant, [NET]) as run:
        first = run("net", x=given.cuda())["y"]
        kept = first.clone()
        run("net", x=torch.zeros(1, 3, 8, 8, device="cuda"))
        assert torch.equal(first, kept), "the answer belongs to the caller"
        assert "TensorRT-RTX" in run.providers["net"]
        torch.testing.assert_close(first.cpu(), net(given), rtol=1e-4, atol=1e-4)
        assert isinstance(run("net", x=given.numpy())["y"], np.ndarray)


@pytest.mark.gpu
@on_gpu
def test_cuda_graphs_change_no_number(engine: tuple[Variant, torch.nn.Module]) -> None:
    variant, _ = engine
    plain, graphed = (open_session(variant, NET, GPU, graphs=graphs) for graphs in (False, True))
    for seed in range(4):
        given = {"x": torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed)).cuda()}
        assert torch.equal(plain.call(given)["y"], graphed.call(given)["y"])
    plain.close()
    graphed.close()


@pytest.mark.gpu
@on_gpu
def test_nothing_crosses_to_the_host(engine: tuple[Variant, torch.nn.Module]) -> None:
    from torch.profiler import ProfilerActivity, profile

    with open_run(engine[0], [NET]) as run:
        given = torch.randn(2, 3, 8, 8, device="cuda")
        run("net", x=given)
        with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as watched:
            run("net", x=given)
    assert not [one.name for one in watched.events() if "DtoH" in one.name or "HtoD" in one.name]


# ---------------------------------------------------------------- Polygraphy's runner on any NVIDIA GPU

STAND_IN = Path(__file__).parent / "stand_ins" / "tensorrt"

THROUGH = """
import sys
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from awml_deploy_core.backends import Device, open_run
from awml_deploy_core.backends.tensorrt import open_session
from awml_deploy_core.records import Artifact, Axis, Component, Tensor, Variant

shape = ("batch", 3, 8, 8)
net = Component(
    name="net",
    inputs=[Tensor(name="x", shape=shape)],
    outputs=[Tensor(name="y", shape=shape)],
    axes=[Axis(name="batch", max=8, independent=True)],
)
artifact = Artifact(component="net", format="engine", path=Path(sys.argv[1]), sha256="0", size=1)
variant = Variant(name="engine", backend="tensorrt", device="cuda:0", artifacts=[artifact])
given = torch.rand(7, 3, 8, 8, device="cuda")
with open_run(variant, [net]) as run:
    first = run("net", x=given)["y"]  # split, as the profile takes four
    kept = first.clone()
    run("net", x=torch.zeros(2, 3, 8, 8, device="cuda"))
    assert torch.equal(first, kept), "the answer belongs to the caller"
    assert torch.equal(first, given * 2 + 1)
    heavy = torch.rand(4096, 4096, device="cuda") / 64
    for _ in range(5):
        late = heavy
        for _ in range(8):
            late = late @ heavy
        late = late[:3, :64].reshape(1, 3, 8, 8)
        assert torch.equal(run("net", x=late)["y"], late * 2 + 1), "it waits for what torch still computes"
    whole = given[:4].clone()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], acc_events=True):
        pass  # the first one also shows what went before it
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], acc_events=True) as watched:
        run("net", x=whole)
        torch.cuda.synchronize()
    names = [one.name for one in watched.events()]
    copies = [name for name in names if "HtoD" in name or "DtoH" in name]
    assert not copies, names
    assert any("Memcpy DtoD" in name for name in names), names
session = open_session(variant, net, Device(kind="cuda"), graphs=True)
for seed in range(6):
    given = torch.rand(1 + seed % 2, 3, 8, 8, device="cuda")
    answer = session.call({"x": given})["y"]
    assert torch.equal(answer, given * 2 + 1), seed
runner = session.call.__self__._runner
assert runner.engine.launches == 4, runner.engine.launches  # each of two sizes once as it is and once for the recording
session.close()
session.close()
print("through")
"""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_polygraphys_runner_works_on_torchs_memory(lay: Lay, tmp_path: Path) -> None:
    path = path_of(lay(flavor="tensorrt", version="10.3.0"))
    path.write_bytes(b"twice and one")
    beside = path.with_name("net.engine.json")
    said = {**json.loads(beside.read_text()), "sha256": sha256_file(path)}
    beside.write_text(json.dumps(said))
    paths = os.pathsep.join([str(STAND_IN), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": paths, "STAND_IN_RUNTIME": "1", "STAND_IN_VERSION": "10.3.0"}
    done = subprocess.run(
        [sys.executable, "-c", THROUGH, str(path)], env=env, capture_output=True, text=True, check=False
    )
    assert done.stdout.endswith("through\n"), done.stdout + done.stderr
