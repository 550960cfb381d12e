"""The statement of a rebuilder: a second build of the same plan made the same bytes. Pure.

An in-toto statement with the predicate for test results (in-toto/attestation, test-result v0.1): what was done is
the test `rebuild`, with the plan as its configuration. A build that differs is signed by nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from imagesmith import __version__
from imagesmith.inspection.rebuild_plan import plan_resource
from imagesmith.inspection.statements import STATEMENT, Predicate, subject
from imagesmith.recipes.plan import BuildPlan

KIND: Final = Predicate.TEST_RESULT.kind


def agreement(plan: BuildPlan, digest: str, rebuilder: str) -> Mapping[str, Any]:
    """The statement about the image `digest` of a plan; `rebuilder` is the id of the key that signs."""
    resources = [
        {"name": item["name"], "mediaType": item["mediaType"], "digest": item["digest"]}
        for item in plan_resource(plan)
    ]
    return {
        "_type": STATEMENT,
        "subject": [subject(plan.layout_reference, digest)],
        "predicateType": str(Predicate.TEST_RESULT),
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
