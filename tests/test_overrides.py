"""The config's word about the graphs wins over the plugin's, and what contradicts the network is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from awml_deploy_core.config import Config
from awml_deploy_core.errors import ConfigError
from awml_deploy_core.overrides import Renamed, resolve, to_file
from awml_deploy_core.records import Array, Axis, Component, Tensor
from awml_deploy_core.strict import structure

IMAGE = Component(
    name="net",
    inputs=(Tensor(name="image", shape=("batch", 3, "height", "width")),),
    outputs=(Tensor(name="boxes", shape=("batch", "n", 4)), Tensor(name="scores", shape=("batch", "n"))),
    axes=(
        Axis(name="batch", max=8, independent=True),
        Axis(name="height", min=32, max=1024),
        Axis(name="width", min=32, max=1024),
        Axis(name="n"),
    ),
)
HEAD = Component(
    name="head", inputs=(Tensor(name="x", shape=(1, 4)),), outputs=(Tensor(name="y", shape=(1, 2)),), axes=()
)


def graph(values: dict[str, Any], component: Component = IMAGE) -> Any:
    (found,) = resolve([component], structure(values, Config, where="c.py"))
    return found


def axis(component: Component, name: str) -> Axis:
    return component.axis(name)


def test_without_a_word_the_plugin_s_is_taken() -> None:
    found = graph({})
    assert found.component == found.filed == IMAGE
    assert (found.onnx_file, found.engine_file) == ("net.onnx", "net.engine")


def test_names_in_the_file_change_and_names_in_the_pipeline_stay() -> None:
    found = graph({"model_io": {"input_name": "images", "output_names": ["b", "s"]}})
    assert [tensor.name for tensor in found.component.inputs + found.component.outputs] == ["image", "boxes", "scores"]
    assert [tensor.name for tensor in found.filed.inputs + found.filed.outputs] == ["images", "b", "s"]
    assert list(to_file(found, {"image": 1})) == ["images"]


@pytest.mark.parametrize(
    "names",
    [
        {"output_name": "b", "additional_outputs": ["s"]},
        {"head_output_names": ["b", "s"]},
        {"output_names": ["b", "s"]},
    ],
)
def test_outputs_may_be_named_in_each_of_the_known_ways(names: dict[str, Any]) -> None:
    assert [tensor.name for tensor in graph({"model_io": names}).filed.outputs] == ["b", "s"]


def test_the_components_form_says_the_same() -> None:
    io = {"inputs": [{"name": "images"}], "outputs": [{"name": "b"}, {"name": "s"}]}
    found = graph({"components": {"net": {"onnx_file": "a.onnx", "engine_file": "b.engine", "io": io}}})
    assert [tensor.name for tensor in found.filed.outputs] == ["b", "s"]
    assert (found.onnx_file, found.engine_file) == ("a.onnx", "b.engine")


def test_a_batch_size_and_an_image_size_are_fixed_in_the_file() -> None:
    found = graph({"model_io": {"batch_size": 2, "input_shape": [3, 480, -1]}})
    assert axis(found.filed, "batch") == Axis(name="batch", dynamic=False, min=2, opt=2, max=2, independent=True)
    assert axis(found.filed, "height").dynamic is False
    assert axis(found.filed, "height").max == 480
    assert axis(found.filed, "width").dynamic is True


def test_dynamic_axes_rename_and_fix_the_rest() -> None:
    found = graph({"model_io": {"dynamic_axes": {"image": {0: "N", 2: "H"}}}})
    assert found.filed.inputs[0].shape == ("N", 3, "H", "width")
    assert found.filed.outputs[1].shape == ("N", "n")
    assert {a.name: a.dynamic for a in found.filed.axes} == {"N": True, "H": True, "width": False, "n": False}


def test_two_sizes_under_one_name_keep_the_name_apart() -> None:
    halved = Component(
        name="net",
        inputs=(Tensor(name="canvas", shape=("batch", 4, "height")),),
        outputs=(Tensor(name="heatmap", shape=("batch", 1, "height_out")),),
        axes=(Axis(name="batch", independent=True), Axis(name="height"), Axis(name="height_out")),
    )
    said = {"canvas": {0: "N", 2: "H"}, "heatmap": {0: "N", 2: "H"}}
    found = graph({"model_io": {"dynamic_axes": said}}, halved)
    assert found.filed.inputs[0].shape == ("N", 4, "H")
    assert found.filed.outputs[0].shape == ("N", 1, "height_out")
    assert all(each.dynamic for each in found.filed.axes)


def test_dynamic_axes_may_speak_the_file_s_names() -> None:
    found = graph({"model_io": {"input_name": "images", "dynamic_axes": {"images": {0: "N"}}}})
    assert found.filed.inputs[0].name == "images"
    assert found.filed.inputs[0].shape[0] == "N"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"components": {"nte": {}}}, "Did you mean 'net'?"),
        ({"model_io": {"output_names": ["b"]}}, "1 names (b) for 2 tensors"),
        ({"model_io": {"output_names": ["b", "b"]}}, "b occurs twice"),
        ({"model_io": {"input_shape": [4, 32, 32]}}, "the network needs (3, 'height', 'width')"),
        ({"model_io": {"input_shape": [32, 32]}}, "has 2 sizes, 'image' has 3"),
        ({"model_io": {"input_shape": [3, 8, 32]}}, "height = 8 is outside what the plugin allows, 32 to 1024"),
        ({"model_io": {"batch_size": 9}}, "batch = 9 is outside"),
        ({"model_io": {"input_dtype": "float16"}}, "the plugin's pipeline gives float32"),
        (
            {"components": {"net": {"io": {"inputs": [{"name": "image", "dtype": "int8"}]}}}},
            "io.inputs.image says int8",
        ),
        ({"onnx_config": {"multi_file": True}}, "multi_file is True, but the model has 1 graph"),
        ({"model_io": {"dynamic_axes": {"picture": {0: "N"}}}}, "no tensor is called 'picture'"),
        ({"model_io": {"dynamic_axes": {"image": {1: "C"}}}}, "axis 1 is 3 in every sample"),
        ({"model_io": {"dynamic_axes": {"image": {7: "C"}}}}, "axis 7 does not exist"),
        ({"model_io": {"dynamic_axes": {"image": {0: "N"}, "boxes": {0: "M"}}}}, "one axis is called 'N' and 'M'"),
    ],
)
def test_what_contradicts_the_network_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        graph(values)
    assert words in str(caught.value)


def test_a_batch_that_cannot_be_fixed_is_refused() -> None:
    assert graph({"model_io": {"batch_size": 1}}, HEAD).filed == HEAD
    with pytest.raises(ConfigError, match="no batch axis that can be fixed"):
        graph({"model_io": {"batch_size": 2}}, HEAD)


def test_a_single_graph_section_does_not_fit_several_graphs() -> None:
    config = structure({"onnx_config": {"save_file": "a.onnx"}}, Config, where="c.py")
    with pytest.raises(ConfigError, match=r"2 graphs.*\n.*components.<name>.onnx_file"):
        resolve([IMAGE, HEAD], config)


class Backend:
    """Runs under the names in the file."""

    device = "cpu"

    def __init__(self) -> None:
        self.components: dict[str, Component] = {}
        self.noted = ("", 0.0)

    def __call__(self, component: str, /, **inputs: Array) -> dict[str, Array]:
        assert (component, list(inputs)) == ("net", ["images"])
        return {"b": inputs["images"] + 1, "s": inputs["images"] - 1}

    def note(self, name: str, value: float = 1) -> None:
        self.noted = (name, value)


def test_a_pipeline_never_sees_the_file_s_names() -> None:
    backend = Backend()
    run = Renamed(backend, [graph({"model_io": {"input_name": "images", "output_names": ["b", "s"]}})])
    outputs = run("net", image=np.zeros(1))
    assert {name: value.item() for name, value in outputs.items()} == {"boxes": 1.0, "scores": -1.0}
    assert list(run.components["net"].inputs) == list(IMAGE.inputs)
    run.note("dropped", 3)
    assert backend.noted == ("dropped", 3)
