"""The dynamic values in names and tags of AMIs (spec/api.md 5.2, 6.3).

{{ imagebuilder:buildDate }}, {{ imagebuilder:buildDate:yyyy-MM-dd }}, {{ imagebuilder:buildVersion }}
{{ ssm:NAME }}     in tags: what the parameter of the build Region holds
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from imagesmith.store.parameters import get_parameter
from imagesmith.values.names import iso_instant, parse_instant
from imagesmith.workflows.work import Work

_TOKEN: Final = re.compile(r"\{\{\s*imagebuilder:(buildDate|buildVersion)(?::([^{}]*?))?\s*\}\}")
_PARAMETER: Final = re.compile(r"\{\{\s*ssm:([^{}\s]+)\s*\}\}")
_FORMATS: Final = (("yyyy", "%Y"), ("MM", "%m"), ("dd", "%d"), ("HH", "%H"), ("mm", "%M"), ("ss", "%S"))


def rendered(text: str, work: Work) -> str:
    """`{{ imagebuilder:buildDate }}` and `{{ imagebuilder:buildVersion }}` replaced; other braces stay."""
    moment = str(work.plan.variables.get("dateTime") or iso_instant(work.shop.clock()))

    def value(found: re.Match[str]) -> str:
        if found[1] == "buildVersion":
            return str(work.plan.build)
        pattern = found[2]
        if not pattern:
            return moment.replace(":", "-")
        for token, directive in _FORMATS:
            pattern = pattern.replace(token, directive)
        return parse_instant(moment).strftime(pattern)

    return _TOKEN.sub(value, text)


def rendered_tags(tags: Mapping[str, str], work: Work) -> dict[str, str]:
    """Tags with their dynamic values; a parameter that has no value stays as it is written, and the log says so."""

    def value(found: re.Match[str]) -> str:
        with work.shop.records.database.read() as tx:
            parameter = get_parameter(tx, work.plan.account, work.plan.region, found[1])
        if parameter is None:
            work.log.line("distribute", f"warning: the tag value {found[0]} names a parameter that has no value")
            return found[0]
        return parameter.value

    return {key: _PARAMETER.sub(value, rendered(str(text), work)) for key, text in tags.items()}
