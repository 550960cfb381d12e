"""docs/update-image-pipeline.md is complete and true: every member has a row and every named test exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import botocore.session
import pytest
from botocore.model import ListShape, Shape, StructureShape

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "update-image-pipeline.md").read_text(encoding="utf-8")
OPERATION = botocore.session.get_session().get_service_model("imagebuilder").operation_model("UpdateImagePipeline")
CONTRACT = {
    "clientToken", "containerRecipeArn", "description", "distributionConfigurationArn",
    "enhancedImageMetadataEnabled", "executionRole", "imagePipelineArn", "imageRecipeArn",
    "imageScanningConfiguration", "imageTestsConfiguration", "infrastructureConfigurationArn", "schedule", "status",
    "workflows",
}  # fmt: skip


def rows(section: str) -> dict[str, list[str]]:
    """First cell, without its quotes -> the other cells, of the tables of a section."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "
    ]
    return {first.strip("`"): rest for first, *rest in cells if first.startswith("`")}


def members(shape: Shape | None, prefix: str = "") -> Iterator[str]:
    """Paths of a structure's members, nested ones included: `workflows[].parameters[].name`."""
    if isinstance(shape, ListShape):
        yield from members(shape.member, f"{prefix}[]")
    elif isinstance(shape, StructureShape):
        for name, inner in shape.members.items():
            path = f"{prefix}.{name}".lstrip(".")
            yield path
            yield from members(inner, path)


def test_every_member_of_the_request_has_a_row() -> None:
    """Those of the contract and of the model, nested ones included, and no others."""
    listed = rows("Request")
    assert set(listed) == set(members(OPERATION.input_shape))
    assert listed.keys() >= CONTRACT


def test_every_element_of_the_response_has_a_row() -> None:
    """As the model has them."""
    assert set(rows("Response")) == set(members(OPERATION.output_shape))


def test_every_error_has_a_row_with_its_status() -> None:
    """Every code that the operation declares, with the status of the model."""
    listed = rows("Errors")
    for error in OPERATION.error_shapes:
        assert listed[error.name][1] == str(error.metadata["error"]["httpStatusCode"])


@pytest.mark.parametrize("section", ["Request", "Response", "Errors"])
def test_every_row_is_whole_and_names_tests(section: str) -> None:
    """Behaviour, constraint or status, and at least one test stand in each row."""
    for name, cells in rows(section).items():
        assert len(cells) == 3 and all(cells), name
        assert re.search(r"`\w+::test_\w+`", cells[2]), name


def test_every_named_test_exists() -> None:
    """No row promises a test that is not there."""
    named = set(re.findall(r"`(\w+)::(test_\w+)`", PAGE))
    assert named
    for module, name in sorted(named):
        [file] = (ROOT / "tests").rglob(f"{module}.py")
        assert re.search(rf"^def {name}\(", file.read_text(encoding="utf-8"), re.MULTILINE), f"{module}::{name}"


def test_what_waits_names_the_work_it_waits_for() -> None:
    """A row that a run does not obey yet says so with the number of the issue."""
    waiting = [
        name for name, cells in rows("Request").items() if "**Waits**" in cells[0] or "**waits**" in cells[0]
    ]
    for name in waiting:
        assert re.search(r"issue \d+", rows("Request")[name][0]), name
