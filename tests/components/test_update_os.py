"""UpdateOS: the command lines for each package manager (spec/components.md 10.25). tests/managed runs apt."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from imagesmith.instances.host import HostInstance
from imagesmith.processes import host_environment
from testing.component_support import RunText, one_step

TOOLS = ("sh", "id", "grep", "cat", "env", "setpriv", "sed", "mktemp", "cp", "rm", "dpkg")


class Machine(HostInstance):
    """This computer with other package managers, as a machine that can restart."""

    reboots = 0

    @property
    def kind(self) -> str:
        return "machine"

    def reboot(self) -> None:
        self.reboots += 1


@pytest.fixture
def update(run_text: RunText, tmp_path: Path) -> Any:
    """Run UpdateOS where only the given programs are; scripts may use $log. Gives the run and what was called."""

    def run(inputs: dict[str, Any], **programs: str) -> tuple[Any, list[str]]:
        folder, log = tmp_path / "bin", tmp_path / "log"
        shutil.rmtree(folder, ignore_errors=True)
        log.write_text("")
        folder.mkdir()
        for tool in TOOLS:
            (folder / tool).symlink_to(shutil.which(tool) or tool)
        for name, script in programs.items():
            program = folder / name.replace("_", "-")
            program.write_text(f'#!/bin/sh\necho "{program.name} $*" >>{log}\nlog={log}\n{script}\n')
            program.chmod(0o755)
        machine = Machine(tmp_path, environment={**host_environment(), "PATH": str(folder)})
        ran = run_text(one_step("UpdateOS", inputs), instance=machine)
        return ran, log.read_text().splitlines()

    return run


def test_dnf_and_yum(update: Any) -> None:
    """The newer tool is taken, names and exclusions are its arguments."""
    ran, called = update({}, dnf="", yum="")
    assert (ran.status, called) == ("success", ["dnf -y update"])
    _, called = update({"include": ["a", "b", "c"], "exclude": ["b"]}, yum="")
    assert called == ["yum -y update a c --exclude=b"]


def test_restart_until_nothing_is_left(update: Any) -> None:
    """A machine restarts while its package manager asks for it, and the step runs again."""
    ran, called = update({}, dnf="", needs_restarting='[ "$(grep -c needs $log)" != 1 ]')
    assert (ran.status, called) == ("success", ["dnf -y update", "needs-restarting -r"] * 2)
    assert "Rebooting the system now" in ran.lines


QUERY = """case $4 in
new) echo 'installed new' ;; old) echo 'installed old' ;;
'*') printf '%s\\n' 'installed new' 'installed old' 'config-files gone' ;;
esac"""


@pytest.mark.parametrize("exclude", [["new", "old"], ["*"], ["*", "new", "old"]])
def test_apt_holds_only_what_it_frees(update: Any, exclude: list[str]) -> None:
    """Excluded packages are held for the update; one that was held before stays so, also when a glob names it."""
    held = 'case $* in "showhold") echo old ;; esac'
    ran, called = update({"exclude": exclude}, apt_get="", apt_mark=held, dpkg_query=QUERY)
    assert ran.status == "success"
    assert called[0] == "apt-get update"
    ours = [line for line in called if line.startswith("apt-")]
    assert [line for line in ours if line not in ("apt-get update", "apt-mark showhold")] == [
        "apt-mark hold new",
        "apt-get -y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold upgrade --with-new-pkgs",
        "apt-mark unhold new",
    ]
    _, called = update({"include": ["bash"]}, apt_get="", apt_mark="", dpkg_query=QUERY)
    assert called[-1].endswith("install --only-upgrade bash")


def test_apt_updates_no_included_package_that_is_excluded(update: Any) -> None:
    """Globs on either side: apt refuses to touch what is held."""
    _, called = update(
        {"include": ["*", "new", "other"], "exclude": ["n*", "new"]}, apt_get="", apt_mark="", dpkg_query=QUERY
    )
    assert called[-2].endswith("install --only-upgrade old other")
    ran, called = update({"include": ["new"], "exclude": ["n*"]}, apt_get="", apt_mark="")
    assert (ran.status, called) == ("success", [])


def test_apt_frees_its_holds_after_a_failure(update: Any) -> None:
    """A failing upgrade leaves no holds; its status and its last word are the message."""
    ran, called = update(
        {"exclude": ["new"]}, apt_get="case $* in *upgrade*) echo E: broken >&2; exit 7 ;; esac", apt_mark="",
        dpkg_query=QUERY,
    )  # fmt: skip
    assert called[-1] == "apt-mark unhold new"
    assert ran.step("Step").error_message == "UpdateOS failed: exit status 7: E: broken"


def test_zypper(update: Any) -> None:
    """Exclusions are locks for the time of the update; asking for a restart is honoured."""
    ran, called = update({"include": ["a"], "exclude": ["b"]}, zypper="case $* in *update*) exit 103 ;; esac")
    assert ran.status == "success"
    assert [line.removeprefix("zypper --non-interactive ") for line in called] == [
        "addlock b",
        "refresh",
        "update --auto-agree-with-licenses a",
    ]


ZYPP_LOCKS = Path("/etc/zypp/locks")
KEPT = "\ntype: package\nmatch_type: glob\ncase_sensitive: on\nsolvable_name: kept\n"


@pytest.mark.parametrize("before", ["", KEPT])
@pytest.mark.parametrize("ending", [0, 4])
def test_the_locks_of_an_image_with_zypper_are_afterwards_as_before(
    update: Any, tmp_path: Path, before: str, ending: int
) -> None:
    """The real zypper writes the locks; those that the image had stay, also after a failing update."""
    real = shutil.which("zypper")
    assert real, "zypper is missing: run script/bootstrap dev"
    ZYPP_LOCKS.unlink(missing_ok=True)
    if before:
        ZYPP_LOCKS.write_text(before)
    try:
        lock = f"PATH=/usr/bin:/bin {real} $*"
        script = f"case $* in *lock*) {lock} ;; *update*) cp {ZYPP_LOCKS} $log.locks; exit {ending} ;; esac"
        ran, _ = update({"exclude": ["kept", "other"]}, zypper=script)
        assert ran.status == ("failed" if ending else "success")
        during = (tmp_path / "log.locks").read_text()
        assert during.count("solvable_name") == 2 and "other" in during
        assert (ZYPP_LOCKS.read_text() if ZYPP_LOCKS.exists() else "") == before
    finally:
        ZYPP_LOCKS.unlink(missing_ok=True)


def test_apk(update: Any) -> None:
    """Alpine upgrades everything, or the chosen packages; none is added to what the image asks for."""
    _, called = update({}, apk="")
    assert called == ["apk update", "apk upgrade"]
    listed = '[ "$1" != info ] || printf "aa\nb\nbc\nd\n"'
    for inputs, chosen in (
        ({"exclude": ["b"]}, "aa bc d"),
        ({"exclude": ["b*"]}, "aa d"),
        ({"include": ["b*", "zz"]}, "b bc"),
        ({"include": ["b*", "aa"], "exclude": ["?c"]}, "aa b"),
    ):
        _, called = update(inputs, apk=listed)
        assert called == ["apk update", "apk info", f"apk fix --upgrade {chosen}"]


def test_nothing_to_update_with(update: Any) -> None:
    """Without a known tool the error says what was looked for; nothing left of the names is a note."""
    ran, _ = update({})
    assert "error.Input: UpdateOS found none of apt-get" in ran.step("Step").error_message
    ran, called = update({"include": ["a"], "exclude": ["a"]}, dnf="")
    assert (ran.status, called) == ("success", [])
