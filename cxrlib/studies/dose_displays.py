"""What the dose-response study shows: its figures, and its tables in sentences."""

import re

import numpy as np
import pandas as pd

from cxrlib.base import figures
from cxrlib.networks import dose_scores
from cxrlib.statistics import intervals
from cxrlib.studies import displays, dose_exchange
from cxrlib.studies.dose_response import BY_RADIOLOGIST, BY_REPORTS

_AXIS = "noise of the training labels (1: as measured)"
_SCORED = {BY_RADIOLOGIST: "scored by the radiologist", BY_REPORTS: "scored by the reports"}


def _drawn(axis, x, part, colour, style="-", label=None):
    """Draw estimates and their intervals along x."""
    ends = part[["low", "high"]].to_numpy(float).T
    reach = np.abs(ends - part["estimate"].to_numpy(float))
    axis.errorbar(
        x, part["estimate"], np.nan_to_num(reach), color=colour, ls=style, marker="o", ms=3.5, lw=1.3, label=label
    )


def dose_figure(curves, size):
    """Return a figure of AUC by noise: a column a radiologist, a row a scorer, a line a mechanism.

    Parameters
    ----------
    curves : pandas.DataFrame
        As `dose_response.dose_curves` returns it.
    size : int
        Of the training sets that are shown.
    """
    part = curves[curves["size"] == size]
    readers = sorted(part["sensitivity"].unique(), reverse=True)
    mechanisms = list(dict.fromkeys(part["mechanism"]))
    shape = {"width": 4.6 * len(readers), "height": 6.4, "sharex": True, "sharey": "row", "squeeze": False}
    fig, axes = figures.figure(len(_SCORED), len(readers), **shape)
    for line, (scorer, title) in zip(axes, _SCORED.items(), strict=True):
        for axis, reader in zip(line, readers, strict=True):
            shown = part[(part["sensitivity"] == reader) & (part["scored_against"] == scorer)]
            groups = shown.groupby(["mechanism", "correlation"], sort=False)
            for k, ((mechanism, correlation), doses) in enumerate(groups):
                doses = doses.sort_values("scale")
                at = doses["scale"] + 0.012 * (k - (len(groups) - 1) / 2)  # side by side, so that intervals are seen
                words = "repeat within a patient" if correlation else "one by one"
                colour = figures.shade(mechanism, mechanisms)
                _drawn(axis, at, doses, colour, "--" if correlation else "-", f"{mechanism}, {words}")
            axis.set_title(f"radiologist of sensitivity {reader:g},\n{title}")
    for axis in axes[-1]:
        axis.set_xlabel(_AXIS)
    for axis in axes[:, 0]:
        axis.set_ylabel("AUC")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(mechanisms), fontsize=8)
    return fig


def exchange_figure(curves, exchange):
    """Return a figure of AUC by training images, without noise and with all of it, and what is worth as much.

    Parameters
    ----------
    curves, exchange : pandas.DataFrame
        As `dose_response.dose_curves` and `dose_exchange.exchange` return them.
    """
    readers = sorted(exchange["sensitivity"].unique(), reverse=True)
    fig, axes = figures.figure(1, len(readers), width=4.8 * len(readers), height=3.8, sharey=True, squeeze=False)
    base = curves[(curves["correlation"] == 0) & (curves["scored_against"] == BY_RADIOLOGIST)]
    base = base[base["mechanism"] == base["mechanism"].iloc[0]]
    for axis, reader in zip(axes[0], readers, strict=True):
        part = base[base["sensitivity"] == reader].sort_values("size")
        scales = sorted(s for s, lines in part.groupby("scale") if lines["size"].nunique() > 1)
        ends = {scales[0]: ("radiologist", "radiologist's labels"), scales[-1]: ("nlp", "report labels")}
        for scale in scales:
            doses = part[part["scale"] == scale]
            if scale in ends:
                _drawn(axis, doses["size"], doses, figures.colour(ends[scale][0]), label=ends[scale][1])
            else:
                axis.plot(doses["size"], doses["estimate"], color="#bbbbbb", lw=1, label=f"noise {scale:g}")
        worth = exchange[(exchange["sensitivity"] == reader) & (exchange["scored_against"] == BY_RADIOLOGIST)]
        for row in worth[worth["needed"].notna()].itertuples():
            arrow = {"arrowstyle": "->", "color": "#444444", "lw": 0.9}
            axis.annotate("", (row.needed, row.auc), (row.reports_n, row.auc), arrowprops=arrow)
        axis.set(xscale="log", xlabel="training images", title=f"radiologist of sensitivity {reader:g}")
        axis.set_xticks(sorted(part["size"].unique()), [f"{n:,}" for n in sorted(part["size"].unique())])
        axis.minorticks_off()
    axes[0, 0].set_ylabel("AUC, scored by the radiologist")
    axes[0, 0].legend(fontsize=7, loc="lower right")
    return fig


def course_figure(scores, base):
    """Return a figure of validation AUC and loss by step of the networks of `base`, without noise and with all of it.

    Parameters
    ----------
    scores : dose_scores.DoseScores
    base : dose_response.Line
    """
    runs = scores.runs[scores.runs["role"] == dose_scores.GRID]
    for name in ("size", "mechanism", "correlation", "sensitivity"):
        runs = runs[runs[name] == getattr(base, name)]
    fig, axes = figures.figure(1, 2, width=9, height=3.4)
    ends = {runs["scale"].min(): "radiologist", runs["scale"].max(): "nlp"}
    for scale, label_set in ends.items():
        for row in runs[runs["scale"] == scale].itertuples():
            course = scores.courses[scores.courses["run"] == row.Index]
            chosen = course[course["step"] == row.chosen_step]
            for axis, measure in zip(axes, ("valid_auc", "valid_loss"), strict=True):
                axis.plot(course["step"], course[measure], color=figures.colour(label_set), lw=0.8, alpha=0.6)
                axis.plot(chosen["step"], chosen[measure], "o", color=figures.colour(label_set), ms=4)
        axes[0].plot([], [], color=figures.colour(label_set), label=f"noise {scale:g}")
    axes[0].set(xlabel="step", title="validation AUC by the labels that were trained on")
    axes[1].set(xlabel="step", title="validation loss; points: the step that was kept")
    axes[0].legend(fontsize=8)
    return fig


def slope_figure(slopes, size):
    """Return a figure of the slopes on every line of one size, by who scored the test.

    Parameters
    ----------
    slopes : pandas.DataFrame
        As `dose_response.slopes` returns it.
    size : int
    """
    part = slopes[(slopes["measure"] == "slope") & (slopes["size"] == size)]
    fig, axes = figures.figure(1, len(_SCORED), width=10.5, height=4, sharey=True, sharex=True)
    for axis, (scorer, title) in zip(axes, _SCORED.items(), strict=True):
        lines = part[part["scored_against"] == scorer]
        names = [line_name(row) for row in lines.itertuples()]
        colours = [figures.shade(m, list(dict.fromkeys(lines["mechanism"]))) for m in lines["mechanism"]]
        figures.forest(axis, displays.forest_lines(lines, names, colours), reference=0)
        axis.set(title=title, xlabel="change in AUC per unit of noise")
    return fig


def line_name(row):
    """Return what to call a line: its mechanism, whether errors repeat, and the radiologist's sensitivity."""
    repeats = ", repeated" if row.correlation else ""
    return f"{row.mechanism}{repeats}, radiologist {row.sensitivity:g}"


def images_text(row):
    """Return how many images are needed as text with its interval; of what lies beyond the sizes, on which side.

    Parameters
    ----------
    row : named tuple
        Of `dose_exchange.exchange`.
    """
    ends = (row.needed, row.needed_low, row.needed_high)
    estimate, low, high = (
        f"{value:,.0f}" if np.isfinite(value) else _side(what, row.reason)
        for value, what in zip(ends, dose_exchange.ENDS, strict=True)
    )
    return f"{estimate} ({low} to {high})" if low else estimate


def _side(what, reason):
    """Return on which side of which size an end lies, as its reason says, or an empty text if there is none."""
    found = re.search(rf"{what} lies (\w+) (\d+) images", reason)
    return f"{found[1]} {int(found[2]):,}" if found else ""


def _effect_text(row):
    verdict = displays.verdict(row, better="a flatter fall", worse="a steeper fall")
    return f"{intervals.text(row.estimate, row.low, row.high)}: {verdict}"


def headline(study, slopes, differences, exchange, leads, controls):
    """Return the study in short, `question, answer`, scored by the radiologist unless a row says otherwise."""
    base, rows = study.base, {}
    line = {"measure": "slope", "size": base.size, "mechanism": base.mechanism, "correlation": base.correlation}
    for reader in study.readers():
        found = _one(slopes, **line, sensitivity=reader, scored_against=BY_RADIOLOGIST)
        told = f"{base.size:,} images, errors {base.mechanism}, radiologist of sensitivity {reader:g}"
        rows[f"change in AUC per unit of noise: {told}"] = intervals.text(found.estimate, found.low, found.high)
    average = differences[(differences["at"] == "mean") & (differences["scored_against"] == BY_RADIOLOGIST)]
    for row in average.itertuples():
        by = ", each scored by its own radiologist" if row.factor == "sensitivity" else ""
        rows[f"change of that slope, {row.factor}, {row.comparison}{by}"] = _effect_text(row)
    for row in exchange[exchange["scored_against"] == BY_RADIOLOGIST].itertuples():
        if row.reports_n >= base.size:
            name = f"images with the radiologist's labels (sensitivity {row.sensitivity:g}) worth {row.reports_n:,}"
            rows[f"{name} with report labels"] = images_text(row)
    kept = _one(leads, **{name: getattr(base, name) for name in ("mechanism", "correlation", "sensitivity")})
    for name, text in (("lead", "radiologist"), ("lead_reports", "reports"), ("expected", "reports, as expected")):
        ends = (getattr(kept, f"{name}{end}") for end in ("", "_low", "_high"))
        rows[f"lead of the radiologist's labels over report labels, scored by {text}"] = intervals.text(*ends)
    for row in controls.itertuples():
        rows[f"control: {row.control}"] = intervals.text(row.estimate, row.low, row.high)
    return pd.DataFrame({"question": rows.keys(), "answer": rows.values()})


def _one(table, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    return next(table.itertuples())
