"""The build plan: the one snapshot that a run obeys, resolved when the run starts (spec/api.md 4.2).

Plain data that survives JSON, so that the journal, a worker on another host and provenance read the same plan.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any, Literal

from imagesmith.values.names import canonical_json, sha256_hex


@dataclass(frozen=True)
class PlannedComponent:
    """A component as it runs: the concrete build and its document."""

    arn: str
    text: str
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class PlannedParent:
    """The parent as resolved: `reference` is an image build ARN, a registry reference or a local layout."""

    kind: Literal["managed", "image", "registry", "layout", "machine"]
    reference: str
    digest: str = ""
    """For an image of ours: the artifact."""


@dataclass(frozen=True)
class PushTarget:
    """One repository of one region that the finished image is pushed to."""

    region: str
    repository: str
    tags: tuple[str, ...]
    """Extra tags next to the default `<version>-<build>`."""


@dataclass(frozen=True)
class PlannedRole:
    """The execution role as it was configured when the run started; the members are those of settings.Role."""

    name: str
    registries: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    log_groups: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PlannedRole:
        values: dict[str, Any] = {key: value if key == "name" else tuple(value) for key, value in data.items()}
        return cls(**values)


@dataclass(frozen=True)
class PlannedScan:
    """Where the image under scan is pushed, and under which tags; no tags: one made of name, version and build."""

    repository: str
    tags: tuple[str, ...] = ()
    on_demand: bool = False
    """The AMI itself is scanned in the test phase, instead of the test instance; its findings are not listed."""
    maximum_severity: str = ""
    """What a finding of a scan on demand must not exceed; empty: the scan has no say."""
    fixable_only: bool = True
    """Findings without a fix do not count."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PlannedScan:
        return cls(**{**data, "tags": tuple(data["tags"])})


@dataclass(frozen=True)
class PlannedWorkflow:
    """A workflow as it runs: the concrete build, its document, and what the request says of it."""

    arn: str
    type: Literal["BUILD", "TEST", "DISTRIBUTION"]
    text: str
    parameters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name -> values, as given."""
    parallel_group: str = ""
    continue_on_failure: bool = False

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PlannedWorkflow:
        parameters = {name: tuple(values) for name, values in data["parameters"].items()}
        return cls(**{**data, "parameters": parameters})


@dataclass(frozen=True)
class PlannedMachine:
    """What a run of an image recipe needs beside its components."""

    instance_types: tuple[str, ...] = ()
    """Of the infrastructure, to be tried in order."""
    block_devices: tuple[Mapping[str, Any], ...] = ()
    """Of the recipe, as the API shows them."""
    user_data: str = ""
    """Base64; empty without an override."""
    distributions: tuple[Mapping[str, Any], ...] = ()
    """Entries of the distribution configuration, as the API shows them."""
    cache_seconds: float = 0.0
    """How old an overlay of an earlier run may be to be used; 0: none is used, none is kept."""
    description: str = ""
    """Of the recipe: that of the AMI of the build Region, unless the distribution gives one."""
    ami_tags: Mapping[str, str] = field(default_factory=dict)
    """Of the recipe, for the AMI of the build Region."""
    watermarked: bool = False
    no_boot: bool = False
    """Build components change the root file system in a sandbox, and no machine starts before the tests."""
    tokens_required: bool = False
    """`instanceMetadataOptions.httpTokens` of the infrastructure is `required`."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PlannedMachine:
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
        }
        return cls(**values)


@dataclass(frozen=True)
class BuildPlan:
    """Everything one run needs to know."""

    image_arn: str
    account: str
    region: str
    name: str
    version: str
    build: int
    kind: Literal["container", "machine"]
    parent: PlannedParent
    components: tuple[PlannedComponent, ...]
    dockerfile: str
    working_directory: str
    tests_enabled: bool
    tests_timeout_minutes: int
    collect_metadata: bool
    targets: tuple[PushTarget, ...]
    pipeline_arn: str = ""
    execution_role: str = ""
    role: PlannedRole | None = None
    """What the run may use; None when no roles are configured, which withholds nothing."""
    log_group: str = ""
    keep_failed_instance: bool = False
    scheduled: bool = False
    """A run of the pipeline's own schedule: its failure counts."""
    scan: PlannedScan | None = None
    """None: the image is not scanned."""
    workflows: tuple[PlannedWorkflow, ...] = ()
    """In the order of the request, or the managed ones; without one of a type that stage has no workflow."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """The system variables that do not change during the run (spec/workflows.md 3.5)."""
    keep_completed_instance: bool = False
    machine: PlannedMachine | None = None
    """None for a container image."""

    @property
    def default_tag(self) -> str:
        """The tag every pushed image gets (spec/api.md 5.2)."""
        return f"{self.version}-{self.build}"

    @property
    def digest(self) -> str:
        return sha256_hex(canonical_json(self.to_json()))

    def to_json(self) -> dict[str, Any]:
        """Plain data, all the way down; asdict() takes twice as long, and ten thousand may start in a minute."""
        plain: dict[str, Any] = json.loads(json.dumps(self, default=_members))
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BuildPlan:
        return cls(
            **{
                **data,
                "parent": PlannedParent(**data["parent"]),
                "scan": PlannedScan.from_json(data["scan"]) if data.get("scan") else None,
                "machine": PlannedMachine.from_json(data["machine"]) if data.get("machine") else None,
                "role": PlannedRole.from_json(data["role"]) if data.get("role") else None,
                "components": tuple(PlannedComponent(**item) for item in data["components"]),
                "workflows": tuple(PlannedWorkflow.from_json(item) for item in data.get("workflows", ())),
                "targets": tuple(
                    PushTarget(item["region"], item["repository"], tuple(item["tags"])) for item in data["targets"]
                ),
            }
        )


def _members(value: Any) -> dict[str, Any]:
    return vars(value) if is_dataclass(value) else dict(value)
