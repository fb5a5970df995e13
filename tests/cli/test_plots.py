import numpy as np
import pytest

from cli import plots

NAN = float("nan")


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in (axes.title, *axes.texts)]


def drawn(figure, tmp_path):
    """Renders the figure, which would fail for a bad string or an empty array."""
    plots.save(figure, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]
    return figure


def test_a_panel_a_label_shows_each_representations_auc_with_its_spread(tmp_path):
    labels = {f"y_{i}": (0.6 + i / 100, 0.02) for i in range(5)}
    figure = drawn(plots.probe_figure({"raw": labels, "target": labels}), tmp_path)
    visible = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in visible] == list(labels)
    points = [line.get_xdata()[0] for line in visible[3].lines if line.get_marker() in "oD"]
    assert points == pytest.approx([0.63, 0.63])
    assert "standard deviation over test games" in figure.get_supxlabel()


def test_an_auc_that_nobody_could_measure_is_said_and_not_drawn(tmp_path):
    figure = drawn(plots.probe_figure({"raw": {"y": (NAN, NAN)}, "target": {"y": (0.7, NAN)}}), tmp_path)
    assert texts(figure).count("too few rows") == 1
    assert figure.get_supxlabel() == "ROC AUC"


def test_names_with_dollars_are_names_and_no_formulas(tmp_path):
    drawn(plots.probe_figure({"raw": {"y_$\\bad{$": (0.7, 0.1)}}), tmp_path)
    points = np.random.default_rng(0).normal(size=(9, 2))
    drawn(plots.map_figure(points, [0.5, 0.1], np.zeros(9, int), {0: "$x^$"}), tmp_path)


def test_a_map_has_a_panel_a_class_with_the_number_of_its_rows(tmp_path):
    points, classes = np.random.default_rng(0).normal(size=(50, 2)), np.repeat([0, 1, 4], [30, 15, 5])
    figure = drawn(plots.map_figure(points, [0.5, 0.1], classes, {0: "idle", 1: "hit", 4: "dead"}), tmp_path)
    assert [axes.get_title() for axes in figure.axes] == ["idle (30)", "hit (15)", "dead (5)"]
    assert [len(axes.collections[1].get_offsets()) for axes in figure.axes] == [30, 15, 5]
    assert figure.get_supxlabel() == "1st principal component (50 % of the variance)"


def test_curves_mark_where_a_number_says_that_something_is_ill(tmp_path):
    history = {"step": [250, 500], "loss": [0.3, 0.2], "loss_ratio": [0.9, 0.5], "std": [1.0, 0.9], "rankme": [9, 12]}
    figure = drawn(plots.curves_figure({"run": history}, embed_dim=64), tmp_path)
    assert {"nothing learned", "collapse", "near-collapse"} <= set(texts(figure))
    np.testing.assert_array_equal(figure.axes[3].lines[0].get_ydata(), [9, 12])
    assert figure.axes[3].lines[1].get_ydata()[0] == pytest.approx(3.2)


def test_a_spectrum_is_drawn_over_its_largest_value(tmp_path):
    figure = drawn(plots.spectrum_figure({"one": [8.0, 4.0, 0.0], "two": [0.0, 0.0]}), tmp_path)
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [1, 0.5, 0], atol=1e-6)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["one", "two"]


def test_quantiles_name_their_horizon_the_furthest_first(tmp_path):
    figure = drawn(plots.quantiles_figure({0: [0.1] * 101, 60: [0.3] * 101}), tmp_path)
    told = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert told == ["60 frames ahead", "the same frame"]


@pytest.mark.parametrize("length", [1, 10, 200])
def test_a_game_of_any_length_is_drawn_with_its_numbered_moments(tmp_path, length):
    values = np.arange(length, dtype=np.float32)
    figure = drawn(plots.surprise_figure(np.arange(length) - 39, values, [length - 1], "loss"), tmp_path)
    each, middle = figure.axes[0].lines[:2]
    assert len(each.get_xdata()) == length
    assert middle.get_ydata()[0] == np.median(values[: plots.MEDIAN_FRAMES])
    assert len(middle.get_xdata()) == len(middle.get_ydata())
    assert texts(figure)[-1] == "1"
