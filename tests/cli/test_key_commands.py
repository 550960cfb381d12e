"""`imagesmith account`, `key` and `audit` on the data directory of a running server, and how `serve` may listen."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from imagesmith.cli.context import ServerAddress
from imagesmith.wire.tls import CertificateFiles
from testing.api import client_for
from testing.commands import run
from testing.keys import operator_key
from testing.pipeline_support import REGION, RunningServer, eventually

pytestmark = pytest.mark.tool

OTHER = "444455556666"
AWS = str(Path(sys.executable).with_name("aws"))
WORDS = ("serve", "--port", "0", "--host", "0.0.0.0", "--tls-self-signed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_parent: str) -> Iterator[RunningServer]:
    """A server that listens everywhere, with a certificate that it made."""
    with RunningServer(tmp_path_factory.mktemp("keys") / "data", parent=tiny_parent, words=WORDS) as running:
        running.start()
        yield running
        running.stop()


def aws(server: RunningServer, pair: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The AWS CLI with what `imagesmith env` prints, or with another key pair."""
    variables = json.loads(server.command("env", "--json"))
    if pair is not None:
        variables |= {"AWS_ACCESS_KEY_ID": pair["accessKeyId"], "AWS_SECRET_ACCESS_KEY": pair["secretAccessKey"]}
    return subprocess.run(
        [AWS, "imagebuilder", "list-image-pipelines"], env={"PATH": os.environ["PATH"], **variables},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_keys_are_changed_under_a_running_server(server: RunningServer) -> None:
    """Created, rotated with both halves valid, restricted, revoked: the effect is there when a command returns."""
    assert aws(server).returncode == 0
    server.command("account", "create", OTHER, "--name", "web")
    made = json.loads(server.command("key", "create", "--account", OTHER, "--user", "ci", "--json"))
    assert aws(server, made).returncode == 0
    new = json.loads(server.command("key", "rotate", made["accessKeyId"], "--json"))
    assert aws(server, made).returncode == aws(server, new).returncode == 0
    policy = server.data_dir.parent / "policy.json"
    policy.write_text('{"allow": ["imagebuilder:Get*"]}')
    server.command("key", "policy", new["accessKeyId"], "--set", str(policy), "--force")
    assert "AccessDeniedException" in aws(server, new).stderr
    server.command("key", "policy", new["accessKeyId"], "--remove")
    server.command("key", "revoke", made["accessKeyId"])
    assert "UnrecognizedClientException" in aws(server, made).stderr
    assert aws(server, new).returncode == 0
    listed = {key["accessKeyId"]: key for key in json.loads(server.command("key", "list", "--json"))}
    assert (listed[made["accessKeyId"]]["state"], listed[new["accessKeyId"]]["state"]) == ("revoked", "active")
    assert listed[made["accessKeyId"]]["replacedBy"] == new["accessKeyId"]
    accounts = {item["account"]: item for item in json.loads(server.command("account", "list", "--json"))}
    assert (accounts[OTHER]["name"], accounts[OTHER]["keys"]) == ("web", 1)
    for secret in (made["secretAccessKey"], new["secretAccessKey"]):
        assert secret not in server.command("key", "list") + server.command("audit", "--json")


def test_the_key_of_commands_follows_its_rotation(server: RunningServer) -> None:
    """`env` and other commands use the replacement at once, also when the old key ends at once."""
    before = operator_key(server.data_dir).access_key_id
    server.command("key", "rotate", before, "--grace-hours", "0")
    assert operator_key(server.data_dir).access_key_id != before
    assert aws(server).returncode == 0
    assert server.command("image", "list") == "no images yet\n"


def test_the_audit_log_shows_requests_and_commands(server: RunningServer) -> None:
    """With the user of this machine for commands; options find lines, and --json prints one object a line."""
    server.client.create_infrastructure_configuration(name="infra", instanceProfileName="profile")
    server.command("parameter", "put", "/golden", "ami-0123456789abcdef0")
    found = [json.loads(line) for line in server.command("audit", "--since", "1h", "--json").splitlines()]
    by_operation = {line["operation"]: line for line in found}
    assert by_operation["CreateInfrastructureConfiguration"]["source"] == "127.0.0.1"
    put = by_operation["parameter put"]
    assert (put["source"], put["resource"], put["result"]) == ("command", "/golden", "OK")
    assert put["principal"].startswith("local user ")
    assert "ami-0123456789abcdef0" not in json.dumps(found)
    shown = server.command("audit", "--operation", "Create*")
    assert "infra" in shown and "parameter put" not in shown
    assert "not a time" in server.command("audit", "--since", "yesterday", status=2)


def test_a_certificate_is_read_again_on_sighup(server: RunningServer) -> None:
    """Touched by nothing else; the server goes on."""
    address = urlsplit(ServerAddress.read(server.data_dir).url)  # type: ignore[union-attr]
    files = CertificateFiles.of_data_dir(server.data_dir)
    os.kill(server.pid, signal.SIGHUP)
    eventually(lambda: "was read again" in server.errors.read_text(), "the signal is obeyed")
    served = ssl.get_server_certificate((address.hostname or "", address.port or 0))
    assert served.strip() in files.certificate.read_text()
    assert aws(server).returncode == 0


def test_doctor_names_certificates_and_key_files_that_cannot_be_used(server: RunningServer, tmp_path: Path) -> None:
    """A certificate near its end is a warning; a key that does not fit or a key file that others read, a fault."""
    data, folder = tmp_path / "data", tmp_path / "data" / "tls"
    data.mkdir(mode=0o700)
    shutil.copytree(server.data_dir / "tls", folder)
    shutil.copy2(server.data_dir / "secrets.key", data)
    kept = (folder / "server.pem").read_bytes(), (folder / "server.key").read_bytes()
    expired = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
               "-subj", "/CN=old", "-days", "1", "-set_serial", "1",
               "-keyout", str(folder / "server.key"), "-out", str(folder / "server.pem")]  # fmt: skip
    subprocess.run(expired, check=True, capture_output=True)
    (folder / "server.key").chmod(0o600)
    found = _doctor(data)
    assert not found["certificate"]["works"] and "expires at" in found["certificate"]["detail"]
    assert not found["certificate"]["needed"]
    (folder / "server.pem").write_bytes(kept[0])
    assert "does not belong to the certificate" in _doctor(data)["certificate"]["detail"]
    (folder / "server.key").write_bytes(kept[1])
    (data / "secrets.key").chmod(0o644)
    assert "can be read by others" in _doctor(data)["key file"]["detail"]
    (data / "secrets.key").chmod(0o600)
    found = _doctor(data)
    assert found["key file"]["works"] and found["certificate"]["works"]


def _doctor(data: Path) -> dict[str, dict[str, Any]]:
    done = run("doctor", "--json", "--data-dir", str(data))
    return {check["name"]: check for check in json.loads(done.stdout)["findings"]}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--host", "0.0.0.0"), "--tls-self-signed"),
        (("--host", "::"), "--tls-self-signed"),
        (("--host", "192.0.2.1"), "--insecure-bind"),
        (("--host", "0.0.0.0", "--settings", "none.toml"), "run builds"),
        (("--host", "0.0.0.0", "--tls-self-signed", "--settings", "none.toml"), "run builds"),
        (("--host", "192.0.2.1", "--insecure-bind"), "cannot listen"),
        (("--tls-certificate", "absent.pem"), "belong together"),
        (("--tls-certificate", "absent.pem", "--tls-key", "absent.key"), "absent.key cannot be read"),
        (("--tls-self-signed", "--tls-certificate", "a.pem", "--tls-key", "a.key"), "leave out tls.certificate"),
    ],
)
def test_addresses_beyond_this_machine_need_tls_or_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], told: str
) -> None:
    """The sentence says what would be in the clear, and the hint which options help."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none.toml").write_text('auth = "none"\n')
    (tmp_path / "data").mkdir(mode=0o700)
    done = run("serve", "--port", "0", "--data-dir", "data", *words)
    assert done.returncode == 1 and done.stderr.startswith("error:") and told in done.stderr, done.stderr


def test_other_regions_and_clients_use_the_same_keys(server: RunningServer) -> None:
    """A plain boto3 client without the authority refuses the certificate instead of sending anything."""
    key = operator_key(server.data_dir)
    address = ServerAddress.read(server.data_dir)
    assert address is not None
    client = client_for(address.url, key.access_key_id, key.secret, region=REGION)
    with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
        client.list_images()
    client.close()
