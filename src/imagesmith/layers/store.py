"""The layer store of one data directory: layers, their blobs, images, working containers.

    layers/<layer key>/   diff/ and its record: a layer unpacked over those below it
    blobs/<digest>        compressed layers, byte for byte; shared with the layout by hard links
    images/<image id>/    config (the bytes that the id is the digest of) and record
    roots/<name>/         upper/ work/ merged/, config and record of a working container
    leases/               layers that are being used before a record names them
    cache/                what instructions and components made, for later builds; see layer_cache.py
    tmp/                  work in progress; emptied by collect

A layer's folder is named by a digest over its diff id, its blob and those of all layers below: a layer may say
nothing of its root or of a parent folder, which are as in the layers below then, and an image must not decide them
for another. Nor may a blob, whose diff id is the word of the process that unpacked it. Everything appears by a
rename, and is removed when no image, container, cache entry or lease of a live process names it. Layers are not
flushed, but unpacked again after a restart; containers are lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from imagesmith.files import PRIVATE, flush, share_file, write_atomically, write_draft
from imagesmith.layers.entries import LayerError
from imagesmith.layers.layer_cache import held_layers
from imagesmith.layers.layer_calls import LayerCalls
from imagesmith.layers.layer_keys import chain_ids, layer_keys
from imagesmith.layers.layer_rules import LayerRules
from imagesmith.layers.overlay_mounts import MOST_LAYERS, is_mounted, mount_inside, mount_overlay, unmount
from imagesmith.layers.records import (
    ContainerRecord,
    ImageRecord,
    LayerBlob,
    LayerRecord,
    RecordDamaged,
    decode_container,
    decode_image,
    decode_layer,
    encode,
)  # fmt: skip
from imagesmith.layers.unpacker import UnpackLimits, copy_metadata
from imagesmith.layers.writer import WriterSettings, changes_nothing
from imagesmith.locks import file_lock, is_locked
from imagesmith.namespaces.build_namespace import BuildNamespace
from imagesmith.namespaces.id_maps import SIZE
from imagesmith.processes import Cancellation
from imagesmith.trees import remove_tree

GZIP_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class NameInUse(LayerError):
    """There is a working container of this name."""


class NotInStore(LayerError, LookupError):
    """The store has no such image or container."""


@dataclass(frozen=True)
class Committed:
    """The layers of a container after a commit, lowest first; `added` is None if nothing had changed."""

    layers: tuple[LayerBlob, ...]
    added: LayerBlob | None


class LayerStore:
    """Safe for several threads and processes. Every method raises LayerError and OSError."""

    def __init__(self, root: Path, *, limits: UnpackLimits | None = None, boot: str = "") -> None:
        self.root = root
        self.calls = LayerCalls()
        self._limits = limits or UnpackLimits(ids=SIZE)
        # layers with other marks of removed folders, of older versions, are unpacked again
        self._boot = f"{boot or _BOOT.read_text().strip()} user.overlay."
        self._layers, self._blobs, self._images = root / "layers", root / "blobs", root / "images"
        self._roots, self._leases = root / "roots", root / "leases"
        self._tmp, self.cache = root / "tmp", root / "cache"
        for folder in (self._layers, self._blobs, self._images, self._roots, self._leases, self._tmp):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    # Images

    def put_image(
        self, config: bytes, layers: Sequence[LayerBlob], *, manifest: str = "", names: Iterable[str] = ()
    ) -> str:
        """Keep an image, whose blobs are here; returns its id."""
        id = hashlib.sha256(config).hexdigest()
        with self._locked():
            for layer in layers:
                if not self.blob(layer.digest).exists():
                    raise LayerError(f"image {id} cannot be kept: its layer {layer.digest} is not in the store")
            known = self._image(id)
            record = ImageRecord(
                id, tuple(layers), manifest or (known.manifest if known else ""),
                tuple(sorted({*names, *(known.names if known else ())})),
            )  # fmt: skip
            folder = self._images / id
            folder.mkdir(exist_ok=True, mode=0o700)
            write_atomically(folder / "config", config)
            write_atomically(folder / "record.json", encode(record))
        return id

    def image(self, id: str) -> ImageRecord:
        """An image, which counts as used now. Raises NotInStore."""
        record = self._image(id)
        if record is None:
            raise NotInStore(f"image {id} is not in the store {self.root}: image not known")
        with contextlib.suppress(OSError):
            os.utime(self._images / id)
        return record

    def config(self, id: str) -> bytes:
        """The bytes of an image's configuration. Raises NotInStore."""
        self.image(id)
        data = (self._images / id / "config").read_bytes()
        if hashlib.sha256(data).hexdigest() != id:
            raise LayerError(f"the configuration of image {id} is damaged: {self._images / id / 'config'}")
        return data

    def images(self) -> tuple[str, ...]:
        return tuple(sorted(found.name for found in self._images.iterdir() if self._image(found.name)))

    def name_image(self, id: str, name: str) -> None:
        """Give an image a name; another image with this name loses it. Raises NotInStore."""
        with self._locked():
            wanted = self.image(id)
            for other in (self._image(found) for found in self.images()):
                if other is not None and name in other.names and other.id != id:
                    rest = tuple(known for known in other.names if known != name)
                    write_atomically(self._images / other.id / "record.json", encode(replace(other, names=rest)))
            named = replace(wanted, names=tuple(sorted({*wanted.names, name})))
            write_atomically(self._images / id / "record.json", encode(named))

    def remove_image(self, id: str) -> None:
        """Forget an image, and remove the layers that nothing else needs."""
        with self._locked():
            self._discard(self._images / id)
        self.collect()

    def forget_images(self, *, before: float) -> None:
        """Forget images that were last used before a time, in seconds of the epoch."""
        with self._locked():
            for image in [found for found in self._images.iterdir() if found.stat().st_mtime < before]:
                self._discard(image)
        self.collect()

    def _image(self, id: str) -> ImageRecord | None:
        with contextlib.suppress(OSError, RecordDamaged):
            return decode_image((self._images / id / "record.json").read_bytes())
        return None

    # Blobs

    def blob(self, digest: str) -> Path:
        """The path of a blob, present or not."""
        return self._blobs / digest.removeprefix("sha256:")

    def link_blob(self, source: Path, digest: str) -> None:
        """Keep a blob of another folder: the same file where that is possible. The caller has checked it."""
        with self.draft() as folder:
            share_file(source, folder / "blob")
            (folder / "blob").rename(self.blob(digest))

    def restore_blob(
        self, layers: Sequence[LayerBlob], *, latest: int | None = None, cancellation: Cancellation | None = None
    ) -> bool:
        """Write the blob of the last of these layers again from its folder; returns False, and changes nothing, if
        it is not unpacked or other bytes come of it, as of layers that other tools have made.

        `latest`: that of its commit, in seconds, which is the time of the marks in it: its folder has none of it.
        The caller holds a lease on the layers. Raises Cancelled.
        """
        *lowers, key = layer_keys(layers)
        if not self._is_unpacked(key):
            return False
        folders = [self._layers / _hex(lower) / "diff" for lower in reversed(lowers)]
        with self.draft() as draft:
            with (draft / "blob").open("xb") as file:
                made = self.calls.pack(
                    self._layers / _hex(key) / "diff", file, lowers=folders, settings=WriterSettings(latest=latest),
                    cancellation=cancellation,
                )  # fmt: skip
            if made.digest != layers[-1].digest:
                return False
            (draft / "blob").chmod(PRIVATE)
            flush(draft / "blob")
            (draft / "blob").rename(self.blob(made.digest))
        return True

    # Layers

    def require_layers(
        self, layers: Sequence[LayerBlob], *, cancellation: Cancellation | None = None
    ) -> tuple[Path, ...]:
        """The folders of layers, top first; missing ones are unpacked. The caller holds a lease on them."""
        if len(layers) > MOST_LAYERS:
            raise LayerError(f"the image has {len(layers)} layers: the most is {MOST_LAYERS}")
        keys = layer_keys(layers)
        folders = [self._layers / _hex(key) / "diff" for key in keys]
        missing = [number for number, key in enumerate(keys) if not self._is_unpacked(key)]
        with self.calls.program.used() if missing else contextlib.nullcontext():
            for number in missing:
                lock = self._tmp / f"unpack-{_hex(keys[number])}.lock"
                with file_lock(lock, cancellation=cancellation):
                    if not self._is_unpacked(keys[number]):
                        self._unpack(layers[number], keys[number], folders[:number][::-1], cancellation)
                    # who waits for it finds the layer unpacked; after a failure, two may try it again
                    lock.unlink(missing_ok=True)
        return tuple(folders[::-1])

    def layer_size(self, layers: Sequence[LayerBlob]) -> int:
        """Bytes of the last of these layers: of its blob and, if it is unpacked, of its archive."""
        return layers[-1].size + (record.size if (record := self._layer(layer_keys(layers)[-1])) else 0)

    def _is_unpacked(self, key: str) -> bool:
        record = self._layer(key)
        return record is not None and record.boot == self._boot

    def _layer(self, key: str) -> LayerRecord | None:
        with contextlib.suppress(OSError, RecordDamaged):
            return decode_layer((self._layers / _hex(key) / "record.json").read_bytes())
        return None

    def _unpack(
        self, layer: LayerBlob, key: str, lowers: Sequence[Path], cancellation: Cancellation | None
    ) -> None:
        with self.draft() as draft:
            (draft / "diff").mkdir()
            try:
                made = self.calls.unpack(
                    self.blob(layer.digest), draft / "diff", lowers=lowers, limits=self._limits,
                    cancellation=cancellation,
                )  # fmt: skip
            except LayerError as error:
                raise LayerError(f"the layer {layer.digest} is refused: {error}") from error
            for found, wanted in ((made.digest, layer.digest), (made.diff_id, layer.diff_id)):
                if found != wanted:
                    raise LayerError(f"the layer {layer.digest} is damaged: its digest is {found}, not {wanted}")
            self._keep_layer(draft, key, LayerRecord(layer.diff_id, self._boot, made.entries, made.size))

    def _keep_layer(self, draft: Path, key: str, record: LayerRecord) -> None:
        write_draft(draft / "record.json", encode(record))
        with self._locked():
            # another process may have been faster; what is valid may be mounted
            if not self._is_unpacked(key):
                self._discard(self._layers / _hex(key))
                draft.rename(self._layers / _hex(key))

    @contextmanager
    def lease(self, layers: Sequence[LayerBlob]) -> Iterator[None]:
        """Keep layers and their blobs from being collected, whether they are unpacked already or not."""
        lease = self._leases / secrets.token_hex(8)
        with ExitStack() as stack:
            with self._locked():
                stack.callback(lease.unlink, missing_ok=True)
                stack.enter_context(file_lock(lease))
                lease.write_text(encode(ContainerRecord("", tuple(layers))))
            yield

    # Working containers

    def create(
        self, name: str, config: bytes, layers: Sequence[LayerBlob], *, cancellation: Cancellation | None = None
    ) -> None:
        """Make a working container over layers, lowest first. Raises NameInUse."""
        with self.lease(layers):
            lowers = self.require_layers(layers, cancellation=cancellation)
            with self.draft() as draft:
                self._make_upper(draft, lowers)
                (draft / "merged").mkdir()
                write_draft(draft / "config", config)
                write_draft(draft / "record.json", encode(ContainerRecord(name, tuple(layers), self._boot)))
                with self._locked():
                    if (self._roots / name).exists():
                        raise NameInUse(f"the container name {name} is already in use")
                    draft.rename(self._roots / name)

    def container(self, name: str) -> ContainerRecord:
        """Raises NotInStore, also for a container of before the machine's last restart."""
        try:
            record = decode_container((self._roots / name / "record.json").read_bytes())
        except (OSError, RecordDamaged) as error:
            raise NotInStore(f"there is no container {name}: {error}") from error
        if record.boot != self._boot:
            raise NotInStore(f"the container {name} was lost when the machine restarted")
        return record

    def container_config(self, name: str) -> bytes:
        """The configuration that the next commit of a container starts from. Raises NotInStore."""
        self.container(name)
        return (self._roots / name / "config").read_bytes()

    def configure(self, name: str, config: bytes) -> None:
        self.container(name)
        write_atomically(self._roots / name / "config", config)

    def containers(self) -> tuple[str, ...]:
        return tuple(sorted(found.name for found in self._roots.iterdir()))

    def mount(self, name: str, namespace: BuildNamespace | None = None) -> Path:
        """The merged root of a container, mounted unless it is; with a namespace, mounted anew with its ids, so
        nothing may use it. Raises NotInStore."""
        record, folder = self.container(name), self._roots / name
        if is_mounted(folder / "merged"):
            if namespace is None:
                return folder / "merged"
            self.unmount(name)
        lowers = self.require_layers(record.layers)
        # left by an earlier mount, which may have ended with its process
        shutil.rmtree(folder / "work", ignore_errors=True)
        (folder / "work").mkdir()
        if not lowers:
            (folder / "nothing").mkdir(exist_ok=True)
        layers = lowers or (folder / "nothing",)
        if namespace is None:
            mount_overlay(folder, layers)
        else:
            mount_inside(namespace, self.root, folder, layers)
        return folder / "merged"

    def upper(self, name: str) -> Path:
        """The folder of a container's changes since its last commit."""
        return self._roots / name / "upper"

    def unmount(self, name: str) -> None:
        unmount(self._roots / name / "merged")

    def remove(self, name: str) -> None:
        """Unmount and remove a container; does nothing if there is none of this name."""
        self.unmount(name)
        with self._locked():
            gone = self._set_aside(self._roots / name)
        if gone is not None:
            remove_tree(gone)

    def commit(
        self, name: str, *, rules: LayerRules | None = None, cancellation: Cancellation | None = None,
        namespace: BuildNamespace | None = None, last: bool = False,
    ) -> Committed:  # fmt: skip
        """Make a layer of the changes: the upper folder becomes the layer's, and the container goes on with a new
        one, mounted if it was and this is not its `last`. Nothing may run in it. Raises NotInStore, Cancelled."""
        record, folder = self.container(name), self._roots / name
        mounted = is_mounted(folder / "merged") and not last
        with self.lease(record.layers):
            lowers = self.require_layers(record.layers, cancellation=cancellation)
            if changes_nothing(folder / "upper", lowers=lowers):
                return Committed(record.layers, None)
            self.unmount(name)
            try:
                return self._commit(record, folder, lowers, rules or LayerRules(), cancellation)
            finally:
                if mounted:
                    self.mount(name, namespace)

    def _commit(
        self, record: ContainerRecord, folder: Path, lowers: tuple[Path, ...], rules: LayerRules,
        cancellation: Cancellation | None,
    ) -> Committed:  # fmt: skip
        settings = WriterSettings(latest=rules.epoch, drops=rules.drops, settle=True)
        with self.draft() as draft:
            with (draft / "blob").open("xb") as file:
                packed = self.calls.pack(
                    folder / "upper", file, lowers=lowers, settings=settings, cancellation=cancellation
                )
            rules.tell(packed.dropped.splitlines())
            if not packed.entries:
                return Committed(record.layers, None)
            if len(record.layers) >= MOST_LAYERS:
                raise LayerError(f"the container {record.name} has {MOST_LAYERS} layers already: that is the most")
            (draft / "blob").chmod(PRIVATE)
            flush(draft / "blob")
            added = LayerBlob(packed.diff_id, packed.digest, packed.blob_size, GZIP_LAYER)
            layers = (*record.layers, added)
            key = layer_keys(layers)[-1]
            with self.lease(layers):
                (draft / "blob").rename(self.blob(added.digest))
                # the root goes on as it is: an overlay shows the upper folder's
                self._make_upper(draft / "next", (folder / "upper",))
                (folder / "upper").rename(draft / "diff")
                (draft / "next/upper").rename(folder / "upper")
                write_atomically(folder / "record.json", encode(replace(record, layers=layers)))
                shutil.rmtree(draft / "next")
                self._keep_layer(draft, key, LayerRecord(added.diff_id, self._boot, packed.entries, packed.size))
            return Committed(layers, added)

    def _make_upper(self, folder: Path, lowers: Sequence[Path]) -> None:
        """An empty upper folder, whose root is as in the layers below: an overlay shows the upper one's."""
        (folder / "upper").mkdir(parents=True)
        (folder / "work").mkdir()
        (folder / "upper").chmod(0o755)
        if lowers:
            copy_metadata(lowers[0], folder / "upper")

    # Leftovers

    def collect(self) -> int:
        """Remove layers and blobs that nothing names, and what dead processes left; returns the bytes of blobs."""
        freed = 0
        with self._locked():
            needed = [*self._held(), *(image.layers for id in self.images() if (image := self._image(id)))]
            keys = {_hex(key) for layers in needed for key in layer_keys(layers)}
            digests = {_hex(layer.digest) for layers in needed for layer in layers}
            # older versions named folders by chain ids, and a container that they made may be mounted over them
            keys |= {_hex(id) for layers in self._below_containers() for id in chain_ids(layers)}
            for folder in self._layers.iterdir():
                if folder.name not in keys:
                    self._set_aside(folder)
            for blob in self._blobs.iterdir():
                if blob.name not in digests:
                    freed += blob.stat().st_size
                    blob.unlink()
            drafts = [draft for draft in self._tmp.iterdir() if not is_locked(_lock_of(draft))]
        for draft in drafts:
            remove_tree(draft) if draft.is_dir() else draft.unlink(missing_ok=True)
            _lock_of(draft).unlink(missing_ok=True)
        return freed

    def _held(self) -> Iterator[Sequence[LayerBlob]]:
        for lease in self._leases.iterdir():
            if not is_locked(lease):
                lease.unlink(missing_ok=True)
                continue
            with contextlib.suppress(FileNotFoundError, RecordDamaged):  # it may end meanwhile
                yield decode_container(lease.read_bytes()).layers
        yield from self._below_containers()
        yield from held_layers(self.cache)

    def _below_containers(self) -> Iterator[Sequence[LayerBlob]]:
        for name in self.containers():
            with contextlib.suppress(NotInStore):
                yield self.container(name).layers

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        return file_lock(self.root / "lock")

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A folder for work in progress, removed at its end; its lock keeps it from being collected before."""
        draft = self._tmp / secrets.token_hex(8)
        with ExitStack() as stack:
            with self._locked():
                stack.callback(_lock_of(draft).unlink, missing_ok=True)
                stack.enter_context(file_lock(_lock_of(draft)))
                draft.mkdir(mode=0o700)
            stack.callback(_remove_draft, draft)
            yield draft

    def _set_aside(self, path: Path) -> Path | None:
        """Rename a folder to where it is removed even if this process dies now; None if there is none."""
        gone = self._tmp / secrets.token_hex(8)
        with contextlib.suppress(FileNotFoundError):
            return path.rename(gone)
        return None

    def _discard(self, path: Path) -> None:
        gone = self._set_aside(path)
        if gone is not None:
            remove_tree(gone)


def _remove_draft(draft: Path) -> None:
    """Most drafts were renamed or are empty by now, which needs no program."""
    try:
        draft.rmdir()
    except FileNotFoundError:
        return
    except OSError:
        remove_tree(draft)


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _lock_of(draft: Path) -> Path:
    return draft.with_name(f"{draft.name}.lock") if draft.suffix != ".lock" else draft
