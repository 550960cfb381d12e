"""Licences and suppliers: what the metadata of packages states, as SPDX expressions; nothing more, nothing less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from license_expression import get_spdx_licensing

from imagesmith.artifacts.rootfs import Root
from imagesmith.inspection.inventory import take_inventory
from imagesmith.inspection.language_metadata import npm_license, npm_supplier, python_license, python_supplier
from imagesmith.inspection.licenses import MAX_EXPRESSION, all_of, expression_of, references_in
from imagesmith.inspection.licenses.debian import MAX_COPYRIGHT, read_copyright
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.suppliers import Supplier, clean_supplier, supplier_of
from imagesmith.processes import Cancellation
from testing.inventories import write

LICENSING = get_spdx_licensing()
BSD = """Redistribution and use in source and binary forms, with or without
modification, are permitted provided that: 2. Redistributions in binary form must reproduce the notice."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GPL-2+", "GPL-2.0-or-later"), ("GPL-2", "GPL-2.0-only"), ("GPLv3+", "GPL-3.0-or-later"),
        ("GPL-2.0+", "GPL-2.0-or-later"), ("GPL-2.0-only", "GPL-2.0-only"), ("LGPL-2.1", "LGPL-2.1-only"),
        ("LGPLv2+", "LGPL-2.0-or-later"), ("GNU GPL v3 or later", "GPL-3.0-or-later"),
        ("Expat", "MIT"), ("MIT License", "MIT"), ("mit", "MIT"), ("ASL 2.0", "Apache-2.0"),
        ("GPL", "LicenseRef-GPL"), ("BSD", "LicenseRef-BSD"), ("GPL-7", "LicenseRef-GPL-7"),
        ("UNLICENSED", "LicenseRef-UNLICENSED"), ("public-domain", "LicenseRef-public-domain"),
        ("LicenseRef-ours", "LicenseRef-ours"), ("SEE LICENSE IN ./x", "LicenseRef-SEE-LICENSE-IN-.-x"),
        ("GPL-1+ or Artistic", "GPL-1.0-or-later OR Artistic-1.0-Perl"),
        ("A or B, and MIT", "(LicenseRef-A OR LicenseRef-B) AND MIT"),
        ("MIT and (ISC or Zlib)", "MIT AND (ISC OR Zlib)"), ("MIT AND ISC OR Zlib", "(MIT AND ISC) OR Zlib"),
        ("MIT or MIT", "MIT"), ("(MIT)", "MIT"), ("MIT/X11", "MIT"),
        ("GPL-2 or any later version", "GPL-2.0-or-later"), ("GPLv2 or newer and MIT", "GPL-2.0-or-later AND MIT"),
        ("GPL-3+ with Bison exception", "GPL-3.0-or-later WITH Bison-exception-2.2"),
        ("GPL-2 with OpenSSL exception", "LicenseRef-GPL-2-with-OpenSSL-exception"),
        ("Apache License, Version 2.0", "Apache-2.0"), ("MIT, Apache License, version 2.0", "MIT AND Apache-2.0"),
        ("Apache License,\nVersion 2.0 or MIT", "Apache-2.0 OR MIT"), ("GNU GPL, v2 or later", "GPL-2.0-or-later"),
        ("Mozilla Public License, v. 2.0", "LicenseRef-Mozilla-Public-License-v.-2.0"),
        ("MIT, Vim, 0BSD", "MIT AND Vim AND 0BSD"),
        ("Apache-2.0 WITH LLVM-exception", "Apache-2.0 WITH LLVM-exception"),
        ("", ""), (" ", ""), ("()", ""), ("MIT AND", ""), ("or", ""), ("(MIT", ""), ("MIT)", ""), (",", ""),
        ("with", ""), ("MIT with", ""), ("x" * (MAX_EXPRESSION + 1), ""), ("(" * 500 + ")" * 500, ""),
        ("☃", "LicenseRef-unnamed"),
    ],
)  # fmt: skip
def test_a_statement_becomes_an_spdx_expression(text: str, expected: str) -> None:
    """Names that mean one licence get its id; others stay visible; what is no expression states nothing."""
    assert expression_of(text) == expected


@given(
    st.lists(
        st.sampled_from(["MIT", "GPL-2+", "and", "or", "with", ",", "(", ")", "☃ x", "Bison", "/"]), max_size=30
    )
)
def test_every_expression_is_one_of_spdx(words: Sequence[str]) -> None:
    """Whatever is written, the library of SPDX's names reads what we make of it."""
    found = all_of([expression_of(" ".join(words)), "ISC OR Zlib"])
    known = LICENSING.parse(found, validate=False)
    assert all(key.startswith("LicenseRef-") for key in LICENSING.unknown_license_keys(known))
    assert references_in(found) >= set(LICENSING.unknown_license_keys(known))


FULL_TEXT = """
On Debian systems, the complete text of the GNU General Public License version 2 can be found
in `/usr/share/common-licenses/GPL-2'.
"""
GPL = "/usr/share/common-licenses/GPL-2"
TERMS = "under the terms of the GNU General Public License as published by the Free Software Foundation; "
UNCLEAR = "LicenseRef-common-licenses-GPL-2"
GRANTS = {
    f"{TERMS}either version 2 of the License, or\n(at your option) any later version.": "GPL-2.0-or-later",
    f"{TERMS}version 2 of the License.": "GPL-2.0-only",
    f"{TERMS}version 2 of the License. The icons may be used with any later version of the program.": UNCLEAR,
    f"{TERMS}version 2 of the License. Others: LGPL version 2.1, or (at your option) any later version.": UNCLEAR,
    f"{TERMS}version 2, or any later version. The file x is under version 2 of that License only.": UNCLEAR,
    f"{TERMS}version 2 or version 3, or any later version of that License.": UNCLEAR,
    f"{TERMS}version 2 only, not under any later version.": UNCLEAR,
    f"{TERMS}version 2, or any later version. The file x: version 2, see {GPL}.": UNCLEAR,
    "Licensed under the GPL v2 or later.": "GPL-2.0-or-later",
    "Its license is GPL-2+.": "GPL-2.0-or-later",
    "libfoo 1.2+dfsg, under the GPL.": "GPL-2.0-only",
    "At any later time it may change.": UNCLEAR,
}
DEP5 = {
    "License: GPL-2+ or\n MIT\n text": "GPL-2.0-or-later OR MIT",
    "License: GPL-2+,\n MIT and\n ISC\n text or": "GPL-2.0-or-later AND MIT AND ISC",
    "License: GPL-3+ with\n Bison exception\n": "GPL-3.0-or-later WITH Bison-exception-2.2",
    "License:\n MIT or\n ISC\n": "MIT OR ISC",
    "License: MIT and\n\nFiles: b\nLicense: ISC": "",
    "License: MIT,": "",
    "License:\n Permission is granted\n\nFiles: b\nLicense: ISC": "",
    f"License:\n {BSD.replace(chr(10), chr(10) + ' ')}\n": "BSD-2-Clause",
    "Copyright: 2026 A\n\nFiles: b\nLicense: ISC": "",
    "License: MIT\n\nFiles: b\nCopyright: 2026 A\n": "",
    "License: MIT\n text\n .\n License: ISC\n\nLicense: A and\n\nComment: x": "MIT",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Format: x\n\nFiles: *\nLicense: GPL-2+\n text\n\nFiles: b\nLicense: Expat\n\nLicense: A\n x",
         "GPL-2.0-or-later AND MIT"),
        ("Format: x\nLicense: Zlib\n", "Zlib"),
        ("Format: x\n\nFiles: *\nLicense: A or B\n\nFiles: c\nLicense: MIT and ISC\n",
         "(LicenseRef-A OR LicenseRef-B) AND ISC AND MIT"),
        ("Format: x\n\nFiles: *\nLicense:\n text only\n", ""),
        ("Format: x\n\nLicense: stand-alone\n text\n", ""),
        ("see `/usr/share/common-licenses/GPL-2'.", "GPL-2.0-only"),
        ("version 2, or (at your option) any later version: /usr/share/common-licenses/GPL-2.", "GPL-2.0-or-later"),
        ("any later version: /usr/share/common-licenses/GPL-2, /usr/share/common-licenses/LGPL-3",
         "LicenseRef-common-licenses-GPL-2 AND LicenseRef-common-licenses-LGPL-3"),
        ("/usr/share/common-licenses/GPL", "LicenseRef-GPL"),
        *(("Format: x\n\nFiles: *\n" + text, expected) for text, expected in DEP5.items()),
        ("Format: x\nLicense:\n Most of it is free.\n\nFiles: *\nLicense: MIT", "MIT"),
        (f"{TERMS}either version 2, or any later version. Parts: GFDL version 1.3 or later. {GPL} and "
         "/usr/share/common-licenses/GFDL-1.3", "GFDL-1.3-or-later AND GPL-2.0-or-later"),
        (f"GNU Lesser General Public License version 2 or later: {GPL} and /usr/share/common-licenses/LGPL.",
         f"{UNCLEAR} AND LicenseRef-common-licenses-LGPL"),
        *((f"{text} {FULL_TEXT}", expected) for text, expected in GRANTS.items()),
        ("/usr/share/common-licenses/Apache-2.0 and /usr/share/common-licenses/Artistic",
         "Apache-2.0 AND Artistic-1.0-Perl"),
        (BSD, "BSD-2-Clause"), (f"{BSD} used to endorse or promote products derived from", "BSD-3-Clause"),
        (f"{BSD} All advertising materials mentioning features or use of this software must", ""),
        ("Licensed under the Apache License,\n  Version 2.0", "Apache-2.0"),
        ("GPL, MIT, BSD: it is said that these words alone mean nothing", ""),
        ("", ""), ("\0\xff", ""), ("Format: x\n\nFiles: *\nLicense: MIT\n" + "x" * MAX_COPYRIGHT, ""),
    ],
)  # fmt: skip
def test_a_copyright_file_states_what_it_names(text: str, expected: str) -> None:
    """Fields of the machine-readable form; in prose references to Debian's texts, and the words of a licence."""
    assert read_copyright(text.encode()) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"license-expression": ["MIT OR Apache-2.0"], "license": ["GPL"]}, "MIT OR Apache-2.0"),
        ({"classifier": ["License :: OSI Approved :: MIT License", "Topic :: X"]}, "MIT"),
        ({"classifier": ["License :: OSI Approved :: BSD License"], "license": ["BSD-3-Clause"]}, "BSD-3-Clause"),
        ({"license": ["UNKNOWN"]}, ""), ({"license": ["x" * 121]}, ""), ({}, ""),
    ],
)  # fmt: skip
def test_pythons_metadata_states_a_licence(headers: Mapping[str, Sequence[str]], expected: str) -> None:
    """The expression of its own counts first, a classifier of one licence next, a short line last."""
    assert python_license(headers) == expected


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"license": "(MIT OR CC0-1.0)"}, "MIT OR CC0-1.0"), ({"license": {"type": "ISC"}}, "ISC"),
        ({"licenses": [{"type": "MIT"}, {"type": "BSD-2-Clause"}]}, "MIT OR BSD-2-Clause"),
        ({"license": 7}, ""), ({"license": [[], None, {"type": []}]}, ""), ({"license": ""}, ""), ({}, ""),
        ({"license": "UNLICENSED"}, "LicenseRef-UNLICENSED"),
    ],
)  # fmt: skip
def test_npms_metadata_states_a_licence(document: Mapping[str, object], expected: str) -> None:
    """Today's form and both older ones; of several, any may be chosen."""
    assert npm_license(document) == expected


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        (Package("a", "1", "", "a", supplier="Debian GCC Maintainers <gcc@lists.example>"),
         Supplier("Debian GCC Maintainers", "gcc@lists.example", is_organization=True)),
        (Package("a", "1", "", "a", supplier="Jane <jane@example>"), Supplier("Jane", "jane@example", False)),
        (Package("a", "1", "", "a", kind="rpm", supplier="Rocky"), Supplier("Rocky", "", is_organization=True)),
        (Package("a", "1", "", "a"), Supplier("Debian GNU/Linux", "", is_organization=True)),
        (Package("a", "1", "", "a", kind="pypi", supplier="<a@b>"), Supplier("a@b", "a@b", False)),
        (Package("a", "1", "", "a", kind="pypi"), None),
        (Package("a", "1", "", "a", kind="npm", supplier="<<>>"), Supplier("<<>>", "", False)),
    ],
)  # fmt: skip
def test_a_supplier_is_a_person_or_an_organization(package: Package, expected: Supplier | None) -> None:
    """A system package without a maintainer comes from its distribution; nobody is invented for others."""
    assert supplier_of(package, OsRelease("Debian GNU/Linux", "12", "", "debian")) == expected


@pytest.mark.parametrize("text", ["x" * 201, "a\x1b[31mred", "a\x00"])
def test_a_supplier_that_nobody_can_print_is_none(text: str) -> None:
    """Nothing of it reaches a document or a terminal."""
    assert clean_supplier(text) == ""
    assert clean_supplier("Jane\n  Doe") == "Jane Doe"


def test_authors_of_python_and_npm_are_suppliers() -> None:
    """The maintainer before the author; npm's as text or as an object."""
    both = {"author": ["A"], "author-email": ["a@b"], "maintainer-email": ["M <m@n>, N <n@o>"]}
    assert (python_supplier(both), python_supplier({"author": ["A"], "author-email": ["a@b"]})) == (
        "M <m@n>", "A <a@b>",
    )  # fmt: skip
    assert npm_supplier({"author": {"name": "N", "email": "n@o"}}) == "N <n@o>"
    assert (npm_supplier({"author": "N <n@o> (url)"}).strip(), npm_supplier({"author": 3})) == ("N <n@o>", "")


def test_an_inventory_has_the_licences_of_its_packages(tmp_path: Path) -> None:
    """Of dpkg through links and shared folders, apk, Python and npm; a file that is no file states nothing."""
    stanza = "Package: {}\nStatus: install ok installed\nVersion: 1\nMaintainer: Team X <x@y>\n\n"
    write(tmp_path, {
        "etc/os-release": "ID=debian\nVERSION_ID=12\n",
        "var/lib/dpkg/status": "".join(map(stanza.format, ("one", "two", "three", "four", "../five"))),
        "usr/share/doc/one/copyright": "Format: x\n\nFiles: *\nLicense: ISC\n",
        "lib/apk/db/installed": "P:musl\nV:1\nL:MIT AND BSD-2-Clause\nm:Nat <n@m>\n\n",
        "srv/x-1.dist-info/METADATA": "Name: x\nVersion: 1\nLicense: Zlib\nAuthor: A\n",
        "srv/node_modules/y/package.json": '{"name": "y", "version": "1", "license": "MIT", "author": "B"}',
    })  # fmt: skip
    (tmp_path / "usr/share/doc/two").symlink_to("one")
    (tmp_path / "usr/share/doc/three/copyright").mkdir(parents=True)
    (tmp_path / "usr/share/doc/four").symlink_to("/../../../../etc")
    with Root(tmp_path) as root:
        found = {item.name: item for item in take_inventory(root, Cancellation()).packages}
    assert {name: item.license for name, item in found.items()} == {
        "one": "ISC", "two": "ISC", "three": "", "four": "", "../five": "", "musl": "MIT AND BSD-2-Clause",
        "x": "Zlib", "y": "MIT",
    }  # fmt: skip
    assert [found[name].supplier for name in ("one", "musl", "x", "y")] == ["Team X <x@y>", "Nat <n@m>", "A", "B"]
