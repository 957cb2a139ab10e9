"""GPU pools: what each offers, and which of them a job goes to."""

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from functions.domain.errors import Rejected

#: A pool that does not say how far it grows may have this many workers.
MAX_WORKERS = 8
DRAINING_RETRY_S = 300
NAME = r"[A-Za-z0-9_.-]+"
ENTRY = re.compile(
    rf"""\s*({NAME})\s*
    (?: : \s*(\d+(?:\.\d+)?)\s* )?            # VRAM, GiB
    (?: \* \s*(\d+)\s* )?                     # most workers
    (?: = \s*({NAME}(?:\s*\+\s*{NAME})*)\s* )?  # tags
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, kw_only=True)
class PoolSpec:
    """One pool. vram_gib: what each of its GPUs has; None: nobody said, taken to be enough for all.

    max_workers: as far as the autoscaler lets it grow; 0: it starts none. tags: what it offers, its name among them.
    """

    name: str
    vram_gib: float | None
    max_workers: int
    tags: frozenset[str]


def parse(text: str) -> dict[str, PoolSpec]:
    """Pools by name, in the order given: `name[:<VRAM, GiB>][*<most workers>][=tag+tag]`, comma-separated.

    ValueError names the entry that is none, or the name that stands there twice.
    """
    found: dict[str, PoolSpec] = {}
    for entry in filter(str.strip, text.split(",")):
        read = ENTRY.fullmatch(entry)
        if read is None:
            raise ValueError(f"{entry.strip()!r} is none")
        name, vram, most, tags = read.groups()
        if name in found:
            raise ValueError(f"{name!r} stands there twice")
        found[name] = PoolSpec(
            name=name,
            vram_gib=float(vram) if vram else None,
            max_workers=int(most) if most else MAX_WORKERS,
            tags=frozenset((name, *re.findall(NAME, tags or ""))),
        )
    if not found:
        raise ValueError("it names none")
    return found


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a job needs of a pool. vram_gib: what its workflow declares; None: nothing."""

    tags: tuple[str, ...] = ()
    vram_gib: float | None = None

    def met_by(self, pool: PoolSpec) -> bool:
        return pool.tags.issuperset(self.tags) and self.fits(pool)

    def fits(self, pool: PoolSpec) -> bool:
        """Whether the pool's GPUs have the memory."""
        return self.vram_gib is None or pool.vram_gib is None or pool.vram_gib >= self.vram_gib


def choose(pools: Sequence[PoolSpec], need: Need, *, draining: Collection[str] = ()) -> PoolSpec:
    """The smallest pool that meets the need, the first given of equal ones; pools that drain are passed over.

    Rejected `no_such_pool` says what is missing, `pool_draining` that only a pool that drains would do.
    """
    able = sorted((pool for pool in pools if need.met_by(pool)), key=size)
    open_ = [pool for pool in able if pool.name not in draining]
    if open_:
        return open_[0]
    if able:
        raise Rejected(
            "pool_draining",
            f"pool {able[0].name} takes no new jobs now, and no other can run this one: try again later",
            field="tags",
            retry_after_s=DRAINING_RETRY_S,
        )
    raise _missing(pools, need)


def bigger(pools: Sequence[PoolSpec], than: str, need: Need, *, closed: Collection[str] = ()) -> list[PoolSpec]:
    """The pools with more memory than this one that meet the need, the smallest first; none when nobody said how much
    the pool has, or when it is not one of these."""
    here = next((pool for pool in pools if pool.name == than), None)
    if here is None:
        return []
    return sorted(
        (p for p in pools if size(p) > size(here) and need.met_by(p) and p.name not in closed),
        key=size,
    )


def size(pool: PoolSpec) -> float:
    """The memory pools are ordered by; one of which nobody said it counts as enough for all."""
    return math.inf if pool.vram_gib is None else pool.vram_gib


def _missing(pools: Sequence[PoolSpec], need: Need) -> Rejected:
    wanted = ", ".join(map(repr, need.tags))
    offering = [pool for pool in pools if pool.tags.issuperset(need.tags)]
    if offering:
        most = max(offering, key=size)
        among = f" of those that offer {wanted}" if need.tags else ""
        return Rejected(
            "no_such_pool",
            f"the workflow needs {need.vram_gib:g} GiB of graphics memory; the biggest pool{among}, {most.name}, has "
            f"{most.vram_gib:g}",
            field="workflow.id",
        )
    known = "; ".join(f"{pool.name}: {', '.join(sorted(pool.tags))}" for pool in pools)
    return Rejected("no_such_pool", f"no pool offers {wanted}; there are {known}", field="tags")
