"""The nouns: every value that travels between the rooms.

All are frozen, keyword-only attrs classes. Descriptions (`Axis`, `Tensor`, `Component`, `Artifact`, `Variant`) hold
only tuples and scalars, so they hash; values that carry arrays (`Frame`, `Call`, `Record`) compare by identity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from attrs import field, frozen, validators

__all__ = [
    "Agreement",
    "Array",
    "Artifact",
    "Axis",
    "Call",
    "Comparison",
    "Component",
    "Evaluation",
    "Failure",
    "Finding",
    "Frame",
    "Handover",
    "Metrics",
    "Picture",
    "Pipeline",
    "Record",
    "Run",
    "Sample",
    "Skip",
    "Stats",
    "Table",
    "Tensor",
    "Timing",
    "Variant",
    "Verdict",
]

Array = Any
"""A torch tensor or a numpy array; `run` answers in the kind that it was given."""

_KINDS = {"float": (16, 32, 64), "int": (8, 16, 32, 64), "uint": (8, 16, 32, 64)}
DTYPES = (*(f"{kind}{bits}" for kind, sizes in _KINDS.items() for bits in sizes), "bfloat16", "bool")

_name: Any = field(validator=validators.min_len(1))


# attrs' converters lose their types if they are generic, so each kind of tuple has its own.


def _sizes(given: Iterable[int | str]) -> tuple[int | str, ...]:
    return tuple(given)


def _tensors(given: Iterable[Tensor]) -> tuple[Tensor, ...]:
    return tuple(given)


def _axes(given: Iterable[Axis]) -> tuple[Axis, ...]:
    return tuple(given)


def _paths(given: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(given)


def _words(given: Iterable[str]) -> tuple[str, ...]:
    return tuple(given)


def _tables(given: Iterable[Table]) -> tuple[Table, ...]:
    return tuple(given)


def _artifacts(given: Iterable[Artifact]) -> tuple[Artifact, ...]:
    return tuple(given)


def _at_least(least: int) -> Any:
    return validators.optional(validators.and_(validators.instance_of(int), validators.ge(least)))


# ---------------------------------------------------------------- what a plugin describes


@frozen(kw_only=True)
class Axis:
    """A named size that tensors of a component share.

    Args:
        name: The name that stands in the shapes and in the ONNX file.
        dynamic: Whether the exported graph accepts other sizes.
        min: Smallest size that occurs; 0 is allowed (no pillars in a frame).
        opt: Size to optimise for; None takes the size seen while recording.
        max: Largest size that occurs; None means that nobody knows.
        independent: Whether rows along it do not influence one another (batch, voxels). Only on such axes does the
            core pad, split and check that a row agrees with itself alone.
    """

    name: str = _name
    dynamic: bool = True
    min: int = field(default=1, validator=_at_least(0))
    opt: int | None = field(default=None, validator=_at_least(1))
    max: int | None = field(default=None, validator=_at_least(1))
    independent: bool = False

    def __attrs_post_init__(self) -> None:
        known = [size for size in (self.min, self.opt, self.max) if size is not None]
        if known != sorted(known):
            raise ValueError(f"axis {self.name!r}: min, opt, max must ascend, got {self.min}, {self.opt}, {self.max}")


@frozen(kw_only=True)
class Tensor:
    """One input or output of a component: name, shape and element type.

    Args:
        name: The name in the ONNX file.
        shape: Sizes; a string names an `Axis` of the component.
        dtype: Numpy's name of the element type.
    """

    name: str = _name
    shape: tuple[int | str, ...] = field(converter=_sizes)
    dtype: str = field(default="float32", validator=validators.in_(DTYPES))


@frozen(kw_only=True)
class Component:
    """One graph of the model: what goes in, what comes out, which sizes vary.

    Args:
        name: Stem of the artifact files and first argument of `run`.
        inputs: Tensors in the order of the module's arguments.
        outputs: Tensors in the order of the module's results.
        axes: Every axis that a shape names.
    """

    name: str = _name
    inputs: tuple[Tensor, ...] = field(converter=_tensors, validator=validators.min_len(1))
    outputs: tuple[Tensor, ...] = field(converter=_tensors, validator=validators.min_len(1))
    axes: tuple[Axis, ...] = field(default=(), converter=_axes)

    def __attrs_post_init__(self) -> None:
        tensors = [tensor.name for tensor in self.inputs + self.outputs]
        twice = sorted({name for name in tensors if tensors.count(name) > 1})
        if twice:
            raise ValueError(f"component {self.name!r}: tensor names must differ, {', '.join(twice)} occurs twice")
        declared = [axis.name for axis in self.axes]
        named = {size for tensor in self.inputs + self.outputs for size in tensor.shape if isinstance(size, str)}
        if len(set(declared)) != len(declared) or named != set(declared):
            raise ValueError(
                f"component {self.name!r}: its shapes name the axes {sorted(named)} but it declares {sorted(declared)}"
            )

    def axis(self, name: str) -> Axis:
        """The axis of that name."""
        return next(axis for axis in self.axes if axis.name == name)


@frozen(kw_only=True, eq=False)
class Frame:
    """A loaded sample: what the pipeline is given, and the truth if there is one."""

    inputs: Any
    ground_truth: Any = None


@frozen(kw_only=True, eq=False)
class Sample:
    """One entry of a data set, light until it is loaded.

    Args:
        id: Stable name, the same in every run and process.
        load: Reads the files and answers the frame; called in a loading thread.
        files: What `load` reads; caching depends on their content.
        sequence: Name of the recording it belongs to, for models with a memory.
    """

    id: str = _name
    load: Callable[[], Frame]
    files: tuple[Path, ...] = field(default=(), converter=_paths)
    sequence: str | None = None


@runtime_checkable
class Run(Protocol):
    """What a pipeline is given to run components with; a backend is a different `run`."""

    @property
    def device(self) -> str:
        """Where tensors live: `cpu`, `cuda:0`."""

    @property
    def components(self) -> Mapping[str, Component]:
        """The components that can be called, by name."""

    def __call__(self, component: str, /, **inputs: Array) -> dict[str, Array]:
        """Run one component; the answer belongs to the caller."""

    def note(self, name: str, value: float = 1) -> None:
        """Count something about this sample: boxes capped, points dropped."""


class Pipeline(Protocol):
    """What a plugin builds: everything around the components, once for every backend.

    It may also have `predict_batch(inputs, run) -> Sequence` and `reduce(prediction, ground_truth) -> Any`, which
    turns a large prediction into the small record that the metrics need.
    """

    def predict(self, inputs: Any, run: Run) -> Any:
        """From a frame's inputs to predictions in the user's units."""


# ---------------------------------------------------------------- what running yields


@frozen(kw_only=True, eq=False)
class Call:
    """One recorded call of a component."""

    sample: str
    component: str
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    ms: float


@frozen(kw_only=True, eq=False)
class Record:
    """The prediction for one sample beside its truth."""

    id: str
    index: int
    prediction: Any
    ground_truth: Any = None


@frozen(kw_only=True)
class Skip:
    """Why something that was asked for did not happen."""

    reason: Literal[
        "disabled",
        "no driver",
        "no device",
        "no package",
        "no artifact",
        "no checkpoint",
        "no data",
        "parent failed",
        "not supported",
        "not asked",
    ]
    detail: str = ""


@frozen(kw_only=True)
class Failure:
    """A sample that could not be processed, and at which step."""

    id: str
    index: int
    step: Literal["load", "preprocess", "run", "postprocess", "reduce"]
    reason: str


@frozen(kw_only=True)
class Artifact:
    """A file that a stage made, with the hash of what it was made from."""

    component: str
    format: Literal["onnx", "engine"]
    path: Path
    sha256: str
    size: int
    precision: str = "fp32"
    made_from: str | None = None
    tool: str = ""
    receipt: str | None = None


@frozen(kw_only=True)
class Variant:
    """One way to run the whole model: a rung of the ladder.

    Args:
        name: `trained`, `exported`, `onnx`, `onnx:fp16`, `engine`.
        backend: What runs it.
        device: Where it runs.
        artifacts: What it runs; empty for PyTorch.
        parent: The rung it was made from, None for `trained`.
        cuda_graphs: Whether engines replay recorded launches.
    """

    name: str
    backend: Literal["pytorch", "onnx", "tensorrt"]
    device: str = "cpu"
    artifacts: tuple[Artifact, ...] = field(default=(), converter=_artifacts)
    parent: str | None = None
    cuda_graphs: bool = False


# ---------------------------------------------------------------- what is found out


@frozen(kw_only=True)
class Stats:
    """How far two tensors lie apart.

    Relative errors are taken against the larger magnitude of the two, so that a zero in the reference is no
    division. `quantiles` are of the absolute error, at the probabilities beside them; `scale` is the largest finite
    magnitude of the reference, which gives an absolute error its meaning.
    """

    count: int
    max_abs: float
    mean_abs: float
    max_rel: float
    mean_rel: float
    cosine: float | None
    snr_db: float | None
    quantiles: tuple[tuple[float, float], ...] = ()
    worst_index: tuple[int, ...] = ()
    scale: float = 0.0


@frozen(kw_only=True)
class Comparison:
    """What was measured between two variants at one tensor or prediction; judges nothing."""

    reference: str
    candidate: str
    scope: Literal["component", "chained", "prediction"]
    sample: str
    component: str | None
    output: str
    shape: tuple[int, ...]
    dtypes: tuple[str, str]
    finding: Literal["ok", "nan", "inf", "shape", "dtype", "missing", "extra", "calls", "type"] = "ok"
    detail: str = ""
    stats: Stats | None = None


@frozen(kw_only=True)
class Verdict:
    """A comparison held against a tolerance; `would_pass` is the tolerance that it would have met."""

    comparison: Comparison
    tolerance: float
    passed: bool
    would_pass: float | None


@frozen(kw_only=True)
class Timing:
    """Milliseconds of one thing over many samples."""

    count: int
    mean: float
    std: float
    min: float
    max: float
    p50: float
    p90: float
    p95: float
    p99: float


Cell = str | int | float | None


def _rows(rows: Iterable[Iterable[Cell]]) -> tuple[tuple[Cell, ...], ...]:
    return tuple(tuple(row) for row in rows)


@frozen(kw_only=True)
class Table:
    """Rows that a report prints under a title."""

    title: str
    columns: tuple[str, ...] = field(converter=_words)
    rows: tuple[tuple[Cell, ...], ...] = field(converter=_rows)


@frozen(kw_only=True)
class Metrics:
    """What `compute_metrics` answers.

    Args:
        primary: Key in `values` of the figure that decides.
        higher_is_better: Direction of the primary figure.
        values: Flat figures by name, fractions from 0 to 1; None where a figure is not defined.
        tables: What a report shows beside them: per class, confusion.
    """

    primary: str
    higher_is_better: bool = True
    values: Mapping[str, float | None]
    tables: tuple[Table, ...] = field(default=(), converter=_tables)

    def __attrs_post_init__(self) -> None:
        if self.primary not in self.values:
            raise ValueError(f"metrics: the primary figure {self.primary!r} is not among {sorted(self.values)}")


@frozen(kw_only=True)
class Evaluation:
    """What one variant did on the data: metrics, times, failures."""

    variant: str
    records: int
    failures: tuple[Failure, ...] = ()
    notes: Mapping[str, float] = field(factory=dict)
    timings: Mapping[str, Timing] = field(factory=dict)
    protocol: Mapping[str, str | int | float | bool] = field(factory=dict)
    metrics: Metrics | None = None
    skipped: Skip | None = None


@frozen(kw_only=True)
class Agreement:
    """How well two predictions of one sample agree, in the task's own terms.

    Args:
        matched: Things that both found.
        unmatched: Things that only one found.
        score: 1 for the same answer, 0 for nothing in common.
        distances: Largest differences among the matched, by name.
    """

    matched: int
    unmatched: int
    score: float
    distances: Mapping[str, float] = field(factory=dict)


@frozen(kw_only=True)
class Picture:
    """An image for the report: encoded PNG bytes and what it shows."""

    png: bytes = field(repr=False)
    caption: str = ""


@frozen(kw_only=True)
class Finding:
    """Something that the receiving node would trip over, with the node's own rule."""

    level: Literal["error", "warning", "note"]
    subject: str
    fact: str
    rule: str


@frozen(kw_only=True)
class Handover:
    """Files for the target, by name, and what was found wrong with the artifacts."""

    files: Mapping[str, bytes | Path]
    findings: Sequence[Finding] = ()
