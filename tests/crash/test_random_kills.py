"""Builds outlast a server that is killed at any moment; `python -m testing.random_kills 60` does it for longer."""

from __future__ import annotations

import random

import pytest

from testing.crash_support import Tally
from testing.pipeline_support import RunningServer
from testing.random_kills import kill_at_random

pytestmark = pytest.mark.tool

_KILLS = 6


def test_builds_outlast_kills_at_random_moments(server: RunningServer, tally: Tally) -> None:
    """Every image is whole and AVAILABLE once; no process, mount, folder or control group is left."""
    builds = kill_at_random(server, _KILLS, rng=random.Random())
    tally(len(builds), f"outlasted {_KILLS} kills at random moments")
