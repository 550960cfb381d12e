"""Reads and writes files of an instance by commands inside it.

So every link in a path is resolved by the image and never by the host, and only a POSIX shell is needed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from imagesmith.instances.command import Command
from imagesmith.instances.protocol import InstanceError
from imagesmith.processes import Completed, OnOutput, Stream

_READ = 'test -f "$1" || { echo "no such file" >&2; exit 1; }; cat <"$1"'
_CHUNK = 4 * 1024 * 1024
_FILE_SECONDS = 600.0


class ShellFiles:
    """The file operations of an instance whose `run` starts programs inside."""

    @property
    def label(self) -> str:
        """The name of the instance in errors: `container web-build`."""
        raise NotImplementedError

    def run(self, command: Command, on_output: OnOutput | None = None) -> Completed:
        """Run a program inside to its end."""
        raise NotImplementedError

    def read(self, path: str, *, limit: int = 16 * 1024 * 1024) -> bytes:
        done = self._shell(_READ, path, limit=limit)
        require(done, f"cannot read {path} in {self.label}")
        if done.dropped or len(done.stdout) > limit:
            raise InstanceError(f"cannot read {path} in {self.label}: it is longer than {limit} bytes")
        return done.stdout

    def write(self, path: str, data: bytes, *, mode: int | None = None) -> None:
        chmod = f' && chmod {mode:04o} "$1"' if mode is not None else ""
        done = self._shell(f'cat >"$1"{chmod}', path, input=data)
        require(done, f"cannot write {path} in {self.label}")

    def exists(self, path: str) -> bool:
        return self._shell('test -e "$1" || test -L "$1"', path).returncode == 0

    def push(self, local: Path, path: str) -> None:
        with local.open("rb") as file:
            chunk = file.read(_CHUNK)
            require(self._shell('cat >"$1"', path, input=chunk), f"cannot write {path} in {self.label}")
            while chunk := file.read(_CHUNK):
                done = self._shell('cat >>"$1"', path, input=chunk)
                require(done, f"cannot write {path} in {self.label}")

    def pull(self, path: str, local: Path) -> None:
        with local.open("wb") as file:

            def keep(stream: Stream, data: bytes) -> None:
                if stream == "stdout":
                    file.write(data)

            done = self._shell(_READ, path, limit=65536, on_output=keep)
        if done.returncode != 0:
            local.unlink(missing_ok=True)
        require(replace(done, stdout=b""), f"cannot read {path} in {self.label}")

    def _shell(
        self, script: str, path: str, *, input: bytes | None = None, limit: int = 65536,
        on_output: OnOutput | None = None,
    ) -> Completed:  # fmt: skip
        argv = ["/bin/sh", "-c", script, "sh", path]
        return self.run(Command(argv, input=input, timeout=_FILE_SECONDS, limit=limit), on_output)


def require(done: Completed, what: str) -> None:
    if done.timed_out or done.returncode != 0:
        raise InstanceError(f"{what}: {done.tail(3) or f'exit status {done.returncode}'}")
