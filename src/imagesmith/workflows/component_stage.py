"""Running the components of a plan on an instance: environment, log lines, and what a failure means."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from imagesmith.components.execution import DocumentRun, RunOptions
from imagesmith.components.grammar import parse_component
from imagesmith.components.reporting import NullReporter, StepPlace
from imagesmith.components.results import StepResult
from imagesmith.components.runner import run_documents
from imagesmith.components.services import S3Config, Services, SystemClock
from imagesmith.instances.protocol import Instance
from imagesmith.processes import Cancellation, Stream
from imagesmith.recipes.plan import BuildPlan
from imagesmith.workflows.failures import StageFailed, component_failure, workflow_execution_id
from imagesmith.workflows.logs import BuildLog

_TAIL_LINES = 12


@dataclass(frozen=True)
class ComponentStage:
    """Which phases run in which stage of an image (spec/components.md 2.9)."""

    name: str
    """Prefix of its log lines."""
    phases: tuple[str, ...]
    image_phase: str
    """IMAGE_PHASE of the components: BUILDING or TESTING."""


BUILD = ComponentStage("build", ("build", "validate"), "BUILDING")
TEST = ComponentStage("test", ("test",), "TESTING")


class _LogReporter(NullReporter):
    """Writes a run into the build log and keeps the last lines of the running step."""

    def __init__(self, log: BuildLog, stage: str) -> None:
        self._log = log
        self._stage = stage
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def output(self, stream: Stream, text: str) -> None:
        del stream
        self.tail.append(text)
        self._log.line(self._stage, f"    {text}")

    def step_started(self, place: StepPlace) -> None:
        self.tail.clear()
        component = place.label.rsplit("component/", 1)[-1]
        self._log.line(self._stage, f"{component} {place.phase}/{place.step} ({place.action})")

    def step_finished(self, place: StepPlace, result: StepResult) -> None:
        line = f"{place.phase}/{place.step}: {result.status} in {result.seconds:.1f} s"
        if result.failure_message:
            line += f": {result.failure_message} (line {result.position.line} of the document)"
        self._log.line(self._stage, line)


def run_components(
    plan: BuildPlan,
    stage: ComponentStage,
    instance: Instance,
    *,
    log: BuildLog,
    s3: S3Config,
    cancellation: Cancellation,
) -> None:
    """Run the stage's phases of every component in recipe order. Raises StageFailed and Cancelled."""
    documents = parse_documents(plan)
    if not any(phase.name in stage.phases for run in documents for phase in run.document.phases):
        log.line(stage.name, f"no component has a phase {' or '.join(stage.phases)}")
        return
    directory = plan.working_directory
    made = instance.run(["sh", "-c", 'test -d "$1" || mkdir -p -- "$1"', "sh", directory])
    if made.returncode != 0:
        raise StageFailed(f"the working directory {directory} cannot be used: {made.tail(3)}")
    reporter = _LogReporter(log, stage.name)
    options = RunOptions(
        environment=component_environment(plan, stage),
        working_directory=directory,
        services=Services(s3=s3),
        account=plan.account,
        region=plan.region,
    )
    result = run_documents(
        documents,
        instance,
        clock=SystemClock(),
        ids=lambda: str(uuid.uuid4()),
        phases=stage.phases,
        options=options,
        reporter=reporter,
        cancellation=cancellation,
    )
    if result.status != "success":
        raise component_failure(plan, stage.name, result, "\n".join(reporter.tail))


def parse_documents(plan: BuildPlan) -> Sequence[DocumentRun]:
    """The documents of a plan; they were checked when they were created. Raises StageFailed."""
    documents = []
    for component in plan.components:
        parsed = parse_component(component.text)
        if parsed.document is None:
            problems = "; ".join(problem.render(component.arn) for problem in parsed.problems)
            raise StageFailed(f"a component document is not usable: {problems}")
        documents.append(DocumentRun(parsed.document, component.arn, component.parameters))
    return documents


def component_environment(plan: BuildPlan, stage: ComponentStage) -> dict[str, str]:
    """The variables that component processes see (spec/components.md 4.5)."""
    return {
        "IMAGE_WORKFLOW_EXECUTION_ID": workflow_execution_id(plan, stage.name),
        "IMAGE_STEP_EXECUTION_ID": workflow_execution_id(plan, stage.name).replace("wf-", "step-", 1),
        "IMAGE_BUILD_VERSION_ARN": plan.image_arn,
        "IMAGE_PIPELINE_ARN": plan.pipeline_arn,
        "IMAGE_PHASE": stage.image_phase,
        "IMAGE_VERSION": plan.version,
        "IMAGE_BUILD_VERSION": str(plan.build),
        "WORKING_DIRECTORY": plan.working_directory,
    }
