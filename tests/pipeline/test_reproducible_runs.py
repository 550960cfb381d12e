"""Reproducible builds: the same digest from the cache, without it, and on a worker with another data directory."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from imagesmith.artifacts.disks import DiskStore
from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.referrers import attached
from imagesmith.inspection.rebuild_statement import KIND
from imagesmith.inspection.signing import SigningKey, open_envelope
from testing.disks import FIRST
from testing.leaks import assert_clean
from testing.machine_images import Base, add_disk_file, start
from testing.machine_parents import make_parent
from testing.pipeline_support import Forge, RunningServer, image_digest, uris

pytestmark = pytest.mark.tool

EPOCH = 1_700_000_000
HEAD = """\
FROM {{{ imagebuilder:parentImage }}}
{{{ imagebuilder:environments }}}
"""
COMPONENTS = "{{{ imagebuilder:components }}}\n"
DRAW = "cat /proc/sys/kernel/random/uuid"
"""Other bytes each time, as a cache or log has them."""
LEFT_OUT = (
    "/etc/machine-id", "/var/log/apt/term.log", "/var/cache/ldconfig/aux-cache", "/root/.cache/pip/http/1",
    "/srv/__pycache__/stamped.pyc",
)  # fmt: skip
RECIPES = {
    "files, links, owners": (
        "RUN echo text >/one && ln -s one /two && ln /one /three && chown 7:8 /one && chmod 4711 /one\n"
        "RUN mkdir -p /srv/a/b && echo $SOURCE_DATE_EPOCH >/srv/a/b/epoch && rm /two\n"
        "RUN head -c 3000000 /dev/zero >/zeros && mknod /pipe p && touch -d @5 /old\n",
        ("true",),
    ),
    "caches, logs and ids": (
        "RUN mkdir -p /var/log/apt /var/cache/ldconfig /root/.cache/pip/http /srv/__pycache__\n"
        f"RUN for file in {' '.join(LEFT_OUT[:4])}; do {DRAW} >$file; done\n"
        r"RUN printf '\247\r\r\n\0\0\0\0\1\2\3\377rest' >/srv/__pycache__/stamped.pyc" "\n"
        r"RUN printf '\247\r\r\n\1\0\0\0\1\2\3\377rest' >/srv/__pycache__/hashed.pyc" "\n"
        "RUN : >/var/log/empty.log && echo kept >/var/log/README\n",
        (f"{DRAW} >>/var/log/own.log; {DRAW} >/etc/machine-id",),
    ),
    "stages": (
        "RUN mkdir /out && for n in 1 2 3 4 5 6 7 8 9; do echo $n >/out/$n; done\n"
        "FROM {{{ imagebuilder:parentImage }}}\nCOPY --from=0 /out /srv/out\nWORKDIR /srv/new/folder\nENV A=b\n"
        "LABEL c=d\n",
        ("true",),
    ),
    "components": (
        "RUN echo before >/before\n",
        (
            "echo one >/one; echo $SOURCE_DATE_EPOCH >/epoch; env | sort >/env",
            "echo two >>/one; rm /before; mkdir -p /a/b/c",
        ),
    ),
}  # fmt: skip


DISK = """\
name: change
schemaVersion: 1.0
phases:
  - name: build
    steps:
      - name: Change
        action: ExecuteBash
        inputs:
          commands:
            - mkdir -p /srv/x /var/cache/ldconfig
            - echo $SOURCE_DATE_EPOCH >/srv/x/epoch
            - cat /proc/sys/kernel/random/uuid >/var/cache/ldconfig/aux-cache
            - cat /etc/hosts >/dev/null
            - rm /etc/old
"""


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory, tiny_parent: str) -> Iterator[RunningServer]:
    """A worker without a cache, with another data directory and age."""
    folder = tmp_path_factory.mktemp("another") / "longer-name" / "data"
    with RunningServer(folder, parent=tiny_parent, settings="[builds]\ncache_mb = 0\n") as running:
        yield running.start()
        running.stop()
        assert_clean(running)


def built(forge: Forge, *ways: dict[str, str]) -> dict[str, list[str]]:
    """The digests of every recipe, built in each of the ways, one way after the other."""
    recipes = {}
    for name, (text, scripts) in RECIPES.items():
        components = [forge.component(build=script) for script in scripts]
        tags = {"imagesmith:reproducible": str(EPOCH)}
        recipes[name] = forge.recipe(*components, dockerfileTemplateData=f"{HEAD}{text}{COMPONENTS}", tags=tags)
    found: dict[str, list[str]] = {name: [] for name in recipes}
    for tags in ways:
        started = {name: forge.start(recipe, tags=tags) for name, recipe in recipes.items()}
        for name, arn in started.items():
            image = forge.finished(arn)
            if name == "caches, logs and ids" and not found[name]:
                log = forge.server.log(arn)
                assert [path for path in LEFT_OUT if f"left out: '{path}'" not in log] == []
            (uri,) = uris(image)
            found[name].append(image_digest(uri if uri.startswith("oci:") else f"docker://{uri}"))
    return found


def files_of(layout: OciLayout, digest: str) -> dict[str, tarfile.TarInfo]:
    """All entries of all layers above the parent's."""
    found = {}
    for layer in layout.read(digest).layers[1:]:
        with tarfile.open(fileobj=io.BytesIO(layout.blob(layer))) as archive:
            found.update({f"/{item.name}": item for item in archive})
    return found


def test_every_build_of_a_recipe_has_one_digest(
    forge: Forge, server: RunningServer, another: RunningServer
) -> None:
    """From the cache, without it, with components of it, and on another worker; nothing of the moment is inside."""
    cached, fresh = {"imagesmith:cache": "1h"}, {"imagesmith:no-cache": "true"}
    here, there = built(forge, fresh, cached, cached), built(another.forge, {"team": "ops"})
    assert {name: len({*here[name], *there[name]}) for name in RECIPES} == dict.fromkeys(RECIPES, 1), (here, there)
    layout = OciLayout(server.data_dir / "oci")
    for name, (digest, *_) in here.items():
        config, files = layout.config(digest), files_of(layout, digest)
        times = {config["created"], *(str(item.get("created", "")) for item in config["history"])}
        assert times <= {"2023-11-14T22:13:20Z", ""}, name
        assert max(item.mtime for item in files.values()) == EPOCH, name
    found = files_of(layout, here["caches, logs and ids"][0])
    assert [path for path in (*LEFT_OUT, "/var/log/own.log") if path in found] == []
    kept = (
        "/var/log/empty.log",
        "/var/log/README",
        "/srv/__pycache__/hashed.pyc",
        "/var/log/apt",
        "/root/.cache/pip",
    )
    assert [path for path in kept if path not in found] == []


def test_a_disk_without_a_boot_has_one_digest(forge: Forge, another: RunningServer, tmp_path: Path) -> None:
    """Its recipe says so, on any worker; the files tell neither when they were made nor when they were read."""
    parent = make_parent(tmp_path)
    digests = set()
    for each, times in ((forge, 2), (another.forge, 1)):
        recipe = {
            "components": [{"componentArn": each.component(data=DISK)}],
            "tags": {"imagesmith:reproducible": str(EPOCH), "imagesmith:no-boot": "true"},
        }
        for _ in range(times):
            arn = start(
                each, add_disk_file(each, parent), recipe=recipe,
                imageTestsConfiguration={"imageTestsEnabled": False},
            )  # fmt: skip
            (made,) = each.finished(arn)["outputResources"]["amis"]
            shown = json.loads(each.server.command("ami", "show", made["image"], "--json"))
            digests.add(shown["digest"])
    assert len(digests) == 1
    rebuilt = json.loads(another.command("image", "rebuild", made["image"], "--json"))
    assert rebuilt["reproduced"] and rebuilt["rebuilt"] in digests
    raw = tmp_path / "disk.raw"
    DiskStore(another.data_dir / "disks").export(digests.pop(), raw, "raw")
    said = subprocess.run(
        ["debugfs", "-R", "stat /srv/x/epoch", f"{raw}?offset={FIRST}"], capture_output=True, text=True, check=True
    ).stdout
    seconds = {line.split("0x")[1][:8] for line in said.splitlines() if "time: 0x" in line}
    assert seconds == {f"{EPOCH:08x}"}
    log = each.server.log(arn)
    assert "left out: '/var/cache/ldconfig/aux-cache'" in log


def test_a_clock_before_the_epoch_is_refused(forge: Forge) -> None:
    """Files of such a build would have other times than those of every later one."""
    tags = {"imagesmith:reproducible": "4000000000"}
    image = forge.build(forge.recipe(forge.component(build="true"), tags=tags), "FAILED")
    assert "which is before SOURCE_DATE_EPOCH 4000000000 (2096-10-02" in image["state"]["reason"]


def test_a_machine_that_boots_is_not_called_reproducible(forge: Forge, base: Base) -> None:
    """The request names the tag that is missing."""
    recipe = {"tags": {"imagesmith:reproducible": "true"}}
    with pytest.raises(
        ClientError, match="a machine writes other bytes at every boot: add the tag imagesmith:no-b"
    ):
        start(forge, base.ami, recipe=recipe)


def test_an_image_is_built_again_from_its_provenance_alone(forge: Forge, server: RunningServer) -> None:
    """Beside the server, without its cache and records; the agreement is signed, and nothing else is left."""
    text = (
        f"{HEAD}RUN echo $SOURCE_DATE_EPOCH >/epoch\n{COMPONENTS}RUN mkdir -p /srv/after && echo b >/srv/after/b\n"
    )
    recipe = forge.recipe(
        forge.component(build="mkdir -p /srv && echo a >/srv/a"), dockerfileTemplateData=text,
        tags={"imagesmith:reproducible": "true"},
    )  # fmt: skip
    image = forge.build(recipe)
    found = json.loads(server.command("image", "rebuild", image["arn"], "--json"))
    assert found["reproduced"] and found["original"] == found["rebuilt"] and found["differences"] == []
    layout = OciLayout(server.data_dir / "oci")
    (kept,) = attached(layout, found["original"], KIND)
    payload, key = open_envelope(kept.document.data, (SigningKey.open(server.data_dir).public,))
    stated = json.loads(payload)
    assert stated["predicate"]["result"] == "PASSED" and found["attestedBy"] == key
    assert stated["subject"][0]["digest"] == {"sha256": found["original"].removeprefix("sha256:")}
    assert list((server.data_dir / "rebuilds").iterdir()) == []


def test_what_a_rebuild_makes_differently_is_named(forge: Forge, server: RunningServer) -> None:
    """The file, and in what it differs; nothing is attested, and the status is 1."""
    text = f"{HEAD}RUN echo same >/same && {DRAW} >/drawn\n{COMPONENTS}"
    image = forge.build(
        forge.recipe(
            forge.component(build="true"), dockerfileTemplateData=text, tags={"imagesmith:reproducible": "1"}
        )
    )
    said = server.command("image", "rebuild", image["arn"], status=1)
    assert "layer 2: '/drawn': sha256 " in said and "'/same'" not in said
    assert "is not reproduced: the second build is sha256:" in said and "attested" not in said
    (digest,) = [line.split()[1] for line in said.splitlines() if line.startswith("original")]
    assert attached(OciLayout(server.data_dir / "oci"), digest, KIND) == ()


def test_other_images_are_not_built_again(forge: Forge, server: RunningServer) -> None:
    """One whose build was not reproducible, and one that is not here."""
    image = forge.build(forge.recipe(forge.component(build="true")))
    said = server.command("image", "rebuild", image["arn"], status=1)
    assert "only a reproducible build can be built again" in said
    said = server.command("image", "rebuild", "nothing/1.0.0", status=1)
    assert "there is no image of this name here" in said
