"""Builds 40 recipes three times each and compares the digests: from nothing, from the cache, on another worker.

    .venv/bin/python benchmarks/reproduce.py [--short] [--only WORD]

fresh     a server, without results of earlier builds (the tag imagesmith:no-cache)
cached    the same server again: instructions and components come from the cache
another   a server with another data directory and no cache; where Debian's `faketime` is installed, its clock is 40
          days ahead
All three start from the same parents: a small system, a Debian that the first server bootstraps, a disk.
Prints a line for each recipe that differs, with the files in which it does (and diffoscope's text where that is
installed), and the number of recipes with one digest. Status 1 unless all have. --short: a handful of them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from imagesmith.artifacts.disk_differences import disk_differences
from imagesmith.artifacts.disks import DiskStore
from imagesmith.artifacts.image_differences import LayoutImage, image_differences
from imagesmith.artifacts.layout import OciLayout
from imagesmith.store import amis
from imagesmith.store.database import Database
from reproduce_recipes import COMPONENTS, CONTAINERS, DISKS, HEAD, SHORT, Recipe
from testing.machine_images import add_disk_file, start
from testing.machine_parents import make_parent
from testing.pipeline_support import REGION, Forge, RunningServer, tiny_layout, uris

EPOCH = 1_700_000_000
REPRODUCIBLE = {"imagesmith:reproducible": str(EPOCH)}
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
DEBIAN = f"arn:aws:imagebuilder:{REGION}:aws:image/debian-x86-12/x.x.x"
_AT_ONCE = 4
_MOST_LINES = 20
_SECONDS = 900.0


@dataclass(frozen=True)
class Built:
    """One image: where it is, and its digest."""

    server: RunningServer
    digest: str


@dataclass(frozen=True)
class Parents:
    """The parents by their names, as texts for recipes; the disk is a file."""

    references: Mapping[str, str]
    disk: Path


def debian_parent(server: RunningServer) -> str:
    """Bootstrap the Debian base on a server, and return the reference of a build on it, which others can use."""
    forge = server.forge
    recipe = forge.recipe(forge.component(build="true"), parentImage=DEBIAN)
    # with the bootstrap of the base, which may take minutes
    return uris(forge.finished(forge.start(recipe, tags=REPRODUCIBLE), seconds=_SECONDS))[0]


def create(forge: Forge, recipe: Recipe, parents: Parents) -> str:
    """The ARN of a container recipe, or of an image recipe's parent for a disk."""
    components = [
        forge.component(data=script) if script.startswith("name:") else forge.component(build=script)
        for script in recipe.scripts
    ]
    text = f"{HEAD}{recipe.text}{COMPONENTS}{recipe.after}"
    return forge.recipe(*components, dockerfileTemplateData=text, parentImage=parents.references[recipe.parent])


def start_disk(forge: Forge, recipe: Recipe, parents: Parents) -> str:
    components = [
        {
            "componentArn": forge.component(data=script)
            if script.startswith("name:")
            else forge.component(build=script)
        }
        for script in recipe.scripts
    ]
    return start(
        forge, add_disk_file(forge, parents.disk), recipe={"components": components},
        tags={**REPRODUCIBLE, "imagesmith:no-boot": "true"}, imageTestsConfiguration={"imageTestsEnabled": False},
    )  # fmt: skip


def digest_of(server: RunningServer, arn: str) -> str:
    database = Database(f"sqlite:///{server.data_dir / 'imagesmith.sqlite'}")
    try:
        found = database.query(lambda tx: amis.list_amis(tx, image_arn=arn))
    finally:
        database.close()
    if found:
        return found[0].digest
    uri = uris(server.forge.image(arn))[0].split(":", 2)[2]
    return OciLayout(server.data_dir / "oci").references()[uri]


def built(
    server: RunningServer, recipes: Mapping[str, Recipe], parents: Parents, tags: Mapping[str, str],
    arns: dict[str, str],
) -> dict[str, Built]:  # fmt: skip
    """Build all recipes, some at a time; `arns` keeps the recipes of containers for the next way."""
    forge, running, found = server.forge, dict[str, str](), dict[str, Built]()
    waiting = list(recipes.items())
    while waiting or running:
        while waiting and len(running) < _AT_ONCE:
            name, recipe = waiting.pop(0)
            if recipe.parent == "disk":
                running[name] = start_disk(forge, recipe, parents)
                continue
            if name not in arns:
                arns[name] = create(forge, recipe, parents)
            running[name] = forge.start(arns[name], tags={**REPRODUCIBLE, **tags})
        name = next(iter(running))
        arn = running.pop(name)
        forge.finished(arn, seconds=_SECONDS)
        found[name] = Built(server, digest_of(server, arn))
    return found


def differences(one: Built, two: Built, *, disk: bool) -> Iterator[str]:
    if disk:
        stores = [DiskStore(side.server.data_dir / "disks").get(side.digest).path for side in (one, two)]
        yield from disk_differences(*stores)
        return
    images = [LayoutImage(OciLayout(side.server.data_dir / "oci"), side.digest) for side in (one, two)]
    yield from image_differences(*images)
    tool = shutil.which("diffoscope")
    for pair in zip(*(image.layout.read(image.digest).layers for image in images), strict=False):
        if tool and pair[0] != pair[1]:
            places = [str(image.layout.files.path_of(digest)) for image, digest in zip(images, pair, strict=True)]
            argv = [tool, "--text", "-", *places]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
            yield from done.stdout.splitlines()[:_MOST_LINES]


def report(name: str, ways: Mapping[str, Built]) -> bool:
    """Print how the ways of one recipe differ; returns whether they do not."""
    first, *others = ways
    for other in others:
        if ways[other].digest == ways[first].digest:
            continue
        print(f"{name}: {first} {ways[first].digest}, {other} {ways[other].digest}")
        lines = list(differences(ways[first], ways[other], disk=name.startswith("disk:")))
        for line in lines[:_MOST_LINES]:
            print(f"    {line}")
    return len({way.digest for way in ways.values()}) == 1


def run_all(work: Path, recipes: Mapping[str, Recipe], stack: ExitStack) -> dict[str, dict[str, Built]]:
    """The three ways of every recipe."""
    tiny = tiny_layout(work / "layouts" / "tiny")
    folders = f'local_image_folders = ["{work}"]\n'
    first = stack.enter_context(RunningServer(work / "one" / "data", parent=tiny))
    settings = first.data_dir / "settings.toml"
    settings.write_text(f'region = "{REGION}"\n{folders}')
    first.start()
    stack.callback(first.stop)
    needs_debian = any(recipe.parent == "debian" for recipe in recipes.values())
    (work / "disk").mkdir()
    parents = Parents(
        {"tiny": tiny, "debian": debian_parent(first) if needs_debian else ""}, make_parent(work / "disk")
    )
    arns: dict[str, str] = {}
    ways = {
        "fresh": built(first, recipes, parents, {"imagesmith:no-cache": "true"}, arns),
        "cached": built(first, recipes, parents, {"imagesmith:cache": "7d"}, arns),
    }
    another = stack.enter_context(RunningServer(work / "two-with-a-longer-name" / "data", parent=tiny))
    auth = 'auth = "none"\n' if FAKETIME.exists() else ""
    (another.data_dir / "settings.toml").write_text(f'region = "{REGION}"\n{folders}{auth}[builds]\ncache_mb = 0\n')
    if FAKETIME.exists():
        os.environ.update({"LD_PRELOAD": str(FAKETIME), "FAKETIME": "+40d", "DONT_FAKE_MONOTONIC": "1"})
    try:
        another.start()
    finally:
        for name in ("LD_PRELOAD", "FAKETIME", "DONT_FAKE_MONOTONIC"):
            os.environ.pop(name, None)
    stack.callback(another.stop)
    ways["another"] = built(another, recipes, parents, {}, {})
    return {name: {way: images[name] for way, images in ways.items()} for name in recipes}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a handful of the recipes")
    parser.add_argument("--only", default="", help="only recipes with this word in their names")
    options = parser.parse_args()
    every = {**CONTAINERS, **DISKS}
    recipes = {
        name: recipe for name, recipe in every.items()
        if options.only in name and (not options.short or name in SHORT)
    }  # fmt: skip
    started = time.monotonic()
    print(f"the clock of the other worker is {'40 days ahead' if FAKETIME.exists() else 'that of this machine'}")
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imagesmith-reproduce-")))
        found = run_all(work, recipes, stack)
        equal = sum([report(name, ways) for name, ways in found.items()])
    print(f"{equal} of {len(recipes)} recipes have one digest ({time.monotonic() - started:.0f} s)")
    return int(equal != len(recipes))


if __name__ == "__main__":
    sys.exit(main())
