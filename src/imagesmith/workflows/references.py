"""Every path of a document leads somewhere: to parameters, earlier steps, known variables (2.6, checks 9, 10)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from imagesmith.documents.fields import suggestion
from imagesmith.documents.nodes import ScalarNode
from imagesmith.values.diagnostics import Position, Problem
from imagesmith.workflows.paths import Path, PathError, Place, expression_of, parse_path, paths_in
from imagesmith.workflows.variables import VARIABLES, find_variable

ROOTS: Final = ("parameters", "stepOutputs", "workflowOutputs", "imagebuilder")
IMAGES_ACTION: Final = "DistributeImage"


@dataclass(frozen=True)
class Use:
    """A text that must be a path. `order` is the place of the step that uses it; outputs come after all steps."""

    text: str
    position: Position
    subject: str
    order: int
    images: bool = False
    """It must name the images of a DistributeImage step."""


@dataclass
class Uses:
    """Collects the paths of a document while it is read."""

    found: list[Use] = field(default_factory=list)

    def note(self, node: ScalarNode, place: Place, *, subject: str, order: int, images: bool = False) -> bool:
        """Collect the paths of a scalar; whether it has any."""
        try:
            expression = expression_of(node.text, place)
        except PathError:
            expression = Path(node.text, (node.text,))
        if isinstance(expression, Path):
            self.found.append(Use(node.text, node.position, subject, order, images))
            return True
        inside = list(paths_in(node.text))
        for body, offset in inside:
            self.found.append(Use(body, node.position_at(offset), subject, order))
        return bool(inside)


def check_uses(
    uses: Sequence[Use], problems: list[Problem], *, parameters: Collection[str], steps: Sequence[tuple[str, str]]
) -> None:
    """Report every path that cannot lead anywhere. `steps` are names and actions, in order."""
    check = _Check(problems, parameters, steps)
    for use in uses:
        check.use(use)


@dataclass(frozen=True)
class _Check:
    problems: list[Problem]
    parameters: Collection[str]
    steps: Sequence[tuple[str, str]]

    def use(self, use: Use) -> None:
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

    def _step(self, use: Use, path: Path) -> None:
        names = [name for name, _ in self.steps]
        if path.name not in names:
            hint = suggestion(path.name, names)
            self._report(use, "undefined-step", f"there is no step '{path.name}'", hint)
            return
        order = names.index(path.name)
        if order >= use.order:
            message = f"step '{path.name}' has no outputs yet: it does not stand before this step"
            self._report(use, "forward-reference", message)
        elif use.images and self.steps[order][1] != IMAGES_ACTION:
            self._report(use, "wrong-images", f"step '{path.name}' is no {IMAGES_ACTION} step")

    def _report(self, use: Use, code: str, message: str, hint: str = "") -> None:
        self.problems.append(Problem(code, f"{use.subject}: {message}", use.position, hint))
