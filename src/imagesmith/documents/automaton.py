"""Runs a compiled pattern over a text: all possible places at once, so the time is linear in the text.

A state is the set of instructions that could come next plus what stood before; its transitions are computed when
first needed and remembered (a lazily built deterministic automaton), within fixed bounds of memory and work.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from imagesmith.documents.characters import is_word
from imagesmith.documents.patterns import Check, Found, Jump, PatternError, Program, Take

MAX_TEXT: Final = 2 * 1024 * 1024
MAX_WORK: Final = 500_000
"""Instructions visited while states are computed; about half a second."""
_MAX_TRANSITIONS: Final = 50_000

_Kind = Literal["edge", "newline", "word", "other"]


class _Matched(Exception):
    pass


@dataclass(slots=True, eq=False)
class _State:
    threads: frozenset[int]
    before: _Kind
    moves: dict[str, _State] = field(default_factory=dict)


def search(program: Program, text: str) -> bool:
    """True when the pattern is found anywhere in the text. Raises PatternError when that is too much work."""
    if len(text) > MAX_TEXT:
        raise PatternError(f"the text has {len(text)} characters; patterns are matched up to {MAX_TEXT}")
    return _Run(program).search(text)


class _Run:
    def __init__(self, program: Program) -> None:
        self._code = program.instructions
        self._states: dict[tuple[frozenset[int], _Kind], _State] = {}
        self._transitions = 0
        self._work = 0

    def search(self, text: str) -> bool:
        state = self._state(frozenset((0,)), "edge")
        try:
            for char in text:
                state = state.moves.get(char) or self._move(state, char)
            self._closure(state, "edge")
        except _Matched:
            return True
        return False

    def _state(self, threads: frozenset[int], before: _Kind) -> _State:
        key = (threads, before)
        found = self._states.get(key)
        if found is None:
            found = self._states[key] = _State(threads, before)
        return found

    def _move(self, state: _State, char: str) -> _State:
        if self._transitions >= _MAX_TRANSITIONS:
            # Forget everything: `state` itself stays alive through the caller, its moves restart empty.
            self._states.clear()
            state.moves.clear()
            self._transitions = 0
        kind = _kind(char)
        threads = {0}
        verdicts: dict[int, bool] = {}
        for at in self._closure(state, kind):
            instruction = self._code[at]
            if type(instruction) is not Take:
                continue
            accepted = verdicts.get(id(instruction))  # written-out repetitions share one instruction
            if accepted is None:
                accepted = verdicts[id(instruction)] = instruction.holds(char)
            if accepted:
                threads.add(at + 1)
        following = self._state(frozenset(threads), kind)
        state.moves[char] = following
        self._transitions += 1
        return following

    def _closure(self, state: _State, after: _Kind) -> set[int]:
        """Every instruction reachable without consuming; raises _Matched when Found is among them."""
        seen: set[int] = set()
        pending = list(state.threads)
        while pending:
            at = pending.pop()
            if at in seen:
                continue
            seen.add(at)
            instruction = self._code[at]
            if isinstance(instruction, Found):
                raise _Matched
            if isinstance(instruction, Jump):
                pending += instruction.targets
            elif isinstance(instruction, Check) and _holds(instruction, state.before, after):
                pending.append(at + 1)
        self._work += len(seen)
        if self._work > MAX_WORK:
            raise PatternError("matching this pattern against this text is too much work; use a simpler pattern")
        return seen


def _kind(char: str) -> _Kind:
    if char == "\n":
        return "newline"
    return "word" if is_word(char) else "other"


def _holds(check: Check, before: _Kind, after: _Kind) -> bool:
    if check.kind == "text-start":
        return before == "edge"
    if check.kind == "text-end":
        return after == "edge"
    if check.kind == "line-start":
        return before in ("edge", "newline")
    if check.kind == "line-end":
        return after in ("edge", "newline")
    boundary = (before == "word") != (after == "word")
    return boundary == (check.kind == "word")
