"""The story: the only place that knows the order of the stages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from awml_deploy_core.errors import ConfigError
from awml_deploy_core.plugins import Loaded, load
from awml_deploy_core.settings import Options, Settings, peek_model, settle

if TYPE_CHECKING:
    from awml_deploy_core.config import Config

WEIGHTS = {".ckpt", ".pt", ".pth", ".safetensors"}


def options(
    *,
    sets: tuple[str, ...] = (),
    model: str | None = None,
    model_config: Path | None = None,
    checkpoint: Path | None = None,
    work_dir: Path | None = None,
    device: str | None = None,
) -> Options:
    """The command line as a value; a second positional that is a weights file is the checkpoint."""
    if checkpoint is None and model_config is not None and model_config.suffix in WEIGHTS:
        model_config, checkpoint = None, model_config
    return Options(
        sets=sets,
        model=model,
        model_config=model_config,
        checkpoint=checkpoint,
        work_dir=work_dir,
        device=device,
    )


def configure(config: Path, said: Options, *, safe: bool = False) -> Settings:
    """The settings in the class of the model's plugin, or the core's if no model is named."""
    model = said.model or peek_model(config, safe=safe)
    return settle(config, said, config_class=config_class(model), safe=safe)


def config_class(model: str | None) -> type[Config]:
    """The class of settings of a model; the plugin may be a skeleton, since nothing is run."""
    from awml_deploy_core.config import Config

    return load(model, incomplete=True).config_class if model else Config


def chosen(config: Path, said: Options, *, safe: bool = False) -> Loaded:
    """The plugin that the command line or the config names."""
    model = said.model or peek_model(config, safe=safe)
    if model is None:
        raise ConfigError(
            f"{config}: no model is named",
            hint="add `--model NAME`, or `model = 'NAME'` to the config; `awml-deploy plugins` lists the names",
        )
    return load(model)
