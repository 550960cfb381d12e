"""Resource policies: the text of each, by the ARN of its resource, and whether its share was promoted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagesmith.store.tables import resource_policies, resources
from imagesmith.store.upsert import for_dialect, upserts

_PUT = upserts(resource_policies)
_GET = sa.select(resource_policies).where(resource_policies.c.arn == sa.bindparam("wanted"))
_GET_MANY = sa.select(resource_policies).where(resource_policies.c.arn.in_(sa.bindparam("wanted", expanding=True)))


@dataclass(frozen=True)
class StoredPolicy:
    """The policy of a resource exactly as it was put."""

    arn: str
    text: str
    promoted: bool = False
    """Lists of the accounts that it names show the resource."""


def put_policy(tx: Connection, policy: StoredPolicy) -> None:
    """Store the policy of a resource, over an earlier one."""
    row = {"arn": policy.arn, "policy": policy.text, "promoted": policy.promoted}
    tx.execute(for_dialect(tx, _PUT), row)


def get_policy(tx: Connection, arn: str) -> StoredPolicy | None:
    """The policy of a resource; None when it has none."""
    row = tx.execute(_GET, {"wanted": arn}).first()
    return None if row is None else StoredPolicy(row.arn, row.policy, bool(row.promoted))


def get_policies(tx: Connection, arns: Sequence[str]) -> Mapping[str, str]:
    """ARN -> policy, of the resources that have one."""
    return {row.arn: row.policy for row in tx.execute(_GET_MANY, {"wanted": arns})}


def promoted_arns(tx: Connection, *, region: str, kind: str, other_than: str) -> list[str]:
    """The resources of a Region and type with promoted shares, of all accounts but one."""
    query = (
        sa.select(resource_policies.c.arn)
        .join(resources, resources.c.arn == resource_policies.c.arn)
        .where(
            resource_policies.c.promoted,
            resources.c.region == region,
            resources.c.kind == kind,
            resources.c.account != other_than,
        )
    )
    return list(tx.execute(query).scalars())


def policies_of_account(tx: Connection, account: str, region: str) -> list[StoredPolicy]:
    """The policies of an account's resources in a Region, by ARN."""
    query = (
        sa.select(resource_policies)
        .join(resources, resources.c.arn == resource_policies.c.arn)
        .where(resources.c.account == account, resources.c.region == region)
        .order_by(resource_policies.c.arn)
    )
    return [StoredPolicy(row.arn, row.policy, bool(row.promoted)) for row in tx.execute(query)]
