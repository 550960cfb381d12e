"""The commands `imagesmith component validate | run | new`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.cli.context import CommandFailed
from imagesmith.instances.limits import leftover_groups
from testing.commands import run
from testing.component_support import bash, document, one_step
from testing.containers import exported, import_tiny_image
from testing.pipeline_support import eventually, find_processes

BAD = document(bash("echo {{ Nope }}")).replace("ExecuteBash", "ExecuteBsh")


def test_validate(invoke: Any) -> None:
    """Every problem is shown with its line, a caret and a hint; the status tells the verdict."""
    good = invoke("validate", "good.yml", good=document(bash("true")))
    assert (good.exit_code, good.output) == (0, "Validation successful.\n")
    bad = invoke("validate", "good.yml", "bad.yml", bad=BAD)
    assert bad.exit_code == 1
    assert bad.output.splitlines() == [
        "bad.yml:6:17 unknown-action Parsing step 'Step' in phase 'build' failed. Error: "
        "there is no action 'ExecuteBsh'",
        "    6 |         action: ExecuteBsh",
        "      |                 ^",
        "      hint: did you mean 'ExecuteBash'?",
        "bad.yml:9:21 undefined-reference Parsing step 'Step' in phase 'build' failed. Error: "
        "'{{ Nope }}' is neither a parameter nor a constant of this document",
        '    9 |             - "echo {{ Nope }}"',
        "      |                     ^",
        "      hint: declare it under 'parameters'",
        "2 errors",
    ]


def test_validate_json(invoke: Any) -> None:
    """For machines there is the published object."""
    good = json.loads(invoke("validate", "good.yml", "--json", good=document(bash("true"))).stdout)
    assert good == {"validationStatus": "success", "message": "Validation successful."}
    bad = json.loads(invoke("validate", "bad.yml", "--json", bad=BAD).stdout)
    assert bad["validationStatus"] == "failed"
    assert bad["message"].startswith("bad.yml: Failed to parse document. Error: line 6: ")


def test_validate_options(invoke: Any) -> None:
    """Platform and blocked actions are honoured; a missing file is one sentence."""
    text = document(bash("true"))
    assert invoke("validate", "a.yml", "--platform", "windows", a=text).exit_code == 1
    assert "is blocked here" in invoke("validate", "a.yml", "--blocked-action-modules", "Reboot,ExecuteBash").output
    with pytest.raises(CommandFailed, match=r"none\.yml cannot be read"):
        invoke("validate", "none.yml")


def test_terminal_control_is_defused(invoke: Any) -> None:
    """Control characters of a document do not reach the terminal."""
    result = invoke("validate", "a.yml", a='schemaVersion: "\\e[2J"\nphases: []\n"\\e]0;x": 1\n')
    assert "\x1b" not in result.output


def test_run_on_the_host(invoke: Any, tmp_path: Path) -> None:
    """One line per step, then the counts; the working directory is here."""
    text = document(bash("echo {{ Name }} >out", name="One"), head="parameters: [{Name: {type: string}}]\n")
    result = invoke("run", "a.yml", "--param", "Name=a=b", a=text)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0].split()[:3] == ["ok", "build/One", "ExecuteBash"]
    assert lines[1].startswith("success: 1 executed, 0 failed in ")
    assert (tmp_path / "out").read_text() == "a=b\n"


def test_run_failure(invoke: Any) -> None:
    """A failure shows the last output, the line of the document, and status 1."""
    result = invoke("run", "a.yml", a=document(bash("echo last words", "no-such-thing")))
    assert result.exit_code == 1
    assert "          | last words" in result.output
    assert "a.yml:10 step 'Step' in phase 'build': exit status 127" in result.output
    assert '   10 |             - "no-such-thing"' in result.output


def test_run_json(invoke: Any) -> None:
    """With --json standard output is the one result object, also when nothing could run."""
    ok = invoke("run", "a.yml", "--json", "--execution-id", "mine", a=document(bash("echo noise")))
    assert json.loads(ok.stdout) == {
        "executionId": "mine",
        "status": "success",
        "failedStepCount": 0,
        "executedStepCount": 1,
        "ignoredFailedStepCount": 0,
        "skippedStepCount": 0,
        "failureMessage": "",
        "logUrl": "",
    }
    bad = invoke("run", "bad.yml", "--json", bad=BAD)
    assert bad.exit_code == 1
    assert json.loads(bad.stdout)["failureMessage"] == "Document bad.yml failed!"
    none = invoke("run", "a.yml", "--json", "--phases", "nothing")
    assert (none.exit_code, json.loads(none.stdout)["executedStepCount"]) == (0, 0)


def test_run_refuses_documents_with_errors(invoke: Any, tmp_path: Path) -> None:
    """All documents are checked before anything runs."""
    result = invoke("run", "good.yml", "bad.yml", good=document(bash("touch ran")), bad=BAD)
    assert result.exit_code == 1 and "nothing was run" in result.output
    assert not (tmp_path / "ran").exists()


def test_secret_parameters_and_logs(invoke: Any, tmp_path: Path) -> None:
    """A secret parameter shows neither on the terminal nor in the log folder."""
    text = document(
        bash("echo {{ Key }} >file; echo {{ Key }}", name="One"),
        bash("echo {{ build.One.outputs.stdout }}", name="Two"),
        head="parameters: [{Key: {type: string}}]\n",
    )
    result = invoke("run", "a.yml", "-v", "--secret-param", "Key=s3cr3t", "--log-directory", "logs", a=text)
    assert result.exit_code == 0 and (tmp_path / "file").read_text() == "s3cr3t\n"
    (folder,) = (tmp_path / "logs").iterdir()
    names = ["application.log", "chaining.json", "console.log", "detailedoutput.json", "document.yaml"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert folder.stat().st_mode & 0o777 == 0o700
    shown = result.output + "".join(path.read_text() for path in folder.iterdir())
    assert "s3cr3t" not in shown and "CmdExecution: Stdout: ********" in shown
    assert json.loads((folder / "chaining.json").read_text()) == {"build.One.outputs.stdout": "********"}
    detail = json.loads((folder / "detailedoutput.json").read_text())
    assert [step["name"] for step in detail["documents"][0]["phases"][0]["steps"]] == ["One", "Two"]


def test_managed_components_by_arn(invoke: Any) -> None:
    """A document can run a managed component."""
    arn = "arn:aws:imagebuilder:us-east-1:aws:component/hello-world-linux/x.x.x"
    result = invoke("run", "a.yml", "--verbose", a=one_step("ExecuteDocument", {"document": arn}))
    assert result.exit_code == 0 and "Hello, world" in result.output


def test_interrupted_runs_go_on(invoke: Any, tmp_path: Path) -> None:
    """With a state directory a run that was killed goes on at the step where it was."""
    text = document(bash("echo x >>count", name="One"), bash("[ -e go ] || kill -9 $PPID; cat count", name="Two"))
    (tmp_path / "a.yml").write_text(text)
    words = ["run", "a.yml", "--state-directory", "state", "--data-dir", str(tmp_path / "data")]
    killed = subprocess.run([sys.executable, "-c", COMMAND, *words], cwd=tmp_path, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    (tmp_path / "go").touch()
    result = invoke(*words, "--json")
    assert json.loads(result.stdout)["executedStepCount"] == 2
    assert (tmp_path / "count").read_text() == "x\n"
    with pytest.raises(CommandFailed, match="removed at the end of its run"):
        invoke(*words, "--on", f"container:oci-archive:{tmp_path}/none.tar")


def test_restarts_of_this_computer(invoke: Any, tmp_path: Path) -> None:
    """With a state directory a restart ends the command with status 194, and the same command goes on after it."""
    reboot = one_step("Reboot", {}, name="Restart").partition("steps:\n")[2]
    again = bash("if [ -e done ]; then echo x >>again; else touch done; exit 194; fi", name="Again")
    text = document(bash("echo x >>count", name="One"), reboot, again)
    words = ["run", "a.yml", "--json", "--state-directory", "state", "--log-directory", "logs"]
    for expected in (194, 194, 0):
        result = invoke(*words, a=text)
        assert result.exit_code == expected
        assert (result.stdout == "") == (expected == 194) and ("must restart" in result.stderr) == (expected == 194)
    summary = json.loads(result.stdout)
    assert (summary["status"], summary["executedStepCount"]) == ("success", 3)
    assert (tmp_path / "count").read_text() == (tmp_path / "again").read_text() == "x\n"
    (logs,) = (tmp_path / "logs").iterdir()
    assert logs.name.endswith(summary["executionId"]) and str(logs).endswith(summary["logUrl"])
    assert (logs / "console.log").read_text().count("Rebooting the system now") == 2
    assert not list((tmp_path / "state").iterdir())
    lone = invoke("run", "b.yml", b=document(reboot))
    assert lone.exit_code == 1 and "run with a state directory" in lone.output


def test_usage_errors(invoke: Any) -> None:
    """Wrong options and places are told in words."""
    text = document(bash("true"))
    assert "is not of the form NAME=VALUE" in invoke("run", "a.yml", "--param", "x", a=text).output
    assert "cannot be combined" in invoke("run", "a.yml", "--watch", "--json").output
    for place in ("moon", "container", "container:", "machine:"):
        with pytest.raises(CommandFailed, match="is not a target to run on"):
            invoke("run", "a.yml", "--on", place)


def test_machines(invoke: Any, tmp_path: Path) -> None:
    """A disk that is none, and one that does not boot, are told in words, and nothing of the machine is left."""
    text = document(bash("true"))
    with pytest.raises(CommandFailed, match="'nowhere' is not a disk"):
        invoke("run", "a.yml", "--on", "machine:nowhere", a=text)
    (tmp_path / "empty.raw").write_bytes(bytes(1024 * 1024))
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(tmp_path / "empty.qcow2"), "64M"], check=True)
    for disk, told in (("empty.raw", "is not a disk"), ("empty.qcow2", "machine component-[0-9]+ .*boot")):
        with pytest.raises(CommandFailed, match=told):
            invoke("run", "a.yml", "--on", f"machine:{disk}", "--data-dir", "data")
    assert list((tmp_path / "data/authoring/machines").glob("*-*")) == []


def test_new(invoke: Any, tmp_path: Path) -> None:
    """The starter is a valid document that is not overwritten by accident."""
    assert invoke("new", "my-web_server.yml").exit_code == 0
    assert "name: MyWebServer\n" in (tmp_path / "my-web_server.yml").read_text()
    assert invoke("validate", "my-web_server.yml").exit_code == 0
    with pytest.raises(CommandFailed, match="exists"):
        invoke("new", "my-web_server.yml")
    assert invoke("new", "my-web_server.yml", "--force", "--name", "it's: 1").exit_code == 0
    assert invoke("validate", "my-web_server.yml").exit_code == 0


COMMAND = "from imagesmith.cli.component import component; component()"


@pytest.fixture
def authoring(tmp_path: Path) -> Iterator[Path]:
    """A data directory whose layout archive of the tiny image serves as a parent."""
    data = tmp_path / "data"
    storage = ContainerStorage.for_data_dir(data / "authoring")
    image = import_tiny_image(storage)
    source = exported(storage, image, tmp_path / "exported")
    storage.tool(["skopeo", "copy", "--quiet", source, f"oci-archive:{tmp_path}/tiny.tar"], what="export")
    yield data
    storage.remove_leftovers()
    storage.close()


@contextlib.contextmanager
def watching(folder: Path, data: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command in the background, its output in the file `out`."""
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "run", *arguments, "--data-dir", str(data)],
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            finally:
                process.kill()


def await_text(folder: Path, text: str, count: int = 1) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        shown = (folder / "out").read_text(errors="replace")
        if shown.count(text) >= count:
            return shown
        time.sleep(0.05)
    raise AssertionError(f"{text!r} did not appear:\n{shown}")


@pytest.mark.tool
def test_a_container_has_metadata(authoring: Path, tmp_path: Path) -> None:
    """Its own id, the Region of the settings; what only a machine has fails the step by name."""
    own = bash("echo {{ aws:imds:instance-id }} {{ aws:imds:placement/region }}", name="Own")
    (tmp_path / "a.yml").write_text(document(own, bash("echo {{ aws:imds:local-ipv4 }}", name="Machine")))
    on = ["--on", f"container:oci-archive:{tmp_path}/tiny.tar", "--data-dir", str(authoring), "-v"]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "run", str(tmp_path / "a.yml"), *on],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert re.search(r"^ +i-[0-9a-f]{17} us-east-1$", done.stdout, re.MULTILINE), done.stdout + done.stderr
    assert "a container has no 'local-ipv4': it is not a machine" in done.stdout + done.stderr


@pytest.mark.tool
def test_watch_goes_on_after_the_last_good_step(authoring: Path, tmp_path: Path) -> None:
    """After a save only what changed runs again, on the state that the good steps left."""
    slow = bash("echo x >>/count", "sleep 1.2", name="Slow")

    def save(*steps: str) -> None:
        (tmp_path / "next").write_text(document(slow, *steps))
        (tmp_path / "next").replace(tmp_path / "a.yml")

    save(bash("echo polluted >>/count; exit 1", name="Broken"))
    with watching(tmp_path, authoring, "a.yml", "--watch", "--on", f"container:oci-archive:{tmp_path}/tiny.tar"):
        first = await_text(tmp_path, "waiting for a change")
        assert "FAILED  build/Broken" in first
        save(bash("[ $(cat /count | wc -l) = 1 ] && [ $(cat /count) = x ]", name="Broken"))
        second = await_text(tmp_path, "waiting for a change", 2)[len(first) :]
        assert "continuing after step 'Slow'" in second and "build/Slow" not in second
        assert "ok  build/Broken" in second and "success: 2 executed" in second
        stuck = f"3{os.getpid()}"
        save(bash(f"sleep {stuck}", name="Stuck"))
        await_text(tmp_path, "waiting for a change", 2)
        eventually(lambda: find_processes(lambda words: words == ["sleep", stuck]), "the step runs", seconds=60)
        save(bash("true", name="Fine"))
        await_text(tmp_path, "waiting for a change", 4)
        (tmp_path / "a.yml").write_text("a: [")
        last = await_text(tmp_path, "nothing was run")
        assert "saved during the run" in last and "ok  build/Fine" in last
    assert ContainerStorage.for_data_dir(authoring / "authoring").containers() == ()


@pytest.mark.tool
def test_interrupting_leaves_nothing(authoring: Path, tmp_path: Path) -> None:
    """Ctrl-C ends the step and removes the container."""
    (tmp_path / "a.yml").write_text(document(bash("echo begun; sleep 300")))
    place = f"container:oci-archive:{tmp_path}/tiny.tar"
    with watching(tmp_path, authoring, "a.yml", "--verbose", "--on", place) as process:
        await_text(tmp_path, "begun")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) != 0
    assert ContainerStorage.for_data_dir(authoring / "authoring").containers() == ()


@pytest.mark.tool
@pytest.mark.parametrize("kind", ["container", "host"])
def test_twenty_runs_at_once_do_not_disturb_each_other(
    authoring: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """On a data directory that is new: the first makes the storage, none removes what is another's."""
    (tmp_path / "a.yml").write_text(document(bash("sleep 0.5; echo done")))
    place = f"container:oci-archive:{tmp_path}/tiny.tar" if kind == "container" else "host"
    data = tmp_path / "fresh"
    monkeypatch.chdir(tmp_path)
    words = ("component", "run", "a.yml", "--on", place, "--data-dir", str(data))
    with ThreadPoolExecutor(20) as pool:
        ends = list(pool.map(lambda _: run(*words, timeout=250), range(20)))
    assert [(end.stdout, end.stderr) for end in ends if end.returncode != 0] == []
    if kind == "container":
        storage = ContainerStorage.for_data_dir(data / "authoring")
        assert storage.containers() == ()
        assert leftover_groups(storage.key) == ()
        storage.close()
