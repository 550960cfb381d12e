"""Chooses the package mirror of a base: from the settings, else from this machine's apt. Pure.

A mirror whose address ends with a time (`http://HOST/archive/debian/20260101T000000Z`, as on snapshot.debian.org)
is a snapshot: it has the packages of that time for ever, so a base that is made from it again has the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

_SNAPSHOT = re.compile(r"/([0-9]{8}T[0-9]{6}Z)/?$")
_ONE_LINE = re.compile(r"deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)")


@dataclass(frozen=True)
class Mirrors:
    """The sources of packages and security updates."""

    main: str
    security: str

    @property
    def snapshot(self) -> int | None:
        """The time of a snapshot, in seconds of the epoch; None for a mirror that goes with the time."""
        found = _SNAPSHOT.search(self.main)
        if found is None:
            return None
        try:
            return int(datetime.strptime(found[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp())
        except ValueError:
            return None

    def sources(self, suite: str, components: Iterable[str]) -> list[str]:
        """The lines of sources.list for a suite."""
        names = " ".join(components)
        # the index of a snapshot says until when it was valid, which is long ago
        deb = "deb" if self.snapshot is None else "deb [check-valid-until=no]"
        lines = [f"{deb} {self.main} {suite} {names}", f"{deb} {self.main} {suite}-updates {names}"]
        return [*lines, f"{deb} {self.security} {suite}-security {names}"] if self.security else lines


def choose_mirrors(configured: str, source_files: Iterable[str]) -> Mirrors:
    """`configured`: the settings' mirror, or empty; `source_files`: texts of apt's sources, both formats.

    Both members are empty if no source names a Debian mirror.
    """
    if configured:
        base = configured.rstrip("/")
        if Mirrors(base, "").snapshot is not None and "/debian/" in base:
            return Mirrors(base, base.replace("/debian/", "/debian-security/", 1))
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
