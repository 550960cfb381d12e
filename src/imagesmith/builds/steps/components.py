"""ExecuteComponents: the components of the recipe on an instance (spec/workflows.md 5.4, spec/components.md)."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from imagesmith.accounts.secret_box import open_existing
from imagesmith.builds import disk_cache
from imagesmith.builds.component_cache import ComponentCache
from imagesmith.builds.component_inputs import visible_variables
from imagesmith.builds.container import cache_use
from imagesmith.builds.failures import StepFailed, component_failure
from imagesmith.builds.instance_metadata import InstanceMetadata
from imagesmith.builds.nested_documents import RunDocuments
from imagesmith.builds.reproducible import layer_rules
from imagesmith.builds.steps.context import Outcome, StepRun
from imagesmith.components.execution import DocumentRun, RunOptions
from imagesmith.components.grammar import parse_component
from imagesmith.components.phases import idle_phases, idle_reason
from imagesmith.components.reporting import NullReporter, ReportedStep
from imagesmith.components.results import ExecutionResult, StepResult
from imagesmith.components.runner import run_documents
from imagesmith.components.services import Services, SystemClock
from imagesmith.components.stored_parameters import StoredParameters
from imagesmith.distribution.role_access import s3_of
from imagesmith.instances.command import Command
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.machine.instance import MachineInstance
from imagesmith.instances.protocol import Instance
from imagesmith.processes import Stream
from imagesmith.recipes.plan import BuildPlan, PlannedComponent
from imagesmith.store.build_outcome import BuildUpdate
from imagesmith.values.states import ImageStatus

_TAIL_LINES = 12


@dataclass(frozen=True)
class ComponentStage:
    """The phases of components in a stage of an image (spec/components.md 2.9)."""

    phases: tuple[str, ...]
    image_phase: str
    """The components' IMAGE_PHASE: BUILDING or TESTING."""


BUILD = ComponentStage(("build", "validate"), ImageStatus.BUILDING)
TEST = ComponentStage(("test",), ImageStatus.TESTING)


class _LogReporter(NullReporter):
    """Logs a run of components and keeps the last lines of the running step."""

    def __init__(self, run: StepRun) -> None:
        self._run = run
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def output(self, stream: Stream, text: str) -> None:
        del stream
        self.tail.append(text)
        self._run.note(f"    {text}")

    def step_started(self, step: ReportedStep) -> None:
        self.tail.clear()
        component = step.label.rsplit("component/", 1)[-1]
        self._run.note(f"{component} {step.phase}/{step.name} ({step.action})")

    def step_finished(self, step: ReportedStep, result: StepResult) -> None:
        line = f"{step.phase}/{step.name}: {result.status} in {result.seconds:.1f} s"
        if result.failure_message:
            line += f": {result.failure_message} (line {result.position.line} of the document)"
        self._run.note(line)


def execute_components(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Run this stage's phases of every component in recipe order; skipped if there are none."""
    plan = run.plan
    stage = TEST if run.type == "TEST" else BUILD
    idle = run.kind.without_components(plan) if stage is BUILD else ""
    if idle:
        run.note(idle)
        return Outcome(skipped=True)
    documents = parse_documents(plan)
    if stage is BUILD and plan.reproducible is not None:
        documents = _with_equal_variables(run, documents)
    _log_idle(run, stage, documents)
    if not any(phase.name in stage.phases for item in documents for phase in item.document.phases):
        run.note(f"no component has a phase {' or '.join(stage.phases)}")
        return Outcome(skipped=True)
    instance = run.attach_instance(inputs)
    with run.timed("components" if stage is BUILD else "tests"):
        hits: list[Mapping[str, Any]] = []
        result = _run(run, stage, documents, instance, str(inputs["instanceId"]), hits)
    outputs = {"runCommandId": run.command_id, "status": "Success", "output": result.execution_id}
    cached = {run.step_name: hits} if stage is BUILD else None
    return Outcome(outputs, update=BuildUpdate(cached=cached))


def _log_idle(run: StepRun, stage: ComponentStage, documents: Sequence[DocumentRun]) -> None:
    """Log components whose phases no build runs, which recipes of an earlier version may hold."""
    for item in documents if stage is BUILD else ():
        for phase in idle_phases(item.document):
            run.note(f"warning: {item.label.rsplit('component/', 1)[-1]}: {idle_reason(phase.name)}")


def _run(
    run: StepRun, stage: ComponentStage, documents: Sequence[DocumentRun], instance: Instance, instance_id: str,
    hits: list[Mapping[str, Any]],
) -> ExecutionResult:  # fmt: skip
    changing = [
        (component, document)
        for component, document in zip(run.plan.components, documents, strict=True)
        if any(phase.name in stage.phases for phase in document.document.phases)
    ]
    apart = run.plan.cache.components or run.plan.reproducible is not None
    if isinstance(instance, ContainerInstance) and stage is BUILD and apart and run.plan.machine is None:
        return _run_apart(run, changing, instance, instance_id, hits)
    if not isinstance(instance, MachineInstance) or instance.disk.state is None:
        return _run_all(run, stage, documents, instance, instance_id)
    environment = component_environment(run, stage)
    stages = disk_cache.stages(
        run.plan,
        instance.disk.state,
        [component for component, _ in changing],
        environment,
        now=run.worker_context.clock(),
    )
    known = disk_cache.resume(run, instance, stages, now=run.worker_context.clock())
    disk_cache.explain(run, stages, known)
    if known == len(stages):
        return _nothing_to_run(run)

    def after(index: int) -> None:
        disk_cache.keep_component(run, instance, stages[known + index], now=run.worker_context.clock())

    try:
        left = [
            replace(document, environment=way.environment)
            for (_, document), way in zip(changing[known:], stages[known:], strict=True)
        ]
        return _run_all(run, stage, left, instance, instance_id, after)
    except StepFailed:
        instance.disk.state = None
        raise


def _with_equal_variables(run: StepRun, documents: Sequence[DocumentRun]) -> list[DocumentRun]:
    """Documents that see what is equal in all runs of the recipe, and what they name themselves."""
    environment = component_environment(run, BUILD)
    return [
        replace(document, environment=visible_variables(component, environment))
        for component, document in zip(run.plan.components, documents, strict=True)
    ]


def _run_apart(
    run: StepRun, changing: Sequence[tuple[PlannedComponent, DocumentRun]], instance: ContainerInstance,
    instance_id: str, hits: list[Mapping[str, Any]],
) -> ExecutionResult:  # fmt: skip
    """Run each component on its own, so that its layer can be kept, and not what earlier builds have."""
    results = [_nothing_to_run(run)]

    def one(index: int, environment: Mapping[str, str]) -> None:
        document = replace(changing[index][1], environment=environment)
        results.append(_run_all(run, BUILD, [document], instance, instance_id))

    cache = ComponentCache(
        work=run, use=cache_use(run, hits), instance=instance, environment=component_environment(run, BUILD),
        rules=layer_rules(run),
    )  # fmt: skip
    cache.perform([component for component, _ in changing], one)
    return results[-1]


def _nothing_to_run(run: StepRun) -> ExecutionResult:
    now = run.worker_context.clock()
    return ExecutionResult(
        execution_id=str(uuid.uuid4()), status="success", started=now, ended=now, documents=(), failure=None,
        chaining={}, log_url="",
    )  # fmt: skip


def _run_all(
    run: StepRun,
    stage: ComponentStage,
    documents: Sequence[DocumentRun],
    instance: Instance,
    instance_id: str,
    after_document: Callable[[int], None] = lambda _: None,
) -> ExecutionResult:
    plan = run.plan
    directory = plan.working_directory
    made = instance.run(Command(["sh", "-c", 'test -d "$1" || mkdir -p -- "$1"', "sh", directory]))
    if made.returncode != 0:
        raise StepFailed(f"the working directory {directory} cannot be used: {made.tail(3)}")
    reporter = _LogReporter(run)
    options = RunOptions(
        environment=component_environment(run, stage),
        working_directory=directory,
        services=_services(run, instance, instance_id),
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


def _services(run: StepRun, instance: Instance, instance_id: str) -> Services:
    plan, database = run.plan, run.worker_context.records.database
    box = partial(open_existing, run.worker_context.settings)
    nested = [document for component in plan.components for document in component.documents]
    return Services(
        components=RunDocuments(plan, nested, database, run.note),
        parameters=StoredParameters(database.read, box, plan.account, plan.region),
        metadata=InstanceMetadata(plan.account, plan.region, instance, instance_id),
        s3=s3_of(plan, run.worker_context.s3),
        offline=plan.network == "none",
    )


def parse_documents(plan: BuildPlan) -> Sequence[DocumentRun]:
    """Parse the documents of a plan, which were checked at their creation. Raises StepFailed."""
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
    wanted = plan.reproducible
    return {
        **({"SOURCE_DATE_EPOCH": str(wanted.epoch)} if wanted is not None else {}),
        "IMAGE_WORKFLOW_EXECUTION_ID": run.execution,
        "IMAGE_STEP_EXECUTION_ID": run.step_id,
        "IMAGE_BUILD_VERSION_ARN": plan.image_arn,
        "IMAGE_PIPELINE_ARN": plan.pipeline_arn,
        "IMAGE_PHASE": stage.image_phase,
        "IMAGE_VERSION": plan.version,
        "IMAGE_BUILD_VERSION": str(plan.build),
        "WORKING_DIRECTORY": plan.working_directory,
    }
