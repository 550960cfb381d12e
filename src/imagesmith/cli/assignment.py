"""The type of options that set one parameter."""

from __future__ import annotations

import click


class Assignment(click.ParamType[tuple[str, str]]):
    """NAME=VALUE; the value may hold any text, including equal signs."""

    name = "NAME=VALUE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, separator, text = str(value).partition("=")
        if not separator or not name:
            self.fail(f"'{value}' is not of the form NAME=VALUE", param, ctx)
        return name, text
