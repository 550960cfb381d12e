"""Dynamic values in names and tags of AMIs (spec/api.md 5.2, 6.3).

{{ imagebuilder:buildDate }}, {{ imagebuilder:buildDate:yyyy-MM-dd }}, {{ imagebuilder:buildVersion }}
{{ ssm:NAME }}     in tags: the value of the parameter in the build Region
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from imagesmith.distribution.destination import DistributionContext
from imagesmith.store.parameters import get_parameter
from imagesmith.values.names import iso_instant, parse_instant

_TOKEN: Final = re.compile(r"\{\{\s*imagebuilder:(buildDate|buildVersion)(?::([^{}]*?))?\s*\}\}")
_PARAMETER: Final = re.compile(r"\{\{\s*ssm:([^{}\s]+)\s*\}\}")
_FORMATS: Final = MappingProxyType(
    {"yyyy": "%Y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S"}
)  # fmt: skip
_LETTERS: Final = re.compile("|".join(_FORMATS))


def rendered(text: str, context: DistributionContext) -> str:
    """`{{ imagebuilder:buildDate }}` and `{{ imagebuilder:buildVersion }}` replaced; other braces stay."""
    moment = str(context.plan.variables.get("dateTime") or iso_instant(context.clock()))

    def value(found: re.Match[str]) -> str:
        if found[1] == "buildVersion":
            return str(context.plan.build)
        pattern = found[2]
        if not pattern:
            return moment.replace(":", "-")
        # strftime gets only the letters of the format: it accepts directives with a width of any length
        when = parse_instant(moment)
        return _LETTERS.sub(lambda letters: when.strftime(_FORMATS[letters[0]]), pattern)

    return _TOKEN.sub(value, text)


def rendered_tags(tags: Mapping[str, str], context: DistributionContext) -> dict[str, str]:
    """Tags with their dynamic values; a secure parameter, and one without a value,
    stay as written, and the log says so."""

    def value(found: re.Match[str]) -> str:
        parameter = context.database.query(
            lambda tx: get_parameter(tx, context.plan.account, context.plan.region, found[1])
        )
        if parameter is None:
            context.log.line("distribute", f"warning: the tag value {found[0]} names a parameter that has no value")
            return found[0]
        if parameter.secure:
            context.log.line("distribute", f"warning: the tag value {found[0]} names a secret, which nothing shows")
            return found[0]
        return parameter.value

    return {key: _PARAMETER.sub(value, rendered(str(text), context)) for key, text in tags.items()}
