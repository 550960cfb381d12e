"""Assert, and the file operators of conditions on an instance (spec/components.md 6.4, 10.2).

Assert differs from other actions: its inputs are an expression, so the grammar reads them with
`conditions.parse_expression` and the runner answers them with `InstanceProbe`.
"""

from __future__ import annotations

from imagesmith.components.actions.base import (
    Action,
    ActionContext,
    ActionFailed,
    run_program,
    shell,
    text_of,
)

ASSERT = "Assert"


def actions() -> tuple[Action, ...]:
    return (
        Action(
            ASSERT,
            "Fails unless a condition is true; its inputs are one operator with its operands.",
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "properties": {},
                "minProperties": 1,
                "description": "Exactly one operator and its operand.",
            },
            None,
        ),
    )


class InstanceProbe:
    """Answers file operators inside the instance, within the step's time."""

    def __init__(self, context: ActionContext) -> None:
        self._context = context

    def binary_exists(self, name: str) -> bool:
        return self._test('type "$1" >/dev/null 2>&1', name)

    def file_exists(self, path: str) -> bool:
        return self._test('[ -f "$1" ]', path)

    def folder_exists(self, path: str) -> bool:
        return self._test('[ -d "$1" ]', path)

    def file_digest(self, path: str, algorithm: str) -> str | None:
        if not self.file_exists(path):
            return None
        try:
            completed = shell(self._context, f'{algorithm}sum <"$1"', path)
        except ActionFailed as failure:
            if "not found" in str(failure):
                raise ActionFailed(
                    f"{algorithm}sum is missing in the instance; it is needed to check '{path}'"
                ) from failure
            return None
        return text_of(completed.stdout).split()[0].lower()

    def _test(self, script: str, argument: str) -> bool:
        if not argument:
            return False
        return run_program(self._context, ("sh", "-c", script, "sh", argument), quiet=True).returncode == 0
