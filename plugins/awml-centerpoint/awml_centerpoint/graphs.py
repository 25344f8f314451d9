"""The two graphs: names, axes and order of outputs, as Autoware's node binds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from awml_centerpoint.architecture import Architecture, architecture, geometry
from awml_centerpoint.config import DETECTOR, ENCODER
from awml_deploy_core.records import Axis, Component, Tensor

if TYPE_CHECKING:
    from awml_centerpoint.config import Config

ORDER = ("heatmap", "reg", "height", "dim", "rot", "vel")
"""The node reads maps by position; others follow in the order of the trained heads."""


def maps(made: Architecture) -> tuple[dict[str, str], ...]:
    """For every task the output of the second graph that holds each map, in the order of the outputs.

    With one task an output is called like its map; with several its task's number follows: `heatmap_0`, `reg_0`, ...,
    `heatmap_1`, ...
    """
    names = sorted(channels(made, 0), key=lambda name: (*ORDER, name).index(name))
    if len(made.tasks) == 1:
        return ({name: name for name in names},)
    return tuple({name: f"{name}_{task}" for name in names} for task in range(len(made.tasks)))


def channels(made: Architecture, task: int) -> dict[str, int]:
    """Channels of each map of a task."""
    return {"heatmap": made.tasks[task], **{name: number for name, number, _ in made.heads}}


def components(config: Config) -> tuple[Component, ...]:
    """The encoder and the detector."""
    made, grid = architecture(config), geometry(config)
    return (_encoder(made, grid.max_num_points, grid.max_voxels), _detector(made, grid.grid, config.max_batch))


def _encoder(made: Architecture, points: int, pillars: int) -> Component:
    # Rows of a pillar do influence one another, through the maximum; those of different pillars do not.
    axes = (
        Axis(name="num_voxels", min=0, max=pillars, independent=True),
        Axis(name="num_max_points", opt=points, max=points),
    )
    shape = ("num_voxels", "num_max_points", made.channels)
    inputs = Tensor(name="input_features", shape=shape)
    outputs = Tensor(name="pillar_features", shape=("num_voxels", 1, made.features))
    return Component(name=ENCODER, inputs=(inputs,), outputs=(outputs,), axes=axes)


def _detector(made: Architecture, grid: tuple[int, int, int], batch: int) -> Component:
    same = made.strides[0] == 1
    height, width = ("H", "W") if same else ("H_out", "W_out")
    # Canvases smaller than one cell of the coarsest map do not exist.
    axes = [
        Axis(name="batch_size", max=batch, independent=True),
        Axis(name="H", min=made.coarsest, opt=grid[1], max=grid[1]),
        Axis(name="W", min=made.coarsest, opt=grid[0], max=grid[0]),
    ]
    axes += [] if same else [Axis(name=height), Axis(name=width)]
    outputs = [
        Tensor(name=output, shape=("batch_size", channels(made, task)[name], height, width))
        for task, named in enumerate(maps(made))
        for name, output in named.items()
    ]
    inputs = Tensor(name="spatial_features", shape=("batch_size", made.features, "H", "W"))
    return Component(name=DETECTOR, inputs=(inputs,), outputs=tuple(outputs), axes=tuple(axes))
