# The gateway without a compiler or a package manager's cache in it; Redis is a container of its own.
FROM python:3.11-slim AS packages
COPY requirements.txt /tmp/requirements.txt
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /tmp/requirements.txt

FROM python:3.11-slim
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PLUMISE_DATA_DIR=/data
RUN useradd --system --uid 10001 --no-create-home plumise \
    && install --directory --owner 10001 --mode 0700 /data
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY app.py ./
COPY preload.py ./
COPY conf conf/
COPY core core/
COPY blueprints blueprints/
COPY workers workers/
USER 10001
VOLUME /data
EXPOSE 3200
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ.get('PORT') or 3200}/health\", timeout=2)"]
CMD ["python", "app.py"]
