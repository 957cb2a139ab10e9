"""Which credits move where, and what makes a transfer the same transfer."""

from hypothesis import given
from hypothesis import strategies as st
from making import a_job

from functions.domain.transfer import REVENUE, TREASURY, Reason, account, debit, grant, refund


def test_a_debit_moves_the_price_from_the_user_to_revenue() -> None:
    paid = debit(a_job(id="j", user_id="ann", credits=5), authorised_by="user:ann")
    assert (paid.debit_account, paid.credit_account, paid.amount) == ("user:ann", REVENUE, 5)
    assert (paid.id, paid.reason, paid.job_id, paid.undoes) == ("j:debit", Reason.DEBIT, "j", None)


@given(st.integers(1, 10**6))
def test_a_refund_is_the_debit_the_other_way_round_and_names_it(credits: int) -> None:
    job = a_job(credits=credits, boost=1)
    paid, back = debit(job, authorised_by="a"), refund(job, authorised_by="b")
    assert (back.debit_account, back.credit_account) == (paid.credit_account, paid.debit_account)
    assert (back.amount, back.undoes, back.job_id, back.reason) == (paid.amount, paid.id, job.id, Reason.REFUND)


def test_a_grant_comes_from_the_treasury_and_belongs_to_its_occasion() -> None:
    first = grant("ann", 10, key="welcome", authorised_by="platform")
    assert (first.debit_account, first.credit_account, first.reason) == (TREASURY, account("ann"), Reason.GRANT)
    assert first.id == grant("ann", 99, key="welcome", authorised_by="somebody else").id
    others = grant("bob", 10, key="welcome", authorised_by="p"), grant("ann", 10, key="birthday", authorised_by="p")
    assert len({first.id, *(other.id for other in others)}) == 3


def test_the_transfers_of_a_job_have_one_id_each_however_often_they_are_made() -> None:
    job = a_job()
    assert debit(job, authorised_by="a").id == debit(job, authorised_by="b").id
    assert refund(job, authorised_by="a").id == refund(job, authorised_by="b").id
    assert debit(job, authorised_by="a").id != refund(job, authorised_by="a").id
