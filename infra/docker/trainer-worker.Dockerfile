# The trainer worker, one image per trainer: TRAINER is sklearn, flaml or autogluon. Build from the checkout:
# docker build -f infra/docker/trainer-worker.Dockerfile --build-arg TRAINER=flaml .
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG TRAINER
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/build && python -m venv /opt/trainyard
COPY requirements/build.txt requirements/
COPY requirements/images/${TRAINER}.txt requirements/image.txt
RUN /opt/build/bin/pip install --require-hashes --no-deps --only-binary :all: -r requirements/build.txt \
 && /opt/trainyard/bin/pip install --require-hashes --no-deps --only-binary :all: -r requirements/image.txt
COPY schemas schemas
COPY runtime runtime
COPY services/trainer-worker services/trainer-worker
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels ./schemas ./runtime \
      ./services/trainer-worker \
 && /opt/trainyard/bin/pip install --no-deps --no-index /wheels/*.whl \
 && /opt/trainyard/bin/pip check

FROM ${PYTHON_IMAGE}
ARG TRAINER
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="trainyard-${TRAINER}-trainer" \
      org.opencontainers.image.description="Trainyard's trainer worker with the libraries of ${TRAINER}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# LightGBM and XGBoost link to the system's OpenMP.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 trainyard \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/trainyard --create-home --shell /usr/sbin/nologin trainyard
COPY --from=build /opt/trainyard /opt/trainyard
ENV PATH=/opt/trainyard/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TRAINYARD_HTTP_HOST=0.0.0.0 \
    TRAINYARD_HTTP_PORT=9999 \
    TRAINYARD_STATE_DIR=/var/lib/trainyard
USER 10001:10001
WORKDIR /var/lib/trainyard
EXPOSE 9999
HEALTHCHECK --interval=15s --timeout=6s --start-period=60s --retries=4 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['TRAINYARD_HTTP_PORT'] + '/healthz', timeout=5)"]
ENTRYPOINT ["python", "-m", "trainyard_trainer_worker"]
