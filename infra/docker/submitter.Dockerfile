# The command line (`trainyard submit`, `runs`, `topics`) and the run page (`trainyard gateway`). Build from the checkout:
# docker build -f infra/docker/submitter.Dockerfile .
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/build && python -m venv /opt/trainyard
COPY requirements/build.txt requirements/images/submitter.txt requirements/
RUN /opt/build/bin/pip install --require-hashes --no-deps --only-binary :all: -r requirements/build.txt \
 && /opt/trainyard/bin/pip install --require-hashes --no-deps --only-binary :all: -r requirements/submitter.txt
COPY schemas schemas
COPY runtime runtime
COPY services/submitter services/submitter
COPY services/dispatcher services/dispatcher
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels ./schemas ./runtime ./services/submitter \
      ./services/dispatcher \
 && /opt/trainyard/bin/pip install --no-deps --no-index /wheels/*.whl \
 && /opt/trainyard/bin/pip check

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="trainyard-submitter" \
      org.opencontainers.image.description="Trainyard's command line and run page: submit runs, follow them, create the topics" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 trainyard \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/trainyard --create-home --shell /usr/sbin/nologin trainyard
COPY --from=build /opt/trainyard /opt/trainyard
ENV PATH=/opt/trainyard/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /var/lib/trainyard
HEALTHCHECK NONE
ENTRYPOINT ["python", "-m", "trainyard_submitter"]
