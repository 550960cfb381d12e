"""Images of registries that a command names, and the names that their signatures give them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from imagesmith.distribution.cosign import fetch_names, name_in
from imagesmith.distribution.referrers import fetch_manifest
from imagesmith.inspection.signing import PublicKey
from imagesmith.inspection.statements import VerificationFailed
from imagesmith.settings import Registry, Settings


@dataclass(frozen=True)
class RegistryImage:
    """An image of a registry."""

    registry: Registry
    repository: str
    digest: str

    @property
    def name(self) -> str:
        """The name that its signature must have."""
        return name_in(self.registry, self.repository)


def check_name(image: RegistryImage, key: PublicKey) -> None:
    """Raises VerificationFailed, RegistryError."""
    names = fetch_names(image.registry, image.repository, image.digest, key)
    if image.name in names:
        return
    hint = "--any-name checks the provenance alone"
    if names:
        raise VerificationFailed(f"it is signed as {', '.join(sorted(set(names)))}, not as {image.name}; {hint}")
    raise VerificationFailed(
        f"no signature of this key names it {image.name}; 'imagesmith image attest' signs it, {hint}"
    )


def registry_image(settings: Settings, reference: str) -> RegistryImage:
    """The image that HOST/REPOSITORY:TAG or @DIGEST names. Raises RegistryError, VerificationFailed."""
    host, _, rest = reference.partition("/")
    repository, at, digest = rest.partition("@")
    tag = ""
    if not at:
        repository, _, tag = rest.rpartition(":") if ":" in rest else (rest, "", "latest")
    if not repository:
        raise VerificationFailed("it is not HOST/REPOSITORY:TAG or HOST/REPOSITORY@DIGEST")
    known = next((item for item in settings.registries.values() if item.url.split("/")[0] == host), None)
    registry = Registry(
        host,
        username=known.username if known else "",
        password_file=known.password_file if known else "",
        insecure=known.insecure if known else False,
    )
    manifest = fetch_manifest(registry, repository, digest or tag)
    computed = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    if digest and computed != digest:
        raise VerificationFailed(f"the registry returned a manifest with digest {computed}")
    return RegistryImage(registry, repository, computed)
