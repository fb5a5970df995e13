"""Plots arrays as figures that are legible in black and white and to colour-blind readers.

They use matplotlib's Figure class without pyplot, which would open windows and keep global state.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from cli.files import replacing

Numbers = NDArray[np.floating] | Sequence[float]

# The palette of Okabe and Ito (2008), dark colours first. Lines also differ in style, not by colour alone.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
LINES = ("-", "--", "-.", ":")
DPI = 150
# Window of the running median of a game's surprise.
MEDIAN_FRAMES = 61
MAX_PANELS_PER_ROW = 3


def blank(width: float = 7, height: float = 4) -> tuple[Figure, Axes]:
    """A figure with one pair of axes; width and height are in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, plain(figure.add_subplot())


def plain(axes: Axes) -> Axes:
    """Styles axes with a light grid and no frame at the top and right, and returns them."""
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def literal(name: str) -> str:
    """Escapes a name from a user's file, so that a dollar sign in it does not start a formula."""
    return name.replace("$", r"\$")


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG; the file is replaced only once it is complete."""
    with replacing(path) as partial:
        figure.savefig(partial, dpi=DPI, format="png")


def svg(figure: Figure) -> str:
    """The figure as an SVG element, with its text as text."""
    drawn = io.StringIO()
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    # Without what makes it a document of its own, and with links that stay on the page.
    document = drawn.getvalue().replace(' target="_blank"', "")
    return document[document.index("<svg") :]


def probe_figure(scores: Mapping[str, Mapping[str, tuple[float, float]]]) -> Figure:
    """ROC AUC and its spread over games: one panel per label, one line per representation."""
    names, labels = list(scores), list(next(iter(scores.values())))
    columns = min(MAX_PANELS_PER_ROW, len(labels))
    rows = -(-len(labels) // columns)
    figure = Figure(figsize=(2.2 + 2.6 * columns, 0.8 + rows * (0.9 + 0.24 * len(names))), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes, label in zip(panels, labels, strict=False):
        plain(axes)
        for at, name in enumerate(names):
            auc, spread = scores[name][label]
            if np.isnan(auc):
                axes.text(0.5, at, "too few rows", transform=axes.get_yaxis_transform(), ha="center", va="center")
                continue
            ours = name in ("context", "target")
            axes.errorbar(
                auc,
                at,
                xerr=None if np.isnan(spread) else spread,
                marker="D" if ours else "o",
                markerfacecolor=COLOURS[1] if ours else "white",
                color=COLOURS[1] if ours else COLOURS[0],
                capsize=3,
            )
        axes.set(title=literal(label), yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
        axes.xaxis.set_major_locator(MaxNLocator(4))
    for axes in panels[len(labels) :]:
        axes.set_visible(False)
    spread_known = any(not np.isnan(spread) for row in scores.values() for _, spread in row.values())
    figure.supxlabel("ROC AUC" + (" ± standard deviation over test games" if spread_known else ""))
    return figure


def curves_figure(runs: Mapping[str, Mapping[str, Sequence[float]]], embed_dim: int) -> Figure:
    """The curves of training runs by name, one panel per metric, each with the threshold that signals a problem."""
    curves = {
        "loss": ("loss (smooth L1)", None, ""),
        "loss_ratio": ("loss / loss of the mean", 1.0, "nothing learned"),
        "std": ("std of the embedding", 0.1, "collapse"),
        "rankme": ("RankMe, dims", 0.05 * embed_dim, "near-collapse"),
    }
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True).ravel()
    for axes, (name, (title, limit, meaning)) in zip(panels, curves.items(), strict=True):
        plain(axes)
        for i, (run, history) in enumerate(runs.items()):
            style = LINES[i % len(LINES)]
            colour = COLOURS[(i + 1) % len(COLOURS)]
            label = literal(run)
            axes.plot(history["step"], history[name], style, color=colour, marker="o", markersize=3, label=label)
        top = max(max(history[name]) for history in runs.values())
        if limit is not None:
            axes.axhline(limit, color=COLOURS[0], linestyle="--", linewidth=1)
            axes.annotate(meaning, (1, limit), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)
            top = max(top, limit)
        axes.set(title=title, ylim=(0, 1.15 * top))
    if len(runs) > 1:
        panels[0].legend(frameon=False)
    figure.supxlabel("training step")
    return figure


def spectrum_figure(spectra: Mapping[str, Numbers]) -> Figure:
    """Singular values of centred embeddings relative to the largest, in descending order; one line per name."""
    figure, axes = blank()
    for i, (name, values) in enumerate(spectra.items()):
        share = np.asarray(values, float) / max(float(np.max(values)), 1e-12)
        # A logarithmic axis cannot be drawn if all values are 0.
        positive = np.maximum(share, 1e-9)
        axes.plot(np.arange(1, len(share) + 1), positive, color=COLOURS[i], linestyle=LINES[i], label=name)
    axes.set(yscale="log", ylim=(1e-4, 1.5), xlabel="dim, the largest first", ylabel="singular value / largest")
    axes.legend(frameon=False, loc="lower left")
    return figure


def quantiles_figure(quantiles: Mapping[int, Sequence[float]]) -> Figure:
    """Quantiles of the loss on held-out rows at each percent from 0 to 100, one line per horizon."""
    figure, axes = blank()
    for i, (horizon, values) in enumerate(sorted(quantiles.items(), reverse=True)):
        name = f"{horizon} frames ahead" if horizon else "the same frame"
        axes.plot(range(101), values, color=COLOURS[i % len(COLOURS)], linestyle=LINES[i % len(LINES)], label=name)
    axes.set(xlabel="held-out rows with a smaller loss, %", ylabel="loss (smooth L1)", xlim=(0, 100))
    axes.legend(frameon=False, loc="upper left")
    return figure


def map_figure(
    points: Numbers, shares: Sequence[float], classes: NDArray[np.int64], names: Mapping[int, str]
) -> Figure:
    """Points [rows, 2] in one panel per class, where the rows of the class stand out from all others in grey.

    The points are the first two principal components, which explain `shares` of the variance.
    """
    points = np.asarray(points)
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(1 + 2 * columns, 0.8 + 2 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (value, name) in zip(panels, names.items(), strict=False):
        mine = points[classes == value]
        axes.scatter(*points.T, s=3, color="0.85", linewidths=0, rasterized=True)
        axes.scatter(*mine.T, s=5, color=COLOURS[1], linewidths=0)
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"{literal(name)} ({len(mine):,})", fontsize=9)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    first, second = (f"{100 * share:.0f} % of the variance" for share in shares)
    figure.supxlabel(f"1st principal component ({first})", fontsize=9)
    figure.supylabel(f"2nd ({second})", fontsize=9)
    return figure


def surprise_figure(frames: NDArray[np.int64], values: Numbers, moments: Sequence[int], unit: str) -> Figure:
    """The surprise at each frame of one game, its running median, and numbered marks at the indices `moments`.

    In SVG a mark is the element `moment-1`, and its number a link to `words-1`.
    """
    figure, axes = blank(9, 3.5)
    values = np.asarray(values)
    window = min(MEDIAN_FRAMES, len(values))
    middle = np.median(np.lib.stride_tricks.sliding_window_view(values, window), axis=1)
    axes.plot(frames, values, color="0.7", linewidth=0.6)
    axes.plot(frames[window // 2 :][: len(middle)], middle, color=COLOURS[1], linewidth=1.5)
    for number, at in enumerate(moments, 1):
        axes.plot(frames[at], values[at], marker="v", color=COLOURS[2], gid=f"moment-{number}")
        place = frames[at], values[at]
        text = axes.annotate(str(number), place, xytext=(0, 6), textcoords="offset points", ha="center", weight="bold")
        text.set_url(f"#words-{number}")
    axes.set(xlabel="frame", ylabel=unit)
    axes.margins(x=0.01, y=0.12)
    return figure
