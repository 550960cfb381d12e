"""The build plan: the one snapshot that a run obeys, resolved when the run starts (spec/api.md 4.2).

Plain data that survives JSON, so that the journal, a worker on another host and provenance read the same plan.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any, Literal

from imagesmith.recipes.kinds import IMAGE_KINDS, ImageKind, KindName
from imagesmith.recipes.reproducible import PlannedReproducible
from imagesmith.values.arn import Arn
from imagesmith.values.names import canonical_json, sha256_hex

RunPurpose = Literal["build", "distribute", "import", "install"]


@dataclass(frozen=True)
class PlannedDocument:
    """A component that another component runs: the ARN in its step, the concrete build, and its document."""

    asked: str
    arn: str
    text: str


@dataclass(frozen=True)
class PlannedComponent:
    """A component as it runs: the concrete build and its document."""

    arn: str
    text: str
    parameters: Mapping[str, str]
    documents: tuple[PlannedDocument, ...] = ()
    """The components that its steps run by ARN, at all levels, as far as known at the start of the run."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PlannedComponent:
        documents = tuple(PlannedDocument(**item) for item in data.get("documents", ()))
        return cls(**{**data, "documents": documents})


@dataclass(frozen=True)
class ManagedSource:
    """What stands in for a managed image, as configured at the start of the run."""

    kind: Literal["base", "registry", "disk", "none"]
    """`none`: the settings do not say what the image means here."""
    location: str = ""
    """The name of a base, a reference, or the path or URL of a disk."""
    checksum: str = ""

    def __str__(self) -> str:
        """In the words of logs and provenance, without the query of a URL, which may hold a secret."""
        return f"{self.kind}:{self.location.partition('?')[0]}"


@dataclass(frozen=True)
class PlannedParent:
    """The parent as resolved: `reference` is an image build ARN, a registry reference, a local layout, an AMI, or
    the `s3://` address of a disk that is imported."""

    kind: Literal["managed", "image", "registry", "layout", "machine", "object"]
    reference: str
    digest: str = ""
    """For an image build ARN: the artifact."""
    source: ManagedSource | None = None
    """For a managed image; None in plans of earlier versions, which only knew bases by their own name."""

    @property
    def managed_source(self) -> ManagedSource:
        """What to build on for a managed image."""
        return self.source or ManagedSource("base", Arn.parse(self.reference).slug)

    @property
    def stand_in(self) -> str:
        """What stands in for a managed image that is no base of ours under its own name; else empty."""
        if self.kind != "managed" or self.managed_source == ManagedSource("base", Arn.parse(self.reference).slug):
            return ""
        return str(self.managed_source)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PlannedParent:
        return cls(**{**data, "source": ManagedSource(**data["source"]) if data.get("source") else None})


@dataclass(frozen=True)
class PushTarget:
    """One repository of one region that the finished image is pushed to."""

    region: str
    repository: str
    tags: tuple[str, ...]
    """Extra tags next to the default `<version>-<build>`."""


@dataclass(frozen=True)
class PlannedRole:
    """The execution role as configured at the start of the run, with the members of settings.Role."""

    name: str
    registries: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    log_groups: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PlannedRole:
        lists = {key: tuple(value) for key, value in data.items() if key != "name"}
        return cls(data["name"], **lists)


@dataclass(frozen=True)
class PlannedScan:
    """The repository and tags of the image under scan; no tags: one of name, version and build."""

    repository: str
    tags: tuple[str, ...] = ()
    on_demand: bool = False
    """The AMI itself is scanned in the test phase, instead of the test instance; its findings are not listed."""
    maximum_severity: str = ""
    """The highest allowed severity in a scan on demand; empty: findings do not fail the image."""
    fixable_only: bool = True
    """Findings without a fix do not count."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PlannedScan:
        return cls(**{**data, "tags": tuple(data["tags"])})


@dataclass(frozen=True)
class PlannedWorkflow:
    """A workflow as it runs: the concrete build, its document, and its members in the request."""

    arn: str
    type: Literal["BUILD", "TEST", "DISTRIBUTION"]
    text: str
    parameters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name -> values, as in the request."""
    parallel_group: str = ""
    continue_on_failure: bool = False

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PlannedWorkflow:
        parameters = {name: tuple(values) for name, values in data["parameters"].items()}
        return cls(**{**data, "parameters": parameters})


@dataclass(frozen=True)
class PlannedMachine:
    """The inputs of a run of an image recipe besides its components."""

    instance_types: tuple[str, ...] = ()
    """Of the infrastructure, to be tried in order."""
    block_devices: tuple[Mapping[str, Any], ...] = ()
    """Of the recipe, as the API shows them."""
    user_data: str = ""
    """Base64; empty without an override."""
    distributions: tuple[Mapping[str, Any], ...] = ()
    """Entries of the distribution configuration, as the API shows them."""
    cache_seconds: float = 0.0
    """Greatest age of a usable overlay of an earlier run; 0: none is used or kept."""
    description: str = ""
    """Of the recipe, for the AMI of the build Region, unless the distribution has one."""
    ami_tags: Mapping[str, str] = field(default_factory=dict)
    """Of the recipe, for the AMI of the build Region."""
    watermarked: bool = False
    no_boot: bool = False
    """Build components change the root file system in a sandbox, and no machine starts before the tests."""
    tokens_required: bool = False
    """`instanceMetadataOptions.httpTokens` of the infrastructure is `required`."""
    image_index: int = 1
    """The edition that an installation takes from its ISO."""
    secure_boot: bool = False
    """Recorded with the AMI of an installation."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PlannedMachine:
        lists = {key: tuple(value) for key, value in data.items() if isinstance(value, list)}
        return cls(**{**data, **lists})


@dataclass(frozen=True)
class PlannedCache:
    """What a container build takes from the results of earlier builds."""

    max_age_seconds: float | None = None
    """Greatest age of results that may come from the network; None: that of the settings."""
    reads: bool = True
    """False: nothing of earlier builds is used."""
    components: bool = False
    """Components are taken from the cache as well, and see no variables of the run."""


@dataclass(frozen=True)
class BuildPlan:
    """All inputs of one run."""

    image_arn: str
    account: str
    region: str
    name: str
    version: str
    build: int
    kind: KindName
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
    """The rights of the run; None when no roles are configured, which withholds nothing."""
    log_group: str = ""
    keep_failed_instance: bool = False
    scheduled: bool = False
    """A run of the pipeline's own schedule: its failure counts."""
    scan: PlannedScan | None = None
    """None: the image is not scanned."""
    workflows: tuple[PlannedWorkflow, ...] = ()
    """In the order of the request, or the managed ones; a stage without a workflow of its type has none."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """The system variables that do not change during the run (spec/workflows.md 3.5)."""
    keep_completed_instance: bool = False
    machine: PlannedMachine | None = None
    """None for a container image."""
    unused: tuple[str, ...] = ()
    """Members of the infrastructure and of the recipe that are set and have no effect here."""
    cache: PlannedCache = field(default_factory=PlannedCache)
    network: Literal["outbound", "none"] = "outbound"
    """Of the instances and instructions of a container build; `none`: a loopback and nothing else."""
    reproducible: PlannedReproducible | None = None
    """None: times, logs and ids of the run may be in its image."""
    purpose: RunPurpose = "build"
    """A run that distributes or imports a disk has no recipe, no components and no workflows."""

    @property
    def image_kind(self) -> ImageKind:
        return IMAGE_KINDS[self.kind]

    @property
    def default_tag(self) -> str:
        """The tag every pushed image gets (spec/api.md 5.2)."""
        return f"{self.version}-{self.build}"

    @property
    def layout_reference(self) -> str:
        """The reference of the image in the embedded layout; ends with the default tag (spec/api.md 5.2)."""
        return f"{self.account}/{self.region}/{Arn.parse(self.image_arn).slug}:{self.default_tag}"

    @property
    def digest(self) -> str:
        return sha256_hex(canonical_json(self.to_json()))

    def to_json(self) -> Mapping[str, Any]:
        """Plain data, all the way down; asdict() takes twice as long, and 10,000 runs may start in a minute."""
        plain: Mapping[str, Any] = json.loads(json.dumps(self, default=_members))
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BuildPlan:
        return cls(
            **{
                **data,
                "parent": PlannedParent.from_json(data["parent"]),
                "scan": PlannedScan.from_json(data["scan"]) if data.get("scan") else None,
                "unused": tuple(data.get("unused", ())),
                "cache": PlannedCache(**data.get("cache", {})),
                "machine": PlannedMachine.from_json(data["machine"]) if data.get("machine") else None,
                "reproducible": PlannedReproducible.from_json(data["reproducible"])
                if data.get("reproducible")
                else None,
                "role": PlannedRole.from_json(data["role"]) if data.get("role") else None,
                "components": tuple(PlannedComponent.from_json(item) for item in data["components"]),
                "workflows": tuple(PlannedWorkflow.from_json(item) for item in data.get("workflows", ())),
                "targets": tuple(
                    PushTarget(item["region"], item["repository"], tuple(item["tags"])) for item in data["targets"]
                ),
            }
        )


def _members(value: Any) -> Mapping[str, Any]:
    return vars(value) if is_dataclass(value) else dict(value)
