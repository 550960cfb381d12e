"""Resource policies: the text of each, by the ARN of its resource."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagesmith.store.tables import resource_policies
from imagesmith.store.upsert import for_dialect, upserts

_PUT = upserts(resource_policies)
_GET = sa.select(resource_policies.c.policy).where(resource_policies.c.arn == sa.bindparam("wanted"))
_GET_MANY = sa.select(resource_policies).where(resource_policies.c.arn.in_(sa.bindparam("wanted", expanding=True)))


def put_policy(tx: Connection, arn: str, policy: str) -> None:
    """Store the policy of a resource, over an earlier one."""
    tx.execute(for_dialect(tx, _PUT), {"arn": arn, "policy": policy})


def get_policy(tx: Connection, arn: str) -> str | None:
    """The policy exactly as it was stored; None when the resource has none."""
    return tx.execute(_GET, {"wanted": arn}).scalar()


def get_policies(tx: Connection, arns: Sequence[str]) -> Mapping[str, str]:
    """ARN -> policy, of the resources that have one."""
    return {row.arn: row.policy for row in tx.execute(_GET_MANY, {"wanted": arns})}
