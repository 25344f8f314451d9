"""From a config file and the command line to the settings of a run: file < `--set` < option."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import attrs
from attrs import frozen

from awml_deploy_core.config import Backend, BackendSettings, Config, Scenario, wrong_device
from awml_deploy_core.configfile import assign, dump_config, read_config
from awml_deploy_core.dialect import translate
from awml_deploy_core.errors import ConfigError
from awml_deploy_core.strict import Fault, refuse, structure, unstructure

Style = Literal["py", "yaml", "json"]


@frozen(kw_only=True)
class Options:
    """What the command line says on top of the file.

    Args:
        sets: Texts `a.b=c` in order.
        model: `--model`.
        model_config: The second positional.
        checkpoint: The third positional.
        work_dir: `--work-dir`.
        device: `--device`, for every backend that can run there.
        trust_checkpoint: `--trust-checkpoint`, which no file can say.
    """

    sets: tuple[str, ...] = ()
    model: str | None = None
    model_config: Path | None = None
    checkpoint: Path | None = None
    work_dir: Path | None = None
    device: str | None = None
    trust_checkpoint: bool = False


@frozen(kw_only=True)
class Settings:
    """The settings of a run and where they came from.

    Args:
        config: The typed settings, an instance of the plugin's class.
        files: Every file that was read, bases first.
        notes: What was read in today's words, or ignored.
    """

    config: Config
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def peek_model(path: Path, *, safe: bool = False) -> str | None:
    """The `model` that a config names itself, for a command line without `--model`."""
    model = read_config(path, safe=safe).values.get("model")
    return model if isinstance(model, str) else None


def settle(path: Path, options: Options, *, config_class: type[Config] = Config, safe: bool = False) -> Settings:
    """Read a config file and put the command line on top.

    Args:
        path: The file.
        options: The command line.
        config_class: The plugin's class of settings.
        safe: Refuse files that are code.

    Raises:
        ConfigError: Naming every fault at once.
    """
    wrong = wrong_device(options.device) if options.device else None
    if wrong:
        raise ConfigError(f"--device {wrong}")
    source = read_config(path, safe=safe)
    values = source.values
    for text in options.sets:
        values = _set(values, text)
    own = frozenset(f.name for f in attrs.fields(config_class)) - {f.name for f in attrs.fields(Config)}
    translation = translate(values, known=own)
    where = str(path)
    said = structure(translation.values, config_class, where=where, faults=translation.faults)
    config = _with_options(said, options)
    faults = [*_model_agrees(said, options), *_trusts_itself(said), *contradictions(config)]
    refuse([*faults, *(_model_config_is_code(config) if safe else ())], where=where)
    return Settings(config=config, files=source.files, notes=translation.notes)


def contradictions(config: Config) -> list[Fault]:
    """What no single value is wrong about: a mode without its input, a device that was taken away, limits crossed."""
    rules = (_mode_has_input, _required_is_enabled, _weights_are_kept, _one_checkpoint, _gpu_is_there, _gates_open)
    return [fault for rule in rules for fault in rule(config)]


def _model_agrees(config: Config, options: Options) -> Iterator[Fault]:
    if config.model and options.model and config.model != options.model:
        fact = f"this config is for the model {config.model!r}, the command line says --model {options.model}"
        yield Fault(path="$.model", message=fact, hint="leave out one of the two")


def _trusts_itself(config: Config) -> Iterator[Fault]:
    if config.trust_checkpoint:
        hint = "say --trust-checkpoint on the command line if you trust where the checkpoint came from"
        yield Fault(path="$.trust_checkpoint", message="cannot be set by a config", hint=hint)


def _model_config_is_code(config: Config) -> Iterator[Fault]:
    if config.model_config is not None and config.model_config.suffix == ".py":
        hint = "leave out --safe-config if you trust the file"
        yield Fault(path="$.model_config", message=f"{config.model_config} is code and was not run", hint=hint)


def _mode_has_input(config: Config) -> Iterator[Fault]:
    mode, onnx = config.export.mode, config.evaluation.backends.get(Backend.ONNX)
    if mode in ("onnx", "both") and config.checkpoint_path is None:
        hint = "name the trained weights, or choose `export.mode = 'none'` to work with existing files"
        yield Fault(path="$.checkpoint_path", message=f"is needed to export in mode {mode!r}", hint=hint)
    has_onnx = config.export.onnx_path or config.evaluation.models.get(Backend.ONNX) or (onnx and onnx.model_dir)
    if mode == "trt" and not has_onnx:
        hint = "name the ONNX file, or the folder of files"
        yield Fault(path="$.export.onnx_path", message="is needed to build engines in mode 'trt'", hint=hint)


def _required_is_enabled(config: Config) -> Iterator[Fault]:
    if config.verification.required and not config.verification.enabled:
        fact = "nothing can be proved with `verification.enabled = False`"
        yield Fault(path="$.verification.required", message=fact, hint="leave out one of the two")


def _weights_are_kept(config: Config) -> Iterator[Fault]:
    runs = config.verification.enabled or config.evaluation.enabled
    if not config.onnx_config.export_params and runs and config.export.mode in ("onnx", "both"):
        fact = "a file without weights can neither be verified nor evaluated"
        hint = "leave it out, or switch verification and evaluation off"
        yield Fault(path="$.onnx_config.export_params", message=fact, hint=hint)


def _one_checkpoint(config: Config) -> Iterator[Fault]:
    other = _evaluated_checkpoint(config)
    if other is not None and other != config.checkpoint_path:
        fact = f"evaluation names {other}, but the trained network is {config.checkpoint_path}"
        hint = "one run is about one network: name it in `checkpoint_path` alone"
        yield Fault(path="$.checkpoint_path", message=fact, hint=hint)


def _gpu_is_there(config: Config) -> Iterator[Fault]:
    devices = config.verification.devices or config.devices
    if devices.cuda is not None:
        return
    for mode, scenarios in (config.verification.scenarios or {}).items():
        for i, scenario in enumerate(scenarios):
            if "cuda" in (scenario.ref_device, scenario.test_device):
                fact = "asks for 'cuda', but `devices.cuda` is None"
                yield Fault(path=f"$.verification.scenarios.{mode}[{i}]", message=fact, hint="name 'cuda:N'")
    if config.export.device == "cuda" and config.devices.cuda is None:
        yield Fault(path="$.export.device", message="asks for 'cuda', but `devices.cuda` is None", hint="name 'cuda:N'")
    for backend, chosen in config.evaluation.backends.items():
        if chosen.device == "cuda":
            fact = "asks for 'cuda', but `devices.cuda` is None"
            yield Fault(path=f"$.evaluation.backends.{backend.value}.device", message=fact, hint="name 'cuda:N'")


def _gates_open(config: Config) -> Iterator[Fault]:
    for name, gate in config.evaluation.gates.items():
        if gate.min is not None and gate.max is not None and gate.min > gate.max:
            fact = f"min {gate.min} is above max {gate.max}, nothing can pass"
            yield Fault(path=f"$.evaluation.gates.{name}", message=fact)


def _set(values: dict[str, Any], text: str) -> dict[str, Any]:
    key, found, value = text.partition("=")
    if not found or not key.strip():
        raise ConfigError(f"--set {text!r} is not KEY=VALUE", hint="for example --set evaluation.num_samples=100")
    return assign(values, key.strip(), value)


def _with_options(config: Config, options: Options) -> Config:
    if options.checkpoint:
        config = _without_evaluated_checkpoint(config)
    changes: dict[str, Any] = {
        "model": options.model or config.model,
        "model_config": options.model_config or config.model_config,
        "checkpoint_path": options.checkpoint or config.checkpoint_path or _evaluated_checkpoint(config),
        "trust_checkpoint": options.trust_checkpoint,
    }
    if options.work_dir:
        changes["export"] = attrs.evolve(config.export, work_dir=options.work_dir)
    config = attrs.evolve(config, **changes)
    return _on_device(config, options.device) if options.device else config


def _evaluated_checkpoint(config: Config) -> Path | None:
    """The weights that only `evaluation` names, as older configs do."""
    named = config.evaluation.backends.get(Backend.PYTORCH)
    return (named and named.checkpoint) or config.evaluation.models.get(Backend.PYTORCH)


def _without_evaluated_checkpoint(config: Config) -> Config:
    """The older places say nothing once the command line has named the weights."""
    models = dict(config.evaluation.models)
    models.pop(Backend.PYTORCH, None)
    backends = {
        backend: attrs.evolve(one, checkpoint=None) if backend is Backend.PYTORCH else one
        for backend, one in config.evaluation.backends.items()
    }
    return attrs.evolve(config, evaluation=attrs.evolve(config.evaluation, models=models, backends=backends))


def _on_device(config: Config, device: str) -> Config:
    """Move every backend that can run there; TensorRT stays on its GPU when the device is the CPU."""

    def moves(backend: Backend) -> bool:
        return device != "cpu" or backend is not Backend.TENSORRT

    def moved(scenario: Scenario) -> Scenario:
        reference = device if moves(scenario.ref_backend) else scenario.ref_device
        tested = device if moves(scenario.test_backend) else scenario.test_device
        return attrs.evolve(scenario, ref_device=reference, test_device=tested)

    # Where nothing is built nobody has asked for engines by naming a device.
    built = config.export.mode in ("trt", "both")
    unasked = {backend: BackendSettings() for backend in Backend if built or backend is not Backend.TENSORRT}
    chosen = config.evaluation.backends or unasked
    backends = {b: attrs.evolve(s, device=device) if moves(b) else s for b, s in chosen.items()}
    scenarios = config.verification.scenarios
    if scenarios is not None:
        scenarios = {mode: tuple(map(moved, listed)) for mode, listed in scenarios.items()}
    return attrs.evolve(
        config,
        export=attrs.evolve(config.export, device=device),
        evaluation=attrs.evolve(config.evaluation, backends=backends),
        verification=attrs.evolve(config.verification, scenarios=scenarios),
    )


def show(config: Config, *, style: Style = "py", defaults: bool = True) -> str:
    """The settings as a config file that reads back to the same value."""
    values = unstructure(config, defaults=defaults)
    return dump_config(_text_keys(values) if style == "json" else values, style)


def _text_keys(value: Any) -> Any:
    """JSON knows text as keys only; the strict reader takes digits for a number where one is meant."""
    if isinstance(value, dict):
        return {str(key): _text_keys(item) for key, item in value.items()}
    return value
