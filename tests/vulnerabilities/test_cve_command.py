"""`imagesmith cve`: which images, where they run on, what mends them; and questions that cannot be asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from imagesmith.cli.context import CommandFailed
from imagesmith.store.database import Database
from imagesmith.store.findings import put_findings
from testing.advisories import advisory
from testing.fleet import ACCOUNT, NOW, REGION, SCOPE, deb, digest_of, image_arn, pipeline_arn, put_image

Call = Callable[..., Result]


@pytest.fixture
def feed(call: Call, tmp_path: Path) -> Callable[..., str]:
    """Import advisories about bash, which 6 fixes."""

    def bring(**more: Any) -> str:
        document = {**advisory("Debian:12", "bash", "6"), "id": "CVE-2026-1234", **more}
        (tmp_path / "feed.json").write_text(json.dumps(document))
        return call("advisories", "import", str(tmp_path / "feed.json")).output

    return bring


def ask(call: Call, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call("cve", *words, "--json").output)
    return found


def test_every_image_says_where_it_runs_and_what_mends_it(
    store: Database, call: Call, feed: Callable[..., str]
) -> None:
    """An old build, a base and its child, one without a fix in sight, one made by hand."""
    old, new = deb("bash", "5"), deb("bash", "6")
    put_image(store, "web", [old])
    put_image(store, "web", [new], build=2)
    put_image(store, "base", [old])
    put_image(store, "app", [old], parent="registry.example/base:1", parent_digest=digest_of("base"))
    put_image(store, "hand", [old], by_hand=True)
    put_image(store, "blind", [old])
    put_image(store, "blind", None, build=2)
    put_image(store, "other", [deb("zip", "3")])
    assert "5 images are newly affected" in feed()
    found = ask(call, "cve-2026-1234")
    remedies = {item["arn"]: item["remedy"] for item in found["images"]}
    assert remedies == {
        image_arn("web"): "NEWER_IMAGE", image_arn("base"): "REBUILD", image_arn("app"): "PARENT",
        image_arn("hand"): "NO_PIPELINE", image_arn("blind"): "UNREAD_NEWER_IMAGE",
    }  # fmt: skip
    base = next(item for item in found["images"] if item["arn"] == image_arn("base"))
    assert base["outputs"] == ["registry.example/base:1.0.0-1"] and base["children"] == [image_arn("app")]
    assert base["packages"] == [
        {"name": "bash", "version": "5", "type": "deb", "severity": "UNTRIAGED", "fixedVersion": "6"}
    ]
    assert [item["arn"] for item in found["pipelines"]] == [pipeline_arn("base"), pipeline_arn("app")]
    assert found["pipelines"][1]["after"] == [pipeline_arn("base")]
    text = call("cve", "CVE-2026-1234").output
    assert "5 images affected" in text and "bash 5, fixed in 6" in text and "app  after base" in text


def test_without_a_fix_no_pipeline_is_started(store: Database, call: Call, feed: Callable[..., str]) -> None:
    """A build would give the same package."""
    put_image(store, "web", [deb("bash", "5")])
    feed(affected=[{"package": {"ecosystem": "Debian:12", "name": "bash"}, "versions": ["5"]}])
    found = ask(call, "CVE-2026-1234")
    assert [item["remedy"] for item in found["images"]] == ["NO_FIX"] and found["pipelines"] == []
    assert "no pipeline needs to be started" in call("cve", "CVE-2026-1234", "--rebuild").output


def test_an_image_of_several_names_is_found_by_each(store: Database, call: Call, feed: Callable[..., str]) -> None:
    """An advisory about two CVEs keeps its own name, and answers for both."""
    put_image(store, "web", [deb("bash", "5")])
    feed(id="DSA-1-1", upstream=["CVE-2026-0001", "CVE-2026-0002"])
    for name in ("DSA-1-1", "CVE-2026-0001", "CVE-2026-0002"):
        assert [item["arn"] for item in ask(call, name)["images"]] == [image_arn("web")], name


def test_what_only_a_scan_found_is_in_the_answer(store: Database, call: Call) -> None:
    """Trivy or grype may know more than the imported advisories; the answer says that none is about it."""
    put_image(store, "web", [deb("bash", "5")])
    with store.write(SCOPE) as tx:
        finding = {"vulnerability_id": "CVE-2026-1234", "severity": "HIGH"}
        put_findings(tx, image_arn("web"), "", account=ACCOUNT, region=REGION, observed=NOW, documents=[finding])
    found = ask(call, "CVE-2026-1234")
    assert [item["arn"] for item in found["images"]] == [image_arn("web")]
    assert "no imported advisory" in found["notes"][0]
    assert "found by the scan of its build" in call("cve", "CVE-2026-1234").output


SCANNED: tuple[tuple[str, list[tuple[str, str]], tuple[str, ...], str], ...] = (
    ("no packages named", [], (), "REBUILD"),
    ("a fix", [("bash", "6")], (), "REBUILD"),
    ("no fix", [("bash", "")], (), "NO_FIX"),
    ("a fix of one", [("bash", "6"), ("zsh", "")], (), "REBUILD"),
    ("a verdict", [("bash", "6")], ("bash",), "SETTLED"),
    ("a verdict about one of two", [("bash", "6"), ("zsh", "")], ("zsh",), "REBUILD"),
    ("a verdict about the one with a fix", [("bash", "6"), ("zsh", "")], ("bash",), "NO_FIX"),
    ("verdicts about both", [("bash", "6"), ("zsh", "")], ("bash", "zsh"), "SETTLED"),
)


@pytest.mark.parametrize(
    ("found", "settled", "remedy"), [row[1:] for row in SCANNED], ids=[row[0] for row in SCANNED]
)
def test_the_packages_of_a_scan_decide_what_mends_an_image(
    found: list[tuple[str, str]], settled: tuple[str, ...], remedy: str, store: Database, call: Call
) -> None:
    """As those of advisories do: without a fix nothing is built again, and a verdict settles them."""
    put_image(store, "web", [deb("bash", "5"), deb("zsh", "5")])
    packages = [
        {
            "name": name,
            "version": "5",
            "kind": "deb",
            "architecture": "amd64",
            "location": "",
            "fixed_version": fixed,
        }
        for name, fixed in found
    ]
    finding = {"vulnerability_id": "CVE-2026-1234", "severity": "HIGH", "packages": packages}
    with store.write(SCOPE) as tx:
        put_findings(tx, image_arn("web"), "", account=ACCOUNT, region=REGION, observed=NOW, documents=[finding])
    for name in settled:
        call("vex", "add", "web", "CVE-2026-1234", "--package", name, "--impact", "unused", "--author", "ann")
    (image,) = ask(call, "CVE-2026-1234")["images"]
    assert (image["remedy"], image["onlyScanned"]) == (remedy, True)
    shown = [(item["name"], item.get("fixedVersion", ""), bool(item.get("verdict"))) for item in image["packages"]]
    assert shown == [(name, fixed, name in settled) for name, fixed in found]


RELATED: tuple[tuple[str, str, str, bool], ...] = (
    ("its own name", "CVE-2026-0001", "CVE-2026-0001", True),
    ("the CVE that is asked for", "CVE-2026-0002", "CVE-2026-0002", True),
    ("another CVE of the record", "CVE-2026-0001", "CVE-2026-0002", False),
    ("the advisory of both", "DSA-1-1", "CVE-2026-0002", False),
)


@pytest.mark.parametrize(
    ("stated", "asked", "settled"), [row[1:] for row in RELATED], ids=[row[0] for row in RELATED]
)
def test_a_verdict_about_another_cve_settles_nothing(
    stated: str, asked: str, settled: bool, store: Database, call: Call, tmp_path: Path
) -> None:
    """A record may name another CVE as related: what is stated about one is not stated about the other."""
    put_image(store, "web", [deb("bash", "5")])
    one = {**advisory("Debian:12", "bash", "6"), "id": "CVE-2026-0001", "related": ["CVE-2026-0002"]}
    both = {**advisory("Debian:12", "bash", "6"), "id": "DSA-1-1", "upstream": ["CVE-2026-0001", "CVE-2026-0002"]}
    (tmp_path / "feed").mkdir()
    for document in (one, both):
        (tmp_path / "feed" / f"{document['id']}.json").write_text(json.dumps(document))
    call("advisories", "import", str(tmp_path / "feed"))
    call("vex", "add", "web", stated, "--impact", "unused", "--author", "ann")
    (image,) = ask(call, asked)["images"]
    assert (image["remedy"] == "SETTLED") is settled, image


def test_of_several_advisories_the_worst_severity_and_a_fix_count(
    store: Database, call: Call, tmp_path: Path
) -> None:
    """Whatever their order is."""
    put_image(store, "web", [deb("bash", "5"), deb("zsh", "5")])
    (tmp_path / "feed").mkdir()
    rows = (("A-1-1", "bash", "HIGH", "6"), ("B-1-1", "bash", "LOW", ""), ("A-1-2", "zsh", "LOW", ""))
    for id, name, severity, fixed in (*rows, ("B-1-2", "zsh", "HIGH", "6")):
        more = {} if fixed else {"ranges": [], "versions": ["5"]}
        document = advisory("Debian:12", name, fixed, database_specific={"severity": severity}, **more)
        names = {"id": id, "upstream": ["CVE-2026-0001", "CVE-2026-0002"]}
        (tmp_path / "feed" / f"{id}.json").write_text(json.dumps({**document, **names}))
    call("advisories", "import", str(tmp_path / "feed"))
    (image,) = ask(call, "CVE-2026-0001")["images"]
    found = sorted((item["name"], item["severity"], item["fixedVersion"]) for item in image["packages"])
    assert found == [("bash", "HIGH", "6"), ("zsh", "HIGH", "6")]


@pytest.mark.parametrize(
    ("words", "images"),
    [
        (("--package", "bash"), ["web", "web2"]),
        (("--package", "bash@5"), ["web"]),
        (("--package", "bash@9"), []),
        (("--package", "openssl"), ["web"]),
        (("--package", "Foo.Bar"), ["web"]),
        (("--license", "gpl-3.0-only"), ["web2"]),
        (("--license", "GPL-3.0"), []),
        (("--file-digest", digest_of("web")), ["web"]),
        (("--file-digest", "0" * 64), []),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_packages_licences_and_digests_are_asked_for(
    words: tuple[str, ...], images: list[str], store: Database, call: Call
) -> None:
    """Names of sources and other spellings count; a version must be the whole version."""
    from imagesmith.inspection.packages import Package
    from imagesmith.store import inventories

    put_image(
        store, "web", [deb("bash", "5"), deb("libssl3", "3", "openssl"), Package("foo_bar", "1", "", "", "pypi")]
    )
    put_image(store, "web2", [])
    with store.write(SCOPE) as tx:
        licensed = {**deb("bash", "6").to_json(), "licenses": ["GPL-3.0-only AND MIT"]}
        inventories.put_inventory(tx, image_arn("web2"), [licensed])
    found = ask(call, *words)
    assert sorted(item["arn"] for item in found["images"]) == [image_arn(name) for name in images]
    assert {item["remedy"] for item in found["images"]} <= {""} and found["pipelines"] == []


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("not a name",), "not the name of a vulnerability"),
        (("x" * 300,), "not the name of a vulnerability"),
        (("CVE-2026-1;DROP",), "not the name of a vulnerability"),
        (("--package", "@1"), "not a package"),
        (("--package", "bash@"), "not a package"),
        (("--package", "a b"), "not a package"),
        (("--package", "a\x1b[31m"), "not a package"),
        (("--license", "MIT"), "no stored inventory states licences"),
        (("--file-digest", "sha256:12"), "not a digest"),
        (("--file-digest", "SHA256:" + "A" * 64), "not a digest"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_a_question_that_cannot_be_asked_is_refused(
    words: tuple[str, ...], part: str, store: Database, call: Call
) -> None:
    """The text names what was given, and shows an example."""
    put_image(store, "web", [deb("bash", "5")])
    with pytest.raises(CommandFailed, match=part):
        call("cve", *words)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("CVE-2026-1", "--package", "bash"),
        ("--package", "bash", "--rebuild"),
        ("--package", "a", "--license", "b"),
    ],
    ids=" ".join,
)
def test_one_thing_is_asked_for(words: tuple[str, ...], store: Database, call: Call) -> None:
    """Nothing, two things, or a rebuild for what is no vulnerability: status 2."""
    assert call("cve", *words).exit_code == 2


def test_damaged_advisories_are_no_clean_answer(store: Database, call: Call, data: Path) -> None:
    """The command fails and names the file."""
    put_image(store, "web", [deb("bash", "5")])
    (data / "advisories").mkdir()
    (data / "advisories" / "advisories.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(CommandFailed, match="cannot be used"):
        call("cve", "CVE-2026-1234")
