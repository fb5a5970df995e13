"""The synchronous and the asynchronous client, which differ only in how they send and wait."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from http.client import HTTPException
from os import PathLike
from typing import TYPE_CHECKING, Self, TypeVar, Unpack

import httpx
from numpy.typing import ArrayLike

from jepa_client import calls
from jepa_client.calls import Answered, Call, Encoder, StreamOptions
from jepa_client.connections import Connections
from jepa_client.errors import DeadlineExpired, JepaError, NotReady, ServiceUnreachable
from jepa_client.frames import Frames
from jepa_client.inputs import Inputs
from jepa_client.processes import PerLoop, PerProcess
from jepa_client.results import Document, Forecast, Loss
from jepa_client.rows import Rows
from jepa_client.service import Service
from jepa_client.tries import Tries

if TYPE_CHECKING:
    # These need websockets, which is optional.
    from jepa_client.stream import AsyncStream, Stream

T = TypeVar("T")
URL = "http://127.0.0.1:8000"
UNREADY = (NotReady, ServiceUnreachable, DeadlineExpired)


class JepaClient:
    """Calls a service over connections that stay open. Threads may share a client; a forked or spawned process that is
    handed one opens connections of its own.

    timeout      seconds that a call may take, including retries; the service drops requests past their deadline
    api_key      the key, if the service requires one
    schema_hash  the layout that the bot writes, `model()["schema_hash"]`; SchemaMismatch if the model reads another
    stream       name of the bot's stream of frames: a newer frame replaces one still waiting (Superseded)
    retries      how often to resend after a lost connection, QueueFull or NotReady; frames of a stream never are
    ca_file      PEM file of the authority to trust instead of those that this machine trusts
    proxy        http://host:port of a proxy, or "" for none; without it that of the environment, for other machines

    Features are one row [D] or many [B, D] of real numbers; results are float32 of the same rank. Raises JepaError for
    failed calls, and ValueError or TypeError for arguments that are not rows.
    """

    def __init__(
        self,
        base_url: str = URL,
        *,
        timeout: float = 5.0,
        api_key: str | None = None,
        schema_hash: str | None = None,
        stream: str | None = None,
        retries: int = 2,
        ca_file: str | PathLike[str] | None = None,
        proxy: str | None = None,
    ) -> None:
        self._service = Service(base_url, timeout, api_key, schema_hash, stream, retries, ca_file, proxy)
        self._connections = PerProcess(lambda: Connections(self._service))

    def __reduce__(self) -> tuple[partial[Self], tuple[()]]:
        return partial(type(self), **asdict(self._service)), ()

    def embed(
        self,
        features: ArrayLike,
        *,
        encoder: Encoder = "target",
        hidden: Sequence[str] = (),
        model: str | None = None,
    ) -> Rows:
        """[D] or [B, D] → embeddings, [E] or [B, E]; `hidden` names groups of columns that the bot cannot see."""
        return self._run(calls.embed(features, encoder, hidden, model))

    def predict(
        self,
        features: ArrayLike | None = None,
        *,
        context: ArrayLike | None = None,
        hidden: Sequence[str] = (),
        targets: Sequence[str] | None = None,
        horizon: float | None = None,
        actions: Inputs | None = None,
        model: str | None = None,
    ) -> Rows:
        """Features or context embeddings → the predicted embedding of `targets`, `horizon` frames ahead.

        `actions` are the player's own inputs of the n frames that follow, NaN or None where unknown: [n, A] for one
        row, [B, n, A] for B rows, or for one row [N, n, A], candidates with an answer each.
        """
        return self._run(calls.predict(features, context, hidden, targets, horizon, actions, model))

    def forecast(
        self,
        features: ArrayLike | None = None,
        *,
        context: ArrayLike | None = None,
        heads: Sequence[str] | None = None,
        horizon: float | None = None,
        actions: Inputs | None = None,
        hidden: Sequence[str] = (),
        novelty: bool = False,
        model: str | None = None,
    ) -> Forecast:
        """What the model's `heads` (default: all) say of the frame or, with a horizon, of the frame that many later;
        `actions` as for `predict`."""
        return self._run(calls.forecast(features, context, heads, horizon, actions, hidden, novelty, model))

    def loss(
        self,
        features: ArrayLike | None = None,
        target_features: ArrayLike | None = None,
        *,
        predicted: ArrayLike | None = None,
        target: ArrayLike | None = None,
        horizon: float | None = None,
        model: str | None = None,
    ) -> Loss:
        """The loss between features and those `horizon` frames later, or between two embeddings."""
        return self._run(calls.loss(features, target_features, predicted, target, horizon, model))

    def stream(self, *, answer: Answered = "embed", **options: Unpack[StreamOptions]) -> "Stream":
        """Embeds frames, predicts later ones, or forecasts from them, over one WebSocket that stays open; needs the
        extra `stream`."""
        from jepa_client.stream import Stream

        params = calls.stream(answer, **options)
        return Stream(Frames(self._service, params, answer))

    def models(self) -> list[Document]:
        return self._run(calls.models())

    def model(self, name: str | None = None) -> Document:
        """Widths, column names, groups, horizons and more; without a name, of the only model."""
        return self._run(calls.model(name))

    def ready(self) -> bool:
        """False while the service is starting, draining, without a model or unreachable; never retried."""
        try:
            return self._run(calls.ready())
        except UNREADY:
            return False

    def close(self) -> None:
        self._connections.get().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, call: Call[T]) -> T:
        tries = Tries(self._service, call)
        while True:
            try:
                body = bytearray()
                head = self._connections.get().ask(
                    **tries.request(), deadline=tries.deadline, take=partial(tries.grow, body)
                )
                return tries.read(head.status, head.headers, body)
            except (OSError, HTTPException, JepaError) as failure:
                pause_s = tries.pause(failure)
            time.sleep(pause_s)


class AsyncJepaClient:
    """JepaClient for asyncio, with the same options and awaitable methods."""

    def __init__(
        self,
        base_url: str = URL,
        *,
        timeout: float = 5.0,
        api_key: str | None = None,
        schema_hash: str | None = None,
        stream: str | None = None,
        retries: int = 2,
        ca_file: str | PathLike[str] | None = None,
        proxy: str | None = None,
    ) -> None:
        self._service = Service(base_url, timeout, api_key, schema_hash, stream, retries, ca_file, proxy)
        self._http = PerLoop(lambda: httpx.AsyncClient(**self._service.options()))

    def __reduce__(self) -> tuple[partial[Self], tuple[()]]:
        return partial(type(self), **asdict(self._service)), ()

    async def embed(
        self,
        features: ArrayLike,
        *,
        encoder: Encoder = "target",
        hidden: Sequence[str] = (),
        model: str | None = None,
    ) -> Rows:
        return await self._run(calls.embed(features, encoder, hidden, model))

    async def predict(
        self,
        features: ArrayLike | None = None,
        *,
        context: ArrayLike | None = None,
        hidden: Sequence[str] = (),
        targets: Sequence[str] | None = None,
        horizon: float | None = None,
        actions: Inputs | None = None,
        model: str | None = None,
    ) -> Rows:
        return await self._run(calls.predict(features, context, hidden, targets, horizon, actions, model))

    async def forecast(
        self,
        features: ArrayLike | None = None,
        *,
        context: ArrayLike | None = None,
        heads: Sequence[str] | None = None,
        horizon: float | None = None,
        actions: Inputs | None = None,
        hidden: Sequence[str] = (),
        novelty: bool = False,
        model: str | None = None,
    ) -> Forecast:
        return await self._run(calls.forecast(features, context, heads, horizon, actions, hidden, novelty, model))

    async def loss(
        self,
        features: ArrayLike | None = None,
        target_features: ArrayLike | None = None,
        *,
        predicted: ArrayLike | None = None,
        target: ArrayLike | None = None,
        horizon: float | None = None,
        model: str | None = None,
    ) -> Loss:
        return await self._run(calls.loss(features, target_features, predicted, target, horizon, model))

    def stream(self, *, answer: Answered = "embed", **options: Unpack[StreamOptions]) -> "AsyncStream":
        from jepa_client.stream import AsyncStream

        params = calls.stream(answer, **options)
        return AsyncStream(Frames(self._service, params, answer))

    async def models(self) -> list[Document]:
        return await self._run(calls.models())

    async def model(self, name: str | None = None) -> Document:
        return await self._run(calls.model(name))

    async def ready(self) -> bool:
        try:
            return await self._run(calls.ready())
        except UNREADY:
            return False

    async def aclose(self) -> None:
        await self._http.get().aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _run(self, call: Call[T]) -> T:
        tries = Tries(self._service, call)
        while True:
            try:
                body = bytearray()
                async with (
                    asyncio.timeout(tries.left_s()),
                    self._http.get().stream(**tries.request(), timeout=None) as answer,
                ):
                    async for part in answer.aiter_raw():
                        tries.grow(body, part)
                return tries.read(answer.status_code, answer.headers, body)
            except (httpx.RequestError, TimeoutError, JepaError) as failure:
                pause_s = tries.pause(failure)
            await asyncio.sleep(pause_s)
