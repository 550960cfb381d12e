"""Removes an image: its record and everything that the store keeps about it, in the caller's transaction."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from imagesmith.store import queries
from imagesmith.store.executions import forget_executions
from imagesmith.store.findings import forget_findings
from imagesmith.store.instances import forget_instances
from imagesmith.store.runs import forget_runs


def forget_image(tx: Connection, arn: str) -> None:
    queries.delete(tx, arn)
    forget_findings(tx, arn)
    forget_executions(tx, arn)
    forget_instances(tx, arn)
    forget_runs(tx, arn)
