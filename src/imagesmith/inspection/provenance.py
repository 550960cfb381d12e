"""The provenance of an image: an in-toto Statement v1 with an SLSA Provenance v1 predicate. Pure.

    subject                the image, by the digest of its manifest
    externalParameters     the choices of the recipe's owner: recipe, components, parameters, Dockerfile
        resolvedDependencies   the parent and every component, by digest; what came from earlier builds, with the
                               digests of its layers
        runDetails             the builder and the times

Values of parameters whose names look like secrets are masked, and no hash of them is stated, for a short secret can
be guessed from its hash, and a statement travels with the image.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NotRequired, TypedDict

from imagesmith import __version__
from imagesmith.inspection.signing import ENVELOPE_TYPE, PublicKey, SigningError, open_envelope
from imagesmith.recipes.plan import BuildPlan
from imagesmith.values.names import iso_instant, sha256_hex

KIND = "application/vnd.in-toto.provenance+dsse"
MEDIA_TYPE = ENVELOPE_TYPE
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPES = {"container": "urn:imagesmith:container-build:v1", "machine": "urn:imagesmith:machine-build:v1"}
MASK = "***"
IMAGE_ANNOTATION = "imagesmith.image"
DISK_PROVENANCE = "provenance-"
"""The prefix of provenance files beside a disk: one file for each image that became this disk."""

_SECRET = re.compile(
    r"pass(word|phrase|wd)?|secret|token|credential|api_?key|private_?key|access_?key", re.IGNORECASE
)


class VerificationFailed(RuntimeError):
    """A provenance that is not valid for an image: one sentence with the reason."""


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


@dataclass(frozen=True)
class Provenance:
    """A verified statement in readable form."""

    image: str
    digest: str
    parent: str
    """Its URI, and what stood in for a managed image of the service."""
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
        "subject": [{"name": details.name, "digest": _sha256(details.digest)}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPES[plan.kind],
                "externalParameters": _external(plan),
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


def verify(envelope: bytes, digest: str, keys: tuple[PublicKey, ...]) -> Provenance:
    """Check signature, form and subject of an envelope for the image `digest`. Raises VerificationFailed."""
    try:
        payload, key = open_envelope(envelope, keys)
        document: Any = json.loads(payload)
        kinds = (document["_type"], document["predicateType"])
        subjects = [str(item["digest"].get("sha256", "")) for item in document["subject"]]
    except SigningError as error:
        raise VerificationFailed(f"the signature of the provenance is not valid: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VerificationFailed(f"the signed statement is not an in-toto statement: {error!r}") from error
    if kinds != (STATEMENT, PREDICATE):
        raise VerificationFailed(f"the signed statement is {kinds[1]!r}, expected {PREDICATE!r}")
    if digest.removeprefix("sha256:") not in subjects:
        raise VerificationFailed(f"the provenance describes sha256:{', '.join(subjects)}, not {digest}")
    try:
        return _read(document, digest, key)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise VerificationFailed(f"the signed provenance lacks a required member: {error!r}") from error


def masked(name: str, value: str) -> str:
    """The value of a parameter, or a mask for one whose name looks like a secret's."""
    return MASK if _SECRET.search(name) else value


class _Resource(TypedDict):
    """A resource descriptor of in-toto: an input or an output of the build."""

    name: str
    uri: NotRequired[str]
    digest: NotRequired[Mapping[str, str]]
    annotations: NotRequired[Mapping[str, str]]
    """`source`: what stood in for a managed image of the service."""


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


def _dependencies(plan: BuildPlan, details: RunDetails) -> list[_Resource]:
    parent: _Resource = {"name": "parent", "uri": details.parent or plan.parent.reference}
    if plan.parent.stand_in:
        parent["annotations"] = {"source": plan.parent.stand_in}
    if details.parent_digest:
        parent["digest"] = _sha256(details.parent_digest)
    components: list[_Resource] = [
        {"name": "component", "uri": component.arn, "digest": {"sha256": sha256_hex(component.text)}}
        for component in plan.components
    ]
    documents = {item.arn: item.text for component in plan.components for item in component.documents}
    nested: list[_Resource] = [
        {"name": "document", "uri": arn, "digest": {"sha256": sha256_hex(text)}}
        for arn, text in sorted(documents.items())
    ]
    return [parent, *components, *nested, *map(_cached_result, details.cached)]


def _cached_result(item: Mapping[str, Any]) -> _Resource:
    made = iso_instant(datetime.fromtimestamp(item["made"], UTC))
    found: _Resource = {
        "name": "cached result",
        "annotations": {"step": item["step"], "build": item["build"], "made": made},
    }
    if item["diffIds"]:
        # one step adds one layer
        found["digest"] = _sha256(item["diffIds"][-1])
    return found


def _read(document: Mapping[str, Any], digest: str, key: str) -> Provenance:
    definition = document["predicate"]["buildDefinition"]
    details = document["predicate"]["runDetails"]
    parent = next(item for item in definition["resolvedDependencies"] if item["name"] == "parent")
    found = parent.get("digest", {}).get("sha256", "")
    source = parent.get("annotations", {}).get("source", "")
    return Provenance(
        image=str(definition["externalParameters"]["image"]),
        digest=digest,
        parent=f"{parent['uri']} ({source})" if source else str(parent["uri"]),
        parent_digest=f"sha256:{found}" if found else "",
        components=tuple(
            str(item["uri"]) for item in definition["resolvedDependencies"] if item["name"] == "component"
        ),
        builder=str(details["builder"]["id"]),
        version=str(details["builder"]["version"]["imagesmith"]),
        key=key,
        started=str(details["metadata"]["startedOn"]),
        finished=str(details["metadata"]["finishedOn"]),
        statement=document,
    )


def _sha256(digest: str) -> dict[str, str]:
    return {"sha256": digest.removeprefix("sha256:")}


def disk_provenance(image_arn: str) -> str:
    """The name of an image's provenance beside its disk."""
    return f"{DISK_PROVENANCE}{sha256_hex(image_arn)[:16]}.json"
