"""Everything that the result of a component can depend on: what the keys of cached results cover. Pure.

Every input that a process can read must be in the key or be hidden from the process: a script finds variables by
`env`, in a loop, or in a file that it downloads. So a component whose result is kept sees only the variables that
its document names and the variables that are equal in all runs of a recipe.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from imagesmith.recipes.plan import PlannedComponent
from imagesmith.values.arn import Arn
from imagesmith.values.names import sha256_hex

_NEVER_THE_SAME: Final = {
    "context:uuid": "which differs in every run", "context:dateTime": "which differs in every run",
    "context:executionId": "which differs in every run", "aws:imds:": "which differs between machines",
    "aws:ssm:": "whose value is read when it runs", "ExecuteDocument": "whose document is read when it runs",
    "S3Upload": "which has to write into the bucket each time",
}  # fmt: skip
"""Features that change a component's result from run to run without a change of its document, or act outside."""
_DAILY: Final = "context:date"
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHARED: Final = ("IMAGE_PHASE", "IMAGE_VERSION", "WORKING_DIRECTORY", "SOURCE_DATE_EPOCH")
"""Variables that every component sees: they are equal in all runs of a recipe."""


def reason_not_to_keep(component: PlannedComponent) -> str:
    """Why the result of a component is never kept; empty for most."""
    found = next((word for word in _NEVER_THE_SAME if word in component.text), "")
    return f"{Arn.parse(component.arn).path} uses {found}, {_NEVER_THE_SAME[found]}" if found else ""


def visible_variables(component: PlannedComponent, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a component sees whose result is kept."""
    texts = (component.text, *component.parameters.values())
    named = {word for text in texts for word in _WORD.findall(text)}
    return {name: value for name, value in environment.items() if name in _SHARED or name in named}


def component_inputs(
    component: PlannedComponent, environment: Mapping[str, str], *, now: datetime
) -> dict[str, Any]:
    """The inputs of a component but the state that it starts on; `environment` is what it sees."""
    used = dict(environment)
    if _DAILY in component.text:
        used["date"] = now.astimezone(UTC).strftime("%Y-%m-%d")
    return {
        "document": sha256_hex(component.text),
        "parameter": {name: sha256_hex(value) for name, value in component.parameters.items()},
        "variable": used,
    }
