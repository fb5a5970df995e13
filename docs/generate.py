"""Prints settings.md from the code: python docs/generate.py > docs/settings.md"""

import asyncio
from pathlib import Path

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from app.main import create_app
from app.settings import PREFIX, Settings

PAGE = """\
# Settings and metrics

This page is printed by `python docs/generate.py`; a test fails when it and the code differ.

## Settings

Each is an environment variable and a flag of `jepa serve`; the flag wins. A variable that starts with `{prefix}` and is
not listed here stops the service at the start, and the message names the nearest one that is.

| variable | flag | default | meaning |
|---|---|---|---|
{settings}

Keys are read at the start and have 16 or more characters. Several may be set, so that one can be replaced without a
gap: add the new key, move the bots over, remove the old one. Keys are never logged. `/livez`, `/readyz` and
their like in the Open Inference Protocol and gRPC never ask for one, `/metrics` only with `JEPA_METRICS_NEED_KEY`,
everything else always does.

An empty variable is as unset, as Compose and Helm write one that nobody set; but an empty `JEPA_API_KEYS_FILE` stops
the start, since without its name everybody would be let in.

Two variables belong to libraries. `jepa serve` sets them before it loads what reads them, unless they are set already:
`ORT_DISABLE_TELEMETRY=1`, because official builds of ONNX Runtime otherwise report their use to Microsoft, and
`OPENBLAS_NUM_THREADS=1`.

## Metrics

`/metrics` answers in the Prometheus text format. Counters and histograms of all worker processes are added up,
whichever process is scraped, and so are `process_*`. What to watch, and what to do about it, is in
[operations.md](operations.md#alerts).

| metric | kind | labels | what |
|---|---|---|---|
{metrics}

* A histogram `x` has the series `x_bucket`, `x_sum` and `x_count`. Durations have buckets at 8.3, 16.7 and 33.3 ms, the
  length of a frame at 120, 60 and 30 Hz, so the share of answers in time is one division.
* Frames of a stream count as requests of method `WS` and route `/stream`, gRPC calls as requests of method `GRPC`.
* `reason` of a refusal is one of the [types of errors](http.md#errors), with underscores.
* Rows over executions is the mean batch.
"""


def settings() -> list[str]:
    """A line of the table for each field."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None or isinstance(field.default, Path) else field.default
        rows.append(f"| `{PREFIX}{name.upper()}` | `--{name.replace('_', '-')}` | {default} | {field.description} |")
    return rows


def metrics(families: list[Metric]) -> list[str]:
    """A line of the table for each of the service's own families."""
    rows = []
    for family in sorted(families, key=lambda each: each.name):
        if family.name.startswith("jepa_"):
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")
            rows.append(f"| `{name}` | {family.type} | {', '.join(labels)} | {family.documentation} |")
    return rows


async def scrape() -> list[Metric]:
    """What a service says that has answered one request and refused another, so that every label has a value."""
    app = create_app(Settings())
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://docs") as client,
    ):
        (model,) = (await client.get("/models")).json()["models"]
        await client.post("/embed", json={"features": [0.0] * model["input_dim"]})
        await client.post("/embed", json={"features": []})
        return list(text_string_to_metric_families((await client.get("/metrics")).text))


if __name__ == "__main__":
    tables = {"settings": settings(), "metrics": metrics(asyncio.run(scrape()))}
    print(PAGE.format(prefix=PREFIX, **{name: "\n".join(rows) for name, rows in tables.items()}), end="")
