"""What the study of adjudicated images shows: its short table and its figure."""

import pandas as pd

from cxrlib.base import figures
from cxrlib.statistics import intervals


def headline(answers, target):
    """Return the short table: what the AUC is by whose labels, and how many images must be read for a standard error.

    Parameters
    ----------
    answers : Mapping of str to (Case, pandas.DataFrame, pandas.DataFrame)
        Question -> the images, `by_whose_labels` and `needed`.
    target : float
        The standard error that is asked for.
    """
    asked = {
        "patients, adjudicated alone": ("patients", "adjudicated"),
        "patients, augmented": ("patients", "augmented"),
        "patients, half reported, augmented": ("patients, half reported", "augmented"),
        "single images, augmented": ("images", "augmented"),
    }
    rows = []
    for name, (case, labels, plan) in answers.items():
        row = {"finding, radiologists": name}
        row["images (patients)"] = f"{len(case.truth):,} ({len(case.units(True)[0]):,})"
        for truth, heading in (("reports", "AUC by reports"), ("radiologists", "AUC by radiologists")):
            row[heading] = intervals.text(*labels.loc[truth, ["estimate", "low", "high"]])
        row["AUC by reports, corrected as if errors ignored the score"] = intervals.text(
            *labels.loc["corrected", ["estimate", "low", "high"]]
        )
        for heading, key in asked.items():
            row[f"images for SE {target:g}: {heading}"] = _images(*plan.loc[key, ["images_n", "low", "high"]])
        rows.append(row)
    return pd.DataFrame(rows)


def _images(*numbers):
    """Return a number of images with its interval, two digits that count."""
    estimate, low, high = (f"{float(f'{n:.1e}'):,.0f}" for n in numbers)
    return f"{estimate} ({low} to {high})"


def error_panels(questions, target):
    """Return a figure of standard error and bias against images read, a column for each question.

    Parameters
    ----------
    questions : Mapping of str to (pandas.DataFrame, float)
        Title -> `summary` of the AUC, and the bias of report labels alone.
    target : float
        The standard error that is asked for.
    """
    lines = {
        ("patients", "adjudicated"): ("patients, adjudicated alone", "#777777", "o-"),
        ("patients", "augmented"): ("patients, augmented", figures.colour("radiologist"), "o-"),
        ("patients, half reported", "augmented"): ("patients, half reported, augmented", "#56B4E9", "s--"),
        ("images", "augmented"): ("single images, augmented", figures.colour("google"), "^-"),
    }
    fig, axes = figures.figure(2, len(questions), width=3.4 * len(questions), height=6.2, sharey="row", squeeze=False)
    for (top, bottom), (title, (table, by_report)) in zip(axes.T, questions.items(), strict=True):
        table = table.reset_index()
        for (design, method), (name, colour, style) in lines.items():
            part = table[(table["design"] == design) & (table["method"] == method)]
            for axis, column in ((top, "se"), (bottom, "bias")):
                axis.plot(part["images_n"], part[column], style, color=colour, label=name, markersize=4)
        part = table[(table["design"] == "patients") & (table["method"] == "mixed")]
        bottom.plot(
            part["images_n"], part["bias"], "d:", color=figures.colour("nlp"), label="mixed labels", markersize=4
        )
        bottom.axhline(by_report, color=figures.colour("nlp"), linewidth=1, label="report labels alone")
        bottom.axhline(0, color="black", linewidth=0.8)
        top.axhline(target, color="black", linewidth=0.8)
        top.set(yscale="log", title=title)
        bottom.set_xlabel("images adjudicated")
        for axis in (top, bottom):
            axis.set_xscale("log")
            axis.set_xticks([100, 200, 500, 1000, 2000], ["100", "200", "500", "1000", "2000"])
            axis.set_xticks([], minor=True)
            axis.set_xlim(0.85 * table["images_n"].min(), 1.15 * table["images_n"].max())
    axes[0, 0].set_ylabel("standard error of the AUC")
    axes[0, 0].set_yticks([0.01, 0.02, 0.05, 0.1], ["0.01", "0.02", "0.05", "0.1"])
    axes[0, 0].set_yticks([], minor=True)
    axes[1, 0].set_ylabel("bias of the AUC")
    fig.legend(*bottom.get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=9)
    return fig
