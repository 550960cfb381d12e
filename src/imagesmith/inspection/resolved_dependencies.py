"""What went into an image, as resource descriptors of in-toto: the resolvedDependencies of its provenance. Pure.

    parent          the image that the build began with, by digest
    component       every component, and every document that one of them ran, by digest
    workflow        every workflow of the run, by digest
    cached result   what was taken from an earlier build, by the digest of its layer
    package         every package in the finished image: its package-url, and the source that it was built from

A package manager keeps no digest of what it installed. A package has one only where the image states it (chisel).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NotRequired, TypedDict

from packageurl import PackageURL

from imagesmith.inspection.inventory import Inventory
from imagesmith.inspection.packages import Package
from imagesmith.inspection.purls import package_url
from imagesmith.recipes.plan import BuildPlan
from imagesmith.values.names import iso_instant, sha256_hex

PARENT, COMPONENT = "parent", "component"
_TAG = re.compile(r"(?::(?P<tag>[^/:@]+))?(?:@(?P<digest>.+))?\Z")


class Resource(TypedDict):
    """A resource descriptor of in-toto: an input or an output of the build."""

    name: str
    uri: NotRequired[str]
    digest: NotRequired[Mapping[str, str]]
    annotations: NotRequired[Mapping[str, str]]
    """`reference`: as the recipe names the parent; `source`: what stood in for a managed image of the service, or
    the source package of a package."""


def resolved_dependencies(
    plan: BuildPlan, *, parent: str, parent_digest: str, cached: Iterable[Mapping[str, Any]],
    inventory: Inventory | None,
) -> list[Resource]:  # fmt: skip
    """`parent`: the start of the run, if it is not the parent of the plan; `cached`: members `step`, `build`,
    `made` (seconds) and `diffIds`; `inventory`: None if it was not taken."""
    components: list[Resource] = [
        {"name": COMPONENT, "uri": component.arn, "digest": _of_text(component.text)}
        for component in plan.components
    ]
    documents = {item.arn: item.text for component in plan.components for item in component.documents}
    nested: list[Resource] = [
        {"name": "document", "uri": arn, "digest": _of_text(text)} for arn, text in sorted(documents.items())
    ]
    workflows: list[Resource] = [
        {"name": "workflow", "uri": item.arn, "digest": _of_text(item.text)} for item in plan.workflows
    ]
    packages = _packages(inventory) if inventory is not None else ()
    start = _parent(plan, parent or plan.parent.reference, parent_digest)
    return [start, *components, *nested, *workflows, *map(_cached_result, cached), *packages]


def image_uri(reference: str, digest: str) -> str:
    """The package-url of an image of a registry: `pkg:oci/base@sha256:..?repository_url=HOST/base&tag=1`.

    A reference without a host or a folder is returned as it is."""
    address = reference.removeprefix("docker://")
    found = _TAG.search(address)
    assert found is not None  # it matches the empty end of any text
    repository = address[: found.start()]
    name = repository.rpartition("/")[2].lower()
    if "/" not in repository or not name:
        return reference
    tag = {"tag": found["tag"]} if found["tag"] else {}
    qualifiers = {"repository_url": repository, **tag}
    return PackageURL("oci", None, name, digest or found["digest"] or None, qualifiers).to_string()


def _parent(plan: BuildPlan, reference: str, digest: str) -> Resource:
    is_registry = plan.parent.kind == "registry" and reference == plan.parent.reference
    uri = image_uri(reference, digest) if is_registry else reference
    resource: Resource = {"name": PARENT, "uri": uri}
    said = {"source": plan.parent.stand_in} if plan.parent.stand_in else {}
    if uri != reference:
        said["reference"] = reference
    if said:
        resource["annotations"] = said
    if digest:
        resource["digest"] = {"sha256": digest.removeprefix("sha256:")}
    return resource


def _cached_result(item: Mapping[str, Any]) -> Resource:
    made = iso_instant(datetime.fromtimestamp(item["made"], UTC))
    found: Resource = {
        "name": "cached result",
        "annotations": {"step": item["step"], "build": item["build"], "made": made},
    }
    if item["diffIds"]:
        # one step adds one layer
        found["digest"] = {"sha256": item["diffIds"][-1].removeprefix("sha256:")}
    return found


def _packages(inventory: Inventory) -> Iterator[Resource]:
    for package in inventory.packages:
        uri = package_url(package, inventory.system)
        described: Resource = {"name": f"package {package.name} {package.version}".rstrip()}
        if uri:
            described["uri"] = uri
        if source := source_of(package):
            described["annotations"] = {"source": source}
        yield described


def source_of(package: Package) -> str:
    """`openssl 3.0.11-1`: what a system package was built from; empty for a package of a language."""
    if package.kind not in ("deb", "rpm", "apk") or not package.source:
        return ""
    return f"{package.source} {package.source_version or package.version}"


def _of_text(text: str) -> dict[str, str]:
    return {"sha256": sha256_hex(text)}
