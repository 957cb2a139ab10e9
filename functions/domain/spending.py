"""Spending caps: how many credits may be spent in a day, a week or a month (UTC; weeks begin on Monday)."""

import re
from collections.abc import Mapping

from functions.domain.refresh import Period

Caps = Mapping[str, Mapping[str, int]]


def parse(said: str) -> Caps:
    """Caps by role, from `ROLE=credits/period` separated by commas; ValueError names what is neither."""
    found: dict[str, dict[str, int]] = {}
    for part in filter(None, (part.strip() for part in said.split(","))):
        match = re.fullmatch(r"([A-Za-z0-9_-]+)=([0-9]{1,15})/([a-z]+)", part)
        if not match or match[3] not in tuple(Period):
            raise ValueError(f"{part!r} is not ROLE=credits/period, with day, week or month for the period")
        found.setdefault(match[1].upper(), {})[match[3]] = int(match[2])
    return found
