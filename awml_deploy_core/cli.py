"""The command line: click and nothing else."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from awml_deploy_core.report import Report
    from awml_deploy_core.settings import Style
    from awml_deploy_core.stages import Job

F = TypeVar("F", bound=Callable[..., Any])

LEVELS = click.Choice(("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), case_sensitive=False)
FILE = click.Path(path_type=Path)


class DefaultGroup(click.Group):
    """A group that runs the command `run` when the first word is no command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `run` in front of what is no command and no option of the group."""
        own = {"--help", "-h", "--version"}
        if args and args[0] not in self.commands and not args[0].startswith("-") and not Path(args[0]).exists():
            from awml_deploy_core.errors import nearest

            near = nearest(args[0], self.commands)
            if near:
                raise click.UsageError(f"no such command or config: {args[0]!r}. Did you mean {near!r}?", ctx)
        if args and args[0] not in self.commands and args[0] not in own:
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; that its reader has gone is no failure."""
        from awml_deploy_core.ending import Unread

        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise Unread from error

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer what `run` takes too, since its name may be left out."""
        run = self.commands["run"]
        return [*super().shell_complete(ctx, incomplete), *run.shell_complete(click.Context(run), incomplete)]


def _complete_model(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from awml_deploy_core.plugins import installed

    return [plugin.model for plugin in installed() if plugin.model.startswith(incomplete)]


_model = click.option(
    "--model", metavar="NAME", shell_complete=_complete_model, help="The model, as `awml-deploy plugins` lists it."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
_verbose = click.option("-v", "--verbose", is_flag=True, help="Show details, and the full cause of an error.")
_level = click.option("--log-level", type=LEVELS, default="INFO", show_default=True, help="What to show on stderr.")


def _settings(function: F) -> F:
    """The arguments and options that make up the settings, shared by `run` and `config`."""
    for decorate in reversed(
        (
            _model,
            click.argument("config", type=FILE),
            click.argument("model_config", type=FILE, required=False),
            click.argument("checkpoint", type=FILE, required=False),
            click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="Override one key: --set a.b=c."),
            click.option("--work-dir", type=FILE, help="Where everything is written; overrides export.work_dir."),
            click.option("--device", metavar="DEV", help="Run every backend that can there: cpu, cuda, cuda:1."),
            click.option(
                "--trust-checkpoint", is_flag=True, help="Let code in the checkpoint run. Only if you trust it."
            ),
            click.option("--safe-config", is_flag=True, help="Refuse a config that is Python code."),
        )
    ):
        function = decorate(function)
    return function


@click.group(cls=DefaultGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="awml-deploy-core", prog_name="awml-deploy")
def cli() -> None:
    """Bring a trained perception model to ONNX and TensorRT, and prove it right.

    \b
        awml-deploy --model yolox config.py        all stages that the config enables
        awml-deploy init --model calibration DIR   a small example to start from
        awml-deploy plugins                        which models are installed
        awml-deploy config check config.py         is this config right

    The first form is short for `awml-deploy run`; `awml-deploy run --help` lists its options.

    \b
    Exit codes: 0 all passed, 1 a bug, 2 command line or config, 3 the environment lacks something,
    4 load or export, 5 build, 6 verification, 7 evaluation, 8 artifact, 130 interrupted, 143 terminated.
    """  # noqa: D301  click wants a real backspace before what it must not wrap


@cli.command()
@_settings
@click.option("--stages", metavar="LIST", help="Only these, by commas: export,verify,build,evaluate,report.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@_json
@_verbose
@_level
def run(
    *,
    config: Path,
    safe_config: bool,
    stages: str | None,
    dry_run: bool,
    as_json: bool,
    log_level: str,
    verbose: bool,
    **said: Any,
) -> int:
    """Load, export, verify, evaluate and report, as far as the config enables it."""
    from awml_deploy_core import logs, story

    logs.set_up(log_level, verbose=verbose)
    job = story.prepare(config, story.options(**said), stages=stages, safe=safe_config)
    if dry_run:
        from awml_deploy_core import plan, text

        click.echo((text.planned_json if as_json else text.planned)(plan.plan(job)))
        return 0
    return _carried_out(story.carry_out, job, as_json=as_json, quiet=log_level in ("ERROR", "CRITICAL"))


def _carried_out(carry_out: Callable[..., Report], job: Job, *, as_json: bool, quiet: bool) -> int:
    """Show what a run does and what came of it: words on stderr, the document on stdout."""
    import json
    from contextlib import redirect_stdout

    from awml_deploy_core import ending
    from awml_deploy_core.report import document, terminal

    console = terminal.console(quiet=quiet)
    # What a plugin prints is for people; on stdout it would break the document.
    with redirect_stdout(sys.stderr), terminal.progress(console) as progress:
        report = carry_out(job, progress=progress)
    terminal.show(report, console)
    if as_json:
        try:
            click.echo(json.dumps(document.report(report), indent=2))
        except BrokenPipeError as error:
            raise ending.Unread(report.exit_code) from error
    return report.exit_code


@cli.command()
@click.option("--model", metavar="NAME", required=True, shell_complete=_complete_model, help="The model to start with.")
@click.option("--preset", metavar="NAME", help="Write a commented config of real size instead of the example.")
@click.argument("directory", type=FILE)
def init(model: str, preset: str | None, directory: Path) -> None:
    """Write a small complete deployment into DIRECTORY: config, trained weights, data."""
    from awml_deploy_core import example, text

    click.echo(text.started(model, example.write(model, directory, preset=preset), preset=preset))


@cli.command()
@click.option("--no-load", is_flag=True, help="Read installed metadata only, import nothing.")
@_json
def plugins(no_load: bool, as_json: bool) -> None:
    """List the installed models and whether their plugins are sound."""
    from awml_deploy_core import text
    from awml_deploy_core.plugins import describe

    click.echo((text.plugins_json if as_json else text.plugins)(describe(load=not no_load)))


@cli.group()
def config() -> None:
    """Check a config, show what it resolves to, or list every key."""


@config.command()
@_settings
def check(config: Path, safe_config: bool, **said: Any) -> None:
    """Say whether the config is right: every fault at once, exit code 2 if there is one."""
    from awml_deploy_core import story, text

    click.echo(text.checked(story.configure(config, story.options(**said), safe=safe_config)))


@config.command()
@_settings
@click.option(
    "--format", "style", type=click.Choice(("py", "yaml", "json")), default="py", show_default=True, help="Language."
)
@click.option("--changed", is_flag=True, help="Leave out what has its default.")
def show(config: Path, safe_config: bool, style: Style, changed: bool, **said: Any) -> None:
    """Print the resolved config: defaults < file < --set < options. It reads back to the same value."""
    from awml_deploy_core import settings, story

    settled = story.configure(config, story.options(**said), safe=safe_config)
    click.echo(settings.show(settled.config, style=style, defaults=not changed), nl=False)


@config.command()
@_model
def schema(model: str | None) -> None:
    """Print the JSON schema of the config, with the plugin's own keys if a model is named."""
    import json

    from awml_deploy_core import story, strict

    click.echo(json.dumps(strict.schema(story.config_class(model)), indent=2))


def main() -> None:
    """Run the command line and turn every ending into an exit code."""
    from awml_deploy_core import logs
    from awml_deploy_core.ending import end, leave

    gc.set_threshold(50_000)  # imports make many objects and no garbage; looking for it takes a twentieth of `plugins`
    verbose = bool({"-v", "--verbose"} & set(sys.argv))
    logs.set_up(verbose=verbose)
    leave(end(lambda: cli.main(prog_name="awml-deploy", standalone_mode=False), as_json="--json" in sys.argv))


if __name__ == "__main__":
    main()
