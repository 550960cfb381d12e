"""Findings of image scans, and their counts by account, image, pipeline or vulnerability (spec/api.md 5.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from imagesmith.resources.call import Call
from imagesmith.resources.errors import invalid_value
from imagesmith.resources.lists import list_keyed
from imagesmith.store.findings import Column, StoredFinding, finding_keys, findings_page, severity_counts
from imagesmith.store.records import Cursor
from imagesmith.values.api import ApiDocument, ApiRequest, ApiResponse

_FILTERS: Mapping[str, Column] = {
    "imageBuildVersionArn": "image_arn",
    "imagePipelineArn": "pipeline_arn",
    "vulnerabilityId": "vulnerability_id",
    "severity": "severity",
}
_AGGREGATIONS: Mapping[str, tuple[Column, str]] = {
    "imageBuildVersionArn": ("image_arn", "imageAggregation"),
    "imagePipelineArn": ("pipeline_arn", "imagePipelineAggregation"),
    "vulnerabilityId": ("vulnerability_id", "vulnerabilityIdAggregation"),
}
_MANAGERS: Mapping[str, str] = {"deb": "OS", "rpm": "OS", "apk": "OS", "pypi": "PYTHONPKG", "npm": "NODEPKG"}
_MAX_TEXT = 1024


def list_findings(call: Call, request: ApiRequest) -> ApiResponse:
    """Findings of the caller's images, newest scan first; at most one filter with one value."""
    where = {
        _require_filter(entry.get("name", ""), _FILTERS, f"filters[{index}].name"): entry["values"][0]
        for index, entry in enumerate(request.get("filters", ()))
        if entry.get("values")
    }

    def fetch(after: Cursor | None, limit: int) -> Sequence[tuple[Cursor, ApiDocument]]:
        rows = findings_page(call.tx, call.account, call.region, where=where, after=after, limit=limit)
        return [(row.cursor, _to_api(row)) for row in rows]

    return list_keyed(call, fetch, key="findings")


def list_aggregations(call: Call, request: ApiRequest) -> ApiResponse:
    """Counts by severity: of the account, or one entry per value of the filter, or per key that has findings."""
    wanted = request.get("filter")
    if wanted is None or "name" not in wanted:
        return {"aggregationType": "accountId", **list_keyed(call, partial(_of_account, call), key="responses")}
    name = wanted["name"]
    column, member = _require_filter(name, _AGGREGATIONS, "filter.name")
    values = list(dict.fromkeys(wanted.get("values", ())))

    def fetch(after: Cursor | None, limit: int) -> Sequence[tuple[Cursor, ApiDocument]]:
        past = after.arn if after else ""
        if values:
            keys = [key for key in sorted(values) if key > past][:limit]
        else:
            keys = finding_keys(call.tx, call.account, call.region, column=column, after=past, limit=limit)
        counts = severity_counts(call.tx, call.account, call.region, column=column, keys=keys)
        return [(Cursor(0, key), {member: {name: key, "severityCounts": _counts(counts[key])}}) for key in keys]

    return {"aggregationType": name, **list_keyed(call, fetch, key="responses")}


def _require_filter(name: str, table: Mapping[str, Any], path: str) -> Any:
    if name not in table:
        known = ", ".join(sorted(table))
        raise invalid_value(path, f"'{name}' is not a filter here; known filters: {known}.")
    return table[name]


def _of_account(call: Call, _after: Cursor | None, _limit: int) -> Sequence[tuple[Cursor, ApiDocument]]:
    """The one entry of the account; no token continues after it."""
    counts = severity_counts(call.tx, call.account, call.region, column="account", keys=[call.account])
    shown = {"accountId": call.account, "severityCounts": _counts(counts[call.account])}
    return [(Cursor(0, call.account), {"accountAggregation": shown})]


def _counts(counts: Mapping[str, int]) -> dict[str, int]:
    named = {label.lower(): counts.get(label, 0) for label in ("CRITICAL", "HIGH", "MEDIUM")}
    return {"all": sum(counts.values()), **named}


def _to_api(row: StoredFinding) -> ApiDocument:
    found = row.document
    shown: ApiDocument = _without_empty(
        {
            "awsAccountId": row.account,
            "imageBuildVersionArn": row.image_arn,
            "imagePipelineArn": row.pipeline_arn,
            "type": "PACKAGE_VULNERABILITY",
            "title": found["title"] or row.vulnerability_id,
            "description": found["description"] or found["title"],
            "remediation": {"recommendation": {"text": found["remediation"], "url": found["source_url"]}},
            "severity": row.severity,
            "firstObservedAt": row.observed,
            "updatedAt": row.observed,
            "inspectorScore": found["score"],
            "inspectorScoreDetails": _score_details(found),
            "packageVulnerabilityDetails": _details(row),
            "fixAvailable": found["fix_available"],
        }
    )
    return shown


def _details(row: StoredFinding) -> ApiDocument:
    found = row.document
    return {
        "vulnerabilityId": row.vulnerability_id,
        "vulnerablePackages": [_package(package) for package in found["packages"]],
        "source": found["source"],
        "cvss": [
            {
                "baseScore": item["score"], "scoringVector": item["vector"], "version": item["version"],
                "source": item["source"],
            }
            for item in found["cvss"]
        ],
        "relatedVulnerabilities": list(found["related"]),
        "sourceUrl": found["source_url"],
        "vendorSeverity": found["vendor_severity"],
        "vendorCreatedAt": _instant(found["published"]),
        "vendorUpdatedAt": _instant(found["modified"]),
        "referenceUrls": list(found["references"]),
    }  # fmt: skip


def _score_details(found: Mapping[str, Any]) -> ApiDocument:
    best = next((item for item in found["cvss"] if item["score"] == found["score"] is not None), None)
    if best is None:
        return {}
    return {
        "adjustedCvss": {
            "scoreSource": best["source"], "cvssSource": best["source"], "version": best["version"],
            "score": best["score"], "scoringVector": best["vector"],
        }
    }  # fmt: skip


def _package(package: Mapping[str, Any]) -> ApiDocument:
    """Packages of operating systems have separate epochs and releases, because the model has members for them."""
    version, release, epoch = package["version"], "", None
    if package["kind"] in ("deb", "rpm"):
        before, colon, rest = version.partition(":")
        if colon and before.isdigit():
            epoch, version = int(before), rest
        if "-" in version:
            version, _, release = version.rpartition("-")
    fixed = package["fixed_version"]
    return {
        "name": package["name"],
        "version": version,
        "release": release,
        "epoch": epoch,
        "arch": package["architecture"],
        "packageManager": _MANAGERS.get(package["kind"], package["kind"]),
        "filePath": package["location"],
        "fixedInVersion": fixed,
        "remediation": f"Update {package['name']} to {fixed}" if fixed else "",
    }


def _instant(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")[:32]) if text else None
    except ValueError:
        return None


def _without_empty(value: Any) -> Any:
    """Without empty texts, lists and structures, which the model does not allow; long texts cut to its limit."""
    if isinstance(value, dict):
        kept = {name: _without_empty(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item not in ("", None, [], {})}
    if isinstance(value, list):
        return [shown for item in value if (shown := _without_empty(item)) not in ("", None, {})]
    return value[:_MAX_TEXT] if isinstance(value, str) else value
