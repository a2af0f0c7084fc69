# syntax=docker/dockerfile:1.7
# phenopipe on an NVIDIA GPU (driver 580 or newer): what cpu.Dockerfile makes, with CUDA's libraries
# from pip. The driver comes from the host.
#
#   docker build --file infra/docker/gpu.Dockerfile --build-arg GIT_SHA="$(git rev-parse HEAD)" \
#     --tag phenopipe:0.1.0-gpu .

FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d AS base

FROM base AS build
RUN pip install --no-cache-dir uv==0.12.7
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    VIRTUAL_ENV=/opt/venv
WORKDIR /opt/phenopipe
RUN uv venv "$VIRTUAL_ENV"
# Libraries change less often than the code: they are a layer of their own. onnxruntime is left out,
# for onnxruntime-gpu keeps its files in the same folder; CUDA 13 comes with the extras.
COPY pyproject.toml constraints.txt ./
RUN echo "onnxruntime; python_version < '3'" > /tmp/overrides.txt \
    && uv pip install --requirements pyproject.toml --extra gcp --extra gpu \
        "onnxruntime-gpu[cuda,cudnn]" "dask-cuda[cu13]" \
        --constraints constraints.txt --overrides /tmp/overrides.txt
COPY README.md ./
COPY phenopipe ./phenopipe
COPY flows ./flows
COPY tasks ./tasks
COPY deployments ./deployments
# Editable, so that deployments and imports name the same files.
RUN echo "hatchling==1.28.0" > /tmp/build.txt \
    && uv pip install --no-deps --build-constraints /tmp/build.txt --editable . \
    && /opt/venv/bin/python -m compileall -q phenopipe flows tasks deployments

FROM base
# The user is the one that Prefect's Helm charts run as. /scratch is for whoever runs the image.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini=0.19.0* \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1001 --user-group --home-dir /scratch --no-create-home phenopipe \
    && install --directory --mode 1777 /scratch
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/phenopipe /opt/phenopipe
COPY --chmod=755 infra/docker/entrypoint.sh /opt/prefect/entrypoint.sh
ARG GIT_SHA=unknown
LABEL org.opencontainers.image.revision=$GIT_SHA
# NVIDIA's container runtime reads its two variables; GKE lays the driver where LD_LIBRARY_PATH says.
ENV PATH=/opt/venv/bin:$PATH \
    LD_LIBRARY_PATH=/usr/local/nvidia/lib64 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONUNBUFFERED=1 \
    HOME=/scratch \
    TMPDIR=/scratch \
    DO_NOT_TRACK=1
WORKDIR /opt/phenopipe
USER 1001:1001
ENTRYPOINT ["/usr/bin/tini", "-g", "--"]
CMD ["phenopipe", "--help"]
