"""The section of `jepa eval` on forecasts: what the bundle's heads say of later frames, against rivals."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.reader import Bundle
from cli.embedding import BundleEmbedder
from model.data.frames import Frames
from model.data.recordings import Source
from model.evaluation.events import Event
from model.evaluation.forecasts import (
    LABELLED_EMBEDDING,
    LABELLED_TREES,
    OURS,
    UNLABELLED,
    Compared,
    Mean,
    compare,
    over_best,
)
from model.evaluation.formulas import parse
from model.evaluation.label_columns import Columns
from model.evaluation.targets import Target, like_head
from model.networks.jepa import build_predictor

# Of the horizons that a model has, these are compared.
HORIZONS = (30, 60)

# Rivals with labels of the future, as the summary names them.
LABELLED = {
    LABELLED_EMBEDDING: "the linear probe that has them",
    LABELLED_TREES: "boosted trees that have them",
}

Found = dict[str, dict[int, dict[str, Compared]]]


def forecasts(
    bundle: Bundle,
    frames: Frames,
    data: Source,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    told: Callable[[str], None],
    *,
    trees: bool = False,
) -> Found:
    """Head → horizon → line; empty where the bundle has no heads, or does not look ahead. A head whose labels cannot be
    made of this data is left out in words."""
    horizons = [horizon for horizon in bundle.manifest.horizons if horizon in HORIZONS]
    horizons = horizons or [horizon for horizon in bundle.manifest.horizons[-1:] if horizon]
    if bundle.heads is None or frames.frame is None or not horizons:
        return {}
    targets: list[Target] = []
    for entry, head in zip(bundle.manifest.heads, bundle.heads.heads, strict=True):
        try:
            formula = parse(entry.labels)
            columns = Columns(frames, data, [formula])
            targets.append(like_head(Event(head.name, formula, tuple(entry.classes)), head, columns))
        except ValueError as error:
            told(f"left out of forecasts, {head.name}: {error}")
    if not targets:
        return {}
    return compare(
        bundle.heads,
        targets,
        frames,
        np.sort(train),
        np.sort(test),
        BundleEmbedder(bundle),
        horizons,
        lambda what: told(f"forecasts: {what}"),
        network_size=_predictor_size(bundle),
        trees=trees,
    )


def _predictor_size(bundle: Bundle) -> int:
    """In weights."""
    known = bundle.manifest
    options = {"patches": len(known.patches), "horizons": known.horizons, **known.options}
    return sum(weight.numel() for weight in build_predictor(known.input_dim, **options).parameters())


def forecast_lines(found: Found) -> Iterator[str]:
    """A block for each head and horizon, and what they come to."""
    for name, by_horizon in found.items():
        for horizon, lines in by_horizon.items():
            width = max(map(len, lines))
            yield f"\nforecast of {name}, {horizon} frames ahead; {lines[OURS].measures.rows:,} test rows"
            yield f"{'':<{width}}  ROC AUC  Brier  calibration error  {OURS} is above by"
            for line, one in lines.items():
                auc, brier, ece = (_number(number) for number in one.measures[1:])
                gain = ""
                if line != OURS and not np.isnan(one.mean.gain):
                    gain = f"{_gain(one.mean)}, in {one.mean.up} of {one.mean.games} games"
                yield f"{line:<{width}}  {auc:>7}  {brier:>5}  {ece:>17}  {gain}".rstrip()
    yield ""
    for horizon in sorted({horizon for by_horizon in found.values() for horizon in by_horizon}):
        yield _summary([by_horizon[horizon] for by_horizon in found.values() if horizon in by_horizon], horizon)


def _summary(heads: list[dict[str, Compared]], horizon: int) -> str:
    ranked = [lines for lines in heads if not np.isnan(lines[OURS].measures.auc)]
    counts = {name: (_above(ranked, [name]), sum(name in lines for lines in ranked)) for name in LABELLED}
    said = ", ".join(f"{LABELLED[name]} on {above} of {of}" for name, (above, of) in counts.items() if of)
    text = (
        f"{horizon} frames ahead, {OURS} without labels of the future: at or above {said} heads, "
        f"at or above every rival without on {_above(ranked, UNLABELLED)} of {len(ranked)}"
    )
    over = over_best(ranked, UNLABELLED)
    return text if np.isnan(over.gain) else f"{text}; above the best of these by {_gain(over)} over {over.games} games"


def _above(heads: list[dict[str, Compared]], rivals: Sequence[str]) -> int:
    """On how many heads ours is at or above each of the rivals that are there."""
    aucs = [(lines[OURS], [lines[name] for name in rivals if name in lines]) for lines in heads]
    return sum(all(ours.measures.auc >= one.measures.auc for one in others) for ours, others in aucs if others)


def as_document(found: Found) -> dict[str, Any]:
    """For JSON."""
    return {
        name: {
            str(horizon): {
                line: one.measures._asdict() | one.mean._asdict() | {"gains": one.gains.tolist()}
                for line, one in lines.items()
            }
            for horizon, lines in by_horizon.items()
        }
        for name, by_horizon in found.items()
    }


def _gain(mean: Mean) -> str:
    return f"{mean.gain:+.3f} ±{mean.error:.3f}"


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"
