"""What /models/{name}/drift answers, for the document."""

from typing import Literal

from pydantic import BaseModel, Field

from app.telemetry.drift import SAMPLED
from app.telemetry.novelty import ODD_PERCENTILE
from bundle.misfits import MAX_NAMED


class FeatureDrift(BaseModel):
    """A column whose values differ from those in training."""

    name: str
    column: int
    finding: Literal["outside", "still", "woken"]
    detail: str = Field(description="The finding in words, and what to check")
    share_outside: float = Field(description="Share of rows whose value is outside the range seen in training")
    mean: float
    std: float
    training_mean: float
    training_std: float
    looks_like: str | None = Field(
        description="A column that had about this mean and standard deviation in training, if there is one"
    )


class StreamNovelty(BaseModel):
    frames: int
    mean: float = Field(description="Of the percentiles of its frames")
    columns: float | None = Field(
        description="How badly their columns fit each other, as the percentage of held-out frames that fit better; "
        "null if the bundle does not say"
    )


class NoveltyReport(BaseModel):
    """How far frames of the last five seconds, with nothing hidden, lay from those of training: the percentage of
    held-out frames that lie nearer. Forecasts with `novelty` are all counted, and a sample of those embedded."""

    frames: int
    mean: float | None = Field(description="Of the percentiles of all frames; null if there were none")
    columns: float | None = Field(
        description="How badly columns fit each other in the stream where it is worst, as the percentage of held-out "
        "frames that fit better"
    )
    misfits: list[str] = Field(
        description=f"Where `columns` is {ODD_PERCENTILE} or more: up to {MAX_NAMED} columns that do not fit the "
        "others, the worst first"
    )
    swapped: list[str] | None = Field(
        description="Where there are misfits: two columns that make the frames usual ones when they change places, if "
        "there are such"
    )
    streams: list[StreamNovelty] = Field(
        description="The most novel first; a stream is what shares an X-Stream-Id or a WebSocket, or all else"
    )


class DriftReport(BaseModel):
    """How a sample of the rows that arrived since the model was loaded differs from the training rows."""

    model: str
    version: int
    rows: int = Field(description=f"Number of rows in the sample, which takes about one request in {SAMPLED}")
    features: list[FeatureDrift]
    novelty: NoveltyReport | None = Field(description="null if the bundle does not say what it was trained on")
