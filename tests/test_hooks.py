"""Every hook: it gets exactly its arguments, its answer reaches the caller, and None is what the hook says it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from awml_deploy_core import PluginError, hookspecs
from awml_deploy_core.hookspecs import REQUIRED
from awml_deploy_core.plugins import Loaded, load

Toy = Callable[[str], Loaded]


@pytest.fixture
def toy(fake_distribution: Callable[..., Path]) -> Toy:
    """Install a plugin with that source beside the import of `hookimpl` and load it."""
    count = 0

    def make(source: str) -> Loaded:
        nonlocal count
        count += 1
        name = f"toy{count}"
        code = f"from awml_deploy_core import hookimpl\n\n{source}"
        fake_distribution(f"awml-{name}", entry_points={name: f"awml_{name}"}, modules={f"awml_{name}": code})
        return load(name, incomplete=True)

    return make


def check(hook: str, toy: Toy, **arguments: Any) -> None:
    """A toy that answers its arguments, one that answers None, and one that does not have the hook."""
    names = ", ".join(arguments)
    answer = toy(f"@hookimpl\ndef {hook}({names}):\n    return ({names},)\n").call(hook, **arguments)
    assert len(answer) == len(arguments)
    assert all(got is given for got, given in zip(answer, arguments.values(), strict=True))

    mute = toy(f"@hookimpl\ndef {hook}({names}):\n    return None\n")
    assert mute.ask(hook, **arguments) is None
    with pytest.raises(PluginError, match=rf"awml-toy2 1\.0: its hook {hook} answered None"):
        mute.call(hook, **arguments)

    absent = toy("")
    assert absent.ask(hook, **arguments) is None
    with pytest.raises(PluginError, match=rf"awml-toy3 1\.0: it does not implement the hook {hook}"):
        absent.call(hook, **arguments)


def test_hook_load_model(toy: Toy) -> None:
    check("load_model", toy, config=object())


def test_hook_load_samples(toy: Toy) -> None:
    check("load_samples", toy, purpose="evaluate", config=object())


def test_hook_export_workflow(toy: Toy) -> None:
    check("export_workflow", toy, config=object())


def test_hook_wrap_for_onnx(toy: Toy) -> None:
    check("wrap_for_onnx", toy, model=object(), component=object(), exact=True, config=object())


def test_hook_build_pipeline(toy: Toy) -> None:
    check("build_pipeline", toy, device="cuda:0", config=object())


def test_hook_compute_metrics(toy: Toy) -> None:
    check("compute_metrics", toy, records=[object()], config=object())


def test_hook_write_example(toy: Toy, tmp_path: Path) -> None:
    check("write_example", toy, directory=tmp_path)


def test_hook_compare_predictions(toy: Toy) -> None:
    check("compare_predictions", toy, reference=object(), candidate=object(), config=object())


def test_hook_draw_sample(toy: Toy) -> None:
    check("draw_sample", toy, frame=object(), predictions={"onnx": object()}, config=object())


def test_hook_hand_over(toy: Toy) -> None:
    check("hand_over", toy, target="autoware", artifacts=(object(),), config=object())


SPECIFIED = [name for name, value in vars(hookspecs).items() if hasattr(value, "awml_deploy_spec")]


@pytest.mark.parametrize("hook", SPECIFIED)
def test_every_hook_has_a_test(hook: str) -> None:
    assert f"test_hook_{hook}" in globals()


def test_the_list_of_hooks_is_not_empty() -> None:
    assert len(SPECIFIED) >= 10


@pytest.mark.parametrize("hook", REQUIRED)
def test_a_plugin_without_a_required_hook_does_not_load(
    hook: str, fake_distribution: Callable[..., Path], required_hooks: str
) -> None:
    without = required_hooks.replace(f"def {hook}(", f"def _{hook}(").replace("@hookimpl\ndef _", "def _")
    fake_distribution("awml-red", entry_points={"red": "awml_red"}, modules={"awml_red": without})
    with pytest.raises(PluginError, match=f"it lacks 1 required hook: {hook}"):
        load("red")


def test_the_first_answer_that_is_not_none_counts(toy: Toy) -> None:
    loaded = toy("@hookimpl\ndef hand_over(target):\n    return 0 if target == 'triton' else None\n")
    assert loaded.call("hand_over", target="triton", artifacts=(), config=None) == 0
    assert loaded.ask("hand_over", target="autoware", artifacts=(), config=None) is None
