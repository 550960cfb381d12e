"""What an answer says about each image: where it runs on, what mends it, and the pipelines to start, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy.engine import Connection

from imagesmith.store import ancestry, inventories, queries
from imagesmith.store.ancestry import Lineage
from imagesmith.store.records import Record
from imagesmith.values.chunks import in_chunks
from imagesmith.values.states import ImageStatus
from imagesmith.vulnerabilities.question import Found, HeldPackage


class Remedy(StrEnum):
    """What mends an affected image."""

    SETTLED = "a verdict says that it is not affected, or fixed"
    NEWER_IMAGE = "a newer image of its pipeline is not affected"
    UNREAD_NEWER_IMAGE = "build it again; a newer image of its pipeline has no inventory to judge it by"
    PARENT = "build its parent again first"
    REBUILD = "build it again"
    NO_FIX = "no fix is known"
    NO_PIPELINE = "build it again; no pipeline made it"


@dataclass(frozen=True)
class AffectedImage:
    """One image of an answer."""

    arn: str
    status: str
    created: str
    packages: tuple[HeldPackage, ...]
    outputs: tuple[str, ...]
    """Image URIs, and AMIs with their Region."""
    children: tuple[str, ...]
    parent: str
    """The ARN of the image that it was built on, if that is in the answer too."""
    pipeline: str
    remedy: Remedy | None
    """None where nothing is wrong with the image: the question was about a package."""
    scanned: bool = False
    """Whether only the scan of its build found it."""

    def to_json(self) -> Mapping[str, Any]:
        return {
            "arn": self.arn, "status": self.status, "created": self.created,
            "packages": [item.to_json() for item in self.packages], "outputs": list(self.outputs),
            "children": list(self.children), "affectedParent": self.parent, "pipeline": self.pipeline,
            "remedy": self.remedy.name if self.remedy is not None else "", "onlyScanned": self.scanned,
        }  # fmt: skip


@dataclass(frozen=True)
class PipelineToStart:
    """A pipeline whose newest image is affected; `after`: pipelines that must have built before."""

    arn: str
    image: str
    after: tuple[str, ...]
    pinned: str = ""
    """The fixed parent in its recipe: another build of it takes the same parent again."""

    def to_json(self) -> Mapping[str, Any]:
        return {"arn": self.arn, "image": self.image, "after": list(self.after), "pinnedParent": self.pinned}


@dataclass(frozen=True)
class FleetAnswer:
    """The images, newest first, and the pipelines to start, in order."""

    images: tuple[AffectedImage, ...]
    pipelines: tuple[PipelineToStart, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> Mapping[str, Any]:
        return {
            "images": [item.to_json() for item in self.images],
            "pipelines": [item.to_json() for item in self.pipelines],
            "notes": list(self.notes),
        }


def describe(tx: Connection, found: Found, *, vulnerable: bool) -> FleetAnswer:
    """The answer for the images that were found; `vulnerable`: they should be mended."""
    records = _records(tx, list(found.images))
    known = ancestry.lineages(tx, records)
    by_digest = {item.digest: arn for arn, item in sorted(known.items(), reverse=True) if item.digest}
    direct = _parents(known, by_digest)
    parents = {arn: parent for arn, parent in direct.items() if not _is_settled(found, parent)}
    newest = _newest(tx, records)
    unread = set(newest.values()) - inventories.images_with_system(tx, newest.values())
    below = _children(tx, known, by_digest, direct)
    images = tuple(
        AffectedImage(
            arn=record.arn, status=record.status, created=str(record.document.get("dateCreated", "")),
            packages=tuple(found.images[record.arn]), outputs=tuple(outputs_of(record.document)),
            children=below.get(record.arn, ()), parent=parents.get(record.arn, ""), pipeline=record.source,
            remedy=_remedy(record, found, parents, newest, unread) if vulnerable else None,
            scanned=record.arn in found.scanned,
        )
        for record in sorted(records.values(), key=lambda item: (item.created, item.arn), reverse=True)
    )  # fmt: skip
    remedies = {image.arn: image.remedy for image in images}
    pipelines = _pipelines(tx, records, remedies, parents, newest) if vulnerable else []
    return FleetAnswer(images, tuple(pipelines), found.notes)


def outputs_of(document: Mapping[str, Any]) -> Iterator[str]:
    """Where an image runs on: image URIs, and `ami-... REGION`."""
    outputs = document.get("outputResources") or {}
    for container in outputs.get("containers") or ():
        yield from container.get("imageUris") or ()
    for ami in outputs.get("amis") or ():
        yield f"{ami['image']} {ami['region']}"


def _records(tx: Connection, arns: Sequence[str]) -> dict[str, Record]:
    """The images that still exist."""
    found = queries.get_many(tx, sorted(arns))
    return {arn: record for arn, record in found.items() if record.status != ImageStatus.DELETED}


def _parents(known: Mapping[str, Lineage], by_digest: Mapping[str, str]) -> dict[str, str]:
    """Image -> its parent, where that is among the images as well."""
    found = {}
    for arn, item in known.items():
        parent = item.parent if item.parent in known else ""
        if not parent and not item.parent.startswith("arn:") and item.parent_digest:
            parent = by_digest.get(item.parent_digest, "")
        if parent and parent != arn:
            found[arn] = parent
    return found


def _children(
    tx: Connection, known: Mapping[str, Lineage], by_digest: Mapping[str, str], parents: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Image -> the images that are built directly on it; `parents`: those that are among the images."""
    below: dict[str, list[str]] = {}
    children = ancestry.children(tx, list(known.values()))
    stored = _records(tx, [child.image_arn for child in children])
    for child in children:
        if child.image_arn not in stored:
            continue
        parent = child.parent if child.parent in known else by_digest.get(child.parent_digest, "")
        if parent:
            below.setdefault(parent, []).append(child.image_arn)
    for arn, parent in parents.items():
        below.setdefault(parent, []).append(arn)
    return {arn: tuple(sorted(set(items))) for arn, items in below.items()}


def _newest(tx: Connection, records: Mapping[str, Record]) -> dict[str, str]:
    """Pipeline -> its newest AVAILABLE image."""
    pipelines = sorted({record.source for record in records.values() if record.source})
    found: dict[str, str] = {}
    for chunk in in_chunks(pipelines, 500):
        found.update(queries.newest_available(tx, chunk))
    return found


def _remedy(
    record: Record, found: Found, parents: Mapping[str, str], newest: Mapping[str, str], unread: Set[str]
) -> Remedy:
    if _is_settled(found, record.arn):
        return Remedy.SETTLED
    last = newest.get(record.source)
    if last is not None and last != record.arn and last not in found.images:
        # without an inventory it may be affected as well
        return Remedy.UNREAD_NEWER_IMAGE if last in unread else Remedy.NEWER_IMAGE
    # a scan that named no packages says nothing about their fixes
    open = [item for item in found.images[record.arn] if not item.settled]
    if open and not any(item.fixed for item in open):
        return Remedy.NO_FIX
    if record.arn in parents:
        return Remedy.PARENT
    return Remedy.REBUILD if record.source else Remedy.NO_PIPELINE


def _is_settled(found: Found, arn: str) -> bool:
    held = found.images[arn]
    return bool(held) and all(item.settled for item in held)


def _pipelines(
    tx: Connection,
    records: Mapping[str, Record],
    remedies: Mapping[str, Remedy | None],
    parents: Mapping[str, str],
    newest: Mapping[str, str],
) -> list[PipelineToStart]:
    """The pipelines whose newest image is affected and can be mended, parents before children."""
    mended = (Remedy.REBUILD, Remedy.PARENT)
    wanted = {pipeline: arn for pipeline, arn in newest.items() if remedies.get(arn) in mended}
    before = {pipeline: _before(pipeline, wanted, records, parents) for pipeline in wanted}
    ordered: list[PipelineToStart] = []
    done: set[str] = set()
    waiting = sorted(wanted)
    while waiting:
        ready = [item for item in waiting if before[item] <= done] or waiting[:1]  # data could form a circle
        for pipeline in ready:
            pinned = _pinned(tx, pipeline) if before[pipeline] else ""
            ordered.append(PipelineToStart(pipeline, wanted[pipeline], tuple(sorted(before[pipeline])), pinned))
        done |= set(ready)
        waiting = [item for item in waiting if item not in done]
    return ordered


def _before(
    pipeline: str, wanted: Mapping[str, str], records: Mapping[str, Record], parents: Mapping[str, str]
) -> set[str]:
    """The pipelines among `wanted` that made a parent, or a parent's parent, of the newest image of a pipeline."""
    makers: set[str] = set()
    current = parents.get(wanted[pipeline])
    for _ in range(ancestry.MOST_GENERATIONS):
        if current is None:
            break
        makers.add(records[current].source)
        current = parents.get(current)
    return {maker for maker in makers if maker in wanted and maker != pipeline}


def _pinned(tx: Connection, pipeline: str) -> str:
    """The parent in the recipe of a pipeline, if it is one build for ever."""
    record = queries.get(tx, pipeline)
    members = record.document if record is not None else {}
    recipe = queries.get(tx, str(members.get("imageRecipeArn") or members.get("containerRecipeArn") or ""))
    parent = str(recipe.document.get("parentImage", "")) if recipe is not None else ""
    if parent.startswith("arn:"):
        build = parent.rpartition("/")[2]
        return parent if build.isdigit() and parent.count("/") == 3 else ""
    return parent if "@sha256:" in parent else ""
