"""Checks that every path of a document refers to a parameter, an earlier step or a known variable
(spec/workflows.md 2.6, checks 9, 10)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from imagesmith.documents.fields import close_word, suggestion
from imagesmith.documents.nodes import ScalarNode
from imagesmith.documents.references import find_references
from imagesmith.values.diagnostics import Position, Problem
from imagesmith.workflow_documents.paths import Path, PathError, ValueContext, expression_of, parse_path, paths_in
from imagesmith.workflow_documents.variables import VARIABLES, find_variable

ROOTS: Final = ("parameters", "stepOutputs", "workflowOutputs", "imagebuilder")
_NEAR: Final = re.compile(r"[$.]*(?P<root>[A-Za-z]+)(?P<rest>\.[A-Za-z0-9_.\[\]-]+)\Z")
IMAGES_ACTION: Final = "DistributeImage"


@dataclass(frozen=True)
class PathUse:
    """A text that must be a path. `order` counts the step that uses it; outputs come after all steps."""

    text: str
    position: Position
    subject: str
    order: int
    images: bool = False
    """It must refer to the images of a DistributeImage step."""


@dataclass
class Uses:
    """Collects the paths of a document while it is read."""

    found: list[PathUse] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    """Texts that were probably meant as paths."""

    def note(self, node: ScalarNode, at: ValueContext, *, subject: str, order: int, images: bool = False) -> bool:
        """Collect the paths of a scalar; returns whether it has any."""
        try:
            expression = expression_of(node.text, at)
        except PathError:
            expression = Path(node.text, (node.text,))
        if isinstance(expression, Path):
            self.found.append(
                PathUse(text=node.text, position=node.position, subject=subject, order=order, images=images)
            )
            return True
        self._misspelt(node, subject)
        inside = list(paths_in(node.text))
        for body, offset in inside:
            self.found.append(PathUse(body, node.position_at(offset), subject, order))
        return bool(inside)

    def _misspelt(self, node: ScalarNode, subject: str) -> None:
        """Warn about braces that hold a path without its `$.`, and texts that are such a path."""
        for found in find_references(node.text):
            body = found.body
            meant = near_path(body)
            if meant:
                self._warn(
                    f"'{{{{ {body[:80]} }}}}' is not a path and is left unchanged", node.position_at(found.start),
                    f"did you mean '{{{{ {meant} }}}}'?", subject,
                )  # fmt: skip
        meant = near_path(node.text)
        if meant and "{{" not in node.text:
            self._warn(
                f"'{node.text[:80]}' is a string, not a path", node.position, f"did you mean '{meant}'?", subject
            )

    def _warn(self, message: str, position: Position, hint: str, subject: str) -> None:
        self.warnings.append(
            Problem(
                code="unknown-reference",
                message=f"{subject}: {message}",
                position=position,
                hint=hint,
                severity="warning",
            )
        )


def near_path(text: str) -> str:
    """The path that a text without `$.` at its beginning, or with blanks around it, was meant to be; else empty."""
    plain = text.strip()
    match = _NEAR.match(plain)
    if match is None or (plain == text and text.startswith(("$.", "$["))):
        return ""
    root = close_word(match["root"], ROOTS)
    return f"$.{root}{match['rest']}" if root else ""


def check_uses(
    uses: Sequence[PathUse],
    problems: list[Problem],
    *,
    parameters: Collection[str],
    steps: Sequence[tuple[str, str]],
    outputs: Mapping[str, Sequence[str]],
) -> None:
    """Report every path without a possible target. `steps` are names and actions; `outputs` are known by action."""
    check = _PathCheck(problems, parameters, steps, outputs)
    for use in uses:
        check.use(use)


@dataclass(frozen=True)
class _PathCheck:
    """Checks that each `$.` path of a document leads to a value."""

    problems: list[Problem]
    parameters: Collection[str]
    steps: Sequence[tuple[str, str]]
    outputs: Mapping[str, Sequence[str]]

    def use(self, use: PathUse) -> None:
        try:
            path = parse_path(use.text)
        except PathError as error:
            hint = "a value is $.parameters.NAME, $.stepOutputs.STEP.OUTPUT[0] or the like"
            self._report(use, "path-syntax", str(error), hint)
            return
        if path.root not in ROOTS:
            message = f"'{path.text}' begins with an unknown name"
            self._report(use, "path-root", message, suggestion(path.root, ROOTS))
        elif not path.name:
            self._report(use, "path-syntax", f"'{path.text}' needs a name after '{path.root}'")
        elif path.root == "parameters" and path.name not in self.parameters:
            hint = suggestion(path.name, self.parameters) if self.parameters else "declare it under 'parameters'"
            self._report(use, "undefined-parameter", f"there is no parameter '{path.name}'", hint)
        elif path.root == "stepOutputs":
            self._step(use, path)
        elif path.root == "imagebuilder" and find_variable(path.name) is None:
            hint = suggestion(path.name, [variable.name for variable in VARIABLES])
            self._report(use, "undefined-variable", f"there is no variable '{path.name}'", hint)
        if use.images and path.root in ROOTS and path.root != "stepOutputs":
            self._report(use, "wrong-images", f"'{path.text}' must begin with $.stepOutputs.")

    def _step(self, use: PathUse, path: Path) -> None:
        names = [name for name, _ in self.steps]
        if path.name not in names:
            hint = suggestion(path.name, names)
            self._report(use, "undefined-step", f"there is no step '{path.name}'", hint)
            return
        order = names.index(path.name)
        if order >= use.order:
            message = f"step '{path.name}' has no outputs yet: it is not before this step"
            self._report(use, "forward-reference", message)
        elif use.images and self.steps[order][1] != IMAGES_ACTION:
            self._report(use, "wrong-images", f"step '{path.name}' is not a {IMAGES_ACTION} step")
        else:
            self._output(use, path, self.steps[order][1])

    def _output(self, use: PathUse, path: Path, action: str) -> None:
        """Warn about an output that no table lists: the service's own guide uses one, so it is not an error
        (spec/workflows.md 2.6)."""
        known = self.outputs.get(action, ())
        name = str(path.segments[2]) if len(path.segments) > 2 else ""
        if name and known and name not in known:
            message = f"{use.subject}: {action} does not list an output '{name}'"
            self.problems.append(
                Problem(
                    code="unknown-output",
                    message=message,
                    position=use.position,
                    hint=suggestion(name, known),
                    severity="warning",
                )
            )

    def _report(self, use: PathUse, code: str, message: str, hint: str = "") -> None:
        self.problems.append(Problem(code, f"{use.subject}: {message}", use.position, hint))
