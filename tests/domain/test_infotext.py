"""A picture tells how it came to be, in the words that other programs read."""

from making import a_job

from functions.domain.infotext import File, infotext

MODEL = File(kind="checkpoints", name="sdxl/harbour-xl.safetensors", sha256="ab" * 32)
INK = File(kind="loras", name="ink.safetensors", sha256=None)
FOG = File(kind="loras", name="fog.v2.safetensors", sha256="cd" * 32)


def test_a_picture_tells_its_prompt_its_loras_and_every_parameter() -> None:
    job = a_job(
        prompt="herons at dawn",
        negative_prompt="blurry",
        loras=({"id": "ink.safetensors", "strength": 0.8}, {"id": "fog.v2.safetensors", "strength": 1.0}),
        seed=2**64 - 1,
        parameters={"steps": 28, "sampler": "euler", "scheduler": "karras", "cfg": 7, "width": 768, "height": 512},
        workflow_id="txt2img",
        workflow_version="1.0.0",
        workflow_sha256="ef" * 32,
    )
    assert infotext(job, MODEL, [INK, FOG], comfyui_version="0.3.64").splitlines() == [
        "herons at dawn <lora:ink:0.8> <lora:fog.v2:1>",
        "Negative prompt: blurry",
        "Steps: 28, Sampler: euler, Schedule type: karras, CFG scale: 7, Seed: 18446744073709551615, Size: 768x512, "
        'Model hash: ababababab, Model: harbour-xl, Lora hashes: "fog.v2: cdcdcdcdcd", '
        "Workflow: txt2img 1.0.0 efefefefef, Version: ComfyUI 0.3.64",
    ]


def test_what_a_workflow_does_not_have_is_not_told() -> None:
    text = infotext(a_job(negative_prompt="", parameters={}), MODEL, [], comfyui_version="0.3.64")
    assert "Negative" not in text
    assert "Steps" not in text
    assert "Size" not in text


def test_line_breaks_emoji_and_other_scripts_stay_as_they_are() -> None:
    prompt = "夜明けの鷺 🪶\nبحيرة, foggy"
    assert infotext(a_job(prompt=prompt), MODEL, [], comfyui_version="0.3.64").startswith(prompt)
