"""The golden documents that need a package manager, in a container of the managed Debian base."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesmith.components.services import Services
from imagesmith.instances.container import ContainerInstance
from testing.golden import ON_DEBIAN, check_golden


@pytest.mark.tool
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("case", ON_DEBIAN)
def test_golden_on_debian(case: str, launch: ContainerInstance, tmp_path: Path) -> None:
    """The container ends as the fixture says; the packages come from a repository that the document makes."""
    check_golden(case, launch, {}, Services(scratch=tmp_path))
