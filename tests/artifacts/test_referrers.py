"""Documents beside an image in the layout: kept, found again, replaced, collected with their image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imagesmith.artifacts.layout import LayoutError, OciLayout
from imagesmith.artifacts.referrers import Document, attach, attached
from testing.registry_support import write_layout

NOTE = Document("application/vnd.example.note", "text/plain", b"hello", {"about": "one"})


@pytest.fixture
def layout(tmp_path: Path) -> OciLayout:
    write_layout(tmp_path / "oci", "web:1")
    return OciLayout(tmp_path / "oci")


def image_of(layout: OciLayout) -> str:
    found = layout.resolve("web:1")
    assert found is not None
    return found


def test_an_attached_document_names_its_image(layout: OciLayout) -> None:
    """The manifest has the image as its subject, and the document comes back byte by byte."""
    image = image_of(layout)
    digest = attach(layout, image, NOTE)
    (found,) = attached(layout, image)
    assert (found.digest, found.document) == (digest, NOTE)
    manifest = json.loads(found.manifest)
    assert manifest["subject"]["digest"] == image
    assert manifest["artifactType"] == NOTE.kind
    assert attached(layout, image, "application/other") == ()


def test_the_same_document_twice_is_one(layout: OciLayout) -> None:
    """Attaching again after a crash leaves one; newer content of the same kind and annotations replaces it."""
    image = image_of(layout)
    assert attach(layout, image, NOTE) == attach(layout, image, NOTE)
    changed = Document(NOTE.kind, NOTE.media_type, b"new", NOTE.annotations)
    attach(layout, image, changed)
    other = Document(NOTE.kind, NOTE.media_type, b"hello", {"about": "two"})
    attach(layout, image, other)
    assert [item.document for item in attached(layout, image)] == [changed, other]


def test_images_keep_their_names_and_names_stay_images(layout: OciLayout) -> None:
    """An attached document is not listed among the named images."""
    attach(layout, image_of(layout), NOTE)
    assert list(layout.references()) == ["web:1"]


def test_garbage_collection_keeps_documents_as_long_as_their_image(layout: OciLayout) -> None:
    """While the image is there its documents survive; afterwards nothing of them is left."""
    image = image_of(layout)
    attach(layout, image, NOTE)
    layout.collect_garbage()
    assert [item.document for item in attached(layout, image)] == [NOTE]
    layout.delete("web:1")
    layout.collect_garbage()
    assert attached(layout, image) == ()
    assert list((layout.path / "blobs" / "sha256").iterdir()) == []


def test_a_document_for_an_image_that_is_not_there_is_refused(layout: OciLayout) -> None:
    """The error names the digest."""
    with pytest.raises(LayoutError, match="sha256:00"):
        attach(layout, "sha256:" + "00" * 32, NOTE)


def test_a_damaged_document_is_noticed(layout: OciLayout) -> None:
    """A blob whose bytes changed is an error, not a document."""
    image = image_of(layout)
    attach(layout, image, NOTE)
    for blob in (layout.path / "blobs" / "sha256").iterdir():
        if blob.read_bytes() == b"hello":
            blob.write_bytes(b"jello")
    with pytest.raises(LayoutError, match="damaged"):
        attached(layout, image)
