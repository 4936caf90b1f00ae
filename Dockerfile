# The service as an image: its wheel and the locked requirements on a slim Python, nothing that
# builds.
FROM python:3.13-slim-trixie AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_INPUT=1
WORKDIR /src

# What changes seldom comes first, so that it is built seldom.
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN python -m venv --without-pip /opt/session-authority \
    && pip --python /opt/session-authority/bin/python install \
        --require-hashes --only-binary :all: --requirement requirements/runtime.txt \
    && pip install --require-hashes --only-binary :all: --requirement requirements/build.txt

COPY pyproject.toml README.md LICENSE ./
COPY session_authority/ session_authority/
RUN pip wheel --no-deps --no-build-isolation --no-index --wheel-dir dist . \
    && pip --python /opt/session-authority/bin/python install --no-deps --no-index dist/*.whl


FROM python:3.13-slim-trixie

COPY --from=build /opt/session-authority /opt/session-authority
# Elsewhere than in its container nobody could call it. It starts with TLS and an access policy
# only: see docs/security.md.
ENV PATH=/opt/session-authority/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SESSION_AUTHORITY_LISTEN=0.0.0.0:50051 \
    SESSION_AUTHORITY_HEALTH_LISTEN=0.0.0.0:50052
RUN python -m pip uninstall --yes pip
USER 65532:65532
EXPOSE 50051 50052
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["session-authority", "health"]
ENTRYPOINT ["session-authority"]
CMD ["serve"]
