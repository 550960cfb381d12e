"""ONBUILD triggers of images become instructions of the Dockerfile, or are refused by name."""

from __future__ import annotations

import pytest

from imagesmith.dockerfiles.parser import parse_dockerfile
from imagesmith.dockerfiles.triggers import TriggerError, parse_trigger, with_triggers

PARENT = "{{{ imagebuilder:parentImage }}}"


def test_triggers_follow_their_from_in_their_order() -> None:
    """Those of each FROM, which is told by its number; the numbers of the triggers are known."""
    text = f"ARG A=1\nFROM {PARENT} AS one\nRUN mine\nFROM docker.io/library/x\nFROM {PARENT}\nRUN last\n"
    added = [parse_trigger("RUN a"), parse_trigger("ENV B=c")]
    found, triggers = with_triggers(parse_dockerfile(text), lambda index: [] if index == 3 else added)
    lines = [item.source.text for item in found.instructions]
    assert lines == [
        "ARG A=1", f"FROM {PARENT} AS one", "RUN a", "ENV B=c", "RUN mine", "FROM docker.io/library/x",
        f"FROM {PARENT}", "RUN a", "ENV B=c", "RUN last",
    ]  # fmt: skip
    assert triggers == {2, 3, 7, 8}


def test_a_trigger_is_one_line() -> None:
    """Docker keeps continued lines joined; several lines would be read by rules that differ between builders."""
    assert parse_trigger("RUN a   && b\n").source.text == "RUN a   && b"
    with pytest.raises(TriggerError, match="it has several lines"):
        parse_trigger("RUN a \\\n  && b")


def test_a_carriage_return_alone_ends_no_trigger() -> None:
    """It is a part of the command, for Docker and for the builder."""
    assert parse_trigger("RUN a\rRUN b").source.text == "RUN a\rRUN b"


@pytest.mark.parametrize(
    ("trigger", "reason"),
    [
        ("RUN a\nCOPY --from=abc /x /y", "2 instructions"),
        ("RUN a\r\nRUN b", "2 instructions"),
        ("", "0 instructions"),
        ("# nothing", "0 instructions"),
        ("ONBUILD RUN a", "ONBUILD cannot be a trigger"),
        ("onbuild RUN a", "ONBUILD cannot be a trigger"),
        ("FROM x", "FROM cannot be a trigger"),
        ("MAINTAINER x", "MAINTAINER cannot be a trigger"),
        ("RUN a \\", "not a whole instruction"),
        ("RUN a \\\n", "not a whole instruction"),
        ("# escape=`\nRUN a `", "not a whole instruction"),
        ("{{{ imagebuilder:components }}}", "not a whole instruction"),
        ("COPY --from={{{ imagebuilder:parentImage }}} /a /b", "not a whole instruction"),
        ("RUN <<EOF", "here-documents"),
        ("{'a'}", "is not an instruction"),
    ],
)
def test_what_is_no_trigger_is_refused_by_name(trigger: str, reason: str) -> None:
    """It would be another instruction where it is written, or end up in the next one."""
    with pytest.raises(TriggerError, match=reason):
        parse_trigger(trigger)
