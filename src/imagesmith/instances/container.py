"""The container kind of instance: a working container of the storage, entered through a sandbox.

    ContainerStorage  --create, mount-->  merged root (overlay)
    Sandbox (outer)     /instance = merged root, tools
      holder            bubblewrap: root = /instance, /proc, /dev, its own process namespace; the tools' shell
      spawner           forks each command into the holder's namespaces: capabilities, seccomp

Background programs of one command keep running during the next, as on a machine; all are killed by close(), by a
checkpoint, or at the end of this process. Files are read and written by commands inside, so that every link in a
path is resolved by the image and never by the host. Files that the sandbox put into the root (`/etc/resolv.conf`
and `/etc/hosts` as mount points) are removed before a commit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from pathlib import Path

from imagesmith.artifacts.storage import ContainerExists, ContainerStorage, ImageLayers, StorageError
from imagesmith.instances.bubblewrap import Bind, View, held_memory_file, held_pipe, pack_arguments, read_status
from imagesmith.instances.command import Command, NetworkKind
from imagesmith.instances.holder import lent_holder
from imagesmith.instances.limits import ResourceLimits, make_groups
from imagesmith.instances.mountpoints import MOUNT_POINTS, RootAdditions, has_shell, prepare_root, restore_root
from imagesmith.instances.network import hosts_text, resolver_text
from imagesmith.instances.own_names import Lent, lend_names, return_names
from imagesmith.instances.protocol import CannotReboot, InstanceError, Snapshot
from imagesmith.instances.reserved_names import reserved_names
from imagesmith.instances.sandbox import Sandbox
from imagesmith.instances.seccomp import filter_program
from imagesmith.instances.shell_files import ShellFiles
from imagesmith.instances.spawner import Spawner, spawner_binds
from imagesmith.instances.view import INSIDE, command_view
from imagesmith.layers.layer_rules import LayerRules
from imagesmith.layers.records import LayerBlob
from imagesmith.namespaces.build_namespace import BuildNamespace
from imagesmith.namespaces.host_ids import HostIds
from imagesmith.processes import Cancellation, Completed, OnOutput

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ContainerInstance(ShellFiles):
    """A disposable container; see the protocol for what each call does. Make one with `launch`."""

    kind = "container"

    def __init__(
        self, storage: ContainerStorage, name: str, *, network: NetworkKind, limits: ResourceLimits,
        cancellation: Cancellation | None, own_names: bool = False, namespace: BuildNamespace | None = None,
    ) -> None:  # fmt: skip
        self.storage = storage
        self._namespace = namespace
        self._owns_namespace = namespace is None
        self._own_names = own_names
        self._lent: tuple[Lent, ...] = ()
        self.name = name
        self.network = network
        self.limits = limits
        self._cancellation = cancellation
        self._sandbox: Sandbox | None = None
        self._spawner: Spawner | None = None
        self._additions = RootAdditions()
        self._environment: dict[str, str] = {}
        self._snapshots: list[str] = []
        self._root: Path | None = None
        self._needs_shell = True
        self._closed = False
        self._lock = threading.RLock()

    @classmethod
    def launch(
        cls,
        storage: ContainerStorage,
        image: ImageLayers,
        *,
        name: str,
        network: NetworkKind = "outbound",
        limits: ResourceLimits | None = None,
        cancellation: Cancellation | None = None,
        variables: Sequence[str] | None = None,
        namespace: BuildNamespace | None = None,
        rests: bool = False,
    ) -> ContainerInstance:
        """Start a container named `name` (`<build id>-<role>`) on an image or layers of the storage, or on SCRATCH.

        A container of the same name, left by a killed attempt, is replaced. With `variables` (`NAME=value`), these
        are its environment instead of the image's, its sandbox starts with its first command, and the image needs
        no shell. Its user namespace is its own unless one is given. One that `rests` has only its layers until a
        command, or a caller, needs its root. Raises InstanceError, Cancelled.
        """
        instance = cls(
            storage, name, network=network, limits=limits or ResourceLimits(), cancellation=cancellation,
            namespace=namespace,
        )  # fmt: skip
        try:
            instance._create(image, variables, rests=rests)
        except BaseException:
            instance.close()
            raise
        return instance

    @classmethod
    def attach(
        cls,
        storage: ContainerStorage,
        name: str,
        *,
        network: NetworkKind = "outbound",
        limits: ResourceLimits | None = None,
        cancellation: Cancellation | None = None,
        own_names: bool = False,
    ) -> ContainerInstance:
        """Enter a container that was left with detach(), perhaps by another process. Raises InstanceError.

        `own_names`: /etc/hosts and /etc/resolv.conf are the image's, as in the root of a disk; see own_names.py.
        """
        instance = cls(
            storage, name, network=network, limits=limits or ResourceLimits(), cancellation=cancellation,
            own_names=own_names,
        )  # fmt: skip
        try:
            instance._enter(partial(storage.container_variables, name))
        except BaseException:
            instance.detach()
            raise
        return instance

    def detach(self) -> None:
        """End every program inside and leave the container as it is; this object is closed."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._stop()
                self._leave()

    def use(self, cancellation: Cancellation) -> None:
        """End later calls with this cancellation instead of the previous one."""
        self._cancellation = cancellation

    @property
    def environment(self) -> Mapping[str, str]:
        return self._environment

    @property
    def root(self) -> Path:
        """Mount point of the root on the host; read it through artifacts.rootfs.Root only."""
        return self._opened()[0]

    @property
    def ids(self) -> HostIds:
        """Which ids of this machine the files of its root have."""
        return self.namespace.host_ids

    @property
    def namespace(self) -> BuildNamespace:
        """The user namespace whose ids its files have."""
        return self._opened()[1]

    @property
    def upper(self) -> Path:
        """The folder of what was written to the root since the last commit; nothing of it is to be followed."""
        return self.storage.upper(self.name)

    @property
    def rests(self) -> bool:
        """Whether it has only its layers: nothing has run in it, and no root is mounted."""
        return not self._closed and self._root is None

    @property
    def has_shell(self) -> bool:
        """Whether commands can run in it; an image of one static program has no shell."""
        return has_shell(self.root)

    @property
    def unlimited(self) -> tuple[str, ...]:
        """The limits that this machine cannot enforce, in words."""
        if self._sandbox is not None:
            return self._sandbox.groups.missing
        groups = make_groups(f"{self.storage.key}-{self.name}", self.limits)
        groups.remove()
        return groups.missing

    @property
    def memory_kills(self) -> int:
        """The number of processes that the memory limit has killed since its sandbox was started."""
        return self._sandbox.groups.out_of_memory() if self._sandbox else 0

    def run(self, command: Command, on_output: OnOutput | None = None) -> Completed:
        """Run a program as root inside. A program that does not exist ends with status 127, as in a shell."""
        spawner = self._running()
        return spawner.run(command.within(self._environment, "/"), on_output, cancellation=self._cancellation)

    def wake(self) -> None:
        """Start its sandbox if it rests. Raises InstanceError, Cancelled."""
        self._running()

    def rest(self) -> Path:
        """End every program inside and return the root, without files of the sandbox; a command starts it again."""
        with self._lock:
            self._stop()
        return self.root

    @property
    def label(self) -> str:
        return f"container {self.name}"

    def reboot(self) -> None:
        raise CannotReboot(f"container {self.name} cannot restart: a container has no system of its own to start")

    def checkpoint(self) -> Snapshot:
        """Keep this state as an image; programs running inside are ended."""
        image = self._commit({}, f"checkpoint of {self.name}", LayerRules())
        self._snapshots.append(image)
        return Snapshot(self.kind, image)

    def restore(self, snapshot: Snapshot) -> None:
        if snapshot.kind != self.kind:
            raise InstanceError(f"container {self.name} cannot go back to a snapshot of a {snapshot.kind}")
        self._stop()
        try:
            self.storage.remove(self.name)
        except StorageError as error:
            raise InstanceError(f"container {self.name} cannot go back: {error}") from error
        self._create(snapshot.reference)

    def commit(
        self, *, labels: Mapping[str, str] | None = None, created_by: str = "", created: datetime | None = None,
        rules: LayerRules | None = None, last: bool = False,
    ) -> str:  # fmt: skip
        """Write the changes as one layer of a new image and return its id; programs running inside are ended.

        `created_by` is the text of the history entry. With `created`, or the time of the rules, no file of the
        layer is later than that time; without, files keep their times. After the `last` commit, nothing can run in
        it any more.
        """
        return self._commit(labels or {}, created_by, rules or LayerRules.until(created), last=last)

    def commit_layers(self, rules: LayerRules | None = None) -> tuple[LayerBlob, ...]:
        """Write the changes as one layer, if there are any, and go on above it; returns all layers of its root."""
        try:
            if not any(self.upper.iterdir()):
                # what runs inside goes on: a commit would mount it anew
                return self.storage.container_layers(self.name)
            self.rest()
            return self.storage.commit_layers(
                self.name, rules=rules, cancellation=self._cancellation, namespace=self._namespace
            )
        except StorageError as error:
            raise InstanceError(f"container {self.name} cannot be committed: {error}") from error

    def replace_layers(self, layers: tuple[LayerBlob, ...]) -> None:
        """Go on over other layers, which the caller holds; programs running inside are ended."""
        with self._lock:
            self._stop()
            try:
                was_mounted, self._root = self._root is not None, None
                self.storage.replace_layers(self.name, layers)
                if was_mounted:
                    self._root = self.storage.mount(self.name, self._namespace)
            except StorageError as error:
                raise InstanceError(f"container {self.name} cannot go on over other layers: {error}") from error

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._stop()
            try:
                self.storage.remove(self.name)
            finally:
                self._release()
                for image in self._snapshots:
                    self.storage.remove_image(image)

    def _create(self, image: ImageLayers, variables: Sequence[str] | None = None, *, rests: bool = False) -> None:
        make = partial(self._make_container, image)
        if rests:
            try:
                make()
                self._take_variables(self.storage.image_variables(image))
            except StorageError as error:
                raise InstanceError(f"container {self.name} did not start: {error}") from error
        elif variables is None:
            self._enter(partial(self.storage.image_variables, image), make)
        else:
            self._needs_shell = False
            self._enter(lambda: variables, make, starts=False)

    def _enter(
        self, read_variables: Callable[[], Sequence[str]], make: Callable[[], None] = lambda: None, *,
        starts: bool = True,
    ) -> None:  # fmt: skip
        """Make and mount the working container, and start its sandbox while the image's variables are read."""
        try:
            with ThreadPoolExecutor(1) as pool:
                made = pool.submit(self.storage.new_namespace) if self._namespace is None else None
                variables = pool.submit(read_variables)
                make()
                if made is not None:
                    self._namespace = made.result()
                self._root = self.storage.mount(self.name, self._namespace)
                # an image without a shell is an instance as well: only its first command fails
                if starts and self.has_shell:
                    self._start()
                found = variables.result()
        except (StorageError, OSError) as error:
            raise InstanceError(f"container {self.name} did not start: {error}") from error
        self._take_variables(found)

    def _take_variables(self, variables: Sequence[str]) -> None:
        named = dict(variable.partition("=")[::2] for variable in variables)
        pack_arguments([*named, *named.values()])
        self._environment = {"PATH": DEFAULT_PATH, "HOME": "/root", **{k: v for k, v in named.items() if k}}

    def _opened(self) -> tuple[Path, BuildNamespace]:
        """Its root and its namespace, made when they are needed first; close() still needs those that it has."""
        with self._lock:
            if self._closed and (self._root is None or self._namespace is None):
                raise InstanceError(f"container {self.name} is closed")
            try:
                if self._namespace is None:
                    self._namespace = self.storage.new_namespace()
                if self._root is None:
                    self._root = self.storage.mount(self.name, self._namespace)
            except (StorageError, OSError) as error:
                raise InstanceError(f"container {self.name} did not start: {error}") from error
            return self._root, self._namespace

    def _make_container(self, image: ImageLayers) -> None:
        try:
            self.storage.create(self.name, image)
        except ContainerExists:
            self.storage.remove(self.name)
            self.storage.create(self.name, image)

    def _running(self) -> Spawner:
        with self._lock:
            if self._closed:
                raise InstanceError(f"container {self.name} is closed")
            if self._spawner is None:
                self._start()
            sandbox, spawner = self._sandbox, self._spawner
        assert sandbox is not None and spawner is not None
        sandbox.ready()
        return spawner

    def _start(self) -> None:
        """Start the sandbox and, in it, the holder of the namespaces that all commands share, and their spawner."""
        if self._needs_shell and not self.has_shell:
            raise InstanceError("the image has no /bin/sh: components need a POSIX shell")
        points = () if self._own_names else MOUNT_POINTS
        with self.ids.acting():
            self._additions = prepare_root(self.root, points=points)
            if self._own_names:
                self._lent = lend_names(
                    self.root, resolver=resolver_text(self.network), hosts=hosts_text("localhost")
                )  # fmt: skip
        root, namespace = self._opened()
        with ExitStack() as stack:
            info_read, info_write = held_pipe(stack)
            lent, holder = lent_holder()
            arguments = [
                *command_view(INSIDE, files=self._additions.files),
                *lent,
                "--unshare-pid",
                "--clearenv",
                "--info-fd",
                str(info_write),
            ]
            options = held_memory_file(stack, "options", pack_arguments(arguments))
            seccomp = held_memory_file(stack, "seccomp", filter_program())
            self._sandbox = Sandbox.start(
                f"{self.storage.key}-{self.name}",
                view=View(binds=(Bind(root, INSIDE, writable=True), *spawner_binds())),
                holder=["/usr/bin/bwrap", "--args", str(options), "--seccomp", str(seccomp), "--", *holder],
                network=self.network, limits=self.limits, disk=self.storage.root,
                pass_fds=(options, seccomp, info_write), namespace=namespace,
            )  # fmt: skip
            # The holder runs, so bubblewrap has written its whole output.
            status = read_status(info_read)
        self._spawner = Spawner.start(self._sandbox, int(str(status["child-pid"])), ids=self.ids)

    def _stop(self) -> None:
        """End every program inside and remove imagesmith's files from the root."""
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None
        if self._spawner is not None:
            self._spawner.close()
            self._spawner = None
        if self._root is not None and (self._lent or self._additions != RootAdditions()):
            with self.ids.acting():
                return_names(self._root, self._lent)
                restore_root(self._root, self._additions)
        self._additions, self._lent = RootAdditions(), ()

    def _leave(self) -> None:
        """Unmount the root: outside of the namespace, its files are to have the ids of the disk."""
        try:
            if self._root is not None:
                self.storage.unmount(self.name)
        finally:
            self._release()

    def _release(self) -> None:
        namespace, self._namespace, self._root = self._namespace, None, None
        if namespace is not None and self._owns_namespace:
            namespace.close()

    def _commit(self, labels: Mapping[str, str], created_by: str, rules: LayerRules, *, last: bool = False) -> str:
        with self._lock:
            if self._closed:
                raise InstanceError(f"container {self.name} is closed")
            self._stop()
            reserved = reserved_names(self.upper)
            if reserved:
                raise InstanceError(
                    f"container {self.name} cannot be committed: a layer cannot carry files named `.wh.*`; these "
                    f"are there: {', '.join(reserved)}"
                )
            try:
                return self.storage.commit(
                    self.name, labels=labels, created_by=created_by, rules=rules,
                    cancellation=self._cancellation, namespace=self._namespace, last=last,
                )  # fmt: skip
            except StorageError as error:
                raise InstanceError(f"container {self.name} cannot be committed: {error}") from error
