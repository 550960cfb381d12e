"""CycloneDX and SPDX documents: readable by their schemas' rules, the same bytes each time."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesmith.inspection.inventory import Inventory
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.sbom import DescribedImage
from imagesmith.inspection.sbom.cyclonedx import cyclonedx_document
from imagesmith.inspection.sbom.spdx import spdx_document
from imagesmith.processes import Cancellation
from testing.sbom_samples import IMAGE, INVENTORY


def test_cyclonedx_names_the_image_the_system_and_each_package() -> None:
    """The image is what the document is about; every package has its package-url, also one that is there twice."""
    document = json.loads(cyclonedx_document(IMAGE, INVENTORY, Cancellation()))
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    about = document["metadata"]["component"]
    assert (about["name"], about["version"], about["hashes"][0]["content"]) == (IMAGE.name, IMAGE.digest, IMAGE.hex)
    assert document["metadata"]["timestamp"] == "2026-11-23T12:00:00+00:00"
    kinds = [item["type"] for item in document["components"]]
    assert sorted(kinds) == ["library", "library", "library", "operating-system"]
    urls = {item["purl"] for item in document["components"] if "purl" in item}
    assert urls == {
        "pkg:deb/debian/libssl3@3.0.11-1?arch=amd64&distro=debian-12&upstream=openssl%403.0.11",
        "pkg:pypi/jinja2@3.1.2",
    }


def test_spdx_contains_every_package() -> None:
    """The document describes the image, which contains each package once per place."""
    document = json.loads(spdx_document(IMAGE, INVENTORY, Cancellation()))
    assert document["spdxVersion"] == "SPDX-2.3" and document["creationInfo"]["created"] == "2026-11-23T12:00:00Z"
    ids = [item["SPDXID"] for item in document["packages"]]
    assert len(set(ids)) == 4
    described = [item for item in document["relationships"] if item["relationshipType"] == "CONTAINS"]
    assert {item["relatedSpdxElement"] for item in described} == set(ids[1:])
    assert document["packages"][1]["sourceInfo"] == "built from openssl 3.0.11"


@pytest.mark.parametrize("write", [cyclonedx_document, spdx_document])
def test_a_document_depends_on_nothing_but_the_image(write: object) -> None:
    """Twice the same image, twice the same bytes; another digest, other bytes."""
    assert callable(write)
    other = DescribedImage.of(IMAGE.name, "sha256:" + "cd" * 32, "2026-11-23T12:00:00Z")
    assert write(IMAGE, INVENTORY, Cancellation()) == write(IMAGE, INVENTORY, Cancellation())
    assert write(IMAGE, INVENTORY, Cancellation()) != write(other, INVENTORY, Cancellation())


@pytest.mark.parametrize("text", ["", "never", "2026-13-45T00:00:00Z"])
def test_an_image_without_a_date_is_of_the_epoch(text: str) -> None:
    """A configuration that states no date, or nonsense, still gives a document of fixed bytes."""
    assert DescribedImage.of("x", IMAGE.digest, text).created == datetime(1970, 1, 1, tzinfo=UTC)


_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@settings(max_examples=40)
@given(st.lists(st.builds(Package, _TEXT, _TEXT, _TEXT, _TEXT, st.sampled_from(["deb", "rpm", "apk", "pypi"]))))
def test_any_names_give_documents(packages: list[Package]) -> None:
    """Whatever characters an image's packages are named with, both documents are JSON that lists them all."""
    inventory = Inventory(OsRelease(), tuple(dict.fromkeys(packages)))
    assert (
        len(json.loads(spdx_document(IMAGE, inventory, Cancellation()))["packages"]) == len(inventory.packages) + 1
    )
    assert "components" in json.loads(cyclonedx_document(IMAGE, inventory, Cancellation())) or not packages
