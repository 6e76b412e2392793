# The gateway in a container. Pictures, keys and the ledger stay on your machine; only what you ask a backend leaves it.
#
#     docker build -t tuwen .
#     docker run -p 8000:8000 -v tuwen:/data tuwen
#
# The first start shows the admin key once: docker logs. Settings are TUWEN_* variables, see .env.example; a .env or
# models.local.toml in /data is read as well.

FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/build /opt/tuwen
COPY requirements-build.lock requirements.lock ./
RUN /opt/build/bin/pip install --require-hashes -r requirements-build.lock
RUN /opt/tuwen/bin/pip install --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE models.toml ./
COPY app app
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist .
RUN /opt/tuwen/bin/pip install --no-deps dist/*.whl && mkdir /data

FROM python:3.11-slim
COPY --from=build /opt/tuwen /opt/tuwen
COPY --from=build --chown=10001:10001 /data /data
# glibc gives blocks of a picture's size back to the kernel after each request and asks for them anew. Told not to, it
# saves a quarter to a third of the CPU a 1 MiB picture costs, for up to 10 MiB of memory.
ENV PATH=/opt/tuwen/bin:$PATH \
    HOME=/data \
    PYTHONUNBUFFERED=1 \
    MALLOC_MMAP_THRESHOLD_=33554432 \
    MALLOC_TRIM_THRESHOLD_=67108864 \
    TUWEN_HOST=0.0.0.0 \
    TUWEN_PORT=8000 \
    TUWEN_DATA_DIR=/data
WORKDIR /data
USER 10001:10001
VOLUME /data
EXPOSE 8000
# Whether it lives. Whether to send requests is another question, which GET /readyz answers: it is red while the gateway
# finishes its answers, and nobody should kill it for that.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['TUWEN_PORT']), timeout=2); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["tuwen"]
CMD ["serve"]
