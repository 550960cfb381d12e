"""Chooses the package mirror of a base: from the settings, else from this machine's apt. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_ONE_LINE = re.compile(r"deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)")


@dataclass(frozen=True)
class Mirrors:
    """The sources of packages and security updates."""

    main: str
    security: str

    def sources(self, suite: str, components: Iterable[str]) -> list[str]:
        """The lines of sources.list for a suite."""
        names = " ".join(components)
        lines = [f"deb {self.main} {suite} {names}", f"deb {self.main} {suite}-updates {names}"]
        return [*lines, f"deb {self.security} {suite}-security {names}"] if self.security else lines


def choose_mirrors(configured: str, source_files: Iterable[str]) -> Mirrors:
    """`configured`: the settings' mirror, or empty; `source_files`: texts of apt's sources, both formats.

    Both members are empty if no source names a Debian mirror.
    """
    if configured:
        base = configured.rstrip("/")
        return Mirrors(base, base.removesuffix("/debian") + "/debian-security")
    main, security = "", ""
    for text in source_files:
        for uri, suite in _entries(text):
            if not uri.startswith(("http://", "https://")):
                continue
            if "security" in suite or "security" in uri:
                security = security or uri.rstrip("/")
            elif "debian" in uri:
                main = main or uri.rstrip("/")
    return Mirrors(main, security)


def _entries(text: str) -> list[tuple[str, str]]:
    """(URI, suite) pairs of one sources file."""
    pairs = [(found.group(1), found.group(2)) for found in map(_ONE_LINE.match, text.splitlines()) if found]
    for stanza in re.split(r"\n\s*\n", text):
        fields = dict(
            line.split(":", 1)
            for line in stanza.splitlines()
            if ":" in line and not line.startswith(("#", " ", "deb"))
        )
        if "deb" not in fields.get("Types", "").split():
            continue
        suites = fields.get("Suites", "").split() or [""]
        pairs += [(uri, suites[0]) for uri in fields.get("URIs", "").split()]
    return pairs
