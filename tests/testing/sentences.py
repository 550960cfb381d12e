"""docs/sentences.md against the service model of the installed botocore: `python tests/testing/sentences.py`.

Every sentence of the model's documentation that states behaviour has a row. A row has the id of its sentence, where
it stands, what it says in our words, and the tests that prove it, or why it is not about this service.

    | 3f0c9a1e | CreateImage | One recipe, of either kind. | test_pipelines::test_exactly_one_recipe_is_needed |
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import html
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import botocore

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "sentences.md"
MODEL: Final = Path(botocore.__file__).parent / "data" / "imagebuilder" / "2019-12-02" / "service-2.json.gz"
NOT_OURS: Final = "not ours: "
HEAD: Final = "| Id | Where | What it says | Proof |"

_WORDS: Final = (
    "always", "at least", "at most", "cancels", "cannot", "default", "defaults", "exactly", "fails", "fewer",
    "ignored", "immediately", "immutable", "limit", "maximum", "must", "never", "not", "only", "otherwise",
    "overrides", "rejects", "removed", "replace", "replaces", "required", "requires", "reset", "resets",
    "resolve", "resolves", "retained", "returned", "returns", "reverts", "skipped", "unless", "until",
    "up to", "validates",
)  # fmt: skip
_STATES_BEHAVIOUR: Final = re.compile(
    rf"\b(?:{'|'.join(_WORDS)}|\w+n't|omit\w*|asynchronous\w*|unique to|if(?! applicable))\b", re.IGNORECASE
)
"""What a sentence about behaviour has. It also meets some that describe: those get a row as well."""
_BLOCK: Final = re.compile(r"</?(?:p|li|dd|dt|dl|ul|ol|note|important|br|fullname)\b[^>]*>")
_TAG: Final = re.compile(r"<[^>]+>")
_BETWEEN: Final = re.compile(r"(?<=[.!?:])\s+(?=[A-Z`\"(])")
_NAMED_TEST: Final = re.compile(r"`(\w+)::(test_\w+)`")


@dataclass(frozen=True)
class Sentence:
    """A sentence of the model, and the operations and members whose documentation has it."""

    text: str
    places: tuple[str, ...]

    @property
    def id(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:8]

    @property
    def where(self) -> str:
        more = len(self.places) - 1
        return f"{self.places[0]} and {more} more" if more else self.places[0]


@dataclass(frozen=True)
class Row:
    """One row of the page."""

    id: str
    where: str
    words: str
    proof: str

    def __str__(self) -> str:
        return f"| {self.id} | {self.where} | {self.words} | {self.proof} |"

    @property
    def tests(self) -> list[tuple[str, str]]:
        """(module, function) of the named tests."""
        return _NAMED_TEST.findall(self.proof)


def installed_model() -> Mapping[str, Any]:
    with gzip.open(MODEL) as file:
        return dict(json.load(file))


def sentences(model: Mapping[str, Any]) -> dict[str, Sentence]:
    """The sentences that state behaviour, by id, in the order of the first place that has them."""
    places: dict[str, set[str]] = {}
    for place, documentation in _documented(model):
        for text in _split(documentation):
            if _STATES_BEHAVIOUR.search(text):
                places.setdefault(text, set()).add(place)
    found = [Sentence(text, tuple(sorted(where))) for text, where in places.items()]
    return {item.id: item for item in sorted(found, key=lambda item: (item.places[0], item.text))}


def _documented(model: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, item in {**model["operations"], **model["shapes"]}.items():
        yield name, item.get("documentation", "")
        for member, inner in item.get("members", {}).items():
            yield f"{name}.{member}", inner.get("documentation", "")


def _split(documentation: str) -> Iterator[str]:
    for line in _BLOCK.sub("\n", documentation).split("\n"):
        text = " ".join(html.unescape(_TAG.sub("", line)).split())
        yield from filter(None, _BETWEEN.split(text))


def rows(page: str) -> list[Row]:
    """The rows of the table, in their order."""
    lines = page.partition(f"{HEAD}\n")[2].splitlines()[1:]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")]
    return [Row(*parts) for parts in cells if len(parts) == 4]


def problems(page: str, model: Mapping[str, Any]) -> list[str]:
    """What is wrong with the page, a line each."""
    wanted, listed = sentences(model), rows(page)
    known = {row.id for row in listed}
    found = [
        f"no row for {item.id} ({item.where}): {item.text}" for item in wanted.values() if item.id not in known
    ]
    found += [f"{row.id} ({row.where}) is no sentence of the model" for row in listed if row.id not in wanted]
    found += [f"{id} has more than one row" for id in sorted(known) if [row.id for row in listed].count(id) > 1]
    kept = [row for row in listed if row.id in wanted]
    found += [f"{row.id} is in {wanted[row.id].where}, not {row.where}" for row in kept if moved(row, wanted)]
    if [row.id for row in kept] != [id for id in wanted if id in known]:
        found.append("the rows are not in the order of their places")
    defined = defined_tests()
    for row in listed:
        found += [f"{row.id}: {problem}" for problem in _proof_problems(row, defined)]
    return found


def moved(row: Row, wanted: Mapping[str, Sentence]) -> bool:
    return row.where != wanted[row.id].where


def _proof_problems(row: Row, defined: frozenset[tuple[str, str]]) -> Iterator[str]:
    if not row.words:
        yield "it says nothing in our words"
    if not row.tests and not (row.proof.startswith(NOT_OURS) and len(row.proof) > len(NOT_OURS)):
        yield f"neither a test nor '{NOT_OURS}' and a reason: {row.proof}"
    for module, name in row.tests:
        if (module, name) not in defined:
            yield f"there is no test {module}::{name}"


def defined_tests() -> frozenset[tuple[str, str]]:
    """(module, function) of every test of the project."""
    return frozenset(
        (path.stem, node.name)
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def arranged(page: str, model: Mapping[str, Any]) -> str:
    """The page with its rows in order and at their places; a new sentence gets a row without words and proof."""
    wanted, known = sentences(model), {row.id: row for row in rows(page)}
    table = [
        str(replace(known[id], where=item.where)) if id in known else str(Row(id, item.where, "", ""))
        for id, item in wanted.items()
    ]
    return "\n".join([page.partition(HEAD)[0] + HEAD, "|---|---|---|---|", *table]) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Print what is wrong with the page; with `--arrange`, put its rows in order first."""
    model, page = installed_model(), PAGE.read_text(encoding="utf-8")
    if "--arrange" in arguments:
        page = arranged(page, model)
        PAGE.write_text(page, encoding="utf-8")
    found = problems(page, model)
    sys.stdout.write("".join(f"{line}\n" for line in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
