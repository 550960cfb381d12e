"""Names of packages. Pure."""

from __future__ import annotations

import re


def normal_name(kind: str, name: str) -> str:
    """Names of Python packages are the same in many spellings (PEP 503); `kind` may be an ecosystem."""
    return re.sub(r"[-_.]+", "-", name).lower() if kind in ("pypi", "PyPI") else name
