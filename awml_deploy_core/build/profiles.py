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
    from awml_deploy_core.records import Component, Tensor

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
    low, best, high, faults = [], [], [], []  # type: list[int], list[int], list[int], list[str]
    for place, size in enumerate(tensor.shape):
        smallest, usual, largest = (shape[place] if shape else None for shape in given.values())
        seen = recorded[place] if recorded is not None else None
        if not _free(component, size):
            fixed = size if isinstance(size, int) else component.axis(size).min
            off = [value for value in (smallest, usual, largest) if value not in (None, fixed)]
            faults += [f"{tensor.name}[{place}] is {fixed} in the graph, the profile says {off[0]}"] if off else []
            smallest = usual = largest = fixed
        else:
            axis = component.axis(str(size))
            smallest = axis.min if smallest is None else smallest
            largest = axis.max if largest is None else largest
            usual = next((value for value in (usual, axis.opt, seen, smallest) if value is not None), smallest)
            if largest is None:
                faults.append(f"{tensor.name}[{place}] ({size}) is dynamic, and nothing says how large it may become")
                largest = max(usual, smallest)
            if axis.max is not None and largest > axis.max:
                faults.append(f"{tensor.name}[{place}] ({size}) may be at most {axis.max}, the profile says {largest}")
            if smallest < axis.min:
                faults.append(f"{tensor.name}[{place}] ({size}) is at least {axis.min}, the profile says {smallest}")
            if smallest > largest:
                faults.append(f"{tensor.name}[{place}] ({size}): {smallest} at least, but at most {largest}")
            usual = min(max(usual, smallest), max(largest, smallest))
        low.append(smallest)
        best.append(usual)
        high.append(largest)
    return Range(min=tuple(low), opt=tuple(best), max=tuple(high)), faults


def _proposal(component: Component, dynamic: Sequence[Tensor], recorded: Mapping[str, Sequence[int]]) -> str:
    """The lines of a config that would do."""
    lines = list(_lines(component, dynamic, recorded))
    return (
        "\n".join(["    backend_config = dict(model_inputs=[dict(input_shapes={", *lines, "    })])"]) if lines else ""
    )


def _lines(component: Component, dynamic: Sequence[Tensor], recorded: Mapping[str, Sequence[int]]) -> Iterator[str]:
    for tensor in dynamic:
        seen = recorded.get(tensor.name, ())
        low, best, high = [], [], []  # type: list[int], list[int], list[int]
        for place, size in enumerate(tensor.shape):
            axis = component.axis(size) if isinstance(size, str) else None
            now = seen[place] if place < len(seen) else (axis.opt or axis.min if axis else 1)
            fixed = size if isinstance(size, int) else now
            low.append(axis.min if axis and axis.dynamic else fixed)
            best.append(now if axis else fixed)
            high.append((axis.max or 2 * max(now, 1)) if axis and axis.dynamic else fixed)
        shapes = ", ".join(f"{name}_shape={tuple(s)}" for name, s in (("min", low), ("opt", best), ("max", high)))
        yield f"        {tensor.name!r}: dict({shapes}),"
