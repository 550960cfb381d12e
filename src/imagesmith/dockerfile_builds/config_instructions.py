"""What instructions write into the configuration of an image. Pure.

Every function takes an instruction with its variables replaced; what only a build can tell (whether a user exists)
is not looked at.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from imagesmith.dockerfile_builds.image_config import ImageConfig
from imagesmith.dockerfiles.model import (
    CmdInstruction,
    CommandLine,
    EntrypointInstruction,
    EnvInstruction,
    ExposeInstruction,
    HealthcheckInstruction,
    LabelInstruction,
    MaintainerInstruction,
    OnbuildInstruction,
    Pair,
    ShellInstruction,
    StopsignalInstruction,
    UserInstruction,
    VolumeInstruction,
    WorkdirInstruction,
)
from imagesmith.dockerfiles.ports import exposed_ports
from imagesmith.dockerfiles.stages import ResolvedInstruction


def apply(config: ImageConfig, resolved: ResolvedInstruction) -> ImageConfig:
    """The configuration behind an instruction; unchanged by those that write files only."""
    change = _CHANGES.get(type(resolved.instruction))
    return change(config, resolved, resolved.instruction) if change else config


def command_words(config: ImageConfig, command: CommandLine) -> tuple[str, ...]:
    """The words that are executed: as they are, or those of the shell with the text behind them."""
    words = tuple(item.text for item in command.words)
    return words if command.is_exec else (*config.command_shell, *words) if words else ()


def working_folder(config: ImageConfig, path: str) -> str:
    """The folder that WORKDIR names, from the one before it."""
    return posixpath.normpath(posixpath.join("/", config.working_dir, path)).replace("//", "/")


def pairs_of(resolved: ResolvedInstruction, pairs: tuple[Pair, ...]) -> dict[str, str]:
    return {resolved.text(pair.key).text: resolved.text(pair.value).text for pair in pairs}


def _env(config: ImageConfig, resolved: ResolvedInstruction, item: EnvInstruction) -> ImageConfig:
    return replace(config, env={**config.env, **pairs_of(resolved, item.pairs)})


def _label(config: ImageConfig, resolved: ResolvedInstruction, item: LabelInstruction) -> ImageConfig:
    return replace(config, labels={**config.labels, **pairs_of(resolved, item.pairs)})


def _user(config: ImageConfig, resolved: ResolvedInstruction, item: UserInstruction) -> ImageConfig:
    return replace(config, user=resolved.text(item.user).text)


def _workdir(config: ImageConfig, resolved: ResolvedInstruction, item: WorkdirInstruction) -> ImageConfig:
    return replace(config, working_dir=working_folder(config, resolved.text(item.path).text))


def _volume(config: ImageConfig, resolved: ResolvedInstruction, item: VolumeInstruction) -> ImageConfig:
    paths = (resolved.text(token).text for token in item.paths)
    return replace(config, volumes=tuple(dict.fromkeys((*config.volumes, *paths))))


def _expose(config: ImageConfig, resolved: ResolvedInstruction, item: ExposeInstruction) -> ImageConfig:
    found = [port for token in item.ports for word in resolved.words(token) for port in exposed_ports(word)]
    return replace(config, ports=tuple(dict.fromkeys((*config.ports, *found))))


def _cmd(config: ImageConfig, _resolved: ResolvedInstruction, item: CmdInstruction) -> ImageConfig:
    return replace(config, cmd=command_words(config, item.command), has_own_cmd=True)


def _entrypoint(config: ImageConfig, _resolved: ResolvedInstruction, item: EntrypointInstruction) -> ImageConfig:
    cmd = config.cmd if config.has_own_cmd else None
    return replace(config, entrypoint=command_words(config, item.command), cmd=cmd)


def _health_check(config: ImageConfig, _resolved: ResolvedInstruction, item: HealthcheckInstruction) -> ImageConfig:
    if item.command is None:
        return replace(config, health_check={"Test": ["NONE"]})
    words = [word.text for word in item.command.words]
    test = ["CMD", *words] if item.command.is_exec else ["CMD-SHELL", *words]
    members: dict[str, Any] = {
        "Test": test, "Interval": item.interval, "Timeout": item.timeout, "StartPeriod": item.start_period,
        "StartInterval": item.start_interval, "Retries": item.retries,
    }  # fmt: skip
    return replace(config, health_check={name: value for name, value in members.items() if value})


def _stop_signal(config: ImageConfig, resolved: ResolvedInstruction, item: StopsignalInstruction) -> ImageConfig:
    return replace(config, stop_signal=resolved.text(item.signal).text)


def _shell(config: ImageConfig, _resolved: ResolvedInstruction, item: ShellInstruction) -> ImageConfig:
    return replace(config, shell=tuple(word.text for word in item.words))


def _trigger(config: ImageConfig, _resolved: ResolvedInstruction, item: OnbuildInstruction) -> ImageConfig:
    return replace(config, triggers=(*config.triggers, item.text))


def _maintainer(config: ImageConfig, _resolved: ResolvedInstruction, item: MaintainerInstruction) -> ImageConfig:
    return replace(config, author=item.maintainer.text)


_CHANGES: Final[dict[type, Callable[[ImageConfig, ResolvedInstruction, Any], ImageConfig]]] = {
    EnvInstruction: _env,
    LabelInstruction: _label,
    UserInstruction: _user,
    WorkdirInstruction: _workdir,
    VolumeInstruction: _volume,
    ExposeInstruction: _expose,
    CmdInstruction: _cmd,
    EntrypointInstruction: _entrypoint,
    HealthcheckInstruction: _health_check,
    StopsignalInstruction: _stop_signal,
    ShellInstruction: _shell,
    OnbuildInstruction: _trigger,
    MaintainerInstruction: _maintainer,
}
