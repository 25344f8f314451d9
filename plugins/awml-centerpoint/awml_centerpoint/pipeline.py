"""From points to boxes, whatever runs the two graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from attrs import Factory, field, frozen
from torch import Tensor

from awml_centerpoint.architecture import Architecture, Geometry, architecture, class_names, geometry, settled
from awml_centerpoint.config import DETECTOR, ENCODER, Config
from awml_centerpoint.decode import Array, Boxes, decode, empty
from awml_centerpoint.graphs import maps
from awml_centerpoint.scatter import scatter
from awml_centerpoint.voxels import Voxels, decorate, voxelise
from awml_deploy_core.errors import LoadError

if TYPE_CHECKING:
    from awml_deploy_core.records import Run


@frozen(kw_only=True, eq=False)
class Detector:
    """Pillars, encoder, scatter, detector, boxes; all of it on the device until the boxes are chosen.

    A frame without a point in range calls neither graph: its canvas would be all zeros, from which nothing can be seen.

    Args:
        device: Where the graphs want their tensors.
        config: Says how pillars are made and boxes are chosen.
    """

    device: str
    config: Config
    _rule: Config = field(init=False, default=Factory(lambda self: settled(self.config), takes_self=True))
    _grid: Geometry = field(init=False, default=Factory(lambda self: geometry(self.config), takes_self=True))
    _network: Architecture = field(init=False, default=Factory(lambda self: architecture(self.config), takes_self=True))
    _names: tuple[str, ...] = field(init=False, default=Factory(lambda self: class_names(self.config), takes_self=True))

    def predict(self, inputs: Mapping[str, Any], run: Run) -> dict[str, Array]:
        """The boxes of one frame, best first."""
        return self.predict_batch([inputs], run)[0]

    def predict_batch(self, inputs: Sequence[Mapping[str, Any]], run: Run) -> list[dict[str, Array]]:
        """The same for several frames, which go through both graphs together."""
        pillars: list[tuple[Tensor, Tensor]] = []
        seen = []
        for index, frame in enumerate(inputs):
            for name, count in (("sweeps_missing", "missing_sweeps"), ("truths_without_points", "unseen_truths")):
                if frame.get(count):
                    run.note(name, frame[count])
            features, coordinates = self._pillars(frame["points"], run)
            if len(features):
                pillars.append((features, coordinates))
                seen.append(index)
        found = dict(zip(seen, self._detect(pillars, run) if pillars else [], strict=True))
        nothing = empty(velocity=any(name == "vel" for name, _, _ in self._network.heads))
        return [found.get(index, nothing).prediction() for index in range(len(inputs))]

    def _pillars(self, points: Any, run: Run) -> tuple[Tensor, Tensor]:
        """What the encoder is to see of each pillar, and where it stands."""
        columns = len(self._grid.columns)
        if points.ndim != 2 or points.shape[1] != columns:
            raise LoadError(
                f"points: of shape {tuple(points.shape)}, but the encoder sees {columns} columns",
                hint="Let point_columns and the network agree; frames hold just those columns.",
            )
        plain = points if isinstance(points, Tensor) else torch.from_numpy(np.require(points, np.float32, ["C", "W"]))
        cloud = plain.to(self.device)
        voxels = voxelise(cloud, self._grid)
        _count(voxels, run)
        return decorate(cloud, voxels, self._grid, self._network), voxels.coordinates

    def _detect(self, pillars: Sequence[tuple[Tensor, Tensor]], run: Run) -> list[Boxes]:
        features, places = zip(*pillars, strict=True)
        together = features[0] if len(features) == 1 else torch.cat(features)
        encoder, detector = run.components[ENCODER], run.components[DETECTOR]
        encoded = run(ENCODER, **{encoder.inputs[0].name: together})[encoder.outputs[0].name]
        canvas = scatter(encoded.split([len(each) for each in places]), places, self._grid.grid)
        answer = run(DETECTOR, **{detector.inputs[0].name: canvas})
        # By position, as the node binds them: a config may give outputs other names.
        values = iter([answer[tensor.name] for tensor in detector.outputs])
        tasks = [{name: next(values) for name in named} for named in maps(self._network)]
        return decode(tasks, self._rule, self._grid, self._names, run.note)


def _count(voxels: Voxels, run: Run) -> None:
    """Say what of the points did not reach the network."""
    counts = {
        "points_not_finite": voxels.not_finite,
        "points_out_of_range": voxels.outside,
        "points_over_pillar": voxels.crowded,
        "points_of_unopened_pillars": voxels.unseen,
        "pillars_over_max_voxels": voxels.unopened,
        "frames_without_pillars": int(not len(voxels.counts)),
    }
    for name, count in counts.items():
        if count:
            run.note(name, count)
