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
        above = "" if name == AGAINST else f"{(points - base).mean():+.2f} ± {error(points - base):.2f}"
        lines.append(f"| {name} | {points.mean():+.2f} ± {error(points):.2f} | {above} |")
    return "\n".join(lines)


def error(points: NDArray[np.float64]) -> float:
    """The standard error of the mean of points [seeds, games]: over seeds, or over games where there is one seed."""
    each = points[0] if len(points) == 1 else points.mean(1)
    return float(each.std(ddof=1) / len(each) ** 0.5)
