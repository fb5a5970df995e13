"""A bundle's frozen encoders on a whole recording, and predictors that learn on what they say.

Embeddings are computed once and kept as float16 in a folder, one array for each view of the recording: as it is, from
the other player's side, in the mirror, or both. Shapes: B batch, D embed_dim, F frames of inputs, A numbers of one.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bundle.folders import locate
from bundle.reader import Bundle, read_bundle
from model.data.frames import Frames
from model.data.ranges import Ranges, distinct
from model.data.timeline import Timeline
from model.training import schedules
from model.training.batches import Inputs
from model.training.devices import half_precision_pays, precision
from model.training.masking import MaskSampler

Rows = NDArray[np.int64]
CHUNK_ROWS = 4096
REPORT_STEPS = 100
# Whether each of the symmetries of the recording is applied.
View = tuple[bool, ...]


def some_games(frames: Frames, rows: Ranges, count: int) -> Ranges:
    """The rows of `count` of their games, at even distances, or of all."""
    games = distinct(frames.episode, rows)
    chosen = games[np.linspace(0, len(games) - 1, min(count, len(games))).astype(int)]
    return rows.where(lambda part: np.isin(frames.episode[part], chosen))


def opened(bundle: str) -> Bundle:
    return read_bundle(locate(bundle))


def session(bundle: Bundle, graph: str, precision: str = "float32") -> ort.InferenceSession:
    """On one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(bundle.graph(graph, precision), options, providers=["CPUExecutionProvider"])


class Question(NamedTuple):
    """What a predictor is asked about some rows, and the answer."""

    context: Tensor  # [B, D]
    horizon: Tensor  # [B]
    actions: Tensor  # [B, F, A]
    target: Tensor  # [B, D]
    later: Rows  # [B]


class Frozen:
    """The embeddings of a recording under frozen encoders."""

    def __init__(self, frames: Frames, bundle: Bundle, folder: Path, max_actions: int) -> None:
        if frames.frame is None or frames.actions is None:
            raise ValueError("the recording has no frame or no action column")
        self.frames, self.bundle, self.folder = frames, bundle, folder
        self.sessions = {graph: session(bundle, graph) for graph in ("context_encoder", "target_encoder")}
        self.timeline = Timeline(frames.episode, frames.frame)
        self.inputs = Inputs(frames, self.timeline, max_actions, frames.symmetries)
        self.views = [*itertools.product((False, True), repeat=len(frames.symmetries))]

    def embedded(
        self, graph: str, parts: Sequence[tuple[View, Ranges]], hide_share: tuple[float, float] = (0.0, 0.0)
    ) -> NDArray[np.float16]:
        """[rows of the recording, D] by that encoder, of the rows of each part in its view, with a share of their
        groups hidden; what is in no part is 0."""
        encoder = self.bundle.manifest.files[f"{graph}.onnx"].sha256
        views = [[view, rows.start.tolist(), rows.stop.tolist()] for view, rows in parts]
        key = json.dumps([encoder, hide_share, views])
        path = self.folder / f"{graph}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.npy"
        if not path.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            shape, partial = (len(self.frames), self.bundle.manifest.embed_dim), path.with_suffix(".partial.npy")
            made = np.lib.format.open_memmap(partial, "w+", np.float16, shape)
            generator = torch.Generator().manual_seed(0)
            for view, rows in parts:
                for place in rows.chunks(CHUNK_ROWS):
                    features = self._seen(place, view, hide_share, generator)
                    made[place] = self.sessions[graph].run(None, {"features": features})[0]
            made.flush()
            partial.rename(path)
        kept: NDArray[np.float16] = np.load(path, mmap_mode="r")
        return kept

    def encoded(self, graph: str, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """[n, C] → [n, D]."""
        parts = np.array_split(features, -(-len(features) // CHUNK_ROWS))
        return np.concatenate([self.sessions[graph].run(None, {"features": part})[0] for part in parts])

    def _seen(
        self, place: slice | Rows, view: View, hide_share: tuple[float, float], generator: torch.Generator
    ) -> NDArray[np.float32]:
        """Raw features [n, C], NaN where hidden."""
        groups = self.bundle.manifest.feature_schema.groups
        seen = torch.from_numpy(self.frames.features[place])
        hidden = ~MaskSampler(len(groups), hide_share)(len(seen), generator)
        for symmetry, applies in zip(self.frames.symmetries, view, strict=True):
            if applies:
                seen, hidden = symmetry.apply(seen), hidden | symmetry.hidden
        width = torch.tensor([group.width for group in groups])
        features: NDArray[np.float32] = torch.where(hidden.repeat_interleave(width, dim=1), torch.nan, seen).numpy()
        return features


class Questions:
    """Draws what a predictor learns from: rows of a recording, each in the view of its part, and a later frame of
    each."""

    def __init__(
        self,
        frozen: Frozen,
        parts: Sequence[tuple[View, Ranges]],
        horizons: Sequence[int],
        hide_share: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.frozen, self.horizons = frozen, torch.tensor(horizons)
        self.context = frozen.embedded("context_encoder", parts, hide_share)
        self.target = frozen.embedded("target_encoder", parts)
        self.turned = torch.zeros(len(frozen.frames), len(parts[0][0]), dtype=torch.bool)
        for view, rows in parts:
            self.turned[torch.from_numpy(np.asarray(rows))] = torch.tensor(view, dtype=torch.bool)
        self.rows = frozen.timeline.with_later_rows(Ranges.joined(rows for _, rows in parts), horizons)

    def draw(self, count: int, generator: torch.Generator) -> Question:
        rows = self.rows[torch.randint(len(self.rows), (count,), generator=generator).numpy()]
        horizon = self.horizons[torch.randint(len(self.horizons), (count,), generator=generator)]
        told = self.frozen.inputs.mask(horizon, generator)
        actions = self.frozen.inputs.of(rows, self.turned[torch.from_numpy(rows)])
        later = self.frozen.timeline.ahead(rows, horizon.numpy())
        return Question(
            context=torch.from_numpy(self.context[rows].astype(np.float32)),
            horizon=horizon.float(),
            actions=torch.where(told, actions, torch.nan),
            target=torch.from_numpy(self.target[later].astype(np.float32)),
            later=later,
        )


def learn(
    network: nn.Module,
    loss: Callable[[Question], Tensor],
    questions: Questions,
    steps: int,
    *,
    seed: int,
    batch_size: int = 1024,
    learning_rate: float = 2e-3,
    weight_decay: float = 0.05,
) -> None:
    """Trains the network as a run of `jepa train` trains a predictor; equal seeds draw equal batches."""
    learned = [weight for weight in network.parameters() if weight.requires_grad]
    matrices = [weight for weight in learned if weight.ndim >= 2]
    others = [weight for weight in learned if weight.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
    device = torch.device("cpu")
    half = half_precision_pays(device)
    network.train()
    for step in range(steps):
        asked = questions.draw(batch_size, torch.Generator().manual_seed(seed * 1_000_003 + step))
        with precision(device, half=half):
            value = loss(asked)
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(learned, 1.0)
        for group in optimiser.param_groups:
            group["lr"] = schedules.learning_rate(step, steps, learning_rate, min(100, steps // 10))
        optimiser.step()
        if (step + 1) % REPORT_STEPS == 0:
            print(f"  step {step + 1}/{steps}: {value.item():.4f}", flush=True)
    network.eval()
