"""What can go wrong, in words an operator or a curator can act on.

Two kinds answer the Broker: `Rejected` (422: no retry can help, on to the dead letter sink) and `Unavailable`
(503: try again). A failed render is neither: it is news, told as an event, and `complete` decides what follows.
"""

from enum import StrEnum


class Rejected(Exception):
    """This event or request can never succeed as it stands; `code` is stable, the text names the remedy.

    retry_after_s: it may succeed later, for the reason lies in how much waits and not in what was asked: the refusal is
    told, but not held against the same request when it comes again.
    """

    def __init__(self, code: str, detail: str, *, field: str | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.field = field
        self.retry_after_s = retry_after_s


class Unavailable(Exception):
    """Something we need does not answer just now; the same event may succeed later."""


class IllegalMove(Exception):
    """A job cannot go from where it stands to where it was sent."""


class InsufficientCredits(Exception):
    """The account holds less than the price; nothing moved."""

    def __init__(self, account: str, *, balance: int, needed: int) -> None:
        super().__init__(f"{account} holds {balance} credits, {needed} are needed: {needed - balance} short")
        self.account = account
        self.balance = balance
        self.needed = needed


class SpendingCapReached(Exception):
    """The price would break a spending cap; nothing moved. The text says whose, and how much is spent already."""


class Failure(StrEnum):
    """What kind of render failure it was; `complete` decides by it whether another try can help."""

    PERMANENT = "permanent"  # the same job will fail again: invalid graph, missing asset
    TRANSIENT = "transient"  # another try may succeed: storage 5xx, timeout, ComfyUI gone
    OUT_OF_MEMORY = "out_of_memory"  # this card was too small or too full
    WORKER_LOST = "worker_lost"  # the runner's lease ran out


class RenderFailed(Exception):
    """This attempt at a render ended without pictures.

    code: stable and machine-readable (`model_missing`, `graph_refused`, `comfyui_lost` ...); detail: one line for
    people, free of prompts, paths of the server and secrets.
    """

    def __init__(self, kind: Failure, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.kind = kind
        self.code = code
        self.detail = detail


class GivenBack(Exception):
    """The runner was asked to stop (drain, preemption, cancel) before the picture was done."""
