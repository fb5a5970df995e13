"""What the service tells of a model that it has loaded."""

from collections.abc import Mapping
from typing import Any

from app.inference.batcher import Batcher
from app.repository.registry import ServedModel


def card(model: ServedModel, layout: Mapping[str, int]) -> dict[str, Any]:
    """What `schemas.ModelCard` says of a model."""
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
        "serving": {name: _pace(queue) for name, queue in queues.items()},
        "layout": layout,
    }


def _pace(queue: Batcher) -> dict[str, Any]:
    """Rows and milliseconds."""
    return {
        "max_batch_rows": queue.pace.max_rows,
        "inline_rows": queue.pace.inline_rows,
        "measured_ms": {str(rows): round(seconds * 1e3, 3) for rows, seconds in queue.pace.measured_s.items()},
    }
