"""A RUN with mounts gets what it names, and no way to the layers of other builds."""

from __future__ import annotations

import pytest

from imagesmith.dockerfile_builds.failures import DockerfileFailed
from imagesmith.instances.protocol import InstanceError
from testing.dockerfile_support import PARENT, DockerfileBench

pytestmark = pytest.mark.tool


def test_mounts_of_stages_and_caches_work(bench: DockerfileBench) -> None:
    """Whole stages, caches, temporary folders, the empty context, and a volume."""
    image = bench.make(
        f"FROM {PARENT} AS one\nRUN mkdir /k && echo 1 > /k/a && ln -s k /l\nFROM {PARENT}\nVOLUME /v\n"
        "RUN --mount=type=bind,from=one,target=/x,rw test $(cat /x/k/a) = 1\n"
        "RUN --mount=type=cache,id=mine,target=/c --mount=type=cache,target=/d touch /c/b /d/b\n"
        "RUN --mount=type=cache,id=mine,target=/c test -e /c/b && mkdir /v && touch /v/x\n"
        "RUN --mount=type=tmpfs,target=/t --mount=type=bind,target=/ctx touch /t/a\n"
    ).whole()
    with bench.root(image) as root:
        assert {"x", "c", "d", "t", "ctx"}.isdisjoint(root.list("/")) and root.list("/v") == ["x"]
    assert bench.left() == []


def test_a_part_of_a_stage_or_image_is_mounted(bench: DockerfileBench) -> None:
    """A folder, a file, by name and number, with a variable, relative to WORKDIR; nothing of it is in the image."""
    bench.images["r.example/tiny:1"] = bench.parent
    image = bench.make(
        f"FROM {PARENT} AS one\nRUN mkdir -p /k/d && echo 1 > /k/d/a\nFROM {PARENT}\nARG D=d\nWORKDIR /w\n"
        "RUN --mount=from=one,source=/k/$D,target=x test $(cat /w/x/a) = 1\n"
        "RUN --mount=from=0,source=k/d/a,target=/f/g test $(cat /f/g) = 1\n"
        "RUN --mount=from=r.example/tiny:1,src=/etc,dst=/e,ro test -e /e/os-release\n"
    ).whole()
    with bench.root(image) as root:
        assert root.list("/w") == [] and "f" not in root.list("/") and "e" not in root.list("/")


def test_a_bind_is_read_only_or_thrown_away(bench: DockerfileBench) -> None:
    """What a RUN writes into a stage is gone for the next one."""
    bench.make(
        f"FROM {PARENT} AS one\nRUN echo 1 > /a\nFROM {PARENT}\n"
        "RUN --mount=from=one,target=/x ! touch /x/b && ! rm /x/a\n"
        "RUN --mount=from=one,target=/x,rw echo 2 > /x/a && touch /x/b && test $(cat /x/a) = 2\n"
        "RUN --mount=from=one,target=/x test $(cat /x/a) = 1 && ! test -e /x/b\n"
    ).whole()


def test_a_mount_lies_inside_another_one(bench: DockerfileBench) -> None:
    """Its target is made there; a folder and a file."""
    bench.make(
        f"FROM {PARENT} AS one\nRUN mkdir /k && echo 1 > /k/a\nFROM {PARENT}\n"
        "RUN --mount=type=tmpfs,target=/s --mount=from=one,source=/k,target=/s/i/n test $(cat /s/i/n/a) = 1\n"
        "RUN --mount=type=cache,target=/s --mount=from=one,source=/k/a,target=/s/f test $(cat /s/f) = 1\n"
        "RUN --mount=from=one,target=/s,rw --mount=type=tmpfs,target=/s/k ! test -e /s/k/a\n"
    ).whole()


@pytest.mark.parametrize("target", ["/dev/shm/cc", "/dev/cc", "/dev/x/y/cc"])
@pytest.mark.parametrize("mount", ["type=cache", "type=tmpfs", "from=one"])
def test_a_target_below_the_devices_is_made(bench: DockerfileBench, mount: str, target: str) -> None:
    """In the folder of the sandbox, which hides that of the image, and for this command alone; of the image's own
    /dev nothing is left in a layer."""
    image = bench.make(
        f"FROM {PARENT} AS one\nRUN true\nFROM {PARENT}\nRUN --mount={mount},target={target} "
        f"grep -q ' {target} ' /proc/self/mounts\nRUN test -e /dev/null\n"
        f"RUN ! grep -q ' {target} ' /proc/self/mounts\n"
    ).whole()
    with bench.root(bench.parent) as root:
        before = root.list("/dev")
    with bench.root(image) as root:
        assert root.list("/dev") == before


_DEEP = "d/" * 1200


@pytest.mark.parametrize("mount", ["from=one,target=/x,rw", "type=cache,target=/x", "type=tmpfs,target=/x"])
def test_deep_folders_in_a_mount_are_gone_with_the_build(bench: DockerfileBench, mount: str) -> None:
    """Deeper than Python recurses: nothing is left, and a sweep of the storage goes on."""
    bench.make(
        f"FROM {PARENT} AS one\nRUN echo 1 > /a\nFROM {PARENT}\nRUN --mount={mount} mkdir -p /x/{_DEEP}\n"
    ).whole()
    assert bench.left() == []
    bench.storage.remove_leftovers()


def test_reserved_names_are_found_in_deep_folders(bench: DockerfileBench) -> None:
    """They are refused by name; deep folders without them are more than a layer of ours holds, and refused too."""
    with pytest.raises(InstanceError, match="more than 250 folders deep"):
        bench.make(f"FROM {PARENT}\nRUN mkdir -p /{_DEEP} && touch /{_DEEP}a\n").whole()
    with pytest.raises(DockerfileFailed, match=r"named `\.wh\.\*`"):
        bench.make(f"FROM {PARENT}\nRUN mkdir -p /{_DEEP} && touch /{_DEEP}.wh.a\n").whole()


@pytest.mark.parametrize("path", ["/l", "/up", "/k/../../..", "../../../../.."])
def test_a_source_never_leads_out_of_its_root(bench: DockerfileBench, path: str) -> None:
    """Links of a stage and `..` are resolved inside it."""
    bench.make(
        f"FROM {PARENT} AS one\nRUN mkdir /k && ln -s / /l && ln -s ../../../.. /up && touch /mine\nFROM {PARENT}\n"
        f"RUN --mount=from=one,source={path},target=/x test -e /x/mine\n"
    ).whole()


def test_a_cache_has_its_mode_owner_and_first_content(bench: DockerfileBench) -> None:
    """Those of its first mount; a later stage of the build finds it again, and the image does not have it."""
    image = bench.make(
        f"FROM {PARENT} AS one\nRUN mkdir /k && echo 1 > /k/a\n"
        "RUN --mount=type=cache,id=../odd/../id,target=/c,mode=0700,uid=7,gid=8 \\\n"
        "  test $(stat -c %a:%u:%g /c) = 700:7:8\n"
        f"FROM {PARENT}\nRUN --mount=type=cache,from=one,source=/k,target=/n test $(cat /n/a) = 1\n"
        "RUN --mount=type=cache,target=/n,sharing=locked echo 2 > /n/a\n"
        "RUN --mount=type=cache,target=/n,sharing=private test $(cat /n/a) = 2\n"
        "RUN --mount=type=cache,target=/n,ro ! touch /n/b && ! touch /n/a\n"
    ).whole()
    with bench.root(image) as root:
        assert "n" not in root.list("/")


def test_a_cache_belongs_to_its_build(bench: DockerfileBench) -> None:
    """Another build does not see it."""
    bench.build("RUN --mount=type=cache,target=/c touch /c/a")
    bench.build("RUN --mount=type=cache,target=/c ! test -e /c/a")


def test_devices_and_set_user_id_files_of_mounts_have_no_effect(bench: DockerfileBench) -> None:
    """They are mounted without both."""
    bench.make(
        f"FROM {PARENT} AS one\nRUN true\nFROM {PARENT}\n"
        "RUN --mount=from=one,target=/x --mount=type=cache,target=/c --mount=type=tmpfs,target=/t "
        'for m in /x /c /t; do grep " $m " /proc/self/mounts | grep nosuid | grep -q nodev || exit 1; done\n'
    ).whole()


@pytest.mark.parametrize(
    ("mount", "reason"),
    [
        ("type=tmpfs", "needs a target"),
        ("type=cache,target=/", "cannot be /"),
        ("from=one,source=/none,target=/x", "there is no '/none'"),
        ("from=one,source=/dangling,target=/x", "there is no '/dangling'"),
        ("from=one,target=/etc/os-release", "is not a folder"),
        ("from=one,source=/etc/os-release,target=/etc", "cannot be mounted at /etc"),
        ("type=cache,from=one,source=/none,target=/x", "none"),
        ("type=cache,target=/x,uid=${BIG:-9999999999}", "'9999999999' cannot be the uid"),
    ],
)
def test_a_mount_that_cannot_be_made_is_named(bench: DockerfileBench, mount: str, reason: str) -> None:
    """With its line and the reason."""
    with pytest.raises(DockerfileFailed, match=rf"(?s)in line 4 .*{reason}"):
        bench.make(
            f"FROM {PARENT} AS one\nRUN ln -s nowhere /dangling\nFROM {PARENT}\nRUN --mount={mount} true\n"
        ).whole()
    assert bench.left() == []


def test_a_volume_of_a_parent_and_of_a_template_keep_their_data(bench: DockerfileBench) -> None:
    """What a RUN writes behind VOLUME is in the image."""
    first = bench.build("RUN mkdir -p /p/v\nVOLUME /p/v\nRUN touch /p/v/a")
    second = DockerfileBench(bench.storage, first).build("RUN test -e /p/v/a && touch /p/v/b")
    with bench.root(second) as root:
        assert root.list("/p/v") == ["a", "b"]
    assert bench.config(second)["Volumes"] == {"/p/v": {}}
