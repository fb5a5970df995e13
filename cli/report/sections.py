"""The parts of a report: each draws its picture of what was read or computed, and says how to read it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA

from app.rows import Array
from bundle.columns import KINDS, TrainingColumns, findings
from bundle.manifest import Manifest
from bundle.reader import Bundle
from cli import plots
from cli.embedding import BundleEmbedder
from cli.report.page import Link, Picture, Section, Table
from cli.report.surprise import Surprise, surprise
from cli.report.words import changes, outcomes
from model.data.frames import Frames
from model.data.splits import rows_ahead
from model.evaluation.probes import Health, health

MAX_MAP_ROWS = 3000
MAX_CLASSES = 12
MAX_DRIFT_COLUMNS = 10
CURVES = ("step", "loss", "loss_ratio", "std", "rankme")

# From a label to the names of its classes 0, 1, …
Names = dict[str, list[str]]


def facts(manifest: Manifest) -> Section:
    about = manifest.training
    rows = [
        ("made", manifest.created),
        ("row", f"{manifest.input_dim} columns in {len(manifest.feature_schema.groups)} groups"),
        ("embedding", f"{manifest.embed_dim} dims"),
        ("predicts", ", ".join(map(str, manifest.horizons)) + " frames ahead"),
        *((f"training {name}", f"{about[name]:,}") for name in ("rows", "episodes", "steps") if _is_count(about, name)),
        *((f"metric {name}", _short(value)) for name, value in about.get("metrics", {}).items()),
        ("licence", manifest.licence or "not given"),
        ("data", ", ".join(f"{key} {value}" for key, value in manifest.data.items()) or "not given"),
    ]
    return Section("The model", parts=[Table("What bundle.json says", ("", ""), rows)])


def _is_count(about: dict[str, object], name: str) -> bool:
    return isinstance(about.get(name), int)


def training(manifest: Manifest, folder: Path) -> Section:
    history = manifest.history
    if not set(CURVES) <= history.keys() or len({len(history[name]) for name in CURVES}) > 1 or not history["step"]:
        return Section("Training", "The bundle holds no curves of its training: it is imported, or an older one.")
    picture = folder / "training.png"
    plots.save(plots.curves_figure({manifest.name: history}, manifest.embed_dim), picture)
    ends = {name: f"{history[name][0]:g} to {history[name][-1]:g}" for name in CURVES}
    return Section(
        "Training",
        "The loss alone says little, since what is predicted changes as it is learned. Its share of the loss of always "
        "predicting the mean says whether anything is learned; std and RankMe say whether embeddings still differ.",
        [
            Picture(
                picture,
                f"From step {ends['step']}: loss {ends['loss']}, over the loss of the mean {ends['loss_ratio']}, "
                f"std {ends['std']}, RankMe {ends['rankme']}.",
                "Measured on held-out rows; a dashed line marks where a number means that something is wrong.",
            )
        ],
    )


def usual_loss(manifest: Manifest, folder: Path) -> Section:
    title, quantiles = "How large a loss is usual", manifest.loss_quantiles
    if not quantiles:
        return Section(title, "The bundle holds no quantiles of its loss, so /loss answers no percentiles.")
    picture = folder / "quantiles.png"
    plots.save(plots.quantiles_figure(quantiles), picture)
    medians = ", ".join(f"{values[50]:.3g} at {horizon} frames ahead" for horizon, values in sorted(quantiles.items()))
    caption = "The loss of held-out rows by percentile: what the percentiles of /loss mean."
    return Section(title, parts=[Picture(picture, f"Median loss {medians}.", caption)])


def spectrum(embeddings: dict[str, Array], folder: Path) -> Section:
    """embeddings [n, D] by encoder."""
    found = {name: health(rows) for name, rows in embeddings.items()}
    words = {
        name: f"{name} encoder: RankMe {one.rankme:.1f}, effective rank {one.effective_rank}"
        for name, one in found.items()
    }
    values = {
        words[name]: np.linalg.svd((rows - rows.mean(0)).astype(np.float64), compute_uv=False)
        for name, rows in embeddings.items()
    }
    picture = folder / "spectrum.png"
    plots.save(plots.spectrum_figure(values), picture)
    return Section(
        "How many dims are in use",
        "A line that falls steeply puts all rows near a plane of few dims. RankMe counts dims by how evenly the "
        "singular values are spread, the effective rank those that hold 95 % of the variance.",
        [
            Picture(picture, "; ".join(words.values()), "Singular values of the centred embeddings, down to 1/10,000."),
            Table(
                "The embeddings without any label",
                ("", "RankMe", "effective rank", "std of a dim: mean", "least", "largest", "dead dims"),
                [_health_row(name, one) for name, one in found.items()],
            ),
        ],
    )


def _health_row(name: str, found: Health) -> list[str]:
    numbers = (found.rankme, found.effective_rank, found.std, found.least_std, found.largest_std)
    return [f"{name} encoder", *map(_short, numbers), f"{found.dead_dims} of {found.dims}"]


def embedding_map(target: Array, game: Frames, names: Names, called: str, folder: Path) -> Section:
    """target embeddings [n, D] of the game's rows."""
    title = "A map of the frames"
    if min(target.shape) < 2:
        return Section(title, f"A map needs two rows and two dims; there are {target.shape[0]} and {target.shape[1]}.")
    drawn = np.linspace(0, len(game) - 1, min(MAX_MAP_ROWS, len(game))).astype(int)
    label = next(iter(game.labels), None)
    classes = np.zeros(len(drawn), np.int64) if label is None else game.labels[label][drawn]
    values, counts = np.unique(classes[classes >= 0], return_counts=True)
    shown = np.sort(values[np.argsort(-counts, kind="stable")[:MAX_CLASSES]]).tolist()
    panels = {value: "all" if label is None else _class_name(names, label, value) for value in shown}
    # Where the model has collapsed all embeddings are the same, and the share of the variance is 0 of 0.
    with np.errstate(invalid="ignore"):
        pca = PCA(2, random_state=0).fit(target[drawn])
    shares = np.nan_to_num(pca.explained_variance_ratio_).tolist()
    picture = folder / "map.png"
    plots.save(plots.map_figure(pca.transform(target[drawn]), shares, classes, panels), picture)
    by = "" if label is None else f" by {label} ({', '.join(panels.values())})"
    return Section(
        title,
        "Two dims are enough to tell classes apart that fill places of their own; the others may differ in the rest.",
        [
            Picture(
                picture,
                f"Embeddings of {called}{by}: two principal components, {100 * sum(shares):.0f} % of the variance.",
                f"{len(drawn):,} frames of {called}, target encoder"
                + (
                    "." if label is None else f"; a panel a class of {label}, with its frames' number, all others grey."
                ),
            )
        ],
    )


def surprises(
    bundle: Bundle,
    embedder: BundleEmbedder,
    context: Array,
    target: Array,
    game: Frames,
    names: Names,
    called: str,
    folder: Path,
) -> Section:
    """context and target embeddings [n, D] of the game's rows."""
    manifest = bundle.manifest
    title, horizon = "What surprised it", manifest.horizons[-1]
    training = TrainingColumns.of(manifest.statistics, manifest.input_dim)
    scale = np.ones(manifest.input_dim) if training is None else training.scale
    if game.frame is None:
        return Section(title, "Without a 'frame' column no row is later than another, so nothing was predicted.")
    ahead = rows_ahead(game, horizon)
    if not (ahead >= 0).any():
        return Section(title, f"No frame of {called} has one {horizon} frames later.")
    found = surprise(bundle, embedder, context, target, ahead, horizon)
    values, unit = found.losses, "loss (smooth L1)"
    if found.percentiles is not None:
        values, unit = found.percentiles, "percentile of the loss"
    moments = found.moments(horizon)
    frames, earlier = game.frame[found.rows], np.flatnonzero(ahead >= 0)

    def happened(at: int) -> list[str]:
        before, now = int(earlier[at]), int(found.rows[at])
        words = changes(manifest.feature_schema.names, scale, game.features[before], game.features[now])
        if bundle.heads is not None:
            expected = embedder.expected(context[[before]], horizon)[0]
            words += outcomes(bundle.heads, 1 + manifest.horizons.index(horizon), expected, target[now])
        return words

    picture, figure = folder / "surprise.png", plots.surprise_figure(frames, values, moments, unit)
    plots.save(figure, picture)
    return Section(
        title,
        f"How far each frame of {called} was off what the model predicted {horizon} frames before"
        + ("." if found.percentiles is None else "; 100 is as far as the worst of the held-out rows."),
        [
            Picture(
                picture,
                f"Most surprising were the frames {', '.join(str(frames[at]) for at in moments)}.",
                f"Thin: each frame; thick: the median of {plots.MEDIAN_FRAMES} frames; numbered: the largest losses, "
                "which lead to what happened.",
                plots.svg(figure),
            ),
            _moments(found, moments, game, names, happened),
        ],
    )


def _moments(
    found: Surprise, moments: list[int], game: Frames, names: Names, happened: Callable[[int], list[str]]
) -> Table:
    assert game.frame is not None
    rows: list[list[str | Link]] = []
    for number, at in enumerate(moments, 1):
        row = int(found.rows[at])
        percentile = "–" if found.percentiles is None else f"{found.percentiles[at]:.1f}"
        classes = [_class_name(names, name, int(values[row])) for name, values in game.labels.items()]
        words = "; ".join(happened(at)) or "hardly any column changed"
        # Leads to the mark on the curve, whose number leads back.
        link = Link(words, f"moment-{number}", f"words-{number}")
        rows.append([str(number), str(game.frame[row]), f"{found.losses[at]:.3g}", percentile, *classes, link])
    head = ("", "frame", "loss", "percentile", *game.labels, "what happened since it was predicted")
    return Table("The most surprising moments", head, rows)


def drift(manifest: Manifest, frames: Frames) -> Section:
    title = "Is this like the data it was trained on"
    training = TrainingColumns.of(manifest.statistics, manifest.input_dim)
    if training is None:
        return Section(title, "The bundle holds no mean and std of its training columns, or not their range.")
    seen, columns = training.summarise(frames.features), manifest.feature_schema.names
    odd = findings(training, seen)
    shift = np.where(training.alive, (seen.mean - training.mean) / training.scale, 0)
    furthest = np.argsort(-np.abs(shift), kind="stable")[:MAX_DRIFT_COLUMNS].tolist()
    moved = Table(
        "The columns that moved furthest",
        ("", "mean in training", "std in training", "mean here", "shift, std"),
        [
            [columns[i], *map(_short, (training.mean[i], training.std[i], seen.mean[i])), f"{shift[i]:+.2f}"]
            for i in furthest
        ],
    )
    if not odd:
        return Section(title, f"All {len(columns)} columns are like the same column in training.", [moved])
    unlike = Table(
        f"The first {MAX_DRIFT_COLUMNS} of them" if len(odd) > MAX_DRIFT_COLUMNS else "All of them",
        ("", "what is unlike training", "rows outside its range"),
        [[columns[one.column], KINDS[one.kind], f"{one.share_outside:.1%}"] for one in odd[:MAX_DRIFT_COLUMNS]],
    )
    count = len({one.column for one in odd})
    return Section(title, f"Columns unlike the same column in training: {count} of {len(columns)}.", [unlike, moved])


def _class_name(names: Names, label: str, value: int) -> str:
    known = names.get(label, [])
    if value < 0:
        return "–"
    return str(known[value]) if value < len(known) else str(value)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
