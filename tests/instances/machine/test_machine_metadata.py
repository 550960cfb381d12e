"""What a guest is told about itself: decisions without sockets, and the service in a real network namespace."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.instances.machine.metadata import Answer, GuestMetadata, MetadataService, respond

FACTS = GuestMetadata(
    instance_id="i-0123456789abcdef0", account="111111111111", region="eu-west-1", ami_id="ami-1",
    instance_type="m5.large", user_data=b"#!/bin/sh\n",
)  # fmt: skip
TOKEN = "x-aws-ec2-metadata-token"
TTL = "x-aws-ec2-metadata-token-ttl-seconds"
SECRET = b"secret"


def ask(path: str, method: str = "GET", *, guest: GuestMetadata = FACTS, at: float = 0, **headers: str) -> Answer:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return respond(guest, method, path, names, secret=SECRET, now=at)


def token(*, at: float = 0, seconds: str = "60") -> str:
    answer = respond(FACTS, "PUT", "/latest/api/token", {TTL: seconds}, secret=SECRET, now=at)
    assert answer.status == 200 and (answer.headers or {})[TTL] == seconds
    return answer.body.decode()


def test_files_and_folders_are_those_of_ec2() -> None:
    """Values without a line end, folders with a slash, every version, with and without a slash at the end."""
    assert ask("/latest/meta-data/instance-id").body == b"i-0123456789abcdef0"
    assert ask("/2021-03-23/meta-data/placement/region").body == b"eu-west-1"
    assert ask("/latest/meta-data/placement/").body == b"availability-zone\nregion"
    assert ask("/latest/").body == b"dynamic/\nmeta-data/\nuser-data"
    assert ask("/").body == b"latest\n" and ask("/latest/user-data").body == b"#!/bin/sh\n"
    document = json.loads(ask("/latest/dynamic/instance-identity/document").body)
    assert (document["accountId"], document["imageId"], document["region"]) == (
        "111111111111",
        "ami-1",
        "eu-west-1",
    )


def test_what_is_not_known_is_not_there() -> None:
    """No credentials, no user data when there is none, no id of an image that is in no catalog."""
    bare = replace(FACTS, ami_id="", user_data=b"")
    for path in ("meta-data/iam/security-credentials/", "meta-data/ami-id", "user-data", "meta-data/ami", ".."):
        assert ask(f"/latest/{path}", guest=bare).status == 404
    assert ask("/other/meta-data/").status == 404
    assert b"imageId" not in ask("/latest/dynamic/instance-identity/document", guest=bare).body


def test_a_token_is_good_until_it_ends() -> None:
    """Version 2: a session token opens everything for its time, and a wrong one nothing."""
    got = token(at=100.0)
    headers = {TOKEN: got}
    required = replace(FACTS, tokens_required=True)
    for at, status in ((100.0, 200), (159.0, 200), (160.0, 401)):
        answer = respond(required, "GET", "/latest/meta-data/", headers, secret=SECRET, now=at)
        assert answer.status == status
    assert respond(FACTS, "GET", "/latest/", headers, secret=b"of another", now=100.0).status == 401


def test_without_a_token_the_settings_decide() -> None:
    """httpTokens optional answers version 1, required refuses it; a bad token is refused by both."""
    assert ask("/latest/meta-data/").status == 200
    assert ask("/latest/meta-data/", guest=replace(FACTS, tokens_required=True)).status == 401
    for bad in ("", "x", f"99999999999-{'0' * 64}", token().replace("-", "0-", 1)):
        assert respond(FACTS, "GET", "/latest/", {TOKEN: bad}, secret=SECRET, now=0).status == 401


@pytest.mark.parametrize("seconds", ["", "0", "21601", "-1", "x", "\u0663", "999999"])
def test_a_token_of_no_possible_time_is_refused(seconds: str) -> None:
    """1 second to 6 hours, in digits; through a proxy there is none at all; nothing else can be written."""
    assert respond(FACTS, "PUT", "/latest/api/token", {TTL: seconds}, secret=SECRET, now=0).status == 400
    proxied = {TTL: "60", "x-forwarded-for": "1.2.3.4"}
    assert respond(FACTS, "PUT", "/latest/api/token", proxied, secret=SECRET, now=0).status == 403
    assert ask("/latest/meta-data/", "PUT").status == 405 and ask("/latest/meta-data/", "DELETE").status == 405


@given(
    st.text(), st.dictionaries(st.sampled_from([TOKEN, TTL]), st.text()), st.sampled_from(["GET", "PUT", "POST"])
)
def test_every_request_gets_an_answer(path: str, headers: dict[str, str], method: str) -> None:
    """Whatever a guest sends, the answer has a status and never what a token would have been needed for."""
    answer = respond(replace(FACTS, tokens_required=True), method, path, headers, secret=SECRET, now=0)
    assert answer.status in (200, 400, 401, 403, 404, 405)
    assert answer.status != 200 or method == "PUT"


@pytest.fixture
def namespace() -> Iterator[Path]:
    """A network namespace of its own, whose loopback is up."""
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None and holder.stdin is not None
    assert holder.stdout.readline() == b"up\n"
    yield Path(f"/proc/{holder.pid}/ns/net")
    holder.stdin.close()
    holder.wait(10)
    holder.stdout.close()


@pytest.mark.tool
def test_the_service_answers_inside_and_nowhere_else(namespace: Path) -> None:
    """curl gets a token and a value in the namespace; a silent connection does not stop it for long; it ends."""

    def curl(*arguments: str) -> subprocess.CompletedProcess[str]:
        inside = ["nsenter", f"--net={namespace}", "--", "curl", "-sS", "-m", "20", *arguments]
        return subprocess.run(inside, capture_output=True, text=True, check=False)

    base = "http://169.254.169.254/latest"
    before = len(list(Path("/proc/self/fd").iterdir()))
    service = MetadataService(replace(FACTS, tokens_required=True), namespace)
    try:
        got = curl("-X", "PUT", "-H", f"{TTL}: 60", f"{base}/api/token").stdout
        assert curl("-H", f"{TOKEN}: {got}", f"{base}/meta-data/instance-id").stdout == FACTS.instance_id
        silent = subprocess.Popen(
            [
                "nsenter",
                f"--net={namespace}",
                "--",
                "bash",
                "-c",
                "exec 3<>/dev/tcp/169.254.169.254/80; read -u 3 _",
            ]
        )
        assert curl("-o", "/dev/null", "-w", "%{http_code}", f"{base}/").stdout == "401"
        silent.wait(20)
    finally:
        service.close()
    assert curl(f"{base}/").returncode == 7
    assert len(list(Path("/proc/self/fd").iterdir())) == before
