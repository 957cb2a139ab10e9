"""Who asks: tokens signed by the platform, on events (`authtoken`) and on REST calls (`Authorization: Bearer`)."""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from functions.adapters import shapes
from functions.config import config
from functions.domain.errors import Rejected
from functions.domain.event import Actor

LEEWAY_S = 30  # clocks differ
CLAIMS = ["iss", "sub", "role", "iat", "exp"]


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Whom a token speaks for, and the nonce that makes it good for one event."""

    actor: Actor
    jti: str
    expires_at: datetime


def bearer(token: str) -> Actor:
    """The user a REST call's token speaks for; Rejected when the token is not the platform's or no longer valid."""
    claims = _claims(token, required=CLAIMS)
    return _actor(claims)


def on_ones_own_machine() -> Actor:
    """Whoever DEV_IDENTITY names; Rejected where it names nobody."""
    named = config().dev_identity
    if not named:
        raise Rejected("unsigned", "send the platform's token as `Authorization: Bearer <token>`")
    user_id, _, role = named.partition(":")
    return Actor(user_id=user_id, role=role.upper() or "USER")


def digest(token: str) -> str:
    """What a token is called where it is written down: it can be found again by it, and not used."""
    return f"token:{hashlib.sha256(token.encode()).hexdigest()}"


def signature(token: str | None, data: bytes) -> Signature:
    """Whom a signed event speaks for; Rejected when it is unsigned, expired, or its data is not what was signed."""
    if not token:
        raise Rejected("unsigned", "events from outside carry a signed `authtoken` extension")
    claims = _claims(token, required=[*CLAIMS, "jti", "data_sha256"])
    if not hmac.compare_digest(str(claims["data_sha256"]), data_sha256(data)):
        raise Rejected("altered", "the event's data is not what was signed")
    return Signature(
        actor=_actor(claims),
        jti=_plain(claims, "jti"),
        expires_at=_moment(claims["exp"]),
    )


def _actor(claims: dict[str, Any]) -> Actor:
    return Actor(user_id=_plain(claims, "sub"), role=_plain(claims, "role").upper(), collections=_collections(claims))


def _collections(claims: dict[str, Any]) -> tuple[str, ...] | None:
    """The collections the platform says its user may write to; None when it does not say."""
    named = claims.get("collections")
    if named is None:
        return None
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        raise Rejected("token_invalid", "the token's collections must be a list of their ids")
    return tuple(named)


def _plain(claims: dict[str, Any], name: str) -> str:
    """A claim that becomes a key: opaque, but short and printable."""
    value = claims[name]
    if not isinstance(value, str) or not 1 <= len(value) <= 128 or not value.isprintable():
        raise Rejected("token_invalid", f"the token's {name} must be 1 to 128 printable characters")
    return value


def _moment(unix_s: int | float) -> datetime:
    try:
        return datetime.fromtimestamp(unix_s, UTC)
    except (ValueError, OverflowError, OSError):
        raise Rejected("token_invalid", "the token's exp is no moment of any calendar") from None


def data_sha256(data: bytes) -> str:
    """The digest a signature covers: over the canonical form, because brokers may re-serialise JSON."""
    return hashlib.sha256(shapes.canonical(data)).hexdigest()


def sign(
    actor: Actor,
    *,
    secret: str,
    issuer: str,
    data: bytes | None = None,
    jti: str | None = None,
    lifetime: timedelta = timedelta(hours=12),
) -> str:
    """A token as the platform issues it; with `data`, one that signs an event. For whoever plays the platform: the
    local stack, and tests."""
    now = datetime.now(UTC)
    claims: dict[str, object] = {
        "iss": issuer,
        "sub": actor.user_id,
        "role": actor.role,
        "iat": now,
        "exp": now + lifetime,
    }
    if actor.collections is not None:
        claims["collections"] = list(actor.collections)
    if data is not None:
        claims |= {"jti": jti, "data_sha256": data_sha256(data)}
    return jwt.encode(claims, secret, algorithm="HS256")


def _claims(token: str, *, required: list[str]) -> dict[str, Any]:
    if not config().secrets:
        raise Rejected("unsigned", "no SERVICE_SECRETS are configured, so no token can be trusted")
    for secret in config().secrets:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                secret,
                algorithms=["HS256"],
                issuer=config().token_issuer,
                leeway=LEEWAY_S,
                options={"require": required},
            )
            return claims
        except jwt.InvalidSignatureError:
            continue
        except jwt.ExpiredSignatureError:
            raise Rejected("expired", "the token has expired: ask the platform for a new one") from None
        except jwt.InvalidTokenError as error:
            raise Rejected("token_invalid", f"the token is not valid: {error}") from None
    raise Rejected("token_invalid", "the token is signed by nobody we know")
