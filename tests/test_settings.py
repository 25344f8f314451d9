"""File < `--set` < option, and the whole config can be written out and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from awml_deploy_core.config import (
    Backend,
    BackendConfig,
    BackendSettings,
    CommonConfig,
    ComponentConfig,
    Config,
    Devices,
    EvaluationConfig,
    ExportConfig,
    Gate,
    ModelInput,
    ModelIO,
    OnnxConfig,
    Profile,
    RuntimeIO,
    Scenario,
    TensorSpec,
    VerificationConfig,
)
from awml_deploy_core.configfile import read_config
from awml_deploy_core.errors import ConfigError
from awml_deploy_core.settings import Options, Style, settle, show
from awml_deploy_core.strict import structure

BASIC = "export = dict(mode='none')\n"


@pytest.fixture
def config(tmp_path: Path) -> Any:
    def write(text: str, name: str = "config.py") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_a_set_wins_over_the_file_and_an_option_over_both(config: Any) -> None:
    path = config("export = dict(mode='none', work_dir='from_file')\ncheckpoint_path = 'file.pth'\n")
    assert settle(path, Options()).config.export.work_dir == Path("from_file")
    sets = ("export.work_dir=from_set", "checkpoint_path=set.pth")
    assert settle(path, Options(sets=sets)).config.export.work_dir == Path("from_set")
    options = Options(sets=sets, work_dir=Path("from_option"), checkpoint=Path("option.pth"), model_config=Path("m.py"))
    got = settle(path, options).config
    assert (got.export.work_dir, got.checkpoint_path) == (Path("from_option"), Path("option.pth"))
    assert got.model_config == Path("m.py")


def test_the_last_set_wins_and_makes_missing_sections(config: Any) -> None:
    sets = ("evaluation.backends.onnx.device=cuda:1", "evaluation.num_samples=3", "evaluation.num_samples=-1")
    evaluation = settle(config(BASIC), Options(sets=sets)).config.evaluation
    assert evaluation.num_samples == -1
    assert evaluation.backends[Backend.ONNX].device == "cuda:1"


@pytest.mark.parametrize("text", ["no_value", "=3", "  =3"])
def test_a_set_without_key_or_value_is_refused(config: Any, text: str) -> None:
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        settle(config(BASIC), Options(sets=(text,)))


def test_the_device_option_moves_every_backend_that_can_run_there(config: Any) -> None:
    path = config(
        BASIC + "evaluation = dict(backends=dict(pytorch=dict(device='cuda:0'), tensorrt=dict(device='cuda:0')))\n"
        "verification = dict(scenarios=dict(none=[dict(ref_backend='onnx', ref_device='cuda:0',"
        " test_backend='tensorrt', test_device='cuda:0')]))\n"
    )
    got = settle(path, Options(device="cpu")).config
    assert got.export.device == "cpu"
    assert got.evaluation.backends[Backend.PYTORCH].device == "cpu"
    assert got.evaluation.backends[Backend.TENSORRT].device == "cuda:0"
    assert got.verification.scenarios is not None
    scenario = got.verification.scenarios["none"][0]
    assert (scenario.ref_device, scenario.test_device) == ("cpu", "cuda:0")
    moved = settle(path, Options(device="cuda:1")).config
    assert moved.evaluation.backends[Backend.TENSORRT].device == "cuda:1"


def test_the_device_option_reaches_backends_that_nobody_listed(config: Any) -> None:
    def devices(text: str) -> dict[Backend, str | None]:
        found = settle(config(text), Options(device="cuda:1")).config.evaluation.backends
        return {backend: chosen.device for backend, chosen in found.items()}

    assert devices(BASIC) == dict.fromkeys((Backend.PYTORCH, Backend.ONNX), "cuda:1")
    assert devices("checkpoint_path = 'a.pth'\n") == dict.fromkeys(Backend, "cuda:1"), "engines are among what is built"


def test_a_device_that_is_none_is_a_fault_of_the_command_line(config: Any) -> None:
    with pytest.raises(ConfigError, match="--device must be 'cpu', 'cuda' or 'cuda:N', got 'gpu'"):
        settle(config(BASIC), Options(device="gpu"))


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("export = dict(mode='onnx')", "$.checkpoint_path", "is needed to export in mode 'onnx'"),
        ("", "$.checkpoint_path", "is needed to export in mode 'both'"),
        ("export = dict(mode='trt')", "$.export.onnx_path", "is needed to build engines in mode 'trt'"),
        ("export = dict(mode='none')\nmodel = 'other'", "$.model", "--model mine"),
        (
            BASIC + "devices = dict(cuda=None)\nevaluation = dict(backends=dict(onnx=dict(device='cuda')))",
            "$.evaluation.backends.onnx.device",
            "`devices.cuda` is None",
        ),
        (
            BASIC + "devices = dict(cuda=None)\nverification = dict(scenarios=dict(both=[dict(ref_backend='onnx',"
            "test_backend='onnx', test_device='cuda')]))",
            "$.verification.scenarios.both[0]",
            "`devices.cuda` is None",
        ),
        (BASIC + "evaluation = dict(gates=dict(mAP=dict(min=0.9, max=0.1)))", "$.evaluation.gates.mAP", "above max"),
        (BASIC + "evaluation = dict(backends=dict(tensorrt=dict(device='cpu')))", "$.evaluation.backends", "CUDA"),
        (
            BASIC + "verification = dict(scenarios=dict(both=[dict(ref_backend='onnx', test_backend='tensorrt')]))",
            "$.verification.scenarios.both[0]",
            "does not run on 'cpu'",
        ),
        (BASIC + "onnx_config = dict(save_file='../out.onnx')", "$.onnx_config.save_file", "inside the work dir"),
        (BASIC + "components = dict(a=dict(onnx_file='/etc/x'))", "$.components.a.onnx_file", "inside the work dir"),
        (BASIC + "model_io = dict(input_shape=(3, 0, 5))", "$.model_io.input_shape", "at least 1"),
        (BASIC + "runtime_io = dict(sample_idx=-1)", "$.runtime_io.sample_idx", "at least 0"),
        (BASIC + "verification = dict(tolerance=-0.1)", "$.verification.tolerance", "at least 0"),
        (BASIC + "verification = dict(tolerances={'a': -1})", "$.verification.tolerances", "at least 0"),
        (BASIC + "evaluation = dict(num_samples=0)", "$.evaluation.num_samples", "-1 for all"),
        (BASIC + "quantization = dict(mode='ptq')", "$.quantization", "explicit_int8"),
        (BASIC + "trust_checkpoint = True", "$.trust_checkpoint", "--trust-checkpoint"),
        (
            "checkpoint_path = 'a.pth'\nevaluation = dict(models=dict(pytorch='b.pth'))",
            "$.checkpoint_path",
            "evaluation names b.pth, but the trained network is a.pth",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(config: Any, text: str, place: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settle(config(text + "\n"), Options(model="mine"))
    assert place in caught.value.message
    assert words in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "text",
    [
        "export = dict(mode='none')",
        "export = dict(mode='trt', onnx_path='m.onnx')",
        "export = dict(mode='trt')\nevaluation = dict(models=dict(onnx='m.onnx'))",
        "export = dict(mode='trt')\nevaluation = dict(backends=dict(onnx=dict(model_dir='onnx')))",
        "export = dict(mode='onnx')\ncheckpoint_path = 'm.pth'",
    ],
)
def test_only_what_the_mode_needs_is_demanded(config: Any, text: str) -> None:
    settle(config(text + "\n"), Options())


def test_weights_that_only_the_evaluation_names_are_the_checkpoint(config: Any) -> None:
    older = config("evaluation = dict(models=dict(pytorch='m.pth'))\n")
    assert settle(older, Options()).config.checkpoint_path == Path("m.pth")
    newer = config("evaluation = dict(backends=dict(pytorch=dict(checkpoint='n.pth')))\n")
    assert settle(newer, Options()).config.checkpoint_path == Path("n.pth")


def test_only_the_command_line_trusts_a_checkpoint(config: Any) -> None:
    assert settle(config(BASIC), Options()).config.trust_checkpoint is False
    assert settle(config(BASIC), Options(trust_checkpoint=True)).config.trust_checkpoint is True


def test_faults_of_old_and_new_keys_are_told_together(config: Any) -> None:
    with pytest.raises(ConfigError, match="3 faults"):
        settle(config("quantization = {}\nexport = dict(mode='onxx')\nfoo = 1\n"), Options())


def test_a_plugin_s_config_has_its_own_keys_beside_the_core_s(config: Any) -> None:
    @frozen(kw_only=True)
    class Mine(Config):
        """Settings of a model.

        Args:
            rot_y_axis_reference: Which axis.
        """

        rot_y_axis_reference: bool = False

    path = config(BASIC + "rot_y_axis_reference = True\n")
    got = settle(path, Options(), config_class=Mine).config
    assert isinstance(got, Mine)
    assert got.rot_y_axis_reference
    with pytest.raises(ConfigError, match="CenterPoint plugin"):
        settle(path, Options())


def test_helper_variables_may_start_with_an_underscore(config: Any) -> None:
    assert (
        settle(config("_n = 7\nevaluation = dict(num_samples=_n)\n" + BASIC), Options()).config.evaluation.num_samples
        == 7
    )


def test_notes_say_what_was_read_in_other_words(config: Any) -> None:
    assert settle(config(BASIC + "model_cfg = 'm.py'\n"), Options()).notes == ("`model_cfg` is read as `model_config`",)


# ---------------------------------------------------------------- written out and read back

names = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
files = names.map(lambda name: Path(f"dir/{name}.x"))
numbers = st.floats(0, 1e9, allow_nan=False)
devices = st.sampled_from(["cpu", "cuda", "cuda:3"])
dtypes = st.sampled_from(["float32", "int64", "bool"])
shapes = st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple)
axes = st.none() | st.dictionaries(names, st.dictionaries(st.integers(0, 5), names, max_size=2), max_size=2)
profiles = shapes.map(lambda shape: Profile(min_shape=shape, max_shape=tuple(size + 1 for size in shape)))
gpus = st.sampled_from(["cuda", "cuda:1"])
anything = st.dictionaries(names, st.none() | st.booleans() | st.integers() | st.text() | numbers, max_size=2)

configs = st.builds(
    Config,
    model=st.none() | names,
    task_type=st.sampled_from([None, "detection3d"]),
    checkpoint_path=st.none() | files,
    class_names=st.lists(st.text()).map(tuple),
    devices=st.builds(Devices, cuda=st.none() | gpus),
    export=st.builds(
        ExportConfig, mode=st.sampled_from(["onnx", "none"]), work_dir=files, sample_idx=st.none() | st.integers(0, 9)
    ),
    runtime_io=st.builds(RuntimeIO, info_file=st.none() | files, sample_idx=st.integers(0, 9)),
    model_io=st.builds(
        ModelIO,
        input_shape=st.none() | shapes,
        input_dtype=st.none() | dtypes,
        additional_inputs=st.lists(st.builds(TensorSpec, name=names, dtype=dtypes), max_size=2).map(tuple),
        dynamic_axes=axes,
    ),
    onnx_config=st.builds(OnnxConfig, opset_version=st.integers(11, 20), simplify=st.booleans()),
    backend_config=st.builds(
        BackendConfig,
        common_config=st.builds(
            CommonConfig, timing_cache=st.booleans() | files, extra=anything, plugin_libraries=st.tuples(files)
        ),
        model_inputs=st.tuples(st.builds(ModelInput, input_shapes=st.dictionaries(names, profiles, max_size=2))),
    ),
    components=st.dictionaries(
        names, st.builds(ComponentConfig, tensorrt_profile=st.dictionaries(names, profiles, max_size=1)), max_size=2
    ),
    verification=st.builds(
        VerificationConfig,
        tolerance=st.none() | numbers,
        tolerances=st.dictionaries(st.text(), numbers, max_size=2),
        scenarios=st.none()
        | st.dictionaries(
            st.sampled_from(["both", "none"]),
            st.tuples(st.builds(Scenario, ref_backend=st.just(Backend.ONNX), test_backend=st.sampled_from(Backend),
                                test_device=gpus)),
            max_size=2,
        ),
    ),
    evaluation=st.builds(
        EvaluationConfig,
        num_samples=st.sampled_from([-1, 5]),
        models=st.dictionaries(st.sampled_from(Backend), files, max_size=2),
        backends=st.dictionaries(
            st.sampled_from(Backend), st.builds(BackendSettings, enabled=st.sampled_from([True, False, "auto"])),
            max_size=3,
        ),
        gates=st.dictionaries(st.text(), st.builds(Gate, max_drop=st.none() | numbers), max_size=1),
    ),
    extensions=st.dictionaries(names, anything, max_size=2),
)  # fmt: skip


@given(config=configs, style=st.sampled_from(["py", "yaml", "json"]), defaults=st.booleans())
@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_the_resolved_config_reads_back_to_the_same_value(
    tmp_path_factory: pytest.TempPathFactory, config: Config, style: Style, defaults: bool
) -> None:
    path = tmp_path_factory.mktemp("shown") / f"config.{style}"
    path.write_text(show(config, style=style, defaults=defaults))
    assert structure(read_config(path).values, Config, where="shown") == config
