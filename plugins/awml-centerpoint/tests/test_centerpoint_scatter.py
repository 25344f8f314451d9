"""The canvas against one written cell by cell."""

from __future__ import annotations

import numpy as np
import torch

from awml_centerpoint.scatter import scatter


def test_every_pillar_stands_at_its_row_and_column() -> None:
    rng = np.random.default_rng(0)
    frames = []
    for count in (7, 12):
        flat = rng.permutation(5 * 6)[:count]
        coordinates = torch.tensor(np.stack([flat * 0, flat // 6, flat % 6], 1), dtype=torch.int32)
        frames.append((torch.from_numpy(rng.normal(size=(count, 1, 4)).astype(np.float32)), coordinates))
    features, places = zip(*frames, strict=True)
    canvas = scatter(features, places, (6, 5, 1))
    assert canvas.dtype is torch.float32
    expected = np.zeros((2, 4, 5, 6), np.float32)
    for frame, (rows, place) in enumerate(frames):
        for row, (_, y, x) in zip(rows, place.tolist(), strict=True):
            expected[frame, :, y, x] = row[0]
    np.testing.assert_array_equal(canvas.numpy(), expected)


def test_the_encoder_s_axis_of_one_may_be_left_out() -> None:
    rows, place = torch.ones(2, 1, 3), torch.tensor([[0, 0, 1], [0, 1, 0]], dtype=torch.int32)
    assert torch.equal(scatter([rows], [place], (2, 2, 1)), scatter([rows[:, 0]], [place], (2, 2, 1)))


def test_half_precision_features_become_the_canvas_s_float32() -> None:
    place = torch.tensor([[0, 1, 1]], dtype=torch.int32)
    canvas = scatter([torch.full((1, 1, 2), 0.1, dtype=torch.float16)], [place], (2, 2, 1))
    assert canvas[0, 0, 1, 1].item() == np.float32(np.float16(0.1))
