"""One ONNX file per component, made in this run or found."""

from __future__ import annotations

from awml_deploy_core import ladder
from awml_deploy_core.files import sha256_file
from awml_deploy_core.overrides import to_file
from awml_deploy_core.records import Artifact, Skip, Variant
from awml_deploy_core.report import ExportNote
from awml_deploy_core.report.provenance import environment, file_metadata
from awml_deploy_core.stages import Story, failed, stage


def export_graphs(story: Story) -> None:
    """Write one ONNX file per component, or find those that are there."""
    job = story.job
    if not job.exports:
        find_graphs(story)
        return
    if failed(story, "load", "record") or story.network is None:
        with stage(story, "export", skip=Skip(reason="parent failed")):
            return
    from awml_deploy_core.export import export_onnx

    exported = Variant(name="exported", backend="pytorch", parent="trained")
    story.variants.append(ladder.on_device(exported, job.config.export.device, job.config.devices.cuda))
    checkpoint = sha256_file(job.config.checkpoint_path) if job.config.checkpoint_path else None
    settings = job.config.onnx_config
    artifacts: list[Artifact] = []
    with stage(story, "export") as said:
        for graph in story.graphs:
            done = export_onnx(
                story.network.edited[graph.component.name],
                graph.filed,
                to_file(graph, story.examples.pop(graph.component.name)),
                job.work_dir / "onnx" / graph.onnx_file,
                opset_version=settings.opset_version,
                max_ir_version=settings.max_ir_version,
                exporter=settings.exporter,
                do_constant_folding=settings.do_constant_folding,
                export_params=settings.export_params,
                keep_initializers_as_inputs=settings.keep_initializers_as_inputs,
                simplify=settings.simplify,
                external_data=settings.external_data,
                metadata=file_metadata(job.plugin, job.config, graph, checkpoint),
                producer=("awml-deploy-core", environment()["awml-deploy-core"]),
                made_from=checkpoint,
            )
            artifacts.append(done.artifact)
            story.exports.append(
                ExportNote(
                    component=graph.component.name,
                    exporter=done.exporter,
                    opset=done.opset,
                    ir_version=done.ir_version,
                    seconds=done.seconds,
                    notes=done.notes,
                )
            )
            size = done.artifact.size / 1e6
            said.append(f"{done.artifact.path} ({size:.2f} MB, opset {done.opset}, {done.exporter})")
        story.network.require_unchanged("the export")
        story.variants.append(Variant(name="onnx", backend="onnx", artifacts=tuple(artifacts), parent="exported"))


def find_graphs(story: Story) -> None:
    """Take ONNX files that were made before."""
    mode = story.job.config.export.mode
    reason = Skip(reason="not asked", detail=f"export.mode is {mode!r}" if mode in ("trt", "none") else "--stages")
    with stage(story, "export", skip=reason) as said:
        artifacts = ladder.find_onnx(story.job.config, story.graphs) if story.graphs else ()
        if artifacts:
            parent = "trained" if story.variant("trained") else None
            story.variants.append(Variant(name="onnx", backend="onnx", artifacts=artifacts, parent=parent))
            said.append(f"found {', '.join(str(artifact.path) for artifact in artifacts)}")
