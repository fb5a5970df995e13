"""What a bundle's heads read off the forecasts of two predictors."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.lab.frozen import Frozen
from bundle.heads import Heads
from model.data.frames import Frames
from model.data.ranges import Ranges
from model.data.splits import split_rows
from model.evaluation.events import of_file
from model.evaluation.label_columns import Columns
from model.evaluation.measures import measures
from model.evaluation.targets import target
from model.networks.predictor import Predictor

COMPARED_ROWS = 20_000
CHUNK_ROWS = 2048
Values = NDArray[np.float32]


def in_chunks(predictor: Predictor, context: Values, horizon: int, actions: Tensor | None = None) -> Values:
    """[n, D] → [n, D] of all patches."""
    found = []
    with torch.inference_mode():
        for rows in np.array_split(np.arange(len(context)), -(-len(context) // CHUNK_ROWS)):
            ahead, given = torch.full((len(rows),), float(horizon)), None if actions is None else actions[rows]
            found.append(predictor(torch.from_numpy(context[rows]), None, ahead, given).numpy())
    return np.concatenate(found)


class Compared:
    """Two predictors, told no input, by the heads of the bundle on held-out games."""

    def __init__(self, frames: Frames, data: str, events: Path, frozen: Frozen, rows: Ranges) -> None:
        self.bundle, self.timeline = frozen.bundle, frozen.timeline
        self.rows = rows.evenly(COMPARED_ROWS)
        asked = [*of_file(events)]
        columns = Columns(frames, data, [event.formula for event in asked])
        learned = np.asarray(split_rows(frames)[0])
        self.targets = [target(event, columns, learned) for event in asked]
        self.context = frozen.encoded("context_encoder", frames.as_seen()[self.rows])

    def table(self, old: Predictor, new: Predictor) -> dict[str, dict[str, list[float]]]:
        """Head → horizon → AUC of the old and of the new predictor."""
        heads, manifest = self.bundle.heads, self.bundle.manifest
        if heads is None:
            raise ValueError("the bundle has no heads to compare predictors by")
        found: dict[str, dict[str, list[float]]] = {each.head.name: {} for each in self.targets}
        for index, horizon in enumerate(manifest.horizons):
            later = self.timeline.ahead(self.rows, horizon)
            answers = [in_chunks(predictor, self.context, horizon) for predictor in (old, new)]
            for each in self.targets:
                chosen: Heads = heads.select([each.head.name])
                truth = each.at(later)
                known = np.isfinite(truth)
                found[each.head.name][str(horizon)] = [
                    measures(each.head.kind, chosen.values(answer, index + 1)[known], truth[known]).auc
                    for answer in answers
                ]
        return found
