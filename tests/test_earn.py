"""What users earn: signed achievements once each, and free credits at a period's first touch."""

import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import pytest
from live import Stack, eventually
from sqlalchemy import create_engine, text

from functions.adapters import dead_letters, earnings, postgres, shapes, statements
from functions.adapters.dead_letters import Wanted
from functions.config import config
from functions.domain.errors import Rejected
from functions.domain.event import Actor, CreditsEarned, GrantApproved, JobRequested
from functions.domain.request import Achievement, JobRequest
from functions.domain.statement import Line
from functions.domain.transfer import account
from functions.earn import earn
from functions.submit import submit

Setting = Callable[..., None]


@pytest.fixture
def setting(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setting]:
    """Change settings of this process for one test."""

    def change(**settings: object) -> None:
        for name, value in settings.items():
            monkeypatch.setenv(name, str(value))
        config.cache_clear()

    yield change
    monkeypatch.undo()
    config.cache_clear()


@pytest.fixture
def ann(stack: Stack) -> str:
    """A user nobody has heard of."""
    return f"ann-{uuid.uuid4().hex[:8]}"


def lines(user: str) -> list[Line]:
    with postgres.transaction() as tx:
        return statements.page(tx, account(user))


def earned(user: str, name: str, credits: int) -> CreditsEarned:
    asked = Achievement(achievement=name, credits=credits)
    return CreditsEarned.of(job_id=user, actor=Actor(user_id=user, role="CURATOR"), asked=asked)


def hear(user: str, name: str, credits: int) -> bool:
    """Let earn hear of an achievement; gives whether it paid."""
    with postgres.transaction() as tx:
        return earn(tx, earned(user, name, credits)) is not None


# --- achievements ---


def test_an_achievement_is_paid_once_however_often_it_is_told(stack: Stack, ann: str) -> None:
    core_api = stack.speaking_for(ann)
    for _ in range(3):  # each time a new event with a new signature
        core_api.emit("credits.earned", subject=ann, data={"achievement": "curated-100", "credits": 20})
    core_api.emit("credits.earned", subject="whatever", data={"achievement": "curated-200", "credits": 5})
    eventually(lambda: stack.balance(ann) == 25)
    assert sorted(line.about for line in lines(ann)) == ["earned: curated-100", "earned: curated-200"]


def test_many_functions_that_hear_of_it_at_once_pay_once(ann: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(lambda _: hear(ann, "a", 10), range(6))) == 1
    assert [line.change for line in lines(ann)] == [10]


@pytest.mark.parametrize("authtoken", [None, "nobody's"])
def test_an_achievement_that_nobody_signed_for_pays_nothing(stack: Stack, ann: str, authtoken: str | None) -> None:
    core_api = stack.speaking_for(ann)
    token = authtoken or core_api.token  # a bearer token signs for no event
    id = uuid.uuid4().hex
    data = {"achievement": "a", "credits": 5}
    core_api.emit("credits.earned", subject=ann, data=data, id=id, authtoken=token)

    def letters() -> list[dead_letters.Kept]:
        with postgres.transaction() as tx:
            return [one for one in dead_letters.find(tx, Wanted(type="credits.earned"), limit=100) if one.id == id]

    assert eventually(letters)[0].error_code == "422"
    assert stack.balance(ann) == 0


def test_one_achievement_may_pay_so_much_and_all_of_a_day_so_much(setting: Setting, ann: str) -> None:
    setting(ACHIEVEMENT_CREDITS=30, ACHIEVEMENT_DAY_CREDITS=50)
    with pytest.raises(Rejected, match="30 credits at the most"):
        hear(ann, "too much", 31)
    assert hear(ann, "first", 30)
    assert hear(ann, "second", 20)
    with pytest.raises(Rejected, match="50 credits a day"):
        hear(ann, "third", 1)
    assert not hear(ann, "first", 30), "told again, it is no news and no error"
    assert [line.balance for line in lines(ann)] == [50, 30]


def test_the_days_bound_holds_for_achievements_at_the_same_time(setting: Setting, ann: str) -> None:
    setting(ACHIEVEMENT_DAY_CREDITS=25)

    def try_it(n: int) -> bool:
        try:
            return hear(ann, f"a-{n}", 10)
        except Rejected as no:
            assert no.code == "achievements_of_the_day"
            return False

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(try_it, range(6))) == 2


def test_the_ledgers_own_bound_holds_whatever_is_set(setting: Setting, ann: str) -> None:
    setting(ACHIEVEMENT_CREDITS=100_000, ACHIEVEMENT_DAY_CREDITS=100_000)
    with pytest.raises(Rejected, match="100 credits at the most"):
        hear(ann, "a", 101)


def test_achievements_can_be_switched_off(setting: Setting, ann: str) -> None:
    setting(ACHIEVEMENT_CREDITS=0)
    with pytest.raises(Rejected) as no:
        hear(ann, "a", 1)
    assert no.value.code == "achievements_off"


def test_news_of_a_grant_that_is_not_there_is_refused(stack: Stack) -> None:
    with pytest.raises(Rejected) as no, postgres.transaction() as tx:
        earn(tx, GrantApproved(job_id="", grant_id="nowhere"))
    assert no.value.code == "unknown_grant"


# --- free credits ---


def touch(user: str) -> int:
    with postgres.transaction() as tx:
        return earnings.touch(tx, user)


def last_refresh(stack: Stack, user: str, day: date) -> None:
    """Let the user's last refresh have been on this day."""
    superuser = create_engine(str(stack.house.admin_database_url))
    with superuser.begin() as tx:
        at = text("UPDATE generator_credit_account SET refreshed_on = :day WHERE id = :id")
        assert tx.execute(at, {"day": day, "id": account(user)}).rowcount == 1
    superuser.dispose()


def today() -> date:
    return datetime.now(UTC).date()


def test_nothing_comes_back_unless_it_is_set(setting: Setting, ann: str) -> None:
    assert touch(ann) == 0
    assert lines(ann) == []


def test_a_days_first_touch_lifts_the_balance_and_the_next_does_nothing(setting: Setting, ann: str) -> None:
    setting(REFRESH_CREDITS=50)
    assert [touch(ann), touch(ann)] == [50, 0]
    [line] = lines(ann)
    assert (line.about, line.balance) == (f"free credits of {today()}", 50)


def test_two_first_touches_of_one_day_at_once_refresh_once(setting: Setting, ann: str) -> None:
    setting(REFRESH_CREDITS=50)
    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(lambda _: touch(ann), range(6))) == [0, 0, 0, 0, 0, 50]


@pytest.mark.parametrize(("held", "given"), [(20, 30), (50, 0), (80, 0)])
def test_a_refresh_gives_what_is_missing(stack: Stack, setting: Setting, ann: str, held: int, given: int) -> None:
    stack.grant(ann, held)
    setting(REFRESH_CREDITS=50)
    assert touch(ann) == given
    assert touch(ann) == 0


def test_what_was_enough_in_the_morning_is_not_filled_up_at_noon(stack: Stack, setting: Setting, ann: str) -> None:
    stack.grant(ann, 50)
    setting(REFRESH_CREDITS=50)
    touch(ann)
    assert stack.balance(ann) == 50
    stack.grant(ann, 10)
    assert touch(ann) == 0


def test_days_that_were_missed_are_not_made_up_for(stack: Stack, setting: Setting, ann: str) -> None:
    setting(REFRESH_CREDITS=50)
    stack.grant(ann, 5)
    touch(ann)
    last_refresh(stack, ann, today() - timedelta(days=9))
    assert touch(ann) == 0, "it holds as much still"


def test_credits_that_add_up_do_so_to_the_cap(stack: Stack, setting: Setting, ann: str) -> None:
    stack.grant(ann, 120)
    setting(REFRESH_CREDITS=50, REFRESH_ADDS="on", REFRESH_CAP=150)
    assert touch(ann) == 30
    assert stack.balance(ann) == 150


def test_no_setting_lifts_a_balance_above_the_ledgers_own_bound(setting: Setting, ann: str) -> None:
    setting(REFRESH_CREDITS=10_000, REFRESH_CAP=10_000)
    assert touch(ann) == 200


def test_a_weekly_refresh_waits_for_monday(stack: Stack, setting: Setting, ann: str) -> None:
    stack.grant(ann, 1)
    monday = today() - timedelta(days=today().weekday())
    setting(REFRESH_CREDITS=50, REFRESH_PERIOD="week")
    last_refresh(stack, ann, monday)
    assert touch(ann) == 0
    last_refresh(stack, ann, monday - timedelta(days=1))
    assert touch(ann) == 49


def test_a_transaction_that_ends_badly_has_touched_nothing(setting: Setting, ann: str) -> None:
    setting(REFRESH_CREDITS=50)
    with pytest.raises(ZeroDivisionError), postgres.transaction() as tx:
        assert earnings.touch(tx, ann) == 50
        raise ZeroDivisionError
    assert touch(ann) == 50


def test_a_request_may_be_paid_from_the_days_credits(stack: Stack, setting: Setting, ann: str, job_id: str) -> None:
    setting(REFRESH_CREDITS=50)
    asked = shapes.parse(JobRequest, json.dumps(stack.request(tags=[])).encode())
    with postgres.transaction() as tx:
        assert submit(tx, JobRequested.of(job_id=job_id, actor=Actor(user_id=ann, role="CURATOR"), asked=asked))
    assert stack.balance(ann) == 50
