"""The grammar of Dockerfiles: what is read, where each part is, and what is refused where."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imagesmith.dockerfiles import model
from imagesmith.dockerfiles.graph import build_graph
from imagesmith.dockerfiles.model import Dockerfile, Instruction, Token
from imagesmith.dockerfiles.parser import parse_dockerfile
from imagesmith.dockerfiles.stages import BaseKind
from imagesmith.dockerfiles.template import check_template

HEAD = "FROM {{{ imagebuilder:parentImage }}}\n"


def only(text: str) -> Any:
    """The one instruction of a text that has nothing wrong with it."""
    parsed = parse_dockerfile(text)
    assert [item for item in parsed.problems if item.severity == "error"] == []
    (instruction,) = parsed.instructions
    return instruction


def texts(tokens: tuple[Token, ...]) -> list[str]:
    return [token.text for token in tokens]


def where(text: str) -> list[tuple[str, int, int]]:
    """Code, line and column of each problem of a template."""
    found = check_template(text, has_components=False)
    return [
        (item.code, item.position.line if item.position else 0, item.position.column if item.position else 0)
        for item in found
        if item.code != "no-parent"
    ]


@pytest.mark.parametrize(
    ("text", "words", "is_exec"),
    [
        ("RUN echo  a", ["echo  a"], False),
        ("RUN echo a \\\n  # comment\n\n  && b", ["echo a   && b"], False),
        ("RUN echo a \\ \t\n b", ["echo a  b"], False),
        ("# escape=`\nRUN dir `\n C:\\x\\", ["dir  C:\\x\\"], False),
        ("\\\nRUN x", ["x"], False),
        ("RUN a\\\\\n", ["a\\\\"], False),
        ("\ufeffRUN a", ["a"], False),
        ("RUN a\r\n", ["a"], False),
        ("RUN a\x0cb\u2028c\x85d", ["a\x0cb\u2028c\x85d"], False),
        ("RUN\x0ca", ["a"], False),
        ('CMD ["a", "b c"]', ["a", "b c"], True),
        ('CMD ["a"] && b', ['["a"] && b'], False),
        ("CMD [ -f x ] && y", ["[ -f x ] && y"], False),
        ('CMD ["a",]', ['["a",]'], False),
        ("CMD []", [], True),
        ("CMD", [], False),
        ('ENTRYPOINT ["\\u00e9\\ud800"]', ["é\ufffd"], True),
    ],
)
def test_commands_are_text_for_a_shell_or_words(text: str, words: list[str], is_exec: bool) -> None:
    """JSON with anything behind it is text; a continued line loses its escape character and nothing else."""
    command = only(text).command
    assert (texts(command.words), command.is_exec) == (words, is_exec)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN <<EOF\na\nb\nEOF", [("EOF", "a\nb\n", True, False)]),
        ("RUN <<EOF\r\na\r\nEOF\r\n", [("EOF", "a\r\n", True, False)]),
        ("RUN <<-EOF\n\ta\n\tEOF", [("EOF", "\ta\n", True, True)]),
        ("RUN <<'E F' cat\n$a\nE F", [("E F", "$a\n", False, False)]),
        ('RUN <<"EOF"\n$a\nEOF', [("EOF", "$a\n", False, False)]),
        ("RUN 3<<A cat <<B\n1\nA\n2\nB", [("A", "1\n", True, False), ("B", "2\n", True, False)]),
        ("RUN cat <<EOF\n# no comment\n\nx \\\nEOF", [("EOF", "# no comment\n\nx \\\n", True, False)]),
        ("COPY <<a <<b /d/\n1\na\n2\nb", [("a", "1\n", True, False), ("b", "2\n", True, False)]),
        ("ADD <<a /d\na", [("a", "", True, False)]),
        ("RUN cat <<< word", []),
        ("RUN echo $((1<<2)) x<<y", []),
        ("RUN echo '<<EOF'", []),
    ],
)
def test_here_documents_belong_to_their_instruction(text: str, expected: list[tuple[str, str, bool, bool]]) -> None:
    """Their texts stay as they are, line ends included; quotes around the delimiter keep variables as written."""
    item = only(text)
    found = item.command.heredocs if isinstance(item, model.RunInstruction) else item.heredocs
    assert [(one.delimiter, one.content, one.expand, one.strip_tabs) for one in found] == expected


def test_what_follows_a_here_document_is_the_next_instruction() -> None:
    """With its own line; a trigger has its documents too, an array of JSON has none."""
    parsed = parse_dockerfile('ONBUILD RUN <<A\nRUN no\nA\nUSER u\nRUN ["<<B"]\nUSER v\nENV A=<<C\nUSER w')
    assert [(item.name, item.position.line) for item in parsed.instructions] == [
        ("ONBUILD", 1), ("USER", 4), ("RUN", 5), ("USER", 6), ("ENV", 7), ("USER", 8),
    ]  # fmt: skip
    first = parsed.instructions[0]
    assert isinstance(first, model.OnbuildInstruction) and first.text == "RUN <<A\nRUN no\nA"


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("ENV A=1 B='2 3' C=\"4\"", [("A", "1"), ("B", "'2 3'"), ("C", '"4"')]),
        ("ENV A 1  2 ", [("A", "1  2")]),
        ("ENV A=1\\ 2 B=3", [("A", "1\\ 2"), ("B", "3")]),
        ("LABEL a=b\\\n  c=d", [("a", "b"), ("c", "d")]),
        ("LABEL a.b-c=d=e", [("a.b-c", "d=e")]),
        ("ENV A=", [("A", "")]),
    ],
)
def test_pairs_have_both_forms(text: str, pairs: list[tuple[str, str]]) -> None:
    """Quotes and escapes are kept for the expansion; a name may hold what Docker lets it hold."""
    assert [(pair.key.text, pair.value.text) for pair in only(text).pairs] == pairs


def test_files_have_their_flags() -> None:
    """Every flag of COPY and ADD."""
    copy = only("COPY --from=a --chown=1:2 --chmod=644 --link --parents --exclude=x --exclude=y a b /c/")
    assert (copy.from_.text, copy.chown.text, copy.chmod.text, copy.link, copy.parents) == (
        "a",
        "1:2",
        "644",
        True,
        True,
    )
    assert (texts(copy.excludes), texts(copy.sources), copy.destination.text) == (["x", "y"], ["a", "b"], "/c/")
    add = only('ADD --checksum=sha256:x --keep-git-dir=true --unpack=false --link=FALSE ["http://a", "/b c"]')
    assert (add.checksum.text, add.keep_git_dir, add.unpack, add.link) == ("sha256:x", True, False, False)
    assert (texts(add.sources), add.destination.text) == (["http://a"], "/b c")


def test_a_run_has_its_mounts_and_flags() -> None:
    """Members under all of their names; the flags end at the command."""
    run = only(
        "RUN --mount=type=cache,id=c,dst=/c,sharing=locked,mode=0700,uid=1,gid=2 --mount=from=s,src=/a,target=/b,rw"
        " --mount=type=tmpfs,target=/t,size=10m --network=none --security=sandbox --device=d x --mount=y"
    )
    cache, bind, tmpfs = run.mounts
    assert (cache.kind, cache.id, cache.target, cache.sharing, cache.mode, cache.uid, cache.gid) == (
        "cache", "c", "/c", "locked", "0700", "1", "2",
    )  # fmt: skip
    assert (bind.kind, bind.image, bind.source, bind.target, bind.read_only) == ("bind", "s", "/a", "/b", False)
    assert (tmpfs.kind, tmpfs.size) == ("tmpfs", "10m")
    assert (run.network.text, run.security.text, texts(run.devices)) == ("none", "sandbox", ["d"])
    assert texts(run.command.words) == ["x --mount=y"]


def test_health_checks_have_their_times() -> None:
    """In nanoseconds, as images keep them."""
    check = only(
        "HEALTHCHECK --interval=1m --timeout=1.5s --start-period=2h --start-interval=10ms --retries=3 CMD curl x"
    )
    assert (check.interval, check.timeout, check.start_period, check.start_interval, check.retries) == (
        60 * 10**9, 15 * 10**8, 7200 * 10**9, 10**7, 3,
    )  # fmt: skip
    assert texts(check.command.words) == ["curl x"] and not check.command.is_exec
    assert only("HEALTHCHECK NONE").command is None


WRONG = [
    ("FROM", "arguments", 1), ("FROM a b", "arguments", 8), ("FROM a AS 1", "stage-name", 11),
    ("FROM --platfrom=x a", "unknown-flag", 6), ("FROM --platform=a/b/c/d x", "platform", 17),
    ("RUN", "arguments", 1), ("RUN --mount=type=foo x", "mount", 13),
    ("RUN --mount=type=bind,foo=1 x", "mount", 23),
    ("RUN --mount=type=bind,mode=1 x", "mount", 23), ("RUN --mount=type=bind,target x", "mount", 23),
    ("RUN --mount=type=cache,sharing=x x", "mount", 24), ("RUN --mount=type=tmpfs,size=x x", "mount", 24),
    ("RUN --mount=type=cache,uid=-1 x", "mount", 24), ("RUN --mount=type=secret x", "mount", 13),
    ("RUN --network=foo x", "flag-value", 15), ("RUN --security=x y", "flag-value", 16),
    ("RUN --network x", "flag-value", 5), ("RUN --network=none --network=none x", "flag-twice", 20),
    ("RUN --foo x", "unknown-flag", 5), ("RUN [1]", "json", 5), ("COPY --from=0 a", "arguments", 1),
    ("COPY --link=maybe --from=0 a b", "flag-value", 6), ("COPY --from=0 a <<X", "heredoc", 17),
    ("ENV", "arguments", 1), ("ENV A", "pair", 5), ("ENV A=1 B", "pair", 9), ("ENV A=1 =2", "variable-name", 9),
    ("ARG", "arguments", 1), ("ARG A=1 =2", "variable-name", 9), ("USER", "arguments", 1),
    ("WORKDIR", "arguments", 1), ("VOLUME", "arguments", 1), ('VOLUME ["/a", " "]', "empty", 15),
    ("EXPOSE", "arguments", 1), ("SHELL bash", "json", 7), ("SHELL []", "arguments", 7),
    ("HEALTHCHECK", "arguments", 11), ("HEALTHCHECK FOO", "arguments", 13), ("HEALTHCHECK CMD", "arguments", 13),
    ("HEALTHCHECK NONE x", "arguments", 18), ("HEALTHCHECK --timeout=5 CMD x", "duration", 23),
    ("HEALTHCHECK --timeout=1us CMD x", "duration", 23), ("HEALTHCHECK --retries=x CMD x", "number", 23),
    ("ONBUILD", "arguments", 1), ("ONBUILD FROM x", "onbuild", 9), ("ONBUILD onbuild RUN x", "onbuild", 9),
    ("ONBUILD ENV A", "pair", 13), ("FOO x", "unknown-instruction", 1), ("??", "no-instruction", 1),
    ("STOPSIGNAL", "arguments", 1), ("STOPSIGNAL SIGFOO", "signal", 12), ("EXPOSE 1 x", "port", 10),
    ("EXPOSE 1/x", "port", 8), ("EXPOSE 65536", "port", 8), ("EXPOSE 9-8", "port", 8), ("ENV A=${", "variable", 7),
    ("ENV A=1 B=x${A", "variable", 12), ("ENV A=${B!}", "variable", 7), ("ENV A='x", "variable", 7),
    ("ENV A=\"$B", "variable", 7), ("ADD --checksum=x http://a /b", "checksum", 16),
    ("ADD --chmod=9 http://a /b", "mode", 13), ("ADD http://a http://b /c", "destination", 23),
    ("COPY a /b", "no-context", 6), ("ADD a http://b /c/", "no-context", 5), ("COPY http://a /b", "no-context", 6),
    ("RUN --mount=target=/x y", "no-context", 13), ("RUN --mount=type=ssh y", "ssh", 13),
    ("RUN --mount=type=cache,target=/c,mode=10000 y", "mount", 34),
    ("RUN --mount=type=cache,target=/c,mode=77777777777 y", "mount", 34),
    ("RUN --mount=type=cache,target=/c,uid=4294967295 y", "mount", 34),
    ("RUN --mount=type=cache,target=/c,gid=2147483648 y", "mount", 34),
    ("RUN --mount=type=cache,target=/c,uid= y", "mount", 34),
    ("RUN --mount=type=secret,id=a y", "secret", 13), ("RUN --network=host y", "network", 15),
    ("RUN --security=insecure y", "security", 16), ("RUN --device=x y", "device", 14),
    ("COPY --from=7 a /b", "image", 13), ("WORKDIR /.wh.a", "reserved-name", 1),
]  # fmt: skip


@pytest.mark.parametrize(("line", "code", "column"), WRONG)
def test_what_is_wrong_is_told_with_its_place(line: str, code: str, column: int) -> None:
    """At create, by code, line and column; behind a continued line too."""
    assert (code, 2, column) in where(f"{HEAD}{line}\n")
    keyword, _, rest = line.partition(" ")
    if rest and column > len(keyword) + 1:
        assert (code, 3, column - len(keyword)) in where(f"{HEAD}{keyword}\\\n {rest}\n")


@pytest.mark.parametrize(
    ("count", "expected"), [(200, []), (201, [("too-large", 201, 1)]), (3000, [("too-large", 201, 1)])]
)
def test_the_number_of_stages_is_bounded(count: int, expected: list[tuple[str, int, int]]) -> None:
    """Each has a container until the end of the build: the first one too many is told."""
    assert where("FROM scratch\n" * count) == expected


def test_all_problems_are_told_at_once_in_the_order_of_their_lines() -> None:
    """Nothing hides what comes behind it."""
    lines = "".join(f"{line}\n" for line, _, _ in WRONG if "$" not in line and "<<" not in line)
    found = where(HEAD + lines)
    assert [line for _, line, _ in found] == sorted(line for _, line, _ in found)
    assert {line for _, line, _ in found} >= set(range(2, 2 + lines.count("\n")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# escape=x\n", [("directive", 1, 10)]),
        ("# escape=`\n# ESCAPE=`\n", [("directive", 2, 1)]),
        ("# a comment\n# escape=x\n", []),
        ("# check=skip=all\n# syntax=docker/dockerfile:1.7-labs\n# escape=\\\n", []),
        ("#syntax = example.org/other:1\n", [("syntax", 1, 11)]),
    ],
)
def test_directives_stand_at_the_top(text: str, expected: list[tuple[str, int, int]]) -> None:
    """Each once; a front end of somebody else is refused, as nobody would obey it."""
    assert where(f"{text}{HEAD}") == expected


def test_only_the_last_command_of_a_stage_counts() -> None:
    """Docker warns of the others, and so does the check; of a name given twice and of MAINTAINER, too."""
    text = f"{HEAD}CMD a\nCMD b\nENTRYPOINT c\nFROM scratch AS x\nCMD a\nFROM scratch AS x\nMAINTAINER m\n"
    found = check_template(text, has_components=False)
    assert [(item.code, item.severity, item.position.line if item.position else 0) for item in found] == [
        ("no-effect", "warning", 2), ("stage-twice", "warning", 7), ("deprecated", "warning", 8),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ARG A=1\nFROM scratch\nENV B=$A", ""),
        ("ARG A=1\nFROM scratch\nARG A\nENV B=$A", "1"),
        ("ARG A=1\nFROM scratch\nARG A=2\nENV B=$A", "2"),
        ("ARG A=1 C=$A\nFROM scratch\nARG C\nENV B=$C", "1"),
        ("FROM scratch\nARG A=1 C=$A\nENV B=$C", ""),
        ("FROM scratch AS x\nARG A=1\nFROM x\nENV B=$A", "1"),
        ("FROM scratch AS x\nENV A=1\nFROM scratch\nENV B=$A", ""),
        ("FROM scratch\nENV A=1\nARG A=2\nENV B=$A", "1"),
        ("FROM scratch\nARG TARGETARCH\nENV B=$TARGETARCH", "amd64"),
        ("FROM scratch\nENV B=$TARGETARCH", ""),
        ("FROM scratch\nARG http_proxy\nENV B=${http_proxy-none}", "none"),
        ("FROM scratch\nENV A=a.b.c\nENV B=${A#*.}-${A##*.}-${A%.*}-${A%%.*}", "b.c-c-a.b-a"),
        ("FROM scratch\nENV A=a.b.c\nENV B=${A/./_}-${A//./_}-${A//?/x}", "a_b.c-a_b_c-xxxxx"),
        ("FROM scratch\nENV A=a/b\nENV B=${A//\\//-}", "a-b"),
        ("FROM scratch\nENV A=\nENV B=${A-x}${A:-y}${A+z}${A:+w}${C-v}${C+u}", "yzv"),
        ("FROM scratch\nENV A=1\nENV B=${A:?no}${A?no}", "11"),
        ('FROM scratch\nENV A=1\nENV B=\\$A\'$A\'"$A"\\"', '$A$A1"'),
        ('FROM scratch\nENV A=1\nENV B=${C:-"${A} x"}', "1 x"),
        ("# escape=`\nFROM scratch\nENV A=1\nENV B=C:\\$A`$A", "C:\\1$A"),
        ("FROM scratch\nENV A=*\nENV B=${A#\\*}x", "x"),
    ],
)
def test_variables_have_their_scopes_and_modifiers(text: str, expected: str) -> None:
    """As Docker documents them; ENV takes what was set before its line."""
    graph = build_graph(parse_dockerfile(text))
    assert graph.problems == ()
    assert graph.stages[-1].environment.values["B"] == expected


@pytest.mark.parametrize("modifier", ["?", ":?", "?why", ":?why"])
def test_a_variable_that_must_have_a_value_is_checked_where_that_is_certain(modifier: str) -> None:
    """On an image the parent may set it, so that only the build can know."""
    line = f"ENV B=${{A{modifier}}}\n"
    assert [item.code for item in build_graph(parse_dockerfile(f"FROM scratch\n{line}")).problems] == ["variable"]
    assert build_graph(parse_dockerfile(f"FROM debian\n{line}")).problems == ()
    known = build_graph(parse_dockerfile(f"FROM debian\n{line}"), {"debian": {"A": "1"}})
    assert known.stages[0].environment.values["B"] == "1"


def test_stages_are_a_graph() -> None:
    """By name and number, forward too; the last stage needs only what leads to it."""
    text = (
        "FROM scratch AS a\nFROM a AS b\nFROM debian AS c\nCOPY --from=b / /\nRUN --mount=from=late x\n"
        "FROM scratch AS unused\nFROM c\nCOPY --from=0 / /\nFROM scratch AS late\nFROM c\n"
    )
    graph = build_graph(parse_dockerfile(text))
    assert graph.problems == ()
    assert [(stage.base.kind, stage.base.stage, sorted(stage.needs)) for stage in graph.stages] == [
        (BaseKind.SCRATCH, -1, []), (BaseKind.STAGE, 0, [0]), (BaseKind.IMAGE, -1, [1, 5]),
        (BaseKind.SCRATCH, -1, []), (BaseKind.STAGE, 2, [0, 2]), (BaseKind.SCRATCH, -1, []),
        (BaseKind.STAGE, 2, [2]),
    ]  # fmt: skip
    assert sorted(graph.needed) == [0, 1, 2, 5, 6]


@pytest.mark.parametrize(
    "text",
    [
        "FROM scratch AS a\nCOPY --from=a / /\n",
        "FROM scratch AS a\nCOPY --from=b / /\nFROM scratch AS b\nCOPY --from=a / /\n",
        "FROM scratch AS a\nCOPY --from=b / /\nFROM a AS b\n",
        "FROM scratch AS a\nCOPY --from=c / /\nFROM a AS b\nFROM scratch AS c\nRUN --mount=from=b x\n",
    ],
)
def test_stages_that_need_each_other_are_told_once(text: str) -> None:
    """At an instruction that closes the circle."""
    (problem,) = build_graph(parse_dockerfile(text)).problems
    assert problem.code == "cycle" and problem.position is not None and problem.position.line > 1


WORDS = st.sampled_from([
    "FROM ", "RUN ", "COPY ", "ADD ", "ENV ", "ARG ", "LABEL ", "USER ", "WORKDIR ", "VOLUME ", "EXPOSE ",
    "CMD ", "ENTRYPOINT ", "HEALTHCHECK ", "STOPSIGNAL ", "SHELL ", "ONBUILD ", "MAINTAINER ", "NONE", "CMD",
    " AS ", "scratch", "a", "A=1", "A=${A}${A}", "$A", "${A", "${A:-", "${A##*", "${A/x/", "}", "{", "'", '"',
    "\\", "`", "\n", "\\\n", "\r\n", "\r", " ", "\t", "\x0c", "\u2028", "\ufeff", "#", "# escape=`\n",
    "# syntax=x\n", "<<EOF", "<<-'E'", "EOF\n", "--from=a", "--from=0", "--mount=type=cache,target=/x",
    "--mount=", "--link", "--chmod=", "--", "[", "]", '["a"]', ",", "=", ":", "/", "80/tcp", "30s",
    "{{{ imagebuilder:parentImage }}}", "{{{ imagebuilder:environments }}}\n",
    "{{{ imagebuilder:components }}}\n", "http://a/b", "\xe9", "\U0001f600", "\x00",
])  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(WORDS, max_size=60).map("".join))
@example("${" * 3000)
@example("FROM scratch\nENV A=" + "${A:-" * 3000)
@example("FROM scratch\nCMD " + "[" * 30000)
@example("FROM scratch\nENV A=" + '"' * 60000)
@example("FROM scratch\n" + "ENV A=$A$A\n" * 5000)
@example("FROM scratch\n" + "".join(f"ENV A{index}=1\n" for index in range(5000)))
@example("FROM scratch AS a\n" + "FROM a AS a\n" * 5000)
@example("FROM scratch\nRUN " + "<<A " * 15000)
@example("FROM scratch\nRUN " + " \\\n" * 20000)
@example("FROM scratch\nENV A=" + "x" * 30000 + "\nENV B=${A//x/y}${A%%*x*x*x*x*y}\n")
@example("FROM scratch\nLABEL " + "a=b " * 15000)
@example("FROM scratch\nRUN " + "--mount=type=cache,target=/x " * 2000 + "x")
@example(
    "FROM scratch AS a0\n" + "".join(f"FROM scratch AS a{i}\nCOPY --from=a{i - 1} / /\n" for i in range(1, 1200))
)
@example("{{{ imagebuilder:x }}}" * 2500)
@example("FROM scratch\nRUN <<A\n" * 3000)
@example("ARG " + "a=1 " * 15000 + "\nFROM scratch\n")
@example("#a=x" + " " * 60000 + "y\nFROM scratch\n")
@example("FROM scratch AS a\nFROM scratch\n" + "COPY --from=a a b\n" * 3400)
def test_any_text_is_read_in_time_and_every_place_is_in_it(text: str) -> None:
    """Strangers write templates: no exception, no second of time, no position outside the text."""
    problems = check_template(text, has_components=True)
    assert any(seconds_of(text) < 1 for _ in range(3))
    lines = text.removeprefix("\ufeff").split("\n")
    for problem in problems:
        if problem.position is not None:
            assert 1 <= problem.position.line <= len(lines)
            assert 1 <= problem.position.column <= max(len(lines[problem.position.line - 1]), 1)
    for token in tokens_of(parse_dockerfile(text)):
        line = lines[token.position.line - 1]
        assert 1 <= token.position.column <= len(line) + 1


PAIRS = (model.Pair, model.Declaration)


def seconds_of(text: str) -> float:
    """Seconds of the processor for a check; others on the machine can make one try longer."""
    started = time.process_time()
    check_template(text, has_components=True)
    return time.process_time() - started


def tokens_of(parsed: Dockerfile) -> list[Token]:
    """Every token of every instruction."""
    found: list[Token] = []
    waiting: list[Any] = [*parsed.instructions]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Token):
            found.append(item)
        elif isinstance(item, tuple):
            waiting += item
        elif isinstance(item, (Instruction, model.CommandLine, model.Heredoc, model.RunMount, *PAIRS)):
            waiting += vars(item).values()
    return found
