# Targets: api (no model runtime, decodes no picture), worker (the models on a CPU), worker-gpu (the models on CUDA),
# standalone (all in one process, with a PostgreSQL of its own), trainer (makes models; the only one with torch).
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    REGISTRY_DATA_DIR=/var/lib/identity-registry
# Folders that volumes are mounted on: a new volume takes the owner from here.
RUN groupadd --system --gid 10001 registry \
    && useradd --system --uid 10001 --gid registry --home-dir /app --shell /usr/sbin/nologin registry \
    && install -d -o registry -g registry -m 0755 /app /secrets/db /secrets/api /secrets/owner /secrets/worker /first-key \
    && install -d -o registry -g registry -m 0711 /var/lib/identity-registry \
    && install -d -o registry -g registry -m 0700 /var/lib/identity-registry/uploads
WORKDIR /app

FROM base AS packages
RUN python -m venv /opt/venv
COPY requirements/api.lock /tmp/
# Exactly the files whose hashes the lock names, and nothing that it does not.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --no-deps --require-hashes --requirement /tmp/api.lock

FROM packages AS packages-worker
COPY requirements/worker.lock /tmp/
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --no-deps --require-hashes --requirement /tmp/worker.lock

FROM packages-worker AS packages-worker-gpu
COPY requirements/worker-gpu.lock /tmp/
# ONNX Runtime for CUDA goes into the place of the one for CPUs; its extras bring the CUDA libraries.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip uninstall --yes onnxruntime \
    && pip install --no-deps --require-hashes --requirement /tmp/worker-gpu.lock

FROM packages-worker AS packages-standalone
COPY requirements/standalone.lock /tmp/
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --no-deps --require-hashes --requirement /tmp/standalone.lock

FROM packages-worker AS packages-trainer
# Empty: PyPI's torch, with CUDA. For CPUs alone, a tenth of the size: https://download.pytorch.org/whl/cpu
ARG TORCH_INDEX_URL=
COPY requirements/trainer.lock requirements/torch.txt /tmp/
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --no-deps --require-hashes --requirement /tmp/trainer.lock
RUN pip install --no-cache-dir ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} --requirement /tmp/torch.txt

FROM base AS code
COPY service /app/service
COPY migrations /app/migrations
COPY deploy/compose /app/deploy/compose
COPY pyproject.toml LICENSE NOTICE /app/
RUN python -m compileall -q /app/service /app/migrations

FROM base AS runtime
COPY --from=code /app /app
USER 10001:10001
STOPSIGNAL SIGTERM

FROM runtime AS serves-api
ENV REGISTRY_SERVER__HOST=0.0.0.0
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --start-interval=1s \
    CMD ["python", "deploy/compose/healthy.py", "http://127.0.0.1:8000/readyz"]

FROM runtime AS serves-models
ENV REGISTRY_WORKER__HOST=0.0.0.0
EXPOSE 8001
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --start-interval=1s \
    CMD ["python", "deploy/compose/healthy.py", "http://127.0.0.1:8001/healthz"]
CMD ["python", "-m", "service", "worker"]

FROM serves-api AS api
COPY --from=packages /opt/venv /opt/venv
CMD ["python", "-m", "service", "api"]

FROM serves-models AS worker
COPY --from=packages-worker /opt/venv /opt/venv

FROM serves-models AS worker-gpu
COPY --from=packages-worker-gpu /opt/venv /opt/venv
ENV REGISTRY_INFERENCE__DEVICE=cuda

FROM packages-trainer AS trainer
COPY --from=code /app /app
COPY trainer /app/trainer
COPY configs /app/configs
RUN install -d -o registry -g registry -m 0755 /app/runs
ENV MPLCONFIGDIR=/tmp/matplotlib
USER 10001:10001
VOLUME /app/runs
ENTRYPOINT ["python", "-m", "trainer"]
CMD ["--help"]

FROM serves-api AS standalone
COPY --from=packages-standalone /opt/venv /opt/venv
VOLUME /var/lib/identity-registry
CMD ["sh", "deploy/compose/standalone.sh"]
