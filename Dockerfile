# The framework, its packages and its CUDA kernels, on an official PyTorch image. docs/container.md says how to use it.
# devel, because the kernels are compiled with its nvcc. Its torch must be the one that requirements.txt names.
ARG BASE=pytorch/pytorch:2.13.0-cuda13.0-cudnn9-devel
FROM ${BASE}

# For the kernels' build, where the base lacks them. Versions are the base distribution's.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ python3-dev \
    && rm -rf /var/lib/apt/lists/* \
    && { command -v python > /dev/null || ln -s "$(command -v python3)" /usr/local/bin/python; }

# The base's torch stays as it is: another one than requirements.txt names ends the build here.
WORKDIR /tmp/requirements
COPY requirements.txt requirements-weights.txt ./
ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -c "from importlib.metadata import version; print('torch==' + version('torch'))" > base.txt \
    && python -m pip install --requirement requirements.txt --constraint base.txt \
    && python -m pip install --no-deps --requirement requirements-weights.txt

# The kernels, ahead of time and without a GPU: for the architectures of ARCH, or else for those that build.py names.
# A build is known by what is in csrc/, so a checkout mounted later finds it; who changes csrc/ builds beside it.
WORKDIR /workspace
COPY dnnlib dnnlib
COPY torch_utils torch_utils
ARG ARCH=""
ENV TORCH_EXTENSIONS_DIR=/opt/torch_extensions
RUN PYTHONDONTWRITEBYTECODE=1 python -m torch_utils.ops.build ${ARCH:+--arch "${ARCH}"} \
    && chmod 1777 /opt/torch_extensions

# What .dockerignore lets through: the code, no pictures. docker_run.sh mounts the checkout over it.
COPY . .

RUN useradd --create-home --uid 10001 arcbiface
USER 10001
CMD ["bash"]
