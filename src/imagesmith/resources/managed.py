"""Managed content as resources: components, workflows and base images of owner `aws` (spec/api.md 4.12).

They are documents in the package, not rows: all accounts and regions see the same ones, under ARNs of their own
partition and region.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache

from imagesmith.recipes.kinds import IMAGE_KINDS
from imagesmith.recipes.plan import ManagedSource
from imagesmith.resources.managed_images import KnownImage, managed_images
from imagesmith.settings import ManagedImage
from imagesmith.store.records import Record
from imagesmith.values.api import ApiDocument
from imagesmith.values.arn import Arn
from imagesmith.values.names import iso_instant
from imagesmith.values.states import ImageStatus, ResourceStatus
from imagesmith.values.version import Version, VersionPattern
from imagesmith.workflow_documents.document import WORKFLOW_TYPES
from imagesmith.workflow_documents.document import parameter_details as workflow_parameters

PUBLISHED = datetime(2026, 11, 1, tzinfo=UTC)
"""The date of all managed content: the date of the release."""

_IN_EVERY_VERSION = frozenset({"component", "image"})


@dataclass(frozen=True)
class ManagedItem:
    """One managed component, workflow or base image, independent of partition and region."""

    kind: str
    slug: str
    version: str
    document: ApiDocument
    """Members in the answer of Get besides arn, name, version, owner and dates."""
    family: str = ""
    """Of a workflow: build, test or distribution."""


@dataclass(frozen=True)
class ManagedContent:
    """Everything of owner `aws`."""

    images: Sequence[ManagedItem] = ()
    documents: Callable[[], Sequence[ManagedItem]] = tuple
    """The components and workflows, which are read when they are needed first."""
    sources: Mapping[str, ManagedSource] = field(default_factory=dict)
    """What each image means here, by its slug."""

    @property
    def items(self) -> Sequence[ManagedItem]:
        return (*self.documents(), *self.images)

    def records(self, kind: str, partition: str, region: str) -> list[Record]:
        """All managed resources of a kind, highest version first within a slug."""
        made = [_record(item, partition, region) for item in self.items if item.kind == kind]
        return sorted(made, key=lambda record: (record.slug, record.order), reverse=True)

    def versions(self, arn: Arn) -> list[Record]:
        """The builds of one managed slug that an ARN can mean, highest first. Raises VersionError.

        Templates pin versions of the service, so components and images exist in every version and build.
        """
        named = (arn.kind, arn.family or "", arn.slug)
        wanted = [item for item in self.items if (item.kind, item.family, item.slug) == named]
        if arn.kind in _IN_EVERY_VERSION and wanted:
            newest = max(wanted, key=lambda item: Version.parse(item.version))
            asked = replace(newest, version=_spelling(arn.version or "x.x.x", newest.version))
            return [_record(asked, arn.partition, arn.region, build=arn.build or "1")]
        made = [_record(item, arn.partition, arn.region) for item in wanted]
        return sorted(made, key=lambda record: record.order, reverse=True)


def _spelling(asked: str, listed: str) -> str:
    """The version that stands for a text: an exact one as it was sent."""
    pattern = VersionPattern.parse(asked)
    return asked if pattern.is_exact else str(pattern.filled(Version.parse(listed)))


def _record(item: ManagedItem, partition: str, region: str, *, build: str = "1") -> Record:
    arn = Arn(
        partition=partition,
        region=region,
        owner="aws",
        kind=item.kind,
        slug=item.slug,
        version=item.version,
        build=build,
        family=item.family or None,
    )
    shown_version = f"{item.version}/{build}" if item.kind == "image" else item.version
    document = {
        "arn": str(arn),
        "name": item.slug,
        "version": shown_version,
        "owner": "Amazon",
        "dateCreated": iso_instant(PUBLISHED),
        **item.document,
    }
    status = document.get("state", {}).get("status", "")
    return Record(
        arn=str(arn), account="aws", region=region, kind=item.kind, family=item.family, slug=item.slug,
        name=item.slug, created=PUBLISHED, document=document, version=Version.parse(item.version), build=int(build),
        status=status,
    )  # fmt: skip


def managed_content(mapping: Mapping[str, ManagedImage] | None = None) -> ManagedContent:
    """The components and workflows of this version, and the images that the settings and it know.

    `mapping`: the settings' managed_images. Raises SettingsError.
    """
    images = managed_images(mapping or {})
    return ManagedContent(
        images=tuple(_images(images)),
        documents=managed_documents,
        sources={image.name: image.source for image in images},
    )


@cache
def managed_documents() -> Sequence[ManagedItem]:
    """The components and workflows of this version; reading them takes 40 ms."""
    return (*_components(), *_workflows())


def _components() -> Iterator[ManagedItem]:
    from imagesmith.components.grammar import parse_component  # late: cli/startup.py
    from imagesmith.components.model import component_type, parameter_details
    from imagesmith.managed.catalog import managed_components

    for component in managed_components():
        parsed = parse_component(component.text, platform=component.platform)
        if parsed.document is None:
            raise ValueError(f"managed component {component.name}: {parsed.problems}")
        document = {
            "description": component.description,
            "platform": component.platform,
            "type": component_type(parsed.document),
            "state": {"status": ResourceStatus.ACTIVE},
            "parameters": parameter_details(parsed.document),
            "data": component.text,
            "encrypted": True,
        }
        yield ManagedItem("component", component.name, component.version, document)


def _workflows() -> Iterator[ManagedItem]:
    from imagesmith.managed.catalog import managed_workflows  # late: cli/startup.py
    from imagesmith.workflow_documents.grammar import parse_workflow

    for workflow in managed_workflows():
        kind = WORKFLOW_TYPES[workflow.family]
        parsed = parse_workflow(workflow.text, kind)
        if parsed.document is None:
            raise ValueError(f"managed workflow {workflow.family}/{workflow.name}: {parsed.problems}")
        document = {
            "description": workflow.description,
            "type": kind,
            "parameters": workflow_parameters(parsed.document),
            "data": workflow.text,
        }
        yield ManagedItem(
            kind="workflow", slug=workflow.name, version=workflow.version, document=document, family=workflow.family
        )


def _images(images: Sequence[KnownImage]) -> Iterator[ManagedItem]:
    for image in images:
        kind = IMAGE_KINDS[image.kind]
        document: ApiDocument = {
            "type": kind.image_type,
            "platform": image.platform,
            "osVersion": image.os_version,
            "state": {"status": ImageStatus.AVAILABLE},
            "imageSource": "AMAZON_MANAGED",
            "enhancedImageMetadataEnabled": True,
            "outputResources": {kind.outputs_member: []},
        }
        yield ManagedItem("image", image.name, image.version, document)
