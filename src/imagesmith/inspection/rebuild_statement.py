"""The statement of a rebuilder: a second build of the same plan made the same bytes. Pure.

An in-toto statement with the predicate for test results (in-toto/attestation, test-result v0.1): what was done is
the test `rebuild`, with the plan as its configuration. A build that differs is signed by nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from imagesmith import __version__
from imagesmith.inspection.rebuild_plan import plan_resource
from imagesmith.recipes.plan import BuildPlan

KIND: Final = "application/vnd.in-toto.test-result+dsse"
PREDICATE: Final = "https://in-toto.io/attestation/test-result/v0.1"
_STATEMENT: Final = "https://in-toto.io/Statement/v1"


def agreement(plan: BuildPlan, digest: str, rebuilder: str) -> Mapping[str, Any]:
    """The statement about the image `digest` of a plan; `rebuilder` is the id of the key that signs."""
    resources = [
        {"name": item["name"], "mediaType": item["mediaType"], "digest": item["digest"]}
        for item in plan_resource(plan)
    ]
    return {
        "_type": _STATEMENT,
        "subject": [{"name": plan.layout_reference, "digest": {"sha256": digest.removeprefix("sha256:")}}],
        "predicateType": PREDICATE,
        "predicate": {
            "result": "PASSED",
            "configuration": [
                *resources,
                {"name": "rebuilder", "uri": f"urn:imagesmith:builder:{rebuilder}",
                 "annotations": {"imagesmith": __version__}},
            ],
            "passedTests": ["rebuild"], "warnedTests": [], "failedTests": [],
        },
    }  # fmt: skip
