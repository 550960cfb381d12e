"""What a statement is about: an image by one of its names, or a package by a package-url. Pure."""

from __future__ import annotations

import re
from typing import Final

from packageurl import PackageURL

from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.purls import package_url

_SYSTEM_KINDS: Final = ("deb", "rpm", "apk")
"""Packages whose namespace is the distribution; elsewhere it is a part of the name, such as the scope of npm."""
_IMAGE_PATH: Final = r"image/[a-z0-9-]+(/[0-9]+\.[0-9]+\.[0-9]+(/[0-9]+)?)?"
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


def is_image(product: str) -> bool:
    """Whether a product is an image, and neither a package nor all images."""
    return product.startswith(("arn:", "pkg:oci/"))


def names_image(product: str, image_arn: str, digest: str) -> bool:
    """Whether a product is an image: by its ARN, with or without version and build, or by `pkg:oci/...@DIGEST`."""
    if product.startswith("pkg:oci/"):
        try:
            return bool(digest) and PackageURL.from_string(product).version == digest
        except ValueError:
            return False
    return image_arn == product or image_arn.startswith(f"{product}/")


def names_package(text: str, package: Package, system: OsRelease) -> bool:
    """Whether a package-url is about a package of an image with this system.

    One without a version is about every version; of a system package, one without a distribution is about that of
    every distribution. Where the system of the image is not known, one with a distribution needs the version.
    """
    own = package_url(package, system)
    try:
        wanted, known = PackageURL.from_string(text), PackageURL.from_string(own)
    except ValueError:
        return False
    qualifiers, given = dict(known.qualifiers or {}), dict(wanted.qualifiers or {})
    return (
        (wanted.type, wanted.name) == (known.type, known.name)
        and _same_namespace(wanted, known)
        and (not wanted.version or wanted.version == known.version)
        and all(qualifiers.get(name, value) == value for name, value in given.items())
    )


def _same_namespace(wanted: PackageURL, known: PackageURL) -> bool:
    if (wanted.namespace or "") == (known.namespace or ""):
        return True
    if known.type not in _SYSTEM_KINDS:
        return False
    # distributions have packages of one name and different fixes
    return not wanted.namespace or (not known.namespace and wanted.version == known.version)


def is_package_url(text: str) -> bool:
    """Whether a text is a package-url of something that an image contains."""
    try:
        return PackageURL.from_string(text).type != "oci"
    except ValueError:
        return False


def unknown_product(text: str, *, partition: str, region: str, account: str) -> str:
    """Why no image and no package of an account and Region can be this product; empty if one can."""
    if text == "*":
        return ""
    if text.startswith("arn:"):
        scope = re.escape(f"arn:{partition}:imagebuilder:{region}:{account}:")
        return (
            ""
            if re.fullmatch(scope + _IMAGE_PATH, text)
            else "is not the ARN of an image of this account and Region"
        )
    try:
        url = PackageURL.from_string(text)
    except ValueError:
        return "is neither an image ARN nor a package-url"
    if url.type == "oci" and not (is_image(text) and _DIGEST.fullmatch(url.version or "")):
        return "names an image in another way than pkg:oci/NAME@sha256:DIGEST"
    return ""
