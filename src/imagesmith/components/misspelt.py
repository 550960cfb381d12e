"""Detects text in braces that was meant as a reference: a warning with the likely form
(spec/components.md 4.6).

It stays literal, because docker, Jinja and Go templates use braces as well. So only text that resembles a form of
this language is reported: one word, whose parts are names of this document, of its loops, or of known prefixes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from imagesmith.components.expressions import CONTEXT_KEYS, LoopRef, parse_reference
from imagesmith.components.model import ComponentDocument
from imagesmith.documents.fields import close_word

_WORD: Final = re.compile(r"[A-Za-z0-9_.$:/()\[\]-]+\Z")
_INDEX: Final = re.compile(r"\[[0-9]*\]\Z")
_PREFIXES: Final = ("aws:ssm", "aws:imds", "env", "context")
_SIDES: Final = {"output": "outputs", "outputs": "outputs", "input": "inputs", "inputs": "inputs"}
_GROUPS: Final = frozenset(
    {"parameters", "parameter", "params", "param", "constants", "constant", "vars", "var", "inputs"}
)
_FIELDS: Final = {
    "idx": "index", "ind": "index", "indx": "index", "i": "index", "index0": "index", "item": "value",
    "val": "value", "values": "value", "indices": "index", "counter": "index", "key": "value", "element": "value",
}  # fmt: skip
GO_WORDS: Final = frozenset({"end", "else", "break", "continue"})
"""Actions of Go's templates that look like parameter names."""
_STRANGERS: Final = {
    "global:": "component documents do not have this prefix",
    "ssm:": "the Parameter Store is 'aws:ssm:'",
    "resolve:ssm": "the Parameter Store is 'aws:ssm:'",
    "secretsmanager:": "use {{ aws:ssm:/aws/reference/secretsmanager/NAME }}",
    "resolve:secretsmanager:": "use {{ aws:ssm:/aws/reference/secretsmanager/NAME }}",
    "aws:secretsmanager:": "use {{ aws:ssm:/aws/reference/secretsmanager/NAME }}",
}
_NESTED: Final = re.compile(r"\{\{[ \t]*(?:aws:ssm|aws:imds|env|context):[^{}\r\n]*\{\{")


@dataclass(frozen=True)
class Near:
    """The probable meaning of a text in braces."""

    message: str
    hint: str


def near_reference(body: str, document: ComponentDocument, loops: Iterable[str]) -> Near | None:
    """The probable meaning of a body that is not replaced; None for text of other programs. `loops`: the step's."""
    plain = " ".join(body.split())
    if plain != body and parse_reference(plain) is not None:
        return Near("it contains a special space, such as a no-break space", f"write {{{{ {plain} }}}}")
    reference = parse_reference(body)
    if isinstance(reference, LoopRef):
        return _foreign_loop(reference, document, tuple(loops))
    if reference is not None or not _WORD.match(body):
        return None
    for start, hint in _STRANGERS.items():
        if body.lower().startswith(start):
            return Near("it is not resolved in a component", hint)
    if body.lower() == "aws" or body.lower().startswith("aws:"):
        meant = _prefixed(body)
        hint = f"did you mean '{{{{ {meant} }}}}'?" if meant else "known: aws:ssm:NAME, aws:imds:PATH"
        return Near("it is not a reference and is left unchanged", hint)
    found = _looped(body, loops) or _grouped(body, document) or _prefixed(body) or chained_path(body, document)
    if not found:
        return None
    return Near("it is not a reference and is left unchanged", f"did you mean '{{{{ {found} }}}}'?")


def nested_references(text: str) -> Iterator[int]:
    """Where references begin that have another one inside, which are not replaced: offsets into the text."""
    return (found.start() for found in _NESTED.finditer(text))


def _foreign_loop(reference: LoopRef, document: ComponentDocument, loops: tuple[str, ...]) -> Near | None:
    if reference.name in loops or reference.name == "loop":
        return None  # Jinja has a `loop` as well
    known = {step.loop.name for phase in document.phases for step in phase.steps if step.loop and step.loop.name}
    if reference.name in known:
        return Near("it is the loop of another step and is left unchanged", "chain with outputs instead")
    close = close_word(reference.name, loops)
    if not close or (close == "loop" and close.lower() != reference.name.lower()):
        return None
    return Near(
        "it is not a reference and is left unchanged", f"did you mean '{{{{ {close}.{reference.field} }}}}'?"
    )


def _prefixed(body: str) -> str | None:
    """`Env:HOME`, `env.HOME`, `aws.ssm:/x`, `contxt:phase`."""
    for parts in (2, 1):
        pieces = re.split(r"[:.]", body, maxsplit=parts)
        if len(pieces) <= parts or not pieces[parts]:
            continue
        known = [prefix for prefix in _PREFIXES if prefix.count(":") == parts - 1]
        prefix, rest = close_word(":".join(pieces[:parts]), known), pieces[parts]
        if prefix == "context":
            rest = close_word(rest, CONTEXT_KEYS)
        if prefix and rest:
            return f"{prefix}:{rest}"
    return None


def chained_path(body: str, document: ComponentDocument) -> str | None:
    """A chained value with a wrong, missing or surplus part."""
    parts = body.removeprefix("$").strip(".").split(".")
    bare = [_INDEX.sub("", part) for part in parts]
    if bare[0] in ("steps", "stepOutputs", "phases"):
        parts, bare = parts[1:], bare[1:]
    phases = [phase.name for phase in document.phases]
    side = next((at for at, part in enumerate(bare) if close_word(part, _SIDES) and at in (1, 2)), None)
    if side is not None and side + 1 < len(parts):
        name = _SIDES[close_word(bare[side], _SIDES)]
        tail = ".".join([name + parts[side][len(bare[side]) :], *parts[side + 1 :]])
        step = bare[side - 1]
        for phase in document.phases:
            found = close_word(step, [item.name for item in phase.steps])
            if found and (side == 1 or phase.name == (close_word(bare[0], phases) or phase.name)):
                return f"{phase.name}.{found}.{tail}"
        return None
    if len(bare) in (2, 3):
        *above, step, key = bare
        for phase in document.phases:
            known = phase.step(step)
            if known is not None and (not above or above[0] == phase.name):
                return f"{phase.name}.{step}.outputs.{key}"
    return None


def _grouped(body: str, document: ComponentDocument) -> str | None:
    """`parameters.Port`, `$.parameters.Port`, `$Port`."""
    names = [item.name for item in document.parameters] + [item.name for item in document.constants]
    parts = body.removeprefix("$").strip(".").split(".")
    if len(parts) == 2 and parts[0].lower() in _GROUPS:
        return close_word(parts[1], names) or None
    return parts[0] if len(parts) == 1 and parts[0] in names else None


def _looped(body: str, loops: Iterable[str]) -> str | None:
    parts = body.split(".")
    if len(parts) != 2 or parts[0].lower() not in {"loop", *(name.lower() for name in loops)}:
        return None
    name = next((item for item in loops if item.lower() == parts[0].lower()), "loop")
    field = _FIELDS.get(parts[1].lower()) or close_word(parts[1], ("index", "value"))
    return f"{name}.{field}" if field else None
