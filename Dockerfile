# Any command of ridgeline: docker build -t ridgeline . && docker run --rm ridgeline predict serving --help
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY src ./src
COPY docs/accuracy.md docs/coverage.md ./docs/
RUN python -m venv /opt/ridgeline \
 && /opt/ridgeline/bin/python -m pip install --no-cache-dir --disable-pip-version-check -c constraints.txt '.[web]'

FROM python:3.12-slim
COPY --from=build /opt/ridgeline /opt/ridgeline
ENV PATH=/opt/ridgeline/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --create-home ridgeline
USER ridgeline
WORKDIR /home/ridgeline
EXPOSE 8000
ENTRYPOINT ["ridgeline"]
CMD ["--help"]
