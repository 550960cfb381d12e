"""The words of docs/glossary.md: private names that were given up do not come back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RETIRED = {
    "Lookout": "QueuePoller", "lookout": "poller", "Duties": "HeartbeatCallbacks", "only_beat": "only_heartbeat",
    "end_silent": "expire_silent_workers", "take_away": "revoke_claims", "home_of": "worker_with_instance",
    "ask_to_cancel": "request_cancel", "SCHEMA_NUMBER": "JOURNAL_VERSION", "persevere": "BackgroundRetries",
    "Workshop": "WorkerContext", "workshop": "worker_context", "shop": "worker_context",
    "DiskReserve": "EmergencyDiskSpace", "make_room": "wait_for_disk_space", "StepWork": "StepExecutor",
    "WaitWork": "WaitStep", "kept_at": "local_location", "kept_containers": "local_outputs",
    "push_kept": "push_built_image", "make_working": "make_build_runtime", "MachinePlace": "MachineFactory",
    "greeted": "wait_for_banner", "hasten": "disable_aslr", "DiskChain": "BackingChain",
    "freeze_disk": "snapshot_disk", "Machinery": "StepEnvironment", "end_of_checks": "stop_if_dry_run",
    "read_wishes": "parse_run_tags", "Patient": "RetryingClient", "Pace": "ExecutionMode",
    "AT_ONCE": "INLINE", "last_words": "exit_message", "set_at_rest": "set_suspended", "attend": "handle_event",
    "facts_key": "values_key", "SweepReport": "Leftovers", "PlacedInstruction": "ResolvedInstruction",
    "sole_lock": "exclusive_lock", "part_key": "child_key",
}  # fmt: skip
"""A name that was given up, and the word of the glossary that took its place."""
RETIRED_PHRASES = {
    r"(?<!there )\bis no\b(?! longer)": "is not a", r"\bcannot be had\b": "cannot be obtained",
    r"\bgo(es|ing) on\b": "continue", r"\bwent on\b": "continued", r"\banew\b": "again",
    r"\bnobody\b": "no user, no process", r"\bsomebody\b": "a user, a process", r"\bbegun\b": "started",
    r"\bmeans? nothing\b": "has no effect, is unknown", r"\bheard of\b": "last heartbeat",
    r"\bstands? (twice|here|before)\b": "appears twice, is here, is before", r"\bat hand\b": "available",
    r"\bis told\b": "is notified", r"\bof texts\b": "of strings", r"\bmust be a text\b": "must be a string",
    r"\bnothing is known\b": "is unknown", r"\btaken out of\b": "removed from", r"\btakes away\b": "removes",
    r"\bas is (said|told)\b": "as described", r"\bgiven up\b": "abandoned, revoked", r"\bput out\b": "output",
    r"\bof our own\b": "private", r"\btried (again|anew)\b": "retried",
}  # fmt: skip
"""A phrase of texts that users read, as a pattern, and what is written in its place."""
RETIRED_PARTS = {
    "place": frozenset({"place", "places", "placed"}),  # path, position, slot, lineage, destination, target, ...
    "facts": frozenset({"fact", "facts"}),  # properties, metadata, details, update of an outcome, ...
    "sweep": frozenset({"sweep", "sweeps", "sweeper", "swept"}),  # clean-up, remove_leftovers; enqueuing at a start
}
"""Words that had several meanings, by the names of code that they may not be part of."""
SOURCE = ROOT / "src/imagesmith"
PAGES = sorted([*ROOT.glob("src/**/*.py"), *ROOT.glob("docs/*.md"), ROOT / "README.md"])


@pytest.mark.parametrize("retired", sorted(RETIRED))
def test_a_retired_word_does_not_come_back(retired: str) -> None:
    """Neither in the code nor on a page; the message says what stands for it now."""
    word = re.compile(rf"\b{retired}\b")
    found = [
        f"{page.relative_to(ROOT)}:{number}"
        for page in PAGES
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
        if word.search(line)
    ]
    assert not found, f"'{retired}' is '{RETIRED[retired]}' now: {', '.join(found)}"


@pytest.mark.parametrize("words", RETIRED_PARTS.values(), ids=RETIRED_PARTS)
def test_no_name_of_the_code_has_a_retired_word_in_it(words: frozenset[str], names: list[tuple[str, str]]) -> None:
    """A word with many meanings; in prose it may stand, as a name it says nothing."""
    found = [
        f"{module} {name}"
        for module, name in names
        if words & {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}
    ]
    assert not found, f"say what it is: {', '.join(found)}"


@pytest.fixture(scope="module")
def names() -> list[tuple[str, str]]:
    """What the code calls its modules, variables, arguments, members, functions and classes."""
    return [
        (f"{module.relative_to(SOURCE)}:{line}", name)
        for module in sorted(SOURCE.rglob("*.py"))
        for line, name in [(1, module.stem), *_names(ast.parse(module.read_text(encoding="utf-8")))]
    ]


def test_the_words_that_took_their_place_are_used() -> None:
    """The table does not name a word that nobody writes."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert not [word for word in RETIRED.values() if not re.search(rf"\b{word}\b", text)]


@pytest.mark.parametrize("retired", sorted(RETIRED_PHRASES))
def test_a_retired_phrase_does_not_come_back(retired: str, texts: list[tuple[str, int, str]]) -> None:
    """In no string literal, help text of a command or generated page that a user reads."""
    phrase = re.compile(retired)
    found = [f"{module}:{line}: {text[:80]!r}" for module, line, text in texts if phrase.search(text)]
    assert not found, f"write '{RETIRED_PHRASES[retired]}': {'; '.join(found)}"


@pytest.fixture(scope="module")
def texts() -> list[tuple[str, int, str]]:
    """All texts, read once."""
    return list(_texts())


def _texts() -> Iterator[tuple[str, int, str]]:
    """Texts that users read: module or page, line, text."""
    for file in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        hidden = set(_docstrings(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in hidden:
                yield file.relative_to(SOURCE).as_posix(), node.lineno, node.value
    for page in [*(ROOT / f"docs/{name}.md" for name in ("components", "settings", "workflows"))]:
        yield page.name, 1, page.read_text(encoding="utf-8")
    for fragment in sorted((ROOT / "changelog.d").glob("*.*.md")):
        yield fragment.name, 1, fragment.read_text(encoding="utf-8")


def _names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """What a module calls its variables, arguments, members, functions and classes."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case _:
                pass


def _docstrings(tree: ast.AST) -> Iterator[int]:
    """Docstrings and notes under members, except the help texts of commands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and "click" in "".join(map(ast.unparse, node.decorator_list)):
            continue
        for statement in getattr(node, "body", ()) if isinstance(getattr(node, "body", ()), list) else ():
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                yield id(statement.value)
