"""Every fault of the cron and rate grammars has its text and its position."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.values.schedule import ScheduleError, parse_schedule

BOTH = "Support for specifying both a day-of-week AND a day-of-month parameter is not implemented"
MARK = "'?' can only be specified for Day-of-Month or Day-of-Week"
NTH = "A numeric value between 1 and 5 must follow the '#' option"
END = "Unexpected end of expression"
LONG = "Unexpected character after end of expression"

FAULTS = [
    ("", 0, END),
    ("0 0 * * *", 9, END),
    ("0 10 * * ?", 10, END),
    ("0 0 * * SUN", 11, END),
    ("0 0 * * ? ", 10, END),
    ("0 0 * * ? * *", 12, LONG),
    ("0 0 * * ? * 2026 x", 12, LONG),
    ("0 0 * * ? * ", 11, LONG),
    ("0 0 * * ? *  2026", 11, LONG),
    ("0 0 * * * *", 0, BOTH),
    ("0 0 ? * ? *", 0, BOTH),
    ("0 0 * * SUN *", 0, BOTH),
    ("0 0 1 * 2 *", 0, BOTH),
    ("? 0 * * ? *", 0, MARK),
    ("0 ? * * ? *", 2, MARK),
    ("0 0 * ? ? *", 6, MARK),
    ("0 0 * * ? ?", 10, MARK),
    ("0,? 0 * * ? *", 2, MARK),
    ("5? 0 * * ? *", 1, MARK),
    ("60 0 * * ? *", 0, "Minute values must be between 0 and 59"),
    ("5,10-61 0 * * ? *", 5, "Minute values must be between 0 and 59"),
    ("0 24 * * ? *", 2, "Hour values must be between 0 and 23"),
    ("0 0 32 * ? *", 4, "Day of month values must be between 1 and 31"),
    ("0 0 0 * ? *", 4, "Day of month values must be between 1 and 31"),
    ("0 0 0W * ? *", 4, "Day of month values must be between 1 and 31"),
    ("0 0 * 13 ? *", 6, "Month values must be between 1 and 12"),
    ("0 0 ? * 8 *", 8, "Day-of-Week values must be between 1 and 7"),
    ("0 0 ? * 0 *", 8, "Day-of-Week values must be between 1 and 7"),
    ("0 0 * * ? 1969", 10, "Year values must be between 1970 and 2199"),
    ("0 0 * * ? 2026,2200", 15, "Year values must be between 1970 and 2199"),
    ("99999999999999999999999999 0 * * ? *", 0, "Minute values must be between 0 and 59"),
    ("0 0 * xyz ? *", 6, "Invalid Month value: 'xyz'"),
    ("0 0 * jan-january ? *", 10, "Invalid Month value: 'january'"),
    ("0 0 ? * xyz *", 8, "Invalid Day-of-Week value: 'xyz'"),
    ("0 0 ? * xyzL *", 8, "Invalid Day-of-Week value: 'xyz'"),
    ("0 0 ? * mon,monday *", 12, "Invalid Day-of-Week value: 'monday'"),
    ("*/0 0 * * ? *", 2, "Increment must be between 1 and 60: 0"),
    ("*/61 0 * * ? *", 2, "Increment must be between 1 and 60: 61"),
    ("0 1-5/25 * * ? *", 6, "Increment must be between 1 and 24: 25"),
    ("0 0 1/32 * ? *", 6, "Increment must be between 1 and 31: 32"),
    ("0 0 * jan/13 ? *", 10, "Increment must be between 1 and 12: 13"),
    ("0 0 ? * */8 *", 10, "Increment must be between 1 and 7: 8"),
    ("0 0 * * ? */231", 12, "Increment must be between 1 and 230: 231"),
    ("0 0 ? * tue#6 *", 11, NTH),
    ("0 0 ? * tue#0 *", 11, NTH),
    ("0 0 ? * 3# *", 9, NTH),
    ("0 0 ? * 3#mon *", 9, NTH),
    ("L 0 * * ? *", 0, "'L' option is not valid here"),
    ("0 5L * * ? *", 3, "'L' option is not valid here"),
    ("0 0 1,L * ? *", 6, "'L' option is not valid here"),
    ("0 0 L,1 * ? *", 4, "'L' option is not valid here"),
    ("0 0 L-3,5 * ? *", 4, "'L' option is not valid here"),
    ("0 0 5L * ? *", 5, "'L' option is not valid here"),
    ("0 0 * L ? *", 6, "'L' option is not valid here"),
    ("0 0 ? * 6L,2 *", 9, "'L' option is not valid here"),
    ("0 0 ? * 2,friL *", 13, "'L' option is not valid here"),
    ("0 0 ? * mon-friL *", 15, "'L' option is not valid here"),
    ("0 0 * * ? L", 10, "'L' option is not valid here"),
    ("w 0 * * ? *", 0, "'W' option is not valid here"),
    ("0 0 W * ? *", 4, "'W' option is not valid here"),
    ("0 0 15W,3 * ? *", 6, "'W' option is not valid here"),
    ("0 0 3,15W * ? *", 8, "'W' option is not valid here"),
    ("0 0 1-5W * ? *", 7, "'W' option is not valid here"),
    ("0 0 L-3W * ? *", 7, "'W' option is not valid here"),
    ("0 0 ? * 2W *", 9, "'W' option is not valid here"),
    ("0 0 ? * W *", 8, "'W' option is not valid here"),
    ("0 0 L-31 * ? *", 6, "Offset from last day must be <= 30"),
    ("0 0 20-10 * ? *", 4, "Invalid range: 20-10"),
    ("0 0 * * ? 2030-2027", 10, "Invalid range: 2030-2027"),
    (" 0 0 * * ? *", 0, "Unexpected character:  "),
    ("0 0  * * ? *", 4, "Unexpected character:  "),
    ("0\t0 * * ? *", 1, "Unexpected character: \t"),
    ("0 0 * * ? *)", 11, "Unexpected character: )"),
    ("x 0 * * ? *", 0, "Unexpected character: x"),
    ("-5 0 * * ? *", 0, "Unexpected character: -"),
    ("5- 0 * * ? *", 2, "Unexpected character:  "),
    ("/5 0 * * ? *", 0, "Unexpected character: /"),
    ("5,,6 0 * * ? *", 2, "Unexpected character: ,"),
    ("*,5 0 * * ? *", 1, "Unexpected character: ,"),
    ("5,* 0 * * ? *", 2, "Unexpected character: *"),
    ("5#2 0 * * ? *", 1, "Unexpected character: #"),
    ("0 0 ? * 2#1,3#1 *", 11, "Unexpected character: ,"),
    ("0 0 ? * L-3 *", 8, "'L' option is not valid here"),
    ("0 0 1,? * ? *", 6, "Unexpected character: ?"),
    ("٣ 0 * * ? *", 0, "Unexpected character: ٣"),
    ("0 0 * * ? 20-", 10, "Year values must be between 1970 and 2199"),
    ("0 0 * * ? 2020-", 15, END),
    ("0 0 * * ? 2020/", 15, END),
]


@pytest.mark.parametrize(("inner", "position", "text"), FAULTS)
def test_a_fault_is_told_with_its_place(inner: str, position: int, text: str) -> None:
    """The error carries the text of the table, the position inside the parentheses, and the API's sentence."""
    with pytest.raises(ScheduleError) as caught:
        parse_schedule(f"cron({inner})")
    assert (caught.value.text, caught.value.position) == (text, position)
    assert caught.value.column == position + len("cron(")
    assert caught.value.detail == (
        "Invalid schedule expression. Details: Invalid CRON expression: "
        f"error at position {position}, details: {text}."
    )


@pytest.mark.parametrize("expression", ["0 0 * * ? *", "", "cron", "CRON(0 0 * * ? *)", "at(2026)", "cron(0 0 * *"])
def test_what_is_neither_cron_nor_rate_is_told_so(expression: str) -> None:
    """Another word, upper case, or a missing parenthesis has one text and no position."""
    with pytest.raises(ScheduleError) as caught:
        parse_schedule(expression)
    assert caught.value.position is None
    assert caught.value.detail == (
        "Invalid schedule expression. Details: The expression must be a cron or rate expression."
    )


@pytest.mark.parametrize(
    ("inner", "column", "text"),
    [
        ("1 hours", 7, "The unit must be 'hour' when the value is 1"),
        ("5 hour", 7, "The unit must be 'hours' when the value is 5"),
        ("0 days", 5, "The rate must be at least 1"),
        ("1 week", 7, "The unit must be minute, minutes, hour, hours, day or days"),
        ("1.5 hours", 5, "The rate must start with a whole number of at most 18 digits"),
        ("5  hours", 7, "The unit must be minute, minutes, hour, hours, day or days"),
        ("5 Hours", 7, "The unit must be minute, minutes, hour, hours, day or days"),
        (" 5 hours", 5, "The rate must start with a whole number of at most 18 digits"),
        ("-5 hours", 5, "The rate must start with a whole number of at most 18 digits"),
        ("5", 6, "The unit must be minute, minutes, hour, hours, day or days"),
        ("", 5, "The rate must start with a whole number of at most 18 digits"),
        ("9" * 5000 + " days", 5, "The rate must start with a whole number of at most 18 digits"),
    ],
)
def test_a_bad_rate_is_told(inner: str, column: int, text: str) -> None:
    """A rate error has no position in its sentence, but knows the column for a caret."""
    with pytest.raises(ScheduleError) as caught:
        parse_schedule(f"rate({inner})")
    assert (caught.value.position, caught.value.column, caught.value.text) == (None, column, text)
    assert caught.value.detail == f"Invalid schedule expression. Details: Invalid RATE expression: {text}."


@given(st.text(alphabet="0123456789 *?,-/LW#sunmofri", max_size=30) | st.text(max_size=30))
def test_any_text_is_read_or_refused(inner: str) -> None:
    """No text does anything but parse or raise ScheduleError with a position inside it."""
    for lenient in (False, True):
        try:
            parse_schedule(f"cron({inner})", lenient=lenient)
        except ScheduleError as error:
            assert error.position is not None and 0 <= error.position <= len(inner)


@pytest.mark.parametrize(
    ("lenient", "strict"),
    [
        ("cron(0 0 * * SUN *)", "cron(0 0 ? * SUN *)"),
        ("cron(0 0 * * SUN)", "cron(0 0 ? * SUN *)"),
        ("cron(0 0 15 * *)", "cron(0 0 15 * ? *)"),
        ("cron(0 0 15 * * 2030)", "cron(0 0 15 * ? 2030)"),
        ("cron(0 0 * * *)", "cron(0 0 * * ? *)"),
        ("cron(0 0 * * * *)", "cron(0 0 * * ? *)"),
        ("cron(0 10 * * ?)", "cron(0 10 * * ? *)"),
        ("cron(0 10 L * ? 2027)", "cron(0 10 L * ? 2027)"),
    ],
)
def test_the_lenient_switch_reads_old_examples(lenient: str, strict: str) -> None:
    """With the switch, five fields mean every year and a star in one day field gives way to the other."""
    read, meant = parse_schedule(lenient, lenient=True), parse_schedule(strict)
    assert (read.explain(), read.expression) == (meant.explain(), lenient)


@pytest.mark.parametrize(
    ("inner", "position", "text"),
    [("0 0 1 * mon *", 0, BOTH), ("0 0 ? * ?", 0, BOTH), ("0 0 * *", 7, END), ("0 0 * * * * *", 12, LONG),
     ("0 0 * * SUN ", 12, END)],
)  # fmt: skip
def test_the_lenient_switch_excuses_nothing_else(inner: str, position: int, text: str) -> None:
    """Two specific day fields, two question marks, four or seven fields stay errors."""
    with pytest.raises(ScheduleError) as caught:
        parse_schedule(f"cron({inner})", lenient=True)
    assert (caught.value.position, caught.value.text) == (position, text)
