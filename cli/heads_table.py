"""What `jepa heads` prints of heads, and what bundle.json says of them."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from model.evaluation.heads import Fit
from model.evaluation.measures import Measures
from model.evaluation.targets import Target

DIGITS = 4


def heads_table(fit: Fit) -> Iterator[str]:
    """A line per head and horizon: its answers on held-out games, by the labels of the frame that was asked about."""
    width = max(len(head.name) for head in fit.heads.heads)
    yield f"{'head':<{width}}  kind     frames ahead  ROC AUC  Brier  calibration error  rows"
    for head, table in zip(fit.heads.heads, fit.tables, strict=True):
        for place, (horizon, found) in enumerate(table.items()):
            name, kind = (head.name, head.kind) if place == 0 else ("", "")
            yield (
                f"{name:<{width}}  {kind:<7}  {horizon or 'now':>12}  {_number(found.auc):>7}  "
                f"{_number(found.brier):>5}  {_number(found.ece):>17}  {found.rows:,}"
            )


def head_entry(target: Target, table: dict[int, Measures], penalty: float) -> dict[str, Any]:
    """The head as `bundle.json` lists it."""
    return {
        "name": target.head.name,
        "kind": target.head.kind,
        "outputs": list(target.head.outputs),
        "labels": target.event.formula.text,
        **({"classes": list(target.event.classes)} if target.event.classes else {}),
        "table": {"penalty": penalty} | {str(horizon): _plain(found) for horizon, found in table.items()},
    }


def _plain(found: Measures) -> dict[str, float]:
    """Without what could not be measured."""
    return {name: round(value, DIGITS) for name, value in found._asdict().items() if not np.isnan(value)}


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"
