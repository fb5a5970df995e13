"""Gymnasium wrappers that replace observations by their embeddings, or append them. Needs the extra `gymnasium`.

    env = EmbedObservation(gymnasium.make("MyGame-v0"), JepaClient(url))             # observation [E]
    env = EmbedObservation(env, client, append=True)                                 # observation [D + E]
    envs = EmbedVectorObservation(gymnasium.make_vec("MyGame-v0", 8), client)        # observations [B, E], one request

Observations must be flat and have the model's columns; otherwise ValueError.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import Env, ObservationWrapper
from gymnasium.spaces import Box, Space
from gymnasium.vector import VectorEnv, VectorObservationWrapper
from gymnasium.vector.utils import batch_space

from jepa_client.calls import Encoder
from jepa_client.client import JepaClient
from jepa_client.rows import Rows


class Embedding:
    """Embeds observations of one space, for both wrappers."""

    def __init__(
        self,
        space: Space[Any],
        client: JepaClient,
        append: bool,
        encoder: Encoder,
        hidden: Sequence[str],
        model: str | None,
    ) -> None:
        card = client.model(model)
        if not isinstance(space, Box) or len(space.shape) != 1:
            raise ValueError(
                f"an observation is {space}; it must be a flat Box: wrap it in gymnasium.wrappers.FlattenObservation"
            )
        if space.shape[0] != card["input_dim"]:
            raise ValueError(
                f"an observation has {space.shape[0]} numbers, model '{card['name']}' takes {card['input_dim']}"
            )
        self._client, self._append = client, append
        self._encoder, self._hidden, self._model = encoder, hidden, model
        unbounded = np.full(card["embed_dim"], np.inf, np.float32)
        # Bounds outside float32's range become infinite.
        with np.errstate(over="ignore"):
            self.space = Box(self._joined(space.low, -unbounded), self._joined(space.high, unbounded))

    def __call__(self, observations: Rows) -> Rows:
        """[D] or [B, D] → [E] or [B, E], or with the embedding appended [D + E] or [B, D + E]."""
        embeddings = self._client.embed(observations, encoder=self._encoder, hidden=self._hidden, model=self._model)
        return self._joined(observations, embeddings)

    def _joined(self, observations: Rows, embeddings: Rows) -> Rows:
        if not self._append:
            return embeddings
        return np.concatenate([observations.astype(np.float32), embeddings], axis=-1)


class EmbedObservation(ObservationWrapper[Rows, Any, Rows]):
    def __init__(
        self,
        env: Env[Rows, Any],
        client: JepaClient,
        *,
        append: bool = False,
        encoder: Encoder = "target",
        hidden: Sequence[str] = (),
        model: str | None = None,
    ) -> None:
        super().__init__(env)
        self._embedding = Embedding(env.observation_space, client, append, encoder, hidden, model)
        self.observation_space = self._embedding.space

    def observation(self, observation: Rows) -> Rows:
        return self._embedding(observation)


class EmbedVectorObservation(VectorObservationWrapper[Rows, Any, Rows, Any]):
    """Embeds the observations of all environments in one request per step."""

    def __init__(
        self,
        env: VectorEnv[Rows, Any, Any],
        client: JepaClient,
        *,
        append: bool = False,
        encoder: Encoder = "target",
        hidden: Sequence[str] = (),
        model: str | None = None,
    ) -> None:
        super().__init__(env)
        self._embedding = Embedding(env.single_observation_space, client, append, encoder, hidden, model)
        self.single_observation_space = self._embedding.space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def observations(self, observations: Rows) -> Rows:
        return self._embedding(observations)
