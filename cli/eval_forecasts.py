"""The section of `jepa eval` on forecasts: what the bundle's heads say of later frames, against rivals."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.reader import Bundle
from cli.embedding import BundleEmbedder
from model.data.frames import Frames
from model.data.recordings import Source
from model.evaluation.events import Event
from model.evaluation.forecasts import LABELLED_EMBEDDING, OURS, UNLABELLED, Compared, compare
from model.evaluation.formulas import parse
from model.evaluation.label_columns import Columns
from model.evaluation.targets import Target, like_head

# Of the horizons that a model has, these are compared.
HORIZONS = (30, 60)
MAX_ROWS = 20_000

Found = dict[str, dict[int, dict[str, Compared]]]


def forecasts(
    bundle: Bundle,
    frames: Frames,
    data: Source,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    told: Callable[[str], None],
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
    train, test = np.sort(train[:MAX_ROWS]), np.sort(test[:MAX_ROWS])
    return compare(
        bundle.heads,
        targets,
        frames,
        train,
        test,
        BundleEmbedder(bundle),
        horizons,
        lambda what: told(f"forecasts: {what}"),
    )


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
                if line != OURS and not np.isnan(one.gain):
                    gain = f"{one.gain:+.3f} ±{one.gain_error:.3f}, in {one.games_up} of {one.games} games"
                yield f"{line:<{width}}  {auc:>7}  {brier:>5}  {ece:>17}  {gain}".rstrip()
    yield ""
    for horizon in sorted({horizon for by_horizon in found.values() for horizon in by_horizon}):
        yield _summary([by_horizon[horizon] for by_horizon in found.values() if horizon in by_horizon], horizon)


def _summary(heads: list[dict[str, Compared]], horizon: int) -> str:
    ranked = [lines for lines in heads if not np.isnan(lines[OURS].measures.auc)]
    labelled = [lines for lines in ranked if LABELLED_EMBEDDING in lines]
    above = sum(lines[OURS].measures.auc >= lines[LABELLED_EMBEDDING].measures.auc for lines in labelled)
    rivals = [max(lines[name].measures.auc for name in UNLABELLED if name in lines) for lines in ranked]
    first = sum(lines[OURS].measures.auc >= rival for lines, rival in zip(ranked, rivals, strict=True))
    return (
        f"{horizon} frames ahead, {OURS} without labels of the future: at or above the linear probe that has them on "
        f"{above} of {len(labelled)} heads, at or above every rival without on {first} of {len(ranked)}"
    )


def as_document(found: Found) -> dict[str, Any]:
    """For JSON."""
    return {
        name: {
            str(horizon): {line: one.measures._asdict() | _gain(one) for line, one in lines.items()}
            for horizon, lines in by_horizon.items()
        }
        for name, by_horizon in found.items()
    }


def _gain(one: Compared) -> dict[str, float]:
    return {name: value for name, value in one._asdict().items() if name != "measures"}


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"
