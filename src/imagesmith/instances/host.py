"""This computer as an instance: for `imagesmith component run --on host` and for tests.

Commands run with the rights of this process, in its file system. Nothing is isolated, so nothing can be restored
either: checkpoints and reboots are refused.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from imagesmith.instances.command import Command
from imagesmith.instances.protocol import CannotReboot, InstanceError, Snapshot
from imagesmith.processes import Cancellation, Completed, OnOutput, host_environment, run


class HostInstance:
    """Runs commands on this computer, in `directory` unless a command names another folder."""

    def __init__(
        self,
        directory: Path,
        *,
        environment: Mapping[str, str] | None = None,
        cancellation: Cancellation | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        """`environment` is the whole environment (None: that of a host tool); `prefix` is put before every argv."""
        self._directory = directory
        self._environment = dict(host_environment() if environment is None else environment)
        self._cancellation = cancellation
        self._prefix = tuple(prefix)

    @property
    def kind(self) -> str:
        return "host"

    @property
    def environment(self) -> Mapping[str, str]:
        return self._environment

    def run(self, command: Command, on_output: OnOutput | None = None) -> Completed:
        if command.needs_container:
            raise InstanceError("this computer runs no command as another user, with mounts or without a network")
        directory = self._directory if command.cwd is None else self._directory / command.cwd
        if not directory.is_dir():
            raise InstanceError(f"the working directory {directory} does not exist")
        return run(
            (*self._prefix, *command.argv),
            env={**self._environment, **command.env},
            cwd=directory,
            input=command.input,
            timeout=command.timeout,
            on_output=on_output,
            cancellation=self._cancellation,
            limit=command.limit,
            leave=True,
        )

    def read(self, path: str, *, limit: int = 16 * 1024 * 1024) -> bytes:
        real = self._real_path(path)
        try:
            if not real.is_file():
                raise InstanceError(f"{path}: no such file")
            with real.open("rb") as file:
                data = file.read(limit + 1)
        except OSError as error:
            raise InstanceError(f"{path} cannot be read: {error.strerror}") from error
        if len(data) > limit:
            raise InstanceError(f"{path} is longer than {limit} bytes")
        return data

    def write(self, path: str, data: bytes, *, mode: int | None = None) -> None:
        real = self._real_path(path)
        try:
            real.write_bytes(data)
            if mode is not None:
                real.chmod(mode)
        except OSError as error:
            raise InstanceError(f"{path} cannot be written: {error.strerror}") from error

    def exists(self, path: str) -> bool:
        return os.path.lexists(self._real_path(path))

    def push(self, local: Path, path: str) -> None:
        self._copy(local, self._real_path(path), path)

    def pull(self, path: str, local: Path) -> None:
        self._copy(self._real_path(path), local, path)

    def reboot(self) -> None:
        raise CannotReboot(
            "this computer is not restarted by a component: run with a state directory, or on a machine"
        )

    def checkpoint(self) -> Snapshot:
        raise InstanceError("this computer has no checkpoints; use a container")

    def restore(self, snapshot: Snapshot) -> None:
        raise InstanceError(f"this computer cannot go back to {snapshot.reference}; use a container")

    def close(self) -> None:
        """Does nothing: no resources are held."""

    def _real_path(self, path: str) -> Path:
        return self._directory / path

    def _copy(self, source: Path, target: Path, path: str) -> None:
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise InstanceError(f"{path} cannot be copied: {error.strerror}") from error
