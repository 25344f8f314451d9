"""awml-deploy: trained perception models to artifacts that are proved right.

Names are imported when they are first used, so that `import awml_deploy_core` costs nothing and never imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from awml_deploy_core.config import *  # noqa: F403
    from awml_deploy_core.errors import *  # noqa: F403
    from awml_deploy_core.hookspecs import hookimpl as hookimpl
    from awml_deploy_core.records import *  # noqa: F403
    from awml_deploy_core.report import Report as Report
    from awml_deploy_core.story import deploy as deploy

_HOME = {
    "config": (
        "Backend",
        "BackendConfig",
        "BackendSettings",
        "CommonConfig",
        "ComponentConfig",
        "ComponentIO",
        "Config",
        "Devices",
        "EvaluationConfig",
        "ExportConfig",
        "Gate",
        "ModelIO",
        "ModelInput",
        "OnnxConfig",
        "Profile",
        "RuntimeIO",
        "Scenario",
        "TensorSpec",
        "VerificationConfig",
    ),
    "hookspecs": ("hookimpl",),
    "errors": (
        "ArtifactError",
        "BuildError",
        "ConfigError",
        "DeployError",
        "ExitCode",
        "LoadError",
        "PluginError",
        "RequirementError",
    ),
    "records": (
        "Agreement",
        "Artifact",
        "Axis",
        "Component",
        "Finding",
        "Frame",
        "Handover",
        "Metrics",
        "Picture",
        "Pipeline",
        "Record",
        "Run",
        "Sample",
        "Table",
        "Tensor",
    ),
    "report": ("Report",),
    # The module is not called `deploy` too, since importing it would hide the function.
    "story": ("deploy",),
}
_WHERE = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_WHERE)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib_metadata import version

        return version("awml-deploy-core")
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
