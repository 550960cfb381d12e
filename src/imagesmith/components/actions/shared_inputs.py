"""Inputs of several file actions (spec/components.md 10.12 to 10.21)."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from imagesmith.components.schema import Schema, flag, inputs, text

PERMISSIONS: Final = text(
    "Octal digits, such as 0644.", pattern=r"^0*[0-7]{1,4}$", expected="octal digits such as 0644"
)
OWNER: Final = text("User name or number.", pattern=r"^[^-:\s][^:\s]*$", expected="a name or a number")
GROUP: Final = text("Group name or number.", pattern=r"^[^-:\s][^:\s]*$", expected="a name or a number")
OVERWRITE: Final = flag("Replace an existing target; if false, it is an error.", default=True)
POSIX_ONLY: Final = MappingProxyType({"windows": ("owner", "group", "permissions")})
NOT_WINDOWS: Final = frozenset({"linux", "darwin"})


def transfer_inputs(noun: str, destination: str) -> Schema:
    """The inputs of copying and moving."""
    return inputs(
        {
            "source": text(f"{noun}; * is allowed after the last separator.", minLength=1),
            "destination": text(destination, minLength=1),
            "overwrite": OVERWRITE,
        },
        required=("source", "destination"),
    )
