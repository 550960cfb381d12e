"""Debian's buildah as a second opinion: the same verdict and the same variables, but where Docker's differ."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imagesmith.dockerfiles.graph import build_graph
from imagesmith.dockerfiles.model import EnvInstruction
from imagesmith.dockerfiles.parser import parse_dockerfile
from imagesmith.dockerfiles.stages import BaseKind, DockerfileStage, Graph
from imagesmith.dockerfiles.template import check_template

pytestmark = pytest.mark.tool

ALIKE: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("FROM scratch AS a\nARG A=1\nENV A=$A\nFROM a\nENV B=$A", ()),
    ("FROM scratch AS b\nWORKDIR /d\nWORKDIR /e\nFROM scratch\nCOPY --from=b /d /e .", ()),
    ("FROM scratch\nENV a-b=c", ()),
    ("FROM scratch\nARG a-b=c", ()),
    ("FROM scratch\nARG 1a=c", ()),
    ("FROM scratch\nENV C=${D?no}", ("variable",)),
    ("FROM scratch\nENV B=${D:?no}", ("variable",)),
    ("\ufeffFROM scratch\nENV A=1", ()),
    ("FROM scratch\nENV A=1\x0cB=2", ()),
    ("FROM scratch\nENV\x0cA=1", ()),
    ("FROM scratch\nLABEL a=b\x0cc=d", ()),
    ("FROM scratch AS a_b", ()),
    ("FROM scratch AS a.b-c", ()),
    ('FROM scratch\nENTRYPOINT ["a", 1]', ("json",)),
    ("FROM scratch\nVOLUME /a /b", ()),
    ("FROM scratch\nVOLUME []", ("arguments",)),
    ("FROM scratch\nSTOPSIGNAL FOO", ("signal",)),
    ("FROM scratch\nSTOPSIGNAL 9", ()),
    ("FROM scratch\nSTOPSIGNAL SIGRTMIN+3", ()),
    ("FROM scratch\nUSER", ("arguments",)),
    ("FROM scratch\nUSER a b", ()),
    ("FROM scratch\nWORKDIR", ("arguments",)),
    ("FROM scratch\nCMD", ()),
    ("FROM scratch\nENTRYPOINT", ()),
    ("FROM scratch\nCMD []", ()),
    ("FROM scratch\nHEALTHCHECK NONE", ()),
    ("FROM scratch\nHEALTHCHECK NONE x", ("arguments",)),
    ("FROM scratch\nHEALTHCHECK --interval=1 CMD x", ("duration",)),
    ("FROM scratch\nHEALTHCHECK CMD", ("arguments",)),
    ('FROM scratch\nHEALTHCHECK --interval=5s CMD ["a","b"]', ()),
    ("FROM scratch\nHEALTHCHECK --retries=-1 CMD x", ("number",)),
    ("FROM scratch\nONBUILD FROM x", ("onbuild",)),
    ("FROM scratch\nONBUILD ONBUILD RUN x", ("onbuild",)),
    ("FROM scratch\nONBUILD MAINTAINER x", ("onbuild",)),
    ("FROM scratch\nONBUILD", ("arguments",)),
    ("FROM scratch\nONBUILD RUN x", ()),
    ("FROM scratch\nMAINTAINER a b", ()),
    ("FROM scratch\nLABEL a b c", ()),
    ("FROM scratch\nLABEL a=b c", ("pair",)),
    ('FROM scratch\nLABEL "a b"="c d" e=\'f\'', ()),
    ("FROM scratch\nENV A b  c", ()),
    ("FROM scratch\nENV A", ("pair",)),
    ("FROM scratch\nLABEL a", ("pair",)),
    ("FROM scratch AS a\nWORKDIR /d\nFROM scratch\nCOPY --from=a --chmod=755 /d /e", ()),
    ("FROM scratch AS a\nWORKDIR /d\nFROM scratch\nCOPY --from=a --chown=1:2 --chmod=99 /d /e", ("mode",)),
    ("FROM scratch AS a\nWORKDIR /d\nFROM scratch\nADD --checksum=sha256:00 http://x/y /e", ("checksum",)),
    ("FROM scratch\nADD --from=x y /e", ("unknown-flag", "no-context")),
    ("FROM scratch\nARG A=1 B=2\nENV C=$A$B", ()),
    ("FROM scratch\nENV A=1\nENV A=2 B=$A", ()),
    ("FROM scratch\nENV A=1\nARG A=2\nENV C=$A", ()),
    ("FROM scratch\nARG A=2\nENV A=1\nENV C=$A", ()),
    ("FROM scratch\nARG TARGETARCH\nENV C=$TARGETARCH", ()),
    ("FROM scratch\nENV C=$TARGETARCH", ()),
    ("ARG TARGETOS\nFROM scratch\nENV C=$TARGETOS", ()),
    ("FROM scratch\nENV A=1 B=\"$A\" C='$A' D=\\$A E=${A:-x}", ()),
    ('FROM scratch\nENV A="a b"\nLABEL x=$A y="$A" $A=1', ()),
    ("FROM scratch\nENV A=${B", ("variable",)),
    ('FROM scratch\nENV A="x', ("variable",)),
    ("FROM scratch\nENV A=${B:-${C:-d}}", ()),
    ('FROM scratch\nENV A=${B:-"x y"}', ()),
    ("FROM scratch\nENV A=$", ()),
    ("FROM scratch\nENV A=a$1b", ()),
    ("FROM scratch\nENV A=${B:-a}b C=${A:+z}", ()),
    ("FROM scratch\nENV \xe9=1\nENV B=$\xe9", ()),
    ("FROM scratch\nWORKDIR /a\nWORKDIR b", ()),
    ('FROM scratch\nWORKDIR "/a b"', ()),
    ("FROM scratch\nWORKDIR /a b", ()),
    ("FROM scratch\nWORKDIR $X", ()),
    ('FROM scratch\nUSER "a"', ()),
    ('FROM scratch\nVOLUME "/a b"', ("variable", "variable")),
    ('FROM scratch\nVOLUME ["/a", "/b"]', ()),
    ("FROM scratch\nVOLUME $X", ("empty",)),
    ('FROM scratch\nENV X="80 81"\nEXPOSE $X', ()),
    ("FROM scratch\nENV P=80\nEXPOSE $P $P/udp", ()),
    ("FROM scratch\nEXPOSE", ("arguments",)),
    ("FROM scratch\nSTOPSIGNAL $X", ("signal",)),
    ("FROM scratch\nENV S=TERM\nSTOPSIGNAL $S", ()),
    ("FROM scratch\nSTOPSIGNAL 0", ("signal",)),
    ("FROM --platform=linux/arm64 scratch", ()),
    ("FROM --platform=foo/bar/baz/x scratch", ("platform",)),
    ("FROM --platform=windows scratch", ("platform",)),
    ("FROM --foo=x scratch", ("unknown-flag",)),
    ("FROM", ("no-from", "arguments")),
    ("FROM scratch x y", ("arguments",)),
    ("FROM scratch AS", ("arguments",)),
    ("FROM scratch AS a b", ("arguments",)),
    ("RUN x", ("no-from", "before-from")),
    ("ARG A=1\n", ("no-from",)),
    ("", ("no-from",)),
    ("# x", ("no-from",)),
    ("FROM scratch\nFOO x", ("unknown-instruction",)),
    ("from scratch\nenv A=1", ()),
    ("FROM scratch\nHEALTHCHECK --x=1 CMD a", ("unknown-flag",)),
    ("FROM scratch\nHEALTHCHECK --interval=1h2m3.5s CMD a", ()),
    ("FROM scratch\nHEALTHCHECK --interval=-5s CMD a", ("duration",)),
    ("FROM scratch\nHEALTHCHECK --interval=5s NONE", ()),
    ("FROM scratch\nHEALTHCHECK FOO x", ("arguments",)),
    ("FROM scratch\nHEALTHCHECK", ("arguments",)),
    ("FROM scratch\nENV A=1 \\\n  # comment\n\n  B=2", ()),
    ("FROM scratch\nENV A=1 \\  \n B=2", ()),
    ("\\\nFROM scratch", ()),
    ("# escape=x\nFROM scratch", ("directive",)),
    ("# escape=`\n# escape=`\nFROM scratch", ("directive",)),
    ("# syntax=a\n# escape=`\nFROM scratch\nENV A=1 `\n B=2", ("syntax",)),
    ("FROM scratch\r\nENV A=1\r\n", ()),
    ("FROM scratch\nENV A=1 \\\r\n B=2\r\n", ()),
    ("FROM scratch\nENV\xa0A=1", ("no-instruction",)),
    ("FROM scratch\nENV A=1\u2028LABEL x=y", ("pair",)),
    ("FROM scratch\nLABEL a=b\\\n", ()),
    ("FROM scratch\nSHELL []", ("arguments",)),
    ("FROM scratch\nSHELL sh", ("json",)),
    ('FROM scratch\nCMD ["a",]', ()),
    ("FROM scratch\nCMD [a]", ()),
    ('FROM scratch\nCMD [ "a" , "b" ]', ()),
    ('FROM scratch\nCMD ["\\u00e9\\n"]', ()),
    ("FROM scratch\nENTRYPOINT []", ()),
    ("FROM scratch\nENTRYPOINT a\nCMD b", ()),
    ("FROM scratch\nCMD a\nCMD b", ()),
    ("FROM scratch AS scratch\nFROM scratch", ()),
    ("FROM scratch AS A\nWORKDIR /x\nFROM scratch\nCOPY --from=A /x /y", ()),
    ("FROM scratch\nCOPY --from=5 /a /b", ("image",)),
    ("FROM scratch AS a\nCOPY --from=a /x /y", ("cycle",)),
    ("FROM scratch\nCOPY a", ("arguments",)),
    ("FROM scratch\nCOPY", ("arguments",)),
    ('FROM scratch\nCOPY ["a"]', ("arguments",)),
    ("FROM scratch\nCOPY --from=x --from=y a b", ("flag-twice",)),
    ("FROM scratch\nCOPY --from a b", ("flag-value", "no-context")),
    ("FROM scratch\nCOPY --chown= --from=0 a b", ("flag-value", "cycle")),
    ("FROM scratch AS b\nFROM b AS c\nFROM c", ()),
    ("FROM scratch AS b\nWORKDIR /d\nFROM scratch\nCOPY --from=0 /d $X/e", ()),
    ('FROM scratch AS b\nWORKDIR /d\nFROM scratch\nCOPY --from=b ["/d", "/e f"]', ()),
)
"""(Dockerfile, the codes of what is wrong): refused by both, or by none."""

DOCKERS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("ARG A=1 B=$A\nFROM scratch\nARG A B\nENV C=$A-$B", (), "Docker: C is 1-1; buildah: 1-"),
    (
        "FROM scratch\nENV A=x\\\\\nLABEL x=y",
        (),
        "Docker: an escaped escape character does not continue a line",
    ),
    (
        "FROM scratch\nCOPY --from=late /a /b\nFROM scratch AS late",
        (),
        "Docker builds the later stage first; buildah copies nothing",
    ),
    ("FROM scratch\nEXPOSE 8080:80", (), "Docker exposes 80/tcp; buildah writes `8080:80/tcp`"),
    ("FROM scratch\nEXPOSE 80-82/udp", (), "Docker exposes three ports; buildah writes the range"),
    ("FROM scratch\nEXPOSE 80/TCP", (), "Docker writes 80/tcp; buildah keeps the letters"),
    ("FROM scratch\nEXPOSE 80/foo", ("port",), "Docker: unknown protocol"),
    ("FROM scratch\nEXPOSE abc", ("port",), "Docker: no port"),
    ("FROM scratch\nEXPOSE 70000", ("port",), "Docker: no port"),
    ("# escape=`\nFROM scratch\nENV A=C:\\x `\n B=2", (), "Docker: A is C:\\x; buildah: C:x"),
    ("FROM scratch AS 1a", ("stage-name",), "Docker: no name of a stage"),
    ("FROM scratch AS a/b", ("stage-name",), "Docker: no name of a stage"),
    (
        "FROM scratch AS x\nLABEL a=1\nFROM scratch AS x\nLABEL b=1\nFROM x",
        (),
        "Docker takes the last of that name, buildah the first",
    ),
    ('FROM scratch\nCMD ["a"] tail', (), "Docker: text for the shell; buildah drops the tail"),
    ('FROM scratch\nSHELL ["a"] x', ("json",), "Docker: no JSON"),
    ('FROM scratch\nVOLUME ["/a"] x', (), "Docker: two volumes; buildah drops the tail"),
    ("FROM scratch AS a\nARG X=1\nFROM a\nENV B=$X", (), "Docker: B is 1; buildah: empty"),
    ("FROM scratch\nENV =x", ("variable-name",), "Docker: a name cannot be blank"),
    ("FROM scratch\nENV A=${}", ("variable",), "Docker: bad substitution"),
    ("ENV A=1\nFROM scratch", ("before-from",), "Docker: no stage yet; buildah throws the line away"),
    ("FOO x\nFROM scratch", ("unknown-instruction",), "Docker: unknown instruction; buildah throws the line away"),
    ("FROM scratch\nENV --x=1 A=1", ("unknown-flag",), "Docker: unknown flag; buildah throws it away"),
    ("FROM scratch\nCMD --x a", ("unknown-flag",), "Docker: unknown flag; buildah throws it away"),
    ("FROM scratch\nLABEL --x a=b", ("unknown-flag",), "Docker: unknown flag; buildah throws it away"),
    ("FROM scratch\nARG --x A", ("unknown-flag",), "nobody obeys it, so it is refused"),
    ("FROM scratch\nSTOPSIGNAL --x TERM", ("unknown-flag",), "nobody obeys it, so it is refused"),
    ("FROM scratch\nHEALTHCHECK --interval=1us CMD a", ("duration",), "Docker: not less than 1ms"),
    ('FROM scratch\nSHELL ["sh","-c"]\nCMD x', (), "Docker starts it with the shell; buildah with /bin/sh"),
)
"""(Dockerfile, codes, why): buildah 1.28 accepts each, and Docker's documented result is another one."""


NEWER: tuple[str, ...] = (
    "FROM scratch AS Build\nWORKDIR /x\nFROM scratch\nCOPY --from=build /x /y",
    "FROM scratch AS build\nWORKDIR /x\nFROM scratch\nCOPY --from=BUILD /x /y",
    "FROM scratch\nRUN --network=none x",
    "FROM scratch\nRUN --network=default x",
    "FROM scratch\nRUN --security=sandbox x",
    "FROM scratch\nRUN --mount=type=tmpfs,target=/t,size=10m x",
    "FROM scratch\nRUN --mount=type=CACHE,target=/t x",
    "FROM scratch\nRUN --mount=target=/t,type=cache,sharing=private x",
    "FROM scratch\nRUN --mount=type=cache x",
    "FROM scratch AS a\nFROM scratch\nRUN --mount=from=0,target=/t x",
    "FROM scratch\nENV A=1\nENV B=${A%x}",
    "FROM scratch\nENV A=1\nENV B=${A-x}",
    "FROM scratch\nENV D=abc\nENV B=${D#a}",
    "FROM scratch\nENV D=abc\nENV B=${D/a/b}",
    "FROM scratch\nENV D=abc\nENV B=${D:+x} C=${D+y}",
    "FROM scratch\nHEALTHCHECK --start-interval=5s CMD x",
    "FROM scratch AS A\nFROM a",
    "FROM scratch AS a\nWORKDIR /d\nFROM scratch\nCOPY --from=a --link /d /e",
    "FROM scratch AS a\nWORKDIR /d\nFROM scratch\nCOPY --from=a --parents /d /e",
    "FROM scratch AS a\nWORKDIR /d\nFROM scratch\nCOPY --from=a --exclude=x /d /e",
    "FROM scratch AS a\nWORKDIR /d\nFROM scratch\nCOPY --from=a --chmod=u+x /d /e",
    "FROM scratch\nADD --keep-git-dir http://x/y /e",
    "FROM scratch\nADD --unpack http://x/y /e",
    "FROM scratch\nHEALTHCHECK --retries=0 CMD a",
    "FROM scratch\nHEALTHCHECK --interval=0 CMD a",
)
"""What buildah 1.28 refuses, or takes for something else, and Docker and imagesmith build."""


class Buildah:
    """A storage of its own, without a network."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def build(self, text: str) -> dict[str, Any] | None:
        """The configuration of the image that a Dockerfile makes; None when it is refused."""
        self._count += 1
        work = self._folder / str(self._count)
        (work / "context").mkdir(parents=True)
        (work / "Dockerfile").write_bytes(text.encode())
        done = self._run(
            "bud", "--isolation=chroot", "--layers=false", "--pull-never", "--format=docker",
            f"--iidfile={work / 'id'}", f"--file={work / 'Dockerfile'}", str(work / "context"),
        )  # fmt: skip
        try:
            if done.returncode != 0:
                return None
            image = (work / "id").read_text().strip()
            shown = self._run("inspect", "--type=image", image)
            config: dict[str, Any] = json.loads(shown.stdout)["Docker"]["config"]
            return config
        finally:
            # a later Dockerfile must not find an image by the beginning of its id
            self._run("rmi", "--all", "--force")

    def _run(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        place = [f"--root={self._folder / 'root'}", f"--runroot={self._folder / 'run'}", "--storage-driver=vfs"]
        return subprocess.run(["buildah", *place, *words], capture_output=True, timeout=120, check=False)


@pytest.fixture(scope="session")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Buildah:
    return Buildah(tmp_path_factory.mktemp("oracle"))


def codes(text: str) -> tuple[str, ...]:
    problems = check_template(text, has_components=False)
    return tuple(item.code for item in problems if item.severity == "error" and item.code != "no-parent")


def variables(graph: Graph) -> dict[str, str]:
    """What the ENVs of the last stage, and of those that it is from, leave in the image."""
    stage = graph.stages[-1]
    return {name: stage.environment.values[name] for name in names_of(graph, stage)}


def names_of(graph: Graph, stage: DockerfileStage) -> Iterator[str]:
    if stage.base.kind is BaseKind.STAGE:
        yield from names_of(graph, graph.stages[stage.base.stage])
    for placed in stage.body:
        if isinstance(placed.instruction, EnvInstruction):
            yield from (placed.text(pair.key).text for pair in placed.instruction.pairs)


@pytest.mark.parametrize(("text", "expected"), ALIKE)
def test_verdict_and_variables_are_those_of_buildah(buildah: Buildah, text: str, expected: tuple[str, ...]) -> None:
    """Every instruction, its forms and flags, and the values of variables."""
    config = buildah.build(text)
    assert codes(text) == expected
    assert (config is None) == bool(expected)
    if config is not None:
        found = dict(item.split("=", 1) for item in config["Env"])
        found.pop("PATH")
        assert variables(build_graph(parse_dockerfile(text))) == found


@pytest.mark.parametrize(("text", "expected", "why"), DOCKERS)
def test_where_buildah_differs_docker_is_followed(
    buildah: Buildah, text: str, expected: tuple[str, ...], why: str
) -> None:
    """buildah accepts what Docker refuses or builds otherwise; here it is as with Docker."""
    assert buildah.build(text) is not None
    assert codes(text) == expected, why


@pytest.mark.parametrize("text", NEWER)
def test_what_buildah_lacks_is_accepted(buildah: Buildah, text: str) -> None:
    """Flags, modifiers and forms that are younger than it."""
    assert codes(text) == ()
    assert buildah.build(text) is None
