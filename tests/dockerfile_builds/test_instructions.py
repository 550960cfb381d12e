"""Every instruction, as far as a few lines of a Dockerfile show it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from imagesmith.dockerfile_builds.failures import DockerfileFailed
from testing.dockerfile_support import PARENT, PATH, DockerfileBench

pytestmark = pytest.mark.tool

SECOND = 10**9
CONFIGURATION: list[tuple[str, str, Any]] = [
    ('ENV A="b c" D=e\\ f\nENV A=$D', "Env", ["TINY=yes", "A=e f", "D=e f"]),
    ("ENV A 1  2", "Env", ["TINY=yes", "A=1  2"]),
    ("ENV TINY=no$TINY", "Env", ["TINY=noyes"]),
    ("ENV D=abcabc\nENV B=${D#a*b} C=${D##a*b} E=${D%b*} F=${D%%b*} G=${D/b/x} H=${D//b/x} I=${N-z}", "Env",
     ["TINY=yes", "D=abcabc", "B=cabc", "C=c", "E=abca", "F=a", "G=axcabc", "H=axcaxc", "I=z"]),
    ("ARG TINY=arg\nENV B=$TINY", "Env", ["TINY=yes", "B=yes"]),
    ("ARG A=1\nENV A=2\nARG A=3\nENV B=$A", "Env", ["TINY=yes", "A=2", "B=2"]),
    ("LABEL a=b 'c d'=\"e f\" tiny=2", "Labels", {"tiny": "2", "a": "b", "c d": "e f"}),
    ("USER 12:34", "User", "12:34"),
    ("WORKDIR /a/./b\nWORKDIR c\nWORKDIR ../d", "WorkingDir", "/a/b/d"),
    ("WORKDIR a", "WorkingDir", "/a"),
    ('VOLUME /a /b\nVOLUME ["/c d", "/a"]', "Volumes", {"/a": {}, "/b": {}, "/c d": {}}),
    ("EXPOSE 80 81/UDP 8080:82 90-92/sctp", "ExposedPorts",
     {"80/tcp": {}, "81/udp": {}, "82/tcp": {}, "90/sctp": {}, "91/sctp": {}, "92/sctp": {}}),
    ('ENV P="80 81"\nEXPOSE $P', "ExposedPorts", {"80/tcp": {}, "81/tcp": {}}),
    ("CMD echo  $A", "Cmd", ["/bin/sh", "-c", "echo  $A"]),
    ('CMD ["a", "b c"]', "Cmd", ["a", "b c"]),
    ('CMD ["a"] tail', "Cmd", ["/bin/sh", "-c", '["a"] tail']),
    ("CMD []", "Cmd", None),
    ("ENTRYPOINT exec a", "Entrypoint", ["/bin/sh", "-c", "exec a"]),
    ("ENTRYPOINT exec a", "Cmd", None),
    ('CMD ["mine"]\nENTRYPOINT ["a"]', "Cmd", ["mine"]),
    ('SHELL ["/bin/bash", "-ec"]\nCMD a', "Cmd", ["/bin/bash", "-ec", "a"]),
    ('SHELL ["/bin/bash", "-ec"]', "Shell", ["/bin/bash", "-ec"]),
    ("STOPSIGNAL SIGINT", "StopSignal", "SIGINT"),
    ("HEALTHCHECK NONE", "Healthcheck", {"Test": ["NONE"]}),
    ("HEALTHCHECK --interval=5s --timeout=1m --start-period=2h --start-interval=10ms --retries=3 CMD a  b",
     "Healthcheck",
     {"Test": ["CMD-SHELL", "a  b"], "Interval": 5 * SECOND, "Timeout": 60 * SECOND, "StartPeriod": 7200 * SECOND,
      "StartInterval": SECOND // 100, "Retries": 3}),
    ('HEALTHCHECK --interval=0 --retries=0 CMD ["a", "b"]', "Healthcheck", {"Test": ["CMD", "a", "b"]}),
    ("ONBUILD RUN a \\\n b\nONBUILD COPY --from=x /y /z", "OnBuild", ["RUN a  b", "COPY --from=x /y /z"]),
    ("ENV A=x\\\\\nENV B=y", "Env", ["TINY=yes", "A=x\\", "B=y"]),
]  # fmt: skip
"""(lines, member of the configuration, its value)."""


@pytest.mark.parametrize(("lines", "member", "expected"), CONFIGURATION)
def test_an_instruction_writes_its_member(bench: DockerfileBench, lines: str, member: str, expected: Any) -> None:
    """As Docker writes it; what OCI has no member for, too."""
    assert bench.config(bench.build(lines)).get(member) == expected


def test_every_image_has_a_path(bench: DockerfileBench) -> None:
    """That of its parent, or the one that Docker sets."""
    for text, expected in (
        ("FROM scratch\nENV A=$PATH\n", PATH),
        (f"FROM {PARENT}\nENV PATH=/x:$PATH\n", f"PATH=/x:{PATH[5:]}"),
    ):
        document: Any = bench.storage.image_config(bench.make(text).whole())
        assert expected in document["config"]["Env"]


def test_an_escape_character_of_another_kind(bench: DockerfileBench) -> None:
    """`# escape=` holds for the ends of lines and for words."""
    image = bench.make(f"# escape=`\nFROM {PARENT}\nENV A=C:\\x `\n B=`$A\n").whole()
    assert bench.config(image)["Env"] == ["TINY=yes", "A=C:\\x", "B=$A"]


def test_arguments_have_their_scopes(bench: DockerfileBench) -> None:
    """Before FROM, in a stage, in a stage that is from it; a RUN has them as variables, an image does not."""
    image = bench.make(
        f"ARG V=1 W=$V\nFROM {PARENT} AS one\nARG V\nARG W X=$V$W\nARG TARGETARCH\n"
        'RUN test "$V$W$X$TARGETARCH" = 111amd64\nFROM one\nRUN test "$X" = 1\nENV X=env\nRUN test $X = env\n'
    ).whole()
    assert bench.config(image)["Env"] == ["TINY=yes", "X=env"]


@pytest.mark.parametrize(
    ("run", "printed"),
    [
        ('RUN ["/bin/sh", "-c", "echo \\"$1\\" $TINY", "sh", "$TINY  b"]', "$TINY  b yes"),
        ("RUN echo a \\\n  # a comment\n\n  b", "a b"),
        ('SHELL ["/bin/bash", "-ec"]\nRUN echo $BASH', "/bin/bash"),
        ("RUN <<EOF\necho $TINY\necho two\nEOF", "yes\ntwo"),
        ("RUN <<-EOF\n\techo tabs\n\tEOF", "tabs"),
        ("RUN <<EOF\n#!/bin/bash\necho $0 $BASH\nEOF", "/dev/pipes/EOF /bin/bash"),
        ("RUN cat <<EOF\n$TINY\nEOF", "yes"),
        ("RUN cat <<'EOF'\n$TINY\nEOF", "$TINY"),
        ("RUN cat <<A - <<B\n1\nA\n2\nB", "2"),
        ('SHELL ["/bin/bash", "-ec"]\nRUN <<EOF\necho $BASH\nEOF', "/bin/bash"),
        ("ENV A=1\nRUN A=2; echo $A${A}$B$HOME", "22/root"),
        ("WORKDIR /w\nRUN pwd", "/w"),
        ("RUN --network=none cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' '", "lo"),
        ("RUN --network=default --security=sandbox echo both", "both"),
    ],
)
def test_a_run_has_its_forms(bench: DockerfileBench, run: str, printed: str) -> None:
    """Text for the shell, words, here-documents: each prints what it would with Docker."""
    bench.build(run)
    assert bench.output.partition("RUN")[2].partition("\n")[2].strip() == printed


USERS = (
    "COPY <<P /etc/passwd\nroot:x:0:0::/root:/bin/sh\napp:x:7:8::/home/app:/bin/sh\nP\n"
    "COPY <<G /etc/group\nroot:x:0:\ng:x:9:app\nh:x:10:\nG\n"
)


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("app", "7 8 8 9 /home/app"),
        ("7", "7 8 8 9 /home/app"),
        ("app:h", "7 10 10 /home/app"),
        ("app:11", "7 11 11 /home/app"),
        ("70", "70 0 0 /"),
        ("70:80", "70 80 80 /"),
        ("root", "0 0 0 /root"),
        ("0:h", "0 10 10 /root"),
        ("${U:-app}:${G:-g}", "7 9 9 /home/app"),
    ],
)
def test_a_run_has_its_user(bench: DockerfileBench, user: str, expected: str) -> None:
    """Names and numbers of the image's own tables, its further groups and its home folder."""
    bench.build(f'{USERS}USER {user}\nRUN echo "is $(id -u) $(id -g) $(id -G) $HOME"')
    assert f"is {expected}\n" in bench.output.rpartition("RUN echo")[2]


@pytest.mark.parametrize("user", ["nobody-knows", "0:nobody-knows", "99999999999"])
def test_a_user_that_is_not_there_is_named(bench: DockerfileBench, user: str) -> None:
    """At the RUN that needs it, with what to do."""
    with pytest.raises(DockerfileFailed, match=rf"(?s)'RUN true' in line 3.*{user.rpartition(':')[2]}"):
        bench.build(f"USER {user}\nRUN true")


def test_a_user_that_is_not_root_has_no_rights(bench: DockerfileBench) -> None:
    """Neither capabilities nor the files of others; folders of WORKDIR are its own."""
    bench.build(
        "USER 7:8\nRUN grep CapEff /proc/self/status; touch /etc/x || echo refused\nWORKDIR /w/x\n"
        "RUN stat -c %u:%g /w /w/x && touch here && echo out > /dev/stdout"
    )
    assert "CapEff:\t0000000000000000\n" in bench.output and "\nrefused\n" in bench.output
    assert "\n7:8\n7:8\nout\n" in bench.output


def test_shared_memory_ends_with_its_run(bench: DockerfileBench) -> None:
    """Each RUN has its own, as each has a container of its own with Docker."""
    bench.build("RUN touch /dev/shm/x && stat -c %a /dev/shm\nRUN ! test -e /dev/shm/x")
    assert "\n1777\n" in bench.output


def test_what_a_run_leaves_behind_is_ended(bench: DockerfileBench) -> None:
    """The next RUN finds no process of it, as with Docker."""
    bench.build("RUN setsid sleep 4141 & sleep 4242 &\nRUN ! grep -l sleep /proc/[0-9]*/comm")


@pytest.mark.parametrize(
    ("lines", "warning"),
    [
        ("RUN chmod 711 /", "0711 0:0"),
        ("RUN touch /f && chmod 1755 /", "1755 0:0"),
        ("RUN m=$(stat -c %a /) && chmod 711 / && chmod $m /", ""),
        ("WORKDIR /a", ""),
    ],
)
def test_a_change_of_the_root_itself_is_warned_of(bench: DockerfileBench, lines: str, warning: str) -> None:
    """No layer has an entry for it."""
    bench.build(lines)
    told = [line for line in bench.output.splitlines() if line.startswith("warning:")]
    assert len(told) == bool(warning)
    assert all(
        line.startswith(f"warning: no layer carries the mode and owner of /: {warning} is ") for line in told
    )


def test_stages_take_files_from_each_other(bench: DockerfileBench) -> None:
    """From an earlier and from a later stage; a stage that nothing needs is not built."""
    image = bench.make(
        f"FROM {PARENT} AS one\nRUN echo one >/one\nFROM {PARENT}\nRUN exit 1\nFROM {PARENT} AS last\n"
        f"COPY --from=one /one /two\nCOPY --from=three /three /\nRUN cat /two /three >/both\n"
        f"FROM scratch AS three\nCOPY <<EOF /three\nthree\nEOF\nFROM last\nENV L=1\n"
    ).whole()
    assert bench.read(image, "/both") == "one\nthree\n"
    assert bench.config(image)["Env"] == ["TINY=yes", "L=1"]
    assert bench.left() == []


def test_the_last_stage_of_a_name_is_meant(bench: DockerfileBench) -> None:
    """As Docker takes it, in any letters."""
    image = bench.make(f"FROM {PARENT} AS x\nENV A=1\nFROM {PARENT} AS X\nENV A=2\nFROM x\nENV B=$A\n").whole()
    assert bench.config(image)["Env"] == ["TINY=yes", "A=2", "B=2"]


def test_files_are_copied_with_their_flags(bench: DockerfileBench) -> None:
    """--chown, --chmod, --parents, --exclude, --link, patterns, here-documents with variables."""
    image = bench.make(
        f"FROM {PARENT} AS one\nRUN mkdir -p /s/d && touch /s/a.x /s/b.y /s/d/c.x\nFROM {PARENT}\nARG N=name\n"
        "COPY --from=one --chown=7:8 --chmod=u=rwx,go= /s/a.x /owned\n"
        "COPY --from=one --parents /s/d/c.x /p/\nCOPY --from=one --exclude=*.y /s /q\n"
        "COPY --from=one --link /s/b.y /linked/b\nCOPY --from=one /s/*.x /n/*.none /r/\n"
        "WORKDIR /rel\nCOPY --chmod=0755 <<EOF <<-'RAW' here/\nhi $N\nEOF\n\tno $N\n\tRAW\n"
        "RUN stat -c '%n %u:%g %a' /owned here/EOF && ls /p/s/d /q /q/d /linked /r && cat here/*\n"
    ).whole()
    printed = bench.output.rpartition("here/*\n")[2]
    assert printed.startswith("/owned 7:8 700\nhere/EOF 0:0 755\n")
    assert "hi name\nno $N\n" in printed and "/q:\na.x\nd\n" in printed.replace("\n\n", "\n")
    assert "warning: nothing matches '/n/*.none'\n" in bench.output
    with bench.root(image) as root:
        assert root.list("/p/s/d") == ["c.x"] and root.list("/linked") == ["b"] and root.list("/r") == ["a.x"]


def test_a_volume_keeps_what_is_written_behind_it(bench: DockerfileBench) -> None:
    """As BuildKit keeps it, and no folder is made for it."""
    image = bench.build("VOLUME /v /none\nRUN mkdir /v && echo 1 > /v/a")
    assert bench.read(image, "/v/a") == "1\n"
    with bench.root(image) as root:
        assert "none" not in root.list("/")


def test_a_build_on_nothing(bench: DockerfileBench) -> None:
    """Without any file, with one, and for another platform; a static program is not needed."""
    empty = bench.make("FROM scratch\nLABEL a=b\n").whole()
    assert bench.config(empty) == {"Labels": {"a": "b"}}
    one = bench.make("FROM --platform=linux/arm64 scratch\nCOPY <<EOF /f\nx\nEOF\nENV A=$PATH\n").whole()
    document: Any = bench.storage.image_config(one)
    assert (document["architecture"], document["os"]) == ("arm64", "linux")
    assert bench.read(one, "/f") == "x\n"


def test_triggers_of_an_image_run_first(bench: DockerfileBench) -> None:
    """Of the parent and of others, and they are not passed on; an empty context is what their COPY finds."""
    trigger = "ONBUILD COPY . /app\nONBUILD RUN echo triggered > /app/t\nONBUILD ENV T=1"
    first = bench.build(trigger)
    assert bench.config(first)["OnBuild"] == ["COPY . /app", "RUN echo triggered > /app/t", "ENV T=1"]
    plain = bench.storage.plain_image(first)
    child = DockerfileBench(bench.storage, plain.id)
    second = child.build("RUN cat /app/t && test $T = 1", triggers=plain.triggers)
    assert "OnBuild" not in bench.config(second) and "T=1" in bench.config(second)["Env"]
    bench.images["r.example/first:1"] = first
    third = bench.make("FROM r.example/first:1\nRUN cat /app/t\n").whole()
    assert "OnBuild" not in bench.config(third)


def test_the_history_reads_like_dockers(bench: DockerfileBench) -> None:
    """One entry for each instruction behind those of the parent, as many layers as there are."""
    image = bench.build(
        'ARG A=1\nRUN echo $A >/x\nENV B=2\nWORKDIR /w\nCMD ["c", "d"]\nEXPOSE 80\nUSER nobody\n'
        "HEALTHCHECK  --interval=5s CMD a"
    )
    document: Any = bench.storage.image_config(image)
    history = document["history"]
    assert [entry["created_by"] for entry in history[1:]] == [
        "ARG A=1", "RUN |1 A=1 /bin/sh -c echo $A >/x # imagesmith", "ENV B=2", "WORKDIR /w", 'CMD ["c" "d"]',
        "EXPOSE 80", "USER nobody", "HEALTHCHECK --interval=5s CMD a",
    ]  # fmt: skip
    layers = [entry for entry in history if not entry.get("empty_layer")]
    assert len(layers) == len(document["rootfs"]["diff_ids"]) == 2


def test_a_parent_without_history_gets_one(bench: DockerfileBench) -> None:
    """As many entries as it has layers: other tools count them."""
    document: Any = dict(bench.storage.image_config(bench.parent))
    document.pop("history")
    bare = bench.storage.make_image(json.dumps(document).encode(), bench.parent)
    made: Any = bench.storage.image_config(DockerfileBench(bench.storage, bare).build("RUN touch /x"))
    layers = [entry for entry in made["history"] if not entry.get("empty_layer")]
    assert len(layers) == len(made["rootfs"]["diff_ids"]) == 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("RUN echo out; echo why >&2; exit 3", r"'RUN echo out.*' in line 2 failed with exit status 3\n.*out\nwhy"),
        ("RUN exit 7", r"'RUN exit 7' in line 2 failed with exit status 7\Z"),
        ("USER ghost\nRUN id", r"'RUN id' in line 3 failed: there is no user 'ghost' in /etc/passwd"),
        ("RUN rm /etc/passwd && mkdir /etc/passwd\nRUN id", r"in line 3 failed: /etc/passwd of the image cannot"),
        ("RUN --mount=from={{{ imagebuilder:parentImage }}},target=/m false", r"={{{ imagebuilder:parentImage }}}"),
        ("ENV A=1\nRUN a-program-that-is-not-there", r"in line 3 failed with exit status 127"),
        ("COPY --from=0 /x /y", r"needs this one"),
        ("COPY none /y", r"'COPY none /y' in line 2 failed: .*none"),
        ("WORKDIR /etc/os-release/x", r"in line 2 failed: .*is not a folder"),
        ("RUN --mount=type=ssh true", r"Dockerfile:2:13 ssh"),
        ("RUN --security=insecure true", r"Dockerfile:2:16 security"),
        ("ADD https://example.org/x.git /y", r"Dockerfile:2:5 git"),
        ("ENV A=${NONE:?missing}", r"Dockerfile:2:7 variable.*missing"),
    ],
)  # fmt: skip
def test_a_failure_names_instruction_line_and_reason(bench: DockerfileBench, lines: str, message: str) -> None:
    """With the last output of a RUN; what the variables of the parent decide is decided before anything runs."""
    with pytest.raises(DockerfileFailed, match=rf"(?s){message}"):
        bench.build(lines)
    assert bench.left() == []
