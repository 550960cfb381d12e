"""ExecuteComponents: the components of the recipe on an instance (spec/workflows.md 5.4, spec/components.md)."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imagesmith.components.execution import DocumentRun, RunOptions
from imagesmith.components.grammar import parse_component
from imagesmith.components.reporting import NullReporter, StepPlace
from imagesmith.components.results import ExecutionResult, StepResult
from imagesmith.components.runner import run_documents
from imagesmith.components.services import Services, SystemClock
from imagesmith.instances.machine.instance import MachineInstance
from imagesmith.instances.protocol import Instance
from imagesmith.processes import Stream
from imagesmith.recipes.dockerfile import split_template
from imagesmith.recipes.plan import BuildPlan
from imagesmith.workflows import disk_cache
from imagesmith.workflows.failures import StepFailed, component_failure
from imagesmith.workflows.role_access import s3_of
from imagesmith.workflows.steps.context import Outcome, StepRun

_TAIL_LINES = 12


@dataclass(frozen=True)
class ComponentStage:
    """Which phases run in which stage of an image (spec/components.md 2.9)."""

    phases: tuple[str, ...]
    image_phase: str
    """IMAGE_PHASE of the components: BUILDING or TESTING."""


BUILD = ComponentStage(("build", "validate"), "BUILDING")
TEST = ComponentStage(("test",), "TESTING")


class _LogReporter(NullReporter):
    """Writes a run into the build log and keeps the last lines of the running step."""

    def __init__(self, run: StepRun) -> None:
        self._run = run
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def output(self, stream: Stream, text: str) -> None:
        del stream
        self.tail.append(text)
        self._run.say(f"    {text}")

    def step_started(self, place: StepPlace) -> None:
        self.tail.clear()
        component = place.label.rsplit("component/", 1)[-1]
        self._run.say(f"{component} {place.phase}/{place.step} ({place.action})")

    def step_finished(self, place: StepPlace, result: StepResult) -> None:
        line = f"{place.phase}/{place.step}: {result.status} in {result.seconds:.1f} s"
        if result.failure_message:
            line += f": {result.failure_message} (line {result.position.line} of the document)"
        self._run.say(line)


def execute_components(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Run the phases of this stage of every component in recipe order; skipped when there are none."""
    plan = run.plan
    stage = TEST if run.type == "TEST" else BUILD
    container = plan.kind == "container"
    if container and stage is BUILD and not split_template(plan.dockerfile).runs_components:
        run.say("the Dockerfile has no components variable: build and validate phases do not run")
        return Outcome(skipped=True)
    documents = parse_documents(plan)
    if not any(phase.name in stage.phases for item in documents for phase in item.document.phases):
        run.say(f"no component has a phase {' or '.join(stage.phases)}")
        return Outcome(skipped=True)
    instance = run.instance(inputs, changes=False)
    with run.timed("components" if stage is BUILD else "tests"):
        result = _run(run, stage, documents, instance)
    return Outcome({"runCommandId": run.command_id, "status": "Success", "output": result.execution_id})


def _run(
    run: StepRun, stage: ComponentStage, documents: Sequence[DocumentRun], instance: Instance
) -> ExecutionResult:
    if not isinstance(instance, MachineInstance) or instance.state is None:
        return _run_all(run, stage, documents, instance)
    changing = [
        (component, document)
        for component, document in zip(run.plan.components, documents, strict=True)
        if any(phase.name in stage.phases for phase in document.document.phases)
    ]
    environment = component_environment(run, stage)
    ways = disk_cache.stages(run, instance.state, [component for component, _ in changing], environment)
    known = disk_cache.resume(run, instance, ways)
    disk_cache.explain(run, ways, known)
    if known == len(ways):
        return _nothing_to_run(run)

    def after(index: int) -> None:
        disk_cache.keep_component(run, instance, ways[known + index])

    try:
        return _run_all(run, stage, [document for _, document in changing[known:]], instance, after)
    except StepFailed:
        instance.state = None
        raise


def _nothing_to_run(run: StepRun) -> ExecutionResult:
    now = run.shop.clock()
    return ExecutionResult(
        execution_id=str(uuid.uuid4()), status="success", started=now, ended=now, documents=(), failure=None,
        chaining={}, log_url="",
    )  # fmt: skip


def _run_all(
    run: StepRun,
    stage: ComponentStage,
    documents: Sequence[DocumentRun],
    instance: Instance,
    after_document: Callable[[int], None] = lambda _: None,
) -> ExecutionResult:
    plan = run.plan
    directory = plan.working_directory
    made = instance.run(["sh", "-c", 'test -d "$1" || mkdir -p -- "$1"', "sh", directory])
    if made.returncode != 0:
        raise StepFailed(f"the working directory {directory} cannot be used: {made.tail(3)}")
    reporter = _LogReporter(run)
    options = RunOptions(
        environment=component_environment(run, stage),
        working_directory=directory,
        services=Services(s3=s3_of(plan, run.shop.s3)),
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
        cancellation=run.cancellation,
        after_document=after_document,
    )
    if result.status != "success":
        raise component_failure(result, "\n".join(reporter.tail))
    return result


def parse_documents(plan: BuildPlan) -> Sequence[DocumentRun]:
    """The documents of a plan; they were checked when they were created. Raises StepFailed."""
    documents = []
    for component in plan.components:
        parsed = parse_component(component.text)
        if parsed.document is None:
            problems = "; ".join(problem.render(component.arn) for problem in parsed.problems)
            raise StepFailed(f"a component document is not usable: {problems}")
        documents.append(DocumentRun(parsed.document, component.arn, component.parameters))
    return documents


def component_environment(run: StepRun, stage: ComponentStage) -> dict[str, str]:
    """The variables that component processes see (spec/components.md 4.5)."""
    plan = run.plan
    return {
        "IMAGE_WORKFLOW_EXECUTION_ID": run.execution,
        "IMAGE_STEP_EXECUTION_ID": run.step_id,
        "IMAGE_BUILD_VERSION_ARN": plan.image_arn,
        "IMAGE_PIPELINE_ARN": plan.pipeline_arn,
        "IMAGE_PHASE": stage.image_phase,
        "IMAGE_VERSION": plan.version,
        "IMAGE_BUILD_VERSION": str(plan.build),
        "WORKING_DIRECTORY": plan.working_directory,
    }
