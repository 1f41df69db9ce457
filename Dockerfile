# Targets: api (no model runtime, decodes no picture), worker (the models on a CPU; no database driver), worker-gpu (the
# models on CUDA), standalone (all in one process, with an embedded PostgreSQL), trainer (the only one with PyTorch),
# studio (the web interface).
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    REGISTRY_DATA_DIR=/var/lib/identity-registry
# Volumes are mounted on these folders: a new volume takes the owner of the folder.
RUN groupadd --system --gid 10001 registry \
    && useradd --system --uid 10001 --gid registry --home-dir /app --shell /usr/sbin/nologin registry \
    && install -d -o registry -g registry -m 0755 /app /first-key \
    && install -d -o registry -g registry -m 0755 /secrets/db /secrets/api /secrets/owner /secrets/worker \
    && install -d -o registry -g registry -m 0711 /var/lib/identity-registry \
    && install -d -o registry -g registry -m 0700 /var/lib/identity-registry/uploads
WORKDIR /app

# One environment per target, installed from its lock file; pip checks the hashes.
FROM base AS environment
RUN python -m venv /opt/venv

FROM environment AS packages-api
COPY requirements/api.lock /tmp/
RUN --mount=type=cache,target=/root/.cache/pip pip install --no-deps --require-hashes --requirement /tmp/api.lock

FROM environment AS packages-worker
COPY requirements/worker.lock /tmp/
RUN --mount=type=cache,target=/root/.cache/pip pip install --no-deps --require-hashes --requirement /tmp/worker.lock

FROM environment AS packages-worker-gpu
COPY requirements/worker-gpu.lock /tmp/
RUN --mount=type=cache,target=/root/.cache/pip pip install --no-deps --require-hashes --requirement /tmp/worker-gpu.lock

FROM environment AS packages-standalone
COPY requirements/standalone.lock /tmp/
RUN --mount=type=cache,target=/root/.cache/pip pip install --no-deps --require-hashes --requirement /tmp/standalone.lock

FROM environment AS packages-studio
COPY requirements/studio.lock /tmp/
RUN --mount=type=cache,target=/root/.cache/pip pip install --no-deps --require-hashes --requirement /tmp/studio.lock

FROM environment AS packages-trainer
# Empty: installs PyTorch with CUDA and checks its hashes. Otherwise: the index of another build, for example the CPU
# build, which has a tenth of the size; only the version is then fixed, not the hash.
ARG TORCH_INDEX_URL=
COPY requirements/trainer.lock requirements/torch.lock /tmp/
RUN --mount=type=cache,target=/root/.cache/pip pip install --no-deps --require-hashes --requirement /tmp/trainer.lock
RUN if [ -z "$TORCH_INDEX_URL" ]; then \
      pip install --no-cache-dir --no-deps --require-hashes --requirement /tmp/torch.lock; \
    else \
      pip install --no-cache-dir --index-url "$TORCH_INDEX_URL" \
        $(sed -nE 's/^((torch|torchvision)==[^ ]+).*/\1/p' /tmp/torch.lock); \
    fi

# The wheels of this project (packages, models, migrations, console scripts) and of its client.
FROM environment AS wheel
COPY requirements/build.lock /tmp/
RUN --mount=type=cache,target=/root/.cache/pip pip install --no-deps --require-hashes --requirement /tmp/build.lock
COPY pyproject.toml README.md LICENSE NOTICE /source/
COPY service /source/service
COPY trainer /source/trainer
COPY migrations /source/migrations
COPY clients/python /source/clients/python
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels /source /source/clients/python

FROM base AS serves-api
COPY deploy/compose /app/deploy/compose
ENV REGISTRY_SERVER__HOST=0.0.0.0
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --start-interval=1s \
    CMD ["python", "deploy/compose/health.py", "http://127.0.0.1:8000/readyz"]

FROM base AS serves-models
COPY deploy/compose /app/deploy/compose
ENV REGISTRY_WORKER__HOST=0.0.0.0
EXPOSE 8001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --start-interval=1s \
    CMD ["python", "deploy/compose/health.py", "http://127.0.0.1:8001/healthz"]
CMD ["identity-registry", "worker"]

FROM serves-api AS api
COPY --from=packages-api /opt/venv /opt/venv
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --no-deps /wheels/identity_registry-*.whl
USER 10001:10001
CMD ["identity-registry", "serve"]

FROM serves-models AS worker
COPY --from=packages-worker /opt/venv /opt/venv
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --no-deps /wheels/identity_registry-*.whl
USER 10001:10001

FROM serves-models AS worker-gpu
COPY --from=packages-worker-gpu /opt/venv /opt/venv
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --no-deps /wheels/identity_registry-*.whl
ENV REGISTRY_INFERENCE__DEVICE=cuda
USER 10001:10001

FROM base AS trainer
COPY --from=packages-trainer /opt/venv /opt/venv
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --no-deps /wheels/*.whl
COPY configs /app/configs
RUN install -d -o registry -g registry -m 0755 /app/runs
ENV MPLCONFIGDIR=/tmp/matplotlib
USER 10001:10001
STOPSIGNAL SIGTERM
VOLUME /app/runs
ENTRYPOINT ["identity-trainer"]
CMD ["--help"]

FROM serves-api AS standalone
COPY --from=packages-standalone /opt/venv /opt/venv
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --no-deps /wheels/identity_registry-*.whl
USER 10001:10001
VOLUME /var/lib/identity-registry
CMD ["sh", "deploy/compose/standalone.sh"]

# Without options: the web interface of another registry. `identity-registry serve` runs here too, as in `standalone`.
FROM base AS studio
COPY --from=packages-studio /opt/venv /opt/venv
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --no-deps /wheels/*.whl
COPY deploy/compose /app/deploy/compose
COPY deploy/render /app/deploy/render
ENV MPLCONFIGDIR=/tmp/matplotlib
USER 10001:10001
EXPOSE 7860
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --start-interval=1s \
    CMD ["python", "deploy/compose/health.py", "http://127.0.0.1:7860/en/"]
CMD ["identity-registry", "studio", "--host", "0.0.0.0"]
