"""Image files of every kind, as OpenCV and mmcv give them to a training."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from awml_deploy_core.errors import LoadError
from awml_yolox.images import read

Array = np.ndarray[Any, np.dtype[Any]]

RNG = np.random.default_rng(0)
BGR = cv2.GaussianBlur(RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8), (5, 5), 0)
RGB = np.ascontiguousarray(BGR[..., ::-1])
ALPHA = RNG.integers(0, 256, (40, 60), dtype=np.uint8)


def by_pillow(array: Array, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def put(folder: Path, content: bytes, name: str = "image") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_colours_are_blue_green_red_bytes(tmp_path: Path, kind: str) -> None:
    found = read(put(tmp_path, by_pillow(RGB, kind)))
    np.testing.assert_array_equal(found, BGR)
    assert found.dtype == np.uint8


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 100, "subsampling": 0}])
def test_jpeg_is_near_what_pillow_reads(tmp_path: Path, options: dict[str, Any]) -> None:
    content = by_pillow(RGB, "JPEG", **options)
    theirs = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))[..., ::-1]
    assert np.abs(read(put(tmp_path, content)).astype(int) - theirs).max() <= 3


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True})])
def test_transparency_is_dropped_without_blending(tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    np.testing.assert_array_equal(read(put(tmp_path, by_pillow(np.dstack([RGB, ALPHA]), kind, **options))), BGR)


@pytest.mark.parametrize("channels", [BGR[..., 0], np.dstack([BGR[..., 0], ALPHA])], ids=["grey", "grey and alpha"])
def test_one_channel_is_repeated(tmp_path: Path, channels: Array) -> None:
    found = read(put(tmp_path, by_pillow(np.ascontiguousarray(channels), "PNG")))
    np.testing.assert_array_equal(found, np.dstack([BGR[..., 0]] * 3))


def test_palette_is_looked_up(tmp_path: Path) -> None:
    palette = Image.fromarray(RGB).convert("P")
    file = io.BytesIO()
    palette.save(file, "PNG")
    np.testing.assert_array_equal(read(put(tmp_path, file.getvalue())), np.asarray(palette.convert("RGB"))[..., ::-1])


@pytest.mark.parametrize("shape", [(40, 60, 3), (40, 60)], ids=["colour", "grey"])
def test_16_bits_become_8(tmp_path: Path, shape: tuple[int, ...]) -> None:
    deep = RNG.integers(0, 1 << 16, shape, dtype=np.uint16)
    found = read(put(tmp_path, cv2.imencode(".png", deep)[1].tobytes()))
    expected = (deep >> 8).astype(np.uint8)
    np.testing.assert_array_equal(found, expected if deep.ndim == 3 else np.dstack([expected] * 3))


def test_16_bits_of_tiff_become_8(tmp_path: Path) -> None:
    deep = RNG.integers(0, 1 << 16, (40, 60, 3), dtype=np.uint16)
    found = read(put(tmp_path, cv2.imencode(".tiff", deep)[1].tobytes()))
    assert np.abs(found - deep / 257).max() < 1


TURNS = {
    1: BGR, 2: BGR[:, ::-1], 3: BGR[::-1, ::-1], 4: BGR[::-1], 5: BGR.transpose(1, 0, 2),
    6: np.rot90(BGR, -1), 7: np.rot90(BGR, -1)[:, ::-1][::-1, ::-1], 8: np.rot90(BGR),
}  # fmt: skip


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_orientation_in_exif_is_applied(tmp_path: Path, orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(read(put(tmp_path, by_pillow(RGB, kind, exif=exif))), TURNS[orientation])


def test_orientation_of_jpeg_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    found = read(put(tmp_path, by_pillow(RGB, "JPEG", quality=100, subsampling=0, exif=exif)))
    assert np.abs(found.astype(int) - TURNS[6]).max() < 12


@pytest.mark.parametrize("name", ["前方カメラ.png", "Straße mit Leerzeichen.png", "no suffix", "ü\u0308.JPG"])
def test_names_may_hold_any_characters(tmp_path: Path, name: str) -> None:
    (tmp_path / "フォルダ").mkdir()
    np.testing.assert_array_equal(read(put(tmp_path / "フォルダ", by_pillow(RGB, "PNG"), name)), BGR)


# ---------------------------------------------------------------- refused


PNG, JPEG, WEBP = by_pillow(RGB, "PNG"), by_pillow(RGB, "JPEG"), by_pillow(RGB, "WEBP")


def with_thumbnail() -> bytes:
    """A JPEG among whose headers lies another one with an end of its own, as cameras write them."""
    small = by_pillow(RGB[::4, ::4].copy(), "JPEG")
    header = b"\xff\xe1" + (2 + 6 + len(small)).to_bytes(2, "big") + b"Thumb\0" + small
    return JPEG[:2] + header + JPEG[2:]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"no picture", "is not a complete image"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a git-lfs pointer"),
        (PNG[: len(PNG) // 2], "is not a complete image"),
        (PNG[:-3], "is not a complete image"),
        (JPEG[: len(JPEG) // 2], "is not a complete image"),
        (JPEG[:-2], "is not a complete image"),
        (JPEG[:2], "is not a complete image"),
        (WEBP[:-20], "is not a complete image"),
    ],
    ids=["empty", "text", "lfs", "half png", "png", "half jpeg", "jpeg", "head of a jpeg", "webp"],
)
def test_broken_file_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(LoadError, match=rf"image: {said}") as e:
        read(put(tmp_path, content))
    assert str(tmp_path) in e.value.message
    assert e.value.hint


def test_png_cut_off_is_not_told_past_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LoadError, match="is not a complete image"):
        read(put(tmp_path, PNG[: len(PNG) // 2]))
    assert capfd.readouterr().err == ""


def test_jpeg_cut_off_is_refused_though_the_decoder_fills_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # OpenCV 4 answers a picture that is grey from the cut on; OpenCV 5 answers none.
    monkeypatch.setattr(cv2, "imdecode", lambda *_: BGR)
    for content in (JPEG, with_thumbnail(), JPEG + b"\0" * 10_000):
        read(put(tmp_path, content))
    for content in (JPEG[:-2], with_thumbnail()[:-2], with_thumbnail()[: len(with_thumbnail()) - len(JPEG) // 2]):
        with pytest.raises(LoadError, match="is not a complete image"):
            read(put(tmp_path, content))


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"none\.png: the image cannot be read: No such file"):
        read(tmp_path / "none.png")
    with pytest.raises(LoadError, match="the image cannot be read: Is a directory"):
        read(tmp_path)


def test_other_size_than_annotated_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, PNG)
    np.testing.assert_array_equal(read(path, (60, 40)), BGR)
    with pytest.raises(LoadError, match="is 60x40 pixels, the annotations are for 120x80"):
        read(path, (120, 80))
    with pytest.raises(LoadError, match="is 60x40 pixels, the annotations are for 40x60") as e:
        read(path, (40, 60))
    assert "EXIF" in str(e.value.hint)
