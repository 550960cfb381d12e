"""Verdicts: what they are about, who inherits them, what they settle, and OpenVEX in and out."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import Result

from imagesmith.cli.context import CommandFailed
from imagesmith.inspection.packages import Package
from imagesmith.store.database import Database
from imagesmith.vulnerabilities.openvex import BadDocument, read_openvex
from imagesmith.vulnerabilities.verdicts import Verdicts
from testing.advisories import advisory
from testing.fleet import DEBIAN, deb, digest_of, image_arn, pipeline_arn, put_image

Call = Callable[..., Result]
CVE = "CVE-2026-1234"
BASH, SSL = deb("bash", "5"), deb("libssl3", "1:3.0", "openssl")
REASON = ("--justification", "vulnerable_code_not_present", "--author", "ann")


@pytest.fixture
def family(store: Database) -> None:
    """base <- app with the same bash; base <- new with another bash; other without a parent."""
    put_image(store, "base", [BASH, SSL])
    put_image(store, "app", [BASH, SSL], parent=image_arn("base"), parent_digest=digest_of("base"))
    put_image(store, "new", [deb("bash", "5.1"), SSL], parent=image_arn("base"), parent_digest=digest_of("base"))
    put_image(store, "other", [BASH])


def verdict(store: Database, name: str, package: Package = BASH, *, build: int = 1, cve: str = CVE) -> str:
    with store.read() as tx:
        found = Verdicts(tx, [cve]).of(image_arn(name, build)).find([cve], package)
    return "" if found is None else found.reason


@pytest.mark.usefixtures("family")
def test_children_with_the_same_package_inherit_a_verdict(store: Database, call: Call) -> None:
    """Another version is another package; another image is not a child; another vulnerability is not settled."""
    call("vex", "add", "base", CVE, "--package", "bash", *REASON)
    ours = "not_affected: vulnerable_code_not_present (ann)"
    assert verdict(store, "base") == verdict(store, "app") == ours
    assert verdict(store, "new", deb("bash", "5.1")) == ""
    assert verdict(store, "other") == verdict(store, "base", SSL) == verdict(store, "base", cve="CVE-1") == ""


@pytest.mark.usefixtures("family")
@pytest.mark.parametrize(("name", "reads"), [("other", 0), ("base", 1)])
def test_the_packages_of_an_ancestor_are_read_once_and_only_if_a_statement_names_it(
    name: str, reads: int, store: Database, call: Call
) -> None:
    """A base with ten thousand children has its packages read once; one without a verdict never."""
    call("vex", "add", name, CVE, *REASON)
    call("vex", "add", "base", "CVE-2026-9999", *REASON)
    seen: list[str] = []
    with store.read() as tx:
        sa.event.listen(tx, "before_cursor_execute", lambda *arguments: seen.append(arguments[2]))
        verdicts = Verdicts(tx, [CVE])
        found = [verdicts.of(image_arn(child)).find([CVE], BASH) for child in ("app", "new", "app")]
    assert [item is not None for item in found] == [reads > 0] * 3
    assert sum("inventory_packages" in text for text in seen) == reads
    assert sum("vex_statements" in text for text in seen) == 1


@pytest.mark.usefixtures("family")
def test_the_last_verdict_holds_until_it_is_removed(store: Database, call: Call) -> None:
    """A later one about the same replaces it; one about the child is later than the parent's."""
    call("vex", "add", "base", CVE, *REASON)
    call("vex", "add", "base", CVE, "--status", "affected", "--action", "update", "--author", "bob")
    assert verdict(store, "app") == "affected: update (bob)"
    call("vex", "add", "app", CVE, "--status", "fixed", "--author", "eve")
    assert (verdict(store, "app"), verdict(store, "base")) == ("fixed (eve)", "affected: update (bob)")
    listed = json.loads(call("vex", "list", CVE, "--json").output)
    assert [item["product"] for item in listed] == [image_arn("base"), image_arn("app")]
    call("vex", "rm", listed[1]["id"])
    assert verdict(store, "app") == "affected: update (bob)"
    with pytest.raises(CommandFailed, match="there is no verdict"):
        call("vex", "rm", listed[1]["id"])


@pytest.mark.usefixtures("family")
def test_every_build_of_a_name_can_be_meant(store: Database, call: Call) -> None:
    """A verdict about one build says nothing about the next; `web` does not mean `webmail`."""
    put_image(store, "base", [BASH], build=2)
    put_image(store, "basement", [BASH])
    call("vex", "add", "base/1.0.0/1", CVE, *REASON)
    assert verdict(store, "base", build=2) == ""
    call("vex", "add", "base", CVE, "--every-build", *REASON)
    assert verdict(store, "base", build=2) != "" and verdict(store, "basement") == ""


@pytest.mark.usefixtures("family")
def test_a_settled_image_stays_visible_and_is_not_built_again(store: Database, call: Call, tmp_path: Path) -> None:
    """Its child is settled with it; the image with another package is not."""
    (tmp_path / "f.json").write_text(json.dumps({**advisory("Debian:12", "bash", "6"), "id": CVE}))
    call("advisories", "import", str(tmp_path / "f.json"))
    call("vex", "add", "base", CVE, "--package", "bash@5", *REASON)
    found = json.loads(call("cve", CVE, "--json").output)
    remedies = {item["arn"].split("/")[1]: item["remedy"] for item in found["images"]}
    assert remedies == {"base": "SETTLED", "app": "SETTLED", "new": "REBUILD", "other": "REBUILD"}
    assert sorted(item["arn"] for item in found["pipelines"]) == [pipeline_arn("new"), pipeline_arn("other")]
    assert "vulnerable_code_not_present (ann)" in call("cve", CVE).output


@pytest.mark.usefixtures("family")
def test_what_is_exported_is_imported_again(store: Database, call: Call, tmp_path: Path) -> None:
    """Status, justification, author and time stay; the document is the form that OpenVEX requires."""
    call("vex", "add", "base", CVE, "--package", "openssl", *REASON)
    call("vex", "add", "app", "GHSA-aaaa-bbbb-cccc", "--status", "affected", "--action", "update")
    before = json.loads(call("vex", "list", "--json").output)
    document = json.loads(call("vex", "export", "--author", "all").output)
    assert (document["@context"], document["author"]) == ("https://openvex.dev/ns/v0.2.0", "all")
    assert document["statements"][0]["products"] == [
        {
            "@id": image_arn("base"),
            "subcomponents": [{"@id": "pkg:deb/debian/libssl3@1:3.0?arch=amd64&distro=debian-12&upstream=openssl"}],
        }
    ]
    (tmp_path / "out.json").write_text(json.dumps(document))
    for item in before:
        call("vex", "rm", item["id"])
    assert "2 verdicts" in call("vex", "import", str(tmp_path / "out.json")).output
    assert json.loads(call("vex", "list", "--json").output) == before
    flat = json.loads(call("vex", "export", "base", "--flat").output)
    assert [item["products"][0]["@id"][:15] for item in flat["statements"]] == ["pkg:deb/debian/"]


@pytest.mark.usefixtures("family")
@pytest.mark.parametrize(
    ("vulnerability", "names"),
    [
        ({"name": "cve-2026-1234"}, [CVE]),
        ("cve-2026-1234", [CVE]),
        ({"name": "GHSA-aaaa-bbbb-cccc", "aliases": [CVE]}, [CVE, "GHSA-aaaa-bbbb-cccc"]),
        ({"name": CVE, "aliases": ["cve-2026-1234", "CVE-2026-5"]}, [CVE, "CVE-2026-5"]),
    ],
    ids=str,
)
def test_a_vulnerability_is_settled_under_each_of_its_names(
    vulnerability: object, names: list[str], store: Database, call: Call, tmp_path: Path
) -> None:
    """As findings write them: a CVE in capitals, and all aliases."""
    write(tmp_path, vulnerability=vulnerability)
    assert f"{len(names)} verdicts" in call("vex", "import", str(tmp_path / "v.json")).output
    assert all(verdict(store, "base", cve=name) for name in names)
    listed = json.loads(call("vex", "list", "--json").output)
    assert sorted(item["vulnerability"] for item in listed) == sorted(names)
    assert len(json.loads(call("vex", "list", "cve-2026-1234", "--json").output)) == 1


@pytest.mark.usefixtures("family")
def test_an_older_document_does_not_overturn_a_verdict(store: Database, call: Call, tmp_path: Path) -> None:
    """The import says how many of its statements are older than what holds."""
    write(tmp_path, products=["*"])
    new, old = "2024-06-01T00:00:00Z", "2024-05-01T00:00:00Z"
    whole = json.loads((tmp_path / "v.json").read_text())
    first = {**whole["statements"][0], "timestamp": new, "status": "affected", "action_statement": "update"}
    del first["justification"]
    second = {**whole["statements"][0], "timestamp": old}
    for name, items in (("both", [first, second]), ("old", [second])):
        (tmp_path / f"{name}.json").write_text(json.dumps({**whole, "statements": items}))
    both = call("vex", "import", str(tmp_path / "both.json")).output
    assert "1 verdicts from" in both and "1 more were left out: a later one about the same holds" in both
    again = call("vex", "import", str(tmp_path / "old.json")).output
    assert "0 verdicts from" in again and "1 more were left out" in again
    assert verdict(store, "base") == "affected: update (vendor)"


@pytest.mark.usefixtures("family")
def test_a_verdict_of_a_clock_that_is_ahead_is_not_replaced_in_silence(
    store: Database, call: Call, tmp_path: Path
) -> None:
    """A document may be some minutes ahead; a verdict that would not hold is refused."""
    ahead = (datetime.now(UTC) + timedelta(minutes=4)).isoformat()
    write(tmp_path, {"timestamp": ahead}, products=[image_arn("base")])
    call("vex", "import", str(tmp_path / "v.json"))
    with pytest.raises(CommandFailed, match="at a later time than now"):
        call("vex", "add", "base", CVE, "--status", "fixed")
    assert verdict(store, "base") == "not_affected: component_not_present (vendor)"


PURL = "pkg:deb/debian/bash@5?arch=amd64&distro=debian-12"
MATCHES = (
    ({"@id": PURL}, True),
    ({"@id": "pkg:deb/debian/bash@5"}, True),
    ({"@id": "pkg:deb/debian/bash"}, True),
    ({"@id": "pkg:deb/ubuntu/bash@5"}, False),
    ({"@id": "pkg:deb/debian/bash@6"}, False),
    ({"@id": "pkg:rpm/debian/bash@5"}, False),
    ({"@id": "pkg:deb/debian/bash@5?arch=arm64"}, False),
    ({"@id": "*"}, True),
    ({"@id": image_arn("base")}, True),
    ({"@id": image_arn("other")}, False),
    ({"@id": f"pkg:oci/base@{digest_of('base').replace(':', '%3A')}"}, True),
    ({"@id": f"pkg:oci/base@{digest_of('other').replace(':', '%3A')}"}, False),
    ({"@id": "*", "subcomponents": [{"@id": PURL}]}, True),
    ({"@id": "*", "subcomponents": [{"@id": "pkg:deb/debian/zsh"}]}, False),
    ({"@id": "*", "subcomponents": ["pkg:deb/debian/zsh", "pkg:deb/debian/bash"]}, True),
    ({"identifiers": {"purl": PURL}}, True),
)


@pytest.mark.usefixtures("family")
@pytest.mark.parametrize(("product", "applies"), MATCHES, ids=[json.dumps(row[0])[:70] for row in MATCHES])
def test_products_of_others_are_matched_by_what_they_state(
    product: dict[str, Any], applies: bool, store: Database, call: Call, tmp_path: Path
) -> None:
    """A package-url that states less applies to more; app inherits what is said about base."""
    write(tmp_path, products=[product])
    call("vex", "import", str(tmp_path / "v.json"))
    assert bool(verdict(store, "app")) is applies


def write(folder: Path, document: dict[str, Any] | None = None, **members: Any) -> None:
    statement = {
        "vulnerability": {"name": CVE}, "products": [{"@id": "*"}], "status": "not_affected",
        "justification": "component_not_present", **members,
    }  # fmt: skip
    whole = {
        "@context": "https://openvex.dev/ns/v0.2.0", "@id": "x", "author": "vendor", "version": 1,
        "timestamp": "2024-11-29T10:00:00+01:00", "statements": [statement], **(document or {}),
    }  # fmt: skip
    (folder / "v.json").write_text(json.dumps(whole))


BAD: tuple[tuple[dict[str, Any], dict[str, Any], str], ...] = (
    ({"@context": "https://cyclonedx.org"}, {}, "not an OpenVEX document"),
    ({"statements": []}, {}, "no statements"),
    ({"statements": "x"}, {}, "no statements"),
    ({"statements": [1]}, {}, "statement 1 is not an object"),
    ({"author": ""}, {}, "has no author"),
    ({"timestamp": "yesterday"}, {}, "not a time"),
    ({"timestamp": 20240101}, {}, "20240101' is not a time"),
    ({"timestamp": "9999-12-31T23:59:59-12:00"}, {}, "-12:00' is not a time"),
    ({"timestamp": "0001-01-01T00:00:00+12:00"}, {}, r"\+12:00' is not a time"),
    ({"timestamp": "9999-12-31T23:59:59Z"}, {}, "is in the future"),
    ({}, {"timestamp": "9999-01-01T00:00:00"}, "statement 1: .*is in the future"),
    ({}, {"timestamp": "\x1b[31m"}, r"'\\x1b"),
    ({"timestamp": None}, {}, "has no timestamp"),
    ({}, {"status": "fine"}, "not a status"),
    ({}, {"justification": "because"}, "not a justification"),
    ({}, {"justification": ""}, "needs a justification"),
    ({}, {"status": "fixed"}, "a justification belongs to not_affected"),
    ({}, {"status": "affected", "justification": ""}, "needs an action statement"),
    ({}, {"products": []}, "names no products"),
    ({}, {"products": [{}]}, "without @id"),
    ({}, {"products": [{"@id": "web:1"}]}, "neither an image ARN nor a package-url"),
    ({}, {"products": [{"@id": "arn:aws:s3:::bucket"}]}, "not the ARN of an image"),
    ({}, {"products": [image_arn("base").replace("us-east-1", "eu-west-1")]}, "this account and Region"),
    ({}, {"products": [{"@id": "*", "subcomponents": [image_arn("base")]}]}, "is not a package-url of a package"),
    ({}, {"products": [{"@id": "*", "subcomponents": ["*"]}]}, "is not a package-url of a package"),
    ({}, {"products": [{"@id": "*", "subcomponents": 5}]}, "subcomponents that are not a list"),
    ({}, {"vulnerability": {}}, "has no name"),
    ({}, {"vulnerability": {"name": "no name"}}, "'no name' is not the name of a vulnerability"),
    ({}, {"vulnerability": {"name": CVE, "aliases": "GHSA-1-1"}}, "aliases is not a list"),
    ({}, {"vulnerability": {"name": CVE, "aliases": [5]}}, "alias is not a text"),
    ({}, {"vulnerability": {"name": CVE, "aliases": [""]}}, "has no alias"),
    ({}, {"vulnerability": {"name": CVE, "aliases": ["no name"]}}, "'no name' is not the name"),
    (
        {},
        {
            "vulnerability": {"name": CVE, "aliases": [f"GHSA-{number}" for number in range(1000)]},
            "products": [{"@id": "*", "subcomponents": [f"pkg:npm/p{number}" for number in range(1000)]}],
        },
        "more than 100000 statements",
    ),
    ({}, {"impact_statement": "\x1b[31m"}, "printable"),
    ({}, {"impact_statement": "x" * 3000}, "at most"),
)


@pytest.mark.usefixtures("family")
@pytest.mark.parametrize(("document", "members", "part"), BAD, ids=[row[2] for row in BAD])
def test_a_document_that_cannot_be_obeyed_is_refused_whole(
    document: dict[str, Any], members: dict[str, Any], part: str, store: Database, call: Call, tmp_path: Path
) -> None:
    """The text names the statement; nothing of the document is stored."""
    write(tmp_path, document, **members)
    with pytest.raises(CommandFailed, match=part):
        call("vex", "import", str(tmp_path / "v.json"))
    assert verdict(store, "base") == ""


@pytest.mark.parametrize(
    ("minutes", "end"), [(-1, "12:00:00Z"), (4, "12:00:00Z"), (4, "14:00:00+02:00"), (6, None)]
)
def test_the_clock_of_an_author_may_be_a_little_ahead(minutes: int, end: str | None) -> None:
    """Five minutes: a verdict from next year would hold against all others for a year. Times are read as UTC."""
    text = f"2024-01-01T{end or '12:00:00Z'}"
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)
    statement = {"vulnerability": CVE, "products": ["*"], "status": "fixed", "timestamp": text}
    document = {"@context": "https://openvex.dev/ns", "author": "ann", "statements": [statement]}
    data, now = json.dumps(document).encode(), noon - timedelta(minutes=minutes)
    if end is None:
        with pytest.raises(BadDocument, match="is in the future"):
            read_openvex(data, now=now)
    else:
        (found,) = read_openvex(data, now=now)
        assert (found.stated, found.stated.tzinfo) == (noon, UTC)


@pytest.mark.parametrize("text", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"null", b'"x"'])
def test_bytes_that_are_no_document_are_refused(text: bytes, store: Database, call: Call, tmp_path: Path) -> None:
    """One sentence, and no traceback."""
    assert store is not None
    (tmp_path / "v.json").write_bytes(text)
    with pytest.raises(CommandFailed):
        call("vex", "import", str(tmp_path / "v.json"))


@pytest.mark.usefixtures("family")
@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("none", CVE, *REASON), "there is no image"),
        (("base", "not a name", *REASON), "not the name of a vulnerability"),
        (("base", CVE), "needs a justification"),
        (("base", CVE, "--status", "affected"), "needs an action"),
        (("base", CVE, "--package", "zsh", *REASON), "has no package zsh"),
        (("base", CVE, "--package", "bash@9", *REASON), "has no package bash@9"),
        (("base", CVE, "--status", "fixed", *REASON), "belongs to not_affected"),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, tuple) else "",
)
def test_a_verdict_that_means_nothing_is_refused(words: tuple[str, ...], part: str, call: Call) -> None:
    """An image, a package or a reason that does not exist; nothing is stored."""
    with pytest.raises(CommandFailed, match=part):
        call("vex", "add", *words)
    assert call("vex", "list").output == "no verdicts yet\n"
    with pytest.raises(CommandFailed, match="no verdict to export"):
        call("vex", "export")


def test_an_image_without_a_known_system_is_matched_by_what_is_known(store: Database, call: Call) -> None:
    """Its package-urls have no distribution."""
    put_image(store, "web", [BASH], system=None)
    put_image(store, "debian", [BASH], system=DEBIAN)
    call("vex", "add", "web", CVE, "--package", "bash", *REASON)
    assert verdict(store, "web") and not verdict(store, "debian")
