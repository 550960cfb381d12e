"""The settings of a process: one frozen object, the sections of its file, and what each key may be.

    data_dir/
      settings.toml      read when --settings is not given
      imagesmith.sqlite  our tables
      engine.sqlite      the journal of the engine
      secrets.key        the key that secrets in the database are encrypted with, mode 0600
      operator-key.json  the access key of commands on this machine, its secret encrypted
      oci/               the embedded OCI layout
      containers/        storage of buildah
      logs/              one append-only file per image build
      log-groups/        the same logs by log group
      bases/             cached bases and downloads
      disks/             disks of machines, by digest
      machines/          folders of machines that run, and what they run under
      overlays/          what components made of disks, for runs that ask for the cache
      advisories/        what is known about vulnerabilities
      signing/           the key that provenance is signed with, mode 0600, and its public half

Each member declares what it may be (values/declared.py). settings_loader.py reads the file and the environment by
these declarations, and settings_page.py makes the page docs/settings.md of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal

from imagesmith.values.declared import Keys, Range, Text
from imagesmith.values.ecr import EcrError, ecr_address
from imagesmith.values.names import REGION

AuthMode = Literal["static", "none"]

_MOST_PER_SECOND: Final = 1_000_000
_ADDRESS: Final = r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9._-]{0,253}[A-Za-z0-9])?)"
_PORT: Final = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"

_ANY: Final = Text(r".*", "a string of one line", optional=True)
_SOME: Final = Text(r".+", "a string of one line that is not empty")
_WORKER: Final = Text(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", "1 to 63 letters, digits, `.`, `_` and `-`", optional=True
)
_DATABASE: Final = Text(
    rf"postgresql(\+psycopg)?://(\S*@)?({_ADDRESS}(:{_PORT})?)?(/[^\s/?]*)?(\?\S*)?",
    "postgresql+psycopg://USER:PASSWORD@HOST/NAME",
    optional=True,
)
_PATH: Final = Text(r".+", "a path", optional=True)
_URL: Final = Text(
    rf"https?://([^/@\s]+@)?{_ADDRESS}(:{_PORT})?(/\S*)?", "http://HOST or https://HOST", optional=True
)
_MIRROR: Final = Text(rf"https?://{_ADDRESS}(:{_PORT})?(/\S*)?|file:///\S+", "http://HOST/PATH", optional=True)
_HOST: Final = Text(r"[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f.]*(%\w+)?|" + _ADDRESS, "a host name or an address")
_REGISTRY: Final = Text(
    rf"{_ADDRESS}(:{_PORT})?(/[a-z0-9][a-z0-9._/-]*)?", "HOST, HOST:PORT or HOST:PORT/PATH, without a scheme"
)
_SLUG: Final = Text(r"[a-z0-9][a-z0-9_-]{0,126}", "the name of a managed image, like amazon-linux-2023-x86")
_BASE: Final = Text(r"[a-z0-9][a-z0-9-]{0,126}", "the name of a base; see: imagesmith base list", optional=True)
_CHECKSUM: Final = Text(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", "sha256:HEX or sha512:HEX", optional=True)
_PLATFORM: Final = Text(r"Linux|Windows|macOS", "`Linux`, `Windows` or `macOS`", optional=True)
_DISK: Final = Text(
    rf"https?://{_ADDRESS}(:{_PORT})?(/\S*)?|file:///\S+|/\S+",
    "a path, file:///PATH or https://HOST/PATH",
    optional=True,
)
_REGION: Final = Text(REGION, "a Region, like eu-west-1")
_OF_REGION: Final = Text(rf"([0-9]{{12}}/)?{REGION}", "a Region, or ACCOUNT/REGION")
_OPERATION: Final = Text(r"\*|[A-Z][A-Za-z]{2,63}", "an operation, or * for all others")
_COUNT: Final = Range(0, 1_000_000)
_CPUS: Final = Range(1, 512)


def _seconds(low: int, high: int) -> Range:
    return Range(low, high, "seconds")


def _megabytes(low: int) -> Range:
    return Range(low, 16_777_216, "MiB")


class SettingsError(ValueError):
    """A settings file or variable that cannot be used: names the file, the key and what was expected."""


class NoRegistry(ValueError):
    """An address of ECR whose account and Region no configured registry stands for."""


@dataclass(frozen=True)
class Tls:
    """The certificate of the API; without one it is plain HTTP, and for clients on this machine alone."""

    certificate: Annotated[str, _PATH] = ""
    """Path of the certificate with its chain, in PEM. It is read again when it changes, or on SIGHUP."""
    key: Annotated[str, _PATH] = ""
    """Path of its private key, in PEM and without a password."""
    self_signed: bool = False
    """Make an authority and a certificate in the folder `tls` of the data directory, and use them."""
    authority: Annotated[str, _PATH] = ""
    """Path of the certificates that clients trust, for `imagesmith env`. Empty: those of their machines."""


@dataclass(frozen=True)
class Registry:
    """Where the images of one region go: the meaning of "ECR" here (docs/design.md, Artifacts)."""

    url: Annotated[str, _REGISTRY]
    """`host[:port][/path]`, without a scheme."""
    username: Annotated[str, _ANY] = ""
    password_file: Annotated[str, _PATH] = ""
    """Path of a file with the password; settings never contain the password itself."""
    insecure: bool = False
    """Plain HTTP or an unverified certificate; for loopback and tests."""


@dataclass(frozen=True)
class Quotas:
    """Limits per account and region (spec/api.md 4.8)."""

    components: Annotated[int, _COUNT] = 1000
    image_recipes: Annotated[int, _COUNT] = 1000
    container_recipes: Annotated[int, _COUNT] = 1000
    infrastructure_configurations: Annotated[int, _COUNT] = 1000
    distribution_configurations: Annotated[int, _COUNT] = 1000
    workflows: Annotated[int, _COUNT] = 1000
    image_pipelines: Annotated[int, _COUNT] = 75
    components_per_recipe: Annotated[int, _COUNT] = 20
    parameters_per_component: Annotated[int, _COUNT] = 25
    document_bytes: Annotated[int, Range(1, 1_000_000, "bytes")] = 65536
    parameter_value_characters: Annotated[int, Range(1, 1_000_000, "characters")] = 1024
    workflows_per_image: Annotated[int, _COUNT] = 10
    target_accounts: Annotated[int, _COUNT] = 50
    launch_templates_per_region: Annotated[int, _COUNT] = 5
    ssm_parameters_per_region: Annotated[int, _COUNT] = 10
    lifecycle_policies: Annotated[int, _COUNT] = 50
    resource_state_updates: Annotated[int, _COUNT] = 50
    """Updates of single images by StartResourceStateUpdate that have not ended."""


@dataclass(frozen=True)
class Builds:
    """How builds run on this worker."""

    concurrency: Annotated[int, Range(1, 1024, "builds")] = 2
    step_timeout_seconds: Annotated[int, _seconds(1, 30 * 86400)] = 7200
    memory_mb: Annotated[int, _megabytes(16)] = 4096
    processes: Annotated[int, Range(16, 4_194_304, "processes")] = 4096
    push_attempts: Annotated[int, Range(1, 100, "attempts")] = 12
    """Attempts of a pull or push while a registry is unavailable: five minutes, the pauses double from 0.5 s."""
    registry_pause_seconds: Annotated[int, Range(1, 3600, "seconds")] = 60
    """The longest pause between two attempts, also if a Retry-After of the registry is longer."""
    base_max_age_days: Annotated[int, Range(0, 36_500, "days")] = 7
    strict_chaining: bool = False
    """A path under an input key without `.$` is a string, as in the service (spec/workflows.md 13, no. 3)."""
    free_disk_mb: Annotated[int, _megabytes(0)] = 512
    """Space that a build must leave free on the disk of the data directory; a build that exceeds it is stopped."""
    stages_at_once: Annotated[int, Range(1, 64, "stages")] = 2
    """Independent stages of a Dockerfile that a build carries out at once, each within the limits above."""
    cache_mb: Annotated[int, _megabytes(0)] = 10240
    """Disk space for results of instructions and components, which later container builds use; 0: none is kept."""
    cache_max_age_hours: Annotated[int, Range(0, 876_000, "hours")] = 24
    """Older results that may come from the network are not used, unless a run allows a greater age."""


@dataclass(frozen=True)
class Workers:
    """Several hosts on one PostgreSQL; the values are the same on all of them, except the name."""

    name: Annotated[str, _WORKER] = ""
    """Name of this worker, unique among all workers. Empty: derived from the host's name and the data directory."""
    lease_seconds: Annotated[int, _seconds(1, 86400)] = 30
    """A worker without a heartbeat for longer loses its lease; other workers take over its builds."""
    drain_seconds: Annotated[int, _seconds(0, 7 * 86400)] = 600
    """How long a stopping worker waits for its builds before it hands them over."""
    overall_concurrency: Annotated[int, Range(0, 65_536, "builds")] = 0
    """Limit of container builds, and of machine builds, at the same time on all workers; 0: no limit."""


@dataclass(frozen=True)
class Schedules:
    """The clock (spec/pipelines.md 3)."""

    misfire_grace_seconds: Annotated[int, _seconds(0, 366 * 86400)] = 3600
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

    rate: Annotated[float, Range(0, _MOST_PER_SECOND, "requests a second", above=True)]
    burst: Annotated[int, Range(1, _MOST_PER_SECOND, "requests")] = 1


@dataclass(frozen=True)
class Role:
    """What a run under this execution role may use, and who may pass it; `*` in a list means everything."""

    registries: Annotated[tuple[str, ...], _SOME] = ()
    """Regions, `account/region`, or URLs as in `registries`; a URL includes every path below it."""
    buckets: Annotated[tuple[str, ...], _SOME] = ()
    secrets: Annotated[tuple[str, ...], _SOME] = ()
    log_groups: Annotated[tuple[str, ...], _SOME] = ()
    """Names or, with `*` at the end, prefixes; the service's own groups need no entry."""
    hosts: Annotated[tuple[str, ...], _SOME] = ()
    """Of machine_hosts: Regions, `account/region`, or addresses."""
    passed_by: Annotated[tuple[str, ...], _SOME] = ("*",)
    """Access key ids and principal ARNs, in which `*` matches any text."""


@dataclass(frozen=True)
class Hook:
    """The replacement for a state machine, a topic or a function: a program of this machine, or a URL.

    A program reads JSON from its standard input and writes JSON to its standard output; a URL receives it by POST.
    """

    command: Annotated[tuple[str, ...], _SOME] = ()
    url: Annotated[str, _URL] = ""


@dataclass(frozen=True)
class Advisories:
    """How images are scanned, and the source of the advisories."""

    source: Annotated[str, _ANY] = ""
    """Folder, file or URL that `imagesmith advisories update` imports."""
    scanner: Literal["embedded", "trivy", "grype"] = "embedded"
    scanner_database: Annotated[str, _PATH] = ""
    """Folder of the database of trivy or grype."""
    timeout_seconds: Annotated[int, _seconds(1, 86400)] = 900
    """How long one scan may take."""


@dataclass(frozen=True)
class InstanceType:
    """What a virtual machine of one type has."""

    cpus: Annotated[int, _CPUS]
    memory_mb: Annotated[int, _megabytes(64)]


@dataclass(frozen=True)
class Machines:
    """How virtual machines run on this worker."""

    accelerator: Literal["auto", "kvm", "tcg"] = "auto"
    """`auto`: KVM where a guest really ran under it, else emulation."""
    cpus: Annotated[int, _CPUS] = 2
    memory_mb: Annotated[int, _megabytes(64)] = 1024
    boot_timeout_seconds: Annotated[int, _seconds(1, 86400)] = 900
    cache_mb: Annotated[int, _megabytes(0)] = 20480
    """Disk space for overlays that are kept between runs; the least recently used are removed first."""
    cache_max_age_hours: Annotated[int, Range(0, 876_000, "hours")] = 168
    """Older overlays are removed, even if a run allows a greater age."""


@dataclass(frozen=True)
class MachineHost:
    """A host that runs virtual machines and receives every disk that is distributed to its Region."""

    address: Annotated[str, _HOST]
    key_file: Annotated[str, _SOME]
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

    base: Annotated[str, _BASE] = ""
    """A base of this version, like `debian-12-x86` for machines and `debian-x86-12` for containers."""
    registry: Annotated[str, _ANY] = ""
    """Reference of a container image, like `public.ecr.aws/amazonlinux/amazonlinux:2023`."""
    disk: Annotated[str, _DISK] = ""
    """Path or URL of a raw or qcow2 disk with cloud-init and an SSH server."""
    checksum: Annotated[str, _CHECKSUM] = ""
    """Expected checksum of the disk."""
    os_version: Annotated[str, _ANY] = ""
    """The operating system, like `Ubuntu 24.04`. Empty: that of the base, else that of the name."""
    platform: Annotated[str, _PLATFORM] = ""
    """Empty: that of the base, else that of the name."""


@dataclass(frozen=True)
class Settings:
    """All settings of a process; docs/settings.md is generated from it."""

    data_dir: Path
    database_url: Annotated[str, _DATABASE] = ""
    """Empty: SQLite in the data directory."""
    host: Annotated[str, _HOST] = "127.0.0.1"
    """The address to listen on; beyond this machine only with `[tls]` or `insecure_bind`."""
    port: Annotated[int, Range(0, 65_535)] = 8474
    account: Annotated[str, Text(r"[0-9]{12}", "12 digits")] = "000000000000"
    region: Annotated[str, _REGION] = "us-east-1"
    partition: Annotated[str, Text(r"[a-z][a-z0-9-]{0,30}", "a partition, like aws")] = "aws"
    auth: AuthMode = "static"
    secrets_key_file: Annotated[str, _PATH] = ""
    """The key file of the secrets in the database. Empty: `secrets.key` in the data directory."""
    insecure_bind: bool = False
    """Listen beyond this machine without TLS, or with `auth = "none"`: for a network that no stranger reaches."""
    idempotency_hours: Annotated[int, Range(1, 8_784, "hours")] = 24
    instance_profiles: Annotated[tuple[str, ...], _SOME] = ()
    """Names that an infrastructure configuration may have; empty: any name."""
    artifacts: Annotated[
        str,
        Text(
            r"s3://[^/\s]+(/.*)?|(?![a-z0-9]+://).+", "s3://BUCKET, s3://BUCKET/PREFIX or a folder", optional=True
        ),
    ] = ""
    """Artifact store that several hosts share: `s3://bucket[/prefix]`, or a folder that all mount. Empty: none."""
    s3_endpoint_url: Annotated[str, _URL] = ""
    """Endpoint for `s3://` sources; empty: AWS itself."""
    s3_access_key_id: Annotated[str, _ANY] = ""
    s3_secret_key_file: Annotated[str, _PATH] = ""
    log_groups: Annotated[str, Text(r"s3://[^/]+(/.*)?", "s3://BUCKET or s3://BUCKET/PREFIX", optional=True)] = ""
    """The store of log groups: `s3://BUCKET[/PREFIX]`; empty: a folder of the data directory."""
    debian_mirror: Annotated[str, _MIRROR] = ""
    """Empty: the mirror that this machine's apt uses."""
    local_image_folders: Annotated[tuple[str, ...], _SOME] = ()
    """Folders that `oci:`, `oci-archive:` and `docker-archive:` parents may be read from; none by default."""
    registries: Annotated[Mapping[str, Registry], Keys(_OF_REGION)] = field(default_factory=dict)
    """Key: `region`, or `account/region`, which wins."""
    rate_limits: Annotated[Mapping[str, RateLimit], Keys(_OPERATION)] = field(default_factory=dict)
    """Key: an operation, or `*` for each operation without an entry of its own. Empty: no limits."""
    roles: Annotated[Mapping[str, Role], Keys(_SOME)] = field(default_factory=dict)
    """Key: the name of an execution role, with its path. Empty: any name is accepted and nothing is withheld."""
    hooks: Annotated[Mapping[str, Hook], Keys(_SOME)] = field(default_factory=dict)
    """Key: the ARN or name that workflows use."""
    tls: Tls = field(default_factory=Tls)
    quotas: Quotas = field(default_factory=Quotas)
    builds: Builds = field(default_factory=Builds)
    workers: Workers = field(default_factory=Workers)
    schedules: Schedules = field(default_factory=Schedules)
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    advisories: Advisories = field(default_factory=Advisories)
    machines: Machines = field(default_factory=Machines)
    instance_types: Annotated[
        Mapping[str, InstanceType], Keys(Text(r"[a-z0-9-]+\.[a-z0-9-]+", "an instance type, like t3.medium"))
    ] = field(default_factory=dict)
    """Key: an instance type, like `t3.medium`. Types that are not here get what `machines` says."""
    machine_hosts: Annotated[Mapping[str, MachineHost], Keys(_OF_REGION)] = field(default_factory=dict)
    """Key: a Region, or `account/region`, whose AMIs are copied there."""
    managed_images: Annotated[Mapping[str, ManagedImage], Keys(_SLUG)] = field(default_factory=dict)
    """Key: the name of a managed image in ARNs, like `amazon-linux-2023-x86`, or a new one."""

    @property
    def store_url(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir / 'imagesmith.sqlite'}"

    def registry_for(self, account: str, region: str) -> Registry | None:
        return self.registries.get(f"{account}/{region}") or self.registries.get(region)

    def machine_host_for(self, account: str, region: str) -> MachineHost | None:
        return self.machine_hosts.get(f"{account}/{region}") or self.machine_hosts.get(region)

    def locate(self, reference: str) -> tuple[str, Registry | None]:
        """Where an image of a registry is pulled from, and the configured registry that this is, if it is one.

        An address of ECR means the registry of its account and Region, and never anything outside of the settings.
        Raises NoRegistry.
        """
        try:
            address = ecr_address(reference)
        except EcrError as error:
            raise NoRegistry(str(error)) from error
        if address is not None:
            registry = self.registry_for(address.account, address.region)
            if registry is None:
                raise NoRegistry(
                    f"{reference} is on the ECR of account {address.account} in {address.region}, and no registry "
                    f'is configured for it; add [registries."{address.account}/{address.region}"] to the settings'
                )
            return f"{registry.url.rstrip('/')}/{address.image}", registry
        host = reference.removeprefix("docker://").split("/")[0]
        return reference, next((item for item in self.registries.values() if item.url.split("/")[0] == host), None)
