"""The description of a loaded model that /models answers."""

from collections.abc import Mapping
from typing import Any

from app.inference.batcher import Batcher
from app.repository.registry import ServedModel


def card(model: ServedModel, layout: Mapping[str, int]) -> dict[str, Any]:
    """A model as `schemas.ModelCard`; `layout` is that of the service."""
    manifest = model.bundle.manifest
    queues = model.engine.queues
    return {
        **manifest.model_dump(
            include={"name", "version", "created", "input_dim", "embed_dim", "schema_hash", "patches", "horizons"}
            | {"options", "training", "licence", "data"}
        ),
        **manifest.feature_schema.as_dict(),
        "versions": model.versions,
        "precision": model.precision,
        "precision_reason": model.precision_reason,
        "metrics": manifest.training.get("metrics", {}),
        "serving": {name: _limits(queue) for name, queue in queues.items()},
        "layout": layout,
    }


def _limits(queue: Batcher) -> dict[str, Any]:
    """The batch limits of a queue, and the milliseconds that runs of some sizes took when the model was loaded."""
    return {
        "max_batch_rows": queue.limits.max_rows,
        "inline_rows": queue.limits.inline_rows,
        "measured_ms": {str(rows): round(seconds * 1e3, 3) for rows, seconds in queue.limits.measured_s.items()},
    }
