"""Classifies a recipe's `parentImage` text (spec/api.md 6.1, 6.2). Pure: nothing is looked up here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from imagesmith.values.arn import Arn, ArnError
from imagesmith.values.ecr import EcrError, ecr_address

_AMI = re.compile(r"ami-[0-9a-f]{8}([0-9a-f]{9})?")
_LAYOUTS = ("oci:", "oci-archive:", "docker-archive:")
_DISKS = ("file:", "http:", "https:")
_REGISTRY = re.compile(
    r"[a-z0-9]+([._:-][a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?",
    re.IGNORECASE,
)


class ParentKind(Enum):
    """The source of a parent."""

    IMAGE = "an Image Builder image ARN"
    REGISTRY = "a reference to a registry"
    LAYOUT = "a local OCI layout or archive"
    AMI = "an AMI id"
    SSM = "an ssm parameter"
    MARKETPLACE = "a Marketplace product"
    DISK = "a disk image by path or URL"
    INVALID = "not a reference"


@dataclass(frozen=True)
class ParentReference:
    """A classified parent; `problem` states why a text is INVALID."""

    kind: ParentKind
    text: str
    problem: str = ""


def classify_parent(text: str) -> ParentReference:
    """Find the form of spec/api.md 6.1 and 6.2 of a text."""
    if text.startswith("arn:"):
        try:
            arn = Arn.parse(text)
        except ArnError as error:
            return ParentReference(ParentKind.INVALID, text, f"{error}.")
        if arn.kind != "image":
            return ParentReference(ParentKind.INVALID, text, f"{text} is not the ARN of an image.")
        return ParentReference(ParentKind.IMAGE, text)
    for kind, prefixes in (
        (ParentKind.SSM, ("ssm:",)),
        (ParentKind.LAYOUT, _LAYOUTS),
        (ParentKind.DISK, _DISKS),
        (ParentKind.MARKETPLACE, ("prod-",)),
    ):
        if text.startswith(prefixes):
            return ParentReference(kind, text)
    if _AMI.fullmatch(text):
        return ParentReference(ParentKind.AMI, text)
    if len(text) <= 1024 and _REGISTRY.fullmatch(text):
        try:
            ecr_address(text)
        except EcrError as error:
            return ParentReference(ParentKind.INVALID, text, f"{error}.")
        return ParentReference(ParentKind.REGISTRY, text)
    return ParentReference(
        ParentKind.INVALID, text, f"'{text}' is neither an image ARN, a registry reference nor a local image."
    )


def is_ami_id(text: str) -> bool:
    return _AMI.fullmatch(text) is not None


def is_moving_tag(text: str) -> bool:
    """Whether a text is a registry reference that may resolve to another image tomorrow."""
    return classify_parent(text).kind is ParentKind.REGISTRY and "@" not in text


def parameter_names(text: str, *, account: str, region: str) -> tuple[str, ...]:
    """The possible names of the parameter of an `ssm:` reference; empty for another account or region.

    An ARN does not show whether the name begins with a slash, so both are possible.
    """
    name = text.removeprefix("ssm:")
    if not name.startswith("arn:"):
        return (name,)
    pieces = name.split(":", 5)
    if len(pieces) != 6 or pieces[3:5] != [region, account] or not pieces[5].startswith("parameter/"):
        return ()
    return pieces[5].removeprefix("parameter"), pieces[5].removeprefix("parameter/")


def is_public_ecr(text: str) -> bool:
    return text.startswith("public.ecr.aws/")
