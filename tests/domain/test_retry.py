"""When another try is worth a GPU, and how long it waits."""

import ast
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import functions
from functions.domain.errors import Failure
from functions.domain.retry import CODES, DRAINED, Policy, kind

chances = st.floats(0, 1, exclude_max=True)
attempts = st.integers(1, 60)


@given(attempts)
def test_a_failure_that_would_happen_again_is_never_tried_again(attempt: int) -> None:
    assert not Policy(retries=1000).allows(Failure.PERMANENT, attempt=attempt)


@given(attempts, st.sampled_from(sorted(set(Failure) - {Failure.PERMANENT})))
def test_any_other_failure_is_tried_again_as_often_as_the_policy_says(attempt: int, kind: Failure) -> None:
    assert Policy(retries=3).allows(kind, attempt=attempt) == (attempt <= 3)
    assert not Policy(retries=0).allows(kind, attempt=attempt)


@given(attempts, chances)
def test_a_wait_lies_between_nothing_and_the_attempts_bound(attempt: int, chance: float) -> None:
    policy = Policy(base_s=10, factor=2, cap_s=300)
    assert 0 <= policy.backoff_s(attempt=attempt, chance=chance) <= min(300, 10 * 2 ** (attempt - 1))


def test_the_bound_doubles_with_each_attempt_up_to_the_cap() -> None:
    policy = Policy(base_s=10, factor=2, cap_s=100)
    assert [policy.backoff_s(attempt=n, chance=1) for n in range(1, 7)] == [10, 20, 40, 80, 100, 100]


@given(attempts, chances, chances)
def test_jobs_that_failed_together_come_back_apart(attempt: int, one: float, other: float) -> None:
    policy = Policy()
    waits = [policy.backoff_s(attempt=attempt, chance=chance) for chance in (one, other)]
    assert waits == sorted(waits) if one <= other else waits == sorted(waits, reverse=True)
    assert policy.backoff_s(attempt=attempt, chance=0) == 0


# --- the class of every code ---


def raised() -> dict[str, set[str]]:
    """Every code that the source gives a failed render, and the kinds it gives it."""
    found: dict[str, set[str]] = {}
    for path in Path(functions.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("RenderFailed"):
                named = {word.arg: word.value for word in node.keywords}
                kind, code = [*node.args[:2], named.get("kind"), named.get("code")][:2]
                if isinstance(kind, ast.Attribute) and isinstance(code, ast.Constant):
                    found.setdefault(code.value, set()).add(kind.attr)
    return found


def test_every_code_that_is_raised_is_in_the_table_with_its_class() -> None:
    told = raised()
    assert len(told) > 12
    for code, kinds in told.items():
        assert {CODES[code].name} == kinds, code


def test_a_refusal_on_the_way_to_the_render_is_permanent() -> None:
    assert kind("unknown_model") is Failure.PERMANENT
    assert kind("out_of_memory") is Failure.OUT_OF_MEMORY


def test_a_drain_is_no_failure() -> None:
    assert DRAINED not in CODES
