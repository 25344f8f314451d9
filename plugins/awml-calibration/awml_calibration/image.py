"""The picture that the network looks at: three colours, depth and intensity, five channels in all."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from attrs import frozen

Array = np.ndarray[Any, np.dtype[Any]]


@frozen(kw_only=True, eq=False)
class View:
    """What a camera and a LiDAR saw at one moment, and how they are said to stand to one another.

    Args:
        image: Blue green red bytes, (height, width, 3), as the camera gave them.
        camera: Focal lengths and principal point, 3x3.
        distortion: k1, k2, p1, p2, k3.
        points: x, y, z in the LiDAR's axes, intensity from 0 to 255, and whatever follows; one row per point.
        lidar_to_camera: 4x4.
    """

    image: Array
    camera: Array
    distortion: Array
    points: Array
    lidar_to_camera: Array


def compose(view: View, *, order: Literal["bgr", "rgb"], max_depth: float, dilation: int) -> Array:
    """The five channels, float32 (5, height, width), most values between 0 and 1.

    Args:
        view: One moment.
        order: Which colour comes first.
        max_depth: Metres that become 1; farther points are left out.
        dilation: Pixels that a point grows to each side.
    """
    image, camera = rectify(view.image, view.camera, view.distortion)
    size = (image.shape[1], image.shape[0])
    pixels, depth, intensity = project(view.points, view.lidar_to_camera, camera, size, max_depth)
    values = np.stack([255 * depth / max_depth, intensity]).astype(np.float32)
    colours = image if order == "bgr" else image[..., ::-1]
    stack = np.empty((5, *image.shape[:2]), np.float32)
    stack[:3], stack[3:] = colours.transpose(2, 0, 1), paint(pixels, depth, values, size, dilation)
    stack /= np.float32(255)
    return stack


def rectify(image: Array, camera: Array, distortion: Array) -> tuple[Array, Array]:
    """The image without lens distortion, cropped to what is seen everywhere, and the camera that took such an image."""
    if not distortion.any():
        return image, camera
    size = (image.shape[1], image.shape[0])
    straight, _ = cv2.getOptimalNewCameraMatrix(camera, distortion, size, 0, size)
    return cv2.undistort(image, camera, distortion, None, straight), np.asarray(straight)


def project(
    points: Array, lidar_to_camera: Array, camera: Array, size: tuple[int, int], max_depth: float
) -> tuple[Array, Array, Array]:
    """Pixel (column, row), depth and intensity of the points in front of the camera that fall on the image."""
    seen = points[:, :3].astype(np.float64) @ lidar_to_camera[:3, :3].T + lidar_to_camera[:3, 3]
    ahead = (seen[:, 2] > 0) & (seen[:, 2] < max_depth)
    seen, intensity = seen[ahead], points[ahead, 3]
    if not len(seen):
        return np.zeros((0, 2), np.int64), seen[:, 2], intensity
    flat = cv2.projectPoints(seen, np.zeros(3), np.zeros(3), camera, np.zeros(5))[0].reshape(-1, 2)
    inside = (flat >= 0).all(1) & (flat[:, 0] <= size[0] - 1) & (flat[:, 1] <= size[1] - 1)
    return flat[inside].astype(np.int64), seen[inside, 2], intensity[inside]


def paint(pixels: Array, depth: Array, values: Array, size: tuple[int, int], dilation: int) -> Array:
    """Squares around the pixels; where squares meet, the nearest point wins.

    Every point gets a rank, the nearest the highest; a square is a place where the highest rank around is looked up.
    Of two points at the same depth the later one wins.

    Args:
        pixels: Column and row of each point.
        depth: How far away each point is.
        values: What to paint, (channels, points).
        size: Width and height of the image.
        dilation: Pixels that a point grows to each side.

    Returns:
        (channels, height, width), zero where no point is.
    """
    order = np.argsort(-depth, kind="stable")
    # numpy keeps the last value where a place is named twice; float32 is exact up to 16 million points.
    rank = np.zeros((size[1], size[0]), np.float32)
    rank[pixels[order, 1], pixels[order, 0]] = np.arange(1, len(order) + 1)
    if dilation:
        rank = np.asarray(cv2.dilate(rank, np.ones((2 * dilation + 1, 2 * dilation + 1), np.uint8)))
    table = np.concatenate([np.zeros((len(values), 1), values.dtype), values[:, order]], axis=1)
    return np.take(table, rank.astype(np.int32), axis=1)
