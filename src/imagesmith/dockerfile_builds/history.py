"""The history of an image as Docker writes it: an entry for each instruction, one of them for each layer. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from imagesmith.dockerfile_builds.config_instructions import command_words, pairs_of, working_folder
from imagesmith.dockerfile_builds.image_config import ImageConfig
from imagesmith.dockerfiles.model import (
    ArgInstruction,
    CmdInstruction,
    EntrypointInstruction,
    EnvInstruction,
    FilesInstruction,
    HealthcheckInstruction,
    LabelInstruction,
    RunInstruction,
    ShellInstruction,
    WorkdirInstruction,
)
from imagesmith.dockerfiles.stages import ResolvedInstruction

_BUILDER: Final = "imagesmith.dockerfile"
_MARK: Final = " # imagesmith"
_LONGEST: Final = 64 * 1024
_MOST_TEXT: Final = 1024 * 1024
"""Characters of all entries of a layer; beyond it they are cut: tools read configurations of 4 MiB."""
_CUT: Final = 80


@dataclass(frozen=True)
class HistoryEntry:
    """One instruction; `writes_files`: its files are in the layer that follows the entry before it."""

    created_by: str
    created: datetime
    writes_files: bool = False


def history_entries(entries: Sequence[HistoryEntry], *, has_layer: bool) -> list[dict[str, Any]]:
    """The entries of one layer, or of none: the last entry that writes files has the layer."""
    last = max((index for index, entry in enumerate(entries) if entry.writes_files), default=len(entries) - 1)
    found = []
    room = _MOST_TEXT
    for index, entry in enumerate(entries):
        text = entry.created_by[: _LONGEST if room > _LONGEST else _CUT]
        room -= len(text)
        written: dict[str, Any] = {
            "created": entry.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "created_by": text,
            "comment": _BUILDER,
        }
        found.append(written if has_layer and index == last else {**written, "empty_layer": True})
    return found


def created_by(resolved: ResolvedInstruction, config: ImageConfig, arguments: Mapping[str, str]) -> str:
    """The text of an entry; `config` is that before the instruction, `arguments` are the ARGs that it sees."""
    item = resolved.instruction
    if isinstance(item, RunInstruction):
        given = "".join(f"{name}={value} " for name, value in arguments.items())
        prefix = f"|{len(arguments)} {given}" if arguments else ""
        documents = "".join(f"\n{part.content}{part.delimiter}" for part in item.command.heredocs)
        return f"RUN {prefix}{' '.join(command_words(config, item.command))}{documents}{_MARK}"
    if isinstance(item, FilesInstruction):
        names = [resolved.text(token).text for token in item.sources]
        names += [part.word.text for part in item.heredocs]
        return f"{item.name} {' '.join([*names, resolved.text(item.destination).text])}{_MARK}"
    if isinstance(item, (EnvInstruction, LabelInstruction)):
        pairs = pairs_of(resolved, item.pairs)
        return f"{item.name} {' '.join(f'{name}={value}' for name, value in pairs.items())}"
    if isinstance(item, ArgInstruction):
        return f"ARG {' '.join(_argument(resolved, part) for part in item.declarations)}"
    if isinstance(item, WorkdirInstruction):
        return f"WORKDIR {working_folder(config, resolved.text(item.path).text)}"
    return _configuration_text(resolved, config)


def _configuration_text(resolved: ResolvedInstruction, config: ImageConfig) -> str:
    item = resolved.instruction
    if isinstance(item, (CmdInstruction, EntrypointInstruction)):
        return f"{item.name} {_go_list(command_words(config, item.command))}"
    if isinstance(item, ShellInstruction):
        return f"SHELL {_go_list([word.text for word in item.words])}"
    if isinstance(item, HealthcheckInstruction):
        # with its flags, which the rest of its command lacks
        return f"HEALTHCHECK {' '.join(item.source.line.text.split()[1:])}"
    rest = item.source.command.rest.text
    texts = [found.text for token, found in resolved.texts.items()]
    return f"{item.name} {' '.join(texts) if texts else rest}"


def _argument(resolved: ResolvedInstruction, part: Any) -> str:
    name = resolved.text(part.name).text
    return name if part.default is None else f"{name}={resolved.text(part.default).text}"


def _go_list(words: Sequence[str]) -> str:
    return "[" + " ".join('"' + word.replace('"', '\\"') + '"' for word in words) + "]"
