"""The description of a loaded model that /models answers."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from app.errors import NoSample
from app.inference.batcher import Batcher
from app.repository.registry import ServedModel
from bundle.columns import STATISTICS
from bundle.files import read_file
from bundle.folders import BundleError
from bundle.sample import MAX_SAMPLE_BYTES, SAMPLE


def card(model: ServedModel, layout: Mapping[str, int]) -> dict[str, Any]:
    """A model as `schemas.ModelCard`; `layout` is that of the service."""
    manifest = model.bundle.manifest
    queues = model.engine.queues
    return {
        **manifest.model_dump(
            include={
                "name",
                "version",
                "created",
                "input_dim",
                "embed_dim",
                "schema_hash",
                "patches",
                "horizons",
                "actions",
                "max_actions",
                "action_values",
                "heads",
            }
            | {"options", "training", "licence", "data"}
        ),
        **manifest.feature_schema.as_dict(),
        "versions": model.versions,
        "precision": model.precision,
        "precision_reason": model.precision_reason,
        "novelty": model.bundle.novelty is not None,
        "metrics": manifest.training.get("metrics", {}),
        "serving": {name: _limits(queue) for name, queue in queues.items()},
        "layout": layout,
        "sample": None if manifest.sample is None else manifest.sample.model_dump(),
    }


def details(model: ServedModel, layout: Mapping[str, int]) -> dict[str, Any]:
    """A model as `schemas.ModelDetails`: with what is too long for a list of models."""
    manifest = model.bundle.manifest
    ranges = {name: manifest.statistics[name] for name in STATISTICS if name in manifest.statistics}
    pca = None if manifest.map is None else manifest.map.model_dump()
    return card(model, layout) | {"statistics": ranges, "map": pca}


def sample_of(model: ServedModel) -> bytes:
    """The content of sample.npz, read from the disk; raises NoSample. In any thread."""
    bundle = model.bundle
    entry = bundle.manifest.files.get(SAMPLE)
    if bundle.manifest.sample is None or entry is None:
        raise NoSample(f"{bundle.manifest.name} has no sample; `jepa train --sample` and `jepa sample` leave one")
    try:
        content = read_file(bundle.folder / SAMPLE, MAX_SAMPLE_BYTES)
    except (OSError, BundleError) as error:
        raise NoSample(f"the sample of {bundle.manifest.name} cannot be read any more") from error
    if sha256(content).hexdigest() != entry.sha256:
        raise NoSample(f"the sample of {bundle.manifest.name} was changed after the model was loaded")
    return content


def _limits(queue: Batcher) -> dict[str, Any]:
    """The batch limits of a queue, and the milliseconds that runs of some sizes took when the model was loaded."""
    return {
        "max_batch_rows": queue.limits.max_rows,
        "inline_rows": queue.limits.inline_rows,
        "measured_ms": {str(rows): round(seconds * 1e3, 3) for rows, seconds in queue.limits.measured_s.items()},
    }
