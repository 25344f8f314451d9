"""Boxes in space, seen by a LiDAR.

A prediction is `{"boxes": (N, 7), "scores": (N,), "labels": (N,)}`: x, y, z of the centre, length, width, height, yaw
counter-clockwise from x, in metres and radians. A truth has boxes and labels. Either may have `velocities` (N, 2), NaN
where nobody knows, and `attributes` (N,), -1 where there is none; a truth may have `points` (N,), how many LiDAR points
lie inside. Arrays or tensors; the sensor stands at the origin.

A predicted box that is no number is a false positive in every range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from awml_deploy_core.errors import ConfigError
from awml_deploy_core.tasks.detection3d import nuscenes, results, t4
from awml_deploy_core.tasks.detection3d.agreement import agree
from awml_deploy_core.tasks.detection3d.picture import picture
from awml_deploy_core.tasks.detection3d.pool import pool

if TYPE_CHECKING:
    from awml_deploy_core.records import Metrics, Record

__all__ = ["RANGES", "agree", "metrics", "picture"]

RANGES = ((0.0, 50.0), (50.0, 90.0), (90.0, 121.0), (0.0, 121.0))
"""Metres from the sensor; the last range is the one whose figures count."""


def metrics(
    records: Sequence[Record],
    class_names: Sequence[str],
    *,
    style: Literal["t4", "nuscenes"] = "t4",
    t4_compat: bool = False,
    ranges: Sequence[tuple[float, float]] = RANGES,
    min_points: int | None = None,
    class_range: float | Mapping[str, float] = 121.0,
    max_boxes: int = 500,
) -> Metrics:
    """Average precision by distance, as AWML or as nuScenes defines it; the primary figure is `mAP`.

    A figure that nothing defines is None: that of a class with neither a truth nor a prediction, and all of them
    without a record that has a truth.

    Args:
        records: Predictions beside their truths; records without a truth are counted and left out.
        class_names: Names by label.
        style: `t4` is AWML's T4MetricV2, `nuscenes` the detection protocol of nuScenes, AWML's T4Metric.
        t4_compat: Measure plane distance and heading with AWML's quirks instead of as they are meant.
        ranges: For `t4`: distances between which a box must lie, strictly; the last one is the main range.
        min_points: Truths with fewer LiDAR points are left out where points are known; None is 0 for `t4` and 1 for
            `nuscenes`.
        class_range: For `nuscenes`: distance within which a box of a class counts.
        max_boxes: For `nuscenes`: only so many boxes of a frame count, those with the highest scores.

    Raises:
        LoadError: A tree is not made as described above, or a label has no class name.
        ConfigError: Two classes have the same name, or an argument cannot be meant.
    """
    names = tuple(class_names)
    if len(set(names)) != len(names):
        raise ConfigError(f"class_names must differ, got {', '.join(names)}")
    if style == "nuscenes":
        found = pool(records, len(names), min_points=1 if min_points is None else min_points)
        found = nuscenes.seen(found, names, class_range, max_boxes)
        return results.nuscenes_results(nuscenes.scores(found, names), found, names)
    if style != "t4":
        raise ConfigError(f"style {style!r} is unknown", hint="It is 't4' or 'nuscenes'.")
    limits = [(float(low), float(high)) for low, high in ranges]
    if not limits or any(not 0 <= low < high for low, high in limits):
        raise ConfigError(f"ranges must be pairs of ascending distances, got {ranges}")
    found = pool(records, len(names), min_points=min_points or 0)
    figures = t4.figures(found, len(names), limits, compat=t4_compat)
    return results.t4_results(figures, found, names, limits, compat=t4_compat)
