"""kill -9 of a server at any moment of whole builds, again and again.

python -m testing.random_kills KILLS          prints one JSON document

start builds --moment--> kill -9 --everything it ran ends--> start --> the same builds and new ones go on
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from imagesmith.artifacts.layout import OciLayout
from imagesmith.values.states import FINAL_IMAGE
from testing.leaks import assert_clean, running_below
from testing.pipeline_support import Forge, RunningServer, eventually, tiny_layout
from testing.workflow_support import TEST, TEST_LAUNCH, run_with, shell, workflow

_AT_ONCE = 2
_LONGEST_SECONDS = 8.0
_END_SECONDS = 300.0


def kill_at_random(server: RunningServer, kills: int, *, rng: random.Random) -> list[str]:
    """Kill a running server so often; returns the builds, which are over and have left nothing.

    Each is AVAILABLE, once and whole, or FAILED because its server died three times in one stage.
    """
    builds: list[str] = []
    for _ in range(kills):
        forge = server.forge
        open_builds = [arn for arn in builds if forge.state(arn) not in FINAL_IMAGE]
        builds += [_build(forge, rng) for _ in range(_AT_ONCE - len(open_builds))]
        time.sleep(rng.uniform(0, _LONGEST_SECONDS))
        server.kill()
        eventually(lambda: not running_below(server), "everything ends with the server", seconds=20)
        server.start()
    layout = OciLayout(server.data_dir / "oci")
    for arn in builds:
        state = eventually(partial(_ended, server, arn), f"{arn} ends", seconds=_END_SECONDS, pause=0.2)
        if state["status"] == "FAILED":
            assert "the server died 3 times" in state["reason"], server.log(arn)
            continue
        assert state["status"] == "AVAILABLE" and server.log(arn).count("end | AVAILABLE") == 1
        digest = json.loads(server.command("image", "show", arn, "--json"))["build"]["digest"]
        layout.make_whole(digest)
    assert_clean(server)
    return builds


def _ended(server: RunningServer, arn: str) -> dict[str, str] | None:
    """The state of a build that is over."""
    state: dict[str, str] = server.forge.image(arn)["state"]
    return state if state["status"] in FINAL_IMAGE else None


def _build(forge: Forge, rng: random.Random) -> str:
    """A build of one of several kinds, each with a bit of work in every stage."""
    work = "head -c 3000000 /dev/urandom > /random; (sleep 60 &) ; echo built"
    component = forge.component(build=work, validate="test -e /random", test="test -e /random")
    template = "FROM {{{ imagebuilder:parentImage }}}\nRUN echo one > /one\n{{{ imagebuilder:environments }}}\n"
    template += "{{{ imagebuilder:components }}}\nRUN rm /one\n"
    kind = rng.randrange(3)
    if kind == 0:
        return forge.start(forge.recipe(component))
    if kind == 1:
        return forge.start(forge.recipe(component, dockerfileTemplateData=template))
    tests = [workflow(forge, "TEST", TEST + TEST_LAUNCH + shell("Work", f"sleep 0.{number}")) for number in (1, 2)]
    entries = [{"workflowArn": arn, "parallelGroup": "g"} for arn in tests]
    return run_with(forge, *entries, recipe=forge.recipe(component))


def main() -> None:
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
    folder.chmod(0o755)
    parent = tiny_layout(folder / "layouts" / "tiny")
    started = time.monotonic()
    with RunningServer(folder / "data", parent=parent) as server:
        server.start_seconds = 180
        server.start()
        builds = kill_at_random(server, int(sys.argv[1]), rng=random.Random(15))
        server.stop()
        assert_clean(server)
    seconds = round(time.monotonic() - started)
    print(json.dumps({"kills": int(sys.argv[1]), "builds": len(builds), "left": [], "seconds": seconds}))


if __name__ == "__main__":
    main()
