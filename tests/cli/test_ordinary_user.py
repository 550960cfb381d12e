"""What an ordinary user without sudo does with containers."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesmith.trees import remove_tree
from testing.containers import exported, import_tiny_image, opened_storage
from testing.leaks import wait_until_gone
from testing.ordinary_user import FIRST_SUBORDINATE, PYTHON, USER, own_home, run_as_user, words_as_user

pytestmark = pytest.mark.tool

DOCKERFILE = """\
FROM {{{ imagebuilder:parentImage }}} AS one
RUN id -u; touch /x && chown 1000:42 /x; rm -r /var/lib && mkdir /var/lib && touch /var/lib/new
RUN cp /bin/cat /bin/all && chmod 4755 /bin/all && echo secret >/s && chmod 600 /s; ! chown 65536 /x
USER 1000
RUN ! cat /s && all /s >/tmp/s && test secret = $(cat /tmp/s)
FROM {{{ imagebuilder:parentImage }}}
COPY --from=one /x /
COPY --from=one /var/lib /var/lib
RUN --mount=from=one,target=/m,rw touch /m/t && stat -c %u:%g /m/x >/seen
RUN --mount=type=cache,target=/c,uid=3 stat -c %u /c >>/seen
COPY --chown=65535:7 <<E /z
text
E
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's home with the tiny image."""
    folder = tmp_path_factory.mktemp("user")
    made = own_home(folder)
    with opened_storage(folder) as storage:
        exported(storage, import_tiny_image(storage), made / "tiny")
    subprocess.run(["chown", "--recursive", f"{USER}:{USER}", str(made)], check=True)
    yield made
    remove_tree(made)


def words(*arguments: str) -> list[str]:
    program = "import sys; from imagesmith.cli.main import main; main()"
    return [PYTHON, "-B", "-c", program, *arguments]


def imagesmith(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_as_user(words(*arguments), home)


def added_by(layout: Path) -> dict[str, tarfile.TarInfo]:
    """The members of all layers of an image but the first."""

    def blob(descriptor: dict[str, str]) -> bytes:
        return (layout / "blobs/sha256" / descriptor["digest"].removeprefix("sha256:")).read_bytes()

    manifest = json.loads(blob(json.loads((layout / "index.json").read_bytes())["manifests"][0]))
    found: dict[str, tarfile.TarInfo] = {}
    for layer in manifest["layers"][1:]:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob(layer)))) as tar:
            found |= {member.name: member for member in tar}
    return found


def test_a_dockerfile_is_built(home: Path) -> None:
    """Stages, users, set-user-id programs, mounts, removed folders; owners in the image are numbered from 0."""
    (home / "Dockerfile").write_text(DOCKERFILE)
    done = imagesmith(
        home, "dockerfile", "build", "Dockerfile", "--parent", "oci:/mnt/home/tiny:image", "--network", "none",
        "--output", "oci:/mnt/home/built",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    members = added_by(home / "built")
    owners = {name: (members[name].uid, members[name].gid) for name in ("x", "z", "seen", "var/lib/new")}
    assert owners == {"x": (1000, 42), "z": (65535, 7), "seen": (0, 0), "var/lib/new": (0, 0)}
    assert {"c", "m"}.isdisjoint(members)
    on_disk = {place.lstat().st_uid for place in (home / ".local").rglob("*")}
    assert on_disk and on_disk <= {USER, *range(FIRST_SUBORDINATE, FIRST_SUBORDINATE + 65535)}


def test_a_component_runs_with_a_network(home: Path) -> None:
    """In a container of a local image, as root inside."""
    (home / "c.yml").write_text(
        "name: c\nschemaVersion: 1.0\nphases:\n  - name: build\n    steps:\n      - name: one\n"
        "        action: ExecuteBash\n"
        "        inputs: {commands: ['test $(id -u) = 0 && grep tap0 /proc/net/dev']}\n"
    )
    done = imagesmith(home, "component", "run", "c.yml", "--on", "container:oci:/mnt/home/tiny:image", "--json")
    assert done.returncode == 0, done.stdout + done.stderr


def test_doctor_says_what_holds(home: Path) -> None:
    """The rights of the user, its ids, and what only root of the machine can limit."""
    done = imagesmith(home, "doctor", "--json")
    found = {item["name"]: item for item in json.loads(done.stdout)["findings"]}
    assert found["root"]["works"] and str(FIRST_SUBORDINATE) in found["root"]["detail"]
    assert all(found[name]["works"] for name in ("user namespaces", "storage", "network"))
    assert not found["limits"]["works"] and "memory is not limited" in found["limits"]["detail"]
    assert not found["limits"]["needed"] and "as root" in found["limits"]["hint"]


def test_a_killed_build_leaves_no_process(home: Path) -> None:
    """As one of root."""
    (home / "Slow").write_text("FROM {{{ imagebuilder:parentImage }}}\nRUN echo begun; sleep 91738\n")
    arguments = ("dockerfile", "build", "Slow", "--parent", "oci:/mnt/home/tiny:image", "--network", "none")
    process = subprocess.Popen(words_as_user(words(*arguments), home), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert any("begun" in line for line in process.stdout if not line.startswith("STEP"))
        process.kill()
        process.wait()
    assert wait_until_gone("91738") == []
