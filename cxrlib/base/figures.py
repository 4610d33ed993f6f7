"""Figures that look alike and say what images they were made from."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
from IPython.core.pylabtools import print_figure
from IPython.display import display

from cxrlib.base import figure_text

# Colour-blind safe (Okabe and Ito); one colour per label set everywhere.
COLOURS = {
    "radiologist": "#0072B2",
    "rsna": "#0072B2",
    "nlp": "#D55E00",
    "nlp_noise_free": "#999999",
    "google": "#009E73",
    "drawn": "#009E73",
}


STYLE = {
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "svg.hashsalt": "cxrlib",
}


_LETTERS_AN_INCH = 15  # of what stands at a figure's foot


def colour(label_set):
    """Return the colour of a label set."""
    return COLOURS.get(label_set, "#444444")


def shade(name, names):
    """Return a colour for one of several named things that have none of their own (`COLOURS`), by its place."""
    return plt.get_cmap("viridis")(0.05 + 0.85 * list(names).index(name) / max(1, len(names) - 1))


def figure(rows=1, columns=1, *, width=8, height=4, **keywords):
    """Return a figure and its axes in the house style."""
    plt.rcParams.update(STYLE)
    return plt.subplots(rows, columns, figsize=(width, height), layout="constrained", **keywords)


class Picture:
    """A finished figure as a notebook shows it: a PNG, and its description for who cannot see it and for tests.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
    caption : str
    """

    def __init__(self, fig, caption):
        self.text = figure_text.described(fig, caption)
        self._png = print_figure(fig, "png", bbox_inches="tight")

    def __repr__(self):
        return self.text

    def _repr_mimebundle_(self, **_):
        alternative = {"image/png": {"alt": figure_text.alternative_text(self.text)}}
        return {"image/png": self._png, "text/plain": self.text}, alternative


def finish(fig, images, path=None):
    """Write under a figure what images it is from, save it as PNG without volatile metadata, show it, and close it.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
    images : str
        The caption: real or simulated, how many images and patients, and what intervals cover.
    path : Path, optional
    """
    foot = "\n".join(textwrap.wrap(f"from {images}", round(_LETTERS_AN_INCH * fig.get_figwidth())))
    fig.supxlabel(foot, fontsize=8, color="#777777", x=0.995, ha="right")
    if path is not None:
        fig.savefig(path, metadata={"Software": None})
    display(Picture(fig, images))
    plt.close(fig)


def roc(axis, specificities, sensitivity, low, high, label_set, label):
    """Draw one ROC curve with its band."""
    fpr = [1 - s for s in specificities]
    axis.fill_between(fpr, low, high, color=colour(label_set), alpha=0.18, linewidth=0)
    axis.plot(fpr, sensitivity, color=colour(label_set), label=label, linewidth=1.6)


def frame_roc(axis, title):
    """Finish the axes of a ROC plot."""
    axis.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=0.8, linestyle=":")
    axis.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", title=title)
    axis.set(xlabel="1 - specificity", ylabel="sensitivity")
    axis.legend(loc="lower right", fontsize=8)


def forest(axis, rows, reference=None):
    """Draw estimates with intervals, one line each.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    rows : list of dict
        `name, estimate, low, high, colour`; the first is on top.
    reference : float, optional
        A vertical line, e.g. 0 for differences.
    """
    for y, row in enumerate(reversed(rows)):
        axis.plot([row["low"], row["high"]], [y, y], color=row["colour"], linewidth=2, solid_capstyle="round")
        axis.plot(row["estimate"], y, "o", color=row["colour"], markersize=5)
    axis.set_yticks(range(len(rows)), [row["name"] for row in reversed(rows)])
    axis.set_ylim(-0.6, len(rows) - 0.4)
    if reference is not None:
        axis.axvline(reference, color="#888888", linewidth=0.8, linestyle=":")


def auc_panels(table):
    """Return a figure of a study's AUCs: a panel per finding, test and test labels, a line per arm.

    Parameters
    ----------
    table : pandas.DataFrame
        As `comparisons.auc_table` returns it.
    """
    panels = list(table.groupby(["finding", "test", "scored_against"], sort=False))
    rows = -(-len(panels) // 2)
    lines = max(len(part) for _, part in panels)
    fig, axes = figure(rows, 2, width=10, height=rows * (0.95 + 0.24 * lines), sharex=True, squeeze=False)
    for axis, ((finding, test, scored_by), part) in zip(axes.flat, panels, strict=False):
        entries = [
            {"name": f"{r.network}, {r.trained_on}", **_interval(r), "colour": colour(r.trained_on)}
            for r in part.itertuples()
        ]
        forest(axis, entries, reference=0.5)
        axis.set_title(f"{finding}, {test} test\nscored by {scored_by}")
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    return fig


def _interval(row):
    return {"estimate": row.estimate, "low": row.low, "high": row.high}


def difference_forest(differences):
    """Return a figure of paired AUC differences, coloured by who scored the test set."""
    fig, axis = figure(width=8.5, height=1.0 + 0.3 * len(differences))
    entries = [
        {
            "name": f"{r.network}, {r.test} test, scored by {r.scored_against}",
            **_interval(r),
            "colour": colour(r.scored_against),
        }
        for r in differences.itertuples()
    ]
    forest(axis, entries, reference=0)
    axis.set_xlabel("difference in AUC: " + ", ".join(dict.fromkeys(differences["comparison"])))
    return fig


def roc_panels(cells, arms, places, test_labels):
    """Return a figure of ROC curves with bands: a row per network and finding, a column per test and test labels.

    Parameters
    ----------
    cells : crossing.Cells
    arms : sequence of crossing.Arm
    places : Mapping of str to str
        Test cohort -> what to call it.
    test_labels : sequence of str
    """
    rows = list(dict.fromkeys((arm.finding, arm.architecture) for arm in arms))
    columns = [(c, name) for c in places for name in test_labels if any(cells.has(arm, c, name) for arm in arms)]
    specificities = np.linspace(0, 1, 101)
    shape = {"width": 3.3 * len(columns), "height": 3.5 * len(rows), "squeeze": False}
    fig, axes = figure(len(rows), len(columns), **shape)
    for line, (finding, architecture) in zip(axes, rows, strict=True):
        for axis, (cohort, name) in zip(line, columns, strict=True):
            shown = [
                a
                for a in arms
                if (a.finding, a.architecture) == (finding, architecture) and cells.has(a, cohort, name)
            ]
            axis.set_visible(bool(shown))
            for arm in shown:
                roc(axis, specificities, *cells.roc(arm, cohort, name, specificities), arm.label_set, arm.label_set)
            frame_roc(axis, f"{architecture}, {finding}\n{places[cohort]} test, scored by {name}")
    return fig


def heatmap(axis, table, form, log=False):
    """Draw a table of numbers as coloured cells with the numbers in them; NaN stays blank.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    table : pandas.DataFrame of float
    form : str
        A format for one number, such as "{:.1f}".
    log : bool
        Colour by the logarithm.
    """
    values = table.to_numpy(float)
    shade = np.log10(np.maximum(values, 1e-3)) if log else values
    low, high = np.nanmin(shade), np.nanmax(shade)
    axis.imshow(shade, cmap="Blues", aspect="auto", vmin=low, vmax=high + 0.3 * (high - low))
    for y, x in np.argwhere(np.isfinite(values)):
        dark = shade[y, x] > low + 0.75 * (high - low)
        text = form.format(values[y, x])
        axis.text(x, y, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    axis.set_xticks(range(table.shape[1]), [str(c).replace("_", " ") for c in table.columns], rotation=45, ha="right")
    axis.set_yticks(range(table.shape[0]), [str(c).replace("_", " ") for c in table.index])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def disagreement(table, reference="radiologists", other="report"):
    """Return a picture of two opinions: what one sees and the other says, and the other way round.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per finding of `auditing.against`: `finding, tp, fp, fn`.
    reference, other : str
        What to call the two.
    """
    rows = table.sort_values("reference_n", ascending=False)
    fig, axes = figure(1, 2, width=9, height=0.42 * len(rows) + 1.3, sharey=True)
    titles = (f"Of 100 that {reference} see, the {other} says", f"Of 100 that the {other} says, {reference} see")
    for axis, missing, title in zip(axes, ("fn", "fp"), titles, strict=True):
        for y, row in enumerate(rows[::-1].itertuples()):
            whole = row.tp + getattr(row, missing)
            share = 100 * row.tp / whole if whole else 0
            axis.barh(y, 100, color="#e3e3e3", height=0.72)
            axis.barh(y, share, color=colour("radiologist" if missing == "fn" else "nlp"), height=0.72)
            inside = share > 30
            axis.text(
                share - 1.5 if inside else share + 1.5,
                y,
                f"{row.tp} of {whole}",
                ha="right" if inside else "left",
                va="center",
                fontsize=8.5,
                color="white" if inside else "black",
            )
        axis.set(xlim=(0, 100), title=title)
        axis.tick_params(left=False)
        axis.spines["left"].set_visible(False)
    axes[0].set_yticks(range(len(rows)), [name.replace("_", " ") for name in rows["finding"][::-1]])
    return fig
