"""The sections of the settings: a frozen class for each table of the file, its keys declared beside their types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from imagesmith.settings_values import (
    ANY,
    BASE,
    CHECKSUM,
    COUNT,
    CPUS,
    DISK,
    HOST,
    MOST_PER_SECOND,
    PATH,
    PLATFORM,
    REGISTRY,
    SOME,
    URL,
    WORKER,
    megabytes,
    seconds,
)
from imagesmith.values.declared import Range, Text


@dataclass(frozen=True)
class Tls:
    """The certificate of the API; without one it is plain HTTP, and for clients on this machine alone."""

    certificate: Annotated[str, PATH] = ""
    """Path of the certificate with its chain, in PEM. It is read again when it changes, or on SIGHUP."""
    key: Annotated[str, PATH] = ""
    """Path of its private key, in PEM and without a password."""
    self_signed: bool = False
    """Make an authority and a certificate in the folder `tls` of the data directory, and use them."""
    authority: Annotated[str, PATH] = ""
    """Path of the certificates that clients trust, for `imagesmith env`. Empty: those of their machines."""


@dataclass(frozen=True)
class Registry:
    """Where the images of one region go: the meaning of "ECR" here (docs/design.md, Artifacts)."""

    url: Annotated[str, REGISTRY]
    """`host[:port][/path]`, without a scheme."""
    username: Annotated[str, ANY] = ""
    password_file: Annotated[str, PATH] = ""
    """Path of a file with the password; settings never contain the password itself."""
    insecure: bool = False
    """Plain HTTP or an unverified certificate; for loopback and tests."""


@dataclass(frozen=True)
class Quotas:
    """Limits per account and region (spec/api.md 4.8)."""

    components: Annotated[int, COUNT] = 1000
    image_recipes: Annotated[int, COUNT] = 1000
    container_recipes: Annotated[int, COUNT] = 1000
    infrastructure_configurations: Annotated[int, COUNT] = 1000
    distribution_configurations: Annotated[int, COUNT] = 1000
    workflows: Annotated[int, COUNT] = 1000
    image_pipelines: Annotated[int, COUNT] = 75
    components_per_recipe: Annotated[int, COUNT] = 20
    parameters_per_component: Annotated[int, COUNT] = 25
    document_bytes: Annotated[int, Range(1, 1_000_000, "bytes")] = 65536
    parameter_value_characters: Annotated[int, Range(1, 1_000_000, "characters")] = 1024
    workflows_per_image: Annotated[int, COUNT] = 10
    target_accounts: Annotated[int, COUNT] = 50
    launch_templates_per_region: Annotated[int, COUNT] = 5
    ssm_parameters_per_region: Annotated[int, COUNT] = 10
    lifecycle_policies: Annotated[int, COUNT] = 50
    resource_state_updates: Annotated[int, COUNT] = 50
    """Updates of single images by StartResourceStateUpdate that have not ended."""


@dataclass(frozen=True)
class Builds:
    """How builds run on this worker."""

    concurrency: Annotated[int, Range(1, 1024, "builds")] = 2
    step_timeout_seconds: Annotated[int, seconds(1, 30 * 86400)] = 7200
    memory_mb: Annotated[int, megabytes(16)] = 4096
    processes: Annotated[int, Range(16, 4_194_304, "processes")] = 4096
    push_attempts: Annotated[int, Range(1, 100, "attempts")] = 12
    """Attempts of a pull or push while a registry is unavailable: five minutes, the pauses double from 0.5 s."""
    registry_pause_seconds: Annotated[int, Range(1, 3600, "seconds")] = 60
    """The longest pause between two attempts, also if a Retry-After of the registry is longer."""
    base_max_age_days: Annotated[int, Range(0, 36_500, "days")] = 7
    strict_chaining: bool = False
    """A path under an input key without `.$` is a string, as in the service (spec/workflows.md 13, no. 3)."""
    free_disk_mb: Annotated[int, megabytes(0)] = 512
    """Space that a build must leave free on the disk of the data directory; a build that exceeds it is stopped."""
    stages_at_once: Annotated[int, Range(1, 64, "stages")] = 2
    """Independent stages of a Dockerfile that a build carries out at once, each within the limits above."""
    cache_mb: Annotated[int, megabytes(0)] = 10240
    """Disk space for results of instructions and components, which later container builds use; 0: none is kept."""
    cache_max_age_hours: Annotated[int, Range(0, 876_000, "hours")] = 24
    """Older results that may come from the network are not used, unless a run allows a greater age."""
    reproducible: bool = False
    """Builds of containers, and of machines without a boot, make the same bytes each time."""


@dataclass(frozen=True)
class Workers:
    """Several hosts on one PostgreSQL; the values are the same on all of them, except the name."""

    name: Annotated[str, WORKER] = ""
    """Name of this worker, unique among all workers. Empty: derived from the host's name and the data directory."""
    lease_seconds: Annotated[int, seconds(1, 86400)] = 30
    """A worker without a heartbeat for longer loses its lease; other workers take over its builds."""
    drain_seconds: Annotated[int, seconds(0, 7 * 86400)] = 600
    """How long a stopping worker waits for its builds before it hands them over."""
    overall_concurrency: Annotated[int, Range(0, 65_536, "builds")] = 0
    """Limit of container builds, and of machine builds, at the same time on all workers; 0: no limit."""


@dataclass(frozen=True)
class Schedules:
    """The clock (spec/pipelines.md 3)."""

    misfire_grace_seconds: Annotated[int, seconds(0, 366 * 86400)] = 3600
    overlap: Literal["allow", "skip"] = "allow"
    lenient_cron: bool = False
    container_tag_updates: bool = False
    """A base that is a registry tag counts as updated when the tag moved; each tick then queries the registry."""
    cascade: bool = False
    """An image that becomes AVAILABLE starts the pipelines whose base it is."""


@dataclass(frozen=True)
class Lifecycle:
    """Lifecycle policies (spec/api.md 5.5)."""

    run_at: Annotated[str, Text(r"([01][0-9]|2[0-3]):[0-5][0-9]", "HH:MM, in UTC")] = "03:00"
    """The time of day at which enabled policies run."""


@dataclass(frozen=True)
class RateLimit:
    """A token bucket: `rate` requests per second on average, up to `burst` at once."""

    rate: Annotated[float, Range(0, MOST_PER_SECOND, "requests a second", above=True)]
    burst: Annotated[int, Range(1, MOST_PER_SECOND, "requests")] = 1


@dataclass(frozen=True)
class Role:
    """What a run under this execution role may use, and who may pass it; `*` in a list means everything."""

    registries: Annotated[tuple[str, ...], SOME] = ()
    """Regions, `account/region`, or URLs as in `registries`; a URL includes every path below it."""
    buckets: Annotated[tuple[str, ...], SOME] = ()
    secrets: Annotated[tuple[str, ...], SOME] = ()
    log_groups: Annotated[tuple[str, ...], SOME] = ()
    """Names or, with `*` at the end, prefixes; the service's own groups need no entry."""
    hosts: Annotated[tuple[str, ...], SOME] = ()
    """Of machine_hosts: Regions, `account/region`, or addresses."""
    passed_by: Annotated[tuple[str, ...], SOME] = ("*",)
    """Access key ids and principal ARNs, in which `*` matches any text."""


@dataclass(frozen=True)
class Hook:
    """The replacement for a state machine, a topic or a function: a program of this machine, or a URL.

    A program reads JSON from its standard input and writes JSON to its standard output; a URL receives it by POST.
    """

    command: Annotated[tuple[str, ...], SOME] = ()
    url: Annotated[str, URL] = ""


@dataclass(frozen=True)
class Advisories:
    """How images are scanned, and the source of the advisories."""

    source: Annotated[str, ANY] = ""
    """Folder, file or URL that `imagesmith advisories update` imports."""
    scanner: Literal["embedded", "trivy", "grype"] = "embedded"
    scanner_database: Annotated[str, PATH] = ""
    """Folder of the database of trivy or grype."""
    timeout_seconds: Annotated[int, seconds(1, 86400)] = 900
    """How long one scan may take."""


@dataclass(frozen=True)
class InstanceType:
    """What a virtual machine of one type has."""

    cpus: Annotated[int, CPUS]
    memory_mb: Annotated[int, megabytes(64)]


@dataclass(frozen=True)
class Machines:
    """How virtual machines run on this worker."""

    accelerator: Literal["auto", "kvm", "tcg"] = "auto"
    """`auto`: KVM where a guest really ran under it, else emulation."""
    cpus: Annotated[int, CPUS] = 2
    memory_mb: Annotated[int, megabytes(64)] = 1024
    boot_timeout_seconds: Annotated[int, seconds(1, 86400)] = 900
    cache_mb: Annotated[int, megabytes(0)] = 20480
    """Disk space for overlays that are kept between runs; the least recently used are removed first."""
    cache_max_age_hours: Annotated[int, Range(0, 876_000, "hours")] = 168
    """Older overlays are removed, even if a run allows a greater age."""


@dataclass(frozen=True)
class MachineHost:
    """A host that runs virtual machines and receives every disk that is distributed to its Region."""

    address: Annotated[str, HOST]
    key_file: Annotated[str, SOME]
    """Path of the private key for this host."""
    host_key: Annotated[
        str, Text(r"(ssh|ecdsa|sk)-\S+ [A-Za-z0-9+/=]+( .*)?", "a public key, like ssh-ed25519 AAAA...")
    ]
    """The host's public key, `ssh-ed25519 AAAA...`; no other is accepted."""
    directory: Annotated[str, Text(r"/.*", "an absolute path")] = "/var/lib/libvirt/images"
    user: Annotated[str, Text(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", "a user name")] = "root"
    port: Annotated[int, Range(1, 65_535)] = 22


@dataclass(frozen=True)
class ManagedImage:
    """What a managed image means here: a base, an image of a registry, or a disk with its checksum."""

    base: Annotated[str, BASE] = ""
    """A base of this version, like `debian-12-x86` for machines and `debian-x86-12` for containers."""
    registry: Annotated[str, ANY] = ""
    """Reference of a container image, like `public.ecr.aws/amazonlinux/amazonlinux:2023`."""
    disk: Annotated[str, DISK] = ""
    """Path or URL of a raw or qcow2 disk with cloud-init and an SSH server."""
    checksum: Annotated[str, CHECKSUM] = ""
    """Expected checksum of the disk."""
    os_version: Annotated[str, ANY] = ""
    """The operating system, like `Ubuntu 24.04`. Empty: that of the base, else that of the name."""
    platform: Annotated[str, PLATFORM] = ""
    """Empty: that of the base, else that of the name."""
