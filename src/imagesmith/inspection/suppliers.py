"""Who supplies a package: the maintainer or vendor that its metadata names. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from imagesmith.inspection.packages import OsRelease, Package

MOST_SUPPLIER = 200
_NAMED = re.compile(r"(?P<name>[^<>]*?)\s*(?:<(?P<mail>[^<>\s]+@[^<>\s]+)>.*)?")
_ORGANIZATIONS = re.compile(
    r"\b(?:teams?|maintainers|developers|group|project|foundation|inc|corp|corporation|gmbh|llc|ltd|authors|"
    r"contributors|community|packagers|list|software|enterprise|linux|suse|fedora|debian|ubuntu|red hat)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Supplier:
    """A person or an organization; `mail` may be empty."""

    name: str
    mail: str
    is_organization: bool


def clean_supplier(text: str) -> str:
    """The text of metadata on one line and of bounded length; empty when it has signs that nobody can print."""
    line = " ".join(text.split())
    return line if len(line) <= MOST_SUPPLIER and line.isprintable() else ""


def supplier_of(package: Package, system: OsRelease) -> Supplier | None:
    """Of a system package without one, its distribution; None when nobody is named."""
    found = _NAMED.fullmatch(package.supplier)
    name = (found["name"].strip(' "') if found else package.supplier) if package.supplier else ""
    mail = (found["mail"] or "") if found else ""
    if not name and mail:
        name = mail
    if name:
        # only packages of rpm name a vendor, the others a maintainer
        return Supplier(name, mail, package.kind == "rpm" or _ORGANIZATIONS.search(name) is not None)
    if package.kind in ("deb", "rpm", "apk") and (system.name or system.id):
        return Supplier(system.name or system.id, "", is_organization=True)
    return None
