"""Waits and renders as they are told: ranges in seconds, and the same in words."""

from typing import Self

from pydantic import BaseModel, Field

from functions.adapters.outlook import Outlook
from functions.domain import estimate
from functions.domain.estimate import Range
from functions.domain.job import Job

UNKNOWN = "Nobody could say when the job was asked for; its place in the line says why, or how long it will be now."


class RangeView(BaseModel):
    """Half of such jobs take at most `p50_s`, nine in ten at most `p90_s`."""

    p50_s: float
    p90_s: float

    @classmethod
    def of(cls, range_: Range) -> Self:
        return cls(p50_s=range_.p50_ms / 1000, p90_s=range_.p90_ms / 1000)


class WaitView(BaseModel):
    """How long until a GPU takes the job. Both seconds are null when no number would be honest; `words` say why."""

    p50_s: float | None = Field(description="half of such jobs wait at most this long")
    p90_s: float | None = Field(description="nine in ten wait at most this long")
    words: str

    @classmethod
    def of(cls, outlook: Outlook) -> Self:
        if outlook.wait is None:
            return cls(p50_s=None, p90_s=None, words=outlook.words)
        return cls(**RangeView.of(outlook.wait).model_dump(), words=outlook.words)

    @classmethod
    def at_submission(cls, job: Job) -> Self:
        """As it was estimated when the job was asked for."""
        if job.wait_p50_ms is None or job.wait_p90_ms is None:
            return cls(p50_s=None, p90_s=None, words=UNKNOWN)
        told = Range(p50_ms=job.wait_p50_ms, p90_ms=job.wait_p90_ms)
        return cls(**RangeView.of(told).model_dump(), words=estimate.in_words(told))


class LessView(BaseModel):
    """What was asked of a parameter, and what the job gets of it."""

    asked: int
    given: int
