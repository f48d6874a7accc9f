# The proxy's image: docker build --tag switch-proxy .
# BASE is any image with Python 3.11 or later as `python3`; both stages have the same one.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
# What changes seldom comes first, so that a change of the code rebuilds little.
COPY requirements.lock requirements-build.lock ./
# Wheels alone, each with the hash that the lock file knows: no compiler, and no code of a package runs here.
RUN python3 -m venv /build \
 && /build/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --only-binary :all: \
      -r requirements-build.lock \
 && python3 -m venv --without-pip /opt/switch-proxy \
 && /build/bin/pip --python /opt/switch-proxy/bin/python install --no-cache-dir --disable-pip-version-check --no-compile \
      --require-hashes --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY proxy proxy
# Byte-compiled once here, and not checked against the source at each start: the root file system may be read-only.
RUN /build/bin/pip wheel --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /build/bin/pip --python /opt/switch-proxy/bin/python install --no-cache-dir --disable-pip-version-check --no-compile \
      --no-deps --no-index /wheels/*.whl \
 && /opt/switch-proxy/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/switch-proxy/lib
COPY docker/config.yaml /etc/switch-proxy/config.yaml

FROM ${BASE}
ARG VERSION=""
LABEL org.opencontainers.image.title="switch-proxy" \
      org.opencontainers.image.description="A sidecar that lets an app call the Switch API without ever touching a secret" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /opt/switch-proxy /opt/switch-proxy
COPY --from=build /etc/switch-proxy /etc/switch-proxy
ENV PATH=/opt/switch-proxy/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    SWITCH_PROXY_CONFIG=/etc/switch-proxy/config.yaml
# A number, so that Kubernetes can see that it is not root; nobody of that number owns a file of the image.
USER 65532:65532
EXPOSE 8080 9901
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["switch-proxy", "health"]
ENTRYPOINT ["switch-proxy"]
CMD ["run"]
