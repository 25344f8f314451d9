"""From a model's config to one function."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from awml_deploy_core.configfile import read_config
from awml_deploy_core.errors import ConfigError, nearest
from awml_deploy_core.preprocess.final import finisher
from awml_deploy_core.preprocess.registry import Results, Transform, build_all

__all__ = ["build_preprocessing_pipeline", "find_pipeline"]

log = logging.getLogger(__name__)

_PLACES = (
    ("test_pipeline",),
    ("test_dataloader", "dataset", "pipeline"),
    ("data", "test", "pipeline"),
)


def build_preprocessing_pipeline(model_config: Any) -> Transform:
    """Make one function of the test pipeline and the data preprocessor of a model's config.

    Args:
        model_config: The path of a config file, its values as a dict, an mmengine `Config`, or a list of transforms
            alone. Of a config `test_pipeline` is taken, else the pipeline of the `test_dataloader`, and the
            `data_preprocessor` of the model or of the config itself.

    Returns:
        A function from a sample's dict to a dict with `inputs` and `data_samples`; it leaves what it is given as it
        is. The inputs are those of one sample, without an axis for the batch.

    Raises:
        ConfigError: There is no test pipeline, a transform or an argument is not known, or something is left to
            chance.
        RequirementError: OpenCV is not installed, and a transform needs it.
    """
    if isinstance(model_config, Sequence) and not isinstance(model_config, str):
        return _copying([build_all(model_config, "test_pipeline")])
    values, name = _values(model_config)
    where, steps = find_pipeline(values, name)
    built = build_all(steps, where)
    preprocessor = _preprocessor(values)
    return _copying([built] if preprocessor is None else [built, finisher(preprocessor, _begin(name))])


def find_pipeline(values: Mapping[str, Any], name: str = "") -> tuple[str, Any]:
    """Where in a config its test pipeline stands, and the list.

    Raises:
        ConfigError: There is none.
    """
    found = [(place, steps) for place in _PLACES for steps in _at(values, place)]
    if not found:
        near = nearest("test_pipeline", map(str, values))
        hint = f"Did you mean the key {near!r}?" if near else "Set test_pipeline to a list of transforms."
        raise ConfigError(f"{_begin(name)}there is no test_pipeline", hint=hint)
    place, steps = found[0]
    for other, others in found[1:]:
        if others != steps:
            log.warning("%s differs from %s, which is used", ".".join(other), ".".join(place))
    return _begin(name) + ".".join(place), steps


def _values(given: Any) -> tuple[Mapping[str, Any], str]:
    """The settings of a config, and the name of its file."""
    if isinstance(given, str | os.PathLike):
        source = read_config(given)
        return source.values, str(source.path)
    if isinstance(given, Mapping):
        return given, ""
    if callable(getattr(given, "to_dict", None)):
        return given.to_dict(), str(getattr(given, "filename", None) or "")
    raise ConfigError(
        f"a model's config is wanted, got {type(given).__name__}", hint="Give a path, a dict or an mmengine Config."
    )


def _at(values: Mapping[str, Any], place: Sequence[str]) -> Iterator[Any]:
    """What stands at a place of nested dicts; a data set within a data set is looked into."""
    at: Any = values
    for key in place:
        while isinstance(at, Mapping) and key not in at and ("dataset" in at or at.get("datasets")):
            at = at["dataset"] if "dataset" in at else at["datasets"][0]
        at = at.get(key) if isinstance(at, Mapping) else None
    if at is not None:
        yield at


def _preprocessor(values: Mapping[str, Any]) -> Any:
    model = values.get("model")
    inner = model.get("data_preprocessor") if isinstance(model, Mapping) else None
    return inner if inner is not None else values.get("data_preprocessor")


def _copying(parts: Sequence[Transform]) -> Transform:
    def run(sample: Results) -> Results:
        results = dict(sample)
        for part in parts:
            results = part(results)
        return results

    return run


def _begin(name: str) -> str:
    return f"{name}: " if name else ""
