"""What a bundle holds for people to look at: some frames of a game, and the directions of a map of embeddings."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLE = "sample.npz"
# Of it, which is read into memory whenever somebody asks for it.
MAX_SAMPLE_BYTES = 2**25
# Of the sample that training leaves: ten seconds at FRAMES_A_SECOND.
SAMPLE_ROWS = 600
FRAMES_A_SECOND = 60.0


def sample_bytes(features: NDArray[np.float32]) -> bytes:
    """The content of sample.npz for frames [rows, input_dim]; ValueError where it would be too large to serve."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, features=np.ascontiguousarray(features, "<f4"))
    if buffer.tell() > MAX_SAMPLE_BYTES:
        raise ValueError(
            f"a sample of {len(features)} rows takes {buffer.tell()} bytes; at most {MAX_SAMPLE_BYTES} are served, so "
            "take fewer rows"
        )
    return buffer.getvalue()


def principal_components(embeddings: NDArray[np.floating], source: str) -> dict[str, Any]:
    """The `map` of bundle.json: mean, the two directions of most variance and their shares of it, of [rows, D].

    A direction is turned so that its largest number is positive, since either way would do. Where embeddings vary in
    fewer than two directions, the others are zeros.
    """
    rows = embeddings.astype(np.float64)
    mean = rows.mean(0)
    centred = rows - mean
    variances, directions = np.linalg.eigh(centred.T @ centred / len(rows))
    variances, directions = variances[::-1].clip(0), directions[:, ::-1].T
    total = variances.sum()
    components = np.zeros((2, rows.shape[1]))
    explained = np.zeros(2)
    for i in range(min(2, len(variances)) if total else 0):
        largest = directions[i][np.abs(directions[i]).argmax()]
        components[i] = directions[i] * np.sign(largest)
        explained[i] = variances[i] / total
    return {
        "mean": _rounded(mean),
        "components": [_rounded(each) for each in components],
        "explained": _rounded(explained),
        "source": source,
    }


def _rounded(values: NDArray[np.float64]) -> list[float]:
    """With the five digits that a picture can show."""
    return [float(f"{value:.5g}") for value in values]
