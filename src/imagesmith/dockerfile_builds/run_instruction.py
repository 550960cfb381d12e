"""Carries out a RUN: one command in the instance of its stage, with the rights of a component."""

from __future__ import annotations

import re
from typing import Final

from imagesmith.dockerfile_builds.config_instructions import command_words
from imagesmith.dockerfile_builds.failures import DockerfileFailed, explain_run
from imagesmith.dockerfile_builds.image_config import ImageConfig
from imagesmith.dockerfile_builds.run_mounts import RootOf, run_mounts
from imagesmith.dockerfile_builds.stage_build import StageBuild, arguments_of
from imagesmith.dockerfiles.model import Heredoc, RunInstruction
from imagesmith.dockerfiles.stages import ResolvedInstruction
from imagesmith.instances.command import Command, CommandMount, MemoryFolder
from imagesmith.instances.container import DEFAULT_PATH
from imagesmith.instances.mount_targets import make_folders

_SCRIPTS: Final = "/dev/pipes"
"""Where a here-document that is a program lies, as in Docker."""
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z")


def carry_out_run(stage: StageBuild, resolved: ResolvedInstruction, run: RunInstruction, root_of: RootOf) -> None:
    """Raises DockerfileFailed, InstanceError, Cancelled."""
    config, context = stage.config, stage.context
    user = stage.find_user(config.user)
    folder = config.working_dir or "/"
    make_folders(stage.instance.root, folder, uid=user.identity.uid, gid=user.identity.gid, ids=stage.instance.ids)
    words, script = run_words(config, run)
    epoch = {} if context.rules is None else {"SOURCE_DATE_EPOCH": str(context.rules.epoch)}
    variables = {"PATH": DEFAULT_PATH, "HOME": user.home, **epoch, **arguments_of(resolved), **config.env}
    # it makes /dev and /proc where the image has none: as targets of mounts they would be removed below it
    stage.instance.wake()
    with run_mounts(stage, resolved, run, root_of) as mounts:
        own: list[CommandMount] = [MemoryFolder("/dev/shm"), *([script] if script else [])]  # noqa: S108 - inside
        command = Command(
            words, env=variables, cwd=folder, timeout=context.seconds_left, user=user.identity,
            mounts=[*own, *mounts], network="none" if run.network and run.network.text == "none" else "outbound",
            alone=True,
        )  # fmt: skip
        before = stage.instance.memory_kills
        done = stage.instance.run(command, context.on_output)
    kills = stage.instance.memory_kills - before
    failure = explain_run(done, context.timeout, context.limits, memory_kills=kills)
    if failure:
        raise DockerfileFailed(failure)


def run_words(config: ImageConfig, run: RunInstruction) -> tuple[tuple[str, ...], MemoryFolder | None]:
    """The words that a RUN executes, and the folder of the program that it is, if its here-document is one."""
    documents = run.command.heredocs
    if run.command.is_exec or not documents:
        return command_words(config, run.command), None
    text = run.command.words[0].text
    if len(documents) > 1 or text.strip() != documents[0].word.text:
        # a shell reads the documents of its commands itself
        return (
            *config.command_shell,
            text + "".join(f"\n{item.content}{item.delimiter}" for item in documents),
        ), None
    content = documents[0].body
    if not content.startswith("#!"):
        return (*config.command_shell, content), None
    name = _script_name(documents[0])
    return (*config.command_shell, f"{_SCRIPTS}/{name}"), MemoryFolder(_SCRIPTS, files={name: content})


def _script_name(document: Heredoc) -> str:
    return document.delimiter if _PLAIN_NAME.match(document.delimiter) else "script"
