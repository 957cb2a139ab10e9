"""A list of corrections is read whole or not at all, and each of its lines is one grant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.domain.adjustment import MOST_LINES, Line, Outcome, checked, read, rehearse
from functions.domain.errors import Rejected

FILE = b"user_id,credits,reason\nann,25,\nbob,-10,a slip\n"


def test_a_file_is_lines_with_a_reason_each() -> None:
    first, second = read(FILE, reason="the March contest").lines
    assert (first.number, first.account, first.amount, first.reason) == (1, "user:ann", 25, "the March contest")
    assert (second.number, second.account, second.amount, second.reason) == (2, "user:bob", -10, "a slip")


@pytest.mark.parametrize(
    "data",
    [b"user_id,credits\r\nann,25\r\n", b"\xef\xbb\xbfuser_id,credits\nann,25", b"credits,user_id\n+25,ann\n"],
)
def test_what_spreadsheets_write_is_read(data: bytes) -> None:
    [line] = read(data, reason="r").lines
    assert (line.account, line.amount) == ("user:ann", 25)


def test_the_same_file_is_the_same_list_and_another_is_another() -> None:
    again, other = read(FILE, reason="r"), read(FILE + b"eve,1,\n", reason="r")
    ids = {again.id(line) for line in again.lines}
    assert ids == {read(FILE, reason="other words").id(line) for line in again.lines}
    assert not ids & {other.id(line) for line in other.lines}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b",5", "line 2: user_id must be"),
        (b" ann,5", "line 2: user_id must be"),
        (b"eve,0", "line 2: credits must be"),
        (b"eve,1.5", "line 2: credits must be"),
        (b"eve,", "line 2: credits must be"),
        (b"eve,-+5", "line 2: credits must be"),
        (b"eve,1000000001", "line 2: credits must be"),
        (b"eve,5,because,of", "line 2: it has more cells"),
        (b"eve,5," + b"x" * 501, "line 2: reason may have"),
    ],
)
def test_a_line_that_is_wrong_is_named_and_then_none_counts(line: bytes, said: str) -> None:
    with pytest.raises(Rejected, match=said):
        read(b"user_id,credits,reason\nann,25,\n" + line + b"\n", reason="r")


@pytest.mark.parametrize(
    "data", [b"", b"ann,25\n", b"user_id,credits,colour\na,1,red\n", b"user_id,credits\n", b"\xff\xfe"]
)
def test_what_is_no_such_file_is_refused_as_a_whole(data: bytes) -> None:
    with pytest.raises(Rejected) as no:
        read(data, reason="r")
    assert no.value.code == "list_invalid"


def test_a_list_is_bounded() -> None:
    with pytest.raises(Rejected, match="1 to 10000 lines"):
        checked([{"user_id": "a", "credits": "1"}] * (MOST_LINES + 1), reason="r", digest="d")


def lines(*amounts: int) -> list[Line]:
    return [Line(number=n, account="user:ann", amount=a, reason="r") for n, a in enumerate(amounts, start=1)]


def test_a_rehearsal_takes_lines_one_after_the_other() -> None:
    said = rehearse(lines(-5, 10, -5, 900, 7), balances={}, known=frozenset({5}), second=frozenset({4}))
    outcomes = [Outcome.SHORT, Outcome.APPROVED, Outcome.APPROVED, Outcome.PENDING, Outcome.KNOWN]
    assert [one.outcome for one in said] == outcomes
    assert said[0].detail == "it holds 0"


@given(st.lists(st.integers(-20, 20).filter(bool), max_size=20), st.integers(0, 30))
def test_no_rehearsal_takes_an_account_below_zero(amounts: list[int], held: int) -> None:
    for one in rehearse(lines(*amounts), balances={"user:ann": held}, known=frozenset(), second=frozenset()):
        held += one.line.amount if one.outcome is Outcome.APPROVED else 0
        assert held >= 0
