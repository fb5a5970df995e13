"""What the embedding is worth where few games are labelled: keeps the numbers of `jepa eval`, and draws them.

    jepa eval default melee287_train.parquet --labels y_act30 --labels y_opp_act30 --labels y_dmg60 --out eval.json
    python -m benchmarks.lab.few_labels eval.json

writes docs/lab/few_labels.json and draws docs/pictures/few-labels-light.png and -dark.png. Without a file it draws what
was kept.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from cli.files import replacing
from cli.plots import DPI, literal

DOCS = Path(__file__).parents[2] / "docs"
KEPT = DOCS / "lab" / "few_labels.json"
SETUP = ("model", "version", "split", "rows", "test_rows", "seed")
MAX_BYTES = 200_000


class Scheme(NamedTuple):
    """Colours of a picture; `lines` are those of LINES, in their order."""

    paper: str
    ink: str
    lines: tuple[str, str, str]


# Of the page that the pictures are shown on. The lines are those of Okabe and Ito (2008), as they are or lighter.
SCHEMES = {
    "light": Scheme("#ffffff", "#1f2328", ("#0072b2", "#d55e00", "#5b6169")),
    "dark": Scheme("#0d1117", "#e6edf3", ("#56b4e9", "#e69f00", "#9aa4af")),
}
# Line of `jepa eval` → its name in the picture, its style and its mark.
LINES = {
    "target": ("embedding, linear", "-", "o"),
    "raw, boosted trees": ("columns, tuned trees", "--", "s"),
    "raw": ("columns, linear", ":", "^"),
}


def kept(document: dict[str, Any]) -> dict[str, Any]:
    """Of what `jepa eval --out` wrote; ValueError if it has no few labels."""
    if not document.get("few_labels"):
        raise ValueError("this is no file of `jepa eval --out` with few labels")
    return {name: document[name] for name in SETUP} | {"few_labels": document["few_labels"]}


def few_labels_figure(document: dict[str, Any], scheme: Scheme) -> Figure:
    """ROC AUC by the number of labelled games, one panel per label."""
    labels = document["few_labels"]
    figure = Figure(figsize=(3 * len(labels), 3.3), layout="constrained", facecolor=scheme.paper)
    for axes, (label, lines) in zip(figure.subplots(1, len(labels), squeeze=False)[0], labels.items(), strict=True):
        counts: list[int] = []
        for (line, (name, style, mark)), colour in zip(LINES.items(), scheme.lines, strict=True):
            cells = {int(count): cell for count, cell in lines.get(line, {}).items() if cell["auc"] is not None}
            if not cells:
                continue
            counts = max(counts, sorted(cells), key=len)
            axes.errorbar(
                [*cells],
                [cell["auc"] for cell in cells.values()],
                yerr=[cell["error"] or 0 for cell in cells.values()],
                label=name,
                color=colour,
                linestyle=style,
                marker=mark,
                markersize=5,
                linewidth=2,
                elinewidth=1,
            )
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_title(literal(label.removeprefix("y_")), color=scheme.ink, fontsize=11)
        axes.set_facecolor(scheme.paper)
        axes.tick_params(colors=scheme.ink)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["bottom", "left"]].set_color(scheme.ink)
    figure.axes[0].legend(frameon=False, labelcolor=scheme.ink, fontsize=9, loc="lower right")
    figure.axes[0].set_ylabel("ROC AUC", color=scheme.ink)
    figure.supxlabel("labelled games", color=scheme.ink, fontsize=10)
    return figure


def draw(folder: Path) -> list[Path]:
    """Draws what was kept as few-labels-light.png and few-labels-dark.png."""
    document, paths = json.loads(KEPT.read_text()), []
    for name, scheme in SCHEMES.items():
        path = folder / f"few-labels-{name}.png"
        with replacing(path) as partial:
            few_labels_figure(document, scheme).savefig(partial, dpi=DPI, format="png")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ValueError(f"{path} has {size} bytes; pictures may have {MAX_BYTES}")
        paths.append(path)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", nargs="?", type=Path, help="what `jepa eval --out` wrote")
    given = parser.parse_args()
    if given.scores is not None:
        KEPT.write_text(json.dumps(kept(json.loads(given.scores.read_text())), indent=1) + "\n")
    for path in draw(DOCS / "pictures"):
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
