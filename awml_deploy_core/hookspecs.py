"""What a plugin may say.

A plugin is a module of functions marked with `hookimpl`. Each hook says what; the core does how: no hook writes a file
of the run or prints. Arguments go from the subject to the context, `config` last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from awml_deploy_core.config import Config
    from awml_deploy_core.records import (
        Agreement,
        Artifact,
        Component,
        Frame,
        Handover,
        Metrics,
        Picture,
        Pipeline,
        Record,
        Sample,
    )

PROJECT = "awml_deploy"
"""pluggy's project name and the entry-point group."""

REQUIRED = ("load_model", "load_samples", "export_workflow", "build_pipeline")
"""Hooks that have no default: without them there is nothing to deploy."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def load_model(config: Config) -> nn.Module | None:
    """Return the trained network, on the CPU, in eval mode, untouched.

    Called at most once in a run, and only when something needs PyTorch. The answer is the reference for every other
    variant, so no edit made for export belongs here.

    Args:
        config: The plugin's settings; `config.checkpoint_path` names the weights.

    Returns:
        The network. Raise `LoadError` if the weights do not fit, naming the keys.
    """


@hookspec(firstresult=True)
def load_samples(purpose: Literal["evaluate", "calibrate"], config: Config) -> Sequence[Sample] | None:
    """Return the data set, light and in a stable order.

    Called once per purpose. The core asks for the length, slices, hands indices to worker processes and calls
    `Sample.load` in a loading thread; nothing should be read before that.

    Args:
        purpose: `evaluate` for recording, verification and metrics; `calibrate` for quantisation ranges.
        config: The plugin's settings; `config.runtime_io` names the files.

    Returns:
        Samples with ids that are the same in every process.
    """


@hookspec(firstresult=True)
def export_workflow(config: Config) -> tuple[Component, ...] | None:
    """Return the graphs of the model in running order.

    Plain data, no network: names, tensors, axes. The core exports one ONNX file and builds one engine for each.

    Args:
        config: The plugin's settings.

    Returns:
        At least one component. What the config says under `model_io` or `components` wins over it.
    """


@hookspec(firstresult=True)
def wrap_for_onnx(model: nn.Module, component: Component, exact: bool, config: Config) -> nn.Module | None:
    """Return the module whose forward takes and gives the component's tensors in order.

    Called twice per component: `exact=True` on the trained network, for the reference; `exact=False` on a copy that
    shares the weights, for the export.

    Args:
        model: The network, or the copy; edits of its structure are allowed on the copy only.
        component: The component to present.
        exact: True asks for the trained numbers behind the file's names and layout (also signed permutations); False
            asks for the module that is exported, where an edit such as ReLU6 to ReLU is allowed.
        config: The plugin's settings.

    Returns:
        The module. By default the network itself if there is one component, else its submodule of that name.
    """


@hookspec(firstresult=True)
def build_pipeline(device: str, config: Config) -> Pipeline | None:
    """Return everything around the components: preprocessing, glue, postprocessing.

    Called anew for every sequence and for warm-up, so it must be cheap; it needs no weights. The same pipeline serves
    every backend, because it reaches the components only through `run`.

    Args:
        device: Where `run` expects its tensors: `cpu`, `cuda:0`.
        config: The plugin's settings.

    Returns:
        An object with `predict(inputs, run)`.
    """


@hookspec(firstresult=True)
def compute_metrics(records: Sequence[Record], config: Config) -> Metrics | None:
    """Return the figures for all records of one variant.

    Called once per variant, after all shards are joined in the order of the samples; must not depend on that order.

    Args:
        records: Predictions beside their truths.
        config: The plugin's settings.

    Returns:
        Metrics with a primary figure; fractions from 0 to 1. By default those of `config.task_type`.
    """


@hookspec(firstresult=True)
def write_example(directory: Path) -> bool | None:
    """Write a small self-contained deployment into the directory.

    Called by `awml-deploy init`, which has made the directory and will run the config.

    Args:
        directory: An empty folder; `config.py`, weights and data go into it.

    Returns:
        True. `awml-deploy --model NAME config.py` inside the folder must then succeed without a network.
    """


@hookspec(firstresult=True)
def compare_predictions(reference: Any, candidate: Any, config: Config) -> Agreement | None:
    """Return how well two predictions for the same sample agree.

    Called for verification of whole predictions, where comparing element by element says nothing: a box more or less
    at the threshold is no fault.

    Args:
        reference: Prediction of the reference variant.
        candidate: Prediction of the variant under test.
        config: The plugin's settings.

    Returns:
        Counts of matched and unmatched things and a score. By default that of `config.task_type`.
    """


@hookspec(firstresult=True)
def draw_sample(frame: Frame, predictions: Mapping[str, Any], config: Config) -> Picture | None:
    """Return a picture of one sample with the truth and each variant's prediction.

    Called after the evaluation, for the few samples that the report shows (`evaluation.num_pictures`). A picture that
    cannot be drawn is noted and fails nothing.

    Args:
        frame: The loaded sample.
        predictions: Predictions by the name of the variant.
        config: The plugin's settings.

    Returns:
        A PNG with a caption.
    """


@hookspec(firstresult=True)
def hand_over(target: str, artifacts: Sequence[Artifact], config: Config) -> Handover | None:
    """Return the files that a target wants beside the artifacts, and what it would trip over.

    Called once per target after the evaluation. The core writes the files into `handover/<target>/` of the work
    directory and shows the findings in the report.

    Args:
        target: Name of the target: `autoware`.
        artifacts: What will be handed over.
        config: The plugin's settings.

    Returns:
        Files by name and findings that quote the node's own rule.
    """
