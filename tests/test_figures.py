"""Figures: every name stands beside its own interval, every curve and bar shows its own numbers."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from cxrlib.base import figure_text, figures

ROWS = [
    {"name": "top", "estimate": 0.3, "low": 0.1, "high": 0.4, "colour": "#0072B2"},
    {"name": "middle", "estimate": 0.6, "low": 0.5, "high": 0.9, "colour": "#D55E00"},
    {"name": "bottom", "estimate": -0.2, "low": -0.3, "high": 0.0, "colour": "#009E73"},
]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def named(axis):
    """Return what an axis shows beside each of its names: `{name: (low, high, estimate, colour)}`."""
    places = {tick: text.get_text() for tick, text in zip(axis.get_yticks(), axis.get_yticklabels(), strict=True)}
    out = {}
    for y, name in places.items():
        lines = [line for line in axis.lines if np.size(line.get_ydata()) and set(np.ravel(line.get_ydata())) == {y}]
        lines = [line for line in lines if line.get_linestyle() != ":"]  # not the line of reference
        (bar,) = (line for line in lines if line.get_marker() == "None")
        (point,) = (line for line in lines if line.get_marker() == "o")
        assert bar.get_color() == point.get_color()
        out[name] = (*bar.get_xdata(), point.get_xdata()[0], to_hex(bar.get_color()).upper())
    return out


def by_height(axis):
    """Return the names of an axis from top to bottom as a reader sees them."""
    places = zip(axis.get_yticks(), axis.get_yticklabels(), strict=True)
    up = bool(axis.get_ylim()[0] < axis.get_ylim()[1])
    return [text.get_text() for _, text in sorted(places, key=lambda place: place[0], reverse=up)]


def references(axis):
    return [line.get_xdata()[0] for line in axis.lines if line.get_linestyle() == ":"]


def test_a_forest_is_told_row_by_row_from_what_was_drawn():
    fig, axis = figures.figure()
    figures.forest(axis, ROWS, reference=0)
    axis.set(title="difference", xlabel="AUC, new less old")
    told = figure_text.described(fig, "simulated images: 9 of 3 patients").splitlines()
    assert told[0] == "Figure: difference. AUC, new less old."
    assert told[1:3] == ["", "Caption: simulated images: 9 of 3 patients"]
    assert told[4:] == ["top: 0.3 (0.1 to 0.4)", "middle: 0.6 (0.5 to 0.9)", "bottom: -0.2 (-0.3 to 0)"]
    axis.set_yticks(range(3), ["top", "middle", "bottom"])  # the names of other rows
    assert "bottom: 0.3 (0.1 to 0.4)" in figure_text.described(fig)


def test_each_kind_of_panel_is_told_with_its_numbers():
    fig, axes = figures.figure(2, 2)
    axes[0, 0].plot([1, 2], [0.25, 0.5], "o-", label="short")
    axes[0, 0].plot(np.arange(20), np.linspace(1, 3, 20), label="long")
    axes[0, 0].set(xlabel="epoch", ylabel="loss", title="curves")
    figures.heatmap(axes[0, 1], pd.DataFrame([[1.0, np.nan]], ["mass"], ["nih", "rsna"]), "{:.1f}")
    axes[1, 0].hlines([0, 0.2], [0.1, 0.3], [0.5, 0.7])
    axes[1, 0].plot([0.4, 0.6], [0, 0.2], "o", label="AUC")
    axes[1, 0].set_yticks([0], ["edema"])
    axes[1, 1].imshow(np.zeros((2, 2)))
    axes[1, 1].set_title("an example")
    told = figure_text.described(fig)
    assert told.startswith("4 panels: curves; an example. loss by epoch. series: short, long, AUC.\n")
    assert "curves: loss by epoch.\nshort: 0.25 at 1, 0.5 at 2\nlong: 20 points from 1 at 0 to 3 at 19" in told
    assert "mass: nih 1.0\n" in told and "rsna" not in told
    assert "edema: AUC 0.4 (0.1 to 0.5), AUC 0.6 (0.3 to 0.7)" in told and "an example: an image" in told


def test_pictures_without_titles_are_told_by_their_rows():
    fig, axes = figures.figure(2, 3)
    for axis in axes.flat:
        axis.imshow(np.zeros((2, 2)), cmap="gray")
    for axis, name in zip(axes[:, 0], ("no finding", "edema"), strict=True):
        axis.set_ylabel(name)
    assert figure_text.described(fig, "c") == "6 images, in rows: no finding, edema.\n\nCaption: c"
    empty, _ = figures.figure()
    assert figure_text.alternative_text(figure_text.described(empty)) == "Figure: without titles."


def test_a_finished_figure_is_shown_once_with_its_words(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(figures, "display", shown.append)
    plt.close("all")  # what other tests of this process left
    fig, axis = figures.figure()
    axis.set_title("nothing")
    figures.finish(fig, "simulated images: 2 of 1 patients, " * 8, tmp_path / "f.png")
    (picture,) = shown
    data, metadata = picture._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG") and (tmp_path / "f.png").exists()
    assert data["text/plain"].splitlines()[0] == metadata["image/png"]["alt"] == "Figure: nothing."
    assert not plt.get_fignums(), "Jupyter would show it again"
    assert len(fig.get_supxlabel().splitlines()) > 1


def test_forest_puts_each_name_beside_its_interval():
    _, axis = figures.figure()
    figures.forest(axis, ROWS, reference=0)
    shown = named(axis)
    for row in ROWS:
        assert shown[row["name"]] == (row["low"], row["high"], row["estimate"], row["colour"].upper())
    assert by_height(axis) == ["top", "middle", "bottom"], "the first is on top"
    assert references(axis) == [0]


def test_differences_are_named_by_network_test_and_scorer():
    table = pd.DataFrame(
        {
            "comparison": "reader - report",
            "network": ["resnet", "resnet", "densenet"],
            "test": ["internal", "external", "internal"],
            "scored_against": ["radiologist", "nlp", "nlp"],
            "estimate": [0.2, 0.1, -0.1],
            "low": [0.15, 0.02, -0.3],
            "high": [0.25, 0.3, -0.05],
        }
    )
    (axis,) = figures.difference_forest(table).axes
    assert named(axis) == {
        "resnet, internal test, scored by radiologist": (0.15, 0.25, 0.2, figures.colour("radiologist")),
        "resnet, external test, scored by nlp": (0.02, 0.3, 0.1, figures.colour("nlp")),
        "densenet, internal test, scored by nlp": (-0.3, -0.05, -0.1, figures.colour("nlp")),
    }
    assert references(axis) == [0] and axis.get_xlabel().endswith("reader - report")


def test_auc_panels_show_a_line_an_arm_under_its_own_title():
    rows = [
        (finding, test, scorer, network, label_set)
        for finding, test, scorer in (
            ("mass", "internal", "nlp"),
            ("mass", "external", "nlp"),
            ("edema", "home", "rsna"),
        )
        for network, label_set in (("resnet", "radiologist"), ("resnet", "nlp"))
    ]
    table = pd.DataFrame(rows, columns=["finding", "test", "scored_against", "network", "trained_on"])
    table["estimate"] = 0.6 + 0.05 * np.arange(len(table))
    table["low"], table["high"] = table["estimate"] - 0.01 * (1 + table.index), table["estimate"] + 0.02
    axes = figures.auc_panels(table).axes
    assert [axis.get_visible() for axis in axes] == [True, True, True, False]
    for axis, (place, part) in zip(
        axes, table.groupby(["finding", "test", "scored_against"], sort=False), strict=False
    ):
        assert axis.get_title(loc="left") == f"{place[0]}, {place[1]} test\nscored by {place[2]}"
        shown = named(axis)
        assert len(shown) == 2 and references(axis) == [0.5]
        for row in part.itertuples():
            expected = (row.low, row.high, row.estimate, figures.colour(row.trained_on))
            assert shown[f"resnet, {row.trained_on}"] == expected


def test_a_roc_curve_runs_from_specificity_to_its_complement():
    _, axis = figures.figure()
    specificities, sensitivity = np.array([0.0, 0.5, 0.9, 1.0]), np.array([1.0, 0.8, 0.3, 0.0])
    low, high = sensitivity - 0.1, sensitivity + 0.2
    figures.roc(axis, specificities, sensitivity, low, high, "nlp", "the reports")
    (line,) = axis.lines
    np.testing.assert_allclose(line.get_xdata(), [1, 0.5, 0.1, 0])
    np.testing.assert_allclose(line.get_ydata(), sensitivity)
    assert (line.get_label(), line.get_color()) == ("the reports", figures.colour("nlp"))
    (band,) = axis.collections
    corners = band.get_paths()[0].vertices
    for x, *ends in zip(1 - specificities, low, high, strict=True):
        there = corners[np.isclose(corners[:, 0], x), 1]
        assert [there.min(), there.max()] == pytest.approx(ends)


@pytest.mark.filterwarnings("ignore:No artists with labels")
def test_roc_panels_show_each_arm_under_its_own_test_and_scorer():
    """Every cell gives another curve, so that a panel with another's curve is noticed."""
    arms = [
        SimpleNamespace(architecture="resnet", finding=finding, label_set=label_set)
        for finding in ("mass", "edema")
        for label_set in ("radiologist", "nlp")
    ]
    places, scorers = {"home": "internal", "away": "external"}, ["radiologist", "nlp"]

    def level(arm, cohort, scorer):
        keys = ("mass", "edema"), ("radiologist", "nlp"), ("home", "away"), ("radiologist", "nlp")
        asked = (arm.finding, arm.label_set, cohort, scorer)
        return 0.1 + 0.05 * sum(
            2**k * names.index(value) for k, (names, value) in enumerate(zip(keys, asked, strict=True))
        )

    class Cells:
        def has(self, arm, cohort, scorer):
            return (arm.finding, cohort, scorer) != ("edema", "away", "nlp")

        def roc(self, arm, cohort, scorer, specificities):
            flat = np.full(len(specificities), level(arm, cohort, scorer))
            return flat, flat - 0.01, flat + 0.01

    panels = figures.roc_panels(Cells(), arms, places, scorers).axes
    order = [(f, c, s) for f in ("mass", "edema") for c in places for s in scorers]
    assert len(panels) == len(order)
    for axis, (finding, cohort, scorer) in zip(panels, order, strict=True):
        if not Cells().has(SimpleNamespace(finding=finding), cohort, scorer):
            assert not axis.get_visible()
            continue
        assert axis.get_title(loc="left") == f"resnet, {finding}\n{places[cohort]} test, scored by {scorer}"
        curves = {line.get_label(): line.get_ydata()[0] for line in axis.lines if line.get_linestyle() != ":"}
        assert curves == {a.label_set: level(a, cohort, scorer) for a in arms if a.finding == finding}
        assert (axis.get_xlabel(), axis.get_ylabel()) == ("1 - specificity", "sensitivity")


def test_a_heatmap_writes_every_number_into_its_own_cell():
    table = pd.DataFrame([[1.0, 20.0, np.nan], [300.0, 4.0, 5.0]], ["a_row", "another"], ["one_x", "two", "three"])
    _, axis = figures.figure()
    figures.heatmap(axis, table, "{:.1f}", log=True)
    columns = [text.get_text() for text in axis.get_xticklabels()]
    rows = [text.get_text() for text in axis.get_yticklabels()]
    assert columns == ["one x", "two", "three"] and rows == ["a row", "another"]
    shown = {tuple(map(int, text.get_position())): text.get_text() for text in axis.texts}
    expected = {
        (x, y): f"{table.iloc[y, x]:.1f}" for y in range(2) for x in range(3) if np.isfinite(table.iloc[y, x])
    }
    assert shown == expected
    np.testing.assert_allclose(axis.images[0].get_array()[1], np.log10([300, 4, 5]))


def test_disagreement_puts_each_finding_beside_its_own_shares():
    table = pd.DataFrame(
        {
            "finding": ["rare_one", "common", "never"],
            "reference_n": [10, 200, 0],
            "tp": [4, 150, 0],
            "fn": [6, 50, 0],
            "fp": [12, 450, 3],
        }
    )
    fig = figures.disagreement(table, "readers", "report")
    left, right = fig.axes
    assert by_height(left) == ["common", "rare one", "never"], "the most frequent on top"
    assert left.get_title(loc="left") == "Of 100 that readers see, the report says"
    assert right.get_title(loc="left") == "Of 100 that the report says, readers see"
    places = {text.get_text(): tick for tick, text in zip(left.get_yticks(), left.get_yticklabels(), strict=True)}
    for axis, missing in ((left, "fn"), (right, "fp")):
        said = {text.get_position()[1]: text.get_text() for text in axis.texts}
        for row in table.itertuples():
            y = places[row.finding.replace("_", " ")]
            whole = row.tp + getattr(row, missing)
            assert said[y] == f"{row.tp} of {whole}"
            bars = sorted(b.get_width() for b in axis.patches if b.get_y() < y < b.get_y() + b.get_height())
            assert bars == pytest.approx(sorted([100 * row.tp / whole if whole else 0, 100]))


def test_the_label_sets_that_are_compared_have_colours_of_their_own():
    assert len({figures.colour(name) for name in ("radiologist", "nlp", "nlp_noise_free", "google", "unknown")}) == 5
    shades = [to_hex(figures.shade(name, ["a", "b", "c"])) for name in "abc"]
    assert len(set(shades)) == 3 and to_hex(figures.shade("only", ["only"])) == shades[0]


def test_a_figure_says_what_images_it_is_from_and_is_saved_the_same_twice(tmp_path):
    for name in ("first.png", "second.png"):
        fig, axis = figures.figure(width=3, height=2)
        figures.forest(axis, ROWS)
        figures.finish(fig, "simulated images", tmp_path / name)
        assert fig.get_supxlabel() == "from simulated images"
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()
