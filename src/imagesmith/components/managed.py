"""Managed components as documents that ExecuteDocument can name by ARN."""

from __future__ import annotations

from imagesmith.components.services import SourceDocument
from imagesmith.managed.catalog import managed_components
from imagesmith.values.arn import Arn, ArnError
from imagesmith.values.version import Version, VersionError, VersionPattern


class ManagedDocuments:
    """A DocumentSource of the components owned by `aws`; wildcards resolve to the newest match."""

    def get(self, arn: str) -> SourceDocument:
        try:
            wanted = Arn.parse(arn)
            pattern = VersionPattern.parse(wanted.version or "x.x.x")
        except (ArnError, VersionError) as error:
            raise LookupError(str(error)) from error
        found = [
            item
            for item in managed_components()
            if wanted.owner == "aws" and item.name == wanted.slug and pattern.matches(Version.parse(item.version))
        ]
        if not found or wanted.build not in (None, "1", "x"):
            raise LookupError(f"{arn} is not a managed component of this version")
        newest = found[-1]
        return SourceDocument(str(wanted.with_version(newest.version, 1)), newest.text)
