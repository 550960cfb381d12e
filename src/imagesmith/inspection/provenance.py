"""The provenance of an image: an in-toto Statement v1 with an SLSA Provenance v1 predicate. Pure.

    subject                the image, by the digest of its manifest
    externalParameters     the choices of the recipe's owner: recipe, components, parameters, Dockerfile
    internalParameters     how the builder was told to run: cache, network, repositories
    resolvedDependencies   what went into it (resolved_dependencies.py)
    runDetails             the builder and the times

Values of parameters whose names look like secrets are masked, and no hash of them is stated, for a short secret can
be guessed from its hash, and a statement travels with the image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from imagesmith import __version__
from imagesmith.inspection.inventory import Inventory
from imagesmith.inspection.rebuild_plan import internal_parameters, plan_resource
from imagesmith.inspection.resolved_dependencies import COMPONENT, PARENT, resolved_dependencies
from imagesmith.inspection.signing import ENVELOPE_TYPE, PublicKey
from imagesmith.inspection.statements import STATEMENT, Predicate, VerificationFailed, open_statement, subject
from imagesmith.recipes.plan import BuildPlan
from imagesmith.values.masking import masked
from imagesmith.values.names import iso_instant, sha256_hex

KIND = Predicate.PROVENANCE.kind
MEDIA_TYPE = ENVELOPE_TYPE
PREDICATE = str(Predicate.PROVENANCE)
BUILD_TYPES = {"container": "urn:imagesmith:container-build:v1", "machine": "urn:imagesmith:machine-build:v1"}
IMAGE_ANNOTATION = "imagesmith.image"


@dataclass(frozen=True)
class RunDetails:
    """What is known only in the run."""

    name: str
    digest: str
    parent_digest: str
    started: datetime
    finished: datetime
    builder: str
    """Id of the key that signs."""
    parent: str = ""
    """The start of the run, if it is not the parent of the plan."""
    cached: tuple[Mapping[str, Any], ...] = ()
    """What was taken from earlier builds: members `step`, `build`, `made` (seconds) and `diffIds`."""
    inventory: Inventory | None = None
    """The packages of the image; None if they were not read."""


@dataclass(frozen=True)
class Provenance:
    """A verified statement in readable form."""

    image: str
    digest: str
    parent: str
    """Its URI, and what stood in for a managed image of the service."""
    parent_uri: str
    parent_digest: str
    components: tuple[str, ...]
    builder: str
    version: str
    key: str
    started: str
    finished: str
    statement: Mapping[str, Any]


def statement(plan: BuildPlan, details: RunDetails) -> bytes:
    """The statement's bytes, ready to be signed."""
    document = {
        "_type": STATEMENT,
        "subject": [subject(details.name, details.digest)],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPES[plan.kind],
                "externalParameters": _external(plan),
                "internalParameters": {**_internal(plan), **internal_parameters(plan)},
                "resolvedDependencies": _dependencies(plan, details),
            },
            "runDetails": {
                "builder": {
                    "id": f"urn:imagesmith:builder:{details.builder}",
                    "version": {"imagesmith": __version__},
                },
                "metadata": {
                    "invocationId": plan.image_arn,
                    "startedOn": iso_instant(details.started),
                    "finishedOn": iso_instant(details.finished),
                },
            },
        },
    }
    return json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


def verify(envelope: bytes, digest: str, keys: Sequence[PublicKey]) -> Provenance:
    """Check signature, form and subject of an envelope for the image `digest`. Raises VerificationFailed."""
    held = open_statement(envelope, digest, keys, Predicate.PROVENANCE)
    try:
        return _read(held.document, digest, held.key)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise VerificationFailed(f"the signed provenance lacks a required member: {error!r}") from error


def _dependencies(plan: BuildPlan, details: RunDetails) -> list[Mapping[str, Any]]:
    resources = resolved_dependencies(
        plan, parent=details.parent, parent_digest=details.parent_digest, cached=details.cached,
        inventory=details.inventory,
    )  # fmt: skip
    return [*resources, *plan_resource(plan)]


def _external(plan: BuildPlan) -> Mapping[str, object]:
    return {
        "image": plan.image_arn,
        "name": plan.name,
        "version": plan.version,
        "pipeline": plan.pipeline_arn,
        "parent": plan.parent.reference,
        "dockerfile": {"digest": {"sha256": sha256_hex(plan.dockerfile)}},
        "workingDirectory": plan.working_directory,
        "components": [
            {
                "arn": component.arn,
                "parameters": {name: masked(name, value) for name, value in sorted(component.parameters.items())},
            }
            for component in plan.components
        ],
    }


def _internal(plan: BuildPlan) -> Mapping[str, object]:
    """The choices that are not the recipe's: how the builder was told to run."""
    return {
        "cache": {
            "reads": plan.cache.reads,
            "components": plan.cache.components,
            "maxAgeSeconds": plan.cache.max_age_seconds,
        },
        "network": plan.network,
        "pushedTo": [{"region": item.region, "repository": item.repository} for item in plan.targets],
    }


def _read(document: Mapping[str, Any], digest: str, key: str) -> Provenance:
    definition = document["predicate"]["buildDefinition"]
    details = document["predicate"]["runDetails"]
    parent = next(item for item in definition["resolvedDependencies"] if item["name"] == PARENT)
    found = parent.get("digest", {}).get("sha256", "")
    said = parent.get("annotations", {})
    source, named = said.get("source", ""), said.get("reference") or parent["uri"]
    return Provenance(
        image=str(definition["externalParameters"]["image"]),
        digest=digest,
        parent=f"{named} ({source})" if source else str(named),
        parent_uri=str(parent["uri"]),
        parent_digest=f"sha256:{found}" if found else "",
        components=tuple(
            str(item["uri"]) for item in definition["resolvedDependencies"] if item["name"] == COMPONENT
        ),
        builder=str(details["builder"]["id"]),
        version=str(details["builder"]["version"]["imagesmith"]),
        key=key,
        started=str(details["metadata"]["startedOn"]),
        finished=str(details["metadata"]["finishedOn"]),
        statement=document,
    )


def disk_provenance(image_arn: str) -> str:
    """The name of an image's provenance beside its disk."""
    return beside_disk(Predicate.PROVENANCE, image_arn)


def beside_disk(predicate: Predicate, image_arn: str) -> str:
    """The name of a statement of one image beside its disk, which several images may have."""
    return f"{predicate.slug}-{sha256_hex(image_arn)[:16]}.json"
