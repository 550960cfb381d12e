"""A real `imagesmith serve` process, an ordinary boto3 client for it, and short ways to make what a build needs.

tiny_layout(folder)             an OCI layout with a shell and common tools, the parent of nearly all builds
RunningServer(data_dir, ...)    start, stop (SIGTERM), kill (SIGKILL), start again
RunningServer.forge             components, recipes, pipelines, builds
HOLD, held(), release()         a command inside a build that waits until the test lets it go
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import itertools
import json
import os
import signal
import subprocess
import tarfile
import tempfile
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config

from imagesmith.build_logs.logs import log_path
from imagesmith.cli.context import ServerAddress
from imagesmith.namespaces.host_ids import HostIds
from imagesmith.streams import wait_readable
from imagesmith.values.states import FINAL_IMAGE
from testing.commands import Nursery, order, run
from testing.containers import make_tiny_root
from testing.keys import operator_key

ACCOUNT = "000000000000"
REGION = "us-east-1"
TEMPLATE = """\
FROM {{{ imagebuilder:parentImage }}}
{{{ imagebuilder:environments }}}
{{{ imagebuilder:components }}}
"""
PARENT_ENV = ["PATH=/usr/bin:/bin", "TINY=yes"]

_START_SECONDS = 60.0
_STOP_SECONDS = 40.0
_BUILD_SECONDS = 90.0
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"

Value = TypeVar("Value")


def eventually(probe: Callable[[], Value | None], what: str, *, seconds: float = 30, pause: float = 0.05) -> Value:
    """The first truthy answer of a probe; an assertion that names what did not happen in time."""
    until = time.monotonic() + seconds
    while True:
        if value := probe():
            return value
        assert time.monotonic() < until, f"it did not happen within {seconds:g} s: {what}"
        time.sleep(pause)


def tiny_layout(folder: Path, reference: str = "tiny:1") -> str:
    """Write an OCI layout with the tiny image; gives the `parentImage` text for it."""
    with tempfile.TemporaryDirectory(prefix="tiny-root-") as place:
        root = Path(place) / "root"
        root.mkdir()
        make_tiny_root(root)
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(root, arcname=".")
    write_image(folder, reference, archive.getvalue(), {"Env": PARENT_ENV, "Cmd": ["/bin/sh"]})
    return f"oci:{folder}:{reference}"


def write_image(folder: Path, reference: str, layer: bytes, config: Mapping[str, Any]) -> str:
    """Write an OCI layout with an image of one layer; gives the digest of its manifest."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, kind: str) -> dict[str, Any]:
        name = hashlib.sha256(data).hexdigest()
        (blobs / name).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{name}", "size": len(data)}

    image = {
        "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created_by": "test"}],
    }  # fmt: skip
    manifest = {
        "schemaVersion": 2, "mediaType": _MANIFEST,
        "config": put(json.dumps(image).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [put(gzip.compress(layer, 1), "application/vnd.oci.image.layer.v1.tar+gzip")],
    }  # fmt: skip
    entry = put(json.dumps(manifest).encode(), _MANIFEST)
    entry["annotations"] = {"org.opencontainers.image.ref.name": reference}
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return str(entry["digest"])


class RunningServer:
    """One server process on one data directory; its temporary files have a folder of their own beside it."""

    start_seconds = _START_SECONDS

    def __init__(
        self,
        data_dir: Path,
        *,
        parent: str,
        registries: Mapping[str, str] | None = None,
        settings: str = "",
        words: Sequence[str] = ("serve", "--port", "0"),
    ) -> None:
        """`registries`: region -> host; `settings`: more lines of TOML, tables last; `words`: of the command."""
        self.words = list(words)
        self.data_dir = data_dir
        self.parent = parent
        self.temporary = data_dir.with_name(f"{data_dir.name}-tmp")
        self.errors = data_dir.with_name(f"{data_dir.name}-stderr")
        self.pid = 0
        """Of the process that runs; 0 when none does."""
        self._ended = -1
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.temporary.mkdir(exist_ok=True)
        self.write_settings(registries or {}, settings)
        self._nursery = Nursery()

    def write_settings(self, registries: Mapping[str, str], settings: str = "") -> None:
        layouts = Path(self.parent.split(":")[1]).parent
        tables = "".join(
            f'[registries."{region}"]\nurl = "{host}"\ninsecure = true\n' for region, host in registries.items()
        )
        (self.data_dir / "settings.toml").write_text(
            f'region = "{REGION}"\nlocal_image_folders = ["{layouts}"]\n{settings}\n{tables}'
        )

    # The process

    @property
    def nursery(self) -> int:
        """The process that adopts everything the server leaves behind."""
        return self._nursery.pid

    def start(self) -> RunningServer:
        """Start it and wait until it answers."""
        assert not self.pid, "it runs already"
        ServerAddress.path(self.data_dir).unlink(missing_ok=True)
        environment = {**os.environ, "TMPDIR": str(self.temporary)}
        command = order(*self.words, "--data-dir", str(self.data_dir), env=environment, new_session=True)
        self.pid = self._nursery.start(command, self.errors)
        self._ended = os.pidfd_open(self.pid)
        try:
            eventually(
                self._answers, f"the server is ready; {self.errors} says why not", seconds=self.start_seconds
            )
        except BaseException:
            self.kill()  # the tests after this one start it again
            raise
        return self

    def _answers(self) -> bool:
        assert not self._wait(0), f"the server ended: {self.errors.read_text()[-3000:]}"
        return ServerAddress.read(self.data_dir) is not None

    def _wait(self, seconds: float) -> bool:
        return wait_readable(self._ended, seconds)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> float:
        """Ask it to end and wait; gives the seconds that took."""
        assert self.pid, "it does not run"  # a signal to process 0 would reach the tests
        started = time.monotonic()
        os.kill(self.pid, how)
        ended = self._wait(_STOP_SECONDS)
        self.kill()
        assert ended, f"the server did not end within {_STOP_SECONDS:g} s"
        return time.monotonic() - started

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would; nothing happens when it does not run."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._ended, signal.SIGKILL)
            assert self._wait(30)
            os.close(self._ended)
            self.pid = 0

    def __enter__(self) -> RunningServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._nursery.close()

    # The API

    @property
    def client(self) -> Any:
        return self.client_for(REGION)

    def client_for(self, region: str) -> Any:
        address = ServerAddress.read(self.data_dir)
        assert address is not None
        key = operator_key(self.data_dir)
        return boto3.client(
            "imagebuilder", endpoint_url=address.url, region_name=region, verify=address.authority or None,
            aws_access_key_id=key.access_key_id, aws_secret_access_key=key.secret,
            config=Config(retries={"max_attempts": 0}, connect_timeout=5, read_timeout=30),
        )  # fmt: skip

    @property
    def forge(self) -> Forge:
        return Forge(self)

    def log(self, image_arn: str) -> str:
        path = log_path(self.data_dir / "logs", image_arn)
        return path.read_text() if path.exists() else ""

    def command(self, *words: str, status: int = 0, input: str = "") -> str:
        """What an `imagesmith` command for this server prints; it must end with `status`."""
        done = run(*words, "--data-dir", str(self.data_dir), input=input)
        assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + (done.stderr if status else "")

    def containers(self) -> list[str]:
        """Names of the working containers that the storage knows."""
        roots = self.data_dir / "containers" / "roots"
        return sorted(place.name for place in roots.iterdir()) if roots.is_dir() else []


class Forge:
    """Makes resources under names that nobody used before, and runs builds."""

    _numbers = itertools.count(1)

    def __init__(self, server: RunningServer, region: str = REGION) -> None:
        self.server = server
        self.region = region
        self.client = server.client_for(region)

    def name(self, kind: str) -> str:
        # with the process: other runs of these tests may go on at the same time on this machine
        return f"{kind}-{os.getpid()}-{next(self._numbers)}"

    def component(self, *, build: str = "", validate: str = "", test: str = "", data: str = "") -> str:
        """A component with one ExecuteBash step in each phase that has a script."""
        name = self.name("component")
        scripts = {
            phase: script for phase, script in (("build", build), ("validate", validate), ("test", test)) if script
        }
        made = self.client.create_component(
            name=name, semanticVersion="1.0.0", platform="Linux", data=data or document(name, scripts)
        )
        return str(made["componentBuildVersionArn"])

    def recipe(self, *components: str, **members: Any) -> str:
        name = self.name("recipe")
        request: dict[str, Any] = {
            "containerType": "DOCKER", "name": name, "semanticVersion": "1.0.0", "parentImage": self.server.parent,
            "dockerfileTemplateData": TEMPLATE, "components": [{"componentArn": arn} for arn in components],
            "targetRepository": {"service": "ECR", "repositoryName": name}, **members,
        }  # fmt: skip
        return str(self.client.create_container_recipe(**request)["containerRecipeArn"])

    def infrastructure(self, **members: Any) -> str:
        made = self.client.create_infrastructure_configuration(
            name=self.name("infra"), instanceProfileName="profile", **members
        )
        return str(made["infrastructureConfigurationArn"])

    def distribution(self, *targets: tuple[str, str, Sequence[str]]) -> str:
        """`targets`: region, repository, extra tags."""
        made = self.client.create_distribution_configuration(
            name=self.name("dist"),
            distributions=[
                {
                    "region": region,
                    "containerDistributionConfiguration": {
                        "targetRepository": {"service": "ECR", "repositoryName": repository},
                        **({"containerTags": list(tags)} if tags else {}),
                    },
                }
                for region, repository, tags in targets
            ],
        )
        return str(made["distributionConfigurationArn"])

    def pipeline(self, recipe: str, **members: Any) -> str:
        request = {
            "name": self.name("pipeline"), "containerRecipeArn": recipe,
            "infrastructureConfigurationArn": self.infrastructure(), **members,
        }  # fmt: skip
        return str(self.client.create_image_pipeline(**request)["imagePipelineArn"])

    def run(self, pipeline: str) -> str:
        return str(self.client.start_image_pipeline_execution(imagePipelineArn=pipeline)["imageBuildVersionArn"])

    def start(self, recipe: str, **members: Any) -> str:
        """CreateImage of a recipe; gives the image's ARN."""
        request = {"containerRecipeArn": recipe, "infrastructureConfigurationArn": self.infrastructure(), **members}
        return str(self.client.create_image(**request)["imageBuildVersionArn"])

    def image(self, arn: str) -> dict[str, Any]:
        return dict(self.client.get_image(imageBuildVersionArn=arn)["image"])

    def state(self, arn: str) -> str:
        return str(self.image(arn)["state"]["status"])

    def finished(self, arn: str, expected: str = "AVAILABLE", *, seconds: float = _BUILD_SECONDS) -> dict[str, Any]:
        """Wait for the end of a build, which must be as expected."""
        image = eventually(
            lambda: found if (found := self.image(arn))["state"]["status"] in FINAL_IMAGE else None,
            f"{arn} ends; its log:\n{self.server.log(arn)[-3000:]}",
            seconds=seconds,
        )
        assert image["state"]["status"] == expected, f"{image['state']}\n{self.server.log(arn)[-3000:]}"
        return image

    def build(self, recipe: str, expected: str = "AVAILABLE", **members: Any) -> dict[str, Any]:
        return self.finished(self.start(recipe, **members), expected)


def document(name: str, scripts: Mapping[str, str]) -> str:
    """A component document with one step named after each phase: build -> Build."""
    text = f"name: {name}\nschemaVersion: 1.0\nphases:\n"
    for phase, script in scripts.items():
        text += f"  - name: {phase}\n    steps:\n      - name: {phase.title()}\n        action: ExecuteBash\n"
        text += "        inputs:\n          commands:\n            - |\n"
        text += textwrap.indent(script.rstrip() + "\n", " " * 14)
    return text


# Holding a build at a place

HOLD = "sh -c 'until [ -e /dev/shm/go ]; do sleep 0.05; done' hold-{name}"
"""A command that waits inside a build until release(); `name` tells it from others. /dev is not on the disk."""


def find_processes(match: Callable[[list[str]], bool]) -> list[int]:
    """The processes of this machine whose command line matches."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
            if words and match(words):
                found.append(int(place.name))
    return found


def all_held(name: str) -> list[int]:
    """The processes that wait at the HOLD of this name; not the children that are about to become their `sleep`."""
    found = find_processes(lambda words: words[-1] == f"hold-{name}" and words[0].endswith("sh"))
    return [process for process in found if _parent(process) not in (0, *found)]


def _parent(process: int) -> int:
    """The parent of a process; 0 for one that has ended."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()[1])
    return 0


def held(name: str, *, seconds: float = 60) -> int:
    """Wait until a build has come to the HOLD of this name; gives the process."""

    return eventually(lambda: all_held(name), f"a build waits at {name}", seconds=seconds)[0]


def release(name: str) -> None:
    """Let the build that waits at a HOLD go on."""
    let_go(held(name))


def let_go(process: int) -> None:
    """Let a process in a container that waits at a HOLD go on."""
    first = int(Path(f"/proc/{process}/uid_map").read_text().split()[1])
    with HostIds(first).acting():
        Path(f"/proc/{process}/root/dev/shm/go").touch()


def read_tool(*argv: str) -> str:
    """The output of a tool that must succeed."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


def image_config(source: str) -> dict[str, Any]:
    """The configuration of an image, through skopeo; `source` as skopeo names it."""
    options = ["--tls-verify=false"] if source.startswith("docker://") else []
    config: dict[str, Any] = json.loads(read_tool("skopeo", "inspect", "--config", *options, source))
    return config


def image_digest(source: str) -> str:
    options = ["--tls-verify=false"] if source.startswith("docker://") else []
    raw = read_tool("skopeo", "inspect", "--raw", *options, source)
    return "sha256:" + hashlib.sha256(raw.encode()).hexdigest()


def uris(image: Mapping[str, Any]) -> list[str]:
    return [uri for container in image["outputResources"]["containers"] for uri in container["imageUris"]]
