"""Pages and numbers of the specification that code and documents name exist (docs/spec/README.md)."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEC = ROOT / "docs" / "spec"
CODE = sorted(path for folder in ("src", "tests", "benchmarks", "demo") for path in (ROOT / folder).rglob("*.py"))
DOCUMENTS = [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md")), ROOT / "findings" / "README.md"]

NUMBER = r"(?:A\d+|\d+(?:\.\d+)*)(?![\w-])"
ROW = r"(?:no\.|row|rule|check)\s\d+|(?:rows|rules|checks)\s\d+(?:,\s\d+)*"
NUMBERS = rf"{NUMBER}(?:(?:,\s|\sto\s|\sand\s|\sor\s)(?:{ROW}|{NUMBER}))*"
REFERENCE = re.compile(rf"(?:docs/)?spec/(?P<page>[\w-]+\.\w+)(?:\s(?P<numbers>{NUMBERS}))?")
PAGE = re.compile(r"(?<![\w./*<{-])[\w./-]*[\w-]\.md\b")
BARE = re.compile(
    r"(?<=\s)\((?:spec\s)?(?:A\d+|\d{1,2}\.\d{1,2}|\d{1,2},?\s(?:no\.|row|rule|check)\s\d+)"
    r"(?:,?\s(?:(?:no\.|row|rule|check)s?\s\d+|\d+\.\d+|\d+))*\)|\b[Ss]ection\s\d"
)
"""A number without its page, as `(6.2)` or as the word and a number."""


def prose(path: Path) -> Iterator[tuple[str, str]]:
    """Where it stands, and the text: the docstrings and comments of a program, joined over their lines."""
    source = path.read_text(encoding="utf-8")
    if ".md" not in source and not BARE.search(source):
        return  # most files; reading all of them as Python takes ten times as long
    name = str(path.relative_to(ROOT))
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield f"{name}:{node.lineno}", re.sub(r"\s+", " ", text)
    block: list[str] = []
    start = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if block and token.start[0] > last + 1:
                yield f"{name}:{start}", " ".join(block)
                block = []
            start, last = (start if block else token.start[0]), token.start[0]
            block.append(token.string.lstrip("#").strip())
    if block:
        yield f"{name}:{start}", " ".join(block)


@cache
def programs() -> list[tuple[str, str]]:
    """The prose of the programs."""
    return [text for path in CODE for text in prose(path)]


def documents() -> Iterator[tuple[str, str]]:
    """All documents; pages of the specification name each other without the folder."""
    for path in DOCUMENTS:
        text = re.sub(r"\s+", " ", path.read_text(encoding="utf-8"))
        if path.parent == SPEC:
            text = re.sub(r"(?<= )(?=(?:api|components|pipelines|workflows)\.md)", "spec/", text)
        yield str(path.relative_to(ROOT)), text


@cache
def page(name: str) -> str:
    """The text of a page of the specification."""
    return (SPEC / name).read_text(encoding="utf-8")


@cache
def section(name: str, number: str) -> str | None:
    """A section of a page with its subsections, or the row of its appendix."""
    text = page(name)
    if number.startswith("A"):
        row = re.search(rf"^\| {number} \|.*$", text, re.MULTILINE)
        return row and row[0]
    heading = re.search(rf"^(#+) {re.escape(number)}\.? .*$", text, re.MULTILINE)
    if heading is None:
        return None
    end = re.compile(rf"^#{{1,{len(heading[1])}}} ", re.MULTILINE).search(text, heading.end())
    return text[heading.start() : end.start() if end else len(text)]


def unresolved(name: str, numbers: str) -> list[str]:
    """What of a reference the page does not have; rows and rules are those of the section before them."""
    wrong: list[str] = []
    inside: str | None = ""
    for row, number in re.findall(rf"({ROW})|({NUMBER})", numbers):
        if number:
            inside = section(name, number)
            wrong += [number] if inside is None else []
            continue
        kind, *rest = row.replace(",", "").split()
        for digits in rest:
            found = re.search(rf"^(?:\| {digits} \||{digits}\. )", inside or "", re.MULTILINE)
            wrong += [] if found else [f"{kind} {digits}"]
    return wrong


def test_every_reference_to_the_specification_leads_to_its_place() -> None:
    """A page and number of the specification, wherever they stand, name a section, row or rule that exists."""
    found, wrong = 0, []
    for where, text in [*programs(), *documents()]:
        for match in REFERENCE.finditer(text):
            found += 1
            if not (SPEC / match["page"]).is_file():
                wrong.append(f"{where}: {match[0]}: no such page")
            else:
                missing = unresolved(match["page"], match["numbers"] or "")
                wrong += [f"{where}: {match[0]}: no {number}" for number in missing]
    assert not wrong, "\n".join(wrong)
    assert found > 250


@pytest.mark.parametrize("name", ["api.md", "components.md", "workflows.md"])
def test_a_page_of_the_specification_refers_to_sections_that_it_has(name: str) -> None:
    """Inside a page a number such as `(3.6)` or `(13, no. 7)` names a section or row of the same page."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page(name), flags=re.DOTALL)
    found = re.findall(
        r"(?<!\.md )(?:[Ss]ection |[Ss]ee |\()(\d{1,2}\.\d{1,2}|\d{1,2}, no\. \d+)(?=[),.;:\s])", text
    )
    assert found and not [number for number in found if unresolved(name, number)]


def test_every_page_that_is_named_is_in_the_repository() -> None:
    """A page that a comment or docstring names stands at that path; the specification stands below docs/."""
    wrong = [
        f"{where}: {name}"
        for where, text in programs()
        for name in PAGE.findall(text)
        if not (ROOT / ("docs" if name.startswith("spec/") else "") / name).is_file()
    ]
    assert not wrong, "\n".join(wrong)


def test_every_link_of_a_document_leads_to_a_file() -> None:
    """A relative link of a document leads to a file or folder of the repository."""
    wrong = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in DOCUMENTS
        for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8"))
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert not wrong, "\n".join(wrong)


def test_the_layout_of_the_design_is_that_of_the_source() -> None:
    """The layout in docs/design.md lists exactly the folders of the source."""
    layout = (ROOT / "docs" / "design.md").read_text(encoding="utf-8").partition("\nsrc/imagesmith/\n")[2]
    listed = set(re.findall(r"^  (\w+)/", layout.partition("\ntests/")[0], re.MULTILINE))
    assert listed == {path.parent.name for path in (ROOT / "src" / "imagesmith").glob("*/__init__.py")}


def test_a_number_stands_with_its_page() -> None:
    """No comment or docstring names a number of the specification without its page."""
    wrong = [f"{where}: {match[0]}" for where, text in programs() for match in BARE.finditer(text)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("reference", "missing"),
    [
        ("components.md 6.2", []),
        ("components.md 9, rule 8", []),
        ("components.md 9, rule 80", ["rule 80"]),
        ("components.md A23", []),
        ("components.md A99", ["A99"]),
        ("components.md 10.10 to 10.17", []),
        ("components.md 6.2, 6.99", ["6.99"]),
        ("workflows.md 2.6, checks 9, 10", []),
        ("workflows.md 2.6, checks 9, 90", ["checks 90"]),
        ("workflows.md 13, no. 3", []),
        ("workflows.md 13, no. 300", ["no. 300"]),
        ("api.md 6.1 and 60", ["60"]),
    ],
)
def test_a_number_that_does_not_exist_is_found(reference: str, missing: list[str]) -> None:
    """Sections, rows of tables, rules and rows of appendices are told apart, and a missing one is named."""
    match = REFERENCE.fullmatch("spec/" + reference)
    assert match is not None
    assert unresolved(match["page"], match["numbers"]) == missing
