"""Which pool a job goes to: the smallest that can run it, and the next bigger one when that was too small."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.domain.errors import Rejected
from functions.domain.pool import Need, PoolSpec, bigger, choose, parse, size

TAGS = st.frozensets(st.sampled_from(["sdxl", "video", "fast"]))
SIZES = st.none() | st.sampled_from([8.0, 12.0, 24.0, 80.0])
NEEDS = st.builds(
    Need, tags=st.lists(st.sampled_from(["sdxl", "video", "fast"]), unique=True).map(tuple), vram_gib=SIZES
)


@st.composite
def some_pools(draw: st.DrawFn) -> list[PoolSpec]:
    names = draw(st.lists(st.sampled_from("abcdef"), unique=True, min_size=1))
    return [
        PoolSpec(name=name, vram_gib=draw(SIZES), max_workers=draw(st.integers(0, 9)), tags=draw(TAGS) | {name})
        for name in names
    ]


def spelt(pool: PoolSpec) -> str:
    vram = "" if pool.vram_gib is None else f":{pool.vram_gib:g}"
    tags = "+".join(sorted(pool.tags - {pool.name}))
    return f"{pool.name}{vram}*{pool.max_workers}" + (f"={tags}" if tags else "")


@given(some_pools())
def test_a_pool_is_read_as_it_was_written(pools: list[PoolSpec]) -> None:
    assert list(parse(", ".join(map(spelt, pools))).values()) == pools


def test_what_a_pool_does_not_say_is_assumed() -> None:
    [plain] = parse("v24").values()
    assert (plain.vram_gib, plain.max_workers, plain.tags) == (None, 8, {"v24"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it names none"),
        ("a,a", "'a' stands there twice"),
        ("a, b:x", "'b:x' is none"),
        ("a=b c", "'a=b c' is none"),
    ],
)
def test_what_is_no_pool_is_named(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(text)


@given(some_pools(), NEEDS, st.sets(st.sampled_from("abcdef")))
def test_a_job_goes_to_the_smallest_open_pool_that_meets_its_need(
    pools: list[PoolSpec], need: Need, draining: set[str]
) -> None:
    able = [p for p in pools if set(need.tags) <= p.tags and (p.vram_gib or 1e9) >= (need.vram_gib or 0)]
    open_ = [p for p in able if p.name not in draining]
    try:
        chosen = choose(pools, need, draining=draining)
    except Rejected as no:
        assert not open_
        assert no.code == ("pool_draining" if able else "no_such_pool")
        assert (no.retry_after_s is not None) == bool(able)
    else:
        assert chosen in open_
        assert all(size(chosen) <= size(other) for other in open_)
        assert chosen == next(p for p in open_ if size(p) == size(chosen))


@given(some_pools(), NEEDS)
def test_a_bigger_pool_has_more_memory_and_still_meets_the_need(pools: list[PoolSpec], need: Need) -> None:
    for here in pools:
        found = bigger(pools, here.name, need, closed={"a"})
        assert found == sorted(found, key=size)
        assert all(size(p) > size(here) and need.met_by(p) and p.name != "a" for p in found)
        assert len(found) == sum(size(p) > size(here) and need.met_by(p) and p.name != "a" for p in pools)


def test_what_no_pool_has_is_said() -> None:
    pools = list(parse("v12:12=sdxl,v24:24").values())
    with pytest.raises(Rejected, match=r"no pool offers 'video'; there are v12: sdxl, v12; v24: v24") as no:
        choose(pools, Need(tags=("video",)))
    assert (no.value.code, no.value.field) == ("no_such_pool", "tags")
    with pytest.raises(Rejected, match="the workflow needs 48 GiB of graphics memory; the biggest pool, v24, has 24"):
        choose(pools, Need(vram_gib=48))
    with pytest.raises(Rejected, match="the biggest pool of those that offer 'sdxl', v12, has 12") as no:
        choose(pools, Need(tags=("sdxl",), vram_gib=16))
    assert no.value.field == "workflow.id"
    with pytest.raises(Rejected, match="pool v24 takes no new jobs now"):
        choose(pools, Need(vram_gib=16), draining={"v24"})
