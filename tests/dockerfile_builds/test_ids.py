"""Owners in a build of a Dockerfile: kept from stage to stage, and refused beyond the ids of a build."""

from __future__ import annotations

import os

import pytest

from imagesmith.dockerfile_builds.failures import DockerfileFailed
from testing.dockerfile_support import PARENT, DockerfileBench

pytestmark = pytest.mark.tool


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("USER 65536\nRUN true", "'65536' is not a number of a user or group: the greatest of a build is 65535"),
        ("USER 0:70000\nRUN true", "'70000' is not a number of a user or group"),
        ("USER 70000\nWORKDIR /x", "'70000' is not a number of a user or group"),
        ("COPY --chown=70000 <<E /x\nE", "70000"),
        ("RUN --mount=type=cache,target=/c,uid=70000 true", "the id 70000 is beyond those of a build"),
        ("RUN --mount=type=cache,target=/c,gid=65536 true", "the id 65536 is beyond those of a build"),
    ],
)
def test_an_id_beyond_those_of_a_build_is_refused(bench: DockerfileBench, lines: str, words: str) -> None:
    """Whoever asks for it: the range behind belongs to another build."""
    with pytest.raises(DockerfileFailed, match=words):
        bench.build(lines)


def test_owners_are_kept_from_stage_to_stage(bench: DockerfileBench) -> None:
    """By COPY, mounts and caches, and in the image; a later stage starts from them."""
    image = bench.make(
        f"FROM {PARENT} AS one\n"
        "RUN mkdir -p /a /k && touch /a/1 && chown 1000:42 /a/1 && touch /a/2 && chown 65535:65535 /a/2\n"
        "RUN --mount=type=cache,target=/c,uid=1000,gid=7 touch /c/x && chown 33 /c/x && stat -c %u:%g /c >/k/c\n"
        f"FROM {PARENT} AS two\n"
        "COPY --from=one /a /b\n"
        "RUN --mount=from=one,target=/m stat -c %u:%g /m/a/1 /m/a/2 /b/1 /b/2 >/seen\n"
        "RUN --mount=from=one,target=/m,rw touch /m/a/3 && chown 5 /m/a/3 && stat -c %u /m/a/3 >>/seen\n"
        "RUN --mount=type=cache,target=/c stat -c %u:%g /c /c/x >>/seen\n"
        "RUN --mount=target=/m stat -c %u:%g /m >>/seen\n"
        "FROM two\n"
        "RUN stat -c %u:%g /b/1 /b/2 >>/seen\n"
    ).whole()
    both = "1000:42\n65535:65535\n"
    assert bench.read(image, "/seen") == f"{both}{both}5\n1000:7\n33:0\n0:0\n{both}"
    with bench.root(image) as root, root.folder("/b") as folder:
        found = [os.stat(name, dir_fd=folder) for name in ("1", "2")]
    assert [(status.st_uid, status.st_gid) for status in found] == [(1000, 42), (65535, 65535)]


def test_a_user_becomes_root_through_a_set_user_id_program(bench: DockerfileBench) -> None:
    """As in Docker, whose builds `sudo` in a RUN."""
    image = bench.build("RUN cp /bin/cat /bin/all && chmod 4755 /bin/all && echo x >/s && chmod 600 /s\nUSER 1000")
    assert bench.read(image, "/s") == "x\n"
    bench.build(
        "RUN cp /bin/cat /bin/all && chmod 4755 /bin/all && echo x >/s && chmod 600 /s\n"
        "USER 1000\nRUN ! cat /s && test x = $(all /s)"
    )
