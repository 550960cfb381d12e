"""kill -9 under a load of changes: each change that was made has one line in the audit log, and none has two."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from imagesmith.accounts.audit_reader import AuditQuery, audit_lines
from testing.crash_support import DATABASES
from testing.pipeline_support import RunningServer
from testing.postgresql import new_postgresql_database

pytestmark = pytest.mark.tool

_KILLS = 3
_CLIENTS = 6


def changes_until_killed(server: RunningServer, round_number: int, seconds: float) -> None:
    """Clients that create configurations, which share commits, and lifecycle policies, until the server is gone."""
    begun = threading.Barrier(_CLIENTS + 1)

    def work(number: int) -> None:
        client = server.client
        begun.wait()
        with contextlib.suppress(BotoCoreError, ClientError):
            for index in range(10_000):
                name = f"made-{round_number}-{number}-{index}"
                if number % 2:
                    client.create_infrastructure_configuration(name=name, instanceProfileName="p")
                else:
                    client.create_lifecycle_policy(**lifecycle_policy(name))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    begun.wait()
    time.sleep(seconds)
    server.kill()
    for thread in threads:
        thread.join()


def lifecycle_policy(name: str) -> dict[str, object]:
    return {
        "name": name, "executionRole": "arn:aws:iam::123456789012:role/r", "resourceType": "AMI_IMAGE",
        "policyDetails": [{"action": {"type": "DELETE"}, "filter": {"type": "AGE", "value": 1, "unit": "YEARS"}}],
        "resourceSelection": {"tagMap": {"a": "b"}},
    }  # fmt: skip


def stored(server: RunningServer) -> set[str]:
    client = server.client
    pages = client.get_paginator("list_infrastructure_configurations").paginate()
    found = {item["arn"] for page in pages for item in page["infrastructureConfigurationSummaryList"]}
    policies = client.get_paginator("list_lifecycle_policies").paginate()
    return found | {item["arn"] for page in policies for item in page["lifecyclePolicySummaryList"]}


@pytest.mark.parametrize("kind", DATABASES)
def test_each_change_has_its_line_after_a_kill(
    tmp_path: Path, tiny_parent: str, postgresql: str, kind: str
) -> None:
    """Of changes in shared commits and alone; answered or not."""
    url = f'database_url = "{new_postgresql_database(postgresql, "audited")}"\n' if kind == "postgresql" else ""
    settings = f"{url}[quotas]\ninfrastructure_configurations = 1000000\nlifecycle_policies = 1000000\n"
    rng = random.Random()
    with RunningServer(tmp_path / "data", parent=tiny_parent, settings=settings) as server:
        for number in range(_KILLS):
            server.start()
            changes_until_killed(server, number, rng.uniform(0.2, 0.8))
        server.start()
        made = stored(server)
        lines = Counter(
            str(line["resource"])
            for line in audit_lines(server.data_dir, AuditQuery(operation="Create*", result="OK"))
        )
        assert set(lines) == made and made
        assert set(lines.values()) == {1}
        server.stop()
