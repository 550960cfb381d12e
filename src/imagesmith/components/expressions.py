"""The references `{{ ... }}` of a component document (spec/components.md 4).

body --parse_reference--> ParameterRef | StepRef | LoopRef | SsmRef | EnvRef | ImdsRef | ContextRef
                          | Malformed   (a known prefix that cannot be read: a validation error)
                          | None        (foreign: Go, Jinja and Docker templates stay literal,
                                          spec/components.md 4.6)
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

CONTEXT_KEYS: Final = (
    "executionId",
    "accountId",
    "region",
    "osPlatform",
    "osName",
    "osVersion",
    "date",
    "dateTime",
    "uuid",
    "hostname",
    "phase",
    "step",
)
FORBIDDEN_METADATA: Final = ("iam/", "identity-credentials/")

_NAME: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
_STEP: Final = re.compile(
    r"(?P<phase>[A-Za-z0-9_-]+)\.(?P<step>[A-Za-z0-9_-]+)\.(?P<side>inputs|outputs)(?P<rest>.*)\Z"
)
_REST: Final = re.compile(r"(?:\[(?P<index>[0-9]{1,9})\])?\.(?P<key>[A-Za-z0-9_-]+)\Z")
_LOOP: Final = re.compile(r"(?P<name>[A-Za-z0-9_-]+)\.(?P<field>index|value)\Z")
_SSM_NAME: Final = re.compile(r"[A-Za-z0-9_.:/-]+\Z")
_RESOLVE: Final = re.compile(r"resolve\([ \t]*(?P<inner>.+?)[ \t]*\)\Z")

Side = Literal["inputs", "outputs"]


@dataclass(frozen=True)
class ParameterRef:
    """A parameter or a constant: both share one namespace."""

    name: str


@dataclass(frozen=True)
class StepRef:
    """A value of an earlier step: `{{ phase.step.inputs[0].key }}`."""

    phase: str
    step: str
    side: Side
    index: int
    key: str


@dataclass(frozen=True)
class LoopRef:
    """`loop` or a loop's own name."""

    name: str
    field: Literal["index", "value"]


@dataclass(frozen=True)
class SsmRef:
    """A Parameter Store name; `source` names it indirectly: a document parameter, or another SsmRef."""

    name: str
    source: ParameterRef | SsmRef | None = None


@dataclass(frozen=True)
class EnvRef:
    """A variable of the environment of the build."""

    name: str


@dataclass(frozen=True)
class ImdsRef:
    """A path of the instance metadata service."""

    path: str


@dataclass(frozen=True)
class ContextRef:
    """A fact of the running build."""

    key: str


@dataclass(frozen=True)
class Malformed:
    """A reference that the grammar refuses, with the reason and a hint."""

    reason: str
    hint: str = ""


Ref: TypeAlias = ParameterRef | StepRef | LoopRef | SsmRef | EnvRef | ImdsRef | ContextRef


@functools.lru_cache(maxsize=4096)
def parse_reference(body: str) -> Ref | Malformed | None:
    """The reference in the text between the braces."""
    if body.startswith("aws:ssm:"):
        return _parse_ssm(body.removeprefix("aws:ssm:"), 0)
    if body.startswith("aws:imds:"):
        return _parse_metadata(body.removeprefix("aws:imds:"))
    if body.startswith("context:"):
        return _parse_context(body.removeprefix("context:"))
    if body.startswith("env:"):
        name = body.removeprefix("env:")
        return EnvRef(name) if name else Malformed("'env:' needs the name of a variable")
    step = _STEP.match(body)
    if step is not None:
        return _parse_step(step)
    loop = _LOOP.match(body)
    if loop is not None:
        return LoopRef(loop["name"], "index" if loop["field"] == "index" else "value")
    return ParameterRef(body) if _NAME.match(body) else None


def _parse_step(match: re.Match[str]) -> StepRef | Malformed:
    rest = _REST.match(match["rest"])
    side: Side = "inputs" if match["side"] == "inputs" else "outputs"
    if rest is None:
        form = f"{match['phase']}.{match['step']}.{side}.KEY"
        return Malformed(f"the reference to step '{match['step']}' needs a key", f"write {{{{ {form} }}}}")
    return StepRef(
        phase=match["phase"], step=match["step"], side=side, index=int(rest["index"] or 0), key=rest["key"]
    )


def _parse_ssm(name: str, depth: int) -> SsmRef | Malformed:
    resolve = _RESOLVE.match(name)
    if resolve is None:
        if _SSM_NAME.match(name):
            return SsmRef(name)
        return Malformed("'aws:ssm:' needs the name of a parameter", "as in {{ aws:ssm:/path/name }}")
    inner = resolve["inner"]
    if depth >= 3:
        return Malformed("'resolve' is nested too deep")
    if inner.startswith("aws:ssm:"):
        source = _parse_ssm(inner.removeprefix("aws:ssm:"), depth + 1)
        return source if isinstance(source, Malformed) else SsmRef("", source)
    if _NAME.match(inner):
        return SsmRef("", ParameterRef(inner))
    return Malformed("'resolve' needs a parameter of this document, or another 'aws:ssm:' name")


def _parse_metadata(path: str) -> ImdsRef | Malformed:
    if not path or path.startswith("/") or ".." in path.split("/"):
        return Malformed("'aws:imds:' needs a path below meta-data/", "as in {{ aws:imds:instance-id }}")
    if f"{path.lower()}/".startswith(FORBIDDEN_METADATA):
        return Malformed(f"the metadata path '{path[:80]}' contains credentials and cannot be read")
    return ImdsRef(path)


def _parse_context(key: str) -> ContextRef | Malformed:
    if key in CONTEXT_KEYS:
        return ContextRef(key)
    return Malformed(f"'context:{key[:80]}' is not known", f"known keys: {', '.join(CONTEXT_KEYS)}")
