"""ONBUILD triggers of a parent become lines of the template, or are refused by name."""

from __future__ import annotations

import pytest

from imagesmith.dockerfiles.template import check_template, split_template
from imagesmith.dockerfiles.triggers import TriggerError, parse_trigger, with_triggers

PARENT = "{{{ imagebuilder:parentImage }}}"
TEMPLATE = f"FROM {PARENT}\n{{{{{{ imagebuilder:environments }}}}}}\n{{{{{{ imagebuilder:components }}}}}}\nCMD x\n"


def test_triggers_follow_every_from_of_the_parent_in_their_order() -> None:
    """Every stage on the parent runs them first, other stages do not."""
    template = f"ARG A=1\nFROM {PARENT} AS one\nRUN mine\nFROM docker.io/library/x\nFROM {PARENT}\nRUN last\n"
    assert with_triggers(template, ["RUN a", "ENV B=c"]) == (
        f"ARG A=1\nFROM {PARENT} AS one\nRUN a\nENV B=c\nRUN mine\nFROM docker.io/library/x\n"
        f"FROM {PARENT}\nRUN a\nENV B=c\nRUN last\n"
    )


def test_a_template_without_lines_of_its_own_runs_them_before_the_components() -> None:
    """They are in the part before the components once, and not in the part after; an ARG of theirs is in both."""
    parts = split_template(with_triggers(TEMPLATE, ["ARG V=1", "RUN a"]))
    assert parts.before == f"FROM {PARENT}\nARG V=1\nRUN a\n"
    assert parts.after == "FROM imagesmith-components-base\nARG V=1\nCMD x\n"


def test_without_triggers_a_template_stays_as_it_is() -> None:
    """Not even comments go."""
    text = f"# syntax=x\n{TEMPLATE}"
    assert with_triggers(text, []) is text


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
        with_triggers(TEMPLATE, ["RUN fine", trigger])


@pytest.mark.parametrize(
    "trigger",
    [
        f"COPY --from={'a' * 64} /x /y",
        "COPY --from=abc /x /y",
        "COPY --from='abc' /x /y",
        "RUN --mount=type=bind,from=abc,target=/m cat /m/x",
        "COPY --from=oci:/etc /x /y",
        "COPY --from=$X /x /y",
        "COPY --from=9 /x /y",
    ],
)
def test_triggers_name_no_image_that_a_template_may_not_name(trigger: str) -> None:
    """Ids, beginnings of ids and local stores are refused; that a whole id is the parent's is not for a trigger."""
    with pytest.raises(TriggerError, match="cannot be named here"):
        with_triggers(TEMPLATE, [trigger])


def test_a_trigger_may_name_an_image_of_a_registry_and_a_stage() -> None:
    """As a template may."""
    text = with_triggers(
        f"FROM x AS tools\nFROM {PARENT}\n", ["COPY --from=tools /a /b", "COPY --from=r.io/x:1 /a /"]
    )
    assert text.endswith("COPY --from=tools /a /b\nCOPY --from=r.io/x:1 /a /\n")


def test_a_problem_of_the_template_itself_is_not_blamed_on_a_trigger() -> None:
    """A recipe that an older version stored may have a line that is refused today; its own check names that."""
    template = f"{TEMPLATE}RUN --mount=type=ssh true\n"
    assert check_template(template, has_components=True)
    assert "RUN fine" in with_triggers(template, ["RUN fine"])
