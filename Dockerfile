FROM python:3.11-slim-bookworm AS build
WORKDIR /src
# Without pip: the environment copied from here only runs.
RUN python -m venv --without-pip /opt/jepa
# Everything installed, including what builds the project's own wheel, is checked against the hashes in requirements/.
COPY requirements requirements
RUN python -m pip install --no-cache-dir --require-hashes -r requirements/build.txt \
 && python -m pip --python /opt/jepa/bin/python install --no-cache-dir --no-compile --require-hashes -r requirements/serve.txt
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY bundle bundle
COPY cli cli
COPY model model
# The Python module links in all of ONNX Runtime; libonnxruntime.so (35 MB) is for programs in other languages.
RUN python -m pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheel . \
 && python -m pip --python /opt/jepa/bin/python install --no-index --no-deps --no-compile /wheel/*.whl \
 && find /opt/jepa -depth \( -name __pycache__ -o -name tests -o -name 'libonnxruntime.so*' \) -exec rm -rf {} +

FROM python:3.11-slim-bookworm
COPY --from=build /opt/jepa /opt/jepa
# ONNX Runtime sends telemetry to Microsoft unless this is set before it loads.
ENV ORT_DISABLE_TELEMETRY=1 \
    PATH=/opt/jepa/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    JEPA_HOST=0.0.0.0
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
# http.client starts in a third of the time that httpx takes, which leaves the CPU to the frames.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import os, ssl, sys, http.client; e = os.environ.get; a = '127.0.0.1', int(e('JEPA_PORT') or e('PORT') or 8000); c = http.client.HTTPSConnection(*a, timeout=2, context=ssl._create_unverified_context()) if e('JEPA_TLS_CERT_FILE') else http.client.HTTPConnection(*a, timeout=2); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
CMD ["jepa", "serve"]
