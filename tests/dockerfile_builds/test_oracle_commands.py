"""RUN: what imagesmith builds is what Debian's buildah builds, or what Docker documents."""

from __future__ import annotations

import pytest

from testing.dockerfile_rows import OracleRow, oracle_rows
from testing.oracle_builds import DockerfileOracle

pytestmark = pytest.mark.tool


@pytest.mark.parametrize("row", oracle_rows("commands"), ids=str)
def test_verdict_config_and_files_are_those_of_docker(oracle: DockerfileOracle, row: OracleRow) -> None:
    """What commands leave, here-documents, mounts, users."""
    assert oracle.faults(row) == [], row.why
