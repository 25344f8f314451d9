"""The variants of a run: what each needs to be opened, and opening it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from attrs import frozen

from awml_deploy_core import defaults, twin
from awml_deploy_core.config import Backend
from awml_deploy_core.errors import ArtifactError, LoadError, PluginError
from awml_deploy_core.files import sha256_file
from awml_deploy_core.overrides import Graph, Renamed, resolve
from awml_deploy_core.plugins import Loaded, load
from awml_deploy_core.records import Artifact, Pipeline, Run, Sample, Variant
from awml_deploy_core.strict import structure, unstructure

if TYPE_CHECKING:
    from torch import nn  # noqa: TC004  importing torch here would cost every run that needs none

    from awml_deploy_core.config import Config


RUNGS = {Backend.PYTORCH: "trained", Backend.ONNX: "onnx", Backend.TENSORRT: "engine"}
"""The variant that a config means by a backend."""


def cast_name(policies: Iterable[str]) -> str:
    """The rung of graphs in these precisions."""
    return f"{RUNGS[Backend.ONNX]}:{'+'.join(dict.fromkeys(policies))}"


def is_cast(variant: Variant) -> bool:
    """Whether it is a rung of graphs in another precision."""
    return variant.name.startswith(f"{RUNGS[Backend.ONNX]}:")


@frozen(kw_only=True, eq=False)
class Network:
    """The trained network behind each component, and what is exported of it, over the same weights.

    Args:
        model: As the plugin loaded it.
        exact: Modules with the trained numbers, by component.
        edited: Modules that are exported.
        versions: Fingerprint of the weights when they were loaded.
    """

    model: nn.Module
    exact: Mapping[str, nn.Module]
    edited: Mapping[str, nn.Module]
    versions: tuple[int, ...]

    def require_unchanged(self, after: str) -> None:
        """Refuse to go on if someone wrote into the trained weights, which are the reference of everything."""
        if twin.versions(self.model) != self.versions:
            raise PluginError(
                f"the trained weights were changed in place by {after}",
                hint="Edit the structure of the copy that wrap_for_onnx(exact=False) is given, and replace weights "
                "there by new tensors instead of writing into them.",
            )


def load_network(plugin: Loaded, config: Config, graphs: Sequence[Graph]) -> Network:
    """The network and its twin, wrapped for every component."""
    model = plugin.call("load_model", config=config)
    twin.require_sound(model, str(plugin.plugin))
    versions = twin.versions(model)
    copy = twin.twin(model)
    network = Network(
        model=model,
        exact=_wrapped(plugin, config, graphs, model, exact=True),
        edited=_wrapped(plugin, config, graphs, copy, exact=False),
        versions=versions,
    )
    network.require_unchanged("wrap_for_onnx")
    return network


def _wrapped(
    plugin: Loaded, config: Config, graphs: Sequence[Graph], model: nn.Module, *, exact: bool
) -> dict[str, nn.Module]:
    from torch import nn

    modules = {}
    for component in (graph.component for graph in graphs):
        module = plugin.ask("wrap_for_onnx", model=model, component=component, exact=exact, config=config)
        if module is None:
            module = twin.submodule(model, component.name, single=len(graphs) == 1, plugin=str(plugin.plugin))
        if not isinstance(module, nn.Module):
            raise PluginError(
                f"{plugin.plugin}: wrap_for_onnx answered {type(module).__name__} for {component.name}",
                hint="Return the nn.Module whose forward takes the component's inputs in order.",
            )
        modules[component.name] = module.eval()
    return modules


def describe(plugin: Loaded, config: Config) -> tuple[Graph, ...]:
    """The graphs of the model as the config wants them."""
    return resolve(plugin.call("export_workflow", config=config), config)


def load_samples(plugin: Loaded, config: Config) -> Sequence[Sample]:
    """The data set for recording, verification and evaluation."""
    samples: Sequence[Sample] = plugin.call("load_samples", purpose="evaluate", config=config)
    if not len(samples):
        raise LoadError("the data set is empty", hint="Correct the paths under `runtime_io`.")
    name, times = Counter(sample.id for sample in samples).most_common(1)[0]
    if times > 1:
        raise PluginError(
            f"{plugin.plugin}: load_samples gave {times} samples the id {name!r}",
            hint="Ids must differ, they name records.",
        )
    return samples


def build_pipeline(plugin: Loaded, config: Config, device: str) -> Pipeline:
    """A fresh pipeline of the plugin."""
    pipeline: Pipeline = plugin.call("build_pipeline", device=device, config=config)
    return pipeline


@contextmanager
def opened(variant: Variant, graphs: Sequence[Graph], network: Network | None) -> Iterator[Run]:
    """A run of the variant under the plugin's names; closed in the end."""
    from awml_deploy_core.backends import open_run

    if variant.backend == Backend.PYTORCH.value:
        if network is None:
            raise LoadError(f"variant {variant.name}: the network was not loaded")
        modules = network.edited if variant.name == "exported" else network.exact
        with open_run(variant, [graph.component for graph in graphs], modules=modules) as run:
            yield run
    else:
        for artifact in variant.artifacts:
            require_unchanged(artifact)
        with open_run(variant, [graph.filed for graph in graphs]) as run:
            yield Renamed(run, graphs)


def require_unchanged(artifact: Artifact) -> None:
    """Refuse a file that is not the one whose hash goes into the manifest.

    Raises:
        ArtifactError: It was replaced or removed since this run made or found it.
    """
    if not artifact.path.is_file() or sha256_file(artifact.path) != artifact.sha256:
        raise ArtifactError(
            f"{artifact.path} was changed while this run was using it",
            hint="Let no two runs write into one work dir, and run again.",
        )


@contextmanager
def runs(graphs: Sequence[Graph], network: Network | None, scratch: Path) -> Iterator[Callable[[Variant], Run]]:
    """A function that opens each variant at most once; all are closed in the end.

    What a variant answered is kept below `scratch`, so that it is asked nothing twice.
    """
    from awml_deploy_core.remember import Remembering

    known: dict[tuple[str, str], Run] = {}
    with ExitStack() as stack:

        def run_of(variant: Variant) -> Run:
            key = variant.name, variant.device
            if key not in known:
                run = stack.enter_context(opened(variant, graphs, network))
                known[key] = Remembering(run, scratch / "-".join(key).replace(":", "_"))
            return known[key]

        yield run_of


def find_onnx(config: Config, graphs: Sequence[Graph]) -> tuple[Artifact, ...]:
    """ONNX files that were not made in this run: what the config names, else what an earlier run left.

    Raises:
        ArtifactError: What the config names is not there.
    """
    backend = config.evaluation.backends.get(Backend.ONNX)
    named = (backend and backend.model_dir) or config.evaluation.models.get(Backend.ONNX) or config.export.onnx_path
    place = named or config.export.work_dir / "onnx"
    paths = {graph: place if place.suffix == ".onnx" else place / graph.onnx_file for graph in graphs}
    absent = [str(path) for path in paths.values() if not path.is_file()]
    if not absent:
        return tuple(_artifact(graph, path) for graph, path in paths.items())
    if named is None and len(absent) == len(paths):
        return ()
    raise ArtifactError(
        f"{', '.join(absent)}: no such ONNX file",
        hint="Correct `export.onnx_path` (a file, or a folder of files), or export first with `export.mode = 'onnx'`.",
    )


def _artifact(graph: Graph, path: Path) -> Artifact:
    return Artifact(
        component=graph.component.name,
        format="onnx",
        path=path,
        sha256=sha256_file(path),
        size=path.stat().st_size,
        precision=_precision(path),
        tool="given",
    )


def _precision(path: Path) -> str:
    """What a given file calculates in: it is held to that, not to what a file in float32 is held to."""
    from onnx import TensorProto

    from awml_deploy_core.cast.file import read
    from awml_deploy_core.cast.quantise import quantised_nodes

    try:
        model = read(path, weights=False)
    except ArtifactError:
        return "fp32"  # whoever opens it says what is wrong
    if quantised_nodes(model):
        return "explicit_int8"
    types = {tensor.data_type for tensor in model.graph.initializer}
    if TensorProto.BFLOAT16 in types:
        return "bf16"
    return "fp16" if TensorProto.FLOAT16 in types else "fp32"


@frozen(kw_only=True)
class Opening:
    """What a worker process needs to open a variant for itself; plain values, so that it can be sent there.

    Args:
        model: Name of the plugin's model.
        values: The resolved config as plain values.
        variant: What to open.
    """

    model: str
    values: Mapping[str, Any]
    variant: Variant

    @contextmanager
    def __call__(self) -> Iterator[tuple[Run, Sequence[Sample], Callable[[], Pipeline]]]:
        """Run, samples and pipelines in this process."""
        plugin = load(self.model, defaults=defaults)
        config = structure(self.values, plugin.config_class, where="the config of the run")
        graphs = describe(plugin, config)
        network = load_network(plugin, config, graphs) if self.variant.backend == Backend.PYTORCH.value else None
        with opened(self.variant, graphs, network) as run:
            yield run, load_samples(plugin, config), partial(build_pipeline, plugin, config, run.device)


def opening(plugin: Loaded, config: Config, variant: Variant) -> Opening:
    """The opening of a variant in another process."""
    return Opening(model=plugin.plugin.model, values=unstructure(config), variant=variant)


def on_device(variant: Variant, device: str | None, cuda: str | None) -> Variant:
    """The variant on a device of the config; `cuda` is the alias that the config defines."""
    if device is None:
        return variant
    return attrs.evolve(variant, device=(cuda or "cuda:0") if device == "cuda" else device)
