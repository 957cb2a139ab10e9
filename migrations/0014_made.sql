-- What a job's pictures were made with: ComfyUI's version, the graph's digest, the model files and their digests.
ALTER TABLE generator_job ADD COLUMN made jsonb;
GRANT UPDATE (made) ON generator_job
    TO generator_debit, generator_dispatch, generator_render, generator_complete, generator_review, generator_cancel;
