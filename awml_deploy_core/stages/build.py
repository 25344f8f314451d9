"""TensorRT engines, which this version cannot build."""

from __future__ import annotations

from awml_deploy_core.errors import RequirementError
from awml_deploy_core.records import Skip
from awml_deploy_core.stages import NO_TENSORRT, Story, stage


def build_engines(story: Story) -> None:
    """Say that engines cannot be built yet; asking for nothing else is a failure."""
    mode = story.job.config.export.mode
    if mode in ("onnx", "none") or "build" not in story.job.stages:
        return
    if mode == "trt":
        with stage(story, "build"):
            raise RequirementError(
                f"TensorRT is not available: {NO_TENSORRT}", hint="Use `export.mode = 'onnx'` or `'none'`."
            )
    else:
        with stage(story, "build", skip=Skip(reason="not supported", detail=NO_TENSORRT)):
            story.notes.append(f"No TensorRT engine was built: {NO_TENSORRT}.")
