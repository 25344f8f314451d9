"""Each file format: what it reads, what is wrong with a file and where, and that what is written reads back."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from awml_deploy_core.configfile import dump_config, read_config
from awml_deploy_core.errors import ConfigError, ExitCode

SAME = {
    "py": "a = dict(b=[1, 2.5, None, True, 'ü'])\nc = 0.001\n",
    "yaml": "a:\n  b: [1, 2.5, null, true, ü]\nc: 1e-3\n",
    "yml": "{a: {b: [1, 2.5, ~, true, 'ü']}, c: 0.001}",
    "toml": "c = 1e-3\n[a]\nb = [1, 2.5, 3, true, 'ü']\n",
    "json": '{"a": {"b": [1, 2.5, null, true, "ü"]}, "c": 1e-3}',
}


def refusal(path: Path, **options: bool) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read_config(path, **options)
    assert caught.value.exit_code is ExitCode.CONFIG
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize("extension", SAME)
def test_every_format_says_the_same(extension: str, newline: str, mark: str, tmp_path: Path) -> None:
    path = tmp_path / f"config.{extension}"
    path.write_bytes((mark + SAME[extension].replace("\n", newline)).encode())
    third = 3 if extension == "toml" else None
    assert read_config(path).values == {"a": {"b": [1, 2.5, third, True, "ü"]}, "c": 0.001}


@pytest.mark.parametrize("base", SAME)
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("top.py", "_base_ = 'base.{}'\na = dict(d={{{{ _base_.a.b }}}})\ne = '{{{{ fileBasename }}}}'\n"),
        ("top.yaml", "_base_: ./base.{}\na: {{d: {{{{ _base_.a.b }}}}}}\ne: '{{{{ fileBasename }}}}'\n"),
        ("top.json", '{{"_base_": ["base.{}"], "a": {{"d": {{{{ _base_.a.b }}}}}}, "e": "{{{{ fileBasename }}}}"}}'),
        ("top.toml", "_base_ = 'base.{}'\ne = '{{{{ fileBasename }}}}'\n[a]\nd = {{{{ _base_.a.b }}}}\n"),
    ],
)
def test_every_format_inherits_from_every_format(name: str, text: str, base: str, tmp_path: Path) -> None:
    (tmp_path / f"base.{base}").write_text(SAME[base], encoding="utf-8")
    (tmp_path / name).write_text(text.format(base), encoding="utf-8")
    values = read_config(tmp_path / name).values
    assert values["a"]["d"] == values["a"]["b"] == [1, 2.5, 3 if base == "toml" else None, True, "ü"]
    assert (values["c"], values["e"]) == (0.001, name)


FAULTS = [
    ("config.py", "a = 1\nb = (2,\n", ":2:5: syntax error", "    b = (2,\n        ^"),
    ("config.py", "a = " + "[" * 300, "syntax error: too many nested parentheses", ""),
    ("config.py", "a = " + "-" * 60_000 + "1", "nested too deeply", ""),
    ("config.yaml", "a: 1\nb: [1,\n  c: }\n", ":3:6: YAML", "      c: }\n         ^"),
    ("config.yaml", "a: 1\nb:\n  c: 1\n  c: 2\n", ":4:3: YAML: the key 'c' is given twice", "      c: 2\n      ^"),
    ("config.yaml", "a: !!python/object/apply:os.getcwd []\n", ":1:4: YAML", "python/object/apply"),
    ("config.yaml", "a: !!python/tuple [1]\n", ":1:4: YAML", "python/tuple"),
    ("config.yaml", "a: !!set {x, y}\n", "`a` is a set", ""),
    ("config.yaml", "a: *missing\n", ":1:4: YAML: found undefined alias 'missing'", "*missing"),
    ("config.yaml", "a: &a [*a]\n", "nested more than 64 levels", ""),
    ("config.yaml", "a: " + "[" * 1200, "nested too deeply", ""),
    ("config.yaml", "a: 1\n---\nb: 2\n", "expected a single document", ""),
    ("config.yaml", "1: a\n", "top-level key 1", ""),
    ("config.yaml", "- a\n", "the top level is a list", ""),
    ("config.yaml", "a: \x07\n", "YAML: ", ""),
    ("config.toml", "a = 1\nb = \n", ":2:5: TOML: Invalid value", "    b = \n        ^"),
    ("config.toml", "a = 1\na = 2\n", "TOML: Cannot overwrite a value", ""),
    ("config.toml", "a = 2026-01-01\n", "`a` is a date", ""),
    ("config.yaml", "a: !!bool x\n", "YAML: ", ""),
    ("config.yaml", "a: !!timestamp x\n", "YAML: ", ""),
    ("config.yaml", "a: !!int x\n", "YAML: ", ""),
    ("config.yaml", "? [1]\n: x\n", ":1:3: YAML: found unhashable key", ""),
    ("config.toml", "a = " + "9" * 5000, "TOML: ", ""),
    ("config.py", "a = 1\nreturn a\n", ":2:1: syntax error: 'return' outside function", "    return a\n    ^"),
    ("config.py", "a = " + "+".join("1" * 5000), "nested too deeply", ""),
    ("config.json", '{"a": 1,\n "b" 2}', ":2:6: JSON", '     "b" 2}\n         ^'),
    ("config.json", "", ":1:1: JSON", ""),
    ("config.json", '{"a": {"b": 1, "c": 2, "b": 3}}', "the key 'b' is given twice", ""),
    ("config.json", '{"a": NaN}', "JSON has no NaN", ""),
    ("config.json", '{"a": -Infinity}', "JSON has no -Infinity", ""),
    ("config.json", '{"a": ' + "[" * 100_000, "nested too deeply", ""),
    ("config.json", '{"a": ' + "9" * 5000 + "}", "JSON: ", ""),
    ("config.json", "[1]", "the top level is a list", ""),
]


@pytest.mark.parametrize(("name", "text", "fact", "shown"), FAULTS)
def test_faults_have_a_place(name: str, text: str, fact: str, shown: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    message = refusal(path).message
    assert fact in message
    assert shown in message


@pytest.mark.parametrize("extension", SAME)
def test_a_file_cut_short_anywhere(extension: str, tmp_path: Path) -> None:
    path, data = tmp_path / f"config.{extension}", SAME[extension].encode()
    refused = 0
    for length in range(len(data)):
        path.write_bytes(data[:length])
        try:
            read_config(path)
        except ConfigError as error:
            assert str(path) in error.message  # noqa: PT017  either outcome is right, a third is not
            refused += 1
    assert refused > 5


@pytest.mark.parametrize("extension", ["yaml", "toml", "json"])
@given(data=st.binary() | st.text("{}[]:,-!&*<>\"'\n #ab01=.|%@", max_size=30).map(str.encode))
@settings(deadline=None)
def test_noise_is_refused_or_read(extension: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"config.{extension}"
        path.write_bytes(data)
        try:
            assert isinstance(read_config(path).values, dict)
        except ConfigError as error:
            assert str(path) in error.message  # noqa: PT017  either outcome is right, a third is not


def test_aliases_are_fine_until_they_explode(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("a: &a {x: [1]}\nb: {<<: *a, y: 2}\nc: [*a, *a]\n")
    assert read_config(path).values == {"a": {"x": [1]}, "b": {"x": [1], "y": 2}, "c": [{"x": [1]}, {"x": [1]}]}
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(
        f"{one}: &{one} [{', '.join(['*' + last] * 9)}]\n" for last, one in zip("abcdefgh", "bcdefghi", strict=True)
    )
    path.write_text(bomb)
    assert "more than 200000 values" in refusal(path).message


def test_merge_keys_that_explode(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    bomb = "a: &a {x: 1}\n"
    bomb += "".join(
        f"{one}: &{one} {{<<: [{', '.join(['*' + last] * 9)}]}}\n"
        for last, one in zip("abcdefgh", "bcdefghi", strict=True)
    )
    path.write_text(bomb)
    assert "grow without bound" in refusal(path).message


# ---------------------------------------------------------------- what is written reads back

keys = st.text(max_size=6) | st.sampled_from(
    ["class", "a-b", "{{ fileDirname }}", "1e3", "yes", "<<", "=", "self", "", "0"]
)
floats = st.floats(allow_nan=False) | st.sampled_from([1e-3, -0.0, 1e22, math.inf, -math.inf, 5e-324])
texts = st.text() | st.sampled_from(
    [
        "{{$HOME:x}}",
        "{{{{ _base_.a }}",
        "1e-3",
        "null",
        "2026-01-01",
        "1:30",
        'it\'s "so"',
        " \n\t\\",
        "\\{{{",
        "word " * 50,
        "x" * 300,
    ]
)
scalars = st.none() | st.booleans() | st.integers() | floats | texts
tops = st.from_regex(r"[a-z][a-z_0-9]{0,5}", fullmatch=True).filter(
    lambda name: (
        name
        not in {
            "dict",
            "float",
            "text",
            "filename",
            "as",
            "if",
            "in",
            "is",
            "or",
            "and",
            "def",
            "del",
            "for",
            "not",
            "try",
        }
        and name
        not in {
            "pass",
            "from",
            "elif",
            "else",
            "with",
            "break",
            "class",
            "raise",
            "while",
            "yield",
            "async",
            "await",
            "global",
            "lambda",
            "return",
            "except",
            "import",
            "assert",
        }
    )
)


def values_of(tuples: bool, odd_keys: bool) -> st.SearchStrategy[dict[str, Any]]:
    names: st.SearchStrategy[Any] = keys | st.integers() | st.booleans() | st.none() if odd_keys else keys

    def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        found = st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4)
        return found | st.lists(inner, max_size=4).map(tuple) if tuples else found

    return st.dictionaries(tops, st.recursive(scalars, containers, max_leaves=20), max_size=4)


def typed(value: Any) -> Any:
    """The value as text that tells 1 from 1.0 and True, () from [], and 0.0 from -0.0."""
    if isinstance(value, dict):
        return [(typed(key), typed(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [typed(item) for item in value]
    return type(value).__name__, repr(value)


def assert_reads_back(values: dict[str, Any], form: Literal["py", "json", "yaml"]) -> None:
    text = dump_config(values, form)
    assert text == dump_config(values, form)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"config.{form}"
        path.write_text(text, encoding="utf-8")
        assert typed(read_config(path).values) == typed(values)


quick = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(values_of(tuples=True, odd_keys=True))
def test_python_reads_back(values: dict[str, Any]) -> None:
    assert_reads_back(values, "py")


@quick
@given(values_of(tuples=False, odd_keys=True))
def test_yaml_reads_back(values: dict[str, Any]) -> None:
    assert_reads_back(values, "yaml")


@quick
@given(values_of(tuples=False, odd_keys=False))
def test_json_reads_back(values: dict[str, Any]) -> None:
    assert_reads_back(values, "json")


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_tuples_become_lists(form: Literal["json", "yaml"], tmp_path: Path) -> None:
    path = tmp_path / f"config.{form}"
    path.write_text(dump_config({"a": (1, (2, [3]))}, form))
    assert read_config(path).values == {"a": [1, [2, [3]]]}


@pytest.mark.parametrize("form", ["py", "yaml"])
def test_nan_is_kept(form: Literal["py", "yaml"], tmp_path: Path) -> None:
    path = tmp_path / f"config.{form}"
    path.write_text(dump_config({"a": [math.nan]}, form))
    assert math.isnan(read_config(path).values["a"][0])


def test_python_is_laid_out_for_people() -> None:
    values = {
        "task": "detection2d",
        "export": {
            "mode": "both",
            "work_dir": "work_dirs/yolox",
            "sample_idx": 3,
            "device": "cuda:0",
            "verify": {"on": True},
        },
        "classes": ("car", "truck", "bus"),
        "labels": {"a-b": 1, 0: (1,)},
        "numbers": list(range(40)),
        "limit": math.inf,
    }
    assert dump_config(values, "py") == (
        "task = 'detection2d'\n"
        "export = dict(\n"
        "    mode='both',\n"
        "    work_dir='work_dirs/yolox',\n"
        "    sample_idx=3,\n"
        "    device='cuda:0',\n"
        "    verify=dict(on=True),\n"
        ")\n"
        "classes = ('car', 'truck', 'bus')\n"
        "labels = {'a-b': 1, 0: (1,)}\n"
        "numbers = [\n"
        "    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,\n"
        "    26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39,\n"
        "]\n"
        'limit = float("inf")\n'
    )


@given(
    st.dictionaries(tops, st.recursive(scalars, lambda inner: st.lists(inner, max_size=9), max_leaves=30), max_size=3)
)
@settings(max_examples=60, deadline=None)
def test_python_lines_are_short(values: dict[str, Any]) -> None:
    assert all(
        len(line) <= 100 for line in dump_config(values, "py").split("\n") if not line.strip().rstrip(",").isdigit()
    )


@pytest.mark.parametrize(
    ("values", "form", "fact"),
    [
        ({"a b": 1}, "py", "'a b' cannot be assigned"),
        ({"class": 1}, "py", "'class' cannot be assigned"),
        ({"dict": 1}, "py", "'dict' cannot be assigned"),
        ({"_base_": "x"}, "yaml", "'_base_' cannot be a top-level name"),
        ({"filename": "x"}, "json", "'filename' cannot be a top-level name"),
        ({0: 1}, "yaml", "0 cannot be a top-level name"),
        ({"a": [{"b": math.nan}]}, "json", "`a.0.b` is NaN"),
        ({"a": {"b": {3: 1}}}, "json", "`a.b` has the key 3"),
        ({"a": {"b": {None: 1}}}, "json", "`a.b` has the key None"),
        ({"a": {"b": {1, 2}}}, "py", "`a.b` is a set"),
    ],
)
def test_what_a_format_cannot_hold(values: dict[str, Any], form: Literal["py", "json", "yaml"], fact: str) -> None:
    with pytest.raises(ConfigError) as caught:
        dump_config(values, form)
    assert fact in caught.value.message
    assert caught.value.hint


def test_yaml_takes_names_that_python_cannot_assign_to(tmp_path: Path) -> None:
    assert_reads_back({"a b": 1, "class": {"dict": 2}}, "yaml")
