"""A small text of a caller stays small: where one can grow it is bounded, and the place is told."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from imagesmith.components.grammar import parse_component
from imagesmith.dockerfiles.graph import build_graph
from imagesmith.dockerfiles.parser import parse_dockerfile
from imagesmith.dockerfiles.template import check_template
from imagesmith.documents.patterns import PatternError, compile_pattern
from imagesmith.documents.references import replace_references
from imagesmith.documents.yaml import load_yaml
from imagesmith.values.expansion import Budget, TooLarge
from imagesmith.values.globs import matches

PARENT = "FROM {{{ imagebuilder:parentImage }}}\n"
DOUBLED = "ARG A=0123456789\n" + "ARG A=${A}${A}\n" * 40
SEED = "ENV A=0123456789\n"

DOCKERFILES = {
    "ARG before the first stage": DOUBLED + PARENT,
    "ARG in a stage": PARENT + DOUBLED,
    "ARG without braces": "ARG A=0123456789\n" + "ARG A=$A$A\n" * 40 + PARENT,
    "two ARGs in turn": "ARG A=0123456789\n" + "ARG B=${A}${A}\nARG A=${B}${B}\n" * 20 + PARENT,
    "several in one ARG": "# syntax\nARG A=0123456789 " + "A=${A}${A} " * 40 + "\n" + PARENT,
    "a default that is put in": "ARG A=0123456789\n" + "ARG A=${A:-x}${A:-x}\n" * 40 + PARENT,
    "ENV": PARENT + SEED + "ENV A=${A}${A}\n" * 40,
    "ENV in quotes": PARENT + SEED + 'ENV A="${A} ${A}"\n' * 40,
    "ENV in its old form": PARENT + SEED + "ENV A $A $A\n" * 40,
    "ENV over stages": "FROM scratch AS a\n"
    + SEED
    + "ENV A=$A$A\n" * 8
    + "FROM a\n"
    + "ENV A=$A$A\n" * 30
    + PARENT,
    "LABEL": PARENT + "ENV A=" + "x" * 4000 + "\nLABEL a=" + "$A" * 2000 + "\n",
    "FROM": "ARG A=" + "x" * 4000 + "\n" + PARENT + "FROM " + "${A}" * 2000 + "\n",
    "many references": PARENT + "LABEL a=" + "$A" * 30_000 + "\n",
    "lines that are continued": PARENT + SEED + "ENV \\\n A=${A}\\\n${A}\n" * 40,
}


@pytest.mark.parametrize("text", DOCKERFILES.values(), ids=DOCKERFILES.keys())
def test_variables_of_a_dockerfile_stay_small(text: str) -> None:
    """The line is named at which a variable, or all of them together, become too long."""
    (problem,) = [found for found in check_template(text, has_components=False) if found.code == "too-large"]
    assert problem.position is not None and problem.position.line > 1
    assert "grows beyond" in problem.message or "references are replaced" in problem.message


def test_an_ordinary_dockerfile_does_not_grow_too_far() -> None:
    """A search path that is prolonged many times, and a long argument, are what people write."""
    text = (
        PARENT + "ENV PATH=/usr/bin\n" + "ENV PATH=$PATH:/opt/some/tool/bin\n" * 100 + "ARG X=" + "y" * 8000 + "\n"
    )
    assert check_template(text, has_components=False) == []


def test_a_stored_template_that_grows_is_refused_when_it_is_built() -> None:
    """A recipe from before the check names its line as well."""
    problems = build_graph(parse_dockerfile(DOUBLED + "FROM ${A}\n")).problems
    assert any("grows beyond" in problem.message for problem in problems)


YAML = {
    "a text that is repeated": "a: &a " + "x" * 30_000 + "\nb: [" + "*a," * 10_000 + "*a]\n",
    "a text of many lines": "a: &a |\n" + "  x\n" * 10_000 + "b: [" + "*a," * 5_000 + "*a]\n",
    "lists in lists": "a0: &a0 [x, x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(40)),
    "long texts in lists": "a0: &a0 [" + "x" * 9000 + "]\n"
    + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(12)),
    "mappings that are merged": "a0: &a0 {k: v}\n"
    + "".join(f"a{i + 1}: &a{i + 1} {{x: *a{i}, y: *a{i}, <<: *a{i}}}\n" for i in range(40)),
    "keys that are merged": "a: &a {" + "k" * 900 + ": 1}\nb:\n" + "  - {<<: *a}\n" * 3000,
}  # fmt: skip


@pytest.mark.parametrize("text", YAML.values(), ids=YAML.keys())
def test_aliases_and_merge_keys_stay_small(text: str) -> None:
    """What aliases stand for counts as if it were written out, nodes and characters alike."""
    loaded = load_yaml(text)
    assert loaded.root is None and [problem.code for problem in loaded.problems] == ["yaml-size"]
    assert loaded.problems[0].position is not None


@pytest.mark.parametrize(
    "pattern",
    ["a{1000}{1000}", "(a{1000}){1000}", "((){1000}){1000}", "((((){1000}){1000}){1000}){1000}",
     "((a|){1000}){1000}",
     "(((a{0}){1000}){1000}){1000}", "(?:(?:){1000}*){1000}", "((a*){1000}){1000}", "(^{1000}){1000}"],
)  # fmt: skip
def test_repetitions_of_a_pattern_stay_small(pattern: str) -> None:
    """A repetition of nothing adds no instruction, but a thousand thousand thousand of it take for ever."""
    with pytest.raises(PatternError):
        compile_pattern(pattern)


@pytest.mark.parametrize("stars", [8, 40, 400])
def test_many_stars_are_matched_without_coming_back(stars: int) -> None:
    """Each star is settled once."""
    assert not matches("*a" * stars + "*b", "a" * 3000)
    assert matches("*a" * stars + "*b", "a" * 3000 + "b")


@pytest.mark.parametrize(
    ("text", "values", "message"),
    [
        ("{{ a }}" * 10, {"a": "x" * 1000}, "grows beyond 5000"),
        ("{{ a }}{{ b }}" * 10, {"a": "", "b": ""}, "more than 15 references"),
    ],
)
def test_references_stay_within_a_budget(text: str, values: dict[str, str], message: str) -> None:
    """Length and count are bounded; the reference that was too much is named."""
    with pytest.raises(TooLarge, match=r"with \{\{ [ab] \}\}.*" + message):
        replace_references(text, values.get, Budget(5000, 15))


@pytest.mark.parametrize(
    ("loop", "good"),
    [("{start: 1, end: 100000, updateBy: 1}", True), ("{start: 1, end: 100001, updateBy: 1}", False),
     ("{start: 0, end: -999999999999, updateBy: -1}", False),
     ("{start: 0, end: 999999999999, updateBy: 99999999}", True)],
)  # fmt: skip
def test_a_loop_counts_a_bounded_number_of_iterations(loop: str, good: bool) -> None:
    """A range of a million million is a slip or an attack."""
    text = (
        "schemaVersion: 1.0\nphases:\n  - name: build\n    steps:\n"
        "      - name: Step\n        action: ExecuteBash\n"
        f"        loop:\n          for: {loop}\n        inputs:\n          commands: ['true']\n"
    )
    parsed = parse_component(text)
    assert (parsed.document is not None) is good
    assert good or "the limit is 100000" in parsed.errors[0].message


LIMITED = """
import resource, sys
sys.path[:0] = {path!r}
from documents import test_growth as growth
from imagesmith.documents.yaml import load_yaml
from imagesmith.documents.nodes import to_data
resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for text in growth.DOCKERFILES.values():
    growth.check_template(text, has_components=False)
for text in growth.YAML.values():
    assert load_yaml(text).root is None
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_stays_small_where_little_is_allowed() -> None:
    """All of the above in a process of 512 MiB of addresses: it ends well, and takes less than 64 MiB for it."""
    code = LIMITED.format(path=sys.path, memory=512 * 1024**2)
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64 * 1024
