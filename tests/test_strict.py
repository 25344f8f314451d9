"""Plain values become settings only if they are what the field says."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from attrs import field, frozen
from hypothesis import given
from hypothesis import strategies as st

from awml_deploy_core.errors import ConfigError
from awml_deploy_core.strict import describe, schema, structure, unstructure


class Colour(str, Enum):
    RED = "red"
    BLUE = "blue"


@frozen(kw_only=True)
class Inner:
    """Something inside.

    Args:
        depth: How deep,
            in metres.
        shape: Sizes.
    """

    depth: float = 1.0
    shape: tuple[int, ...] = ()


@frozen(kw_only=True)
class Outer:
    """A section.

    Args:
        name: What it is called.
        flag: On or off.
    """

    name: str
    flag: bool = False
    count: int = 0
    mode: Literal["fast", "slow"] = "fast"
    colour: Colour = Colour.RED
    file: Path | None = None
    pair: tuple[int, str] = (1, "a")
    either: bool | Path = True
    inner: Inner = field(factory=Inner)
    many: dict[str, Inner] = field(factory=dict)
    by_colour: dict[Colour, int] = field(factory=dict)
    by_place: dict[int, str] = field(factory=dict)
    anything: dict[str, Any] = field(factory=dict)


def faults(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        structure({"name": "x", **values}, Outer, where="c.py")
    return str(caught.value)


def read(values: dict[str, Any]) -> Outer:
    return structure({"name": "x", **values}, Outer, where="c.py")


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("flag", "false", "expected True or False, got 'false' (str) @ $.flag"),
        ("flag", 1, "expected True or False"),
        ("count", 1.9, "expected a whole number, got 1.9 (float) @ $.count"),
        ("count", True, "expected a whole number"),
        ("name", 3, "expected text"),
        ("inner", {"depth": float("nan")}, "expected a finite number, got nan @ $.inner.depth"),
        ("inner", {"depth": float("inf")}, "expected a finite number"),
        ("inner", {"depth": True}, "expected a number"),
        ("inner", {"shape": "abc"}, "expected a list, got 'abc' (str) @ $.inner.shape"),
        ("inner", {"shape": [1, "2"]}, "expected a whole number, got '2' (str) @ $.inner.shape[1]"),
        ("inner", 5, "expected a table of settings, got 5 (int) @ $.inner"),
        ("mode", "fats", "did you mean 'fast'?"),
        ("colour", "rde", "allowed: red, blue; did you mean 'red'?"),
        ("file", 7, "expected a path"),
        ("file", "a\0b", "expected a path"),
        ("pair", [1], "expected 2 values, got 1 @ $.pair"),
        ("pair", [1, 2], "expected text, got 2 (int) @ $.pair[1]"),
        ("either", 3, "fits nothing that is allowed here @ $.either (expected True or False; expected a path)"),
        ("many", {"a b": {"dpeth": 1}}, "unknown key 'dpeth' @ $.many['a b'].dpeth (did you mean 'depth'?)"),
        ("by_colour", {"green": 1}, "as a key: 'green' (str) is not allowed @ $.by_colour.green"),
        ("by_place", {"first": "n"}, "as a key: expected a whole number"),
        ("many", [1], "expected a table of keys and values"),
    ],
)
def test_a_wrong_value_is_named_with_its_place_and_what_was_expected(key: str, value: Any, wanted: str) -> None:
    assert wanted in faults({key: value})


def test_all_faults_are_told_at_once() -> None:
    text = faults({"flag": "no", "conut": 3, "inner": {"depth": "deep", "shape": 1}, "by_colour": {"green": "many"}})
    assert text.startswith("c.py: 5 faults in the config")
    for place in ("$.flag", "$.conut", "$.inner.depth", "$.inner.shape", "$.by_colour.green"):
        assert place in text


def test_a_missing_key_without_default_is_named() -> None:
    with pytest.raises(ConfigError, match="the key 'name' is missing @ \\$"):
        structure({}, Outer, where="c.py")


def test_a_long_value_is_cut_in_the_message() -> None:
    assert len(faults({"flag": "x" * 10_000})) < 300


def test_what_is_right_is_taken_as_it_is_meant() -> None:
    got = read({"file": "a/b", "colour": Colour.BLUE, "inner": {"depth": 2}, "by_colour": {"red": 1, Colour.BLUE: 2}})
    assert (got.file, got.colour, got.inner.depth) == (Path("a/b"), Colour.BLUE, 2.0)
    assert isinstance(got.inner.depth, float)
    assert got.by_colour == {Colour.RED: 1, Colour.BLUE: 2}
    assert all(isinstance(key, Colour) for key in got.by_colour)


def test_a_list_becomes_a_tuple_and_json_keys_become_numbers() -> None:
    got = read({"inner": {"shape": [1, 2]}, "by_place": {"0": "batch", 2: "height"}})
    assert got.inner.shape == (1, 2)
    assert got.by_place == {0: "batch", 2: "height"}


def test_an_empty_string_means_no_file_only_where_a_file_is_optional() -> None:
    assert read({"file": ""}).file is None
    assert "empty string" in faults({"either": ""}) or "fits nothing" in faults({"either": ""})


def test_instances_may_stand_for_tables() -> None:
    assert read({"inner": Inner(depth=3.0)}).inner.depth == 3.0


def test_descriptions_come_from_the_docstrings() -> None:
    assert describe(Inner) == {"depth": "How deep, in metres.", "shape": "Sizes."}


def test_the_schema_lists_every_key_with_type_default_and_meaning() -> None:
    import jsonschema

    made = schema(Outer)
    validator = jsonschema.Draft202012Validator(made)
    validator.check_schema(made)
    assert made["required"] == ["name"]
    assert made["properties"]["inner"]["properties"]["depth"] == {
        "description": "How deep, in metres.",
        "type": "number",
        "default": 1.0,
    }
    assert validator.is_valid({"name": "x", "mode": "slow", "pair": [1, "b"], "by_colour": {"red": 1}})
    for wrong in ({"mode": "fats"}, {"nmae": 1}, {"pair": [1]}, {"flag": 1}, {"inner": {"shape": ["a"]}}):
        assert not validator.is_valid({"name": "x", **wrong}), wrong


outers = st.builds(
    Outer,
    name=st.text(),
    flag=st.booleans(),
    count=st.integers(),
    mode=st.sampled_from(["fast", "slow"]),
    colour=st.sampled_from(Colour),
    file=st.none() | st.just(Path("a b/c.d")),
    pair=st.tuples(st.integers(), st.text()),
    either=st.booleans() | st.just(Path("x")),
    inner=st.builds(
        Inner, depth=st.floats(allow_nan=False, allow_infinity=False), shape=st.lists(st.integers()).map(tuple)
    ),
    many=st.dictionaries(st.text(), st.builds(Inner), max_size=2),
    by_colour=st.dictionaries(st.sampled_from(Colour), st.integers()),
    by_place=st.dictionaries(st.integers(0, 9), st.text(), max_size=2),
)


@given(outers)
def test_what_is_written_reads_back_to_the_same_value(outer: Outer) -> None:
    assert structure(unstructure(outer), Outer, where="c.py") == outer
    assert structure({"name": outer.name, **unstructure(outer, defaults=False)}, Outer, where="c.py") == outer


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*Outer.__annotations__, "other"]), json_values, max_size=5))
def test_any_plain_value_is_either_taken_whole_or_refused_with_a_sentence(values: dict[str, Any]) -> None:
    try:
        outer = structure(values, Outer, where="c.py")
    except ConfigError as error:
        assert "fault" in error.message  # noqa: PT017  both endings are allowed
    else:
        assert structure(unstructure(outer), Outer, where="c.py") == outer
