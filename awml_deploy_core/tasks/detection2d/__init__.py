"""Boxes in images, a label each.

A prediction is `{"boxes": (N, 4), "scores": (N,), "labels": (N,)}`: x1, y1, x2, y2 in pixels of the original image,
labels counted from 0 in the order of the class names. A truth is `{"boxes", "labels"}` and may have `"ignore": (N,)`
for boxes that are neither right nor wrong to find, `"crowd": (N,)` for COCO's regions that hold many objects, and
`"areas": (N,)` for COCO's areas where they are not those of the boxes.
"""

from __future__ import annotations

from awml_deploy_core.tasks.detection2d.agreement import agree
from awml_deploy_core.tasks.detection2d.figures import metrics
from awml_deploy_core.tasks.detection2d.pictures import picture

__all__ = ["agree", "metrics", "picture"]
