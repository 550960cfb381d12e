"""Which package-url is about which package, and what can be no product of an account."""

from __future__ import annotations

import pytest

from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.vulnerabilities.products import names_package, unknown_product
from testing.fleet import ACCOUNT, DEBIAN, REGION, deb, digest_of, image_arn

UNKNOWN = OsRelease()
BASH = deb("bash", "5")


def language(kind: str, name: str) -> Package:
    return Package(name, "1", "", "", kind)


PACKAGES: tuple[tuple[str, Package, OsRelease, bool], ...] = (
    ("pkg:deb/debian/bash@5", BASH, DEBIAN, True),
    ("pkg:deb/debian/bash", BASH, DEBIAN, True),
    ("pkg:deb/bash@5", BASH, DEBIAN, True),
    ("pkg:deb/bash", BASH, DEBIAN, True),
    ("pkg:deb/ubuntu/bash@5", BASH, DEBIAN, False),
    ("pkg:deb/debian/bash@5", BASH, UNKNOWN, True),
    ("pkg:deb/debian/bash@6", BASH, UNKNOWN, False),
    ("pkg:deb/debian/bash", BASH, UNKNOWN, False),
    ("pkg:deb/bash", BASH, UNKNOWN, True),
    ("pkg:npm/%40types/node", language("npm", "@types/node"), DEBIAN, True),
    ("pkg:npm/%40types/node@1", language("npm", "@types/node"), DEBIAN, True),
    ("pkg:npm/node", language("npm", "@types/node"), DEBIAN, False),
    ("pkg:npm/node@1", language("npm", "@types/node"), DEBIAN, False),
    ("pkg:npm/%40types/node@1", language("npm", "node"), DEBIAN, False),
    ("pkg:npm/%40other/node@1", language("npm", "@types/node"), DEBIAN, False),
    ("pkg:npm/node", language("npm", "node"), DEBIAN, True),
    ("pkg:pypi/Foo_Bar", language("pypi", "foo-bar"), DEBIAN, True),
    ("pkg:pypi/vendor/foo@1", language("pypi", "foo"), DEBIAN, False),
    ("pkg:golang/github.com/a/b@1", Package("b", "1", "", "", "golang"), DEBIAN, False),
    ("not a package-url", BASH, DEBIAN, False),
    ("*", BASH, DEBIAN, False),
)


@pytest.mark.parametrize(
    ("text", "package", "system", "about"),
    PACKAGES,
    ids=[f"{row[0]} {row[1].name} {row[2].id}" for row in PACKAGES],
)
def test_a_package_url_is_about_packages_of_its_namespace(
    text: str, package: Package, system: OsRelease, about: bool
) -> None:
    """`@types/node` is another package than `node`; a distribution counts unless either side does not state it."""
    assert names_package(text, package, system) is about


OURS = f"arn:aws:imagebuilder:{REGION}:{ACCOUNT}"
DIGEST = digest_of("web")
PRODUCTS: tuple[tuple[str, str], ...] = (
    ("*", ""),
    (image_arn("web"), ""),
    (f"{OURS}:image/web/1.0.0", ""),
    (f"{OURS}:image/web", ""),
    ("pkg:deb/debian/bash", ""),
    (f"pkg:oci/web@{DIGEST.replace(':', '%3A')}?repository_url=registry.example", ""),
    ("arn:", "not the ARN of an image"),
    ("arn:aws:s3:::bucket", "not the ARN of an image"),
    (f"{OURS}:component/web/1.0.0/1", "not the ARN of an image"),
    (f"{OURS}:image-pipeline/web", "not the ARN of an image"),
    (f"{OURS}:image/", "not the ARN of an image"),
    (f"{OURS}:image/web/", "not the ARN of an image"),
    (f"{OURS}:image/web/x.x.x", "not the ARN of an image"),
    (f"{OURS}:image/web/1.0.0/1/1", "not the ARN of an image"),
    (f"{OURS}:image/web/1.0.0/1\n", "not the ARN of an image"),
    (image_arn("web").replace("aws", "aws-cn", 1), "not the ARN of an image"),
    (image_arn("web").replace(REGION, "eu-west-1"), "this account and Region"),
    (image_arn("web").replace(ACCOUNT, "111111111111"), "this account and Region"),
    ("web:1", "neither an image ARN nor a package-url"),
    ("pkg:oci/web", "another way than pkg:oci/NAME@sha256:DIGEST"),
    ("pkg:oci/web@1.0", "another way than pkg:oci/NAME@sha256:DIGEST"),
    (f"pkg:OCI/web@{DIGEST}", "another way than pkg:oci/NAME@sha256:DIGEST"),
)


@pytest.mark.parametrize(("text", "why"), PRODUCTS, ids=[row[0] for row in PRODUCTS])
def test_a_product_is_one_that_a_statement_can_settle(text: str, why: str) -> None:
    """Anything else would be accepted and apply to nothing."""
    found = unknown_product(text, partition="aws", region=REGION, account=ACCOUNT)
    assert why in found and bool(found) is bool(why)
