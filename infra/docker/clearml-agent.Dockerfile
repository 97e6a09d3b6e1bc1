# clearml-agent, which runs each task in a container of its own through the host's Docker socket.
# Build from the checkout: docker build -f infra/docker/clearml-agent.Dockerfile .
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm
ARG DOCKER_CLI_IMAGE=docker:27.5.1-cli

FROM ${DOCKER_CLI_IMAGE} AS docker-cli

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/trainyard
COPY requirements/images/clearml-agent.txt requirements/
RUN /opt/trainyard/bin/pip install --require-hashes --no-deps --only-binary :all: -r requirements/clearml-agent.txt \
 && /opt/trainyard/bin/pip check

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="trainyard-clearml-agent" \
      org.opencontainers.image.description="clearml-agent from locked packages, as an ordinary user" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update \
 && apt-get install --yes --no-install-recommends git \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 trainyard \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/trainyard --create-home --shell /usr/sbin/nologin trainyard
COPY --from=docker-cli /usr/local/bin/docker /usr/local/bin/docker
COPY --from=build /opt/trainyard /opt/trainyard
COPY --chmod=0755 infra/docker/clearml-agent-entrypoint.sh /usr/local/bin/clearml-agent-entrypoint
ENV PATH=/opt/trainyard/bin:$PATH \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/trainyard
# ClearML itself shows whether an agent lives: it has no page of its own to ask.
HEALTHCHECK NONE
ENTRYPOINT ["clearml-agent-entrypoint"]
