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

Each member declares what it may be (values/declared.py, settings_values.py); the sections are in
settings_sections.py. settings_loader.py reads the file and the environment by
these declarations, and settings_page.py makes the page docs/settings.md of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from imagesmith.settings_sections import (
    Advisories,
    Builds,
    Hook,
    InstanceType,
    Lifecycle,
    MachineHost,
    Machines,
    ManagedImage,
    Quotas,
    RateLimit,
    Registry,
    Role,
    Schedules,
    Tls,
    Workers,
)
from imagesmith.settings_values import (
    ANY,
    DATABASE,
    HOST,
    MIRROR,
    OF_REGION,
    OPERATION,
    PATH,
    REGION_NAME,
    SLUG,
    SOME,
    URL,
)
from imagesmith.values.declared import Keys, Range, Text
from imagesmith.values.ecr import EcrError, ecr_address

__all__ = [
    "Advisories",
    "AuthMode",
    "Builds",
    "Hook",
    "InstanceType",
    "Lifecycle",
    "MachineHost",
    "Machines",
    "ManagedImage",
    "NoRegistry",
    "Quotas",
    "RateLimit",
    "Registry",
    "Role",
    "Schedules",
    "Settings",
    "SettingsError",
    "Tls",
    "Workers",
]
"""The sections are used under the name of this module."""
AuthMode = Literal["static", "none"]


class SettingsError(ValueError):
    """A settings file or variable that cannot be used: names the file, the key and what was expected."""


class NoRegistry(ValueError):
    """An address of ECR whose account and Region no configured registry stands for."""


@dataclass(frozen=True)
class Settings:
    """All settings of a process; docs/settings.md is generated from it."""

    data_dir: Path
    database_url: Annotated[str, DATABASE] = ""
    """Empty: SQLite in the data directory."""
    host: Annotated[str, HOST] = "127.0.0.1"
    """The address to listen on; beyond this machine only with `[tls]` or `insecure_bind`."""
    port: Annotated[int, Range(0, 65_535)] = 8474
    account: Annotated[str, Text(r"[0-9]{12}", "12 digits")] = "000000000000"
    region: Annotated[str, REGION_NAME] = "us-east-1"
    partition: Annotated[str, Text(r"[a-z][a-z0-9-]{0,30}", "a partition, like aws")] = "aws"
    auth: AuthMode = "static"
    secrets_key_file: Annotated[str, PATH] = ""
    """The key file of the secrets in the database. Empty: `secrets.key` in the data directory."""
    insecure_bind: bool = False
    """Listen beyond this machine without TLS, or with `auth = "none"`: for a network that no stranger reaches."""
    idempotency_hours: Annotated[int, Range(1, 8_784, "hours")] = 24
    instance_profiles: Annotated[tuple[str, ...], SOME] = ()
    """Names that an infrastructure configuration may have; empty: any name."""
    artifacts: Annotated[
        str,
        Text(
            r"s3://[^/\s]+(/.*)?|(?![a-z0-9]+://).+", "s3://BUCKET, s3://BUCKET/PREFIX or a folder", optional=True
        ),
    ] = ""
    """Artifact store that several hosts share: `s3://bucket[/prefix]`, or a folder that all mount. Empty: none."""
    s3_endpoint_url: Annotated[str, URL] = ""
    """Endpoint for `s3://` sources; empty: AWS itself."""
    s3_access_key_id: Annotated[str, ANY] = ""
    s3_secret_key_file: Annotated[str, PATH] = ""
    log_groups: Annotated[str, Text(r"s3://[^/]+(/.*)?", "s3://BUCKET or s3://BUCKET/PREFIX", optional=True)] = ""
    """The store of log groups: `s3://BUCKET[/PREFIX]`; empty: a folder of the data directory."""
    debian_mirror: Annotated[str, MIRROR] = ""
    """Empty: the mirror that this machine's apt uses."""
    local_image_folders: Annotated[tuple[str, ...], SOME] = ()
    """Folders that `oci:`, `oci-archive:` and `docker-archive:` parents may be read from; none by default."""
    registries: Annotated[Mapping[str, Registry], Keys(OF_REGION)] = field(default_factory=dict)
    """Key: `region`, or `account/region`, which wins."""
    rate_limits: Annotated[Mapping[str, RateLimit], Keys(OPERATION)] = field(default_factory=dict)
    """Key: an operation, or `*` for each operation without an entry of its own. Empty: no limits."""
    roles: Annotated[Mapping[str, Role], Keys(SOME)] = field(default_factory=dict)
    """Key: the name of an execution role, with its path. Empty: any name is accepted and nothing is withheld."""
    hooks: Annotated[Mapping[str, Hook], Keys(SOME)] = field(default_factory=dict)
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
    machine_hosts: Annotated[Mapping[str, MachineHost], Keys(OF_REGION)] = field(default_factory=dict)
    """Key: a Region, or `account/region`, whose AMIs are copied there."""
    managed_images: Annotated[Mapping[str, ManagedImage], Keys(SLUG)] = field(default_factory=dict)
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
