"""Module streams of rpm: matches advisories to the stream that a package was installed from. Pure.

    package      modularity label `nodejs:18:8060020230306:ad008a3a` and a release such as `1.module+el8.6.0+...`
    advisory     a title such as `Important: nodejs:20 security update`, or `rpmmod=nodejs:20` in its package-url

A repository holds several streams of one package at a time, each with its own fixes: 18.19.1 of nodejs:18 is not
older than the fix in 20.11.1 of nodejs:20, nor is a build outside all modules.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote

from imagesmith.inspection.packages import Package
from imagesmith.inspection.scanning.advisories import Affected

_MODULAR = re.compile(r"\.module[_+]")
_NAMED = re.compile(r"(?<![\w.:/+-])([A-Za-z][\w.+-]*:[A-Za-z0-9][\w.+-]*)")
_QUALIFIER = re.compile(r"[?&]rpmmod=([^&#]+)")
_NUMERIC = re.compile(r"[0-9]+(?:\.[0-9]+)*")


def streams_named(title: str, purl: str) -> str:
    """The streams of an advisory, `NAME:STREAM` separated by blanks; empty when it states none."""
    qualifier = _QUALIFIER.search(purl)
    named = [unquote(qualifier[1])] if qualifier else _NAMED.findall(title)
    return " ".join(dict.fromkeys(":".join(item.split(":")[:2]) for item in named))


def is_modular(version: str) -> bool:
    """Whether a version belongs to a package of a module, by its release."""
    return _MODULAR.search(version) is not None


def same_stream(package: Package, affected: Affected) -> bool:
    """Whether an advisory about this name may be about this stream; True when unknown."""
    if package.kind != "rpm":
        return True
    versions = affected.stated_versions
    if not versions:
        return True
    modular = any(is_modular(version) for version in versions)
    if not modular:
        return not is_modular(package.version)
    if not package.module and not is_modular(package.version):
        return False
    stream = ":".join(package.module.split(":")[:2])
    if not stream:
        return True
    if affected.stream:
        return stream in affected.stream.split()
    return _same_numbers(stream.partition(":")[2], package.version, versions)


def _same_numbers(stream: str, installed: str, versions: Sequence[str]) -> bool:
    """For packages whose version begins with the name of their stream, as nodejs 18.19.1 of nodejs:18."""
    if not _NUMERIC.fullmatch(stream) or not _begins(installed, stream):
        return True
    return any(_begins(version, stream) for version in versions)


def _begins(version: str, stream: str) -> bool:
    return version.rpartition(":")[2].startswith((f"{stream}.", f"{stream}-"))
