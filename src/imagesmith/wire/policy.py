"""The policy of an access key: which operations it may call.

    "policy": {"allow": ["imagebuilder:Get*", "imagebuilder:List*"], "deny": ["imagebuilder:GetComponent"]}

`*` stands for any text, `?` for one character; upper and lower case are alike, as in IAM. `allow` left out means
every operation; `deny` wins over `allow`. A key without a policy may do everything in its account.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from imagesmith.values.globs import matches_any

_ACTION: Final = re.compile(r"(?:imagebuilder:[A-Za-z*?]{1,128}|\*)")
_MEMBERS: Final = frozenset({"allow", "deny"})
_MOST: Final = 100


class PolicyError(ValueError):
    """A policy that cannot be used: names the member and the expected form."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The operations that an access key may call; a denial wins."""

    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()

    def permits(self, operation: str) -> bool:
        action = f"imagebuilder:{operation}"
        if matches_any(self.deny, action, ignore_case=True):
            return False
        return matches_any(self.allow, action, ignore_case=True)

    @classmethod
    def read(cls, value: Any) -> Policy:
        """A policy from the key file. Raises PolicyError."""
        if not isinstance(value, dict) or not set(value) <= _MEMBERS:
            raise PolicyError('must be an object with "allow" and "deny"')
        return cls(**{name: _actions(name, patterns) for name, patterns in value.items()})


def _actions(name: str, patterns: Any) -> tuple[str, ...]:
    if not isinstance(patterns, list) or len(patterns) > _MOST:
        raise PolicyError(f"{name} must be a list of at most {_MOST} patterns")
    for pattern in patterns:
        if not isinstance(pattern, str) or not _ACTION.fullmatch(pattern):
            raise PolicyError(f'{name} contains {pattern!r}, expected a pattern like "imagebuilder:Get*"')
    return tuple(patterns)
