"""Generates the page docs/settings.md from the declarations of the settings, for script/settings-page."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from imagesmith import settings_sections
from imagesmith.settings import Settings
from imagesmith.settings_loader import environment_names
from imagesmith.values.declared import Keys, plain_type, rule_of

_HEAD = """# Settings

Made by `script/settings-page` from `settings.py` and `settings_sections.py`; do not edit. A value outside of these
ranges is refused at the start, with its key. Where to set them: [operations](operations.md#settings).
"""


def page() -> str:
    """The text of the page."""
    tables = [_table("", Settings)]
    for name, hint in get_type_hints(Settings, include_extras=True).items():
        kind: Any = plain_type(hint)
        rule = rule_of(hint)
        if isinstance(rule, Keys):
            of_key: Any = get_args(kind)[1]
            tables.append(_table(f"[{name}.KEY]", of_key, f"KEY: {rule.text}."))
        elif kind.__module__ == settings_sections.__name__:
            tables.append(_table(f"[{name}]", kind))
    return "\n".join([_HEAD, *tables])


def _table(title: str, kind: type, about: str = "") -> str:
    heading = f"## `{title}`" if title else "## At the top"
    words = " ".join(filter(None, [_one_line(inspect.getdoc(kind) or "") if title else "", about]))
    rows = ["| Key | Values | Default | Variable | Meaning |", "|---|---|---|---|---|", *_rows(title, kind)]
    return "\n".join([heading, *(["", words] if words else []), "", *rows, ""])


def _rows(title: str, kind: type) -> Iterator[str]:
    meanings = _meanings(kind)
    hints = get_type_hints(kind, include_extras=True)
    variables = {keys: variable for variable, keys, _ in environment_names()}
    group = (title.strip("[]"),) if title else ()
    for member in fields(kind):
        hint = hints[member.name]
        if not title and (
            isinstance(rule_of(hint), Keys) or plain_type(hint).__module__ == settings_sections.__name__
        ):
            continue
        if member.name == "data_dir":
            continue
        variable = variables.get((*group, member.name), "")
        cells = [f"`{member.name}`", _allowed(hint), _default(member), f"`{variable}`" if variable else ""]
        cells.append(meanings.get(member.name, ""))
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _allowed(hint: Any) -> str:
    kind = plain_type(hint)
    if get_origin(kind) is Literal:
        return " or ".join(f'`"{choice}"`' for choice in get_args(kind))
    if kind is bool:
        return "`true` or `false`"
    rule = rule_of(hint)
    return f"a list; each {rule}" if get_origin(kind) is tuple else str(rule)


def _default(member: Field[Any]) -> str:
    if member.default is MISSING:
        return "required"
    value = list(member.default) if isinstance(member.default, tuple) else member.default
    text = str(value).lower() if isinstance(value, bool) else str(value).replace("'", '"')
    return f'`"{text}"`' if isinstance(value, str) else f"`{text}`"


def _meanings(kind: type) -> dict[str, str]:
    """The docstring below each member in the source."""
    [body] = ast.parse(inspect.getsource(kind)).body
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for member, text in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name)
            and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
        ):  # fmt: skip
            found[member.target.id] = _one_line(str(text.value.value))
    return found


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    sys.stdout.write(page())
