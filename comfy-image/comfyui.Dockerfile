# The GPU pods: ComfyUI, and our package beside it for the runner (`python -m functions.render`). Each has a virtual
# environment of its own, because ComfyUI's libraries are not ours to choose. From the root of the project:
#   docker build -f comfy-image/comfyui.Dockerfile -t visionsuit/generator-comfyui:0.1.0 .
# torch's wheels bring CUDA's libraries; the base brings what the container runtime asks of the driver (580 or later).
FROM nvidia/cuda:13.0.2-base-ubuntu24.04 AS base
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

FROM base AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates git
# 0.3.64, by commit: a tag can be moved.
ARG COMFYUI_COMMIT=637221995f7424a561bd825de3e61ea117dfe1e3
RUN git init --quiet /opt/comfyui \
    && git -C /opt/comfyui fetch --quiet --depth 1 https://github.com/comfyanonymous/ComfyUI "$COMFYUI_COMMIT" \
    && git -C /opt/comfyui checkout --quiet FETCH_HEAD \
    && rm -rf /opt/comfyui/.git
WORKDIR /src
COPY comfy-image/comfyui.lock ./
RUN python3 -m venv /opt/comfyui-venv && /opt/comfyui-venv/bin/pip install --require-hashes -r comfyui.lock
COPY requirements-runtime.lock ./
RUN python3 -m venv /venv && /venv/bin/pip install --require-hashes -r requirements-runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY functions functions
RUN /venv/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /venv/bin/pip install --no-deps --target /app /wheels/*.whl \
    && /venv/bin/python -m compileall -q /app /opt/comfyui
COPY comfy-image/extra_model_paths.yaml /opt/comfyui/
COPY comfy-image/custom_nodes /opt/comfyui/custom_nodes
COPY comfy-image/healthcheck.py comfy-image/entrypoint.sh /opt/

FROM base
RUN groupadd --gid 10001 generator \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin generator \
    && install -d -o 10001 -g 10001 /work /models
COPY --from=build /opt /opt
COPY --from=build /venv /venv
COPY --from=build /app /app
# Nothing is written outside /work, /models, /tmp and /dev/shm, so the root file system may be read-only.
ENV PATH=/venv/bin:/app/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    HF_HUB_OFFLINE=1
WORKDIR /app
USER 10001:10001
EXPOSE 8188
HEALTHCHECK --interval=30s --timeout=10s --start-period=5m --retries=6 CMD ["python", "/opt/healthcheck.py"]
# ComfyUI's own arguments follow.
ENTRYPOINT ["/bin/sh", "/opt/entrypoint.sh"]
