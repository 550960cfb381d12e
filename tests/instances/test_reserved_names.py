"""Files named `.wh.*`: a layer would take them for the removal of another file, so they are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.dockerfile_builds.failures import DockerfileFailed
from imagesmith.dockerfiles.template import check_template
from imagesmith.instances.command import Command
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.protocol import InstanceError
from imagesmith.instances.reserved_names import reserved_names
from testing.containers import Launch
from testing.dockerfile_support import PARENT, DockerfileBench

pytestmark = pytest.mark.tool

NAMES = ["/.wh.etc", "/srv/.wh.file", "/srv/.wh..wh..opq"]


@pytest.mark.parametrize("name", NAMES)
def test_an_instance_with_such_a_file_is_not_committed(instance: ContainerInstance, name: str) -> None:
    """The file is named; once it is gone the commit goes through, and a file that was removed is no such file."""
    instance.run(Command(["sh", "-c", f"mkdir -p /srv; echo x > {name}; rm /etc/os-release"]))
    with pytest.raises(InstanceError, match=r"cannot carry files named `\.wh\.\*`.*" + name.replace(".", r"\.")):
        instance.commit()
    instance.run(Command(["rm", name]))
    assert instance.commit()


def test_a_folder_of_such_a_name_is_refused(launch: Launch) -> None:
    """It is no better than a file."""
    instance = launch(name="reserved-folder")
    instance.run(Command(["mkdir", "-p", "/a/b/.wh.c"]))
    with pytest.raises(InstanceError, match=r"/a/b/\.wh\.c"):
        instance.commit()


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_leaves_such_a_file_fails(
    container_storage: ContainerStorage, tiny_image: str, name: str
) -> None:
    """Unless a later one removes it."""
    build = DockerfileBench(container_storage, tiny_image, "reserved").build
    with pytest.raises(DockerfileFailed, match=r"cannot carry files named.*" + name.replace(".", r"\.")):
        build(f"RUN mkdir -p /srv; echo x > {name}\nENV A=b\n")
    assert build(f"RUN mkdir -p /srv; echo x > {name}\nRUN rm {name} /etc/os-release\n")


def test_such_a_file_of_an_earlier_stage_is_refused(container_storage: ContainerStorage, tiny_image: str) -> None:
    """A COPY of the folder around it takes it along, whether or not a RUN follows, or comes before."""
    for lines in ("COPY --from=one /k /d\n", "RUN true\nCOPY --from=one /k /d\n"):
        text = f"FROM {PARENT} AS one\nRUN mkdir /k; touch /k/.wh.x\nFROM {PARENT}\n{lines}"
        with pytest.raises(DockerfileFailed, match=r"cannot carry files named.*/k/\.wh\.x"):
            DockerfileBench(container_storage, tiny_image, "reserved").make(text).whole()


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("COPY --from=r.io/x:1 /a /.wh.b", True),
        ('ADD ["http://h/x", "/srv/.wh.x"]', True),
        ("ADD http://h/.wh.x /srv/", True),
        ("COPY a /x.wh.b", False),
        ("RUN rm /srv/.wh.x", False),
        ("WORKDIR /srv/.wh.x", True),
        ("ARG W=.wh.x\nCOPY --from=r.io/x:1 /a /b/$W", True),
        ("ENV W .wh\nWORKDIR /b/${W}.x", True),
        ("ENV W=.wh.x\nCOPY --from=r.io/x:1 /a /b", False),
        ("ARG W=x.y\nCOPY --from=r.io/x:1 /a /b/$W", False),
    ],
)
def test_a_template_that_copies_to_such_a_name_is_refused(line: str, refused: bool) -> None:
    """With the line, when the recipe is made."""
    text = f"FROM {{{{{{ imagebuilder:parentImage }}}}}}\n{line}\n"
    assert ("reserved-name" in [problem.code for problem in check_template(text, has_components=False)]) == refused


def test_without_an_overlay_the_whole_root_is_looked_at(tmp_path: Path) -> None:
    """And at most five files are named."""
    for number in range(9):
        (tmp_path / f".wh.{number}").touch()
    assert len(reserved_names(tmp_path)) == 5
