"""kill -9 of the server in an instruction of every kind: the build goes on and ends well, and nothing is left."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from testing.crash_support import Tally, die_and_come_back, find_below, freeze_at, nothing
from testing.leaks import assert_clean
from testing.pipeline_support import HOLD, Forge, RunningServer, eventually, held, image_digest, release, uris

pytestmark = pytest.mark.tool

PARENT = "FROM {{{ imagebuilder:parentImage }}}"
ENVIRONMENTS = "{{{ imagebuilder:environments }}}\n"
COMPONENTS = "{{{ imagebuilder:components }}}\n"
STAGE = f"{PARENT} AS one\nRUN mkdir /k && echo 1 > /k/a\n"
BEFORE = "build | the server stopped during LaunchBuildInstance; attempt 2 begins"
BEHIND = "build | the server stopped at the end of the build; attempt 2 begins"

RUNS = {
    "RUN": (f"{PARENT}\n{ENVIRONMENTS}RUN {{hold}}\n{COMPONENTS}", BEFORE),
    "RUN behind the components": (f"{PARENT}\n{ENVIRONMENTS}{COMPONENTS}RUN {{hold}}\n", BEHIND),
    "RUN with mounts": (
        f"{STAGE}{PARENT}\n{ENVIRONMENTS}RUN --mount=from=one,target=/m,rw --mount=type=cache,target=/c "
        f"--mount=type=tmpfs,target=/t --network=none touch /m/x /c/x /t/x && {{hold}}\n{COMPONENTS}",
        BEFORE,
    ),
    "RUN of a stage behind the components": (
        f"{STAGE}RUN {{hold}}\n{PARENT}\n{ENVIRONMENTS}COPY --from=one /k /k\n{COMPONENTS}",
        BEFORE,
    ),
    "RUN as a user": (f"{PARENT}\n{ENVIRONMENTS}USER nobody\nRUN {{hold}}\nUSER root\n{COMPONENTS}", BEFORE),
}
"""(template, what the log says): a command waits in it."""

COPIER = ("/", "copying/program/start.py")

TOOLS = {
    "COPY": (
        f"{STAGE}{PARENT}\n{ENVIRONMENTS}COPY --from=one /k /k\n{COMPONENTS}", BEFORE, COPIER,
    ),
    "ADD": (
        f"{PARENT}\n{ENVIRONMENTS}{COMPONENTS}ADD <<EOF /f\nx\nEOF\n", BEHIND, COPIER,
    ),
}  # fmt: skip
"""(template, what the log says, the process during which the server dies)."""

LARGE = "RUN head -c 50000000 /dev/urandom > /large\n"
PLACES = {
    "FROM of a stage": (
        f"{STAGE}{LARGE}FROM one\n{ENVIRONMENTS}RUN true\n{COMPONENTS}", BEFORE, "containers/tmp/*/blob",
    ),
    "WORKDIR": (f"{PARENT}\n{ENVIRONMENTS}WORKDIR /w\n{COMPONENTS}", BEFORE, "containers/roots/*before-stage0"),
    "an entry of the cache": (
        f"{PARENT}\n{ENVIRONMENTS}RUN echo >/f\n{COMPONENTS}", BEFORE, "containers/cache/*.json*",
    ),
    "ENV": (f"{PARENT}\n{ENVIRONMENTS}ENV A=1\n{COMPONENTS}", BEFORE, "containers/images/*/config"),
}  # fmt: skip
"""(template, what the log says, the path in the data directory whose writer is stopped)."""


def start(forge: Forge, template: str) -> str:
    """A build that carries all its instructions out, whatever earlier ones have made."""
    component = forge.component(build="true")
    recipe = forge.recipe(component, dockerfileTemplateData=template)
    return forge.start(recipe, tags={"imagesmith:no-cache": "true"})


def goes_on(server: RunningServer, arn: str, said: str, let_go: Callable[[], None]) -> None:
    """The build ends AVAILABLE once after the death of the server, with what was pushed."""
    die_and_come_back(server)
    let_go()
    image = server.forge.finished(arn)
    log = server.log(arn)
    again = [line.partition(" ")[2] for line in log.splitlines() if "the server stopped " in line]
    assert again == [said] and log.count("end | AVAILABLE") == 1, log
    assert image_digest(f"docker://{uris(image)[0]}")
    assert_clean(server)


@pytest.mark.parametrize("kind", RUNS)
def test_a_build_survives_a_kill_in_a_run(server: RunningServer, tally: Tally, kind: str) -> None:
    """Before and behind the components, with mounts, as a user; no process, mount or group of it is left."""
    template, said = RUNS[kind]
    name = server.forge.name("instruction")
    arn = start(server.forge, template.replace("{hold}", HOLD.format(name=name)))
    held(name)
    goes_on(server, arn, said, lambda: release(name))
    tally(1, f"was killed in {kind}")


@pytest.mark.parametrize("kind", TOOLS)
def test_a_build_survives_a_kill_in_what_works_for_an_instruction(
    server: RunningServer, tally: Tally, kind: str
) -> None:
    """In the middle of copying."""
    template, said, needles = TOOLS[kind]
    arn = start(server.forge, template)
    # not stopped: nsenter would stop with it, outside of the namespaces that end with the server
    eventually(lambda: find_below(server, *needles), f"a process {needles}", seconds=60, pause=0.005)
    goes_on(server, arn, said, nothing)
    tally(1, f"was killed in {kind}")


@pytest.mark.parametrize("kind", PLACES)
def test_a_build_survives_a_kill_in_what_the_server_does_for_an_instruction(
    server: RunningServer, tally: Tally, kind: str
) -> None:
    """In the middle of a commit, of making a container or an image."""
    template, said, pattern = PLACES[kind]
    arn = start(server.forge, template)
    freeze_at(server, pattern)
    goes_on(server, arn, said, nothing)
    tally(1, f"was killed in {kind}")
