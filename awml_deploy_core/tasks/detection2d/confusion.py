"""What the surer predictions took each object for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from awml_deploy_core.tasks.detection2d.matching import one_to_one, pairs_above

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from awml_deploy_core.tasks.detection2d.flat import Flat

__all__ = ["confusion"]


def confusion(flat: Flat, classes: int, *, score: float, overlap: float) -> NDArray[np.int64]:
    """Counts with truths as rows and predictions as columns; the last of either is the background.

    A truth and a prediction belong together if they overlap enough, those of the same class first, then by overlap;
    each has at most one partner. What is left of the truths was missed and is in the last column, what is left of the
    predictions was made up and is in the last row. A prediction that is left and lies on an object to be ignored, or
    by so much of itself in a crowd, is not counted, nor are these objects themselves.

    Args:
        flat: Predictions beside truths.
        classes: How many classes there are.
        score: Least score of a prediction.
        overlap: Least intersection over union.
    """
    found, truths = flat.found, flat.truths
    sure = np.flatnonzero(found.scores >= score)
    boxes, labels = found.boxes[sure], found.labels[sure]
    aside = truths.ignore | truths.crowd
    groups = found.image[sure], truths.image
    left, right, shared = pairs_above(boxes, truths.boxes, groups, overlap, crowd=truths.crowd)
    order = np.lexsort((right, left, -shared, labels[left] != truths.labels[right]))
    chosen = one_to_one(left, right, order[~aside[right[order]]])
    missed, invented = ~aside, np.ones(len(boxes), np.bool_)
    missed[right[chosen]] = False
    invented[left[chosen]] = False
    invented[left[aside[right]]] = False
    rows = truths.labels[right[chosen]], truths.labels[missed], np.full(np.count_nonzero(invented), classes)
    columns = labels[left[chosen]], np.full(np.count_nonzero(missed), classes), labels[invented]
    cells = np.concatenate(rows) * (classes + 1) + np.concatenate(columns)
    return np.bincount(cells, minlength=(classes + 1) ** 2).reshape(classes + 1, classes + 1)
