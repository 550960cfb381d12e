"""A scan that cannot be finished has failed, and says so in the image; of a real disk with a real feed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imagesmith.builds.failures import StepFailed
from imagesmith.builds.inspection import scan
from imagesmith.builds.steps.context import StepRun
from imagesmith.inspection.scanning.database import AdvisoryDatabase
from imagesmith.inspection.scanning.feeds import import_advisories
from imagesmith.inspection.signing import SigningKey
from imagesmith.recipes.plan import PlannedScan
from imagesmith.store import queries
from imagesmith.store.records import Record
from imagesmith.values.version import Version
from testing.disks import disk_of
from testing.inventories import write
from testing.plans import ACCOUNT, ARN, REGION
from testing.scan_samples import STATUS, TRACKER

pytestmark = pytest.mark.tool


@pytest.fixture
def digest(run: StepRun, tmp_path: Path) -> str:
    """A disk with known vulnerable packages, which the image in TESTING has, and advisories about them."""
    write(tmp_path / "root", {
        "etc/os-release": 'ID=debian\nNAME="Debian GNU/Linux"\nVERSION_ID=12\n', "var/lib/dpkg/status": STATUS,
        "etc/fstab": "LABEL=root / ext4 defaults 0 1\n", "usr/bin/true": "",
    })  # fmt: skip
    (tmp_path / "tracker.json").write_text(json.dumps(TRACKER))
    context = run.worker_context
    import_advisories(
        AdvisoryDatabase.of(context.settings), str(tmp_path / "tracker.json"), context.clock(), on_line=print
    )
    image = Record(
        arn=ARN, account=ACCOUNT, region=REGION, kind="image", slug="web", name="web", created=context.clock(),
        document={"arn": ARN, "state": {"status": "TESTING"}}, version=Version(1, 0, 0), build=3, status="TESTING",
    )  # fmt: skip
    with context.records.database.write(f"{ACCOUNT}/{REGION}") as tx:
        queries.insert(tx, image)
    return context.disks.take(disk_of(tmp_path / "root", tmp_path)).digest


def scan_state(run: StepRun) -> dict[str, str]:
    with run.worker_context.records.database.read() as tx:
        record = queries.get(tx, ARN)
    assert record is not None
    return dict(record.document["scanState"])


@pytest.mark.parametrize("damage", ["an empty key", "a broken key", "no place"])
def test_a_scan_that_cannot_be_signed_is_no_completed_one(run: StepRun, digest: str, damage: str) -> None:
    """Its state is FAILED with the reason: clients that wait for the end of COLLECTING would wait for ever."""
    key = run.worker_context.settings.data_dir / "signing" / "ed25519.pem"
    SigningKey.open(run.worker_context.settings.data_dir)
    assert len(scan(run, PlannedScan(""), digest).findings) == 2
    assert scan_state(run) == {"status": "COMPLETED"}
    if damage == "no place":
        key.unlink()
        key.parent.joinpath("ed25519.pub").unlink()
        key.parent.rmdir()
        key.parent.write_text("not a folder")
    else:
        key.write_text(
            "" if damage == "no key" else "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
        )
    with pytest.raises(StepFailed, match="the scan is FAILED: the vulnerabilities cannot be signed"):
        scan(run, PlannedScan(""), digest)
    state = scan_state(run)
    assert state["status"] == "FAILED" and "cannot be signed" in state["reason"]
