"""Settings: all optional, each wrong one named with what would be right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.config import SETTINGS, Config, Misconfigured, read


def wrong(**environ: str) -> str:
    with pytest.raises(Misconfigured) as error:
        read(environ)
    return str(error.value)


def test_an_empty_environment_is_all_defaults() -> None:
    assert read({}) == Config()


@given(st.sampled_from(sorted(SETTINGS)))
def test_a_setting_that_is_set_to_nothing_counts_as_not_set(name: str) -> None:
    assert read({name.upper(): ""}) == Config()


def test_what_is_set_is_read_in_its_own_type_and_the_rest_of_the_environment_is_let_be() -> None:
    found = read({"RETRIES": "7", "LEASE_S": "60", "DATABASE_URL": "postgresql+pg8000://u:p@h/db", "PATH": "/bin"})
    assert (found.retries, found.lease_s, found.database_url) == (7, 60.0, "postgresql+pg8000://u:p@h/db")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RETRIES", "three"),
        ("RETRIES", "2.5"),
        ("RETRIES", "-1"),
        ("DATABASE_POOL_SIZE", "0"),
        ("LEASE_S", "30s"),
        ("LEASE_S", "nan"),
        ("LEASE_S", "inf"),
        ("RETELL_S", "0"),
        ("RETRY_BASE_S", "-1"),
        ("RENDER_DEADLINE_S", "-600"),
    ],
)
def test_a_number_that_makes_no_sense_is_named_with_its_meaning(name: str, value: str) -> None:
    said = wrong(**{name: value})
    assert said.startswith(f"{name}=")
    assert SETTINGS[name.lower()].metadata["about"] in said


@pytest.mark.parametrize("name", ["DATABASE_URL", "MIGRATIONS_DATABASE_URL", "REDIS_URL", "K_SINK", "COMFYUI_URL"])
def test_an_address_that_is_none_is_named_and_not_repeated_for_it_may_hold_a_password(name: str) -> None:
    said = wrong(**{name: "mysql://user:sesame@host/db"})
    assert said.startswith(f"{name} must begin with ")
    assert "sesame" not in said


def test_a_heartbeat_must_fit_twice_into_a_lease() -> None:
    assert "HEARTBEAT_S must be at most half of LEASE_S" in wrong(LEASE_S="10", HEARTBEAT_S="6")
    assert read({"LEASE_S": "10", "HEARTBEAT_S": "5"}).heartbeat_s == 5


@pytest.mark.parametrize("pools", [",", " ", "a b", "a,{b}", "a/b", "a,a", "a:x", "a*-1", "a:24*4*4"])
def test_pools_must_have_names_that_can_be_parts_of_keys(pools: str) -> None:
    assert wrong(POOLS=pools).startswith("POOLS must name at least one pool")


def test_a_pool_offers_its_name_and_the_tags_behind_it() -> None:
    found = read({"POOLS": "small, v24 = high-vram + sdxl"})
    offered = {name: spec.tags for name, spec in found.pool_specs.items()}
    assert offered == {"small": {"small"}, "v24": {"v24", "high-vram", "sdxl"}}
    assert found.pool_names == ("small", "v24")
    assert wrong(POOLS="v24=a b").startswith("POOLS must name")


@pytest.mark.parametrize(("said", "size_bytes"), [("1000", 950), ("60Gi", 60 * 2**30 * 19 // 20), ("2k", 1900)])
def test_the_models_cache_keeps_a_twentieth_of_its_space_free(said: str, size_bytes: int) -> None:
    assert read({"MODELS_CACHE_SIZE": said}).models_cache_bytes == size_bytes
    assert read({}).models_cache_bytes is None


@pytest.mark.parametrize("size", ["60 Gi", "much", "-1", "1.5Gi", "1Gb"])
def test_a_cache_size_that_is_none_is_named(size: str) -> None:
    assert wrong(MODELS_CACHE_SIZE=size).startswith(f"MODELS_CACHE_SIZE={size!r} is no size")


def test_a_log_level_that_is_none_is_told_what_there_is() -> None:
    assert "DEBUG, INFO, WARNING, ERROR" in wrong(LOG_LEVEL="LOUD")
    assert read({"LOG_LEVEL": "debug"}).log_level == "debug"


def test_what_a_process_cannot_do_without_is_named_when_it_is_missing() -> None:
    with pytest.raises(Misconfigured, match="DATABASE_URL is not set: Postgres"):
        Config().need("database_url")
    assert Config(database_url="x").need("database_url") == "x"


def test_lists_are_read_with_and_without_spaces() -> None:
    found = read({"POOLS": "v24, v80 ,", "SERVICE_SECRETS": " a,b ", "SUBMIT_ROLES": "curator, ADMIN"})
    assert found.pool_names == ("v24", "v80")
    assert found.secrets == ("a", "b")
    assert found.roles == {"CURATOR", "ADMIN"}
    assert (found.claiming_pool, read({"POOL": "v80"}).claiming_pool) == ("v24", "v80")


def test_a_runner_is_named_after_its_host_and_process_unless_it_has_a_name() -> None:
    assert Config(worker_id="gpu-7").worker == "gpu-7"
    assert Config().worker.rpartition("-")[2].isdigit()


def test_every_setting_says_what_it_is_for() -> None:
    assert all(len(setting.metadata["about"]) > 5 for setting in SETTINGS.values())
