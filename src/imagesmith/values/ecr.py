"""Addresses of Amazon ECR: their account and Region, in every spelling that clients of ECR accept. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_HOST = re.compile(
    r"(?P<account>[0-9]{12})\.dkr[.-]ecr(-fips)?\.(?P<region>[a-z0-9][a-z0-9_-]*)\."
    r"(amazonaws\.(com(\.cn)?|eu)|on\.(aws|amazonwebservices\.com\.cn)|sc2s\.sgov\.gov|c2s\.ic\.gov|"
    r"cloud\.adc-e\.uk|csp\.hci\.ic\.gov)(:443)?",
    re.IGNORECASE,
)
_LIKE = re.compile(r"(.*\.)?dkr[.-]ecr(-fips)?\..*", re.IGNORECASE)


class EcrError(ValueError):
    """An invalid address in the form of ECR."""


@dataclass(frozen=True)
class EcrAddress:
    """An image or repository in the ECR of an account and Region."""

    account: str
    region: str
    image: str
    """`NAME[:TAG][@DIGEST]`."""


def ecr_address(reference: str) -> EcrAddress | None:
    """The address of a registry reference to ECR; None for other registries. Raises EcrError."""
    host, _, image = reference.removeprefix("docker://").partition("/")
    found = _HOST.fullmatch(host)
    if found and image:
        return EcrAddress(found["account"], found["region"].lower(), image)
    if _LIKE.fullmatch(host):
        raise EcrError(
            f"'{reference}' is not an address of ECR: expected ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME[:TAG]"
        )
    return None
