"""The stages of a run, one module each, and what they share: the job, and the story of what has happened so far.

A stage reads the story and adds to it. What fails in a stage is noted and does not end the run; a later stage looks at
what is there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

from awml_deploy_core.build.flavor import Flavor
from awml_deploy_core.build.policy import Plan
from awml_deploy_core.build.program import Program
from awml_deploy_core.config import Config
from awml_deploy_core.errors import DeployError, ExitCode, RequirementError
from awml_deploy_core.judge import Verification
from awml_deploy_core.overrides import Graph
from awml_deploy_core.plugins import Loaded
from awml_deploy_core.records import Evaluation, Sample, Skip, Variant
from awml_deploy_core.report import Crossing, Delivery, EngineNote, ExportNote, Shown, Stage

if TYPE_CHECKING:
    from awml_deploy_core.evaluate import Evaluated  # noqa: TC004  it would bring torch with it
    from awml_deploy_core.ladder import Network  # noqa: TC004  as above

log = logging.getLogger(__name__)

STAGES = ("export", "verify", "build", "evaluate", "handover", "report")

Progress = Callable[[str, int, int], None]


@frozen(kw_only=True, eq=False)
class Job:
    """What a run is about: the plugin, its settings, which stages were asked for, and whether by name."""

    plugin: Loaded
    config: Config
    notes: tuple[str, ...] = ()
    stages: tuple[str, ...] = STAGES
    named: bool = False
    command: tuple[str, ...] = ()

    @property
    def exports(self) -> bool:
        """Whether ONNX files are made."""
        return "export" in self.stages and self.config.export.mode in ("onnx", "both")

    @property
    def builds(self) -> bool:
        """Whether engines are built."""
        return "build" in self.stages and self.config.export.mode in ("trt", "both")

    @property
    def verifies(self) -> bool:
        """Whether variants are held against each other."""
        return "verify" in self.stages and self.config.verification.enabled

    @property
    def work_dir(self) -> Path:
        """Where everything is written."""
        return self.config.export.work_dir


@define(kw_only=True, eq=False)
class Story:
    """What has happened so far."""

    job: Job
    scratch: Path
    progress: Progress | None = None
    graphs: tuple[Graph, ...] = ()
    samples: Sequence[Sample] = ()
    network: Network | None = None
    examples: dict[str, Any] = field(factory=dict)
    shapes: dict[str, dict[str, tuple[int, ...]]] = field(factory=dict)
    recorded: tuple[str, ...] = ()
    calls: list[tuple[str, Path]] = field(factory=list)
    stages: list[Stage] = field(factory=list)
    variants: list[Variant] = field(factory=list)
    exports: list[ExportNote] = field(factory=list)
    flavor: Flavor | None = None
    program: Program | None = None
    no_flavor: RequirementError | None = None
    plans: dict[str, Plan] = field(factory=dict)
    islands: dict[str, dict[str, str]] = field(factory=dict)
    fed: dict[str, Mapping[str, list[Path]]] = field(factory=dict)
    engines: list[EngineNote] = field(factory=list)
    verification: Verification = field(factory=Verification)
    evaluated: list[Evaluated] = field(factory=list)
    skipped: list[Evaluation] = field(factory=list)
    crossings: list[Crossing] = field(factory=list)
    unequal: tuple[tuple[str, tuple[str, ...]], ...] = ()
    pictures: list[Shown] = field(factory=list)
    deliveries: list[Delivery] = field(factory=list)
    notes: list[str] = field(factory=list)

    def variant(self, name: str) -> Variant | None:
        """The rung of that name, if there is one."""
        return next((variant for variant in self.variants if variant.name == name), None)

    def no_engine(self) -> Skip:
        """Why there is no engine."""
        if self.no_flavor is not None:
            return Skip(reason="no package", detail=self.no_flavor.message)
        return Skip(reason="no artifact", detail="no engine was built")


@contextmanager
def stage(story: Story, name: Any, *, skip: Skip | None = None) -> Iterator[list[str]]:
    """Time a stage and note how it ended; a failure that a user can act on does not end the run.

    Yields:
        A list for what there is to say. `Unmet` raised inside ends the stage without being an error.
    """
    clock, said = time.monotonic(), []  # type: float, list[str]
    status: Any = "skipped" if skip else "passed"
    code = 0
    try:
        yield said
    except Unmet as unmet:
        status, code = unmet.status, unmet.code
        said.append(str(unmet))
    except SystemExit as error:
        # Code of a plugin must not end a run as if all were well.
        status, code = "failed", int(ExitCode.BUG)
        said.append(f"the plugin, or what it uses, called sys.exit({error.code})")
        log.debug("%s failed:", name, exc_info=error)
    except DeployError as error:
        status, code = "failed", int(error.exit_code)
        said.append(error.message + (f" ({error.hint})" if error.hint else ""))
        log.debug("%s failed:", name, exc_info=error)
    if skip:
        said.append(f"{skip.reason}{': ' + skip.detail if skip.detail else ''}")
    seconds = time.monotonic() - clock
    story.stages.append(
        Stage(name=name, status=status, seconds=seconds, detail="; ".join(said), skipped=skip, exit_code=code)
    )
    log.log(logging.ERROR if code else logging.INFO, "%-9s %-10s %6.1f s  %s", name, status, seconds, "; ".join(said))


class Unmet(Exception):  # noqa: N818  a verdict that ends a stage, not an error
    """A gate that was not met."""

    def __init__(self, status: str, code: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code


def failed(story: Story, *names: str) -> bool:
    """Whether one of these stages failed."""
    return any(one.exit_code and one.name in names for one in story.stages)
