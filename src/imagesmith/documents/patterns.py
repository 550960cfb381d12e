"""RE2's pattern language, compiled to a small automaton (spec/components.md 6.2).

A pattern comes from a document that nobody trusts, and the standard library's engine can take exponential time,
so patterns are parsed here and run by `automaton.search` in time linear in the text. Only "is it found" is ever
asked, so groups capture nothing and lazy repetition equals greedy.

    text --_Parser--> tree of closures over _Builder --> Program (flat instructions)

Left out of RE2: `\\C`, and `\\p{...}` with script names (general categories work).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from imagesmith.documents.characters import CharClass, cases_of, category_class, named_class, perl_class

MAX_PATTERN: Final = 4096
MAX_REPEAT: Final = 1000
MAX_PROGRAM: Final = 5000
MAX_NESTING: Final = 100

Assertion = Literal["text-start", "text-end", "line-start", "line-end", "word", "not-word"]


class PatternError(ValueError):
    """A pattern that RE2 does not accept; the text says why."""


@dataclass(frozen=True, slots=True)
class Take:
    """Consume one character: one of `literals`, or, when there are none, one of the class."""

    literals: frozenset[str]
    accepts: CharClass
    fold: bool

    def holds(self, char: str) -> bool:
        if self.literals:
            return char in self.literals
        return self.accepts.holds_folded(char) if self.fold else self.accepts.holds(char)


@dataclass(frozen=True, slots=True)
class Check:
    kind: Assertion


@dataclass(frozen=True, slots=True)
class Jump:
    """Continue at each of the targets."""

    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Found:
    pass


Instruction = Take | Check | Jump | Found


@dataclass(frozen=True)
class Program:
    """Instructions; execution starts at 0, the last one is Found."""

    instructions: tuple[Instruction, ...]


def compile_pattern(pattern: str, *, ignore_case: bool = False) -> Program:
    """Compile a pattern. Raises PatternError."""
    if len(pattern) > MAX_PATTERN:
        raise PatternError(f"the pattern has {len(pattern)} characters; the limit is {MAX_PATTERN}")
    tree = _Parser(pattern, ignore_case).parse()
    builder = _Builder()
    tree(builder)
    builder.emit(Found())
    return Program(tuple(builder.code))


@dataclass
class _Builder:
    code: list[Instruction] = field(default_factory=list)

    def emit(self, instruction: Instruction) -> int:
        if len(self.code) >= MAX_PROGRAM:
            raise PatternError("the pattern is too large once its repetitions are written out")
        self.code.append(instruction)
        return len(self.code) - 1


_Tree = Callable[[_Builder], None]


def _concat(parts: list[_Tree]) -> _Tree:
    def build(out: _Builder) -> None:
        for part in parts:
            part(out)

    return build


def _one(instruction: Instruction) -> _Tree:
    def build(out: _Builder) -> None:
        out.emit(instruction)

    return build


def _either(options: list[_Tree]) -> _Tree:
    if len(options) == 1:
        return options[0]

    def build(out: _Builder) -> None:
        split = out.emit(Jump(()))
        starts: list[int] = []
        ends: list[int] = []
        for option in options:
            starts.append(len(out.code))
            option(out)
            ends.append(out.emit(Jump(())))
        after = len(out.code)
        out.code[split] = Jump(tuple(starts))
        for end in ends:
            out.code[end] = Jump((after,))

    return build


def _repeat(part: _Tree, low: int, high: int | None) -> _Tree:
    def build(out: _Builder) -> None:
        for _ in range(low):
            part(out)
        if high is None:
            loop = out.emit(Jump(()))
            part(out)
            out.emit(Jump((loop,)))
            out.code[loop] = Jump((loop + 1, len(out.code)))
            return
        skips: list[int] = []
        for _ in range(high - low):
            skips.append(out.emit(Jump(())))
            part(out)
        for skip in skips:
            out.code[skip] = Jump((skip + 1, len(out.code)))

    return build


@dataclass
class _Parser:
    text: str
    fold: bool
    at: int = 0
    multiline: bool = False
    dotall: bool = False
    depth: int = 0

    def parse(self) -> _Tree:
        tree = self._alternatives()
        if self.at < len(self.text):
            raise PatternError("unexpected ')'")
        return tree

    def _alternatives(self) -> _Tree:
        options = [self._sequence()]
        while self._accept("|"):
            options.append(self._sequence())
        return _either(options)

    def _sequence(self) -> _Tree:
        parts: list[_Tree] = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            if self._accept("\\Q"):
                parts += self._quoted()
                continue
            part = self._atom()
            parts.append(self._repetition(part))
        return _concat(parts)

    def _quoted(self) -> list[_Tree]:
        end = self.text.find("\\E", self.at)
        literal = self.text[self.at :] if end < 0 else self.text[self.at : end]
        self.at = len(self.text) if end < 0 else end + 2
        return [self._literal(char) for char in literal]

    def _repetition(self, part: _Tree) -> _Tree:
        bounds = self._bounds()
        if bounds is None:
            return part
        self._accept("?")
        if self._bounds() is not None:
            raise PatternError("a repetition cannot be repeated")
        low, high = bounds
        if max(low, high or 0) > MAX_REPEAT:
            raise PatternError(f"a repetition may not count beyond {MAX_REPEAT}")
        if high is not None and high < low:
            raise PatternError("a repetition counts backwards")
        return _repeat(part, low, high)

    def _bounds(self) -> tuple[int, int | None] | None:
        for char, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._accept(char):
                return bounds
        if not self.text.startswith("{", self.at):
            return None
        end = self.text.find("}", self.at, self.at + 16)
        low, comma, high = self.text[self.at + 1 : end].partition(",") if end > 0 else ("", "", "")
        if not _digits(low) or (high and not _digits(high)):
            return None  # RE2 takes a brace that counts nothing as a literal
        self.at = end + 1
        if not comma:
            return int(low), int(low)
        return int(low), int(high) if high else None

    def _atom(self) -> _Tree:
        char = self._next()
        if char == "(":
            return self._group()
        if char == "[":
            return _one(Take(frozenset(), self._char_class(), self.fold))
        if char == ".":
            return _one(Take(frozenset(), CharClass(((0x0A, 0x0A),) if not self.dotall else (), True), False))
        if char == "^":
            return _one(Check("line-start" if self.multiline else "text-start"))
        if char == "$":
            return _one(Check("line-end" if self.multiline else "text-end"))
        if char in "*+?":
            raise PatternError(f"nothing stands before '{char}'")
        if char == "\\":
            return self._escape()
        return self._literal(char)

    def _literal(self, char: str) -> _Tree:
        return _one(Take(frozenset(cases_of(char)) if self.fold else frozenset(char), CharClass(), False))

    def _group(self) -> _Tree:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise PatternError(f"groups are nested deeper than {MAX_NESTING}")
        saved = (self.fold, self.multiline, self.dotall)
        if self._accept("?"):
            flags_only = self._group_kind()
            if flags_only:
                self.depth -= 1
                return _concat([])
        tree = self._alternatives()
        if not self._accept(")"):
            raise PatternError("a '(' is not closed")
        self.fold, self.multiline, self.dotall = saved
        self.depth -= 1
        return tree

    def _group_kind(self) -> bool:
        """Read what follows `(?`; True when it was only flags, closed at once."""
        for opening in ("=", "!", "<=", "<!"):
            if self.text.startswith(opening, self.at):
                raise PatternError(f"look-around '(?{opening}' is not part of RE2")
        if self._accept("P<") or self._accept("<"):
            end = self.text.find(">", self.at)
            if end < 0 or not self.text[self.at : end].isidentifier():
                raise PatternError("a group name must be letters, digits and underscores")
            self.at = end + 1
            return False
        value = True
        while True:
            char = self._next()
            if char == "-":
                value = False
            elif char == "i":
                self.fold = value
            elif char == "m":
                self.multiline = value
            elif char == "s":
                self.dotall = value
            elif char == ":":
                return False
            elif char == ")":
                return True
            elif char != "U":  # ungreedy: makes no difference to whether a match exists
                raise PatternError(f"'(?{char}' is not part of RE2")

    def _escape(self) -> _Tree:
        char = self._next("a backslash ends the pattern")
        checks: dict[str, Assertion] = {"A": "text-start", "z": "text-end", "b": "word", "B": "not-word"}
        if char in checks:
            return _one(Check(checks[char]))
        shared = self._class_escape(char)
        if shared is not None:
            return _one(Take(frozenset(), shared, self.fold))
        return self._literal(self._char_escape(char))

    def _class_escape(self, char: str) -> CharClass | None:
        if char in "dDsSwW":
            return perl_class(char)
        if char not in "pP":
            return None
        name = self._next()
        if name == "{":
            end = self.text.find("}", self.at)
            name = self.text[self.at : max(end, self.at)]
            self.at = end + 1
        negate = (char == "P") != name.startswith("^")
        found = category_class(name.lstrip("^"), negate)
        if found is None:
            raise PatternError(f"the character class '{name}' is not known")
        return found

    def _char_escape(self, char: str) -> str:
        simple = {"a": "\a", "f": "\f", "t": "\t", "n": "\n", "r": "\r", "v": "\v"}
        if char in simple:
            return simple[char]
        if char == "x":
            return self._hexadecimal()
        if char in "01234567":
            following = self.text[self.at : self.at + 1]
            if char != "0" and following not in tuple("01234567"):
                raise PatternError(f"the back-reference '\\{char}' is not part of RE2")
            digits = char
            while len(digits) < 3 and self.text[self.at : self.at + 1] in tuple("01234567"):
                digits += self._next()
            return chr(int(digits, 8))
        if char.isascii() and not char.isalnum():
            return char
        raise PatternError(f"the escape '\\{char}' is not part of RE2")

    def _hexadecimal(self) -> str:
        if self._accept("{"):
            end = self.text.find("}", self.at)
            digits = self.text[self.at : max(end, self.at)]
            self.at = end + 1
        else:
            digits = self.text[self.at : self.at + 2]
            self.at += 2
        if not digits or len(digits) > 6 or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
            raise PatternError("'\\x' needs two hexadecimal digits, or some in braces")
        code = int(digits, 16)
        if code > 0x10FFFF:
            raise PatternError("'\\x' names no character")
        return chr(code)

    def _char_class(self) -> CharClass:
        negate = self._accept("^")
        parts: list[CharClass] = []
        first = True
        while first or not self.text.startswith("]", self.at):
            first = False
            if self._accept("[:"):
                end = self.text.find(":]", self.at)
                found = named_class(self.text[self.at : max(end, self.at)])
                if found is None:
                    raise PatternError("a class such as [:alpha:] is not known")
                self.at = end + 2
                parts.append(found)
                continue
            parts.append(self._class_item())
        self.at += 1
        return CharClass.union(parts, negate)

    def _class_item(self) -> CharClass:
        char = self._next("a '[' is not closed")
        if char == "\\":
            char = self._next("a '[' is not closed")
            shared = self._class_escape(char)
            if shared is not None:
                return shared
            char = self._char_escape(char)
        low = ord(char)
        if not self.text.startswith("-", self.at) or self.text.startswith("-]", self.at):
            return CharClass(((low, low),))
        self.at += 1
        char = self._next("a '[' is not closed")
        if char == "\\":
            char = self._char_escape(self._next("a '[' is not closed"))
        if ord(char) < low:
            raise PatternError("a range in '[...]' runs backwards")
        return CharClass(((low, ord(char)),))

    def _accept(self, token: str) -> bool:
        if not self.text.startswith(token, self.at):
            return False
        self.at += len(token)
        return True

    def _next(self, missing: str = "the pattern ends too early") -> str:
        if self.at >= len(self.text):
            raise PatternError(missing)
        self.at += 1
        return self.text[self.at - 1]


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()
