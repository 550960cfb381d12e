"""One frozen Settings from a TOML file and the environment; nothing else reads either.

    data_dir/
      settings.toml      read when --settings is not given
      imagesmith.sqlite  our tables
      engine.sqlite      the journal of the engine
      keys.json          access keys, mode 0600
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

Order of precedence: command line, environment (IMAGESMITH_*), file, defaults.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, get_type_hints

AuthMode = Literal["static", "none"]


class SettingsError(ValueError):
    """A settings file or variable that cannot be used: names the file, the key and what was expected."""


@dataclass(frozen=True)
class Registry:
    """Where the images of one region go: the meaning of "ECR" here (design.md, Artifacts)."""

    url: str
    """`host[:port][/path]`, without a scheme."""
    username: str = ""
    password_file: str = ""
    """Path of a file that holds the password; the password itself never stands in settings."""
    insecure: bool = False
    """Plain HTTP or an unverified certificate; for loopback and tests."""


@dataclass(frozen=True)
class Quotas:
    """Limits per account and region (spec/api.md 4.8)."""

    components: int = 1000
    image_recipes: int = 1000
    container_recipes: int = 1000
    infrastructure_configurations: int = 1000
    distribution_configurations: int = 1000
    workflows: int = 1000
    image_pipelines: int = 75
    components_per_recipe: int = 20
    parameters_per_component: int = 25
    document_bytes: int = 65536
    parameter_value_characters: int = 1024
    workflows_per_image: int = 10
    target_accounts: int = 50
    launch_templates_per_region: int = 5
    ssm_parameters_per_region: int = 10


@dataclass(frozen=True)
class Builds:
    """How builds run on this worker."""

    concurrency: int = 2
    step_timeout_seconds: int = 7200
    memory_mb: int = 4096
    processes: int = 4096
    push_attempts: int = 4
    base_max_age_days: int = 7
    strict_chaining: bool = False
    """A path under an input key without `.$` is a text, as the service says (spec/workflows.md 13, no. 3)."""
    free_disk_mb: int = 512
    """What a build must leave free on the disk of the data directory; one that goes below is ended."""


@dataclass(frozen=True)
class Workers:
    """Several hosts on one PostgreSQL; the same on all of them, but for the name."""

    name: str = ""
    """Of this worker, unique among all. Empty: made of the host's name and the data directory."""
    lease_seconds: int = 30
    """A worker that is silent for longer is given up, and others go on with its builds."""
    drain_seconds: int = 600
    """How long a worker that is to end waits for its builds before it hands them over."""
    overall_concurrency: int = 0
    """Container builds, and likewise machine builds, at one time on all workers together; 0: no limit."""


@dataclass(frozen=True)
class Schedules:
    """The clock (spec/pipelines.md)."""

    misfire_grace_seconds: int = 3600
    overlap: Literal["allow", "skip"] = "allow"
    lenient_cron: bool = False
    container_tag_updates: bool = False
    """A base that is a registry tag counts as updated when the tag moved; each tick then asks the registry."""
    cascade: bool = False
    """An image that becomes AVAILABLE starts the pipelines whose base it is."""


@dataclass(frozen=True)
class RateLimit:
    """A token bucket: `rate` requests per second on average, up to `burst` at once."""

    rate: float
    burst: int = 1


@dataclass(frozen=True)
class Role:
    """What a run under this execution role may use, and who may name it; `*` in a list means everything."""

    registries: tuple[str, ...] = ()
    """Regions, `account/region`, or URLs as in `registries`; a URL also stands for every path below it."""
    buckets: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    log_groups: tuple[str, ...] = ()
    """Names or, with `*` at the end, prefixes; the service's own groups need no entry."""
    hosts: tuple[str, ...] = ()
    """Of machine_hosts: Regions, `account/region`, or addresses."""
    passed_by: tuple[str, ...] = ("*",)
    """Access key ids and principal ARNs, in which `*` stands for any text."""


@dataclass(frozen=True)
class Hook:
    """What stands in for a state machine, a topic or a function: a program of this machine, or a URL.

    A program gets JSON on its standard input and answers with JSON on its standard output; a URL gets it as POST.
    """

    command: tuple[str, ...] = ()
    url: str = ""


@dataclass(frozen=True)
class Advisories:
    """How images are scanned, and where what is known about vulnerabilities comes from."""

    source: str = ""
    """Folder, file or URL that `imagesmith advisories update` imports."""
    scanner: Literal["embedded", "trivy", "grype"] = "embedded"
    scanner_database: str = ""
    """Folder of the database of trivy or grype."""
    timeout_seconds: int = 900
    """How long one scan may take."""


@dataclass(frozen=True)
class InstanceType:
    """What a virtual machine of one type has."""

    cpus: int
    memory_mb: int


@dataclass(frozen=True)
class Machines:
    """How virtual machines run on this worker."""

    accelerator: Literal["auto", "kvm", "tcg"] = "auto"
    """`auto`: KVM where a guest really ran under it, else emulation."""
    cpus: int = 2
    memory_mb: int = 1024
    boot_timeout_seconds: int = 900
    cache_mb: int = 20480
    """What overlays kept between runs may take; the least recently used go first."""
    cache_max_age_hours: int = 168
    """Older overlays are removed, whatever a run allows."""


@dataclass(frozen=True)
class MachineHost:
    """A host that runs virtual machines, and gets every disk that is distributed to its Region."""

    address: str
    key_file: str
    """Path of our private key."""
    host_key: str
    """The host's public key, `ssh-ed25519 AAAA...`; no other is accepted."""
    directory: str = "/var/lib/libvirt/images"
    user: str = "root"
    port: int = 22


@dataclass(frozen=True)
class Settings:
    data_dir: Path
    database_url: str = ""
    """Empty: SQLite in the data directory."""
    host: str = "127.0.0.1"
    port: int = 8474
    account: str = "000000000000"
    region: str = "us-east-1"
    partition: str = "aws"
    auth: AuthMode = "static"
    idempotency_hours: int = 24
    artifacts: str = ""
    """Where several hosts share artifacts: `s3://bucket[/prefix]`, or a folder that all mount. Empty: nowhere."""
    s3_endpoint_url: str = ""
    """Endpoint for `s3://` sources; empty: AWS itself."""
    s3_access_key_id: str = ""
    s3_secret_key_file: str = ""
    log_groups: str = ""
    """Where the logs of log groups go: `s3://BUCKET[/PREFIX]`; empty: a folder of the data directory."""
    debian_mirror: str = ""
    """Empty: the mirror that this machine's apt uses."""
    local_image_folders: tuple[str, ...] = ()
    """Folders that `oci:`, `oci-archive:` and `docker-archive:` parents may be read from; none by default."""
    registries: Mapping[str, Registry] = field(default_factory=dict)
    """Key: `region`, or `account/region`, which wins."""
    rate_limits: Mapping[str, RateLimit] = field(default_factory=dict)
    """Key: an operation, or `*` for each operation without an entry of its own. Empty: no limits."""
    roles: Mapping[str, Role] = field(default_factory=dict)
    """Key: the name of an execution role, with its path. Empty: any name is accepted and nothing is withheld."""
    hooks: Mapping[str, Hook] = field(default_factory=dict)
    """Key: the ARN or name that workflows use."""
    quotas: Quotas = field(default_factory=Quotas)
    builds: Builds = field(default_factory=Builds)
    workers: Workers = field(default_factory=Workers)
    schedules: Schedules = field(default_factory=Schedules)
    advisories: Advisories = field(default_factory=Advisories)
    machines: Machines = field(default_factory=Machines)
    instance_types: Mapping[str, InstanceType] = field(default_factory=dict)
    """Key: an instance type, like `t3.medium`. Types that are not here get what `machines` says."""
    machine_hosts: Mapping[str, MachineHost] = field(default_factory=dict)
    """Key: a Region, or `account/region`, whose AMIs are copied there."""

    @property
    def store_url(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir / 'imagesmith.sqlite'}"

    def registry_for(self, account: str, region: str) -> Registry | None:
        return self.registries.get(f"{account}/{region}") or self.registries.get(region)

    def machine_host_for(self, account: str, region: str) -> MachineHost | None:
        return self.machine_hosts.get(f"{account}/{region}") or self.machine_hosts.get(region)

    def registry_at(self, reference: str) -> Registry | None:
        """The configured registry that an image reference is on, for its credentials."""
        host = reference.split("/")[0]
        return next((item for item in self.registries.values() if item.url.split("/")[0] == host), None)


_TABLES: Final[Mapping[str, type]] = MappingProxyType(
    {
        "registries": Registry,
        "rate_limits": RateLimit,
        "roles": Role,
        "hooks": Hook,
        "instance_types": InstanceType,
        "machine_hosts": MachineHost,
    }
)
_ACCELERATORS: Final = ("auto", "kvm", "tcg")
_MOST_PER_SECOND: Final = 1_000_000


def load_settings(
    data_dir: Path, *, file: Path | None, environment: Mapping[str, str], overrides: Mapping[str, Any]
) -> Settings:
    """Read the settings. `overrides` holds what the command line gave (None: not given). Raises SettingsError."""
    path = file or data_dir / "settings.toml"
    table: dict[str, Any] = {}
    if file is not None or path.exists():
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"settings file {path}: {error}") from error
    hints = get_type_hints(Settings)
    for name, kind in hints.items():
        text = environment.get(f"IMAGESMITH_{name.upper()}")
        if text is not None and kind in (str, int, AuthMode):
            table[name] = _number(name, text) if kind is int else text
    table |= {name: value for name, value in overrides.items() if value is not None}
    settings: Settings = _build(Settings, {**table, "data_dir": data_dir}, str(path))
    if settings.auth not in ("static", "none"):
        raise SettingsError(f"{path}: auth is {settings.auth!r}, expected 'static' or 'none'")
    if settings.advisories.scanner not in ("embedded", "trivy", "grype"):
        raise SettingsError(
            f"{path}: advisories.scanner is {settings.advisories.scanner!r}, "
            "expected 'embedded', 'trivy' or 'grype'"
        )
    if settings.schedules.overlap not in ("allow", "skip"):
        raise SettingsError(
            f"{path}: schedules.overlap is {settings.schedules.overlap!r}, expected 'allow' or 'skip'"
        )
    if settings.schedules.misfire_grace_seconds < 0:
        raise SettingsError(
            f"{path}: schedules.misfire_grace_seconds is {settings.schedules.misfire_grace_seconds}, "
            "expected 0 or more seconds"
        )
    if settings.workers.lease_seconds < 1:
        raise SettingsError(
            f"{path}: workers.lease_seconds is {settings.workers.lease_seconds}, expected 1 or more seconds"
        )
    if settings.machines.accelerator not in _ACCELERATORS:
        raise SettingsError(
            f"{path}: machines.accelerator is {settings.machines.accelerator!r}, "
            f"expected one of {', '.join(_ACCELERATORS)}"
        )
    if not (settings.account.isdigit() and len(settings.account) == 12):
        raise SettingsError(f"{path}: account is {settings.account!r}, expected 12 digits")
    _check_rates(settings.rate_limits, path)
    if settings.log_groups and not re.fullmatch(r"s3://[^/]+(/.*)?", settings.log_groups):
        raise SettingsError(
            f"{path}: log_groups is {settings.log_groups!r}, expected s3://BUCKET or s3://BUCKET/PREFIX"
        )
    for name, hook in settings.hooks.items():
        if bool(hook.command) == bool(hook.url):
            raise SettingsError(f"{path}: hooks.{name} needs either a command or a url")
    return replace(settings, data_dir=data_dir.absolute())


def _check_rates(rates: Mapping[str, RateLimit], path: Path) -> None:
    for name, limit in rates.items():
        if not (0 < limit.rate <= _MOST_PER_SECOND and 1 <= limit.burst <= _MOST_PER_SECOND):
            raise SettingsError(
                f"{path}: rate_limits.{name} is rate = {limit.rate}, burst = {limit.burst}; "
                f"expected a rate above 0 and a burst of at least 1, both up to {_MOST_PER_SECOND}"
            )


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise SettingsError(f"IMAGESMITH_{name.upper()} is {text!r}, expected a number") from error


def _build(kind: Any, table: Mapping[str, Any], where: str) -> Any:
    """A frozen settings class from a table; every unknown key and wrong type is an error that names it."""
    hints = get_type_hints(kind)
    known = {item.name for item in fields(kind)}
    unknown = sorted(set(table) - known)
    if unknown:
        raise SettingsError(f"{where}: unknown key {unknown[0]!r}; known here: {', '.join(sorted(known))}")
    values: dict[str, Any] = {}
    for name, value in table.items():
        wanted = hints[name]
        place = f"{where}: {name}"
        if name in _TABLES and kind is Settings:
            if not (isinstance(value, dict) and all(isinstance(entry, dict) for entry in value.values())):
                raise SettingsError(f"{place} must be a table of tables, like [{name}.NAME]")
            values[name] = {key: _build(_TABLES[name], entry, f"{place}.{key}") for key, entry in value.items()}
        elif wanted == tuple[str, ...]:
            if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
                raise SettingsError(f"{place} must be a list of texts")
            values[name] = tuple(value)
        elif wanted in (Quotas, Builds, Workers, Schedules, Advisories, Machines):
            if not isinstance(value, dict):
                raise SettingsError(f"{place} must be a table")
            values[name] = _build(wanted, value, place)
        else:
            values[name] = value
            plain = {str: str, int: int, bool: bool, float: float}.get(wanted)
            if plain is float and type(value) is int:
                values[name] = float(value)
            elif plain is not None and type(value) is not plain:
                raise SettingsError(f"{place} is {value!r}, expected {plain.__name__}")
    needed = [item.name for item in fields(kind) if item.default is MISSING and item.default_factory is MISSING]
    missing = [name for name in needed if name not in values]
    if missing:
        raise SettingsError(f"{where}: the key {missing[0]!r} is missing")
    return kind(**values)
