"""Every workflow that ships renders through the whole house, and takes what it says it takes."""

from typing import Any

import pytest
import requests
from live import Stack

from functions.adapters import artifacts, postgres, workflows
from functions.domain.job import State
from functions.domain.parameter import FOLDERS, Type
from functions.domain.workflow import Workflow

SHIPPED = {workflow.id: workflow for workflow in map(Workflow.parse, workflows.shipped())}
OF_THEIR_OWN: dict[str, dict[str, Any]] = {
    "hires": {"parameters": {"enlarge": 2, "second_steps": 2}},
    "sdxl-refiner": {"model": "harbour-xl.safetensors", "parameters": {"refine_from_step": 3}},
    "flux": {"model": "harbour-flux.safetensors"},
}


def painted(stack: Stack, user: str, workflow: str, **fields: Any) -> list[artifacts.Kept]:
    request = stack.request(workflow={"id": workflow}, **OF_THEIR_OWN.get(workflow, {}) | fields)
    job = stack.wait(stack.speaking_for(user).ask(request), State.AWAITING_REVIEW, State.FAILED)
    assert (job.state, job.detail) == (State.AWAITING_REVIEW, None)
    with postgres.transaction() as tx:
        return artifacts.of_jobs(tx, [job.id])


def refused(stack: Stack, user: str, **fields: Any) -> dict[str, Any]:
    """The answer to a quote for a request that is none."""
    answer = requests.post(
        f"{stack.api_url}/v1/quotes",
        json=stack.request(**fields),
        headers={"Authorization": f"Bearer {stack.sign(user)}"},
        timeout=10,
    )
    assert answer.status_code in (404, 422), answer.text
    problem: dict[str, Any] = answer.json()
    return problem


@pytest.mark.parametrize("workflow", sorted(SHIPPED.keys() - {"img2img"}))
def test_it_paints(stack: Stack, user: str, workflow: str) -> None:
    [picture] = painted(stack, user, workflow, loras=[{"id": "ink-wash.safetensors", "strength": 0.5}])
    times = 2 if workflow == "hires" else 1
    assert (picture.width_px, picture.height_px) == (64 * times, 64 * times)


def test_a_picture_may_begin_with_an_earlier_one_of_ones_own(stack: Stack, user: str) -> None:
    [first] = painted(stack, user, "txt2img")
    [second] = painted(stack, user, "img2img", parameters={"image": first.id, "denoise": 0.4}, width=96, seed="3")
    assert (second.width_px, second.height_px) == (96, 64)
    [again] = painted(stack, user, "img2img", parameters={"image": first.id, "denoise": 0.4}, width=96, seed="3")
    assert again.sha256 == second.sha256
    problem = refused(stack, f"{user}-other", workflow={"id": "img2img"}, parameters={"image": first.id})
    assert problem["code"] == "unknown_artifact", "nobody else's"


def test_what_a_workflow_does_not_have_is_refused_by_name(stack: Stack, user: str) -> None:
    assert refused(stack, user, parameters={"denoise": 0.5})["code"] == "parameter_unknown"
    assert refused(stack, user, parameters={"steps": 5})["field"] == "parameters.steps"
    assert refused(stack, user, workflow={"id": "hires"}, parameters={"enlarge": 9})["code"] == "parameter_out_of_range"
    assert refused(stack, user, workflow={"id": "flux"})["code"] == "unknown_model", (
        "a checkpoint is none of its models"
    )
    assert refused(stack, user, workflow={"id": "img2img"})["code"] == "parameter_missing"


@pytest.mark.parametrize("workflow", SHIPPED.values(), ids=SHIPPED)
def test_each_takes_a_prompt_a_model_and_a_seed_and_says_what_it_needs(workflow: Workflow) -> None:
    assert {"prompt", "model", "seed", "width", "height", "steps"} <= workflow.parameters.keys()
    assert workflow.vram_gib
    files = [one for one in workflow.parameters.values() if one.type is Type.MODEL and one.name != "model"]
    assert all(one.default for one in files), "a file of the workflow's own has a name"


def test_the_database_takes_every_kind_of_file_that_a_workflow_may_name(stack: Stack) -> None:
    with postgres.transaction() as tx:
        check = tx.exec_driver_sql(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'generator_model_kind_check'"
        ).scalar_one()
    assert {kind for kind in FOLDERS if f"'{kind}'" in check} == set(FOLDERS)
