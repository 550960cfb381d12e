"""Managed components as documents that ExecuteDocument can name by ARN."""

from __future__ import annotations

from imagesmith.components.services import SourceDocument
from imagesmith.managed.catalog import managed_components
from imagesmith.values.arn import Arn, ArnError
from imagesmith.values.version import Version, VersionError, VersionPattern


class ManagedDocuments:
    """A DocumentSource of the components owned by `aws`. Each exists in every version (spec/api.md 4.12)."""

    def get(self, arn: str) -> SourceDocument:
        try:
            wanted = Arn.parse(arn)
            pattern = VersionPattern.parse(wanted.version or "x.x.x")
        except (ArnError, VersionError) as error:
            raise LookupError(str(error)) from error
        found = [item for item in managed_components() if wanted.owner == "aws" and item.name == wanted.slug]
        if not found:
            raise LookupError(f"{arn} is not a managed component of this version")
        version = str(pattern.filled(Version.parse(found[-1].version)))
        build = wanted.build if wanted.build and wanted.build.isdecimal() else "1"
        return SourceDocument(str(wanted.with_version(version, int(build))), found[-1].text)
