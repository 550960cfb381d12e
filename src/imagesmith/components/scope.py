"""The values of references at one moment of a run (spec/components.md 4).

ExecutionContext   context keys and environment of the instance and the execution   one per execution
Scope      of a document: parameters, constants, outputs of its steps       one per document
resolver   of a step: adds its names and the current iteration              one per iteration
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from imagesmith.components.actions.registry import action_registry
from imagesmith.components.expressions import (
    ContextRef,
    EnvRef,
    ImdsRef,
    LoopRef,
    Malformed,
    ParameterRef,
    SsmRef,
    StepRef,
    parse_reference,
)
from imagesmith.components.inputs import resolve_data
from imagesmith.components.loops import Iteration
from imagesmith.components.misspelt import GO_WORDS
from imagesmith.components.model import ComponentDocument, ComponentStep
from imagesmith.components.secrets import Secrets
from imagesmith.components.services import Clock, NotConfigured, Services
from imagesmith.documents.nodes import Data
from imagesmith.documents.references import replace_references
from imagesmith.instances.command import Command
from imagesmith.instances.protocol import Instance
from imagesmith.values.expansion import Budget, TooLarge

_MAX_CHAIN: Final = 16
_MAX_RECORDED: Final = 4096
"""Most references, and most characters of each value, in chaining.json."""
_SSM: Final = "aws:ssm:"


class UnresolvedReference(ValueError):
    """A reference that has no value at this moment; the text names it and the reason."""


@dataclass
class ExecutionContext:
    """The values of `context:` and `env:`. The instance is queried once, at the first use."""

    instance: Instance
    environment: Mapping[str, str]
    services: Services
    clock: Clock
    ids: Callable[[], str]
    execution_id: str
    account: str
    region: str
    platform: str
    _release: dict[str, str] | None = None

    def context(self, key: str) -> str:
        if key in ("osName", "osVersion", "hostname"):
            return self._instance_values().get(key, "")
        now = self.clock.now()
        values: dict[str, Callable[[], str]] = {
            "executionId": lambda: self.execution_id,
            "accountId": lambda: self.account,
            "region": lambda: self.region,
            "osPlatform": lambda: self.platform,
            "date": lambda: now.strftime("%Y-%m-%d"),
            "dateTime": lambda: now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "uuid": self.ids,
        }
        return values[key]()

    def variable(self, name: str) -> str:
        return self.environment.get(name, self.instance.environment.get(name, ""))

    def _instance_values(self) -> dict[str, str]:
        if self._release is None:
            script = "uname -n; cat /etc/os-release 2>/dev/null"
            completed = self.instance.run(Command(("sh", "-c", script), timeout=60))
            hostname, _, release = completed.stdout.decode(errors="replace").partition("\n")
            fields = dict(line.split("=", 1) for line in release.splitlines() if "=" in line)
            self._release = {
                "hostname": hostname,
                "osName": fields.get("NAME", "").strip("\"'"),
                "osVersion": fields.get("VERSION_ID", "").strip("\"'"),
            }
        return self._release


@dataclass
class StepRecord:
    """The part of an ended step that chaining can use."""

    status: str
    inputs: list[Data]
    outputs: list[Mapping[str, Any]]


@dataclass
class DocumentScope:
    """What references of a document can name while it runs."""

    document: ComponentDocument
    values: Mapping[str, str]
    """Parameters and constants."""
    execution: ExecutionContext
    secrets: Secrets
    records: dict[tuple[str, str], StepRecord] = field(default_factory=dict)
    resolved: dict[str, str] = field(default_factory=dict)
    """Chaining references that were replaced, with their last values, for chaining.json."""

    def resolver(self, phase: str, step: ComponentStep, iteration: Iteration | None = None) -> Callable[[str], str]:
        """A function that replaces the references in texts of a step. All texts share one budget."""
        return _View(scope=self, phase=phase, step=step, iteration=iteration, budget=Budget()).text


@dataclass
class _View:
    """A scope as one step sees it, in one iteration of its loop."""

    scope: DocumentScope
    phase: str
    step: ComponentStep
    iteration: Iteration | None
    budget: Budget
    depth: int = 0

    def text(self, text: str) -> str:
        """The text with its references replaced. Raises UnresolvedReference."""
        try:
            return replace_references(text, self.value, self.budget)
        except TooLarge as error:
            raise UnresolvedReference(str(error)) from error

    def value(self, body: str) -> str | None:
        """The value of the text between the braces; None leaves the reference unchanged."""
        reference = parse_reference(body)
        if reference is None:
            return None
        if isinstance(reference, ParameterRef):
            if reference.name in GO_WORDS and reference.name not in self.scope.values:
                return None
            return self._parameter(reference.name)
        if isinstance(reference, LoopRef):
            return self._loop(reference)
        if isinstance(reference, StepRef):
            return self._chained(reference, body)
        if isinstance(reference, ContextRef):
            if reference.key in ("phase", "step"):
                return self.phase if reference.key == "phase" else self.step.name
            return self.scope.execution.context(reference.key)
        if isinstance(reference, EnvRef):
            return self.scope.execution.variable(reference.name)
        if isinstance(reference, Malformed):
            raise UnresolvedReference(f"{{{{ {body} }}}}: {reference.reason}")
        return self._fetched(reference, body)

    def _chained(self, reference: StepRef, body: str) -> str:
        value = render(self._step_value(reference, body))
        known = self.scope.resolved
        if body in known or len(known) < _MAX_RECORDED:
            known[body] = value if len(value) <= _MAX_RECORDED else f"{value[:_MAX_RECORDED]}..."
        return value

    def _parameter(self, name: str) -> str:
        try:
            return self.scope.values[name]
        except KeyError as error:
            raise UnresolvedReference(f"{{{{ {name} }}}} is neither a parameter nor a constant") from error

    def _loop(self, reference: LoopRef) -> str | None:
        loop = self.step.loop
        if loop is None or self.iteration is None or reference.name not in ("loop", loop.name):
            return None
        return str(self.iteration.index) if reference.field == "index" else self.iteration.value

    def _fetched(self, reference: SsmRef | ImdsRef, body: str) -> str:
        services = self.scope.execution.services
        try:
            if isinstance(reference, ImdsRef):
                return services.metadata.get(reference.path)
            return self._stored(reference)
        except NotConfigured as error:
            raise UnresolvedReference(f"{{{{ {body} }}}}: {error}") from error
        except LookupError as error:
            raise UnresolvedReference(f"{{{{ {body} }}}} was not found: {error}") from error

    def _stored(self, reference: SsmRef) -> str:
        name = reference.name
        if isinstance(reference.source, ParameterRef):
            name = self._parameter(reference.source.name).removeprefix(_SSM)
        elif isinstance(reference.source, SsmRef):
            name = self._stored(reference.source)
        stored = self.scope.execution.services.parameters.get(name)
        if stored.secure:
            self.scope.secrets.add(stored.value)
        if "\n" in stored.value.rstrip("\n"):
            raise UnresolvedReference(f"the value of the stored parameter '{name}' has several lines")
        return stored.value

    def _step_value(self, reference: StepRef, body: str) -> Any:
        record = self.scope.records.get((reference.phase, reference.step))
        if reference.side == "outputs":
            return self._output(reference, record, body)
        inputs = record.inputs if record is not None and record.inputs else self._static_inputs(reference, body)
        if reference.index >= len(inputs):
            raise UnresolvedReference(f"{{{{ {body} }}}}: the step has {len(inputs)} inputs, counted from 0")
        entry = inputs[reference.index]
        if isinstance(entry, Mapping) and reference.key in entry:
            return entry[reference.key]
        return self._default_input(reference)

    def _output(self, reference: StepRef, record: StepRecord | None, body: str) -> Any:
        if record is None:
            raise UnresolvedReference(
                f"{{{{ {body} }}}}: step '{reference.step}' in phase '{reference.phase}' did not run here"
            )
        if not record.outputs:
            return ""  # skipped, tolerated failure, or a loop without a pass (spec/components.md 4.3, rule 10)
        if reference.index >= len(record.outputs):
            raise UnresolvedReference(
                f"{{{{ {body} }}}}: the step has {len(record.outputs)} outputs, counted from 0"
            )
        return record.outputs[reference.index].get(reference.key, "")

    def _static_inputs(self, reference: StepRef, body: str) -> list[Data]:
        """Inputs of a step that did not run (yet): resolvable unless they need outputs
        (spec/components.md 4.3, rule 9)."""
        step = self.scope.document.step(reference.phase, reference.step)
        if step is None:
            raise UnresolvedReference(f"{{{{ {body} }}}}: there is no such step")
        if self.depth >= _MAX_CHAIN:
            raise UnresolvedReference(f"{{{{ {body} }}}}: inputs form a circle of references")
        view = _View(
            scope=self.scope,
            phase=reference.phase,
            step=step,
            iteration=None,
            budget=self.budget,
            depth=self.depth + 1,
        )
        return [resolve_data(entry, view.text) for entry in step.entries]

    def _default_input(self, reference: StepRef) -> Any:
        step = self.scope.document.step(reference.phase, reference.step)
        action = action_registry().get(step.action) if step is not None else None
        properties = action.schema.get("properties", {}) if action is not None else {}
        return properties.get(reference.key, {}).get("default", "")


def render(value: Any) -> str:
    """A value as inserted text: lists are joined with newlines (spec/components.md 4.3, rule 11)."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "\n".join(render(item) for item in value)
    if isinstance(value, Mapping):
        return json.dumps(value, separators=(",", ":"))
    return str(value)
