"""Which sizes an engine is built for: the config first, then the axes; the recording only says what to be fast at."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from awml_deploy_core.build.profiles import Range, profiles
from awml_deploy_core.config import Config, Profile
from awml_deploy_core.errors import ConfigError, ExitCode
from awml_deploy_core.records import Axis, Component, Tensor
from awml_deploy_core.strict import structure


def component(*axes: Axis, shape: tuple[int | str, ...] | None = None, **more: tuple[int | str, ...]) -> Component:
    """A component whose first input `x` has all axes, and further inputs."""
    first = Tensor(name="x", shape=shape if shape is not None else (*(axis.name for axis in axes), 4))
    others = [Tensor(name=name, shape=sizes) for name, sizes in more.items()]
    return Component(name="net", inputs=[first, *others], outputs=[Tensor(name="y", shape=(1,))], axes=axes)


BATCH = Axis(name="batch", min=1, opt=2, max=8)
FREE = Axis(name="points")


def refused(*arguments: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        profiles(*arguments)
    assert caught.value.exit_code == ExitCode.CONFIG
    return caught.value


# ---------------------------------------------------------------- what wins


def test_the_limits_of_an_axis_are_enough() -> None:
    made = profiles(component(BATCH), [], {"x": (3, 4)})
    assert made == ({"x": Range(min=(1, 4), opt=(2, 4), max=(8, 4))},)


def test_the_config_wins_over_the_axis() -> None:
    said = Profile(min_shape=(2, 4), opt_shape=(3, 4), max_shape=(4, 4))
    assert profiles(component(BATCH), [{"x": said}], {})[0]["x"] == Range(min=(2, 4), opt=(3, 4), max=(4, 4))


def test_a_recording_says_only_what_to_be_fast_at() -> None:
    axis = Axis(name="points", min=0, max=100)
    assert profiles(component(axis), [], {"x": (60, 4)})[0]["x"] == Range(min=(0, 4), opt=(60, 4), max=(100, 4))
    assert profiles(component(axis), [], {"x": (600, 4)})[0]["x"].opt == (100, 4)
    assert "nothing says how large" in refused(component(FREE), [], {"x": (60, 4)}).message


def test_nothing_varies_so_there_is_no_profile() -> None:
    fixed = Axis(name="batch", dynamic=False, min=2, opt=2, max=2)
    assert profiles(component(shape=(1, 4)), [], {}) == ()
    assert profiles(component(fixed), [{"x": Profile(max_shape=(2, 4))}], {}) == ()


def test_an_axis_that_is_left_out_of_the_dynamic_ones_is_as_it_was_recorded() -> None:
    net = component(BATCH, Axis(name="height", dynamic=False))
    assert profiles(net, [], {"x": (1, 96, 4)})[0]["x"].max == (8, 96, 4)
    assert (
        "x[1] is 96 in the graph, the profile says 95"
        in refused(net, [{"x": Profile(max_shape=(8, 95, 4))}], {"x": (1, 96, 4)}).message
    )


def test_several_profiles() -> None:
    small, large = Profile(max_shape=(2, 4)), Profile(min_shape=(3, 4), opt_shape=(3, 4))
    made = profiles(component(BATCH), [{"x": small}, {"x": large}], {})
    assert [one["x"].min + one["x"].max for one in made] == [(1, 4, 2, 4), (3, 4, 8, 4)]


def test_only_inputs_that_vary_are_in_a_profile() -> None:
    net = component(BATCH, matrix=(3, 3))
    assert list(profiles(net, [], {})[0]) == ["x"]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("profile", "fact"),
    [
        ({"X": Profile()}, "profile 0: net has no input 'X', only x"),
        ({"xx": Profile()}, "profile 0: net has no input 'xx' (did you mean 'x'?)"),
        ({"x": Profile(min_shape=(1, 4, 4))}, "x.min_shape has 3 sizes, the input 2"),
        ({"x": Profile(max_shape=(9, 4))}, "x[0] (batch) may be at most 8, the profile says 9"),
        ({"x": Profile(min_shape=(0, 4))}, "x[0] (batch) is at least 1, the profile says 0"),
        ({"x": Profile(max_shape=(8, 5))}, "x[1] is 4 in the graph, the profile says 5"),
        ({"x": Profile(opt_shape=(9, 4))}, "x[0] (batch): opt_shape says 9, which is not from 1 to 8"),
        ({"x": Profile(min_shape=(9, 4))}, "x[0] (batch): 9 at least, but at most 8"),
    ],
)
def test_a_profile_that_does_not_fit(profile: dict[str, Profile], fact: str) -> None:
    assert fact in refused(component(BATCH), [profile], {}).message


def test_all_faults_are_told_at_once() -> None:
    message = refused(component(BATCH), [{"x": Profile(max_shape=(9, 5))}, {"z": Profile()}], {}).message
    assert message.count("profile 0:") == 2
    assert message.count("profile 1:") == 1


# ---------------------------------------------------------------- what is proposed

sizes = some.integers(0, 50)


@some.composite
def axes(draw: some.DrawFn, name: str) -> Axis:
    low, best, high = sorted((draw(sizes), draw(sizes) + 1, draw(sizes) + 1))
    return Axis(
        name=name,
        dynamic=draw(some.booleans()),
        min=low,
        opt=draw(some.sampled_from([None, max(best, 1)])),
        max=draw(some.sampled_from([None, max(high, 1)])),
    )


@given(first=axes("a"), second=axes("b"), seen=some.lists(sizes, min_size=3, max_size=3))
@settings(deadline=None)
def test_what_is_proposed_is_a_config_that_does(first: Axis, second: Axis, seen: list[int]) -> None:
    net = component(first, second, z=("a", 7))
    recorded = {"x": (*seen[:2], 4), "z": (seen[0], 7)}
    try:
        made = profiles(net, [], recorded)
    except ConfigError as error:
        text = (error.hint or "").partition("\n")[2]
        values: dict[str, Any] = {}
        exec(text, {"dict": dict}, values)
        config = structure(values, Config, where="the proposal")
        made = profiles(net, [one.input_shapes for one in config.backend_config.model_inputs], recorded)
    for profile in made:
        for shapes in profile.values():
            for low, best, high in zip(shapes.min, shapes.opt, shapes.max, strict=True):
                assert low <= best <= high


@given(first=axes("a"), said=some.lists(sizes, min_size=3, max_size=3), seen=sizes)
@settings(deadline=None)
def test_a_range_that_is_taken_lies_within_the_axis(first: Axis, said: list[int], seen: int) -> None:
    low, best, high = sorted(said)
    profile = Profile(min_shape=(low, 4), opt_shape=(best, 4), max_shape=(high, 4))
    fits = first.min <= low and (first.max is None or high <= first.max)
    try:
        made = profiles(component(first), [{"x": profile}], {"x": (seen, 4)})
    except ConfigError:
        assert not first.dynamic or not fits
    else:
        if first.dynamic:
            assert fits
            assert made == ({"x": Range(min=(low, 4), opt=(best, 4), max=(high, 4))},)
        else:
            assert made == ()
