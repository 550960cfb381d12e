"""Every instruction, as far as one line of a Dockerfile shows it."""

from __future__ import annotations

import pytest

from testing.dockerfile_support import PARENT, DockerfileBench

pytestmark = pytest.mark.tool


def test_files_and_configuration_end_in_the_image(bench: DockerfileBench) -> None:
    """Files of RUN and the configuration of the other instructions are in the result, and nothing else is left."""
    image = bench.build(
        'ENV A="b c"\nWORKDIR /srv\nLABEL l=v\nENTRYPOINT ["/bin/cat"]\nRUN echo x >made\nUSER nobody'
    )
    config = bench.config(image)
    assert config["Env"] == ["TINY=yes", "A=b c"]
    assert (config["User"], config["WorkingDir"], config["Entrypoint"]) == ("nobody", "/srv", ["/bin/cat"])
    assert config["Labels"] == {"tiny": "1", "l": "v"} and "Cmd" not in config
    assert bench.read(image, "/srv/made") == "x\n"
    assert bench.left() == []


def test_stages_take_files_from_each_other(bench: DockerfileBench) -> None:
    """From an earlier and from a later stage; a stage that nothing needs is not built."""
    image = bench.make(
        f"FROM {PARENT} AS one\nRUN echo one >/one\nFROM {PARENT}\nRUN exit 1\nFROM {PARENT} AS last\n"
        f"COPY --from=one /one /two\nCOPY --from=three /three /\nRUN cat /two /three >/both\n"
        f"FROM scratch AS three\nCOPY <<EOF /three\nthree\nEOF\nFROM last\nENV L=1\n"
    ).whole()
    assert bench.read(image, "/both") == "one\nthree\n"
    assert bench.config(image)["Env"] == ["TINY=yes", "L=1"]
    assert bench.left() == []
