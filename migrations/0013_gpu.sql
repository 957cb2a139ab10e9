-- What runners tell of their GPU, beside what they tell of each render, by the move that ended it; what was not told is null.
CREATE OR REPLACE VIEW metric_render AS
SELECT move.id AS number, job.pool, (report.data ->> 'render_ms')::bigint AS ms,
       generator_job_work(job.parameters, job.images) AS work,
       (report.data ->> 'cold_start')::boolean AS cold_start,
       (report.data ->> 'cache_hits')::bigint AS cache_hits,
       (report.data ->> 'cache_misses')::bigint AS cache_misses,
       (report.data ->> 'fetched_bytes')::bigint AS fetched_bytes,
       (report.data ->> 'vram_total_bytes')::bigint AS vram_total_bytes,
       (report.data ->> 'vram_free_bytes')::bigint AS vram_free_bytes,
       move.at,
       coalesce(report.data ->> 'node', '') AS node,
       report.data ->> 'gpu' AS gpu,
       (report.data ->> 'gpu_utilisation_percent')::float8 AS gpu_utilisation_percent,
       (report.data ->> 'gpu_temperature_c')::integer AS gpu_temperature_c,
       (report.data ->> 'gpu_errors')::integer AS gpu_errors
FROM generator_job_transition AS move
JOIN generator_job AS job ON job.id = move.job_id
JOIN outbox AS report ON report.source = '/functions/render'
     AND report.id = move.job_id || ':render.succeeded:' || move.attempt
WHERE move.to_state = 'awaiting_review';
