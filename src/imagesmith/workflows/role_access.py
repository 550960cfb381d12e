"""What the execution role of a plan lets its run use: registries, log groups, buckets.

A plan without a role withholds nothing. Registries and log groups are checked all together before the first
push; buckets when an action asks for one, because only then it is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from imagesmith.components.services import S3Config
from imagesmith.recipes.plan import BuildPlan, PlannedRole, PushTarget
from imagesmith.settings import MachineHost, Registry, Role, Settings
from imagesmith.values.globs import matches_any

OWN_LOG_GROUPS = "/aws/imagebuilder/"
"""Groups below this need no entry in a role (spec/api.md 4.3)."""


def refused_targets(plan: BuildPlan, settings: Settings) -> list[tuple[PushTarget, str]]:
    """The targets that the role does not reach, each with a sentence that says what to try."""
    role = plan.role
    if role is None:
        return []
    refused = []
    for target in plan.targets:
        registry = settings.registry_for(plan.account, target.region)
        if registry is not None and not _reaches(role, plan.account, target.region, registry):
            refused.append((target, _sentence(role, target.region, registry)))
    return refused


def refused_log_group(plan: BuildPlan) -> str:
    """The sentence for a log group that the role may not use, or nothing."""
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
    """The S3 access of a run: that of the worker, limited to the role's buckets."""
    if plan.role is None:
        return config
    values = {item.name: getattr(config, item.name) for item in fields(config)}
    return _RoleS3Config(**values, role=plan.role)


class RoleRefused(RuntimeError):
    """A role that is not configured, or does not reach what was asked for: says what to add to the settings."""


def export_s3(plan: BuildPlan, config: S3Config, roles: Mapping[str, Role], *, role: str, bucket: str) -> S3Config:
    """The S3 access of an export, under the role that the export names (spec/api.md 6.3).

    The run's own role must reach the bucket too, where it has one: whoever writes a distribution could otherwise
    name a role that they may not use. Raises RoleRefused.
    """
    if not roles:
        return s3_of(plan, config)
    name = role_name(role)
    if name not in roles:
        raise RoleRefused(f"the export role {role} does not exist; configure it as [roles.{name}]")
    reach = [PlannedRole(name, buckets=roles[name].buckets), *([plan.role] if plan.role else [])]
    for item in reach:
        if not matches_any(item.buckets, bucket):
            raise RoleRefused(
                f"the role {item.name} has no access to the bucket {bucket}; "
                f'add it to buckets in [roles."{item.name}"]'
            )
    return config


def refused_host(plan: BuildPlan, account: str, region: str, host: MachineHost) -> str:
    """The sentence for a host that the role does not reach, or nothing."""
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


def _sentence(role: PlannedRole, region: str, registry: Registry) -> str:
    return (
        f"the execution role {role.name} has no access to the registry {registry.url} of the Region {region}; "
        f'add "{region}" to registries in [roles."{role.name}"]'
    )


@dataclass(frozen=True)
class _RoleS3Config(S3Config):
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
