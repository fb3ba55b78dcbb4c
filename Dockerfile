# The service as an image: the wheel and its locked run-time packages, nothing from apt. The headless OpenCV
# wheel and ONNX Runtime need only libc, libm, libstdc++, libgcc_s and libz, which the slim image has.

FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements-build.lock ./
RUN pip install --no-deps --only-binary :all: --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY inspector/ inspector/
COPY reports/ reports/
COPY pipelines/ pipelines/
RUN pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /wheels .

FROM python:3.11-slim
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.lock /wheels/
RUN pip install --no-deps --only-binary :all: --require-hashes -r /wheels/requirements.lock
COPY --from=build /wheels/ /wheels/
RUN pip install --no-deps --no-index /wheels/*.whl && pip check
RUN useradd --system --uid 10001 --home-dir /data inspector && install -d -o inspector -g inspector /data
USER 10001
WORKDIR /data
ENV INSPECTOR_DATA_DIR=/data PYTHONUNBUFFERED=1
VOLUME /data
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9464/healthz', timeout=4)"]
ENTRYPOINT ["inspector"]
CMD ["run", "/config/station.yaml"]
