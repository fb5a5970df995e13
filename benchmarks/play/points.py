"""Points of policies that played the same games: how they compare."""

import numpy as np
from numpy.typing import NDArray

# The policy that the others are compared with.
AGAINST = "linear, state + inputs"

# Of each policy, its points in each game.
Scores = dict[str, list[float]]


def table(seeds: list[Scores]) -> str:
    """Of each policy the mean of its points, and how far it is above that of AGAINST, in pairs."""
    lines = [f"| policy | points | above {AGAINST} |", "|---|---|---|"]
    base = np.array([scores[AGAINST] for scores in seeds])  # [seeds, games]
    for name in seeds[0]:
        points = np.array([scores[name] for scores in seeds])
        lines.append(f"| {name} | {mean(points)} | {'' if name == AGAINST else mean(points - base)} |")
    return "\n".join(lines)


def mean(points: NDArray[np.float64]) -> str:
    """Of points [seeds, games], with its standard error over all games, and where there are several seeds over these,
    each of which has a recording and a JEPA of its own."""
    over_seeds = f" ({error(points.mean(1)):.2f} over seeds)" if len(points) > 1 else ""
    return f"{points.mean():+.2f} ± {error(points.ravel()):.2f}{over_seeds}"


def error(points: NDArray[np.float64]) -> float:
    """The standard error of the mean of points [n]."""
    return float(points.std(ddof=1) / len(points) ** 0.5)
