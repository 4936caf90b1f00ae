# One image for the service, the relay and the gateway. The command of the container chooses one of
# them. The image has the wheels of the service and of its Python client, and the locked
# requirements, on a slim Python without build tools.
#
# A release names its base by digest: --build-arg BASE=docker.io/library/python@sha256:...
ARG BASE=docker.io/library/python:3.13-slim-trixie
FROM ${BASE} AS build

# If a date is given, compiled Python files do not depend on the time of the installation.
ARG SOURCE_DATE_EPOCH
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_INPUT=1
WORKDIR /src

# The steps that change seldom come first, so that they are built seldom. The environment for the
# image has no pip: the pip of another environment installs into it. Each builder may have its own
# package index, so pip's configuration and the CA of the index are secrets of the build. No layer
# contains these secrets.
COPY requirements/build.txt requirements/image.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/run/secrets/ca \
    python3 -m venv /opt/pip \
    && python3 -m venv --without-pip /opt/session-authority \
    && /opt/pip/bin/pip --python /opt/session-authority/bin/python install \
        --require-hashes --only-binary :all: --requirement requirements/image.txt \
    && /opt/pip/bin/pip install \
        --require-hashes --only-binary :all: --requirement requirements/build.txt

COPY pyproject.toml README.md LICENSE ./
COPY session_authority/ session_authority/
COPY clients/python/pyproject.toml clients/python/README.md clients/python/LICENSE clients/python/
COPY clients/python/session_authority_client/ clients/python/session_authority_client/
# The files of a checkout may have any modes. In the image, all users can read them.
RUN chmod -R u=rwX,go=rX . \
    && /opt/pip/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir dist \
        . ./clients/python \
    && /opt/pip/bin/pip --python /opt/session-authority/bin/python install \
        --no-deps --no-index dist/*.whl
COPY scripts/prune_packages.py scripts/
RUN python3 scripts/prune_packages.py /opt/session-authority/lib/python3*/site-packages


FROM ${BASE}

ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Session Authority" \
      org.opencontainers.image.description="Says whether a session on a device is still good" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# Removes pip, and the packages that can install pip or build wheels, from the base image.
RUN python3 -B -c 'import importlib.util as u, pathlib, shutil; \
        found = (u.find_spec(name) for name in ("pip", "ensurepip", "setuptools", "wheel")); \
        [shutil.rmtree(pathlib.Path(spec.origin).parent) for spec in found if spec]' \
    && rm -f /usr/bin/pip* /usr/local/bin/pip*
COPY --from=build /opt/session-authority /opt/session-authority
# By default, the service listens on loopback, and only its own container could call it. On these
# addresses it starts only with TLS and an access policy: see docs/security.md.
ENV PATH=/opt/session-authority/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SESSION_AUTHORITY_LISTEN=0.0.0.0:50051 \
    SESSION_AUTHORITY_HEALTH_LISTEN=0.0.0.0:50052
# The user is a number, so that Kubernetes can see that the user is not root.
USER 65532:65532
EXPOSE 50051 50052
# Checks liveness and not readiness: some engines restart an unhealthy container, and a restart does
# not end an outage of Redis. A builder that writes the OCI format drops this line: see
# docs/operations.md.
HEALTHCHECK --interval=10s --timeout=10s --start-period=30s --retries=3 \
    CMD ["session-authority", "health", "--liveness"]
ENTRYPOINT ["session-authority"]
CMD ["serve"]
