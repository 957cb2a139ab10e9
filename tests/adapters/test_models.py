"""Model files: checked on their way to ComfyUI, fetched once, and never seen half."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from live import Stack, eventually

from functions.adapters import cache, models, postgres, storage
from functions.adapters.models import CHECKPOINTS, LORAS, Model
from functions.config import config
from functions.domain.errors import Rejected

DATA = bytes(range(256)) * 12_000  # some three MiB: more than one piece


@pytest.fixture
def folder(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A models folder that ComfyUI would read."""
    monkeypatch.setenv("COMFYUI_MODELS_DIR", str(tmp_path))
    config.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    config.cache_clear()


@pytest.fixture
def model(folder: Path) -> Model:
    """A model of three MiB in the bucket, on record with its digest."""
    name = f"{uuid.uuid4().hex[:8]}.safetensors"
    key = f"checkpoints/{name}"
    storage.write_once(config().models_bucket, key, DATA, content_type="application/octet-stream")
    sha256 = hashlib.sha256(DATA).hexdigest()
    return Model(kind=CHECKPOINTS, name=name, object_key=key, sha256=sha256, size_bytes=len(DATA))


def fetch(model: Model, **options: Any) -> tuple[str, Model]:
    """The model fetched, and let go of at once."""
    with ExitStack() as leases:
        return models.fetch(model, leases, **options)


def changed(model: Model, **fields: object) -> Model:
    return Model(**vars(model) | fields)


def visible(folder: Path) -> list[str]:
    """The files ComfyUI would list."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def test_a_fetched_model_lies_where_comfyui_reads_under_the_name_that_is_given_back(folder: Path, model: Model) -> None:
    progress: list[tuple[int, int]] = []
    name, known = fetch(model, told=lambda done, total: progress.append((done, total)))
    assert (folder / CHECKPOINTS / name).read_bytes() == DATA
    assert name.endswith(f"/{model.name}")
    assert known == model
    assert len(progress) > 1
    assert progress[-1] == (len(DATA), len(DATA))


def test_a_model_nobody_has_read_yet_is_given_back_with_its_digest(folder: Path, model: Model) -> None:
    name, known = fetch(changed(model, sha256=None, size_bytes=None))
    assert known == model
    assert (folder / CHECKPOINTS / name).is_file()


def test_a_second_fetch_downloads_nothing(folder: Path, model: Model) -> None:
    name, _ = fetch(model)
    gone = changed(model, object_key="checkpoints/no-longer-there")
    assert fetch(gone)[0] == name


def test_a_fetch_is_tallied_as_the_hit_or_miss_it_was(folder: Path, model: Model) -> None:
    first, second, listed = (models.Tally() for _ in range(3))
    fetch(model, tally=first)
    fetch(model, tally=second)
    fetch(changed(model, object_key=None), tally=listed)
    assert first == models.Tally(misses=1, fetched_bytes=len(DATA))
    assert second == models.Tally(hits=1)
    assert listed == models.Tally(), "what ComfyUI lists itself was never to be fetched"


def test_bytes_that_are_not_the_file_on_record_are_refused_and_leave_no_file(folder: Path, model: Model) -> None:
    with pytest.raises(cache.Corrupt, match=f"{model.object_key} has sha256"):
        fetch(changed(model, sha256="0" * 64))
    assert visible(folder) == []
    assert not list(folder.rglob("*.part"))


def test_a_model_that_is_not_in_the_bucket_is_missing_by_its_key(folder: Path, model: Model) -> None:
    with pytest.raises(storage.Missing, match="checkpoints/nothing-here"):
        fetch(changed(model, object_key="checkpoints/nothing-here", sha256=None))
    assert visible(folder) == []


def test_another_content_under_the_same_name_has_another_path(folder: Path, model: Model) -> None:
    newer_key = f"{model.object_key}-newer"
    storage.write_once(config().models_bucket, newer_key, b"newer", content_type="application/octet-stream")
    newer = changed(model, object_key=newer_key, sha256=hashlib.sha256(b"newer").hexdigest())
    old_name, new_name = fetch(model)[0], fetch(newer)[0]
    assert old_name != new_name
    assert visible(folder) == sorted(f"{CHECKPOINTS}/{name}" for name in (old_name, new_name))


@pytest.mark.parametrize("name", ["../../escape", "/etc/passwd", "a/b/c", "..", "...", "", ".hidden", "x" * 300])
def test_a_models_name_cannot_lead_out_of_the_folder_or_hide_in_it(folder: Path, model: Model, name: str) -> None:
    found, _ = fetch(changed(model, name=name))
    path = (folder / CHECKPOINTS / found).resolve()
    assert path.is_relative_to(folder.resolve())
    assert path.read_bytes() == DATA
    assert visible(folder) == [f"{CHECKPOINTS}/{found}"]


def test_a_model_that_comfyui_lists_itself_is_used_where_it_lies(folder: Path) -> None:
    listed = Model(kind=CHECKPOINTS, name="sdxl/base.safetensors", object_key=None, sha256=None, size_bytes=None)
    assert fetch(listed) == ("sdxl/base.safetensors", listed)
    assert visible(folder) == []


FETCH = textwrap.dedent("""
    import contextlib
    import sys
    from functions.adapters import models
    name, key, sha256 = sys.argv[1:4]
    model = models.Model(kind="checkpoints", name=name, object_key=key, sha256=sha256, size_bytes=None)
    def told(done, total):
        print(done, flush=True)
        if "pause" in sys.argv:
            sys.stdin.read()
    with contextlib.ExitStack() as leases:
        print(models.fetch(model, leases, told=told)[0])
""")


def fetcher(stack: Stack, folder: Path, model: Model, *extra: str) -> subprocess.Popen[str]:
    """Another process that fetches the model, as another runner of the node would."""
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, model.name, str(model.object_key), str(model.sha256), *extra],
        env=stack.house.env | {"COMFYUI_MODELS_DIR": str(folder), "PYTHONPATH": str(Path.cwd())},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_runners_of_a_node_that_need_a_model_at_once_download_it_once(stack: Stack, folder: Path, model: Model) -> None:
    runners = [fetcher(stack, folder, model) for _ in range(2)]
    said = [runner.communicate(timeout=60)[0].splitlines() for runner in runners]
    assert len({lines[-1] for lines in said}) == 1
    assert sorted(len(lines) > 1 for lines in said) == [False, True], "one was told of a download, the other of none"


def test_threads_of_a_runner_that_need_a_model_at_once_download_it_once(folder: Path, model: Model) -> None:
    told: list[int] = []
    names: set[str] = set()
    threads = [
        threading.Thread(target=lambda: names.add(fetch(model, told=lambda done, _: told.append(done))[0]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 1
    assert told.count(len(DATA)) == 1


def test_a_runner_killed_in_the_middle_of_a_download_leaves_no_half_model_and_nobody_waiting(
    stack: Stack, folder: Path, model: Model
) -> None:
    victim = fetcher(stack, folder, model, "pause")
    assert victim.stdout
    assert int(victim.stdout.readline()) < len(DATA)
    eventually(lambda: list(folder.rglob("*.part")))
    assert visible(folder) == []
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    assert visible(folder) == []
    name, _ = fetch(model)
    assert (folder / CHECKPOINTS / name).read_bytes() == DATA
    assert not list(folder.rglob("*.part")), "what the killed one had begun does not fill the disk for ever"


def test_models_are_known_by_name_and_an_unknown_one_is_told_what_is_known(stack: Stack) -> None:
    name = f"{uuid.uuid4().hex}.safetensors"
    listed = Model(kind=LORAS, name=name, object_key=f"loras/{name}", sha256=None, size_bytes=None)
    with postgres.transaction() as tx:
        with pytest.raises(Rejected, match=f"there is no LoRA '{name}'; known: '") as no:
            models.find(tx, LORAS, name)
        assert (no.value.code, no.value.field) == ("unknown_lora", "loras")
        with pytest.raises(Rejected, match="there is no model 'none'") as no:
            models.find(tx, CHECKPOINTS, "none")
        assert (no.value.code, no.value.field) == ("unknown_model", "model")
        models.register(tx, [listed])
        assert models.find(tx, LORAS, name) == listed
        assert listed in models.all_of(tx, LORAS)


def test_what_the_first_fetch_read_is_written_down_and_a_later_reading_does_not_change_it(stack: Stack) -> None:
    name = f"{uuid.uuid4().hex}.safetensors"
    listed = Model(kind=CHECKPOINTS, name=name, object_key=f"checkpoints/{name}", sha256=None, size_bytes=None)
    with postgres.transaction() as tx:
        models.register(tx, [listed])
        for digit in "ab":
            models.learn(tx, changed(listed, sha256=digit * 64, size_bytes=1))
        assert models.find(tx, CHECKPOINTS, name).sha256 == "a" * 64
        tx.rollback()


def test_what_lies_in_the_models_bucket_is_made_known_as_it_lies(stack: Stack) -> None:
    with postgres.transaction() as tx:
        models.discover(tx)  # what other tests have left
    key = f"checkpoints/{uuid.uuid4().hex}/river.safetensors"
    storage.write_once(config().models_bucket, key, b"a river", content_type="application/octet-stream")
    storage.write_once(config().models_bucket, f"{key}.txt", b"no model", content_type="text/plain")
    with postgres.transaction() as tx:
        assert models.discover(tx) == 1
        assert models.discover(tx) == 0, "known already"
        found = models.find(tx, models.CHECKPOINTS, key.removeprefix("checkpoints/"))
    assert (found.object_key, found.sha256, found.size_bytes) == (key, None, 7)


def test_a_model_file_that_was_replaced_is_read_anew(stack: Stack) -> None:
    name = f"{uuid.uuid4().hex}.safetensors"
    storage.write_once(config().models_bucket, f"loras/{name}", b"first", content_type="application/octet-stream")
    with postgres.transaction() as tx:
        models.discover(tx)
        models.learn(tx, replace(models.find(tx, models.LORAS, name), sha256="0" * 64))
    storage.client().put_object(Bucket=config().models_bucket, Key=f"loras/{name}", Body=b"second")
    with postgres.transaction() as tx:
        assert models.discover(tx) == 1
        assert models.find(tx, models.LORAS, name).sha256 is None


def test_a_bucket_without_a_checkpoint_gets_one_for_the_stand_in_and_another_is_left_as_it_is(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = f"models-{uuid.uuid4().hex[:8]}"
    storage.client().create_bucket(Bucket=bucket)
    monkeypatch.setenv("MODELS_BUCKET", bucket)
    config.cache_clear()
    try:
        models.put_stand_in()
        models.put_stand_in()
        assert [key for key, _ in storage.listing(bucket, "")] == ["checkpoints/stand-in.safetensors"]
        storage.client().delete_object(Bucket=bucket, Key="checkpoints/stand-in.safetensors")
        storage.write_once(bucket, "checkpoints/mine.ckpt", b"mine", content_type="application/octet-stream")
        models.put_stand_in()
        assert [key for key, _ in storage.listing(bucket, "")] == ["checkpoints/mine.ckpt"]
    finally:
        monkeypatch.undo()
        config.cache_clear()
