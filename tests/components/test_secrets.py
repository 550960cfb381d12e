"""Secrets never show; stored parameters, metadata, context (spec/components.md 4.4, 4.5)."""

from __future__ import annotations

import json
import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from imagesmith.components.reporting import LineReporter, OutputLines
from imagesmith.components.secrets import Secrets
from imagesmith.components.services import Services, StoredParameter
from testing.component_support import RunText, bash, document

SECRET = "hunter2-Ünïcode"


class Store:
    """A parameter store with one secret."""

    def get(self, name: str) -> StoredParameter:
        known = {
            "/app/secret": StoredParameter(SECRET, secure=True),
            "/app/plain": StoredParameter("plain"),
            "/app/list": StoredParameter("a,b"),
            "/app/name": StoredParameter("/app/plain"),
            "/app/lines": StoredParameter("a\nb"),
        }
        if name not in known:
            raise LookupError(name)
        return known[name]


class Metadata:
    def get(self, path: str) -> str:
        return {"instance-id": "i-0123"}[path]


SERVICES = Services(parameters=Store(), metadata=Metadata())


def test_stored_parameters(run_text: RunText) -> None:
    """Values of the parameter store are inserted, also through an indirect name."""
    head = "parameters:\n  - Which: {type: string, default: /app/plain}\n"
    script = "echo '{{ aws:ssm:/app/plain }} {{ aws:ssm:resolve(Which) }} {{ aws:ssm:resolve(aws:ssm:/app/name) }}'"
    ran = run_text(document(bash(script, "echo '{{ aws:ssm:/app/list }}'"), head=head), services=SERVICES)
    assert ran.step("Step").outputs == ({"stdout": "plain plain plain\na,b"},)


def test_stored_parameter_failures(run_text: RunText) -> None:
    """Missing, multi-line and unconfigured parameters fail the step in words."""
    for name, services, told in (
        ("/none", SERVICES, "was not found"),
        ("/app/lines", SERVICES, "several lines"),
        ("/app/plain", Services(), "no parameter store is configured"),
    ):
        ran = run_text(document(bash(f"echo '{{{{ aws:ssm:{name} }}}}'")), services=services)
        assert told in ran.step("Step").error_message
        assert ran.counts == (0, 1, 0, 0)
    imds = run_text(document(bash("echo '{{ aws:imds:instance-id }}'")))
    assert "no metadata source" in imds.step("Step").error_message


def test_context_and_environment(run_text: RunText) -> None:
    """Context keys, metadata and variables have their values."""
    keys = "executionId accountId region osPlatform date dateTime uuid phase step hostname osName osVersion"
    script = "\n".join(f"echo '{key}={{{{ context:{key} }}}}'" for key in keys.split())
    script += "\necho '{{ aws:imds:instance-id }} [{{ env:IMAGE_PHASE }}] [{{ env:NOT SET }}]' $IMAGE_PHASE"
    ran = run_text(document(bash(script)), services=SERVICES, environment={"IMAGE_PHASE": "BUILDING"})
    lines = ran.step("Step").outputs[0]["stdout"].splitlines()
    values = dict(line.split("=", 1) for line in lines[:-1])
    assert lines[-1] == "i-0123 [BUILDING] [] BUILDING"
    assert values["executionId"] == "id-1" and values["uuid"] == "id-2"
    assert (values["accountId"], values["region"], values["osPlatform"]) == ("111122223333", "eu-west-1", "linux")
    assert (values["phase"], values["step"]) == ("build", "Step")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", values["date"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", values["dateTime"])
    release = Path("/etc/os-release").read_text()
    assert f'NAME="{values["osName"]}"' in release and f'VERSION_ID="{values["osVersion"]}"' in release
    assert values["hostname"] == Path("/proc/sys/kernel/hostname").read_text().strip()


def test_secrets_never_show(run_text: RunText) -> None:
    """A secret reaches the script and nothing else: no log, no record, no failure."""
    text = document(
        bash("echo '{{ aws:ssm:/app/secret }}' | tee file", name="Prints"),
        bash("echo '{{ build.Prints.outputs.stdout }}' >>file", "echo '{{ Given }}' >>file", name="Uses"),
        bash("echo failing {{ Given }} >&2", "printf '%s' '{{ aws:ssm:/app/secret }}'", "exit 1", name="Fails"),
        head="parameters:\n  - Given: {type: string}\n",
    )
    ran = run_text(
        text, services=SERVICES, parameters={"Given": "given-secret"}, secret_parameters=frozenset({"Given"})
    )
    assert (ran.folder / "file").read_text() == f"{SECRET}\n{SECRET}\ngiven-secret\n"
    everything = ran.log + repr(ran.result) + json.dumps(ran.result.detailed(), ensure_ascii=False)
    assert SECRET not in everything and "given-secret" not in everything
    assert "CmdExecution: Stdout: ********" in ran.lines
    assert ran.step("Fails").stderr == "failing ********\n"


@given(
    st.lists(st.integers(1, 200_000), max_size=6),
    st.integers(0, 300_000),
    st.sampled_from(["secret", "ab\ncd-long-line", "\udcff\udcfe!", "é" * 50]),
)
def test_no_cut_lets_a_secret_through(cuts: list[int], offset: int, secret: str) -> None:
    """However output arrives in pieces, and however long its lines are, a secret in it is masked."""
    secrets = Secrets()
    secrets.add(secret)
    lines: list[str] = []
    output = OutputLines(LineReporter(lines.append), secrets)
    data = b"x" * offset + secret.encode("utf-8", "surrogateescape") + b"y" * 100 + b"\n"
    position = 0
    for cut in cuts:
        output.feed("stdout", data[position : position + cut])
        position += cut
    output.feed("stdout", data[position:])
    output.flush()
    shown = "".join(line.removeprefix("CmdExecution: Stdout: ") for line in lines)
    for part in secret.split("\n"):
        assert part.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") not in shown
    assert shown.count("x") == offset and shown.count("y") == 100
