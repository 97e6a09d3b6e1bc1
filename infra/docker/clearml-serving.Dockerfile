# clearml-serving's inference service, the unchanged wheel with what it imports and what our models need.
# Build from the checkout: docker build -f infra/docker/clearml-serving.Dockerfile .
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# Further packages for the models, such as autogluon.tabular==1.4.0; these are not locked.
ARG CLEARML_EXTRA_PYTHON_PACKAGES=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/trainyard
COPY requirements/images/clearml-serving.txt requirements/
RUN /opt/trainyard/bin/pip install --require-hashes --no-deps --only-binary :all: -r requirements/clearml-serving.txt \
 && /opt/trainyard/bin/pip check \
 && if [ -n "${CLEARML_EXTRA_PYTHON_PACKAGES}" ]; then /opt/trainyard/bin/pip install ${CLEARML_EXTRA_PYTHON_PACKAGES}; fi

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="trainyard-clearml-serving" \
      org.opencontainers.image.description="clearml-serving's inference service from locked packages, as an ordinary user" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# LightGBM and XGBoost link to the system's OpenMP.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 trainyard \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/trainyard --create-home --shell /usr/sbin/nologin trainyard
COPY --from=build /opt/trainyard /opt/trainyard
ENV PATH=/opt/trainyard/bin:$PATH \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/trainyard
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=6s --start-period=120s --retries=4 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/openapi.json', timeout=5)"]
ENTRYPOINT ["python", "-m", "uvicorn", "clearml_serving.serving.main:app", "--host", "0.0.0.0", "--port", "8080", "--log-level", "warning"]
