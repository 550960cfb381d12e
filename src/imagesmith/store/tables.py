"""The tables. A resource is stored as its API document, plus columns for queries.

    resources      every resource of the API, one row per ARN (build version)
    links          which resource needs which other one (exact references only)
    tokens         idempotency: client token -> the first answer
    counters       build numbers that were handed out; a number is never used twice
    builds         the plan of a build, its outcome, and whether its cancel was requested
    packages, inventories, inventory_packages, exposures   see package_tables.py
    ancestry, revocations   see ancestry_tables.py
    vex_statements          see vex_tables.py
    schedules      the armed pipelines: next fire time, and the moment that it was computed from
    findings       findings of scans of an image, one row per vulnerability
    amis           the catalog: AMI ids of an account and region, and their disks
    launch_templates  launch templates, and the AMIs that distributions set in them
    scheduled_runs which instants of which pipeline were run; an instant is never run twice
    cascades       images that became AVAILABLE and whose dependent pipelines were not checked yet
    parameters     values of `ssm:` references
    events         the outbox, written in the transaction of the change that an event reports
    workflow_executions  runs of workflow documents, for an image
    step_executions      the steps of those runs, with the answers to waiting steps
    instances            instances of builds; one that is suspended outlives the process that made it
    lifecycle_executions runs of lifecycle policies, and state updates of single images
    lifecycle_resources  what an execution selected: images, and below each its outputs
    lifecycle_schedules  the enabled policies: the time of the next run
    workers              the processes that run builds, where several share a database
    runs                 claims of runs: by which worker, under which fence number
    accounts, access_keys, audit_lines  see account_tables.py
    resource_policies    the policies by which resources are shared with other accounts

Instants are whole microseconds since the epoch, so that both databases order them alike.
"""

from __future__ import annotations

import sqlalchemy as sa

from imagesmith.store import account_tables
from imagesmith.store import ancestry_tables as ancestry_tables
from imagesmith.store import package_tables as package_tables
from imagesmith.store import vex_tables as vex_tables
from imagesmith.store.columns import number as _number
from imagesmith.store.columns import text as _text

metadata = account_tables.metadata
"""All tables, those of the modules that are imported here too."""

resources = sa.Table(
    "resources",
    metadata,
    _text("arn", primary_key=True),
    _text("account"),
    _text("region"),
    _text("kind"),
    _text("family"),
    _text("slug"),
    _text("name"),
    _number("major"),
    _number("minor"),
    _number("patch"),
    _number("build"),
    _text("status"),
    _text("source"),
    _number("created"),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Index(
        "resources_by_version",
        "account", "region", "kind", "family", "slug", "major", "minor", "patch", "build",
        unique=True,
    ),
    sa.Index("resources_by_date", "account", "region", "kind", "created", "arn"),
    sa.Index("resources_by_name", "account", "region", "kind", "name", "created"),
    sa.Index("resources_by_source", "source", "created"),
    sa.Index("resources_by_status", "kind", "status"),
)  # fmt: skip

links = sa.Table(
    "links",
    metadata,
    _text("from_arn", primary_key=True),
    _text("to_arn", primary_key=True),
    sa.Index("links_by_target", "to_arn"),
)

tokens = sa.Table(
    "tokens",
    metadata,
    _text("account", primary_key=True),
    _text("region", primary_key=True),
    _text("operation", primary_key=True),
    _text("token", primary_key=True),
    _text("fingerprint"),
    sa.Column("response", sa.JSON, nullable=False),
    _number("created"),
    sa.Index("tokens_by_date", "created"),
)

resource_policies = sa.Table(
    "resource_policies",
    metadata,
    _text("arn", primary_key=True),
    _text("policy"),
    sa.Column("promoted", sa.Boolean, nullable=False, server_default=sa.false()),
)

counters = sa.Table("counters", metadata, _text("key", primary_key=True), _number("value"))

builds = sa.Table(
    "builds",
    metadata,
    _text("image_arn", primary_key=True),
    sa.Column("plan", sa.JSON, nullable=False),
    sa.Column("outcome", sa.JSON, nullable=False),
    sa.Column("cancel_requested", sa.Boolean, nullable=False),
)

schedules = sa.Table(
    "schedules",
    metadata,
    _text("pipeline_arn", primary_key=True),
    _text("account"),
    _text("region"),
    _text("expression"),
    _text("timezone"),
    _number("anchor"),
    _number("version"),
    _number("since"),
    _number("next_fire"),
    sa.Index("schedules_by_next_fire", "next_fire"),
)

scheduled_runs = sa.Table(
    "scheduled_runs",
    metadata,
    _text("pipeline_arn", primary_key=True),
    _number("scheduled_for", primary_key=True),
    _text("image_arn"),
)

findings = sa.Table(
    "findings",
    metadata,
    _text("image_arn", primary_key=True),
    _text("vulnerability_id", primary_key=True),
    _text("pipeline_arn"),
    _text("account"),
    _text("region"),
    _text("severity"),
    _number("observed"),
    _text("position"),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Index("findings_by_date", "account", "region", "observed", "position"),
    sa.Index("findings_by_pipeline", "account", "region", "pipeline_arn", "severity"),
    sa.Index("findings_by_vulnerability", "account", "region", "vulnerability_id", "severity"),
)

cascades = sa.Table("cascades", metadata, _text("image_arn", primary_key=True), _number("since"))

amis = sa.Table(
    "amis",
    metadata,
    _text("ami_id", primary_key=True),
    _text("account"),
    _text("region"),
    _text("name"),
    _text("digest"),
    _text("image_arn"),
    _number("created"),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Index("amis_by_name", "account", "region", "name", unique=True),
    sa.Index("amis_by_digest", "digest"),
    sa.Index("amis_by_image", "image_arn"),
)

parameters = sa.Table(
    "parameters",
    metadata,
    _text("account", primary_key=True),
    _text("region", primary_key=True),
    _text("name", primary_key=True),
    _text("value"),
    sa.Column("sealed", sa.Text, nullable=False, server_default=""),
    _number("updated"),
)

events = sa.Table(
    "events",
    metadata,
    _text("id", primary_key=True),
    _text("account"),
    _text("region"),
    _text("detail_type"),
    _number("time"),
    sa.Column("resources", sa.JSON, nullable=False),
    sa.Column("detail", sa.JSON, nullable=False),
    sa.Index("events_by_time", "account", "region", "time", "id"),
)

workflow_executions = sa.Table(
    "workflow_executions",
    metadata,
    _text("id", primary_key=True),
    _text("image_arn"),
    _text("account"),
    _text("region"),
    _number("position"),
    _text("status"),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Index("workflow_executions_by_image", "image_arn", "position"),
)

step_executions = sa.Table(
    "step_executions",
    metadata,
    _text("id", primary_key=True),
    _text("execution_id"),
    _text("image_arn"),
    _text("account"),
    _text("region"),
    _number("position"),
    _text("status"),
    _number("started"),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Index("step_executions_by_execution", "execution_id", "position"),
    sa.Index("step_executions_by_status", "status", "account", "region", "started"),
    sa.Index("step_executions_by_image", "image_arn"),
)

instances = sa.Table(
    "instances",
    metadata,
    _text("id", primary_key=True),
    _text("image_arn"),
    _text("execution_id"),
    sa.Column("at_rest", sa.Boolean, key="suspended", nullable=False),
    _text("worker", server_default=""),
    sa.Index("instances_by_image", "image_arn"),
)

workers = sa.Table(
    "workers",
    metadata,
    _text("id", primary_key=True),
    _text("name"),
    _text("host"),
    _number("pid"),
    sa.Column("place", sa.Text, key="data_dir", nullable=False),
    sa.Column("queues", sa.JSON, nullable=False),
    _number("concurrency"),
    _text("state"),
    _number("started"),
    _number("heartbeat"),
    sa.Column("zone_data", sa.Text, nullable=False, server_default=""),
)

runs = sa.Table(
    "runs",
    metadata,
    _text("key", primary_key=True),
    _text("image_arn"),
    _number("fence"),
    _text("worker"),
    sa.Column("cancel", sa.Boolean, nullable=False),
    sa.Index("runs_by_worker", "worker"),
    sa.Index("runs_by_image", "image_arn"),
)

launch_templates = sa.Table(
    "launch_templates",
    metadata,
    _text("account", primary_key=True),
    _text("region", primary_key=True),
    _text("template_id", primary_key=True),
    _number("version", primary_key=True, autoincrement=False),
    _number("is_default"),
    _text("ami_id"),
)

lifecycle_executions = sa.Table(
    "lifecycle_executions",
    metadata,
    _text("id", primary_key=True),
    _text("account"),
    _text("region"),
    _text("subject"),
    _text("status"),
    _number("started"),
    _number("ended"),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Index("lifecycle_executions_by_subject", "subject", "started", "id"),
    sa.Index("lifecycle_executions_by_status", "status", "account", "region"),
)

lifecycle_resources = sa.Table(
    "lifecycle_resources",
    metadata,
    _text("execution_id", primary_key=True),
    _text("parent_id", primary_key=True),
    _text("resource_id", primary_key=True),
    _number("position"),
    _text("status"),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Index("lifecycle_resources_by_position", "execution_id", "parent_id", "position"),
    sa.Index("lifecycle_resources_by_status", "execution_id", "parent_id", "status", "position"),
)

lifecycle_schedules = sa.Table(
    "lifecycle_schedules",
    metadata,
    _text("policy_arn", primary_key=True),
    _number("next_run"),
    sa.Index("lifecycle_schedules_by_next_run", "next_run"),
)
