"""What is done to images, worked by hand and held against OpenCV, Pillow and plain numpy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from awml_deploy_core.errors import ConfigError, LoadError, RequirementError
from awml_deploy_core.preprocess import build_preprocessing_pipeline


def image(high: int = 30, wide: int = 40, channels: int = 3) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (high, wide, channels), np.uint8)


def step(name: str, given: Any = None, **arguments: Any) -> dict[str, Any]:
    """What one transform makes of an image."""
    return build_preprocessing_pipeline([{"type": name, **arguments}])({"img": image() if given is None else given})


# ---------------------------------------------------------------- reading


def test_files_are_read_blue_first(tmp_path: Path) -> None:
    pixels = image()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    run = build_preprocessing_pipeline([{"type": "LoadImageFromFile"}])
    done = run({"img_path": str(tmp_path / "a.png")})
    np.testing.assert_array_equal(done["img"], pixels[..., ::-1])
    assert (done["img_shape"], done["ori_shape"]) == ((30, 40), (30, 40))
    floats = build_preprocessing_pipeline([{"type": "LoadImageFromFile", "to_float32": True}])
    assert floats({"img_path": tmp_path / "a.png"})["img"].dtype == np.float32


def test_colour_types_are_those_of_opencv(tmp_path: Path) -> None:
    Image.fromarray(image(channels=4), "RGBA").save(tmp_path / "a.png")
    for word, shape in (("color", (30, 40, 3)), ("grayscale", (30, 40)), ("unchanged", (30, 40, 4))):
        run = build_preprocessing_pipeline([{"type": "LoadImageFromFile", "color_type": word}])
        assert run({"img_path": tmp_path / "a.png"})["img"].shape == shape


def test_the_camera_s_own_turn_is_heeded(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6  # turn clockwise by a quarter
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=tags, quality=100)
    done = build_preprocessing_pipeline([{"type": "LoadImageFromFile"}])({"img_path": tmp_path / "a.jpg"})
    assert done["img"].shape == (32, 16, 3)
    assert done["img"][:12].min() > 200


@pytest.mark.parametrize(
    ("name", "content", "fact"), [("a.png", b"", "does not know"), ("a.png", b"GIF", "does not know")]
)
def test_a_file_that_is_no_image_is_named(tmp_path: Path, name: str, content: bytes, fact: str) -> None:
    (tmp_path / name).write_bytes(content)
    run = build_preprocessing_pipeline([{"type": "LoadImageFromFile"}])
    with pytest.raises(LoadError, match=f"{name}: OpenCV {fact}"):
        run({"img_path": tmp_path / name})
    with pytest.raises(LoadError, match=r"b\.png: the image cannot be read: No such file"):
        run({"img_path": tmp_path / "b.png"})


def test_without_opencv_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    for name, arguments in (("LoadImageFromFile", {}), ("Resize", {"scale": 3}), ("Pad", {"size_divisor": 2})):
        with pytest.raises(RequirementError, match="need OpenCV") as caught:
            step(name, **arguments)
        assert caught.value.hint == "pip install opencv-python-headless"


# ---------------------------------------------------------------- sizes


def test_resizing_to_a_size_is_opencv_s() -> None:
    done = step("Resize", scale=(50, 20), interpolation="bicubic")
    np.testing.assert_array_equal(done["img"], cv2.resize(image(), (50, 20), interpolation=cv2.INTER_CUBIC))
    assert (done["img_shape"], done["scale_factor"], done["keep_ratio"]) == ((20, 50), (50 / 40, 20 / 30), False)


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({"scale": (960, 960), "keep_ratio": True}, (720, 960)),
        ({"scale": (60, 1000), "keep_ratio": True}, (60, 80)),
        ({"scale": 15}, (15, 15)),
        ({"scale_factor": 0.5}, (15, 20)),
        ({"scale_factor": 0.69}, (21, 28)),
        ({"scale": (31, 31), "keep_ratio": True}, (23, 31)),
        ({"scale_factor": (0.5, 2.0)}, (60, 20)),
        ({"img_scale": (10, 20)}, (20, 10)),
    ],
)
def test_sizes_by_hand(arguments: dict[str, Any], shape: tuple[int, int]) -> None:
    done = step("Resize", **arguments)
    assert done["img"].shape[:2] == shape
    assert done["scale_factor"] == (shape[1] / 40, shape[0] / 30)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(8, 64), st.integers(8, 64))
def test_keeping_the_ratio_fits_and_fills(high: int, wide: int, one: int, other: int) -> None:
    ratio = max(high, wide) / min(high, wide)
    if ratio > 8:
        return
    shape = step("Resize", image(high, wide), scale=(one, other), keep_ratio=True)["img"].shape
    assert max(shape[:2]) <= max(one, other)
    assert min(shape[:2]) <= min(one, other)
    assert max(shape[:2]) == max(one, other) or min(shape[:2]) == min(one, other)
    assert (shape[0] >= shape[1]) == (high >= wide) or abs(shape[0] - shape[1]) <= 1


def test_what_would_have_no_pixels_is_refused() -> None:
    with pytest.raises(LoadError, match="Resize: an image of 400 x 1 pixels would have none left"):
        step("Resize", image(1, 400), scale=(20, 20), keep_ratio=True)


@pytest.mark.parametrize(
    ("edge", "shape"), [("short", (24, 32)), ("long", (18, 24)), ("width", (18, 24)), ("height", (24, 32))]
)
def test_one_edge_decides(edge: str, shape: tuple[int, int]) -> None:
    assert step("ResizeEdge", scale=24, edge=edge)["img"].shape[:2] == shape


def test_the_shortest_edge_gives_way_to_the_longest() -> None:
    assert step("ResizeShortestEdge", scale=60)["img"].shape[:2] == (60, 80)
    assert step("ResizeShortestEdge", scale=60, max_size=40)["img"].shape[:2] == (30, 40)


def test_multiples() -> None:
    assert step("ResizeToMultiple", size_divisor=32)["img"].shape == (32, 64, 3)
    assert step("Pad", size_divisor=32)["img"].shape == (32, 64, 3)


# ---------------------------------------------------------------- borders


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({"size": (64, 32)}, (32, 64)),
        ({"size": (10, 50)}, (50, 40)),
        ({"pad_to_square": True}, (40, 40)),
        ({"pad_to_square": True, "size_divisor": 32}, (64, 64)),
    ],
)
def test_padding_is_at_the_right_and_at_the_bottom(arguments: dict[str, Any], shape: tuple[int, int]) -> None:
    done = step("Pad", pad_val=114, **arguments)
    expected = np.full((*shape, 3), 114, np.uint8)
    expected[:30, :40] = image()
    np.testing.assert_array_equal(done["img"], expected)
    assert done["img_shape"] == shape


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_padding_has_its_value_in_every_channel(channels: int) -> None:
    done = step("Pad", image(channels=channels), size_divisor=32, pad_val={"img": 7, "seg": 255})["img"].reshape(
        32, 64, -1
    )
    assert done.shape[2] == channels
    assert (done[30:] == 7).all()
    assert (done[:, 40:] == 7).all()
    np.testing.assert_array_equal(done[:30, :40], image(channels=channels))


@pytest.mark.parametrize(("mode", "plain"), [("edge", "edge"), ("reflect", "reflect"), ("symmetric", "symmetric")])
def test_other_borders_are_those_of_numpy(mode: str, plain: Any) -> None:
    expected = np.pad(image(), ((0, 2), (0, 24), (0, 0)), plain)
    np.testing.assert_array_equal(step("Pad", size_divisor=32, padding_mode=mode)["img"], expected)


def test_the_middle_is_cut_out() -> None:
    np.testing.assert_array_equal(step("CenterCrop", crop_size=(20, 10))["img"], image()[10:20, 10:30])
    assert step("CenterCrop", crop_size=50)["img"].shape == (30, 40, 3)
    padded = step("CenterCrop", crop_size=(50, 20), auto_pad=True, pad_cfg={"type": "Pad", "pad_val": 9})["img"]
    assert padded.shape == (20, 50, 3)
    np.testing.assert_array_equal(padded[:, :40], image()[5:25])
    assert (padded[:, 40:] == 9).all()


@pytest.mark.parametrize(
    ("name", "arguments", "fact"),
    [
        ("Pad", {}, "one of size, size_divisor and pad_to_square is needed"),
        ("Pad", {"size": (3, 3), "size_divisor": 2}, "size cannot be combined"),
        ("CenterCrop", {"crop_size": 0}, "crop_size must be"),
        ("Normalize", {"mean": [0, 0, 0], "std": [1, 0, 1]}, "no std 0"),
        ("LoadImageFromFile", {"ignore_empty": True}, "makes samples disappear"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(name: str, arguments: dict[str, Any], fact: str) -> None:
    with pytest.raises(ConfigError, match=fact):
        step(name, **arguments)


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("to_rgb", [True, False])
def test_numbers_are_normalised_channel_by_channel(to_rgb: bool) -> None:
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    pixels = image()
    done = step("Normalize", pixels, mean=mean.tolist(), std=std.tolist(), to_rgb=to_rgb)["img"]
    expected = (pixels[..., ::-1] if to_rgb else pixels).astype(np.float64) - mean
    np.testing.assert_allclose(done, expected / std, rtol=1e-5, atol=1e-5)
    assert done.dtype == np.float32
    assert pixels.dtype == np.uint8


# ---------------------------------------------------------------- the model's own part


def finished(preprocessor: Any, given: Any = None) -> dict[str, Any]:
    config = {"test_pipeline": [{"type": "PackInputs"}], "model": {"data_preprocessor": preprocessor}}
    return build_preprocessing_pipeline(config)({"img": image() if given is None else given})


def test_the_model_s_part_turns_normalises_and_pads() -> None:
    done = finished(
        {
            "type": "DetDataPreprocessor",
            "mean": [10.0, 20.0, 30.0],
            "std": [2.0, 4.0, 8.0],
            "bgr_to_rgb": True,
            "pad_size_divisor": 32,
            "pad_value": 5,
            "pad_mask": True,
        }
    )
    expected = np.full((3, 32, 64), 5, np.float32)
    channels = image().transpose(2, 0, 1)[::-1].astype(np.float32)
    expected[:, :30, :40] = (channels - np.array([10, 20, 30])[:, None, None]) / np.array([2, 4, 8])[:, None, None]
    np.testing.assert_array_equal(done["inputs"], expected)
    assert done["inputs"].dtype == np.float32
    assert done["data_samples"]["batch_input_shape"] == (32, 64)


def test_a_part_beside_the_model_counts_if_the_model_has_none() -> None:
    steps = [{"type": "PackInputs"}]
    beside = {"test_pipeline": steps, "data_preprocessor": {"mean": [1.0], "std": [2.0], "num_classes": 3}}
    np.testing.assert_array_equal(
        build_preprocessing_pipeline(beside)({"img": image()})["inputs"], (image().transpose(2, 0, 1) - 1.0) / 2
    )
    both = {**beside, "model": {"data_preprocessor": {"type": "mmdet.DetDataPreprocessor"}}}
    np.testing.assert_array_equal(
        build_preprocessing_pipeline(both)({"img": image()})["inputs"], image().transpose(2, 0, 1).astype(np.float32)
    )


def test_without_a_part_or_with_the_plainest_numbers_stay() -> None:
    assert finished(None)["inputs"].dtype == np.uint8
    assert finished({"type": "BaseDataPreprocessor"})["inputs"].dtype == np.uint8
    assert finished({})["inputs"].dtype == np.float32


def test_segmentation_pads_at_test_time_only_where_it_says_so() -> None:
    settings = {"type": "SegDataPreProcessor", "size": (512, 512), "pad_val": 3, "bgr_to_rgb": True}
    assert finished(settings)["inputs"].shape == (3, 30, 40)
    done = finished({**settings, "test_cfg": {"size_divisor": 32}})["inputs"]
    assert done.shape == (3, 32, 64)
    assert (done[:, 30:] == 3).all()
    assert finished({**settings, "test_cfg": {"size": (50, 20)}})["inputs"].shape == (3, 50, 40)
    assert finished(settings, image(channels=5))["inputs"].shape == (5, 30, 40)


@pytest.mark.parametrize(
    ("settings", "fact"),
    [
        ({"meen": [1.0]}, "data_preprocessor: 'meen' is not known"),
        ({"mean": [1.0]}, "mean and std belong together"),
        ({"mean": [1.0], "std": [0.0]}, "no std 0"),
        ({"bgr_to_rgb": True, "rgb_to_bgr": True}, "cannot both be true"),
        ({"type": "DetDataPreprocesor"}, "there is no 'DetDataPreprocesor'"),
        ([], "a dict is wanted, got list"),
    ],
)
def test_a_part_that_cannot_be_meant_is_refused(settings: Any, fact: str) -> None:
    with pytest.raises(ConfigError, match=fact):
        finished(settings)


def test_images_that_do_not_fit_the_part_are_refused() -> None:
    with pytest.raises(LoadError, match="turns three channels round, this image has 5"):
        finished({"type": "DetDataPreprocessor", "bgr_to_rgb": True}, image(channels=5))
    config = {"test_pipeline": [{"type": "Resize", "scale": 3}], "data_preprocessor": {"type": "DetDataPreprocessor"}}
    with pytest.raises(LoadError, match="the test pipeline gives no 'inputs'"):
        build_preprocessing_pipeline(config)({"img": image()})


def test_grey_and_many_channels_are_packed() -> None:
    assert step("PackDetInputs", image()[..., 0])["inputs"].shape == (1, 30, 40)
    assert step("PackInputs", image(channels=5))["inputs"].shape == (5, 30, 40)
    with pytest.raises(LoadError, match="an image of two or three axes"):
        step("PackDetInputs", np.zeros((6, 4, 4, 3)))
    assert step("PackInputs", input_key="img", algorithm_keys=["img"])["data_samples"]["img"].shape == (30, 40, 3)
