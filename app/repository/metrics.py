"""Gauges of the models that are served."""

import platform
from collections.abc import Iterator, Mapping

import onnxruntime
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app import __version__
from app.repository.registry import Registry
from app.telemetry.novelty import overall
from bundle.columns import KINDS

INFO_LABELS = ("model", "version", "precision", "precision_reason", "schema_hash")


class ModelMetrics(Collector):
    """What is served; every worker serves the same, but for the moment in which a model changes."""

    def __init__(self, models: Registry, layout: Mapping[str, int]) -> None:
        self._models, self._layout = models, layout

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("jepa_build_info", "Always 1", labels=["version", "python", "onnxruntime"])
        build.add_metric([__version__, platform.python_version(), onnxruntime.__version__], 1)
        info = GaugeMetricFamily("jepa_model_info", "Always 1", labels=INFO_LABELS)
        load = GaugeMetricFamily("jepa_model_load_duration_seconds", "Time the load took", labels=["model"])
        layout = GaugeMetricFamily("jepa_layout", "Processes, and threads of each", labels=["of"])
        for of, number in self._layout.items():
            layout.add_metric([of], number)
        limit = GaugeMetricFamily("jepa_batch_rows_limit", "Most rows in a run", labels=["model", "graph"])
        inline = GaugeMetricFamily(
            "jepa_inline_rows_limit", "Most rows in a run on the event loop", labels=["model", "graph"]
        )
        drifted = GaugeMetricFamily(
            "jepa_drifted_features", "Columns unlike those of training", labels=["model", "finding"]
        )
        novelty = GaugeMetricFamily(
            "jepa_novelty_percentile", "Mean over the frames judged in the last 5 s", labels=["model", "streams"]
        )
        misfit = GaugeMetricFamily(
            "jepa_columns_misfit_percentile",
            "How badly columns fit each other in the frames judged in the last 5 s, of the stream where it is worst",
            labels=["model"],
        )
        for name, model in self._models.models.items():
            findings = [found.kind for found in model.engine.drift.report().findings]
            for kind in KINDS:
                drifted.add_metric([name, kind], findings.count(kind))
            streams = model.engine.drift.novelty.report()
            if whole := overall(streams):
                novelty.add_metric([name, "all"], whole.mean)
                novelty.add_metric([name, "most novel"], streams[0].mean)
                if whole.columns is not None:
                    misfit.add_metric([name], whole.columns)
            for graph, queue in model.engine.queues.items():
                limit.add_metric([name, graph], queue.limits.max_rows)
                inline.add_metric([name, graph], queue.limits.inline_rows)
            manifest = model.bundle.manifest
            about = [model.precision, model.precision_reason, manifest.schema_hash]
            info.add_metric([name, str(manifest.version), *about], 1)
            load.add_metric([name], model.load_s)
        yield from (build, info, load, layout, limit, inline, drifted, novelty, misfit)
