"""Managed content as resources: components, workflows and base images of owner `aws` (spec/api.md 4.12).

They are documents in the package, not rows: all accounts and regions see the same ones, under ARNs of their own
partition and region.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from imagesmith.components.grammar import parse_component
from imagesmith.components.model import component_type, parameter_details
from imagesmith.managed.bases import managed_bases
from imagesmith.managed.catalog import managed_components, managed_workflows
from imagesmith.recipes.kinds import IMAGE_KINDS
from imagesmith.store.records import Record
from imagesmith.values.api import ApiDocument
from imagesmith.values.arn import Arn
from imagesmith.values.names import iso_instant
from imagesmith.values.states import ImageStatus, ResourceStatus
from imagesmith.values.version import Version
from imagesmith.workflow_documents.document import WORKFLOW_TYPES
from imagesmith.workflow_documents.document import parameter_details as workflow_parameters
from imagesmith.workflow_documents.grammar import parse_workflow

PUBLISHED = datetime(2026, 11, 1, tzinfo=UTC)
"""The date of all managed content: the date of the release."""


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

    items: Sequence[ManagedItem] = ()

    def records(self, kind: str, partition: str, region: str) -> list[Record]:
        """All managed resources of a kind, highest version first within a slug."""
        made = [_record(item, partition, region) for item in self.items if item.kind == kind]
        return sorted(made, key=lambda record: (record.slug, record.order), reverse=True)

    def versions(self, arn: Arn) -> list[Record]:
        """The builds of one managed slug, highest first."""
        named = (arn.kind, arn.family or "", arn.slug)
        wanted = [item for item in self.items if (item.kind, item.family, item.slug) == named]
        made = [_record(item, arn.partition, arn.region) for item in wanted]
        return sorted(made, key=lambda record: record.order, reverse=True)


def _record(item: ManagedItem, partition: str, region: str) -> Record:
    arn = Arn(
        partition=partition,
        region=region,
        owner="aws",
        kind=item.kind,
        slug=item.slug,
        version=item.version,
        build="1",
        family=item.family or None,
    )
    shown_version = f"{item.version}/1" if item.kind == "image" else item.version
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
        name=item.slug, created=PUBLISHED, document=document, version=Version.parse(item.version), build=1,
        status=status,
    )  # fmt: skip


def managed_content() -> ManagedContent:
    """The components, workflows and base images of this version."""
    return ManagedContent((*_components(), *_workflows(), *_bases()))


def _components() -> Iterator[ManagedItem]:
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


def _bases() -> Iterator[ManagedItem]:
    for base in managed_bases():
        kind = IMAGE_KINDS[base.kind]
        document: ApiDocument = {
            "type": kind.image_type,
            "platform": base.platform,
            "osVersion": base.os_version,
            "state": {"status": ImageStatus.AVAILABLE},
            "imageSource": "AMAZON_MANAGED",
            "enhancedImageMetadataEnabled": True,
            "outputResources": {kind.outputs_member: []},
        }
        yield ManagedItem("image", base.name, base.version, document)
