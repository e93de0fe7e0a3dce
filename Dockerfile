FROM python:3.11-slim AS build
# Extras of the image, for example EXTRAS=worker for a node without the API.
ARG EXTRAS=worker,api,flower,onnx
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/shunter
WORKDIR /src
COPY . .
# Where the default torch build is not the wanted one, pass pip's own PIP_EXTRA_INDEX_URL as a build argument.
ARG PIP_EXTRA_INDEX_URL=
RUN /opt/shunter/bin/pip install -c constraints.txt ".[${EXTRAS}]"

FROM python:3.11-slim
RUN useradd --system --uid 10001 --create-home shunter \
    && install -d -o shunter -g shunter /data /models
COPY --from=build /opt/shunter /opt/shunter
ENV PATH=/opt/shunter/bin:$PATH PYTHONUNBUFFERED=1
USER shunter
WORKDIR /home/shunter
ENTRYPOINT ["shunter"]
CMD ["--help"]
