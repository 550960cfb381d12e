"""--chmod, against the program chmod."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagesmith.copying.program.failures import UserFailure
from imagesmith.copying.program.modes import ModeChange

_CLAUSES = st.builds(
    lambda who, sign, rights: f"{who}{sign}{rights}",
    st.sampled_from(["a", "u", "g", "o", "ug", "go", "uo"]),
    st.sampled_from("+-="),
    st.one_of(st.text(alphabet="rwxX", max_size=3), st.sampled_from(["u", "g", "o", "s", "t", "rs"])),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(clause=_CLAUSES, mode=st.integers(0, 0o7777), is_folder=st.booleans())
def test_a_symbolic_mode_is_that_of_chmod(tmp_path: Path, clause: str, mode: int, is_folder: bool) -> None:
    """One clause on any mode does what the program does."""
    place = tmp_path / ("folder" if is_folder else "file")
    place.mkdir(exist_ok=True) if is_folder else place.touch()
    place.chmod(mode)
    before = place.stat().st_mode
    subprocess.run(["chmod", clause, place], check=True)
    assert oct(ModeChange.parse(clause).apply(before)) == oct(stat.S_IMODE(place.stat().st_mode))


@pytest.mark.parametrize(
    ("text", "mode", "result"),
    [
        ("755", 0o100600, 0o755),
        ("0", 0o100600, 0),
        ("04755", 0o100600, 0o4755),
        ("7777", 0o40700, 0o7777),
        ("u=rwX,go=rX", 0o100644, 0o644),
        ("u=rwX,go=rX", 0o100744, 0o755),
        ("u=rwX,go=rX", 0o40700, 0o755),
        ("+x", 0o100644, 0o755),
        ("a+X", 0o100644, 0o644),
        ("u+x,g+X", 0o100644, 0o744),
        ("g=u", 0o100640, 0o660),
        ("u+rw,g+r,o-x,o+w", 0o40701, 0o742),
        ("=", 0o100777, 0),
    ],
)
def test_modes_are_read_as_docker_reads_them(text: str, mode: int, result: int) -> None:
    """`X` and copied rights look at the mode that the file had; without letters before the sign all are meant."""
    assert oct(ModeChange.parse(text).apply(mode)) == oct(result)


@pytest.mark.parametrize("text", ["64a", "10000", "8", "", "u", "u=q", "rwx", "u+x;", "0o755", "-1"])
def test_what_is_no_mode_is_refused(text: str) -> None:
    """With Docker's words and the other form."""
    with pytest.raises(UserFailure, match=r"invalid chmod parameter: .* between 0 and 07777, or symbolic"):
        ModeChange.parse(text)
