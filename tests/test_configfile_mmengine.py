"""What is read equals what mmengine's own Config reads, down to the types; where not, on purpose and listed here."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.config import Config

from awml_deploy_core.configfile import dump_config, merge, read_config
from awml_deploy_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

Tree = dict[str, str]


def write(folder: Path, tree: Mapping[str, str]) -> Path:
    """Write the files and answer the last one."""
    path = folder
    for name, text in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return path


def typed(value: Any) -> Any:
    """The value with the type of everything beside it, so that 1, 1.0 and True differ and so do [] and ()."""
    if isinstance(value, dict):
        return {typed(key): typed(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value).__name__, tuple(map(typed, value)) if isinstance(value, tuple) else [*map(typed, value)]
    return type(value).__name__, value


BASE = """
model = dict(type='YOLOX', depth=0.33, neck=dict(type='PAFPN', channels=[96, 192], out=96), size=(640, 640))
data = [dict(type='Load'), dict(type='Resize', scale=(640, 480), keep_ratio=True)]
name, count, rate, flag, nothing = 'base', 3, 1e-3, False, None
table = {'a-b': 1, 0: 'car', 'nested': {'x': {'y': {'z': (1, [2, (3,)])}}}}
"""

CLASSIC: dict[str, Tree] = {
    "no base": {"config.py": BASE},
    "one base": {"base.py": BASE, "config.py": "_base_ = 'base.py'\nmodel = dict(depth=1.0)\n"},
    "base in a list": {"base.py": BASE, "config.py": "_base_ = ['./base.py']\nname = 'mine'\n"},
    "two bases": {
        "one.py": "a = dict(x=1)",
        "two.py": "b = (1,)",
        "config.py": "_base_ = ['one.py', 'two.py']\na = dict(y=b'')\na = dict(y=2)",
    },
    "an expression as base": {"base.py": BASE, "config.py": "_base_ = ['ba' + 'se.py'] + []\n"},
    "nested folders": {
        "base/root.py": "a = dict(b=dict(c=1, d=2))\nlist_ = [1, 2]",
        "base/middle.py": "_base_ = './root.py'\na = dict(b=dict(c=3))",
        "leaf/config.py": "_base_ = '../base/middle.py'\na = dict(b=dict(e=4))\nlist_ = [3]",
    },
    "delete": {"base.py": BASE, "config.py": "_base_ = 'base.py'\nmodel = dict(_delete_=True, type='Other')\n"},
    "delete in depth": {
        "base.py": BASE,
        "config.py": (
            "_base_ = 'base.py'\n"
            "model = dict(neck=dict(_delete_=True, a=1), depth=2)\n"
            "table = dict(nested=dict(x=dict(_delete_=True)))"
        ),
    },
    "delete is false": {"base.py": BASE, "config.py": "_base_ = 'base.py'\nmodel = dict(_delete_=False, depth=7)\n"},
    "delete what is no dict": {"base.py": BASE, "config.py": "_base_ = 'base.py'\ncount = dict(_delete_=True, a=1)\n"},
    "delete twice on the way": {
        "root.py": "a = dict(x=1, y=dict(p=1, q=2))",
        "middle.py": "_base_ = 'root.py'\na = dict(_delete_=True, y=dict(r=3))",
        "config.py": "_base_ = 'middle.py'\na = dict(y=dict(_delete_=True, s=4), z=5)",
    },
    "an empty dict over a dict": {"base.py": BASE, "config.py": "_base_ = 'base.py'\nmodel = dict()\ntable = {}"},
    "a scalar over a dict": {"base.py": BASE, "config.py": "_base_ = 'base.py'\nmodel = None\ntable = [1]\ndata = ()"},
    "int keys": {"base.py": BASE, "config.py": "_base_ = 'base.py'\ntable = {0: 'bus', 1: 'bike', '0': 'text'}"},
    "references as text": {
        "base.py": BASE,
        "config.py": (
            "_base_ = 'base.py'\n"
            "mine = dict(a={{ _base_.model.neck }}, b=[{{_base_.rate}}, ({{ _base_.data }},)])\n"
            "c = {{_base_.table.nested.x}}"
        ),
    },
    "references as attributes": {
        "base.py": BASE,
        "config.py": (
            "_base_ = 'base.py'\n"
            "a = _base_.model.neck.channels + [1]\n"
            "b = _base_['data'][1].scale\n"
            "c = dict(_base_.model, depth=4)\n"
            "d = _base_.model.get('none', 5)\n"
        ),
    },
    "a base changed in place": {
        "base.py": BASE,
        "config.py": (
            "_base_ = 'base.py'\n"
            "_base_.model.depth = 9\n"
            "_base_.data.append(dict(type='Pad'))\n"
            "_base_.model.neck.update(dict(extra=dict(k=1)))\n"
            "_base_.data[0].new = 1\n"
            "del _base_.model.size\n"
        ),
    },
    "a copy changed": {
        "base.py": BASE,
        "config.py": "_base_ = 'base.py'\nm = _base_.model.copy()\nm.depth = 8\nm.neck.out = 1\n",
    },
    "variables": {
        "some.dir/config.py": (
            "a = '{{ fileDirname }}'\nb = '{{fileBasename}}'\nc = '{{  fileBasenameNoExtension }}/{{ fileExtname}}'\n"
        )
    },
    "variables of a base": {
        "sub/base.py": "a = '{{ fileBasename }}'",
        "config.py": "_base_ = 'sub/base.py'\nb = '{{ fileBasename }}'",
    },
    "environment": {
        "config.py": (
            "a = '{{$AWML_SET:/none}}/x'\n"
            "b = {{'$AWML_NUMBER:80'}}\n"
            "c = {{'$AWML_UNSET:2.5'}}\n"
            "d = '{{$AWML_UNSET:x y}}'\n"
            "e = '{{ $AWML_SET:1 }}{{ $AWML_SET:2 }}'\n"
            'f="{{$AWML_UNSET:d}}"'
        )
    },
    "environment in _base_": {"set.py": "a = 1", "config.py": "_base_ = '{{$AWML_STEM:other}}.py'"},
    "functions, modules, loops": {
        "config.py": (
            "import math\n"
            "import json.decoder as jd\n"
            "def f(x):\n"
            "    return x * scale\n"
            "scale = 3\n"
            "g = lambda: 1\n"
            "a = f(2)\n"
            "b = math.ceil(jd.NaN if False else 2.5)\n"
            "c = [f(i) for i in range(3)]\n"
            "for i in range(2):\n"
            "    d = i\n"
            "if scale > 2:\n"
            "    e = dict(x=math.pi)\n"
            "__hidden__ = 1\n"
        )
    },
    "yaml with a python base": {
        "base.py": BASE,
        "config.yaml": (
            "_base_: base.py\n"
            "model:\n"
            "  _delete_: true\n"
            "  neck: {{ _base_.model.neck }}\n"
            "b: [{{ _base_.rate }}, 'x']\n"
            "c: '{{ fileBasename }}'\n"
            "d: {{$AWML_NUMBER:4}}\n"
        ),
    },
    "python with a yaml base": {
        "base.yaml": "a: &anchor {x: 1, y: [1, 2.5, null, yes]}\nb: {<<: *anchor, z: 3}\nwords: 'ü\"'\n",
        "config.py": "_base_ = ['base.yaml']\nb = dict(y=_base_.a.y)\na = dict(x='neu ✓')\n",
    },
    "json all the way": {
        "base.json": '{"a": {"b": [1, 2.0, null]}, "t": true}',
        "config.json": '{"_base_": "./base.json", "a": {"c": {{ _base_.a.b }}}}',
    },
    "yaml lists of bases": {
        "a.json": '{"a": 1}',
        "b.yml": "b: {c: 2}",
        "config.yaml": "_base_: [a.json, './b.yml']\nb: {d: 3}",
    },
}

LAZY: dict[str, Tree] = {
    "star": {
        "base.py": BASE,
        "config.py": (
            "from mmengine.config import read_base\n"
            "with read_base():\n"
            "    from .base import *\n"
            "\n"
            "model.depth = 2\n"
            "extra = dict(x=data[1])\n"
        ),
    },
    "names": {
        "base.py": BASE,
        "config.py": (
            "with read_base():\n"
            "    from .base import model, data as steps\n"
            "\n"
            "model.update(neck=dict(out=1), depth=dict(a=1))\n"
            "steps.append(dict(type='Pad'))\n"
        ),
    },
    "parent folders": {
        "base/deep/root.py": "a = dict(b=1)",
        "base/middle.py": (
            "from mmengine.config import read_base\nwith read_base():\n    from .deep.root import *\na.update(c=2)\n"
        ),
        "leaf/config.py": (
            "from mmengine.config import read_base\n"
            "with read_base():\n"
            "    from ..base.middle import a\n"
            "d = [a, dict(a, c=3)]\n"
        ),
    },
    "two modules": {
        "one.py": "a = dict(x=1)\nb = 1",
        "two.py": "b = (2,)\nc = a = [3]",
        "config.py": "with read_base():\n    from .one import *\n    from .two import *\nd = b\n",
    },
    "merge with delete": {
        "base.py": BASE,
        "config.py": (
            "with read_base():\n"
            "    from .base import *\n"
            "model.merge(dict(neck=dict(_delete_=True, a=dict(b=1)), size=dict(_delete_=True, w=1), depth=4))\n"
        ),
    },
    "imported classes": {
        "base.py": "from nowhere.optim import SGD\noptimizer = dict(type=SGD, lr=1e-2)\n",
        "config.py": (
            "from mmengine.config import read_base\n"
            "import nowhere.models\n"
            "import nowhere.models.heads\n"
            "from elsewhere import Loss as Criterion\n"
            "import elsewhere.data as D\n"
            "with read_base():\n"
            "    from .base import *\n"
            "model = dict(type=nowhere.models.Net, head=nowhere.models.heads.Head, loss=(Criterion, [D.A.b]))\n"
            "alias = Criterion\n"
            "optimizer.update(kind=SGD)\n"
        ),
    },
    "standard library": {
        "base.py": "a = 1",
        "config.py": (
            "from math import floor\n"
            "from fnmatch import translate as j\n"
            "with read_base():\n"
            "    from .base import *\n"
            "b = floor(2.5) + a\n"
            "c = j('x')\n"
        ),
    },
    "attributes of sections": {
        "base.py": BASE,
        "config.py": (
            "with read_base():\n"
            "    from .base import *\n"
            "model.neck.new = dict(k=dict(v=1))\n"
            "model.neck.new.k.v = 2\n"
            "model['size'] = [1]\n"
            "del model['depth']\n"
            "name = name + '!'\n"
            "table.nested.x.pop('y')\n"
        ),
    },
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWML_SET", "/data set")
    monkeypatch.setenv("AWML_NUMBER", "17")
    monkeypatch.setenv("AWML_STEM", "set")
    monkeypatch.delenv("AWML_UNSET", raising=False)
    # Inside a virtual environment mmengine looks for the standard library in the wrong folder and does not import it.
    monkeypatch.setattr("mmengine.config.utils.PYTHON_ROOT_DIR", str(Path(json.__file__).parents[2]))


def oracle(path: Path) -> Any:
    return Config.fromfile(str(path)).to_dict()


@pytest.mark.parametrize("tree", [pytest.param(tree, id=name) for name, tree in {**CLASSIC, **LAZY}.items()])
def test_same_values_as_mmengine(tree: Tree, tmp_path: Path) -> None:
    path = write(tmp_path, tree)
    assert typed(read_config(path).values) == typed(oracle(path))


@pytest.mark.parametrize(
    "tree",
    [
        pytest.param(
            {"a.py": "x = 1", "b.py": "x = 1", "config.py": "_base_ = ['a.py', 'b.py']"}, id="key in two bases"
        ),
        pytest.param({"a.py": "x = 1", "config.py": "_base_ = 'a.py'\nx = dict(y=1)"}, id="dict over number"),
        pytest.param({"a.py": "x = [1, 2]", "config.py": "_base_ = 'a.py'\nx = {'0': 3}"}, id="index into list"),
        pytest.param(
            {"a.py": "x = [dict(y=1)]", "config.py": "_base_ = 'a.py'\nx = {'0': dict(y=2)}"}, id="dict into list"
        ),
        pytest.param({"config.py": "filename = 'x'"}, id="reserved name"),
        pytest.param({"config.py": "_base_ = 'missing.py'"}, id="missing base"),
        pytest.param({"config.py": "_base_ = 3"}, id="base is a number"),
        pytest.param({"config.py": "x = '{{$AWML_UNSET:}}'"}, id="unset variable"),
        pytest.param({"a.py": "x = 1", "config.py": "_base_ = 'a.py'\ny = _base_.z"}, id="unknown reference"),
        pytest.param(
            {"a.yaml": "x: 1", "config.yaml": "_base_: a.yaml\ny: {{ _base_.z }}"}, id="unknown reference in yaml"
        ),
        pytest.param({"config.py": "with read_base():\n    from . import x"}, id="import of a folder"),
        pytest.param({"config.py": "with read_base():\n    x = 1"}, id="statement under read_base"),
        pytest.param({"a.py": "x = 1", "config.py": "with read_base():\n    from .a import y"}, id="unknown name"),
        pytest.param({"a.py": "x = 1", "config.py": "with read_base():\n    from a import x"}, id="absolute module"),
        pytest.param(
            {"a.py": "x = 1", "config.py": "_base_ = 'a.py'\nwith read_base():\n    from .a import x"}, id="both styles"
        ),
        pytest.param({"config.py": "from nowhere import *\nx = 1"}, id="star of a package"),
        pytest.param({"config.py": "x ="}, id="syntax"),
    ],
)
def test_what_mmengine_refuses_is_refused(tree: Tree, tmp_path: Path) -> None:
    path = write(tmp_path, tree)
    with pytest.raises(Exception):  # noqa: B017, PT011  mmengine raises eight different classes here
        oracle(path)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint


# ---------------------------------------------------------------- many generated configs

names = st.sampled_from(["a", "b", "c", "type", "two words"])
scalars = (
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text("ab'\"\\\n é", max_size=4)
)
leaves = scalars | st.lists(scalars, max_size=3) | st.lists(scalars, min_size=1, max_size=3).map(tuple)


def nested(deletes: bool) -> st.SearchStrategy[dict[str, Any]]:
    def dicts(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        content = st.dictionaries(names, inner, max_size=4)
        marked = st.tuples(content, st.sampled_from([None, None, True, False])).map(
            lambda pair: pair[0] if pair[1] is None else {**pair[0], "_delete_": pair[1]}
        )
        return marked if deletes else content

    deep = st.recursive(leaves, lambda inner: dicts(inner) | st.lists(inner, max_size=2), max_leaves=12)
    return st.dictionaries(st.sampled_from("abc"), deep | dicts(deep), max_size=3)


def without_leftovers(value: Any) -> Any:
    """What mmengine answers, without the `_delete_` that it leaves where there was nothing to delete."""
    if isinstance(value, dict):
        return {key: without_leftovers(item) for key, item in value.items() if key != "_delete_"}
    if isinstance(value, (list, tuple)):
        return type(value)(map(without_leftovers, value))
    return value


def text_of(values: dict[str, Any]) -> str:
    """Python that Python's own repr writes, so that a fault of `dump_config` cannot hide one of the reader."""
    lines = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    return f"inf = float('inf')\n{lines}del inf\n"


def outcome(read: Any, path: Path) -> Any:
    try:
        return typed(without_leftovers(read(path)))
    except (ConfigError, TypeError):
        return "refused"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(base=nested(deletes=False), middle=nested(deletes=True), top=nested(deletes=True))
def test_generated_classic_configs(base: dict[str, Any], middle: dict[str, Any], top: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tree = {
            "base.py": text_of(base),
            "middle.py": "_base_ = 'base.py'\n" + text_of(middle),
            "config.py": "_base_ = 'middle.py'\n" + text_of(top),
        }
        path = write(Path(folder), tree)
        assert outcome(lambda file: read_config(file).values, path) == outcome(oracle, path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(base=nested(deletes=False), update=nested(deletes=False), change=nested(deletes=True))
def test_generated_lazy_configs(base: dict[str, Any], update: dict[str, Any], change: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tree = {
            "base.py": f"inf = float('inf')\nroot = {base!r}\nother = {base!r}\ndel inf\n",
            "config.py": "with read_base():\n    from .base import *\ninf = float('inf')\n"
            f"root.update({update!r})\nother.merge({change!r})\ndel inf\n",
        }
        path = write(Path(folder), tree)
        assert outcome(lambda file: read_config(file).values, path) == outcome(oracle, path)


@settings(max_examples=60, deadline=None)
@given(base=nested(deletes=False), override=nested(deletes=True))
def test_merge_by_itself(base: dict[str, Any], override: dict[str, Any]) -> None:
    before = typed(base), typed(override)
    try:
        mine = merge(base, override)
    except ConfigError:
        mine = {"refused": True}
    assert (typed(base), typed(override)) == before
    try:
        theirs = Config._merge_a_into_b(override, base)
    except TypeError:
        theirs = {"refused": True}
    assert typed(mine) == typed(Config(theirs).to_dict())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values=nested(deletes=False))
def test_mmengine_reads_what_is_dumped(values: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), {"config.py": dump_config(values, "py")})
        assert typed(oracle(path)) == typed(values)


# ---------------------------------------------------------------- differences on purpose


def differs(tmp_path: Path, tree: Tree) -> tuple[dict[str, Any], dict[str, Any]]:
    path = write(tmp_path, tree)
    return read_config(path).values, oracle(path)


def test_names_that_are_no_settings_are_left_out(tmp_path: Path) -> None:
    mine, theirs = differs(
        tmp_path, {"config.py": "from math import pi, sqrt\nclass A: pass\n_size = 2\narea = _size * pi"}
    )
    assert mine == {"area": 2 * 3.141592653589793}
    assert set(theirs) == {"pi", "sqrt", "A", "_size", "area"}


def test_underscored_names_of_a_base_can_be_used(tmp_path: Path) -> None:
    mine, theirs = differs(
        tmp_path, {"base.py": "_size = 2\na = 1", "config.py": "_base_ = 'base.py'\nb = _base_._size + 1"}
    )
    assert (mine, theirs) == ({"a": 1, "b": 3}, {"_size": 2, "a": 1, "b": 3})


def test_an_imported_name_that_is_assigned_is_a_setting(tmp_path: Path) -> None:
    tree = {"base.py": "from nowhere import lr", "config.py": "with read_base():\n    from .base import *\nlr = 1\n"}
    assert differs(tmp_path, tree) == ({"lr": 1}, {})


def test_a_delete_without_object_leaves_nothing(tmp_path: Path) -> None:
    mine, theirs = differs(
        tmp_path, {"base.py": "a = 1", "config.py": "_base_ = 'base.py'\nb = dict(_delete_=True, c=[dict(_delete_=1)])"}
    )
    assert mine == {"a": 1, "b": {"c": [{}]}}
    assert theirs == {"a": 1, "b": {"_delete_": True, "c": [{"_delete_": 1}]}}


def test_a_class_in_a_classic_config_is_its_name_too(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"base.py": "a = 1", "config.py": "_base_ = 'base.py'\nfrom nowhere.models import Net\nb = dict(type=Net)"},
    )
    assert read_config(path).values == {"a": 1, "b": {"type": "nowhere.models.Net"}}


def test_variables_in_the_new_style(tmp_path: Path) -> None:
    tree = {
        "base.py": "a = 1",
        "config.py": "with read_base():\n    from .base import *\nb = '{{ fileBasename }}'\nc = {{$AWML_NUMBER:3}}\n",
    }
    assert read_config(write(tmp_path, tree)).values == {"a": 1, "b": "config.py", "c": 17}


def test_a_reference_in_python_can_be_computed_with(tmp_path: Path) -> None:
    tree = {
        "base.py": "a = dict(b=3)",
        "config.py": "_base_ = 'base.py'\nc = {{ _base_.a.b }} * 2\nd = {'x': 1, {{ _base_.a.b }}: 2}",
    }
    assert read_config(write(tmp_path, tree)).values == {"a": {"b": 3}, "c": 6, "d": {"x": 1, 3: 2}}


def test_yaml_numbers_and_dates(tmp_path: Path) -> None:
    mine, theirs = differs(tmp_path, {"config.yaml": "a: 1e-3\nb: 2026-01-01\nc: 0o17"})
    assert mine == {"a": 0.001, "b": "2026-01-01", "c": "0o17"}
    assert theirs["a"] == "1e-3"
    assert theirs["b"] != mine["b"]


@pytest.mark.parametrize("style", ["_base_ = 'base.py'\n", "with read_base():\n    from .base import *\n"])
@pytest.mark.parametrize("base", ["a = 1", "with read_base():\n    from .root import *\n", "_base_ = 'root.py'\n"])
def test_styles_may_be_mixed_between_files(style: str, base: str, tmp_path: Path) -> None:
    path = write(tmp_path, {"root.py": "a = 1", "base.py": base, "config.py": f"{style}b = 2\n"})
    assert read_config(path).values == {"a": 1, "b": 2}


def test_a_default_is_no_pattern(tmp_path: Path) -> None:
    path = write(
        tmp_path, {"config.yaml": "a: '{{ $AWML_UNSET:[1,(2+]. }}'\nb: '{{$AWML_UNSET:a.b}}{{$AWML_UNSET:axb}}'"}
    )
    assert read_config(path).values == {"a": "[1,(2+].", "b": "a.baxb"}
