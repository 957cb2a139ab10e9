"""What may be asked for: the workflows that ship with the release, and the models that lie in the models bucket.

Everything is put in place by its own name and only once, so running it again adds what is new and changes nothing else.

    --welcome USER   grant this user 500 credits, once
    --stand-in       put a few bytes that ComfyUI's stand-in takes for a model into an empty models bucket
"""

import argparse
from importlib.resources import files

from typer import echo

from functions.adapters import grants, models, postgres, storage, workflows
from functions.config import config

SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth")
EMPTY_SAFETENSORS = (2).to_bytes(8, "little") + b"{}"

options = argparse.ArgumentParser()
options.add_argument("--welcome", default="")
options.add_argument("--stand-in", action="store_true")
told = options.parse_args()
bucket = config().models_bucket


def lying_in_s3(kind: str) -> list[models.Model]:
    """The models of a kind that are in the bucket, by their names below the kind's folder."""
    pages = storage.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{kind}/")
    objects = [found for page in pages for found in page.get("Contents", []) if found["Key"].endswith(SUFFIXES)]
    return [
        models.Model(
            kind=kind,
            name=found["Key"].removeprefix(f"{kind}/"),
            object_key=found["Key"],
            sha256=None,  # learned by the first fetch
            size_bytes=found["Size"],
        )
        for found in objects
    ]


if told.stand_in and not lying_in_s3(models.CHECKPOINTS):
    key = f"{models.CHECKPOINTS}/stand-in.safetensors"
    storage.write_once(bucket, key, EMPTY_SAFETENSORS, content_type="application/octet-stream")
with postgres.transaction() as tx:
    for folder in sorted(files("functions").joinpath("workflows").iterdir(), key=lambda one: one.name):
        for document in sorted(folder.iterdir(), key=lambda one: one.name):
            echo(f"workflow {workflows.publish(tx, document.read_bytes()).id}")
    for kind in (models.CHECKPOINTS, models.LORAS):
        known = {model.name for model in models.all_of(tx, kind)}
        new = [model for model in lying_in_s3(kind) if model.name not in known]
        models.register(tx, new)
        echo(f"{kind}: {', '.join(model.name for model in new) or 'nothing new'}")
    if told.welcome:
        installer = grants.Admin(user_id="helm install", instruction="a trial")
        grants.give(tx, installer, told.welcome, 500, id="welcome", reason="welcome")
