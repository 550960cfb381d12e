"""The limits of a plan's execution role for its run: registries, log groups, buckets.

A plan without a role has no limits. Registries and log groups are checked together before the first push; buckets
are checked when an action names one, because they are unknown before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from imagesmith.components.services import S3Config
from imagesmith.recipes.plan import BuildPlan, PlannedRole
from imagesmith.settings import MachineHost, Registry, Role
from imagesmith.values.globs import matches_any

OWN_LOG_GROUPS = "/aws/imagebuilder/"
"""Prefix of log groups that need no entry in a role (spec/api.md 4.3)."""


def refused_registry(plan: BuildPlan, region: str, registry: Registry) -> str:
    """The error text if the role has no access to the registry of a Region, or an empty text."""
    return refused_to_role(plan.role, plan.account, region, registry)


def refused_to_role(role: PlannedRole | None, account: str, region: str, registry: Registry) -> str:
    """The error text if a role has no access to the registry of an account and Region, or an empty text."""
    if role is None or _reaches(role, account, region, registry):
        return ""
    return (
        f"the execution role {role.name} has no access to the registry {registry.url} of the Region {region}; "
        f'add "{region}" to registries in [roles."{role.name}"]'
    )


def refused_log_group(plan: BuildPlan) -> str:
    """The error text if the role must not use the plan's log group, or an empty text."""
    role, group = plan.role, plan.log_group
    if role is None or not group or may_log_to(group, role.log_groups):
        return ""
    return (
        f"the execution role {role.name} has no access to the log group {group}; "
        f'add it to log_groups in [roles."{role.name}"]'
    )


def may_log_to(group: str, allowed: Sequence[str]) -> bool:
    """Whether a role with these `log_groups` may write to a log group."""
    return group.startswith(OWN_LOG_GROUPS) or matches_any(allowed, group)


def role_name(text: str) -> str:
    """The name of an execution role, with its path, from its ARN or name."""
    return text.partition(":role/")[2] if text.startswith("arn:") else text


def s3_of(plan: BuildPlan, config: S3Config) -> S3Config:
    """The S3 access of a run: the worker's access, limited to the role's buckets."""
    if plan.role is None:
        return config
    values = {item.name: getattr(config, item.name) for item in fields(config)}
    return _RoleS3Config(**values, role=plan.role)


def refused_bucket(plan: BuildPlan, roles: Mapping[str, Role], *, role: str, bucket: str) -> str:
    """The error text if an export must not write to a bucket, or an empty text (spec/api.md 6.3).

    The export names `role`, one of `roles`; without configured roles only the S3 client refuses buckets. The run's
    own role, if it has one, needs access to the bucket as well: the author of a distribution could otherwise name a
    role without permission to use it.
    """
    if not roles:
        return ""
    name = role_name(role)
    if name not in roles:
        return f"the export role {role} does not exist; configure it as [roles.{name}]"
    reach = [PlannedRole(name, buckets=roles[name].buckets), *([plan.role] if plan.role else [])]
    refused = next((item for item in reach if not matches_any(item.buckets, bucket)), None)
    if refused is None:
        return ""
    return (
        f"the role {refused.name} has no access to the bucket {bucket}; "
        f'add it to buckets in [roles."{refused.name}"]'
    )


def export_s3(plan: BuildPlan, config: S3Config, roles: Mapping[str, Role]) -> S3Config:
    """The S3 access of an export that `refused_bucket` permitted."""
    return config if roles else s3_of(plan, config)


def refused_host(plan: BuildPlan, account: str, region: str, host: MachineHost) -> str:
    """The error text if the role has no access to a host, or an empty text."""
    role = plan.role
    if role is None or any(entry in ("*", region, f"{account}/{region}", host.address) for entry in role.hosts):
        return ""
    return (
        f"the execution role {role.name} has no access to the host {host.address} of the Region {region}; "
        f'add "{region}" to hosts in [roles."{role.name}"]'
    )


def _reaches(role: PlannedRole, account: str, region: str, registry: Registry) -> bool:
    for entry in role.registries:
        if entry in ("*", region, f"{account}/{region}", registry.url) or registry.url.startswith(f"{entry}/"):
            return True
    return False


@dataclass(frozen=True)
class _RoleS3Config(S3Config):
    """Access to S3 within what an execution role allows."""

    role: PlannedRole = PlannedRole("")  # noqa: RUF009 (frozen)

    def client(self) -> Any:
        client = super().client()
        client.meta.events.register("provide-client-params.s3.*", self._check)
        return client

    def _check(self, params: Mapping[str, Any], model: Any, **_: Any) -> None:
        from botocore.exceptions import ClientError

        bucket = params.get("Bucket", "")
        if matches_any(self.role.buckets, bucket):
            return
        message = f"the execution role {self.role.name} has no access to the bucket {bucket}"
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": message}}, model.name)
