"""The layout of `tests`: folders of `src`, and shared helpers in `tests/testing` alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
SOURCES = TESTS.parent / "src" / "imagesmith"
MODULES = sorted(TESTS.rglob("*.py"))
ELSEWHERE = (TESTS.parent, TESTS)
"""Folders whose modules a docstring may name by their path: `tests/...`, `script/...`."""
NAMED_MODULE = re.compile(r"(?<![\w./*<-])[\w/]*\w\.py\b")
LISTED = re.compile(r"^  (\w+/|\w+\.py)|; (\w+\.py) ", re.MULTILINE)
"""A folder or module of the sources in the layout of docs/design.md."""
BESIDE_SOURCES = {"clients", "contract", "crash", "pipeline", "testing"}
"""Folders that look at the whole: clients, the API, kills at every point, whole builds; and the shared helpers."""


def _imported(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "."
            yield from (f"{node.module or '.'}.{alias.name}" for alias in node.names)


def test_folders_are_those_of_the_sources() -> None:
    """A reader finds the tests of a package in the folder of its name."""
    folders = {place.relative_to(TESTS) for place in {module.parent for module in MODULES}} - {Path()}
    unknown = {folder for folder in folders if not (SOURCES / folder).is_dir()}
    assert {str(folder) for folder in unknown} == BESIDE_SOURCES


def test_the_layout_of_the_design_page_is_that_of_the_sources() -> None:
    """Every folder and module of the package is listed, and nothing that does not exist."""
    page = (TESTS.parent / "docs/design.md").read_text()
    layout = page.partition("\nsrc/imagesmith/\n")[2].partition("\ntests/ ")[0]
    listed = {folder or module for folder, module in LISTED.findall(layout)}
    folders = {f"{place.parent.name}/" for place in SOURCES.glob("*/__init__.py")}
    assert listed == folders | {place.name for place in SOURCES.glob("[!_]*.py")}


def test_helpers_come_from_the_testing_package_alone() -> None:
    """No module imports a test module, a conftest or a helper of another folder."""
    own = {place.name for place in TESTS.iterdir() if place.is_dir()} - {"testing"}
    own |= {place.stem for place in TESTS.glob("*.py")}
    wrong = {
        f"{module.relative_to(TESTS)}: {name}"
        for module in MODULES
        for name in _imported(module)
        if name.partition(".")[0] in own or name.startswith(".")
    }
    assert wrong == set(), "move what is shared to tests/testing"


def test_modules_that_a_docstring_names_exist() -> None:
    """A reader who follows a name arrives: modules are named from the package, or from the folder of the text."""
    missing = {
        f"{module.relative_to(SOURCES)}: {name}"
        for module in SOURCES.rglob("*.py")
        for name in NAMED_MODULE.findall(ast.get_docstring(ast.parse(module.read_text())) or "")
        if not any((folder / name).is_file() for folder in (SOURCES, module.parent, *ELSEWHERE))
    }
    assert missing == set()


def test_folders_hold_tests_and_fixtures_alone() -> None:
    """Outside `testing` there are test modules and conftests, none of which passes fixtures on in `__all__`."""
    others = [module for module in MODULES if module.parent.name != "testing" and module != Path(__file__)]
    named = ("__init__.py", "conftest.py")
    assert [module for module in others if module.name not in named and not module.name.startswith("test_")] == []
    assert [module for module in others if "__all__" in module.read_text()] == []
