# The explorer on the bundled model, for a server or a Hugging Face Space (deploy/space). What it needs: a volume or a
# tmpfs at /workspace and a tmpfs at /tmp; all else may be read-only:
#
#   docker build -t eigenprune .
#   docker run --read-only --tmpfs /tmp --tmpfs /workspace:uid=1000 --cap-drop ALL \
#       --security-opt no-new-privileges -p 127.0.0.1:8501:8501 eigenprune

FROM python:3.11-slim

RUN useradd --uid 1000 --no-create-home explorer && install -d -o explorer /workspace
WORKDIR /src
COPY . .
# PyTorch's own index has the CPU build of the version in constraints.txt.
RUN pip install --no-cache-dir -c constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu \
        '.[notebook]' \
    && install -m 755 deploy/start.sh /usr/local/bin/start-explorer && rm -rf /src/*

USER explorer
WORKDIR /workspace
ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1 \
    EIGENPRUNE_CACHE=/workspace/cache EIGENPRUNE_WORKSPACE=/workspace/work \
    EIGENPRUNE_READONLY=1 EIGENPRUNE_MODELS=bundled \
    EIGENPRUNE_HOSTS=localhost,127.0.0.1 PORT=8501
EXPOSE 8501
HEALTHCHECK --start-period=60s CMD python -c \
    "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/_stcore/health', timeout=5)"
CMD ["start-explorer"]
