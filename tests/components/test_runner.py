"""The worked examples of the specification and the course of a run, on a real shell (spec/components.md 8, 14)."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from imagesmith.components.execution import RunOptions
from imagesmith.components.grammar import parse_component
from imagesmith.components.reporting import NullReporter
from imagesmith.components.runner import DocumentRun, run_documents
from imagesmith.components.services import SystemClock
from imagesmith.instances.host import HostInstance
from imagesmith.processes import Cancellation, Cancelled
from testing.component_support import RunText, bash, document, document_run, one_step

DEMO = """
name: DemoChain
schemaVersion: 1.0
constants:
  - Suffix:
      type: string
      value: txt
parameters:
  - Names:
      type: string
      default: a,b
phases:
  - name: build
    steps:
      - name: TempDir
        action: ExecuteBash
        inputs:
          commands:
            - mkdir tmp && cd tmp && pwd
      - name: Touch
        action: CreateFile
        loop:
          name: each
          forEach:
            list: '{{ Names }}'
        inputs:
          - path: '{{ build.TempDir.outputs.stdout }}/{{ each.value }}-{{ loop.index }}.{{ Suffix }}'
            content: 'file {{ loop.index }}'
      - name: Count
        action: ExecuteBash
        inputs:
          commands:
            - ls '{{ build.TempDir.outputs.stdout }}' | wc -l | tr -d ' '
      - name: TwoFiles
        action: Assert
        inputs:
          numberEquals: 2
          value: '{{ build.Count.outputs.stdout }}'
      - name: NeverRuns
        action: ExecuteBash
        if:
          not:
            folderExists: '{{ build.TempDir.outputs.stdout }}'
        inputs:
          commands:
            - exit 1
"""


def test_worked_example(run_text: RunText) -> None:
    """Chaining, a loop, a condition and an assertion work together as spec/components.md 14.1 says."""
    ran = run_text(DEMO)
    assert (ran.status, ran.counts) == ("success", (4, 0, 0, 1))
    assert sorted(path.name for path in (ran.folder / "tmp").iterdir()) == ["a-0.txt", "b-1.txt"]
    assert (ran.folder / "tmp" / "b-1.txt").read_text() == "file 1"
    assert ran.step("NeverRuns").status == "skipped"


@pytest.mark.parametrize(
    ("on_failure", "status", "counts", "phase_status"),
    [
        ("", "failed", (1, 1, 0, 0), "failed"),
        ("onFailure: Abort", "failed", (1, 1, 0, 0), "failed"),
        ("onFailure: Continue", "failed", (2, 1, 0, 0), "failed"),
        ("onFailure: Ignore", "success", (2, 0, 1, 0), "successWithIgnoredFailure"),
    ],
)
def test_on_failure(
    run_text: RunText, on_failure: str, status: str, counts: tuple[int, ...], phase_status: str
) -> None:
    """A failing step stops, fails or merely marks its document, as onFailure says."""
    ran = run_text(document(bash("exit 3", name="First", extra=on_failure), bash("true", name="Second")))
    assert (ran.status, ran.counts) == (status, counts)
    assert ran.result.documents[0].phases[0].status == phase_status
    assert ran.step("First").failure_message == "exit status 3"


def test_abort_stops_later_phases_and_documents(run_text: RunText) -> None:
    """After an abort neither the next phase nor the next document runs."""
    first = document(bash("exit 1")) + "  - name: test\n    steps:\n" + bash("true", name="Later")
    ran = run_text(first, document(bash("true", name="Other")))
    assert [document.label for document in ran.result.documents] == ["doc1.yml"]
    assert [phase.name for phase in ran.result.documents[0].phases] == ["build"]
    assert ran.result.failure_message == "Document doc1.yml failed!"


def test_continue_runs_later_phases_and_documents(run_text: RunText) -> None:
    """With Continue everything runs and the execution fails in the end."""
    first = document(bash("exit 1", extra="onFailure: Continue"))
    first += "  - name: test\n    steps:\n" + bash("true", name="Later")
    ran = run_text(first, document(bash("true", name="Other")))
    assert (ran.status, ran.counts) == ("failed", (3, 1, 0, 0))


def test_attempts(run_text: RunText) -> None:
    """A step that always fails is started maxAttempts times and counted once."""
    ran = run_text(document(bash("echo x >>log", "exit 1", extra="maxAttempts: 3")))
    assert ran.counts == (1, 1, 0, 0)
    assert (ran.folder / "log").read_text() == "x\nx\nx\n"
    assert ran.step("Step").attempts == 3


def test_attempts_end_with_the_first_success(run_text: RunText) -> None:
    """No attempt follows one that succeeded."""
    ran = run_text(document(bash("echo x >>log", '[ "$(wc -l <log)" = 2 ]', extra="maxAttempts: 5")))
    assert (ran.status, ran.step("Step").attempts) == ("success", 2)


def test_timeout(run_text: RunText) -> None:
    """A step over its time is killed with its children and the execution has timed out."""
    started = time.monotonic()
    ran = run_text(document(bash("sleep 60 & sleep 60", extra="timeoutSeconds: 1")))
    assert time.monotonic() - started < 5
    assert (ran.status, ran.step("Step").status, ran.counts) == ("timedOut", "timedOut", (1, 1, 0, 0))
    assert ran.step("Step").error_message == "timed out after 1 seconds"


def test_output_before_a_tolerated_timeout(run_text: RunText) -> None:
    """What a step printed before its time was over is there for later steps, when the failure is tolerated."""
    slow = bash("echo early; sleep 30", name="Slow", extra="timeoutSeconds: 1\nonFailure: Ignore")
    ran = run_text(document(slow, bash("echo {{ build.Slow.outputs.stdout }}", name="After")))
    assert ran.step("Slow").status == "ignoredFailure"
    assert ran.step("After").outputs == ({"stdout": "early"},)


def test_timeout_covers_all_iterations(run_text: RunText) -> None:
    """The time limit is one budget for the whole loop of an attempt."""
    loop = "timeoutSeconds: 1\nloop:\n  for: {start: 1, end: 50, updateBy: 1}"
    ran = run_text(document(bash("sleep 0.3", extra=loop)))
    assert ran.status == "timedOut"
    assert "loop timed out in the iteration with index" in ran.step("Step").failure_message


@pytest.mark.parametrize(
    ("commands", "stdout"),
    [
        (["false", "echo ok"], "ok"),
        (["X=1", "echo $X"], "1"),
        (["printf 'a\\n\\nb\\r\\n\\n'"], "a\n\nb"),
        (["cat"], ""),
    ],
)
def test_bash_output(run_text: RunText, commands: list[str], stdout: str) -> None:
    """Commands are one script without -e, its input is empty, and its output loses its last line breaks."""
    assert run_text(document(bash(*commands))).step("Step").outputs == ({"stdout": stdout},)


@pytest.mark.parametrize(
    ("loop", "values"),
    [
        ("for: {start: 1, end: 10, updateBy: 4}", "0=1 1=5 2=9"),
        ("for: {start: 3, end: 1, updateBy: -1}", "0=3 1=2 2=1"),
        ("for: {start: 4, end: 4, updateBy: -7}", "0=4"),
        ('forEach: {list: "x;y", delimiter: ";"}', "0=x 1=y"),
        ('forEach: {list: "x,,y"}', "0=x 1= 2=y"),
        ('forEach: {list: ""}', ""),
        ("forEach: [p q, r]", "0=p q 1=r"),
    ],
)
def test_loops(run_text: RunText, loop: str, values: str) -> None:
    """Each kind of loop gives its indexes and values, joined line by line in the outputs."""
    ran = run_text(document(bash("echo '{{ loop.index }}={{ loop.value }}'", extra=f"loop:\n  {loop}")))
    outputs = ran.step("Step").outputs
    assert ran.status == "success"
    assert " ".join(outputs[0]["stdout"].split("\n") if outputs else ()) == values


def test_loop_failure_names_its_index(run_text: RunText) -> None:
    """The first failing iteration ends the loop; outputs hold the successful ones only."""
    step = bash(
        "echo {{ loop.value }}", "[ {{ loop.index }} = 0 ]", extra="loop:\n  forEach: [Hello, World, Never]"
    )
    ran = run_text(document(step))
    result = ran.step("Step")
    assert (result.status, result.outputs) == ("failed", ({"stdout": "Hello"},))
    assert "index 1" in result.failure_message
    assert result.error_message == "exit status 1"


def test_loop_references_elsewhere_stay(run_text: RunText) -> None:
    """Loop references outside a loop, and those of another step's loop, are left in the text."""
    ran = run_text(document(bash("echo '{{ loop.index }} {{ other.value }}'")))
    assert ran.step("Step").outputs[0]["stdout"] == "{{ loop.index }} {{ other.value }}"


def test_phase_filter(run_text: RunText) -> None:
    """Phases run in document order whatever the order of the filter; a filter without a match is a success."""
    text = document(bash("echo one", name="One")) + "  - name: test\n    steps:\n" + bash("echo two", name="Two")
    assert [step.name for step in run_text(text, phases=["test", "build"]).result.steps] == ["One", "Two"]
    nothing = run_text(text, phases=["nothing"])
    assert (nothing.status, nothing.counts) == ("success", (0, 0, 0, 0))


def test_references_to_a_phase_that_did_not_run(run_text: RunText) -> None:
    """Inputs of a step that did not run resolve; its outputs fail the step that asks for them."""
    text = document(bash("echo one", name="One")) + "  - name: test\n    steps:\n"
    text += bash("echo '{{ build.One.inputs.commands }}'", name="Inputs")
    text += bash("echo '{{ build.One.outputs.stdout }}'", name="Outputs")
    ran = run_text(text, phases=["test"])
    assert ran.step("Inputs").outputs == ({"stdout": "echo one"},)
    assert "did not run" in ran.step("Outputs").error_message
    assert ran.counts == (1, 1, 0, 0)


def test_outputs_of_skipped_and_tolerated_steps(run_text: RunText) -> None:
    """A skipped step has empty outputs; a tolerated one gives what it printed."""
    text = document(
        bash("true", name="Skipped", extra="if: {stringEquals: a, value: b}"),
        bash("echo told", "exit 1", name="Tolerated", extra="onFailure: Ignore"),
        bash("echo '[{{ build.Skipped.outputs.stdout }}][{{ build.Tolerated.outputs.stdout }}]'", name="Asks"),
    )
    assert run_text(text).step("Asks").outputs == ({"stdout": "[][told]"},)


def test_chained_binary_names_survive(run_text: RunText) -> None:
    """Bytes that are not UTF-8 pass through an output into the next script unchanged."""
    text = document(
        bash("printf 'a\\377b'", name="Name"), bash("printf x >'{{ build.Name.outputs.stdout }}'", name="Use")
    )
    ran = run_text(text)
    assert ran.status == "success"
    assert [bytes(path.name, "utf-8", "surrogateescape") for path in ran.folder.iterdir()] == [b"a\xffb"]
    assert "\\xff" in str(ran.result.detailed())


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ("{stringEquals: a, value: a}", "success"),
        ("{stringEquals: a, value: a, then: Skip}", "skipped"),
        ("{stringEquals: a, value: b, else: Execute}", "success"),
        ("{stringEquals: a, value: a, then: Abort}", "failed"),
    ],
)
def test_guard(run_text: RunText, condition: str, status: str) -> None:
    """The condition of a step chooses between running, skipping and aborting it."""
    assert run_text(document(bash("true", extra=f"if: {condition}"))).step("Step").status == status


def test_guard_abort_obeys_on_failure(run_text: RunText) -> None:
    """A step aborted by its condition fails without running, and onFailure decides what follows."""
    extra = "onFailure: Ignore\nmaxAttempts: 3\nif: {stringEquals: a, value: a, then: Abort}"
    ran = run_text(document(bash("touch ran", extra=extra), bash("true", name="Next")))
    assert (ran.status, ran.counts) == ("success", (1, 0, 1, 0))
    assert not (ran.folder / "ran").exists()


def test_failure_message_convention(run_text: RunText) -> None:
    """A JSON object with failureMessage as the last line of a failing script becomes the step's message."""
    ran = run_text(document(bash("""echo '{"failureMessage":"no disk"}'""", "exit 1")))
    assert ran.step("Step").failure_message == "no disk"


def test_failure_tells_where(run_text: RunText) -> None:
    """The first failure carries step, action, standard error and the line of the step in its document."""
    ran = run_text(document(bash("true", name="Fine"), bash("echo bad >&2", "exit 7", name="Broken")))
    failure = ran.result.failure
    assert failure is not None
    assert (failure.phase, failure.step, failure.action, failure.message) == (
        "build",
        "Broken",
        "ExecuteBash",
        "exit status 7",
    )
    assert (failure.stderr, failure.position.line) == ("bad\n", 10)
    assert failure.script_line == 0
    assert "  Step: Broken" in ran.lines and "  Stderr: bad" in ran.lines


def test_failure_tells_the_line_of_the_script(run_text: RunText) -> None:
    """When bash names a line of its script, the failure names the line of the document."""
    step = bash("true", "no-such-command", name="One").replace(
        '"no-such-command"', "|\n              true\n              nope"
    )
    failure = run_text(document(step)).result.failure
    assert failure is not None
    assert (failure.message, failure.script_line) == ("exit status 127", 12)


def test_console_lines(run_text: RunText) -> None:
    """The console has the published lines in order."""
    assert run_text(document(bash("echo hi", "echo err >&2"))).lines == [
        "Setup: Currently validating document doc1.yml",
        "Executor: STARTED EXECUTION OF ALL DOCUMENTS",
        "Document doc1.yml",
        "Phase build",
        "Step Step",
        "ExecuteBash: STARTED EXECUTION",
        "CmdExecution: Stdout: hi",
        "CmdExecution: Stderr: err",
        "CmdExecution: ExitCode 0",
        "ExecuteBash: FINISHED EXECUTION",
        "Executor: FINISHED EXECUTION OF ALL DOCUMENTS",
        "TOE has completed execution successfully",
    ]


def test_summary_and_detail(run_text: RunText) -> None:
    """The result object and the detailed output have the published keys and forms."""
    result = run_text(document(bash("echo hi"), head="name: Doc\n")).result
    assert result.summary() == {
        "executionId": "id-1",
        "status": "success",
        "failedStepCount": 0,
        "executedStepCount": 1,
        "ignoredFailedStepCount": 0,
        "skippedStepCount": 0,
        "failureMessage": "",
        "logUrl": "",
    }
    step = result.detailed()["documents"][0]["phases"][0]["steps"][0]
    assert step["inputs"] == '[{"commands":["echo hi"]}]'
    assert step["outputs"] == '[{"stdout":"hi"}]'
    assert (step["loop"], step["detailedOutput"], step["timeoutSeconds"]) == (None, None, 7200)


def test_disable_logging(run_text: RunText) -> None:
    """A silent step logs no output and records nothing, but chaining still works."""
    text = document(
        bash("echo hidden-1", name="Silent", extra="disableLogging: true"),
        bash("echo got {{ build.Silent.outputs.stdout }} | tr 1 2", name="Uses"),
    )
    ran = run_text(text)
    assert "hidden-1" not in ran.log
    assert (ran.step("Silent").inputs, ran.step("Silent").outputs) == ((), ())
    assert ran.step("Uses").outputs[0]["stdout"] == "got hidden-2"


def test_large_output_is_cut(run_text: RunText) -> None:
    """A value keeps the last mebibyte of an output and says so, the log has all of it."""
    ran = run_text(document(bash("yes 1234567 | head -c 3000000; echo; echo end")))
    stdout = ran.step("Step").outputs[0]["stdout"]
    assert stdout.startswith("[output shortened") and stdout.endswith("end")
    assert len(stdout) < 1024 * 1024 + 200
    assert sum("1234567" in line for line in ran.lines) == 375000


def test_working_directory_is_shared(run_text: RunText) -> None:
    """A file written by a relative path is there in the next step, a `cd` and an export are not."""
    text = document(
        bash("echo 1 >file; mkdir sub; cd sub; export X=1", name="One"),
        bash('cat file; echo "[${X-}]"', name="Two"),
    )
    assert run_text(text).step("Two").outputs[0]["stdout"] == "1\n[]"


def test_missing_bash_is_said(run_text: RunText, tmp_path: Path) -> None:
    """Without bash the step says what it needs."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "sh").symlink_to("/bin/sh")
    instance = HostInstance(tmp_path, prefix=("env", f"PATH={tools}"))
    ran = run_text(document(bash("true")), instance=instance)
    assert ran.status == "failed"
    assert "needs bash" in ran.step("Step").error_message


def test_cancellation_ends_the_run(run_text: RunText) -> None:
    """A run that is cancelled raises and starts no further step."""
    cancellation = Cancellation()
    threading.Timer(0.3, cancellation.cancel).start()
    loop = "loop:\n  for: {start: 1, end: 1000, updateBy: 1}"
    with pytest.raises(Cancelled):
        run_text(document(bash("sleep 0.1", extra=loop)), cancellation=cancellation)


def test_parameters(run_text: RunText) -> None:
    """Given values win over defaults, unknown names are ignored, a missing value is empty."""
    head = "parameters:\n  - One: {type: string, default: d1}\n  - Two: {type: string}\n"
    text = document(bash("echo '[{{ One }}][{{Two}}]'"), head=head)
    assert run_text(text).step("Step").outputs[0]["stdout"] == "[d1][]"
    assert run_text(text, parameters={"Two": "$x", "None": "1"}).step("Step").outputs[0]["stdout"] == "[d1][$x]"


def test_substituted_text_is_not_scanned_again(run_text: RunText) -> None:
    """A value that looks like a reference is inserted as it is."""
    head = "parameters:\n  - One: {type: string}\n  - Two: {type: string, default: no}\n"
    ran = run_text(document(bash("echo '{{ One }}'"), head=head), parameters={"One": "{{ Two }}"})
    assert ran.step("Step").outputs[0]["stdout"] == "{{ Two }}"


def test_allowed_values(run_text: RunText) -> None:
    """A value outside allowedValues fails the document before anything runs."""
    head = "parameters:\n  - One: {type: string, default: a, allowedValues: [a, b]}\n"
    ran = run_text(document(bash("touch ran"), head=head), parameters={"One": "c"})
    assert ran.status == "failed" and not (ran.folder / "ran").exists()
    assert "allowed values: a, b" in ran.result.failure_message


def test_unterminated_and_foreign_braces_survive(run_text: RunText) -> None:
    """Unterminated references and templates of other languages reach the script as they are."""
    ran = run_text(document(bash("echo '{{ build.X.outputs.stdout'", "echo '{{ .Foo }} {{ a | b }}'")))
    assert ran.step("Step").outputs[0]["stdout"] == "{{ build.X.outputs.stdout\n{{ .Foo }} {{ a | b }}"


def test_unquoted_octal(run_text: RunText) -> None:
    """An unquoted 0700 is the mode 0700."""
    step = "      - name: Make\n        action: CreateFile\n        inputs: [{path: file, permissions: 0700}]\n"
    ran = run_text(document(step))
    assert (ran.folder / "file").stat().st_mode & 0o7777 == 0o700


@pytest.mark.parametrize(
    ("action", "inputs"),
    [
        ("ExecutePowerShell", {"commands": ["dir"]}),
        ("InstallMSI", {"path": "a.msi"}),
        ("UninstallMSI", {"path": "a.msi"}),
        ("SetRegistry", [{"path": "HKLM:\\Software\\X", "name": "n", "value": "1", "type": "SZ"}]),
    ],
)
def test_windows_actions_are_refused_elsewhere(tmp_path: Path, action: str, inputs: Any) -> None:
    """A document for Windows is checked in full, and its steps fail in one sentence where there is no Windows."""
    parsed = parse_component(one_step(action, inputs), platform="Windows")
    assert parsed.document is not None
    run = DocumentRun(parsed.document, "doc.yml")
    result = run_documents([run], HostInstance(tmp_path), clock=SystemClock(), ids=lambda: "id")
    assert result.status == "failed"
    assert result.steps[0].error_message == f"{action} runs on Windows machines only; this instance is a host"


def test_documents_may_have_variables_of_their_own(tmp_path: Path) -> None:
    """They see those instead of the run's, and so does what they run; other documents see the run's."""
    (tmp_path / "child.yml").write_text(document(bash("env | grep ^IMAGE_ | sort", name="Show")))
    nested = one_step("ExecuteDocument", {"document": str(tmp_path / "child.yml")})
    show = document(bash("echo {{ env:IMAGE_A }}; env | grep ^IMAGE_ | sort", name="Show"))
    runs = [
        document_run(show), document_run(show, environment={"IMAGE_A": "own"}),
        document_run(nested, environment={"IMAGE_A": "own"}), document_run(nested),
    ]  # fmt: skip
    lines: list[str] = []

    class Listener(NullReporter):
        def output(self, stream: str, text: str) -> None:
            lines.append(text)

    result = run_documents(
        runs, HostInstance(tmp_path), clock=SystemClock(), ids=lambda: str(len(lines)), reporter=Listener(),
        options=RunOptions(environment={"IMAGE_A": "run", "IMAGE_B": "run"}),
    )  # fmt: skip
    assert result.status == "success"
    run_s, own = ["IMAGE_A=run", "IMAGE_B=run"], ["IMAGE_A=own"]
    assert lines == ["run", *run_s, "own", *own, *own, *run_s]
