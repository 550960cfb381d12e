"""Findings of image scans over HTTP: lists, filters, pages, counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from imagesmith.inspection.scanning.advisories import Advisory
from imagesmith.inspection.scanning.findings import Finding, VulnerablePackage
from imagesmith.inspection.scanning.severities import Cvss, Severity
from imagesmith.values.states import ScanStatus
from testing.api import Api, create
from testing.refusals import refused

OPENSSL = VulnerablePackage("libssl3", "1:3.0.11-1~deb12u2", "amd64", "deb", "", "1:3.0.11-1~deb12u3")


def finding(number: int, severity: Severity = "HIGH", **members: Any) -> Mapping[str, Any]:
    return Finding(Advisory(f"CVE-2024-{number:04}", severity, "test", **members), (OPENSSL,)).to_json()


@pytest.fixture
def scanned(api: Api) -> tuple[str, str]:
    """Two images, the second of a pipeline, with three and two findings."""
    first = create(api, api.recipe())
    pipeline = api.pipeline()
    second = api.client.start_image_pipeline_execution(imagePipelineArn=pipeline)["imageBuildVersionArn"]
    api.inspections.put_findings(first, [finding(1, "CRITICAL"), finding(2), finding(3, "LOW")])
    api.inspections.put_findings(second, [finding(2), finding(4, "MEDIUM")])
    return first, second


def ids(answer: Any) -> list[str]:
    return [item["packageVulnerabilityDetails"]["vulnerabilityId"] for item in answer["findings"]]


def test_findings_come_newest_scan_first_and_worst_first(api: Api, scanned: tuple[str, str]) -> None:
    """Without a filter every finding of the account is listed."""
    answer = api.client.list_image_scan_findings()
    assert ids(answer) == ["CVE-2024-0002", "CVE-2024-0004", "CVE-2024-0001", "CVE-2024-0002", "CVE-2024-0003"]


def test_a_finding_says_everything_that_is_known(api: Api) -> None:
    """Package, fix, score, remediation and dates have their members; what is unknown is absent."""
    image = create(api, api.recipe())
    vector = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
    api.inspections.put_findings(
        image,
        [
            finding(
                1, "CRITICAL", title="A flaw", description="In keys", source_url="https://example.org/1",
                cvss=(Cvss("3.1", vector, "NVD", 9.8),), references=("https://example.org/2",),
                published="2024-01-09T00:00:00Z", vendor_severity="high",
            )
        ],
    )  # fmt: skip
    (shown,) = api.client.list_image_scan_findings()["findings"]
    assert shown["imageBuildVersionArn"] == image and shown["type"] == "PACKAGE_VULNERABILITY"
    assert "imagePipelineArn" not in shown
    assert (shown["severity"], shown["fixAvailable"], shown["inspectorScore"]) == ("CRITICAL", "YES", 9.8)
    assert shown["inspectorScoreDetails"]["adjustedCvss"]["scoringVector"] == vector
    assert shown["remediation"]["recommendation"]["text"].startswith("Update libssl3 to 1:3.0.11-1~deb12u3")
    details = shown["packageVulnerabilityDetails"]
    assert details["vulnerablePackages"] == [
        {
            "name": "libssl3", "version": "3.0.11", "release": "1~deb12u2", "epoch": 1, "arch": "amd64",
            "packageManager": "OS", "fixedInVersion": "1:3.0.11-1~deb12u3",
            "remediation": "Update libssl3 to 1:3.0.11-1~deb12u3",
        }
    ]  # fmt: skip
    assert details["vendorCreatedAt"].year == 2024 and "vendorUpdatedAt" not in details
    assert details["cvss"][0]["baseScore"] == 9.8 and details["referenceUrls"] == ["https://example.org/2"]


def test_each_filter_selects(api: Api, scanned: tuple[str, str]) -> None:
    """Image, pipeline, vulnerability and severity; nothing matches, nothing is listed."""
    first, second = scanned
    pipeline = api.client.get_image(imageBuildVersionArn=second)["image"]["sourcePipelineArn"]

    def listed(name: str, value: str) -> list[str]:
        return ids(api.client.list_image_scan_findings(filters=[{"name": name, "values": [value]}]))

    assert listed("imageBuildVersionArn", first) == ["CVE-2024-0001", "CVE-2024-0002", "CVE-2024-0003"]
    assert listed("imagePipelineArn", pipeline) == ["CVE-2024-0002", "CVE-2024-0004"]
    assert listed("vulnerabilityId", "CVE-2024-0002") == ["CVE-2024-0002"] * 2
    assert listed("severity", "CRITICAL") == ["CVE-2024-0001"]
    assert listed("severity", "critical") == []
    with refused("InvalidParameterValueException"):
        listed("cvss", "9.8")


def test_pages_continue_where_they_ended(api: Api, scanned: tuple[str, str]) -> None:
    """One finding a page gives each once, in order; a token of other filters is refused."""
    pages = list(api.client.get_paginator("list_image_scan_findings").paginate(PaginationConfig={"PageSize": 1}))
    assert [name for page in pages for name in ids(page)] == ids(api.client.list_image_scan_findings())
    with refused("InvalidPaginationTokenException"):
        api.client.list_image_scan_findings(
            nextToken=pages[0]["nextToken"], filters=[{"name": "severity", "values": ["HIGH"]}]
        )


def test_counts_of_the_account(api: Api, scanned: tuple[str, str]) -> None:
    """Without a filter the account is counted; `all` counts every severity."""
    answer = api.client.list_image_scan_finding_aggregations()
    assert answer["aggregationType"] == "accountId"
    (entry,) = answer["responses"]
    assert entry["accountAggregation"]["severityCounts"] == {"all": 5, "critical": 1, "high": 2, "medium": 1}


def test_counts_by_image_pipeline_and_vulnerability(api: Api, scanned: tuple[str, str]) -> None:
    """Several values give one entry each, also one without findings; no value gives every key."""
    first, second = scanned
    answer = api.client.list_image_scan_finding_aggregations(
        filter={"name": "imageBuildVersionArn", "values": [first, second]}
    )
    assert answer["aggregationType"] == "imageBuildVersionArn"
    counts = {
        item["imageAggregation"]["imageBuildVersionArn"]: item["imageAggregation"]["severityCounts"]["all"]
        for item in answer["responses"]
    }
    assert counts == {first: 3, second: 2}
    by_pipeline = api.client.list_image_scan_finding_aggregations(filter={"name": "imagePipelineArn"})
    assert [item["imagePipelineAggregation"]["severityCounts"]["all"] for item in by_pipeline["responses"]] == [2]
    by_id = api.client.list_image_scan_finding_aggregations(
        filter={"name": "vulnerabilityId", "values": ["CVE-2024-0002", "CVE-1999-0001"]}
    )
    entries = [item["vulnerabilityIdAggregation"] for item in by_id["responses"]]
    assert [(entry["vulnerabilityId"], entry["severityCounts"]["high"]) for entry in entries] == [
        ("CVE-1999-0001", 0),
        ("CVE-2024-0002", 2),
    ]
    with refused("InvalidParameterValueException"):
        api.client.list_image_scan_finding_aggregations(filter={"name": "severity", "values": ["HIGH"]})


def test_many_keys_come_in_pages(api: Api) -> None:
    """Thirty vulnerabilities come in two pages, each once."""
    image = create(api, api.recipe())
    api.inspections.put_findings(image, [finding(number) for number in range(30)])
    pages = list(
        api.client.get_paginator("list_image_scan_finding_aggregations").paginate(
            filter={"name": "vulnerabilityId"}
        )
    )
    found = [item["vulnerabilityIdAggregation"]["vulnerabilityId"] for page in pages for item in page["responses"]]
    assert found == [f"CVE-2024-{number:04}" for number in range(30)] and len(pages) == 2


def test_a_second_scan_replaces_and_deleting_the_image_forgets(api: Api, scanned: tuple[str, str]) -> None:
    """Findings are a snapshot of the last scan and go with the image's record."""
    first, _ = scanned
    api.inspections.put_findings(first, [finding(9)])
    wanted: Any = [{"name": "imageBuildVersionArn", "values": [first]}]
    assert ids(api.client.list_image_scan_findings(filters=wanted)) == ["CVE-2024-0009"]
    api.set_state(first, "AVAILABLE")
    api.client.delete_image(imageBuildVersionArn=first)
    assert api.client.list_image_scan_findings(filters=wanted)["findings"] == []


def test_scan_states_are_shown_and_an_end_abandons_only_what_still_ran(api: Api) -> None:
    """A finished scan keeps its state whatever becomes of the image; one that still ran is ABANDONED."""
    scanning: Any = {"imageScanningEnabled": True}
    done, running = (
        create(api, api.recipe(name=name), imageScanningConfiguration=scanning) for name in ("one", "two")
    )
    assert api.client.get_image(imageBuildVersionArn=done)["image"]["scanState"] == {"status": "PENDING"}
    api.inspections.set_scan_state(done, ScanStatus.FAILED, "no advisories")
    api.inspections.set_scan_state(running, ScanStatus.SCANNING)
    for arn in (done, running):
        api.set_state(arn, "FAILED")
    states = [api.client.get_image(imageBuildVersionArn=arn)["image"]["scanState"] for arn in (done, running)]
    assert states == [{"status": "FAILED", "reason": "no advisories"}, {"status": "ABANDONED"}]
