"""Which sizes an engine must take: what the config says, then the limits of the axes, then what was recorded.

An engine is built for ranges. A range that nobody named is not guessed: the proposal stands in the error. A range wider
than what the graph allows would be built without a word, so it is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from awml_deploy_core.errors import ConfigError, nearest

if TYPE_CHECKING:
    from awml_deploy_core.config import Profile
    from awml_deploy_core.records import Axis, Component, Tensor

__all__ = ["Range", "profiles"]

Sizes = tuple[int, ...]


@frozen(kw_only=True)
class Range:
    """The shapes of one input: smallest, the one to be fast at, largest."""

    min: Sizes
    opt: Sizes
    max: Sizes


def profiles(
    component: Component,
    given: Sequence[Mapping[str, Profile]],
    recorded: Mapping[str, Sequence[int]],
) -> tuple[dict[str, Range], ...]:
    """The optimisation profiles of a component; none if every size is fixed.

    Args:
        component: As it stands in the file.
        given: What the config says, a mapping by input for each profile.
        recorded: Shapes of the inputs in the recording, which say what to be fast at.

    Raises:
        ConfigError: A range is missing, unknown, or does not fit the graph; all faults together.
    """
    names = [tensor.name for tensor in component.inputs]
    faults = [
        f"profile {number}: {component.name} has no input {name!r}"
        + (f" (did you mean {nearest(name, names)!r}?)" if nearest(name, names) else f", only {', '.join(names)}")
        for number, profile in enumerate(given)
        for name in profile
        if name not in names
    ]
    dynamic = [tensor for tensor in component.inputs if any(_free(component, size) for size in tensor.shape)]
    made: list[dict[str, Range]] = []
    for number, profile in enumerate(given or ({},)):
        made.append({})
        for tensor in component.inputs:
            said = profile.get(tensor.name)
            if said is None and tensor not in dynamic:
                continue
            known = recorded.get(tensor.name)
            found, wrong = _range(component, tensor, said, known)
            faults.extend(f"profile {number}: {fault}" for fault in wrong)
            if tensor in dynamic:
                made[-1][tensor.name] = found
    if faults:
        proposal = _proposal(component, dynamic, recorded)
        raise ConfigError(
            f"component {component.name}: {'; '.join(faults)}",
            hint=f"Say which sizes the engine must take, for example\n{proposal}" if proposal else None,
        )
    return tuple(made) if dynamic else ()


def _free(component: Component, size: int | str) -> bool:
    return isinstance(size, str) and component.axis(size).dynamic


def _range(
    component: Component, tensor: Tensor, said: Profile | None, recorded: Sequence[int] | None
) -> tuple[Range, list[str]]:
    """The range of one input, and what is wrong with it."""
    given = {
        "min": said.min_shape if said else None,
        "opt": said.opt_shape if said else None,
        "max": said.max_shape if said else None,
    }
    for which, shape in given.items():
        if shape is not None and len(shape) != len(tensor.shape):
            wrong = f"{tensor.name}.{which}_shape has {len(shape)} sizes, the input {len(tensor.shape)}"
            return Range(min=(), opt=(), max=()), [wrong]
    triples: list[tuple[int, int, int]] = []
    faults: list[str] = []
    for place, size in enumerate(tensor.shape):
        asked = tuple(shape[place] if shape else None for shape in given.values())
        seen = recorded[place] if recorded is not None and place < len(recorded) else None
        where = f"{tensor.name}[{place}]"
        if _free(component, size):
            triple, wrong_ones = _dynamic(component.axis(str(size)), f"{where} ({size})", asked, seen)
        else:
            triple, wrong_ones = _static(component, size, where, asked, seen)
        triples.append(triple)
        faults += wrong_ones
    low, best, high = zip(*triples, strict=True) if triples else ((), (), ())
    return Range(min=low, opt=best, max=high), faults


def _static(
    component: Component, size: int | str, where: str, asked: tuple[int | None, ...], seen: int | None
) -> tuple[tuple[int, int, int], list[str]]:
    fixed = _fixed(component, size, seen)
    off = [value for value in asked if value not in (None, fixed)]
    return (fixed, fixed, fixed), [f"{where} is {fixed} in the graph, the profile says {off[0]}"] if off else []


def _fixed(component: Component, size: int | str, seen: int | None) -> int:
    """The size of a place that does not vary; one that is only left out of the dynamic ones is as it was recorded."""
    if isinstance(size, int):
        return size
    axis = component.axis(size)
    return axis.min if axis.min == axis.max or seen is None else seen


def _dynamic(
    axis: Axis, where: str, asked: tuple[int | None, ...], seen: int | None
) -> tuple[tuple[int, int, int], list[str]]:
    smallest, usual, largest = asked
    low = axis.min if smallest is None else smallest
    high = axis.max if largest is None else largest
    faults = []
    if low < axis.min:
        faults.append(f"{where} is at least {axis.min}, the profile says {low}")
    if high is None:
        faults.append(f"{where} is dynamic, and nothing says how large it may become")
        high = max(low, usual or 0)
    if axis.max is not None and high > axis.max:
        faults.append(f"{where} may be at most {axis.max}, the profile says {high}")
    if low > high:
        faults.append(f"{where}: {low} at least, but at most {high}")
    elif usual is not None and not low <= usual <= high:
        faults.append(f"{where}: opt_shape says {usual}, which is not from {low} to {high}")
    # What the plugin or the recording suggests is only a wish, so it is moved to where it fits.
    best = next(value for value in (usual, axis.opt, seen, low) if value is not None)
    return (low, min(max(best, low), max(high, low)), high), faults


def _proposal(component: Component, dynamic: Sequence[Tensor], recorded: Mapping[str, Sequence[int]]) -> str:
    """The lines of a config that would do."""
    lines = list(_lines(component, dynamic, recorded))
    return "\n".join(["backend_config = dict(model_inputs=[dict(input_shapes={", *lines, "})])"]) if lines else ""


def _lines(component: Component, dynamic: Sequence[Tensor], recorded: Mapping[str, Sequence[int]]) -> Iterator[str]:
    for tensor in dynamic:
        seen = recorded.get(tensor.name, ())
        triples = [
            _proposed(component, size, seen[place] if place < len(seen) else None)
            for place, size in enumerate(tensor.shape)
        ]
        shapes = zip(("min", "opt", "max"), zip(*triples, strict=True), strict=True)
        yield f"    {tensor.name!r}: dict({', '.join(f'{name}_shape={sizes}' for name, sizes in shapes)}),"


def _proposed(component: Component, size: int | str, seen: int | None) -> tuple[int, int, int]:
    if not _free(component, size):
        fixed = _fixed(component, size, seen)
        return fixed, fixed, fixed
    axis = component.axis(str(size))
    now = max(axis.min, axis.opt or seen or 1)
    if axis.max is not None:
        return axis.min, min(now, axis.max), axis.max
    return axis.min, now, 2 * now
