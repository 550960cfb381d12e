"""The configuration of an image while its instructions are carried out, from its document and back. Pure.

The document is OCI's. What OCI has no member for (Healthcheck, Shell, OnBuild, StopTimeout) is written as Docker
reads it, in the same place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from imagesmith.artifacts.plain_images import OddConfiguration

DEFAULT_SHELL: Final = ("/bin/sh", "-c")
_MOST_MEMBERS: Final = 100_000
_PLATFORM: Final = ("architecture", "os", "variant", "os.version", "os.features")


@dataclass(frozen=True)
class ImageConfig:
    """What containers of the image start with; tuples and mappings keep the order of the document."""

    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    working_dir: str = ""
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    has_own_cmd: bool = False
    """A CMD of this stage set it: an ENTRYPOINT removes that of the parent only."""
    labels: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    stop_signal: str = ""
    health_check: Mapping[str, Any] | None = None
    shell: tuple[str, ...] = ()
    """Empty: the default one."""
    triggers: tuple[str, ...] = ()
    stop_timeout: int = 0
    author: str = ""
    platform: Mapping[str, Any] = field(default_factory=dict)

    @property
    def command_shell(self) -> tuple[str, ...]:
        """The shell of commands that are written as text."""
        return self.shell or DEFAULT_SHELL

    def members(self) -> dict[str, Any]:
        """The member `config` of the document."""
        found: dict[str, Any] = {
            "User": self.user,
            "ExposedPorts": {port: {} for port in self.ports},
            "Env": [f"{name}={value}" for name, value in self.env.items()],
            "Entrypoint": list(self.entrypoint or ()),
            "Cmd": list(self.cmd or ()),
            "Volumes": {path: {} for path in self.volumes},
            "WorkingDir": self.working_dir,
            "Labels": dict(self.labels),
            "StopSignal": self.stop_signal,
            "Healthcheck": self.health_check,
            "Shell": list(self.shell),
            "OnBuild": list(self.triggers),
            "StopTimeout": self.stop_timeout,
        }
        return {name: value for name, value in found.items() if value}


def read_config(document: Mapping[str, Any]) -> ImageConfig:
    """The configuration in an image's document. Raises OddConfiguration."""
    inner = document.get("config") or {}
    if not isinstance(inner, dict):
        raise OddConfiguration("its member 'config' is not an object")
    reader = _MemberReader(inner)
    variables = [item.partition("=")[::2] for item in reader.texts("Env") or ()]
    return ImageConfig(
        env={name: value for name, value in variables if name},
        user=reader.text("User"),
        working_dir=reader.text("WorkingDir"),
        entrypoint=reader.texts("Entrypoint"),
        cmd=reader.texts("Cmd"),
        labels=reader.labels(),
        volumes=reader.names("Volumes"),
        ports=reader.names("ExposedPorts"),
        stop_signal=reader.text("StopSignal"),
        health_check=reader.object("Healthcheck"),
        shell=reader.texts("Shell") or (),
        triggers=reader.texts("OnBuild") or (),
        stop_timeout=reader.number("StopTimeout"),
        author=str(document.get("author") or ""),
        platform={name: document[name] for name in _PLATFORM if document.get(name)},
    )


class _MemberReader:
    """Reads members by the names of the specification, in any case as Docker does."""

    def __init__(self, members: Mapping[str, Any]) -> None:
        self._members = {name.lower(): value for name, value in members.items()}

    def text(self, name: str) -> str:
        value = self._of(name, str)
        return value or ""

    def number(self, name: str) -> int:
        return int(self._of(name, int) or 0)

    def texts(self, name: str) -> tuple[str, ...] | None:
        value: Sequence[Any] | None = self._of(name, list)
        if value is None:
            return None
        if not all(isinstance(item, str) for item in value) or len(value) > _MOST_MEMBERS:
            raise OddConfiguration(f"its member '{name}' is not a list of strings")
        return tuple(value)

    def names(self, name: str) -> tuple[str, ...]:
        return tuple(self.object(name) or ())

    def labels(self) -> dict[str, str]:
        return {name: str(value) for name, value in (self.object("Labels") or {}).items()}

    def object(self, name: str) -> Mapping[str, Any] | None:
        value: Mapping[str, Any] | None = self._of(name, dict)
        return value

    def _of(self, name: str, kind: type) -> Any:
        value = self._members.get(name.lower())
        if value is not None and not isinstance(value, kind):
            raise OddConfiguration(f"its member '{name}' is of another kind")
        return value
