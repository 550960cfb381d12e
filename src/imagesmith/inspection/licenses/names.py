"""Names of licences: Debian's, rpm's, Python's and npm's, as SPDX ids.

The list of SPDX ids is that of the library license-expression. It is read at the first question, as most programs
that import this module ask none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

REFERENCE = "LicenseRef-"
MOST_NAME = 80
_GNU = re.compile(
    r"(?:GNU )?(?P<family>A|L)?GPL(?:[ -]?v(?:ersion)? ?|[ -])?(?P<version>[123](?:\.[0-9])?)(?:\.0)?"
    r"(?P<later>\+|[ -]or[ -]later|[ -]only)?",
    re.IGNORECASE,
)
_SPDX_VERSIONS = frozenset({"AGPL-3.0", "GPL-1.0", "GPL-2.0", "GPL-3.0", "LGPL-2.0", "LGPL-2.1", "LGPL-3.0"})
_UNFIT = re.compile(r"[^A-Za-z0-9.-]+")

_SAME: Mapping[str, str] = MappingProxyType(
    {
        # Debian's short names
        "expat": "MIT", "mit/x11": "MIT", "mit/expat": "MIT", "apache-2": "Apache-2.0", "asl-2.0": "Apache-2.0",
        "bsd-2-clause": "BSD-2-Clause", "bsd-3-clause": "BSD-3-Clause", "bsd-4-clause": "BSD-4-Clause",
        "artistic": "Artistic-1.0-Perl", "artistic-2": "Artistic-2.0", "zlib/libpng": "Zlib",
        "boost-1.0": "BSL-1.0",
        "psf-2": "PSF-2.0", "python-2.0": "Python-2.0", "mpl-1.1": "MPL-1.1", "mpl-2": "MPL-2.0", "cc0": "CC0-1.0",
        "openldap-2.8": "OLDAP-2.8", "bsd-4-clause-uc": "BSD-4-Clause-UC", "gfdl-1.3": "GFDL-1.3-only",
        "gfdl-1.3+": "GFDL-1.3-or-later", "gfdl-1.2+": "GFDL-1.2-or-later",
        "gfdl-niv-1.3+": "GFDL-1.3-no-invariants-or-later", "gfdl-niv-1.3": "GFDL-1.3-no-invariants-only",
        "gfdl-niv-1.2+": "GFDL-1.2-no-invariants-or-later", "fsful": "FSFUL", "fsfullr": "FSFULLR",
        # rpm's names before it took those of SPDX
        "gplv2": "GPL-2.0-only", "gplv2+": "GPL-2.0-or-later", "gplv3": "GPL-3.0-only",
        "gplv3+": "GPL-3.0-or-later", "lgplv2": "LGPL-2.0-only", "lgplv2+": "LGPL-2.0-or-later",
        "lgplv3+": "LGPL-3.0-or-later", "asl 2.0": "Apache-2.0", "mplv2.0": "MPL-2.0", "mplv1.1": "MPL-1.1",
        "openldap": "OLDAP-2.8", "zlib": "Zlib", "isc": "ISC", "boost": "BSL-1.0",
        # Python's
        "mit license": "MIT", "the mit license": "MIT", "apache 2.0": "Apache-2.0", "apache2": "Apache-2.0",
        "apache license 2.0": "Apache-2.0", "apache license, version 2.0": "Apache-2.0",
        "apache license version 2.0": "Apache-2.0", "apache-2.0 license": "Apache-2.0",
        "bsd 3-clause": "BSD-3-Clause", "bsd-3-clause license": "BSD-3-Clause", "3-clause bsd": "BSD-3-Clause",
        "bsd 2-clause": "BSD-2-Clause", "isc license": "ISC", "the unlicense": "Unlicense",
        "mozilla public license 2.0": "MPL-2.0", "psf": "PSF-2.0",
        "python software foundation license": "PSF-2.0",
    }
)  # fmt: skip
"""Names that mean one SPDX licence and no other. `BSD`, `GPL` and `X11` in Debian mean several: they stay as they
are written."""

_EXCEPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "autoconf": "Autoconf-exception-generic", "bison": "Bison-exception-2.2",
        "classpath": "Classpath-exception-2.0",
        "font": "Font-exception-2.0", "libtool": "Libtool-exception", "linux-syscall-note": "Linux-syscall-note",
        "gcc-runtime-library": "GCC-exception-3.1",
    }
)  # fmt: skip


def spdx_name(name: str) -> str:
    """The SPDX id of one licence, or `LicenseRef-` and the name."""
    text = " ".join(name.split())
    if re.fullmatch(REFERENCE + r"[A-Za-z0-9.-]{1,100}", text):
        return text
    known = spdx_ids().get(text.lower())
    if known is None or known in _SPDX_VERSIONS or known.rstrip("+") in _SPDX_VERSIONS:
        # ids without -only and -or-later are deprecated
        known = _SAME.get(text.lower()) or _gnu(text) or known
    shown = _UNFIT.sub("-", text[:MOST_NAME].replace("+", "-or-later")).strip("-.")
    return known or REFERENCE + (shown or "unnamed")


def spdx_exception(name: str) -> str:
    """The SPDX id of an exception; empty for one that SPDX does not know."""
    text = " ".join(name.split()).lower()
    known = spdx_ids().get(text)
    if known is not None and "exception" in text:
        return known
    return _EXCEPTIONS.get(text.removesuffix("exception").strip(" -"), "")


def _gnu(text: str) -> str:
    found = _GNU.fullmatch(text)
    if found is None:
        return ""
    version = found["version"] if "." in found["version"] else f"{found['version']}.0"
    id = f"{(found['family'] or '').upper()}GPL-{version}"
    if id not in _SPDX_VERSIONS:
        return ""
    later = (found["later"] or "").lower()
    return f"{id}-or-later" if later == "+" or later.endswith("later") else f"{id}-only"


@cache
def spdx_ids() -> Mapping[str, str]:
    """SPDX ids by their lower case."""
    from license_expression import get_spdx_licensing  # two tenths of a second

    known = get_spdx_licensing().known_symbols
    return {name.lower(): name for name in known if not name.startswith(REFERENCE)}
