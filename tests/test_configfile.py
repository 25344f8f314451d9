"""A config file becomes a plain dict; whatever is wrong with it is said with file, line and remedy."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from awml_deploy_core.configfile import ConfigSource, assign, merge, read_base, read_config
from awml_deploy_core.configfile.plain import plain
from awml_deploy_core.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write files into a fresh working directory; answers the last one, as a relative path."""
    monkeypatch.chdir(tmp_path)

    def write(**texts: str) -> Path:
        path = Path()
        for name, text in texts.items():
            path = Path(name if "." in name else f"{name}.py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(path: Path | str, **options: bool) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read_config(path, **options)
    assert caught.value.exit_code is ExitCode.CONFIG
    assert caught.value.hint
    return caught.value


# ---------------------------------------------------------------- what is answered


def test_source_names_every_file_base_first(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(root="a = 1", left="_base_ = 'root.py'\nb = 1", right="c = 1", top="_base_ = ['left.py', 'right.py']")
    source = read_config(path)
    files = tuple(tmp_path / name for name in ("root.py", "left.py", "right.py", "top.py"))
    assert source == ConfigSource(values={"a": 1, "b": 1, "c": 1}, path=Path("top.py"), files=files)


def test_a_file_read_twice_is_named_once(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(base="a = b = 1", top="with read_base():\n    from .base import a\n    from .base import b")
    assert read_config(path).files == (tmp_path / "base.py", tmp_path / "top.py")


def test_keys_keep_the_order_of_the_file(write: Callable[..., Path]) -> None:
    path = write(base="z = 1\nm = dict(b=1, a=2)", top="_base_ = 'base.py'\na = 1\nm = dict(c=3, a=4)")
    values = read_config(path).values
    assert [list(values), list(values["m"])] == [["z", "m", "a"], ["b", "a", "c"]]


def test_containers_are_plain(write: Callable[..., Path]) -> None:
    text = "from collections import OrderedDict, namedtuple\nP = namedtuple('P', 'x')\n"
    text += "a = OrderedDict(b=OrderedDict())\nc = P(P(1))\nd = _base_.e.f\n"
    values = read_config(write(base="e = dict(f=dict(g=1))", top=f"_base_ = 'base.py'\n{text}")).values
    assert values == {"e": {"f": {"g": 1}}, "a": {"b": {}}, "c": ((1,),), "d": {"g": 1}}
    assert {type(values["a"]), type(values["a"]["b"]), type(values["d"]), type(values["e"]["f"])} == {dict}
    assert {type(values["c"]), type(values["c"][0])} == {tuple}


class Colour(str, Enum):
    RED = "red"
    BLUE = "blue"


class Level(int, Enum):
    LOW = 1


@attrs.frozen
class Inner:
    size: tuple[int, int] = (1, 2)
    colours: dict[Colour, int] = attrs.field(factory=dict)


@attrs.frozen
class Outer:
    name: str
    inner: Inner = attrs.field(factory=Inner)
    twice: int = attrs.field(default=attrs.Factory(lambda self: 2 * len(self.name), takes_self=True))
    on: bool | int = True


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Outer(name="a"), {"name": "a"}),
        (Outer(name="a", inner=Inner(size=(3, 4)), twice=5), {"name": "a", "inner": {"size": (3, 4)}, "twice": 5}),
        (Outer(name="a", on=1), {"name": "a", "on": 1}),
        ([Inner(colours={Colour.RED: 1})], [{"colours": {"red": 1}}]),
        ({Colour.RED: Colour.BLUE, Level.LOW: PurePosixPath("a/b")}, {"red": "blue", 1: "a/b"}),
        ((np.float32(0.5), np.int64(3), np.bool_(True), np.str_("x")), (0.5, 3, True, "x")),
        ({np.int64(1): np.float64(2)}, {1: 2.0}),
    ],
)
def test_rich_values_become_plain(value: Any, expected: Any) -> None:
    found = plain(value, "a")
    assert found == expected
    assert repr(found) == repr(expected)


@pytest.mark.parametrize(
    ("value", "fact"),
    [
        ({"b": [{1, 2}]}, "`a.b.0` is a set"),
        (np.zeros(2), "`a` is a ndarray"),
        (range(3), "`a` is a range"),
        (b"x", "`a` is a bytes"),
        (1j, "`a` is a complex"),
        ({"f": len}, "`a.f` is a builtin_function_or_method"),
        ({"b": {(1, 2): 3}}, "a key in `a.b` is a tuple"),
        ({PurePosixPath("x"): 1, "x": 2}, "`a.x` is given twice"),
        (np.longdouble(1), "`a` is a longdouble"),
    ],
)
def test_what_cannot_be_plain_is_named(value: Any, fact: str) -> None:
    with pytest.raises(ConfigError, match=fact.replace("(", r"\(")) as caught:
        plain(value, "a")
    assert caught.value.hint


def test_values_that_hold_themselves(write: Callable[..., Path]) -> None:
    assert "nested more than 64 levels" in refusal(write(config="a = []\na.append(a)")).message
    path = write(config="a = [0] * 9\nfor _ in range(9):\n    a = [a] * 9")
    assert "config.py: `a" in refusal(path).message
    assert "more than 200000 values" in refusal(path).message


# ---------------------------------------------------------------- names from other modules


@pytest.mark.parametrize("style", ["_base_ = 'base.py'", "with read_base():\n    from .base import *"])
def test_nouns_of_this_package_in_both_styles(style: str, write: Callable[..., Path]) -> None:
    code = "from awml_deploy_core import Backend, OnnxConfig as Onnx\n"
    code += "mine = {Backend.ONNX: Onnx(simplify=False, opset_version=16)}\nonnx_config = dict(verbose=True)"
    base = "from awml_deploy_core import OnnxConfig\nonnx_config = OnnxConfig(opset_version=15)\n"
    values = read_config(write(base=base, config=f"{style}\n{code}")).values
    inherited = {"opset_version": 15} if "_base_" in style else {}
    assert values == {
        "onnx_config": {**inherited, "verbose": True},
        "mine": {"onnx": {"opset_version": 16, "simplify": False}},
    }
    assert {type(key) for key in values["mine"]} == {str}


def test_nothing_else_is_imported(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "nosy.py").write_text("raise SystemError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    text = "import nosy\nimport nosy.deep as d\nfrom nosy import A as B\ndef f():\n"
    text += "    from nosy.x import C\n    return C\n"
    text += "try:\n    import nosy.y\nexcept ImportError:\n    pass\nv = [nosy.z, d.e, B, B.c, f()]\nw = dict(type=B)"
    values = read_config(write(config=text)).values
    assert values == {"v": ["nosy.z", "nosy.deep.e", "nosy.A", "nosy.A.c", "nosy.x.C"], "w": {"type": "nosy.A"}}
    assert "nosy" not in sys.modules


def test_names_inside_functions_are_their_own(write: Callable[..., Path]) -> None:
    base = "model = 1\nfrom nowhere import Net"
    text = "with read_base():\n    from .base import *\nfrom nowhere import Other\n"
    text += "def f():\n    from nowhere import model\n    Other = 1\n    return Other\n"
    text += "a = [Other for Other in range(2)]\nb = f()\nc = Net\nNet = 5\nfrom nowhere import lr\nlr = 1"
    assert read_config(write(base=base, top=text)).values == {
        "model": 1,
        "a": [0, 1],
        "b": 1,
        "c": "nowhere.Net",
        "Net": 5,
        "lr": 1,
    }


def test_lazy_names_can_be_copied(write: Callable[..., Path]) -> None:
    text = "import copy\nfrom nowhere import Net\na = copy.deepcopy([Net, dict(type=Net.x)])"
    assert read_config(write(config=text)).values == {"a": ["nowhere.Net", {"type": "nowhere.Net.x"}]}


def test_a_lazy_name_cannot_be_called(write: Callable[..., Path]) -> None:
    message = refusal(write(config="import numpy as np\n\na = np.zeros(3)")).message
    assert message == "config.py:3: numpy.zeros is called, but configs do not import packages"


@pytest.mark.parametrize(
    "line",
    [
        "from mmengine.config import read_base",
        "from awml_deploy_core.configfile import read_base",
        "from mmengine import read_base",
        "",
    ],
)
def test_read_base_may_come_from_anywhere(line: str, write: Callable[..., Path]) -> None:
    path = write(base="a = 1", config=f"{line}\nwith read_base():\n    from .base import *\n")
    code = "import sys; sys.modules['mmengine'] = None\n"
    code += (
        f"from awml_deploy_core.configfile import read_config\nassert read_config({str(path)!r}).values == {{'a': 1}}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_base_in_an_installed_package(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(**{"configs_pkg/__init__.py": "raise SystemError('imported')", "configs_pkg/sub/base.py": "a = 1"})
    monkeypatch.syspath_prepend(tmp_path)
    assert read_config(write(config="with read_base():\n    from configs_pkg.sub.base import *")).values == {"a": 1}


def test_read_base_outside_a_config_explains() -> None:
    with pytest.raises(ConfigError, match="outside a config file"), read_base():
        pass


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("from deployment.core import Backend", "`from awml_deploy_core import Backend`"),
        (
            "from deployment.exporters.common.configs import ONNXExportConfig",
            "awml_deploy_core.OnnxConfig, or a plain dict",
        ),
        (
            "from autoware_ml.configs import TensorRTExportConfig, TensorRTModelInputConfig, TensorRTProfileConfig",
            "awml_deploy_core.CommonConfig, awml_deploy_core.ModelInput, awml_deploy_core.Profile, or a plain dict",
        ),
        ("import deployment.core as c", "plain dicts"),
        ("from projects.CenterPoint.models import Net", "plain dicts"),
        ("if False:\n    import autoware_ml", "plain dicts"),
    ],
)
def test_the_ancestor_is_refused_before_anything_runs(line: str, hint: str, write: Callable[..., Path]) -> None:
    path = write(config=f"raise SystemError('ran')\n{line}\n")
    error = refusal(path)
    assert error.message.startswith(f"config.py:{2 + line.count(chr(10))}: imports ")
    assert hint in str(error.hint)


# ---------------------------------------------------------------- what a config does while it runs


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("a = 1\nb = a / 0\n", "config.py:2: ZeroDivisionError: division by zero"),
        ("def f():\n    return {}['x']\n\na = f()\n", "config.py:2: KeyError: 'x'"),
        ("import json\n\na = json.loads('{')\n", "config.py:3: JSONDecodeError: Expecting property name"),
        ("import sys\nsys.exit('bye')\n", "config.py:2: SystemExit: bye"),
        ("a = missing\n", "config.py:1: NameError: name 'missing' is not defined"),
        ("from awml_deploy_core import Tensor\na = Tensor(name='', shape=())\n", "config.py:2: ValueError: "),
        ("from awml_deploy_core import Nothing\n", "config.py:1: ImportError: "),
        ("def f():\n    f()\nf()\n", "config.py:2: RecursionError"),
        ("raise Exception\n", "config.py:1: Exception"),
    ],
)
def test_a_failing_config_is_placed(text: str, fact: str, write: Callable[..., Path]) -> None:
    error = refusal(write(config=text))
    assert error.message.startswith(fact)
    assert error.__cause__ is not None


def test_interrupts_pass_through(write: Callable[..., Path]) -> None:
    with pytest.raises(KeyboardInterrupt):
        read_config(write(config="raise KeyboardInterrupt"))


@pytest.mark.parametrize("end", ["", "raise ValueError"])
def test_the_process_is_left_as_it_was(end: str, write: Callable[..., Path], tmp_path: Path) -> None:
    text = "import os, sys, types\nsys.path.insert(0, 'x')\nsys.path = ['y']\nos.mkdir('sub')\nos.chdir('sub')\n"
    text += "sys.modules['ghost'] = types.ModuleType('ghost')\nsys.modules['json'] = None\ndel sys.modules['attrs']\n"
    path, entries, modules = sys.path, list(sys.path), dict(sys.modules)
    with contextlib.suppress(ConfigError):
        read_config(write(config=text + end))
    assert sys.path is path
    assert sys.path == entries
    assert dict(sys.modules) == modules
    assert Path.cwd() == tmp_path
    assert not (tmp_path / "__pycache__").exists()


def test_prints_go_to_stderr(write: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    read_config(write(config="print('hello')\nimport sys\nsys.stdout.write('you')"))
    assert capsys.readouterr() == ("", "hello\nyou")


def test_nothing_heavy_is_imported_to_read() -> None:
    code = "import sys, awml_deploy_core.configfile\n"
    code += "assert not {'torch', 'numpy', 'onnx', 'mmengine', 'onnxruntime'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_safe_reads_no_code(write: Callable[..., Path]) -> None:
    write(base="raise SystemError('ran')")
    assert "was not run" in refusal("base.py", safe=True).message
    assert "base.py: a Python config" in refusal(write(**{"top.yaml": "_base_: base.py"}), safe=True).message
    write(**{"data.toml": "a = 1"})
    assert read_config(write(**{"top.yaml": "_base_: data.toml"}), safe=True).values == {"a": 1}


# ---------------------------------------------------------------- files that are not there, or not configs


def test_missing_files_name_the_nearest(write: Callable[..., Path]) -> None:
    write(yolox_s="a = 1", **{"centerpoint.yaml": "a: 1"})
    assert (refusal("yolox-s.py").message, refusal("yolox-s.py").hint) == (
        "yolox-s.py: no such file",
        "Did you mean yolox_s.py?",
    )
    assert refusal("centerpoint.py").hint == "Did you mean centerpoint.yaml?"
    assert refusal("no/where.py").hint == "There is no folder no either"
    assert refusal("centerpoint.yaml/x.py").message == "centerpoint.yaml/x.py: no such file"
    error = refusal(write(top="\n_base_ = ['../yolox.py', 'x.py']"))
    assert error.message == "../yolox.py: no such file, wanted by top.py:2"
    error = refusal(write(top="with read_base():\n    from .yolox import *"))
    assert (error.message, error.hint) == ("yolox.py: no such file, wanted by top.py:2", "Did you mean yolox_s.py?")


def test_directories(write: Callable[..., Path]) -> None:
    write(**{"folder/a.py": "a = 1", "folder/b.txt": ""})
    error = refusal("folder")
    assert (error.message, error.hint) == ("folder: a directory, not a config file", "Name a file in it: a.py")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_pipes_do_not_hang(write: Callable[..., Path]) -> None:
    write(config="")
    os.mkfifo("pipe.py")
    assert refusal("pipe.py").message == "pipe.py: not a regular file"


def test_unreadable_files(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    path = write(config="a = 1")
    monkeypatch.setattr(Path, "read_bytes", denied)  # For root, no file is unreadable.
    error = refusal(path)
    assert error.message == "config.py: cannot be read, Permission denied"
    assert "permissions" in str(error.hint)


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        (b"a = '\xff'", "not UTF-8 text, byte 0xff at offset 5"),
        ("a = 1".encode("utf-16"), "not UTF-8 text, byte 0xff at offset 0"),
        (b"a = 1\0", "a binary file"),
        (b"#" * (2 * 2**20 + 1), "2097153 bytes are too large"),
    ],
)
def test_files_that_are_no_text(data: bytes, fact: str, write: Callable[..., Path]) -> None:
    path = write(config="")
    path.write_bytes(data)
    assert f"config.py: {fact}" in refusal(path).message


@pytest.mark.parametrize("name", ["model.pth", "config.txt", "config"])
def test_unknown_extensions(name: str, write: Callable[..., Path], tmp_path: Path) -> None:
    write(config="")
    (tmp_path / name).write_bytes(b"\x80")
    error = refusal(name)
    assert "is no config format" in error.message
    assert error.hint == "Known extensions: .py, .yaml, .yml, .json, .toml"


# ---------------------------------------------------------------- bases that cannot be


def test_circles_are_shown(write: Callable[..., Path]) -> None:
    write(a="_base_ = 'b.py'", b="with read_base():\n    from .c import *", **{"c.yaml": "_base_: a.py"})
    write(c="_base_ = 'c.yaml'")
    message = refusal("a.py").message
    assert message == "c.yaml: inherits in a circle, a.py -> b.py -> c.py -> c.yaml -> a.py"


@pytest.mark.parametrize("text", ["_base_ = './config.py'", "with read_base():\n    from .config import *"])
def test_a_config_that_names_itself(text: str, write: Callable[..., Path]) -> None:
    assert refusal(write(config=text)).message.endswith(": inherits from itself")


def test_circles_through_links_end(write: Callable[..., Path]) -> None:
    write(a="_base_ = 'link.py'")
    Path("link.py").symlink_to("a.py")
    assert "inherits from itself" in refusal("a.py").message


def test_endless_chains(write: Callable[..., Path]) -> None:
    write(**{f"c{index}.py": f"_base_ = 'c{index + 1}.py'" for index in range(60)})
    assert "more than 50 files" in refusal("c0.py").message


def test_a_key_in_two_bases(write: Callable[..., Path]) -> None:
    message = refusal(write(a="x = y = z = 1", b="y = 1\nx = 2", top="_base_ = ['a.py', 'b.py']")).message
    assert message == "top.py:1: the bases a.py and b.py both set 'y', 'x'"


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("_base_ = exit(3)", "config.py:1: `_base_` cannot be evaluated, SystemExit: 3"),
        ("_base_ = await x", "config.py:1: `_base_` cannot be evaluated, SyntaxError"),
        ("_base_ = 3", "config.py:1: `_base_` holds 3, not the name of a file"),
        ("_base_ = ['a.py', None]", "config.py:1: `_base_` holds None"),
        ("_base_ = ''", "config.py:1: `_base_` holds ''"),
        ("_base_ = dict(a=1)", "config.py:1: `_base_` holds {'a': 1}"),
        (
            "_base_ = 'mmdet::yolox.py'",
            "config.py:1: `_base_` names 'mmdet::yolox.py', a config inside an installed package",
        ),
        ("x = 'a.py'\n_base_ = x", "config.py:2: `_base_` cannot be evaluated, NameError"),
        ("if True:\n    _base_ = 'a.py'", "config.py:2: `_base_` is not set by one plain assignment"),
        ("_base_ = 'a.py'\n_base_ = 'b.py'", "config.py:1: `_base_` is not set by one plain assignment"),
        ("_base_ = ['a.py']\n_base_ += ['b.py']", "config.py:1: `_base_` is not set by one plain assignment"),
        (
            "_base_ = 'a.py'\nwith read_base():\n    from .a import *",
            "config.py:1: `_base_` and `with read_base():` in one",
        ),
        ("if True:\n    with read_base():\n        from .a import *", "config.py:2: `with read_base():` is nested"),
        ("with read_base():\n    import a", "config.py:2: only `from module import names`"),
        ("with read_base():\n    from . import a", "config.py:2: only `from module import names`"),
        ("with read_base():\n    from a import *", "config.py:2: 'a' is a whole package"),
        ("with read_base():\n    from a.b import *", "config.py:2: there is no package 'a'"),
        ("with read_base():\n    from .a import lr", "config.py:2: a.py has no 'lr'"),
        ("from .a import x", "config.py:1: a relative import outside"),
        ("from numpy import *", "config.py:1: `from numpy import *` outside"),
        (
            "_base_ = 'a.py'\nx = dict(y=dict(z=dict(v=1)))",
            "config.py: `x.y.z` is a dict, but the base has a list there",
        ),
        ("_base_ = 'a.py'\nb = '{{ _base_.x }}'", "config.py:2: a reference to the base within quotes, '_base_.x'"),
        ("_base_ = 'a.py'\nb = _base_.x.yy", "config.py:2: AttributeError: the base has no 'yy' here"),
        ("text = 1", "config.py: `text` is a reserved name"),
        ("\na = '{{ $NOT_SET_ANYWHERE:}}'", "config.py:2: the environment variable NOT_SET_ANYWHERE is not set"),
    ],
)
def test_bases_that_cannot_be(text: str, fact: str, write: Callable[..., Path]) -> None:
    message = refusal(write(a="x = dict(y=dict(z=[1]))", config=text)).message
    assert message.startswith(fact)


def test_references_of_data_files(write: Callable[..., Path]) -> None:
    write(base="a = dict(lr=1)")
    error = refusal(write(**{"top.yaml": "_base_: base.py\nb: {{ _base_.a.lrr }}"}))
    assert (error.message, error.hint) == ("top.yaml: the base has no `a.lrr`", "Did you mean 'lr' instead of 'lrr'?")
    error = refusal(write(**{"top.yaml": "_base_: base.py\nb: x {{ _base_.a.lr }}"}))
    assert "a reference to the base inside other text" in error.message
    assert "_base_.a.lr" in error.message


def test_base_of_wrong_type_in_data(write: Callable[..., Path]) -> None:
    assert refusal(write(**{"a.json": '{"_base_": {"x": 1}}'})).message.startswith("a.json: `_base_` holds {'x': 1}")


# ---------------------------------------------------------------- one value by its name

VALUES: dict[str, Any] = {"a": {"b": [{"c": 1}, (1, 2)], "n": None}, "t": {0: "car", "x.y": 1}, "s": "text"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-1.5e-3", -0.0015),
        ("'1'", "1"),
        ("[1, 2]", [1, 2]),
        ("(1, (2,))", (1, (2,))),
        ("1, 2", (1, 2)),
        ("{'a': None}", {"a": None}),
        ('{"a": [true, null, false]}', {"a": [True, None, False]}),
        ("None", None),
        ("null", None),
        ("True", True),
        ("false", False),
        (" 3 ", 3),
        ("cuda:0", "cuda:0"),
        ("/data/x y.pkl", "/data/x y.pkl"),
        ("fp16", "fp16"),
        ("", ""),
        ("1.2.3", "1.2.3"),
        ("007", "007"),
        ("[a, b]", "[a, b]"),
        ("a=b", "a=b"),
        ("print(1)", "print(1)"),
        ("C:\\data\\new", "C:\\data\\new"),
        ("'\\d'", "\\d"),
        ("(" * 5000, "(" * 5000),
        ("9" * 5000, "9" * 5000),
        ("yes", "yes"),
        ("ü ✓", "ü ✓"),
    ],
)
def test_text_to_value(text: str, value: Any) -> None:
    found = assign({}, "a.b", text)["a"]["b"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("s", {**VALUES, "s": 5}),
        ("new.deep.er", {**VALUES, "new": {"deep": {"er": 5}}}),
        ("a.b.0.c", {**VALUES, "a": {"b": [{"c": 5}, (1, 2)], "n": None}}),
        ("a.b.0.d", {**VALUES, "a": {"b": [{"c": 1, "d": 5}, (1, 2)], "n": None}}),
        ("a.b.1.1", {**VALUES, "a": {"b": [{"c": 1}, (1, 5)], "n": None}}),
        ("a.n.x", {**VALUES, "a": {"b": [{"c": 1}, (1, 2)], "n": {"x": 5}}}),
        ("t.0", {**VALUES, "t": {0: 5, "x.y": 1}}),
        ("t.1", {**VALUES, "t": {0: "car", "x.y": 1, "1": 5}}),
    ],
)
def test_assign_reaches(name: str, expected: dict[str, Any]) -> None:
    before = repr(VALUES)
    assert repr(assign(VALUES, name, "5")) == repr(expected)
    assert repr(VALUES) == before


@pytest.mark.parametrize(
    ("name", "fact", "hint"),
    [
        ("a.b.2.c", "`a.b.2` cannot be set: `a.b` is a list of 2", "`a.b` takes an index from 0 to 1"),
        ("a.b.-1", "`a.b.-1` cannot be set", "an index from 0 to 1"),
        ("a.b.first", "`a.b.first` cannot be set", "an index from 0 to 1"),
        ("a.b.²", "`a.b.²` cannot be set", "an index from 0 to 1"),
        ("s.x.y", "`s.x` cannot be set: `s` is 'text', not a dict or a list", "Set `s` itself"),
        ("", "'' is no name", "a.b.c=value"),
        ("a..b", "'a..b' is no name", "a.b.c=value"),
        (".a", "'.a' is no name", "a.b.c=value"),
    ],
)
def test_assign_leads_nowhere(name: str, fact: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        assign(VALUES, name, "5")
    assert fact in caught.value.message
    assert hint in str(caught.value.hint)


def test_assign_takes_plain_values_only() -> None:
    with pytest.raises(ConfigError, match="`a` is a set"):
        assign({}, "a", "{1, 2}")


@given(st.text(), st.lists(st.text("abc0", min_size=1), min_size=1, max_size=4))
def test_assign_never_fails_on_fresh_ground(text: str, parts: list[str]) -> None:
    try:
        found: Any = assign({}, ".".join(parts), text)
    except ConfigError as error:
        assert "which a config cannot hold" in error.message or "nested" in error.message  # noqa: PT017
        return
    for part in parts:
        found = found[part]
    assert plain(found) == found


def test_merge_shows_where() -> None:
    with pytest.raises(ConfigError, match=r"`a\.b` is a dict, but the base has a int there"):
        merge({"a": {"b": 1}}, {"a": {"b": {}}})
    assert merge({"a": {"b": 1}}, {"a": {"b": {"_delete_": True, "c": 2}}}) == {"a": {"b": {"c": 2}}}
