"""What a retention run over a million pictures needs: memory and time, beside a run over ten thousand.

    cd tests && python -m bench.retention [--rows 1000000] [--reference 10000] [--told]

Real Postgres and S3. The pictures were accepted, and the outputs bucket's copies are let go of, which nobody is told;
with `--told` they were discarded, and each purge is posted to a Broker that takes it at once. Rows are made by
generate_series; their objects were never uploaded, which a store answers like any other deletion. Each run is a process
of its own, so that its peak memory is its own. Prints one JSON line; value and reference_value are peak memory in MiB,
ratio the one by the other.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from sqlalchemy import NullPool, create_engine, text

from functions.adapters import migrations
from functions.adapters.workflows import PUBLISH
from functions.stack import postgres, s3
from functions.stack.state import State
from functions.stack.supervisor import Supervisor

GOAL = 1.2
IMAGES = 4  # of a job
RUN = """
import json, resource, time
from functions.retention import retention
began = time.monotonic()
run = retention(limit_s=36000)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
done = {f"{one.did} {one.why}": one.count for one in run.done}
print(json.dumps({"peak_kib": peak, "seconds": time.monotonic() - began, "done": done, "problem": run.problem}))
"""
JOBS = """
INSERT INTO generator_job (id, user_id, role, pool, state, prompt, negative_prompt, workflow_id, workflow_version,
    workflow_sha256, model, seed, parameters, images, credits, due_ms, submitted_at, changed_at)
SELECT 'b' || :round || '-' || n, 'u-' || mod(n, 1000), 'CURATOR', 'p', 'completed', 'x', '', 'bench', '1.0.0',
    repeat('0', 64), 'm', n, '{}', :images, 0, 0, now() - interval '60 days', now() - interval '60 days'
FROM generate_series(1, :jobs) AS n
"""
EACH = """
    (SELECT id AS job_id, user_id, i,
        'generated/' || id || '/1/0' || i || '-0123456789abcdef.png' AS key,
        encode(sha256(convert_to(id || '-' || i, 'UTF8')), 'hex') AS sha256
    FROM generator_job, generate_series(0, :images - 1) AS i WHERE starts_with(id, 'b' || :round || '-')) AS each
"""
OBJECTS = f"""
INSERT INTO generator_object (key, sha256, size_bytes, refs, created_at)
SELECT key, sha256, 1500000, 1, now() - interval '60 days' FROM {EACH}
"""
PICTURES = f"""
INSERT INTO generator_artifact (id, job_id, user_id, index, attempt, object_key, sha256, size_bytes, content_type,
    width_px, height_px, thumbnail_key, thumbnail_sha256, created_at, decision, decided_at, decisions, collection_id,
    collection_key)
SELECT job_id || '-0' || i, job_id, user_id, i, 1, key, sha256, 1500000, 'image/png', 1024, 1024, '', repeat('0', 64),
    now() - interval '60 days', :decision, now() - interval '59 days', 1, 'c', key FROM {EACH}
"""


class Taker(BaseHTTPRequestHandler):
    """A Broker that takes everything and does nothing with it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(202)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def fill(owner_url: str, *, round: int, rows: int, decision: str) -> None:
    """So many pictures, all due."""
    owner = create_engine(owner_url, poolclass=NullPool)
    values = {"round": str(round), "jobs": rows // IMAGES, "images": IMAGES, "decision": decision}
    with owner.begin() as tx:
        tx.execute(text("ALTER TABLE generator_job DISABLE TRIGGER USER"))  # they were never anything but completed
        for statement in (JOBS, OBJECTS, PICTURES):
            named = {name: value for name, value in values.items() if f":{name}" in statement}
            tx.execute(text(statement), named)
        tx.execute(text("ALTER TABLE generator_job ENABLE TRIGGER USER"))
    with owner.connect().execution_options(isolation_level="AUTOCOMMIT") as tx:
        tx.execute(text("VACUUM (ANALYZE) generator_artifact, generator_object, generator_job"))


def measure(env: dict[str, str], owner_url: str, *, round: int, rows: int, decision: str) -> dict[str, Any]:
    fill(owner_url, round=round, rows=rows, decision=decision)
    done = subprocess.run([sys.executable, "-c", RUN], env=env, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["problem"] is None, found
    let_go = found["done"]["purged discarded" if decision == "discard" else "released curated"]
    assert let_go == found["done"]["deleted unneeded"] == rows // IMAGES * IMAGES, found
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--reference", type=int, default=10_000)
    parser.add_argument("--told", action="store_true", help="discarded pictures, each purge told to a Broker")
    asked = parser.parse_args()
    decision = "discard" if asked.told else "accept"
    root = Path(tempfile.mkdtemp(prefix="visionsuit-bench-"))
    root.chmod(0o711)  # under root, Postgres runs as another user, who must get to its data
    supervisor, state = Supervisor(), State(root)
    broker = ThreadingHTTPServer(("127.0.0.1", 0), Taker)
    threading.Thread(target=broker.serve_forever, daemon=True).start()
    try:
        db, store = postgres.prepare(state), s3.prepare(state)
        supervisor.start(db.service, store.service)
        migrations.migrate(db.owner_url)
        owner = create_engine(db.owner_url, poolclass=NullPool)
        with owner.begin() as tx:
            row = {"id": "bench", "version": "1.0.0", "title": "t", "sha256": "0" * 64}
            tx.execute(PUBLISH, row | {"object_key": "k", "document": "{}"})
        env = dict(os.environ) | {
            "DATABASE_URL": db.app_url,
            "S3_ENDPOINT_URL": store.endpoint_url,
            "S3_ACCESS_KEY_ID": store.access_key,
            "S3_SECRET_ACCESS_KEY": store.secret_key,
            "K_SINK": f"http://127.0.0.1:{broker.server_port}",
            "REDIS_URL": "redis://127.0.0.1:1/0",
            "KEEP_CURATED_DAYS": "30",
        }
        began = time.monotonic()
        small = measure(env, db.owner_url, round=1, rows=asked.reference, decision=decision)
        large = measure(env, db.owner_url, round=2, rows=asked.rows, decision=decision)
    finally:
        supervisor.stop()
        state.close()
        broker.shutdown()
        shutil.rmtree(root, ignore_errors=True)
    value, reference = (one["peak_kib"] / 1024 for one in (large, small))
    line = {
        "name": "retention_memory",
        "value": round(value, 1),
        "unit": "MiB",
        "reference": f"the same over {asked.reference} pictures",
        "reference_value": round(reference, 1),
        "ratio": round(value / reference, 3),
        "goal": GOAL,
        "ok": value / reference <= GOAL,
        "rounds": 1,
        "rows": asked.rows,
        "seconds": round(large["seconds"], 1),
        "rows_per_s": round(asked.rows / large["seconds"]),
        "reference_rows_per_s": round(asked.reference / small["seconds"]),
        "seconds_in_all": round(time.monotonic() - began, 1),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
