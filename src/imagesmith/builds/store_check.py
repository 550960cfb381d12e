"""Checks everything that a data directory keeps of builds, and repairs what can be made again.

databases    SQLite's own check of pages, indexes and references
layout       each blob that an image needs is there and has its digest
disks        each disk has its digest; each AMI of the catalog has a disk
records      each container image that is AVAILABLE is in the layout or in the shared store
signatures   each of these has provenance that this server signed
orphans      blobs and disks that nothing needs; no fault, but space
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from imagesmith.artifacts.disks import DiskError, DiskStore
from imagesmith.artifacts.exchange import Exchange
from imagesmith.artifacts.layout import LayoutError, OciLayout
from imagesmith.artifacts.referrers import attached
from imagesmith.artifacts.shared import SharedStoreError
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.inspection.provenance import verify
from imagesmith.inspection.signing import PublicKey
from imagesmith.inspection.statements import KINDS, Predicate, VerificationFailed
from imagesmith.recipes.plan import BuildPlan
from imagesmith.store import amis, queries, stored_builds
from imagesmith.store.database import Database
from imagesmith.store.files import require_whole
from imagesmith.store.outage import StoreDamaged
from imagesmith.values.states import ImageStatus

_CONTAINER: Final = "container"


@dataclass(frozen=True)
class StoreFault:
    """Something that is missing, damaged or unsigned."""

    subject: str
    """A file, a digest, an AMI or the ARN of an image."""
    problem: str
    needed_by: tuple[str, ...] = ()
    """Names of images in the layout."""
    repaired: bool = False


@dataclass
class StoreReport:
    """What was checked, and what was found."""

    blobs: int = 0
    disks: int = 0
    images: int = 0
    size: int = 0
    """Bytes of the blobs and disks."""
    orphans: int = 0
    orphan_size: int = 0
    faults: list[StoreFault] = field(default_factory=list)


@dataclass(frozen=True)
class StoreCheck:
    """The stores of one data directory. `whole`: read every byte and every signature, else only look for files."""

    layout: OciLayout
    disks: DiskStore
    database: Database
    keys: tuple[PublicKey, ...]
    pool: Executor
    whole: bool
    exchange: Exchange | None = None
    journal: Path | None = None
    """The SQLite file of the engine."""
    storage: ContainerStorage | None = None
    """For repairs; None: nothing is repaired."""

    def run(self, report: StoreReport) -> None:
        """Fill the report. Raises StoreUnavailable."""
        report.faults += self._database_faults()
        self._check_layout(report)
        self._check_disks(report)
        self._check_records(report)

    # Databases

    def _database_faults(self) -> Iterator[StoreFault]:
        if self.journal is not None:
            try:
                require_whole(self.journal, whole=self.whole)
            except StoreDamaged as error:
                yield StoreFault(str(self.journal), str(error))
        if not self.database.is_sqlite:
            return
        questions = {"PRAGMA integrity_check(10)": "ok", "PRAGMA foreign_key_check": ""} if self.whole else {}
        with self.database.read() as tx:
            for question, good in questions.items():
                for row in tx.exec_driver_sql(question).fetchall():
                    text = ", ".join(str(value) for value in row)
                    if text != good:
                        yield StoreFault(str(self.database.engine.url.database), text)

    # Layout

    def _check_layout(self, report: StoreReport) -> None:
        names = {digest: name for name, digest in self.layout.references().items()}
        needed: dict[str, set[str]] = {}
        for entry in self.layout.files.read_index():
            digest = str(entry["digest"])
            name = names.get(digest, digest)
            needed.setdefault(digest, set()).add(name)
            try:
                if self.storage is not None and self.layout.files.fault(digest):
                    self._repair_blob(digest, [name])
                manifest = self.layout.manifest(digest)
            except LayoutError:
                continue  # it is a blob as well, and named as such
            for part in (manifest["config"], *manifest["layers"]):
                needed.setdefault(str(part["digest"]), set()).add(name)
        for digest, problem in self.pool.map(self._blob_problem, needed):
            report.blobs += 1
            with contextlib.suppress(OSError):
                report.size += self.layout.files.path_of(digest).stat().st_size
            if problem:
                fault = StoreFault(digest, f"blob {problem}", tuple(sorted(needed[digest])))
                self._add(report, fault, lambda d=digest, n=needed[digest]: self._repair_blob(d, n))  # type: ignore[misc]
        for blob in self.layout.files.blobs.iterdir():
            if f"sha256:{blob.name}" not in needed:
                _count_orphan(report, blob)

    def _blob_problem(self, digest: str) -> tuple[str, str]:
        if self.whole:
            return digest, self.layout.files.fault(digest)
        return digest, "" if self.layout.files.path_of(digest).exists() else "is missing"

    def _repair_blob(self, digest: str, names: Iterable[str]) -> bool:
        for name in names:
            with contextlib.suppress(LayoutError):
                self.layout.make_whole(self.layout.resolve(name) or name, self.storage)
        return not self.layout.files.fault(digest)

    # Disks

    def _check_disks(self, report: StoreReport) -> None:
        with self.database.read() as tx:
            wanted = {ami.digest: ami for ami in amis.list_amis(tx) if ami.digest}
        present = set(self.disks.digests())
        for digest, problem in self.pool.map(self._disk_problem, sorted(present)):
            report.disks += 1
            path = self.disks.folder / "sha256" / digest.removeprefix("sha256:")
            with contextlib.suppress(OSError):
                report.size += path.stat().st_size
            if problem:
                self._add(report, StoreFault(digest, problem), lambda d=digest: self._repair_disk(d))  # type: ignore[misc]
            if digest not in wanted:
                _count_orphan(report, path)
        for digest, ami in wanted.items():
            if digest not in present and not self._is_shared(f"blobs/{digest.replace(':', '/')}"):
                fault = StoreFault(ami.ami_id, f"its disk {digest} is missing")
                self._add(report, fault, lambda d=digest: self._repair_disk(d))  # type: ignore[misc]

    def _disk_problem(self, digest: str) -> tuple[str, str]:
        try:
            if self.whole:
                self.disks.check(digest)
            else:
                self.disks.get(digest)
        except DiskError as error:
            return digest, str(error)
        return digest, ""

    def _repair_disk(self, digest: str) -> bool:
        with contextlib.suppress(DiskError, SharedStoreError):
            self.disks.whole(digest)
            return True
        return False

    # Records and signatures

    def _check_records(self, report: StoreReport) -> None:
        with self.database.read() as tx:
            records = queries.by_status(tx, "image", [ImageStatus.AVAILABLE])
        references = self.layout.references()
        for record in records:
            report.images += 1
            with self.database.read() as tx:
                build = stored_builds.get_build(tx, record.arn)
            plan = None if build is None else BuildPlan.from_json(build.plan)
            if plan is not None and plan.kind == _CONTAINER:
                problem = self._image_problem(plan, references)
                if problem:
                    report.faults.append(StoreFault(record.arn, problem))

    def _image_problem(self, plan: BuildPlan, references: Mapping[str, str]) -> str:
        digest = references.get(plan.layout_reference)
        if digest is None and self._is_shared(f"names/{plan.layout_reference}"):
            return ""  # the host that built it checks its bytes
        if digest is None:
            return f"the image is AVAILABLE, and {plan.layout_reference} is not in the layout"
        return self._signature_problem(digest) if self.whole else ""

    def _signature_problem(self, digest: str) -> str:
        problem = "it has no provenance"
        try:
            documents = [item.document for item in attached(self.layout, digest)]
        except LayoutError as error:
            return f"its provenance cannot be read: {error}"
        for document in documents:
            if KINDS.get(document.kind) is Predicate.PROVENANCE:
                try:
                    verify(document.data, digest, self.keys)
                except VerificationFailed as error:
                    problem = str(error)
                else:
                    return ""
        return problem

    def _is_shared(self, name: str) -> bool:
        """Whether the shared store has something, which the host that needs it fetches."""
        return self.exchange is not None and name in self.exchange.store.names(name)

    def _add(self, report: StoreReport, fault: StoreFault, repair: Callable[[], bool]) -> None:
        repaired = self.storage is not None and repair()
        report.faults.append(
            StoreFault(fault.subject, fault.problem, fault.needed_by, repaired) if repaired else fault
        )


def _count_orphan(report: StoreReport, path: Path) -> None:
    report.orphans += 1
    with contextlib.suppress(OSError):
        report.orphan_size += path.stat().st_size
