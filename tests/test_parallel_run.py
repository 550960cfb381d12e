"""Several pytest processes that share the files of a run (testing/parallel_run.py)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from testing.leaks import processes_with
from testing.pipeline_support import eventually

_PROGRAM = Path(__file__).parent / "testing" / "parallel_run.py"
# with the process: other runs of these tests may go on at the same time on this machine
_SERVER, _ORPHAN = f"sleep {1_000_000 + os.getpid()}", f"sleep {2_000_000 + os.getpid()}"
_CONFTEST = """\
import subprocess, pytest
from pathlib import Path

pytest_plugins = ["testing.file_queue"]
HERE = Path(__file__).parent

@pytest.fixture(scope="session")
def server():
    process = subprocess.Popen("SERVER".split())
    subprocess.run(["sh", "-c", "ORPHAN >/dev/null 2>&1 &"])
    yield
    process.kill()
    process.wait()
    (HERE / "ended").touch()

@pytest.fixture(autouse=True)
def note(request):
    with (HERE / "ran").open("a") as file:
        file.write(request.node.nodeid + "\\n")
"""


def started(folder: Path, files: dict[str, str]) -> subprocess.Popen[str]:
    """Two processes on a folder `tests` with these test files."""
    place = folder / "temporary"
    place.mkdir()
    folder /= "tests"
    folder.mkdir()
    (folder / "conftest.py").write_text(_CONFTEST.replace("SERVER", _SERVER).replace("ORPHAN", _ORPHAN))
    (folder / "pytest.ini").write_text("[pytest]\n")
    for name, text in files.items():
        (folder / name).write_text(text)
    return subprocess.Popen(
        [sys.executable, str(_PROGRAM), "--workers=2", "--", "-c", str(folder / "pytest.ini"), str(folder)],
        env={**os.environ, "PYTHONPATH": str(_PROGRAM.parents[1]), "TMPDIR": str(place)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ran(folder: Path) -> list[str]:
    """The tests that ran, without their folder."""
    return sorted(line.rpartition("/")[2] for line in (folder / "tests" / "ran").read_text().splitlines())


def left_behind(folder: Path) -> list[Path]:
    return list((folder / "temporary").iterdir())


def test_each_test_runs_once(tmp_path: Path) -> None:
    """No file is run by two processes, and none by nobody."""
    files = {f"test_{name}.py": "def test_one(): pass\ndef test_two(): pass\n" for name in "abcdefg"}
    run = started(tmp_path, files)
    output, _ = run.communicate()
    assert run.returncode == 0, output
    assert ran(tmp_path) == sorted(f"{file}::test_{name}" for file in files for name in ("one", "two"))
    assert left_behind(tmp_path) == []


def test_a_failure_is_shown_and_fails_the_run(tmp_path: Path) -> None:
    """The output holds the failing line, whatever the other process says, and the files after it run."""
    files = {f"test_{name}.py": "def test_one(): pass\n" for name in "abc"}
    run = started(tmp_path, {**files, "test_bad.py": "def test_bad():\n    assert 'apples' == 'pears'\n"})
    output, _ = run.communicate()
    assert run.returncode == 1, output
    assert "assert 'apples' == 'pears'" in output and "test_bad.py: 1 FAILED" in output
    assert len(ran(tmp_path)) == 4


def test_a_process_that_dies_fails_the_run(tmp_path: Path) -> None:
    """The file that it did not finish is named."""
    dies = "import os\ndef test_dies():\n    os.kill(os.getpid(), 9)\n"
    run = started(tmp_path, {"test_dies.py": dies, "test_other.py": "def test_one(): pass\n"})
    output, _ = run.communicate()
    assert run.returncode != 0, output
    assert "not finished" in output and "test_dies.py" in output


def test_a_file_that_cannot_be_imported_fails_the_run(tmp_path: Path) -> None:
    run = started(
        tmp_path, {"test_broken.py": "import no_such_module\n", "test_other.py": "def test_one(): pass\n"}
    )
    output, _ = run.communicate()
    assert run.returncode != 0, output
    assert "no_such_module" in output


def test_a_signal_ends_servers_of_fixtures_and_what_they_left(tmp_path: Path) -> None:
    """Fixtures are finished as after Ctrl-C, an orphan is killed, and the folder of the run is gone."""
    waits = "import time\ndef test_waits(server):\n    time.sleep(600)\n"
    run = started(tmp_path, {"test_waits.py": waits})
    eventually(lambda: processes_with(_SERVER) and processes_with(_ORPHAN), "the test waits", seconds=60)
    run.send_signal(signal.SIGTERM)
    output, _ = run.communicate()
    assert run.returncode == 130, output
    assert (tmp_path / "tests" / "ended").exists()
    assert processes_with(_SERVER, _ORPHAN) == []
    assert left_behind(tmp_path) == []


def test_the_death_of_the_parent_ends_its_processes(tmp_path: Path) -> None:
    """After kill -9 fixtures are finished too."""
    run = started(tmp_path, {"test_waits.py": "import time\ndef test_waits(server):\n    time.sleep(600)\n"})
    eventually(lambda: processes_with(_SERVER), "the test waits", seconds=60)
    run.kill()
    run.communicate()
    eventually(lambda: (tmp_path / "tests" / "ended").exists(), "the fixture ends its server", seconds=60)
    for found in processes_with(_ORPHAN):
        os.kill(int(found.partition(":")[0]), signal.SIGKILL)
