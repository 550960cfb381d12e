"""`--chmod`: octal as in 0755, or symbolic as in `u=rwX,go-w`."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from typing import Final

from imagesmith.copying.program.failures import UserFailure, shown

_OCTAL: Final = re.compile(r"0*[0-7]{1,4}\Z")
_CLAUSE: Final = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)\Z")
_ACTION: Final = re.compile(r"([-+=])([rwxXstugo]*)")
_SHIFTS: Final = {"u": 6, "g": 3, "o": 0}
_SET_IDS: Final = stat.S_ISUID | stat.S_ISGID
_AFFECTED: Final = {
    "u": stat.S_ISUID | stat.S_IRWXU, "g": stat.S_ISGID | stat.S_IRWXG, "o": stat.S_ISVTX | stat.S_IRWXO,
}  # fmt: skip
_BITS: Final = {"r": 4, "w": 2, "x": 1}
FOLDER_MODE: Final = 0o755


@dataclass(frozen=True)
class _Action:
    """One action of a symbolic mode, such as `u+x`."""

    who: str
    """Letters of `ugo`."""
    sign: str
    rights: str


@dataclass(frozen=True)
class ModeChange:
    """What `--chmod` asks for."""

    octal: int | None
    actions: tuple[_Action, ...] = ()

    @classmethod
    def parse(cls, text: str) -> ModeChange:
        """Raises UserFailure."""
        if _OCTAL.match(text):
            return cls(int(text, 8))
        actions: list[_Action] = []
        for clause in text.split(","):
            found = _CLAUSE.match(clause)
            if not found:
                raise UserFailure(
                    f"invalid chmod parameter: '{shown(text)}'. it should be octal string and between 0 and 07777, "
                    "or symbolic like u=rwX,go-w"
                )
            who = "ugo" if not found[1] or "a" in found[1] else found[1]
            actions += [_Action(who, sign, rights) for sign, rights in _ACTION.findall(found[2])]
        return cls(None, tuple(actions))

    def apply(self, mode: int) -> int:
        """The new permission bits of a file with this mode, its type included."""
        if self.octal is not None:
            return self.octal
        changed = stat.S_IMODE(mode)
        for action in self.actions:
            changed = _applied(action, changed, mode)
        return changed

    def new_folder(self) -> int:
        """The mode of a folder that is made on the way to the destination."""
        return self.apply(stat.S_IFDIR | FOLDER_MODE)


def _applied(action: _Action, mode: int, original: int) -> int:
    """`X` and the copied rights of `g=u` are those of the original mode."""
    affected = sum(_AFFECTED[who] for who in set(action.who))
    if stat.S_ISDIR(original) and "s" not in action.rights:
        affected &= ~_SET_IDS  # as chmod: a folder keeps these unless they are named
    wanted = _rights(action.rights, original) * 0o111
    if "s" in action.rights:
        wanted |= _SET_IDS
    if "t" in action.rights:
        wanted |= stat.S_ISVTX
    wanted &= affected
    if action.sign == "+":
        return mode | wanted
    if action.sign == "-":
        return mode & ~wanted
    return mode & ~affected | wanted


def _rights(rights: str, original: int) -> int:
    if rights in _SHIFTS:
        return original >> _SHIFTS[rights] & 0o7
    bits = 0
    for letter in rights:
        if letter == "X":
            bits |= 1 if stat.S_ISDIR(original) or original & 0o111 else 0
        else:
            bits |= _BITS.get(letter, 0)
    return bits
