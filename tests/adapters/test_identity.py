"""Whom a token speaks for, and every way in which it may not speak for anybody."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.adapters import identity
from functions.config import config
from functions.domain.errors import Rejected
from functions.domain.event import Actor

OLD, NEW = "old-secret-of-32-characters-0123", "new-secret-of-32-characters-0123"
ISSUER = "visionsuit"
ANN = Actor(user_id="ann", role="CURATOR")
DATA = {"prompt": "a heron at dawn", "model": "m", "cfg": 7.0, "steps": 20, "tags": ["ä", "b"]}


@pytest.fixture(autouse=True)
def two_secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A rotation under way: the new secret signs, the old one is still good."""
    monkeypatch.setenv("SERVICE_SECRETS", f"{NEW}, {OLD}")
    monkeypatch.delenv("TOKEN_ISSUER", raising=False)
    config.cache_clear()
    yield
    monkeypatch.undo()
    config.cache_clear()


def signed(data: Any = DATA, *, secret: str = NEW, **changes: Any) -> str:
    """A token that signs this data, with claims changed, or left out where None."""
    body = json.dumps(data).encode()
    token = identity.sign(ANN, secret=secret, issuer=ISSUER, data=body, jti="n-1")
    claims = jwt.decode(token, options={"verify_signature": False}) | changes
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, secret, algorithm="HS256")


def refusal(token: str | None, data: bytes = json.dumps(DATA).encode()) -> str:
    with pytest.raises(Rejected) as no:
        identity.signature(token, data)
    assert "heron" not in no.value.detail
    return no.value.code


def test_a_signed_event_speaks_for_the_user_who_asked() -> None:
    spoken = identity.signature(signed(), json.dumps(DATA).encode())
    assert spoken.actor == ANN
    assert spoken.jti == "n-1"
    assert spoken.expires_at > datetime.now(UTC)


def test_a_role_is_the_same_role_in_any_case() -> None:
    assert identity.signature(signed(role="curator"), json.dumps(DATA).encode()).actor == ANN


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_while_secrets_rotate_both_are_good(secret: str) -> None:
    assert identity.signature(signed(secret=secret), json.dumps(DATA).encode()).actor == ANN
    assert identity.bearer(identity.sign(ANN, secret=secret, issuer=ISSUER)) == ANN


def test_a_token_signed_by_a_stranger_is_refused() -> None:
    assert refusal(signed(secret="a-strangers-secret-of-32-letters")) == "token_invalid"


def test_a_token_that_nobody_signed_is_refused() -> None:
    claims = jwt.decode(signed(), options={"verify_signature": False})
    assert refusal(jwt.encode(claims, None, algorithm="none")) == "token_invalid"


@pytest.mark.parametrize("token", ["", None])
def test_an_event_without_a_token_is_unsigned(token: str | None) -> None:
    assert refusal(token) == "unsigned"


@pytest.mark.parametrize("token", ["a", "a.b.c", "....", "ä", "eyJhbGciOiJIUzI1NiJ9.e30", "x" * 10_000])
def test_what_is_no_token_is_refused(token: str) -> None:
    assert refusal(token) == "token_invalid"


def test_an_expired_token_is_refused_though_clocks_may_differ_a_little() -> None:
    now = datetime.now(UTC)
    assert refusal(signed(exp=now - timedelta(seconds=identity.LEEWAY_S + 5))) == "expired"
    assert identity.signature(signed(exp=now - timedelta(seconds=5)), json.dumps(DATA).encode()).actor == ANN


def test_a_token_from_the_future_is_refused() -> None:
    assert refusal(signed(iat=datetime.now(UTC) + timedelta(hours=1))) == "token_invalid"


def test_a_token_of_another_issuer_is_refused() -> None:
    assert refusal(signed(iss="somebody-else")) == "token_invalid"


@pytest.mark.parametrize("claim", ["iss", "sub", "role", "iat", "exp", "jti", "data_sha256"])
def test_a_token_without_one_of_its_claims_is_refused(claim: str) -> None:
    assert refusal(signed(**{claim: None})) == "token_invalid"


@pytest.mark.parametrize("claim", ["sub", "role", "jti"])
@pytest.mark.parametrize("value", ["", "a\0b", "a\nb", "x" * 129, 7, ["ann"], {}])
def test_a_claim_that_becomes_a_key_must_be_short_and_printable(claim: str, value: Any) -> None:
    assert refusal(signed(**{claim: value})) == "token_invalid"


@pytest.mark.parametrize("exp", [10**12, 10**18, 1e300])
def test_a_moment_no_calendar_has_is_no_expiry(exp: float) -> None:
    assert refusal(signed(exp=exp)) == "token_invalid"


@pytest.mark.parametrize(
    "altered",
    [
        DATA | {"cfg": 7.5},
        DATA | {"prompt": "a stork"},
        {**DATA, "boost": 1},
        {k: DATA[k] for k in ("prompt", "model")},
    ],
)
def test_data_that_is_not_what_was_signed_is_altered(altered: dict[str, Any]) -> None:
    assert refusal(signed(), json.dumps(altered).encode()) == "altered"


def test_a_bearer_token_signs_no_event_and_an_events_token_is_still_its_users() -> None:
    assert refusal(identity.sign(ANN, secret=NEW, issuer=ISSUER)) == "token_invalid"
    assert identity.bearer(signed()) == ANN


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(texts, values, max_size=4))
def test_json_that_a_broker_wrote_anew_is_the_same_data(data: dict[str, Any]) -> None:
    token = signed(data)
    backwards = dict(reversed(data.items()))
    for spelling in (
        json.dumps(data, indent=3),
        json.dumps(backwards, separators=(",", ":")),
        json.dumps(data, ensure_ascii=False),
    ):
        assert identity.signature(token, spelling.encode()).actor == ANN


def test_a_whole_number_is_the_same_with_and_without_a_point() -> None:
    assert identity.data_sha256(b'{"cfg": 7.0}') == identity.data_sha256(b'{"cfg": 7}')


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff", b"NaN", b'{"cfg": NaN}', b"1e999", b"Infinity", b'"\\ud800"', b"[" * 100_000, b"9" * 5000],
)
def test_data_that_is_not_plain_json_is_refused_and_not_an_accident(data: bytes) -> None:
    assert refusal(signed(), data) == "invalid_request"


def test_the_last_seed_that_may_be_a_number_can_be_signed() -> None:
    data = {"seed": 2**53}
    assert identity.signature(signed(data), json.dumps(data).encode()).actor == ANN


def test_without_a_configured_secret_no_token_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    token = signed()
    monkeypatch.delenv("SERVICE_SECRETS")
    config.cache_clear()
    assert refusal(token) == "unsigned"
