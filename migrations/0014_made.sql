-- What a job's pictures were made with, and more kinds of files to make them with.

-- ComfyUI's version, the graph's digest, the model files and their digests.
ALTER TABLE generator_job ADD COLUMN made jsonb;
GRANT UPDATE (made) ON generator_job
    TO generator_debit, generator_dispatch, generator_render, generator_complete, generator_review, generator_cancel;

-- The folders of ComfyUI's that workflows name files of; a test holds them to FOLDERS in functions/domain/parameter.py.
ALTER TABLE generator_model DROP CONSTRAINT generator_model_kind_check;
ALTER TABLE generator_model ADD CONSTRAINT generator_model_kind_check CHECK (kind IN ('checkpoints', 'loras', 'vae',
    'diffusion_models', 'text_encoders', 'upscale_models', 'controlnet', 'clip_vision'));

-- A picture that a job begins with is looked up when it is asked for and again when it is fetched.
GRANT SELECT (id, job_id, object_key, sha256, content_type, size_bytes, decision) ON generator_artifact
    TO generator_submit, generator_render;
