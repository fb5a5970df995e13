"""embed, predict, forecast and loss of one model, on NumPy arrays: what every dialect calls, and all it calls."""

import asyncio
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from app.errors import InvalidInput, did_you_mean, listed
from app.inference.actions import ActionLayout
from app.inference.batcher import Batcher
from app.inference.forecasts import NOW, Forecast, Forecasts, known_horizon
from app.inference.jobs import ANY_TIME, NOT_RUN, Readout, Ticket, Timing
from app.inference.losses import percentiles, smooth_l1
from app.rows import Array
from app.telemetry.drift import Drift
from bundle.manifest import Manifest

Encoder = Literal["target", "context"]

# Rows whose columns are judged on the event loop, in some milliseconds; more of one request go to a thread.
MAX_LOOP_ROWS = 256


class Rows(NamedTuple):
    """[B, embed_dim], finite."""

    rows: Array
    timing: Timing


class Losses(NamedTuple):
    """[B] each; `percentiles` (0–100 among the held-out rows) where the bundle has quantiles for that horizon."""

    losses: Array
    percentiles: Array | None
    timing: Timing


class Asked(NamedTuple):
    """What is asked of the predictor, beside the context."""

    # [patches] or [B, patches], 1 for those to predict.
    targets: Array
    # Of all rows, or [B].
    horizon: Array | int
    # [B, n, A]; None where no input is known.
    actions: Array | None


@dataclass(frozen=True)
class Queues:
    """One a graph."""

    context_encoder: Batcher
    target_encoder: Batcher
    predictor: Batcher

    def encoder(self, name: Encoder) -> Batcher:
        return self.target_encoder if name == "target" else self.context_encoder

    def items(self) -> Iterator[tuple[str, Batcher]]:
        """With the graph's name."""
        return iter(vars(self).items())


class Engine:
    """Checks names against the model, hides groups, and chains the graphs an answer needs."""

    def __init__(self, manifest: Manifest, queues: Queues, drift: Drift, forecasts: Forecasts) -> None:
        self.manifest = manifest
        self.queues = queues
        self.drift = drift
        self.actions = ActionLayout(manifest)
        self._forecasts = forecasts
        self._columns = {group.name: slice(group.start, group.stop) for group in manifest.feature_schema.groups}
        self._patches = [patch.name for patch in manifest.patches]
        self._patch_of = {group: i for i, patch in enumerate(manifest.patches) for group in patch.groups}
        self._patch_of |= {name: i for i, name in enumerate(self._patches)}

    async def embed(
        self, features: Array, *, encoder: Encoder = "target", hidden: Sequence[str] = (), ticket: Ticket = ANY_TIME
    ) -> Rows:
        """[B, input_dim] → [B, embed_dim]; `hidden` names the groups the bot cannot see."""
        if encoder == "context" or hidden:
            return await self._encode(self._seen(features, hidden), encoder, ticket)
        self.drift.see(features)
        embedded, timing = await self.queues.target_encoder.submit(features, ticket=ticket)
        self.drift.novelty.judge(ticket.stream, embedded, features)
        return Rows(embedded, timing)

    async def predict(
        self,
        features: Array,
        *,
        hidden: Sequence[str] = (),
        targets: Sequence[str] | None = None,
        horizon: float | None = None,
        actions: Array | None = None,
        ticket: Ticket = ANY_TIME,
    ) -> Rows:
        """[B, input_dim] → [B, embed_dim]: the patches of `targets` as they will be `horizon` frames later.

        `actions` [B, n, A] are the player's own inputs of the frames that follow, NaN where they are not known; of one
        row they may be [N, n, A], candidates, and there are N answers.
        """
        frames = self._known_horizon(horizon)
        asked = Asked(self._chosen_patches(targets), frames, self.actions.check(actions, len(features), frames))
        return await self._look_ahead(self._seen(features, hidden), asked, ticket)

    async def predict_from_context(
        self,
        context: Array,
        *,
        targets: Sequence[str] | None = None,
        horizon: float | None = None,
        actions: Array | None = None,
        ticket: Ticket = ANY_TIME,
    ) -> Rows:
        """As `predict`, from what the context encoder answered, [B, embed_dim]."""
        frames = self._known_horizon(horizon)
        asked = Asked(self._chosen_patches(targets), frames, self.actions.check(actions, len(context), frames))
        return await self._predict(Rows(context, NOT_RUN), asked, ticket)

    async def predict_patches(
        self,
        context: Array,
        *,
        targets: Array | None = None,
        horizon: Array | None = None,
        actions: Array | None = None,
        ticket: Ticket = ANY_TIME,
    ) -> Rows:
        """As `predict_from_context`, each row with patches (1 for those to predict, [B, patches]) and a horizon ([B])
        of its own."""
        chosen = self._chosen_patches(None) if targets is None else self._checked_patches(targets)
        frames = self._known_horizon(None) if horizon is None else self._known_horizons(horizon)
        asked = Asked(chosen, frames, self.actions.check(actions, len(context), frames))
        return await self._predict(Rows(context, NOT_RUN), asked, ticket)

    async def forecast(
        self,
        features: Array,
        *,
        heads: Sequence[str] | None = None,
        horizon: float | None = None,
        hidden: Sequence[str] = (),
        actions: Array | None = None,
        novelty: bool = False,
        ticket: Ticket = ANY_TIME,
    ) -> Forecast:
        """[B, input_dim] → the values of `heads`, without names of all, now or as they will be `horizon` frames
        later; `actions` as for `predict`."""
        frames = known_horizon(self.manifest, NOW if horizon is None else horizon, can_be_now=True)
        is_now = frames == NOW
        reading = self._forecasts.reading(heads, frames, novelty=novelty and is_now)
        judging = self._forecasts.reading_of_novelty() if novelty and not is_now else None
        inputs = self.actions.check(actions, len(features), frames)
        seen = self._seen(features, hidden)
        if is_now:
            found = reading.forecast(*await self._encode(seen, "target", ticket, reading))
            if found.novelty is not None and not hidden:
                found = found._replace(novelty=await self._judged(found.novelty, features, ticket))
            return found
        ahead = self._look_ahead(seen, Asked(self._chosen_patches(None), frames, inputs), ticket, reading)
        if judging is None:
            return reading.forecast(*await ahead)
        predicted, judged = await asyncio.gather(ahead, self._encode(seen, "target", ticket, judging))
        novelty_of = judged.rows[:, 0] if hidden else await self._judged(judged.rows[:, 0], features, ticket)
        timing = judged.timing.then(predicted.timing)
        # Of candidates for one row each is judged as that row is.
        return Forecast(reading.outputs, predicted.rows, np.resize(novelty_of, len(predicted.rows)), timing)

    async def forecast_from_context(
        self,
        context: Array,
        *,
        heads: Sequence[str] | None = None,
        horizon: float | None = None,
        actions: Array | None = None,
        ticket: Ticket = ANY_TIME,
    ) -> Forecast:
        """As `forecast`, from embeddings [B, embed_dim]: of the context encoder or, for what is now, of either."""
        frames = known_horizon(self.manifest, NOW if horizon is None else horizon, can_be_now=True)
        reading = self._forecasts.reading(heads, frames)
        asked = Asked(self._chosen_patches(None), frames, self.actions.check(actions, len(context), frames))
        if frames == NOW:
            return reading.forecast(reading(context), NOT_RUN)
        return reading.forecast(*await self._predict(Rows(context, NOT_RUN), asked, ticket, reading))

    async def _judged(self, percentiles: Array, features: Array, ticket: Ticket) -> Array:
        """Of frames of nothing hidden [B, input_dim], whose embeddings have these percentiles [B]; they are counted."""
        judge, is_quick = self._forecasts.judge, len(features) <= MAX_LOOP_ROWS
        judged = judge(percentiles, features) if is_quick else await asyncio.to_thread(judge, percentiles, features)
        self.drift.novelty.see(ticket.stream, judged, features)
        return judged.percentiles

    async def loss(
        self, features: Array, target_features: Array, *, horizon: float | None = None, ticket: Ticket = ANY_TIME
    ) -> Losses:
        """[B, input_dim] now and `horizon` frames later → how far the prediction was off, [B]."""
        frames = self._known_horizon(horizon)
        predicted, target = await asyncio.gather(
            self.predict(features, horizon=frames, ticket=ticket), self.embed(target_features, ticket=ticket)
        )
        return self._losses(predicted.rows, target.rows, frames, target.timing.then(predicted.timing))

    def loss_of_embeddings(self, predicted: Array, target: Array, *, horizon: float | None = None) -> Losses:
        """[B, embed_dim] and [B, embed_dim] → [B]."""
        return self._losses(predicted, target, self._known_horizon(horizon), NOT_RUN)

    async def _encode(self, features: Array, encoder: Encoder, ticket: Ticket, readout: Readout | None = None) -> Rows:
        """[B, input_dim] with NaN in hidden columns → [B, embed_dim], or what `readout` makes of those."""
        if readout is not None:
            ticket = ticket._replace(readout=readout)
        return Rows(*await self.queues.encoder(encoder).submit(features, ticket=ticket))

    async def _look_ahead(self, features: Array, asked: Asked, ticket: Ticket, readout: Readout | None = None) -> Rows:
        """As `_encode`, of what is predicted."""
        return await self._predict(await self._encode(features, "context", ticket), asked, ticket, readout)

    async def _predict(self, context: Rows, asked: Asked, ticket: Ticket, readout: Readout | None = None) -> Rows:
        if readout is not None:
            ticket = ticket._replace(readout=readout)
        contexts, actions = context.rows, asked.actions
        if actions is not None and len(actions) != len(contexts):
            # One context stands for all candidates.
            contexts = np.broadcast_to(contexts, (len(actions), contexts.shape[1]))  # [B, embed_dim]
        count = len(contexts)
        targets = np.broadcast_to(asked.targets, (count, len(self._patches)))  # [B, patches]
        inputs = [contexts, targets, np.full(count, asked.horizon, np.float32)]
        if self.actions.names:
            inputs.append(self.actions.padded(actions, count))  # [B, max_actions, A]
        rows, timing = await self.queues.predictor.submit(*inputs, ticket=ticket)
        return Rows(rows, context.timing.then(timing))

    def _losses(self, predicted: Array, target: Array, horizon: int, timing: Timing) -> Losses:
        losses = smooth_l1(predicted, target)
        return Losses(losses, percentiles(losses, self.manifest.loss_quantiles.get(horizon)), timing)

    def _seen(self, features: Array, hidden: Sequence[str]) -> Array:
        """The rows as the graphs take them; they count as rows that came in."""
        self.drift.see(features)
        return self._hide(features, hidden) if hidden else features

    def _hide(self, features: Array, hidden: Sequence[str]) -> Array:
        """A copy with NaN, which is how the graphs are told, in the columns of the groups `hidden`."""
        _check_names("hidden", hidden, self._columns, "group")
        if self._columns.keys() <= set(hidden):
            raise InvalidInput((("hidden",), "hidden names every group; at least one group must stay visible"))
        features = features.copy()
        for name in hidden:
            features[:, self._columns[name]] = np.nan
        return features

    def _chosen_patches(self, targets: Sequence[str] | None) -> Array:
        """[patches], 1 for those to predict: all without `targets`."""
        if targets is None:
            return np.ones(len(self._patches), np.float32)
        if not targets:
            raise InvalidInput((("targets",), "targets is empty; name at least one group, or leave it out for all"))
        _check_names("targets", targets, self._patch_of, "group")
        if len(self._patches) == 1 and not self._covers_the_row(targets):
            raise InvalidInput(
                (("targets",), f"model '{self.manifest.name}' predicts only the whole row at once; leave targets out")
            )
        chosen = np.zeros(len(self._patches), np.float32)
        chosen[[self._patch_of[name] for name in targets]] = 1
        return chosen

    def _checked_patches(self, targets: Array) -> Array:
        """[B, patches]"""
        if not np.isin(targets, (0, 1)).all():
            raise InvalidInput((("targets",), "targets must hold 1 for each patch to predict, 0 for the others"))
        if not (chosen := targets.any(axis=1)).all():
            row = int(np.argmin(chosen))
            raise InvalidInput((("targets", row), f"targets[{row}] is 0 throughout; put 1 for at least one patch"))
        return targets

    def _covers_the_row(self, targets: Sequence[str]) -> bool:
        return self._patches[0] in targets or self._columns.keys() <= set(targets)

    def _known_horizon(self, horizon: float | None) -> int:
        return self.manifest.horizons[0] if horizon is None else known_horizon(self.manifest, horizon)

    def _known_horizons(self, horizon: Array) -> Array:
        """[B]"""
        for frames in np.unique(horizon):
            self._known_horizon(float(frames))
        return horizon


def _check_names(field: str, names: Sequence[str], known: Collection[str], noun: str) -> None:
    for i, name in enumerate(names):
        if name not in known:
            hint = did_you_mean(name, known)
            raise InvalidInput(
                ((field, i), f"{field}[{i}] is no {noun} of this model; {hint}it has {listed([*known])}")
            )
