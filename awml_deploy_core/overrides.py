"""What the config says about the graphs, on top of what the plugin says.

A plugin's pipeline calls a component with the plugin's own names. A config may give the tensors in the file other
names; so a graph has two faces, and `Renamed` translates between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
from attrs import frozen

from awml_deploy_core.around import Around
from awml_deploy_core.errors import ConfigError, nearest
from awml_deploy_core.records import Array, Axis, Component, Run, Tensor

if TYPE_CHECKING:
    from awml_deploy_core.config import ComponentConfig, Config, ModelIO, TensorSpec

DynamicAxes = Mapping[str, Mapping[int, str]]


@frozen(kw_only=True)
class Graph:
    """One component with both its faces and the names of its files.

    Args:
        component: As the plugin's pipeline calls it, sizes and types as the config wants them.
        filed: The same with the names that stand in the file.
        onnx_file: Name under `<work_dir>/onnx`.
        engine_file: Name under `<work_dir>/tensorrt`.
    """

    component: Component
    filed: Component
    onnx_file: str
    engine_file: str


def resolve(components: Sequence[Component], config: Config) -> tuple[Graph, ...]:
    """The plugin's components as the config wants them.

    Raises:
        ConfigError: The config speaks of components or tensors that the plugin does not have, or a single-graph
            section of a model with several graphs.
    """
    known = {component.name for component in components}
    for name in config.components:
        if name not in known:
            near = nearest(name, known)
            hint = f"Did you mean {near!r}?" if near else f"The model has {', '.join(sorted(known))}."
            raise ConfigError(f"components.{name}: the model has no such component", hint=hint)
    if len(components) > 1 and config.onnx_config.save_file:
        raise ConfigError(
            f"onnx_config.save_file names one file, but the model has {len(components)} graphs",
            hint="Use components.<name>.onnx_file.",
        )
    if config.onnx_config.multi_file not in (None, len(components) > 1):
        raise ConfigError(
            f"onnx_config.multi_file is {config.onnx_config.multi_file}, but the model has {len(components)} graph"
            f"{'s' * (len(components) > 1)}",
            hint="Leave it out; the plugin knows.",
        )
    return tuple(_graph(component, config, single=len(components) == 1) for component in components)


def _graph(component: Component, config: Config, *, single: bool) -> Graph:
    said = config.components.get(component.name)
    renamed: Mapping[str, str] = {}
    if single:
        component = _sized(component, config.model_io)
        renamed = _single_names(component, config.model_io)
        component = _dynamic(component, _back(config.model_io.dynamic_axes, renamed), "model_io.dynamic_axes")
    if said is not None:
        where = f"components.{component.name}.io"
        renamed = {**renamed, **_component_names(component, said, where)}
        component = _dynamic(component, _back(said.io.dynamic_axes, renamed), f"{where}.dynamic_axes")
        _require_dtypes(component.inputs, said.io.inputs, f"{where}.inputs")
        _require_dtypes(component.outputs, said.io.outputs, f"{where}.outputs")
    if single:
        component = _fixed_batch(component, config.model_io.batch_size)
    stem = (single and config.onnx_config.save_file) or f"{component.name}.onnx"
    onnx_file = (said and said.onnx_file) or stem
    return Graph(
        component=component,
        filed=_renamed(component, renamed),
        onnx_file=onnx_file,
        engine_file=(said and said.engine_file) or f"{onnx_file.removesuffix('.onnx')}.engine",
    )


# ---------------------------------------------------------------- names


def _single_names(component: Component, said: ModelIO) -> dict[str, str]:
    inputs = said.input_names or ((said.input_name,) if said.input_name else None)
    outputs = said.output_names or said.head_output_names or ((said.output_name,) if said.output_name else None)
    if inputs is not None:
        inputs = (*inputs, *(extra.name for extra in said.additional_inputs if extra.name not in inputs))
    if outputs is not None:
        outputs = (*outputs, *(name for name in said.additional_outputs if name not in outputs))
    return {
        **_pairs(component.inputs, inputs, "model_io: input names"),
        **_pairs(component.outputs, outputs, "model_io: output names"),
    }


def _component_names(component: Component, said: ComponentConfig, where: str) -> dict[str, str]:
    inputs = None if said.io.inputs is None else tuple(spec.name for spec in said.io.inputs)
    outputs = None if said.io.outputs is None else tuple(spec.name for spec in said.io.outputs)
    return {
        **_pairs(component.inputs, inputs, f"{where}.inputs"),
        **_pairs(component.outputs, outputs, f"{where}.outputs"),
    }


def _pairs(tensors: Sequence[Tensor], names: Sequence[str] | None, where: str) -> dict[str, str]:
    if names is None:
        return {}
    if len(names) != len(tensors):
        own = ", ".join(tensor.name for tensor in tensors)
        raise ConfigError(
            f"{where}: {len(names)} names ({', '.join(names)}) for {len(tensors)} tensors",
            hint=f"The plugin's own names, in order, are {own}.",
        )
    return {tensor.name: name for tensor, name in zip(tensors, names, strict=True) if tensor.name != name}


def _renamed(component: Component, names: Mapping[str, str]) -> Component:
    def other(tensor: Tensor) -> Tensor:
        return attrs.evolve(tensor, name=names.get(tensor.name, tensor.name))

    try:
        return attrs.evolve(
            component, inputs=tuple(map(other, component.inputs)), outputs=tuple(map(other, component.outputs))
        )
    except ValueError as error:
        raise ConfigError(str(error), hint="Give each tensor a name of its own.") from error


def _back(axes: DynamicAxes | None, names: Mapping[str, str]) -> DynamicAxes | None:
    """The same table by the plugin's names; users write the names that stand in the file."""
    own = {name: plugin for plugin, name in names.items()}
    return None if axes is None else {own.get(name, name): item for name, item in axes.items()}


# ---------------------------------------------------------------- sizes and types


def _sized(component: Component, said: ModelIO) -> Component:
    first = component.inputs[0]
    _require_dtype(first, said.input_dtype, "model_io.input_dtype")
    if said.input_shape is None:
        return component
    if len(said.input_shape) != len(first.shape) - 1:
        raise ConfigError(
            f"model_io.input_shape has {len(said.input_shape)} sizes, {first.name!r} has {len(first.shape) - 1} "
            "besides the batch",
            hint=f"The plugin's shape is {first.shape}.",
        )
    fixed: dict[str, int] = {}
    for own, wanted in zip(first.shape[1:], said.input_shape, strict=True):
        if isinstance(own, int) and wanted not in (own, -1):
            raise ConfigError(
                f"model_io.input_shape says {said.input_shape}, the network needs {first.shape[1:]}",
                hint="Sizes that the plugin gives as numbers are those of the weights.",
            )
        if isinstance(own, str) and wanted != -1:
            fixed[own] = wanted
    return attrs.evolve(component, axes=tuple(_pinned(axis, fixed.get(axis.name)) for axis in component.axes))


def _pinned(axis: Axis, size: int | None) -> Axis:
    if size is None:
        return axis
    if size < axis.min or (axis.max is not None and size > axis.max):
        raise ConfigError(
            f"{axis.name} = {size} is outside what the plugin allows, {axis.min} to {axis.max or 'any'}",
            hint="Correct model_io, or the plugin's own limits.",
        )
    return attrs.evolve(axis, dynamic=False, min=size, opt=size, max=size)


def _fixed_batch(component: Component, batch: int | None) -> Component:
    if batch is None:
        return component
    name = component.inputs[0].shape[0] if component.inputs[0].shape else None
    if not isinstance(name, str):
        if name == batch:
            return component
        raise ConfigError(f"model_io.batch_size = {batch}, but {component.name} has no batch axis that can be fixed")
    return attrs.evolve(
        component, axes=tuple(_pinned(axis, batch if axis.name == name else None) for axis in component.axes)
    )


def _dynamic(component: Component, said: DynamicAxes | None, where: str) -> Component:
    """Axes renamed as the table says; those that it does not name become fixed at the recorded size."""
    if said is None:
        return component
    tensors = {tensor.name: tensor for tensor in component.inputs + component.outputs}
    renamed: dict[str, str] = {}
    for name, places in said.items():
        if name not in tensors:
            raise ConfigError(f"{where}: no tensor is called {name!r}", hint=f"There are {', '.join(tensors)}.")
        for place, axis in places.items():
            own = tensors[name].shape[place] if place < len(tensors[name].shape) else None
            if not isinstance(own, str):
                fact = "does not exist" if own is None else f"is {own} in every sample"
                raise ConfigError(
                    f"{where}.{name}: axis {place} {fact}", hint=f"The plugin's shape is {tensors[name].shape}."
                )
            if renamed.setdefault(own, axis) != axis:
                raise ConfigError(
                    f"{where}: one axis is called {renamed[own]!r} and {axis!r}",
                    hint=f"{own!r} of the plugin is one size in all tensors; give it one name.",
                )
    named = set(renamed)
    # Older files call the sides of an input and of a smaller output by one name; two sizes cannot share one, so the
    # first keeps it and the others stay what the plugin calls them.
    owners: dict[str, str] = {}
    renamed = {own: axis if owners.setdefault(axis, own) == own else own for own, axis in renamed.items()}
    axes = tuple(
        attrs.evolve(axis, name=renamed.get(axis.name, axis.name), dynamic=axis.dynamic and axis.name in named)
        for axis in component.axes
    )

    def other(tensor: Tensor) -> Tensor:
        return attrs.evolve(tensor, shape=[renamed.get(str(size), size) for size in tensor.shape])

    return attrs.evolve(
        component, axes=axes, inputs=tuple(map(other, component.inputs)), outputs=tuple(map(other, component.outputs))
    )


def _require_dtypes(tensors: Sequence[Tensor], specs: Sequence[TensorSpec] | None, where: str) -> None:
    for tensor, spec in zip(tensors, specs or (), strict=False):  # numbers were compared with the names
        _require_dtype(tensor, spec.dtype, f"{where}.{spec.name}")
        _require_shape(tensor, spec.shape, f"{where}.{spec.name}")


def _require_shape(tensor: Tensor, said: tuple[int | str, ...] | None, where: str) -> None:
    own = tensor.shape[1:]
    if said is None:
        return
    both = zip(own, said, strict=False)
    if len(said) != len(own) or any(isinstance(a, int) and isinstance(b, int) and b not in (a, -1) for a, b in both):
        raise ConfigError(
            f"{where} says the shape {said}, the plugin's is {own} besides the batch", hint="Leave it out."
        )


def _require_dtype(tensor: Tensor, said: str | None, where: str) -> None:
    """A pipeline hands over what it always does, so another type can only be a mistake."""
    if said not in (None, tensor.dtype):
        raise ConfigError(
            f"{where} says {said}, the plugin's pipeline gives {tensor.dtype}",
            hint="Leave it out; precision is a matter of `precision_policy`.",
        )


# ---------------------------------------------------------------- the two faces


class Renamed(Around):
    """A run under the plugin's names around a run under the names in the files."""

    def __init__(self, run: Run, graphs: Sequence[Graph]) -> None:
        super().__init__(run)
        self._own = {graph.component.name: graph.component for graph in graphs}
        self._filed = {graph.component.name: graph.filed for graph in graphs}

    @property
    def components(self) -> Mapping[str, Component]:
        """The components under the plugin's names."""
        return self._own

    def __call__(self, component: str, /, **inputs: Array) -> dict[str, Array]:
        """Run one component."""
        if component not in self._own:
            return super().__call__(component, **inputs)  # which says what is wrong with it
        own, filed = self._own[component], self._filed[component]
        there = {a.name: b.name for a, b in zip(own.inputs, filed.inputs, strict=True)}
        outputs = super().__call__(component, **{there.get(name, name): value for name, value in inputs.items()})
        return {a.name: outputs[b.name] for a, b in zip(own.outputs, filed.outputs, strict=True)}


def to_file(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Recorded inputs under the names in the file."""
    pairs = zip(graph.component.inputs, graph.filed.inputs, strict=True)
    return {filed.name: inputs[own.name] for own, filed in pairs}
