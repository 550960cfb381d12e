"""The text of Dockerfiles: what imagesmith builds is what Debian's buildah builds, or what Docker documents."""

from __future__ import annotations

import pytest

from testing.dockerfile_rows import OracleRow, oracle_rows
from testing.oracle_builds import DockerfileOracle

pytestmark = pytest.mark.tool


@pytest.mark.parametrize("row", oracle_rows("reading", "variables"), ids=str)
def test_verdict_config_and_files_are_those_of_docker(oracle: DockerfileOracle, row: OracleRow) -> None:
    """Lines, escapes, comments, JSON; ENV, ARG and LABEL, their scopes and modifiers."""
    assert oracle.faults(row) == [], row.why
