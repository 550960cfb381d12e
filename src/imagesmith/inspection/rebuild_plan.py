"""What the provenance of a reproducible build says beyond that of others: its rules, and all that a rebuild needs.

    internalParameters                 SOURCE_DATE_EPOCH, what was left out, how layers and disks were compressed
    resolvedDependencies, name `plan`  the plan itself as `content`, without what has no part in the bytes

Values of parameters that look secret are masked in it as everywhere in the statement: such an image is not built
again without them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from imagesmith.layers.compression import compression_settings
from imagesmith.layers.dropped_files import table
from imagesmith.recipes.plan import BuildPlan, PlannedCache, PlannedWorkflow
from imagesmith.values.masking import MASK, masked
from imagesmith.values.names import canonical_json, sha256_hex

PLAN: Final = "plan"
"""The name of the resource."""
PLAN_TYPE: Final = "application/vnd.imagesmith.plan+json"
_MOST_BYTES: Final = 16 * 1024 * 1024


class NoPlan(ValueError):
    """A statement from which nothing can be built again; the text says why."""


def internal_parameters(plan: BuildPlan) -> Mapping[str, Any]:
    """What a reproducible build adds to `internalParameters`; nothing for others."""
    wanted = plan.reproducible
    if wanted is None:
        return {}
    rules = {
        "sourceDateEpoch": wanted.epoch,
        "leftOut": [{"pattern": item.pattern, "why": item.why} for item in table()],
        "compression": compression_settings(),
    }
    return {"reproducible": rules}


def plan_resource(plan: BuildPlan) -> list[Mapping[str, Any]]:
    """The plan of a reproducible build as a resource descriptor of in-toto; none for others."""
    if plan.reproducible is None:
        return []
    text = canonical_json(_rebuilt(plan).to_json())
    content = base64.b64encode(text.encode()).decode()
    return [{"name": PLAN, "mediaType": PLAN_TYPE, "digest": {"sha256": sha256_hex(text)}, "content": content}]


def read_plan(statement: Mapping[str, Any]) -> tuple[BuildPlan, str]:
    """The plan in a verified statement, and the digest of the parent that the image was built on. Raises NoPlan."""
    try:
        resources = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
        held = [item for item in resources if item["name"] == PLAN]
        parents = [item for item in resources if item["name"] == "parent"]
        if not held:
            raise NoPlan(
                "its provenance holds no plan: only a reproducible build can be built again (the tag "
                "imagesmith:reproducible)"
            )
        text = base64.b64decode(held[0]["content"], validate=True)
        if len(text) > _MOST_BYTES or sha256_hex(text.decode()) != held[0]["digest"]["sha256"]:
            raise NoPlan("the plan in its provenance does not have the digest that is stated with it")
        plan = BuildPlan.from_json(json.loads(text))
        parent = str(parents[0]["digest"]["sha256"])
    except NoPlan:
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise NoPlan(f"the plan in its provenance cannot be read: {error!r}") from error
    given = [pair for part in plan.components for pair in part.parameters.items()]
    given += [
        (name, value) for part in plan.workflows for name, values in part.parameters.items() for value in values
    ]
    hidden = sorted({name for name, value in given if value == MASK})
    if hidden:
        raise NoPlan(f"the value of its parameter '{hidden[0]}' looks secret and is not in the provenance")
    return plan, f"sha256:{parent}"


def _rebuilt(plan: BuildPlan) -> BuildPlan:
    """The plan without what has no part in the bytes of the image: where it goes, who may, what is tested."""
    return replace(
        plan,
        components=tuple(
            replace(part, parameters={name: masked(name, value) for name, value in part.parameters.items()})
            for part in plan.components
        ),
        targets=(), execution_role="", role=None, log_group="", scheduled=False, scan=None, unused=(),
        tests_enabled=False, keep_failed_instance=False, keep_completed_instance=False,
        cache=PlannedCache(reads=False),
        workflows=tuple(_masked(workflow) for workflow in plan.workflows if workflow.type == "BUILD"),
        machine=replace(plan.machine, distributions=(), user_data="") if plan.machine else None,
    )  # fmt: skip


def _masked(workflow: PlannedWorkflow) -> PlannedWorkflow:
    hidden = {name: tuple(masked(name, value) for value in values) for name, values in workflow.parameters.items()}
    return replace(workflow, parameters=hidden)
