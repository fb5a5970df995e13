"""What is read of an answer: each function takes one with status 200, and raises UnexpectedAnswer if it is no answer of
a jepa-serve."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jepa_client.answers import Answer
from jepa_client.errors import UnexpectedAnswer
from jepa_client.rows import FLOAT32_LE, Rows, from_bytes, ranked

BINARY = "application/octet-stream"
Document = dict[str, Any]


class Loss(NamedTuple):
    """How far predictions were from what happened, and how surprising that is."""

    # Mean over the rows.
    loss: float
    # [B]
    losses: Rows
    # [B], the share of held-out rows that were predicted better, 0–100; None if the bundle has no quantiles.
    percentiles: Rows | None


class Forecast(NamedTuple):
    """What the heads of a model say of frames, now or later."""

    # A head's name, or `head=class` for each class of a head with classes.
    outputs: list[str]
    # [O] or [B, O]: probabilities, and numbers in their unit.
    values: Rows
    # [B], the share of held-out frames that lie nearer to those of training, 0–100; None unless it was asked for.
    novelty: Rows | None


def rows_of(answer: Answer, sent: Sequence[int]) -> Rows:
    whole = answer.content and len(answer.content) % FLOAT32_LE.itemsize == 0
    if answer.headers.get("content-type") != BINARY or not whole:
        raise _unexpected(answer)
    return from_bytes(answer.content, sent)


def document_of(answer: Answer) -> Document:
    document = answer.document()
    if document is None:
        raise _unexpected(answer)
    return document


def loss_of(answer: Answer, rows: int) -> Loss:
    document = document_of(answer)
    try:
        losses, percentiles = document["losses"], document["percentiles"]
        loss = Loss(
            float(document["loss"]),
            np.array(losses, np.float32),
            None if percentiles is None else np.array(percentiles, np.float32),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        raise _unexpected(answer) from None
    if any(each is not None and each.shape != (rows,) for each in (loss.losses, loss.percentiles)):
        raise _unexpected(answer)
    return loss


def forecast_of(answer: Answer, sent: Sequence[int]) -> Forecast:
    document = document_of(answer)
    try:
        outputs, novelty = document["outputs"], document["novelty"]
        values = np.array(document["values"], np.float32)
        if values.ndim != 2 or values.shape[1] != len(outputs) or not all(isinstance(name, str) for name in outputs):
            raise ValueError
        judged = None if novelty is None else np.array(novelty, np.float32)
        if judged is not None and judged.shape != values.shape[:1]:
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError):
        raise _unexpected(answer) from None
    return Forecast(outputs, ranked(values.ravel(), sent), judged)


def models_of(answer: Answer) -> list[Document]:
    models = document_of(answer).get("models")
    if not isinstance(models, list) or not all(isinstance(each, dict) and "name" in each for each in models):
        raise _unexpected(answer)
    return models


def only_model_of(answer: Answer) -> Document:
    models = models_of(answer)
    if len(models) != 1:
        names = ", ".join(repr(each["name"]) for each in models)
        raise ValueError(f"the service has {len(models)} models ({names}); name one: model(name)")
    return models[0]


def _unexpected(answer: Answer) -> UnexpectedAnswer:
    found = answer.headers.get("content-type", "nothing that it names")
    return UnexpectedAnswer(
        f"{answer.url} answered with {found}, which is no answer of a jepa-serve; is base_url right?",
        status=answer.status,
    )
