# The proxy's image: docker build --tag switch-proxy .   (or `make image`)
# BASE is any Debian-based image with Python 3.11 or later as `python3`, and its `venv`. The files that the proxy needs are
# collected from it into a new image: no shell, no package manager, no pip, no compiler.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
# Layers that seldom change come first, so that a change of the code rebuilds little.
COPY requirements-image.lock requirements-build.lock ./
# Only wheels, with the hashes of the lock file: no code of a package runs here.
RUN python3 -m venv /build \
 && /build/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --only-binary :all: \
      -r requirements-build.lock \
 && python3 -m venv --without-pip /opt/switch-proxy \
 && /build/bin/pip --python /opt/switch-proxy/bin/python install --no-cache-dir --disable-pip-version-check --no-compile \
      --require-hashes --only-binary :all: -r requirements-image.lock
COPY pyproject.toml README.md LICENSE ./
COPY proxy proxy
RUN /build/bin/pip wheel --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /build/bin/pip --python /opt/switch-proxy/bin/python install --no-cache-dir --disable-pip-version-check --no-compile \
      --no-deps --no-index /wheels/*.whl
# Byte-compiled here, because the root file system may be read-only when it runs.
COPY docker/collect.py ./
RUN python3 collect.py /image /opt/switch-proxy 65532:65532
COPY docker/config.yaml /image/etc/switch-proxy/config.yaml
COPY LICENSE /image/usr/share/doc/switch-proxy/copyright

FROM scratch
ARG VERSION=""
ARG REVISION=""
ARG CREATED=""
LABEL org.opencontainers.image.title="switch-proxy" \
      org.opencontainers.image.description="A sidecar that lets an app call the Switch API without ever touching a secret" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
COPY --from=build /image /
ENV PATH=/opt/switch-proxy/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    SWITCH_PROXY_CONFIG=/etc/switch-proxy/config.yaml
# A number, so that Kubernetes can see that it is not root. This user owns no file of the image.
USER 65532:65532
EXPOSE 8080 9901
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["switch-proxy", "health"]
ENTRYPOINT ["switch-proxy"]
CMD ["run"]
