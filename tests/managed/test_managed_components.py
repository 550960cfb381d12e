"""The managed components on the managed Debian base: built and tested for real, in one container after another.

This bootstraps the base from the package mirror, which takes a minute; it is kept for the session.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures_containers import container_storage
from imagesmith.artifacts.bases import Bases
from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.components.grammar import parse_component
from imagesmith.components.reporting import LineReporter
from imagesmith.components.results import ExecutionResult
from imagesmith.components.runner import DocumentRun, run_documents
from imagesmith.components.services import SystemClock
from imagesmith.instances.container import ContainerInstance
from imagesmith.managed.bases import managed_base
from imagesmith.managed.catalog import managed_component

__all__ = ["container_storage"]

pytestmark = [pytest.mark.tool, pytest.mark.timeout(1200)]


@pytest.fixture(scope="session")
def debian(container_storage: ContainerStorage, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image id of the managed Debian base."""
    folder = tmp_path_factory.mktemp("bases")
    bases = Bases(container_storage, OciLayout(folder / "oci"), folder=folder / "bases")
    base = managed_base("debian-x86-12")
    assert base is not None
    return bases.managed(base, on_line=lambda _: None).image_id


@pytest.fixture
def launch(container_storage: ContainerStorage, debian: str) -> Iterator[ContainerInstance]:
    instance = ContainerInstance.launch(container_storage, debian, name="managed")
    yield instance
    instance.close()


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
    launch.run(("sh", "-c", "apt-get update && apt-get install -y --no-install-recommends openssh-server cron"))
    run(launch, "linux-hardening-baseline", "build", "validate", PermitRootLogin="prohibit-password")
    assert b"PermitRootLogin prohibit-password" in launch.read("/etc/ssh/sshd_config.d/60-hardening.conf")
    run(launch, "linux-hardening-baseline-test", "test")


def test_tests_of_images(launch: ContainerInstance) -> None:
    """The boot test passes in a container; the time test wants chrony and its source."""
    run(launch, "simple-boot-test-linux", "test")
    launch.run(("sh", "-c", "apt-get update && apt-get install -y --no-install-recommends chrony"))
    run(launch, "chrony-time-configuration-test", "test", TimeSource="2.debian.pool.ntp.org")


def test_update_with_an_exclusion(launch: ContainerInstance, tmp_path: Path) -> None:
    """An excluded package is held during the update and free afterwards."""
    run(launch, "update-linux", "build", Exclude="bash")
    assert launch.run(("apt-mark", "showhold")).stdout == b""
