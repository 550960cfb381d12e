"""Whole builds: what works, what fails how, what a RUN cannot reach, and that nothing is left."""

from __future__ import annotations

import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from imagesmith.artifacts.pulled_images import pull_image
from imagesmith.artifacts.rootfs import Root
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.dockerfile_builds.failures import DockerfileFailed
from imagesmith.dockerfiles.template import check_template
from imagesmith.instances.limits import ResourceLimits, leftover_groups
from imagesmith.processes import Cancellation, Cancelled
from testing.containers import exported, with_config
from testing.dockerfile_support import PARENT, DockerfileBench
from testing.leaks import groups_of, processes_with, wait_until_gone
from testing.network import listener
from testing.registry_support import PASSWORD, USER, RunningRegistry

pytestmark = pytest.mark.tool

Build = Callable[..., tuple[str, str]]
SMALL = ResourceLimits(memory_mb=64)


@pytest.fixture
def build(bench: DockerfileBench) -> Build:
    """Build instructions on the tiny image; gives the image id and everything that was printed."""

    def run(text: str, **options: object) -> tuple[str, str]:
        image = bench.build(text, **options)
        return image, bench.output

    return run


def left_of(storage: ContainerStorage) -> list[str]:
    """Containers, mounts, groups and folders that a build left behind."""
    return DockerfileBench(storage, "").left()


def test_instructions_end_in_the_image(container_storage: ContainerStorage, build: Build) -> None:
    """Files of RUN and the configuration of the other instructions are in the result."""
    image, _ = build(
        'ENV A="b c"\nWORKDIR /srv\nLABEL l=v\nENTRYPOINT ["/bin/cat"]\nRUN echo x >/made\nUSER nobody\n'
    )
    config = container_storage.image_config(image)["config"]
    assert {"A=b c", "TINY=yes"} <= set(config["Env"] or ())
    assert (config["User"], config["WorkingDir"], config["Entrypoint"]) == ("nobody", "/srv", ["/bin/cat"])
    assert config["Labels"] == {"tiny": "1", "l": "v"}
    container_storage.create("look", image)
    try:
        with Root(container_storage.mount("look")) as root:
            assert root.read("/made") == b"x\n"
    finally:
        container_storage.remove("look")
    assert left_of(container_storage) == []


def test_several_stages_and_copies_between_them(container_storage: ContainerStorage, build: Build) -> None:
    """COPY --from takes files of an earlier stage."""
    image, _ = build(f"RUN echo one >/one\nFROM {PARENT} AS second\nCOPY --from=0 /one /two\nRUN cat /two\n")
    assert len(container_storage.image_config(image)["rootfs"]["diff_ids"]) >= 2


def test_a_failing_instruction_is_named_with_its_last_words(
    container_storage: ContainerStorage, build: Build
) -> None:
    """The error tells which instruction failed and what it printed last."""
    with pytest.raises(DockerfileFailed) as caught:
        build("RUN true\nRUN echo the reason >&2; exit 3\nRUN true\n")
    assert (
        "RUN echo the reason >&2; exit 3" in str(caught.value)
        and "the reason" in str(caught.value).split("output:")[1]
    )
    assert left_of(container_storage) == []


@pytest.mark.parametrize("text", ["COPY nothing /x\n", "NONSENSE x\n", "COPY --from=none /a /b\n"])
def test_what_cannot_be_carried_out_fails(build: Build, text: str) -> None:
    """A missing file, an unknown instruction or stage: a failure, never a result."""
    with pytest.raises(DockerfileFailed):
        build(text)


@pytest.mark.parametrize(
    "link", ["resolv.conf -> /proc/mounts", "hosts -> /dev/null", "hosts -> hosts", "resolv.conf -> ../run/x/y"]
)
def test_what_the_sandbox_puts_in_place_of_a_link_is_in_no_layer(
    container_storage: ContainerStorage, bench: DockerfileBench, link: str
) -> None:
    """The link is put back as it was, so /etc is no part of a build that leaves it alone."""
    name, target = link.split(" -> ")
    made = f"FROM {PARENT} AS a\nRUN mkdir /t && ln -s {target} /t/{name}\nFROM {PARENT}\nCOPY --from=a /t/ /etc/"
    bench.parent = bench.make(f"{made}\n").whole()
    image = bench.build("RUN echo >/f")
    blob = container_storage.layer_blob(image, container_storage.layer_blobs(image)[-1])
    with tarfile.open(blob) as archive:
        assert archive.getnames() == ["f"]


def test_the_build_context_is_empty(build: Build) -> None:
    """There are no files to copy but those of images (the service has no context either)."""
    _, output = build("COPY . /context\nRUN ls -a /context | wc -l\n")
    assert "\n2\n" in output


def test_a_build_over_its_time_is_stopped(container_storage: ContainerStorage, build: Build) -> None:
    """The error names the instruction and the limit; nothing of the build runs on."""
    started = time.monotonic()
    with pytest.raises(DockerfileFailed, match=r"sleep 7171.*was stopped after 2 s"):
        build("RUN sleep 7171 & sleep 7171\n", timeout=2)
    assert time.monotonic() - started < 600
    assert wait_until_gone("sleep 7171") == []
    assert left_of(container_storage) == []


@pytest.mark.parametrize("line", ["WORKDIR /b", "ENV A=1", "USER nobody"])
def test_the_time_binds_every_instruction(bench: DockerfileBench, line: str) -> None:
    """Not only those that run a command: a build whose time is over goes no further, and names where it was."""
    passed = [0.0]

    def look(_stream: str, chunk: bytes) -> None:
        if b"STEP 3" in chunk:
            passed[0] = 100.0

    build = bench.make(f"FROM {PARENT}\nWORKDIR /a\n{line}\nLABEL a=b\n", timeout=99, clock=lambda: passed[0])
    with pytest.raises(DockerfileFailed, match=rf"'{line}' in line 3 is over the time of the whole build, 99 s"):
        replace(build, on_output=look).whole()
    assert bench.left() == []


def test_a_cancelled_build_leaves_nothing(container_storage: ContainerStorage, build: Build) -> None:
    """Cancelling ends the RUN and everything below it."""
    cancellation = Cancellation()
    threading.Timer(1.5, cancellation.cancel).start()
    with pytest.raises(Cancelled):
        build("RUN sleep 8181\n", cancellation=cancellation)
    assert wait_until_gone("sleep 8181") == []
    assert left_of(container_storage) == []


def test_a_run_sees_nothing_of_the_host(
    container_storage: ContainerStorage, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither files, processes and variables of the server nor the layers of other builds."""
    monkeypatch.setenv("SERVER_SECRET", "hunter2")
    (tmp_path / "keys.json").write_text("hunter3")
    script = (
        f"cat {tmp_path}/keys.json; cat /proc/*/root{tmp_path}/keys.json; ls -d {container_storage.root} "
        f"/proc/*/root{container_storage.root}; cat /proc/*/environ; cat /proc/*/comm; env"
    )
    _, output = build(f"RUN {script}; true\n")
    words = output.replace(script, "")
    assert "hunter" not in words and "python" not in words
    assert f"\n{container_storage.root}\n" not in words


@pytest.mark.parametrize(
    "script",
    [
        "mount -t tmpfs none /mnt",
        "mknod /disk b 254 0",
        "unshare --user true",
        "unshare --mount true",
        "( : >>/proc/sys/kernel/core_pattern )",
        "( : >>/proc/sysrq-trigger )",
        "ls /dev/vda /dev/sda /dev/kvm",
        "ulimit -n 10000000",
    ],
)
def test_what_would_reach_past_the_container_is_refused(build: Build, script: str) -> None:
    """Mounts, devices, namespaces and kernel settings are out of reach of a RUN."""
    _, output = build(f"RUN if {script}; then echo REA''CHED; fi\n")
    assert "REACHED" not in output


GROUP_WRITES = (
    ("freezes itself", "FROZEN", "freezer/freezer.state"),
    ("freezes itself", "1", "cgroup.freeze"),
    ("raises its memory", "-1", "memory/memory.limit_in_bytes"),
    ("raises its memory", "max", "memory.max"),
    ("raises its processes", "max", "pids/pids.max"),
    ("raises its processes", "max", "pids.max"),
    ("raises its weight", "262144", "cpu/cpu.shares"),
    ("raises its weight", "10000", "cpu.weight"),
    ("raises its weight", "1000", "blkio/blkio.bfq.weight"),
    ("allows itself devices", "a", "devices/devices.allow"),
    ("enters its group anew", "0", "freezer/cgroup.procs"),
    ("enters its group anew", "0", "cgroup.procs"),
    ("moves a thread", "0", "freezer/tasks"),
    ("moves a thread", "0", "cgroup.threads"),
    ("has a program run at its end", "/x", "pids/release_agent"),
    ("has a program run at its end", "1", "pids/notify_on_release"),
)
"""(what a RUN would have from it, what it writes, where): files of both versions."""


def test_a_run_writes_no_control_group(build: Build) -> None:
    """Neither its own groups nor others: it cannot freeze itself, raise a limit or a weight, or leave its group."""
    attempts = "; ".join(
        f"f=/sys/fs/cgroup/{file}; if [ -e $f ] && ( echo {text} >$f ); then echo REA''CHED {name}; fi"
        for name, text, file in GROUP_WRITES
    )
    files = "$(ls -d /sys/fs/cgroup/* /sys/fs/cgroup/*/*)"
    every = f'for f in {files}; do test -f $f && ( : >>$f ) && echo "OPE""NS $f"; done'
    below = 'for d in /sys/fs/cgroup/*/; do mkdir "$d/x" && echo "MA""DE $d"; done'
    _, output = build(f"RUN {attempts}\nRUN {every}; {below}; true\n")
    assert [line for line in output.splitlines() if line.startswith(("REACHED", "OPENS", "MADE"))] == []


def test_a_run_that_is_frozen_ends_with_its_build(container_storage: ContainerStorage, build: Build) -> None:
    """Somebody freezes the groups of a RUN: a cancelled build ends it nevertheless, and leaves nothing."""
    cancellation = Cancellation()

    def freeze() -> None:
        while not (found := processes_with("sleep 9191")):
            time.sleep(0.05)
        for group in groups_of(int(found[0].partition(":")[0])):
            for name, state in (("freezer.state", "FROZEN"), ("cgroup.freeze", "1")):
                if (group / name).exists():
                    (group / name).write_text(state)
        cancellation.cancel()

    thread = threading.Thread(target=freeze)
    thread.start()
    with pytest.raises(Cancelled):
        build("RUN sleep 9191\n", cancellation=cancellation)
    thread.join()
    assert wait_until_gone("sleep 9191") == []
    assert left_of(container_storage) == []


def test_a_run_has_the_capabilities_of_a_component(build: Build) -> None:
    """Nothing beyond the list of container instances."""
    _, output = build("RUN cat /proc/self/status\n")
    lines = dict(line.split(":\t", 1) for line in output.splitlines() if ":\t" in line)
    assert int(lines["CapEff"], 16) & ~0x800404FB == 0 and int(lines["CapBnd"], 16) & ~0x800404FB == 0
    assert lines["Seccomp"] == "2"


def test_neither_a_run_nor_an_add_reaches_the_loopback_of_the_host(build: Build) -> None:
    """The server's own port is closed, also for downloads."""
    with listener("127.0.0.1") as port:
        _, output = build(
            f'RUN for a in 127.0.0.1 10.0.2.2; do bash -c "exec 3<>/dev/tcp/$a/{port} && cat <&3"; done; true\n',
            network="outbound",
        )
        assert "hello" not in output.replace("cat <&3", "")
        with pytest.raises(DockerfileFailed):
            build(f"ADD http://127.0.0.1:{port}/ /x\n", network="outbound", timeout=30)


def test_no_program_of_an_image_outlives_its_run(build: Build) -> None:
    """An image whose /bin/sh is a program of its own: the tools' shell holds the container, not this one."""
    script = r"#!/bin/bash\nfor i in {1..90}; do echo >>/ticks; sleep 0.1; done &\nread _\n"
    build(
        f"RUN cp /bin/sh /bin/real && printf '{script}' >/new && chmod 755 /new && mv /new /bin/sh\n"
        'WORKDIR /w\nSHELL ["/bin/real", "-c"]\nRUN sleep 0.5; test ! -e /ticks\n'
        "COPY <<x /x\nx\nRUN --network=none sleep 0.5; test ! -e /ticks\n"
    )


@pytest.mark.parametrize("place", ["/proc/1", "/proc/2"])
def test_the_processes_that_hold_a_container_cannot_be_traced(build: Build, place: str) -> None:
    """Whoever may open their memory could go on in them after the RUN; a process of its own opens, to compare."""
    build(
        f"RUN test -e {place}/mem; if (: <>{place}/mem); then echo opened; exit 1; fi\n"
        "RUN sleep 9 & : <>/proc/$!/mem\n"
    )


def test_the_processes_of_a_run_are_bounded(build: Build) -> None:
    """A fork bomb in a RUN hits the limit of the build."""
    with pytest.raises(DockerfileFailed) as caught:
        build(
            "RUN bash -c 'for i in {1..400}; do sleep 20 & done; wait'\n",
            limits=ResourceLimits(processes=60),
            timeout=10,
        )
    assert "The limit of 60 processes was reached" in str(caught.value) or "stopped" in str(caught.value)


def test_a_run_that_the_memory_limit_ends_says_so(build: Build) -> None:
    """Its exit status alone tells of a signal; one that fails by itself is not blamed on the limit."""
    with pytest.raises(DockerfileFailed, match=r"exit status 137\nThe limit of 64 MB of memory was reached"):
        build("RUN head -c 200000000 /dev/zero | tail -c 200000000 >/dev/null; exit $?\n", limits=SMALL)
    with pytest.raises(DockerfileFailed, match=r"exit status 137\Z"):
        build("RUN exit 137\n", limits=SMALL)


def test_only_one_stage_holds_a_sandbox(bench: DockerfileBench) -> None:
    """The limits are those of the whole build: a stage that is complete has no process, memory or control group."""
    groups: set[str] = set()

    def look(_stream: str, chunk: bytes) -> None:
        if b"look now" in chunk:
            groups.update(path.name for path in leftover_groups(f"{bench.storage.key}-{bench.name}"))

    before = "".join(f"FROM {PARENT} AS s{index}\nRUN echo {index} >/made\n" for index in range(3))
    last = f"FROM {PARENT}\nRUN echo look 'now'\n" + "".join(f"COPY --from=s{i} /made /made{i}\n" for i in range(3))
    image = replace(bench.make(before + last), on_output=look).whole()
    assert groups == {f"imagesmith-{bench.storage.key}-{bench.name}-stage3"}
    assert [bench.read(image, f"/made{index}") for index in range(3)] == ["0\n", "1\n", "2\n"]


def test_builds_side_by_side_do_not_disturb_each_other(
    container_storage: ContainerStorage, tiny_image: str
) -> None:
    """Two builds at once on one storage both succeed; the failure of one leaves the other's container alone."""
    results: dict[str, object] = {}

    def work(name: str, script: str) -> None:
        try:
            results[name] = DockerfileBench(container_storage, tiny_image, name).build(f"RUN {script}")
        except DockerfileFailed as error:
            results[name] = error

    threads = [
        threading.Thread(target=work, args=("long", "sleep 3; echo long >/long")),
        threading.Thread(target=work, args=("short", "exit 1")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert isinstance(results["long"], str) and isinstance(results["short"], DockerfileFailed)


@pytest.mark.parametrize("length", [64, 20, 12, 3])
@pytest.mark.parametrize(
    "line", ["COPY --from={} /secret /stolen", "RUN --mount=type=bind,from={},target=/m cat /m/secret", "FROM {}"]
)
def test_the_images_of_other_builds_cannot_be_named(
    container_storage: ContainerStorage, build: Build, tiny_image: str, length: int, line: str
) -> None:
    """Neither an id nor its beginning opens what somebody else built; a whole id counts only as the parent."""
    container_storage.create("victim", tiny_image)
    (container_storage.mount("victim") / "secret").write_text("hunter2")
    victim = container_storage.commit("victim")
    container_storage.remove("victim")
    if length == 64:
        # The caller has refused such a template before (dockerfiles/images.py): only it may write whole ids.
        template = f"FROM {{{{{{ imagebuilder:parentImage }}}}}}\n{line.format(victim)}\n"
        assert [problem.code for problem in check_template(template, has_components=False)] == ["image"]
        return
    with pytest.raises(DockerfileFailed, match=r"may be an id"):
        build(line.format(victim[:length]) + "\n")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RunningRegistry]:
    running = RunningRegistry(tmp_path / "registry", login=True)
    running.start()
    yield running
    running.kill()


def push(storage: ContainerStorage, image: str, registry: RunningRegistry, name: str, folder: Path) -> str:
    reference = f"{registry.host}/{name}"
    options = ["--dest-tls-verify=false", f"--dest-creds={USER}:{PASSWORD}", "--format=v2s2"]
    argv = ["skopeo", "copy", "--quiet", *options, exported(storage, image, folder), f"docker://{reference}"]
    storage.tool(argv, what="pushing")
    return reference


def test_further_images_are_pulled_with_the_callers_credentials_every_time(
    container_storage: ContainerStorage, build: Build, tiny_image: str, registry: RunningRegistry, tmp_path: Path
) -> None:
    """An image that is in the storage already, because another build pulled it, opens nothing without a login."""
    reference = push(container_storage, tiny_image, registry, "team/tool:1", tmp_path / "exported")

    pulled: list[str] = []

    def find(image: str) -> str:
        pulled.append(image)
        options = ["--tls-verify=false", f"--src-creds={USER}:{PASSWORD}"]
        return pull_image(container_storage, image, options)[0]

    text = f"COPY --from={reference} /etc/os-release /copied\nRUN cat /copied\n"
    for _ in range(2):
        _, output = build(text, find=find)
        assert "ID=tiny" in output
    assert pulled == [reference, reference]


def test_triggers_of_an_image_take_nothing_from_other_images(
    container_storage: ContainerStorage, bench: DockerfileBench, tiny_image: str
) -> None:
    """An ONBUILD of a registry's image that may name somebody else's image is refused; a harmless one runs."""
    for trigger, name in (("RUN echo triggered", "good"), ("COPY --from=abc /secret /stolen", "bad")):
        bench.images["r.example/triggers:1"] = with_config(container_storage, tiny_image, OnBuild=[trigger])
        if name == "good":
            bench.build("RUN true\nFROM r.example/triggers:1")
            assert "triggered" in bench.output
        else:
            with pytest.raises(DockerfileFailed, match="may be an id"):
                bench.build("RUN true\nFROM r.example/triggers:1")
