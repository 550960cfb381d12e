"""The managed components on the managed Debian base: built and tested for real, in one container after another."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from imagesmith.components.grammar import parse_component
from imagesmith.components.reporting import LineReporter
from imagesmith.components.results import ExecutionResult
from imagesmith.components.runner import DocumentRun, run_documents
from imagesmith.components.services import SystemClock
from imagesmith.instances.command import Command
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.host import HostInstance
from imagesmith.managed.catalog import managed_component
from imagesmith.managed.generated import generated_components

pytestmark = [pytest.mark.tool, pytest.mark.timeout(1200)]


def _is_unavailable(name: str) -> bool:
    component = managed_component(name)
    return component.platform == "Linux" and component.description.startswith("Cannot work here")


def run(instance: ContainerInstance, name: str, *phases: str, **parameters: str) -> ExecutionResult:
    """Run phases of a managed component, which must not fail."""
    parsed = parse_component(managed_component(name).text)
    assert parsed.document is not None
    numbers = itertools.count()
    lines: list[str] = []
    result = run_documents(
        [DocumentRun(parsed.document, name, parameters)],
        instance,
        phases=phases,
        clock=SystemClock(),
        ids=lambda: str(next(numbers)),
        reporter=LineReporter(lines.append),
    )
    assert result.status == "success", "\n".join(lines[-60:])
    return result


@pytest.mark.parametrize("name", ["hello-world-linux", "python-3-linux", "aws-cli-version-2-linux", "update-linux"])
def test_builds_and_tests(launch: ContainerInstance, name: str) -> None:
    """Each component that installs something builds, validates and passes its own test."""
    run(launch, name, "build", "validate")
    run(launch, name, "test")


def test_hardening_and_its_test(launch: ContainerInstance) -> None:
    """The hardening test fails on the bare base and passes on the hardened one."""
    parsed = parse_component(managed_component("linux-hardening-baseline-test").text)
    assert parsed.document is not None
    bare = run_documents([DocumentRun(parsed.document, "bare")], launch, clock=SystemClock(), ids=lambda: "id")
    assert bare.status == "failed" and len(bare.steps) == len(parsed.document.phases[0].steps)
    launch.run(
        Command(("sh", "-c", "apt-get update && apt-get install -y --no-install-recommends openssh-server cron"))
    )
    run(launch, "linux-hardening-baseline", "build", "validate", PermitRootLogin="prohibit-password")
    assert b"PermitRootLogin prohibit-password" in launch.read("/etc/ssh/sshd_config.d/60-hardening.conf")
    run(launch, "linux-hardening-baseline-test", "test")


def test_tests_of_images(launch: ContainerInstance) -> None:
    """The boot test passes in a container; the time test wants chrony and its source."""
    run(launch, "simple-boot-test-linux", "test")
    launch.run(Command(("sh", "-c", "apt-get update && apt-get install -y --no-install-recommends chrony")))
    run(launch, "chrony-time-configuration-test", "test", TimeSource="2.debian.pool.ntp.org")


def test_update_with_an_exclusion(launch: ContainerInstance, tmp_path: Path) -> None:
    """An excluded package is held during the update and free afterwards."""
    run(launch, "update-linux", "build", Exclude="bash")
    assert launch.run(Command(("apt-mark", "showhold"))).stdout == b""


@pytest.mark.parametrize("name", ["docker-ce-linux", "amazon-corretto-17-headless"])
def test_packages_are_installed_and_run(launch: ContainerInstance, name: str) -> None:
    """A row of packages.toml installs what its program needs, and the program runs."""
    run(launch, name, "build")


@pytest.mark.parametrize("name", [name for name, _, _ in generated_components() if _is_unavailable(name)])
def test_components_without_a_meaning_fail_with_a_sentence(launch: ContainerInstance, name: str) -> None:
    """In the build or in the test, in the words of unavailable.toml."""
    component = managed_component(name)
    parsed = parse_component(component.text, platform=component.platform)
    assert parsed.document is not None
    result = run_documents([DocumentRun(parsed.document, name)], launch, clock=SystemClock(), ids=lambda: "id")
    assert result.failure is not None and result.failure.step == "NotHere"
    assert f"Cannot work here: {result.failure.message}." == component.description


def test_repositories_are_read(launch: ContainerInstance) -> None:
    """The test of apt passes on Debian, and the test of yum says what is missing."""
    run(launch, "apt-repository-test-linux", "test")
    parsed = parse_component(managed_component("yum-repository-test-linux").text)
    assert parsed.document is not None
    result = run_documents([DocumentRun(parsed.document, "yum")], launch, clock=SystemClock(), ids=lambda: "id")
    assert result.failure is not None and result.failure.message == "neither dnf nor yum is here"


@pytest.mark.parametrize(("name", "phase"), [("reboot-linux", "build"), ("reboot-test-linux", "test")])
def test_restarts_are_refused_by_a_container(launch: ContainerInstance, name: str, phase: str) -> None:
    """The components that restart fail in a container at their Reboot step, in one sentence."""
    parsed = parse_component(managed_component(name).text)
    assert parsed.document is not None
    result = run_documents([DocumentRun(parsed.document, name)], launch, clock=SystemClock(), ids=lambda: "id")
    assert result.failure is not None
    assert (result.failure.phase, result.failure.step) == (phase, "RebootStep")
    assert result.failure.message == "a container cannot restart; run this component on a machine"


@pytest.mark.parametrize("name", ["reboot-linux", "reboot-test-linux"])
def test_restarts_of_a_machine(name: str, tmp_path: Path) -> None:
    """On what restarts, the components see another boot and succeed; on what only says so they fail."""

    class Machine(HostInstance):
        """This computer, pretending: its boot id is a file."""

        really = True
        kind = "machine"

        def reboot(self) -> None:
            if self.really:
                (tmp_path / "boot").write_text("second")

    (tmp_path / "cat").write_text(f'#!/bin/sh\nread -r line <{tmp_path}/boot || :; echo "$line"\n')
    (tmp_path / "cat").chmod(0o755)
    parsed = parse_component(managed_component(name).text)
    assert parsed.document is not None
    for really, status in ((True, "success"), (False, "failed")):
        (tmp_path / "boot").write_text("first")
        machine = Machine(tmp_path, environment={"PATH": f"{tmp_path}:/usr/bin:/bin"})
        machine.really = really
        result = run_documents([DocumentRun(parsed.document, name)], machine, clock=SystemClock(), ids=lambda: "id")
        assert result.status == status
