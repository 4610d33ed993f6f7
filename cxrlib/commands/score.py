"""Score a network, from a plain CSV of its predictions, by any label set, or by two on the same images.

cxr score my_predictions.csv --labels nih_reports --compare their_predictions.csv
cxr score my_predictions.csv --labels google_adjudicated nih_reports --out scores/
cxr score my_predictions.csv --labels nih_reports --adjudicated my_radiologists.csv

Predictions are a CSV with `image_id` and a column for each finding; labels are a name of the catalogue (docs/data.md
lists them) or such a CSV of 1, 0, -1 and empty. Adjudicated labels are such a CSV of some of the images; a column
sampling_probability says with which probability each was picked, if it was not the same for all.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxrlib.base import tables
from cxrlib.commands import extras
from cxrlib.statistics import intervals
from cxrlib.studies import adjudicated_scoring, auditing, displays, scoring, trained_images

if TYPE_CHECKING:
    from collections.abc import Sequence

_COUNTS = ["images_n", "patients_n", "positives_n"]


def _read(path, label, what):
    """Return scores of the images that have a label, and what the file knows of the images."""
    score, images = auditing.read_file(path, scores=True)
    all_n = len(score)
    with extras.saying_of_both(path, what):
        score = auditing.matched(score, label.index)
    images = auditing.matched(images.set_index("image_id"), label.index).reset_index()
    score = score[auditing.among(score.index, label.index)]
    print(f"{all_n} images in {path}, {all_n - len(score)} of them without a label and left out")
    score, notes = scoring.derived(score, label)
    print(*notes, sep="\n", end="\n" if notes else "")
    unknown = [f for f in score.columns if f not in label.columns]
    if unknown:
        print(f"Not in {what}, so not scored: {', '.join(unknown)}")
    return score, images[auditing.among(images["image_id"], label.index)]


def _specificity(text):
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is no fraction between 0 and 1")
    return value


def _parser():
    about, _, examples = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="cxr score",
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("predictions", type=Path, help="CSV: image_id and a probability per finding")
    parser.add_argument(
        "--labels",
        required=True,
        nargs="+",
        metavar="LABELS",
        help="a name of the catalogue, or a CSV; two of them: both on the same images, with the paired difference",
    )
    parser.add_argument("--compare", type=Path, help="another model's predictions: paired differences")
    parser.add_argument(
        "--adjudicated",
        type=Path,
        metavar="LABELS.csv",
        help="radiologists' labels of some images: the AUC by the labels of reports, by these alone, and corrected",
    )
    parser.add_argument(
        "--trained-on",
        metavar="SET",
        help="the CSV, label set or cohort that trained the network: stops if a scored image or patient is in it",
    )
    parser.add_argument("--specificity", type=_specificity, default=0.9, help="a fraction, 0.9 by default")
    auditing.common_options(parser)
    parser.add_argument(
        "--out",
        type=Path,
        help="folder to write scores.csv, differences.csv and label_differences.csv, or adjudicated.csv into",
    )
    return parser


def _check_options(parser, chosen):
    """Stop with the usage if options contradict each other."""
    if len(chosen.labels) > 2 or len(set(chosen.labels)) < len(chosen.labels):
        parser.error("--labels takes one label set, or two different ones")
    if len(chosen.labels) == 2 and chosen.compare:
        parser.error("--compare takes one label set: give one to --labels, or leave out --compare")
    if chosen.adjudicated and (len(chosen.labels) == 2 or chosen.compare or chosen.by):
        parser.error("--adjudicated takes one label set, that of the reports, and neither --compare nor --by")


def _show(found, specificity, by):
    """Print the scores of one label set: how well it ranks, how well it is calibrated, and the AUC in groups."""
    whole = found[found["by"] == "all"]
    shown = whole.assign(text=[intervals.text(r.estimate, r.low, r.high) for r in whole.itertuples()])
    keys = ["finding", *_COUNTS]
    wide = shown.pivot(index=keys, columns="measure", values="text")
    auc = whole[whole["measure"] == "auc"].set_index(keys)
    ranks = pd.DataFrame(
        {
            "AUC (95 % interval over patients)": wide["auc"],
            "SE (bootstrap)": auc["se"].map("{:.4f}".format).replace("nan", ""),
            "DeLong's interval": [
                "" if np.isnan(r.delong_low) else f"{r.delong_low:.3f} to {r.delong_high:.3f}"
                for r in auc.reindex(wide.index).itertuples()
            ],
            "average precision": wide["average_precision"],
            f"sensitivity at specificity {specificity:g}": wide["sensitivity_at_specificity"],
        }
    )
    print(ranks.to_string())
    print(wide[list(scoring.PROBABILITIES)].rename_axis(columns=None).to_string())
    if by:
        hidden = ["measure", "reason", "se", "delong_low", "delong_high", "specificity"]
        print(_rounded(found[found["by"] != "all"].drop(columns=hidden), 3).to_string(index=False))


def _p(value):
    return "" if np.isnan(value) else displays.p_text(value)


def _rounded(table, digits):
    """Return a table to print, p-values as text."""
    return table.round(digits).assign(**{name: table[name].map(_p) for name in displays.p_columns(table)})


def _show_label_differences(differences, names, specificity):
    """Print what one network scores by either label set, and the difference."""
    print(f"By {names[0]} minus by {names[1]}, on the same images and the same resamples of patients:")
    shown = pd.DataFrame(
        {
            "finding": differences["finding"],
            "measure": differences["measure"].replace(
                "sensitivity_at_specificity", f"sensitivity at specificity {specificity:g}"
            ),
            "images_n": differences["images_n"],
            **{
                f"by {name}": differences[f"estimate_{side}"].round(3) for name, side in zip(names, "ab", strict=True)
            },
            "difference": [intervals.text(r.estimate, r.low, r.high) for r in differences.itertuples()],
            **{name: [_p(value) for value in differences[name]] for name in ("p", "p_holm")},
        }
    )
    print(shown.to_string(index=False))


def _opened(chosen):
    """Return the first label set, its images' scores, and what is known of these; make the folder for tables."""
    if chosen.out:
        tables.make_folder(chosen.out)
    extras.check_tables(chosen.labels)
    label, images = auditing.opened(chosen.labels[0], chosen.policy, chosen.blank)
    score, own = _read(chosen.predictions, label, chosen.labels[0])
    if chosen.trained_on:
        extras.check_tables([chosen.trained_on])
        said = trained_images.refuse_trained_on(chosen.trained_on, auditing.merged(own, images))
        print(said or f"No scored image and no patient of one is in {chosen.trained_on}, as far as ids tell.")
    return label, score, auditing.merged(own, images)


def _score(chosen):
    """Score by one label set, or by two, and print and write what comes of it."""
    label, score, images = _opened(chosen)
    rng = np.random.default_rng(chosen.seed)
    options = chosen.resamples, rng, chosen.specificity, chosen.by
    side_tables = {}
    if len(chosen.labels) == 2:
        second, more = auditing.opened(chosen.labels[1], chosen.policy, chosen.blank)
        with extras.saying_of_both(chosen.labels[1], chosen.labels[0]):
            second = auditing.matched(second, label.index)
        images = auditing.merged(images, auditing.matched(more.set_index("image_id"), label.index).reset_index())
        labels = dict(zip(chosen.labels, (label, second), strict=True))
        found, side_tables["label_differences.csv"] = scoring.by_two_label_sets(labels, score, images, *options)
        each = [(f"\nScored by {name}:", found[found["labels"] == name]) for name in chosen.labels]
    else:
        found = scoring.table(label, score, images, *options)
        each = [("", found)]
    auditing.tell(found.drop_duplicates(["finding", "by", "group", "measure", "reason"]), images, chosen.by)
    if chosen.compare:
        other, _ = _read(chosen.compare, label, chosen.labels[0])
        side_tables["differences.csv"] = scoring.compared(label, score, other, images, chosen.resamples, rng)
    with pd.option_context("display.width", 250, "display.max_columns", 20, "display.max_rows", 500):
        for heading, part in each:
            print(heading, end="\n" if heading else "")
            _show(part.drop(columns="labels", errors="ignore"), chosen.specificity, chosen.by)
        if "label_differences.csv" in side_tables:
            _show_label_differences(side_tables["label_differences.csv"], chosen.labels, chosen.specificity)
        if "differences.csv" in side_tables:
            print(f"AUC of {chosen.predictions} minus AUC of {chosen.compare}:")
            print(_rounded(side_tables["differences.csv"].drop(columns="reason"), 4).to_string(index=False))
    if chosen.out:
        for name, one in {"scores.csv": found, **side_tables}.items():
            tables.write_csv(one, chosen.out / name)
        print(f"written to {chosen.out}: {', '.join(['scores.csv', *side_tables])}")


_ASSUMED = {
    False: "that these {drawn} were picked at random from the predictions (else add a column sampling_probability)",
    True: "that the column sampling_probability is right",
}


def _score_adjudicated(chosen):
    """Score by report labels of all images and adjudicated labels of some, and print and write what comes of it."""
    label, score, images = _opened(chosen)
    mine, probability = adjudicated_scoring.read_adjudicated(
        chosen.adjudicated, chosen.policy, label, chosen.labels[0]
    )
    found, notes = adjudicated_scoring.by_adjudicated(label, score, images, mine, probability)
    print(*notes, sep="\n", end="\n" if notes else "")
    auditing.tell(found.assign(by="all", measure=found["method"]), images, ())
    shown = found.assign(text=[intervals.text(r.estimate, r.low, r.high) for r in found.itertuples()])
    keys = ["finding", "images_n", "adjudicated_n", "positives_n"]
    wide = shown.pivot(index=keys, columns="method", values="text")
    names = {"reports": f"by {chosen.labels[0]}", "adjudicated": "adjudicated images alone", "augmented": "corrected"}
    print("AUC with 95 % intervals over patients like these:")
    with pd.option_context("display.width", 250, "display.max_columns", 20):
        print(wide[list(names)].rename(columns=names).rename_axis(columns=None).to_string())
    drawn = " and ".join(sorted(set(found["drawn"])))
    print(
        "Corrected is augmented inverse probability weighting: the adjudicated images, with what scores and report "
        f"labels of all images tell. It assumes {_ASSUMED[probability is not None].format(drawn=drawn)}."
    )
    if chosen.out:
        tables.write_csv(found, chosen.out / "adjudicated.csv")
        print(f"written to {chosen.out}: adjudicated.csv")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    _check_options(parser, chosen)
    try:
        (_score_adjudicated if chosen.adjudicated else _score)(chosen)
    except BrokenPipeError:  # `cxr` ends quietly when the reader of our output has gone
        raise
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
