FROM python:3.11-slim-bookworm AS build
WORKDIR /src
# Without pip of its own: the image that runs has nothing that installs.
RUN python -m venv --without-pip /opt/jepa
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY app app
COPY cli cli
COPY model model
# libonnxruntime.so is for programs in other languages: the Python module has all of it linked in (35 MB).
RUN python -m pip --python /opt/jepa/bin/python install --no-cache-dir --no-compile -c constraints.txt . \
 && find /opt/jepa -depth \( -name __pycache__ -o -name tests -o -name 'libonnxruntime.so*' \) -exec rm -rf {} +

FROM python:3.11-slim-bookworm
COPY --from=build /opt/jepa /opt/jepa
ENV PATH=/opt/jepa/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    JEPA_HOST=0.0.0.0
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import os, httpx; httpx.get(f\"http://127.0.0.1:{os.environ.get('JEPA_PORT', '8000')}/readyz\").raise_for_status()"]
CMD ["jepa", "serve"]
