# The functions, the migrations and vsgen in one image; FUNCTION_TARGET picks the verb. From the root of the project:
#   docker build -f comfy-image/functions.Dockerfile -t visionsuit/generator-functions:0.1.0 .
FROM python:3.11.14-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements-runtime.lock ./
RUN python -m venv /venv && /venv/bin/pip install --require-hashes -r requirements-runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY functions functions
RUN /venv/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /venv/bin/pip install --no-deps --target /app /wheels/*.whl \
    && /venv/bin/python -m compileall -q /app
# Beside the package, where `vsgen migrate` looks for them.
COPY migrations /app/migrations

FROM python:3.11.14-slim-bookworm
RUN groupadd --gid 10001 generator \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin generator
COPY --from=build /venv /venv
COPY --from=build /app /app
# Nothing is written outside /tmp, so the root file system may be read-only.
ENV PATH=/venv/bin:/app/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    FUNCTION_SOURCE=functions/serve.py
WORKDIR /app
USER 10001:10001
EXPOSE 8080
CMD ["functions-framework", "--asgi"]
