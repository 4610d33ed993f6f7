"""Score a network, from a plain CSV, by any label set."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from cxrlib.base import own_tables
from cxrlib.statistics import intervals
from cxrlib.studies import auditing, scoring


def _read(path, label, what):
    """Return scores of the images that have a label, and what the file knows of the images."""
    score, images, notes = own_tables.read_own(path, scores=True)
    print(*notes, sep="\n", end="\n" if notes else "")
    all_n = len(score)
    score = auditing.matched(score.set_index("image_id"), label.index)
    images = auditing.matched(images.set_index("image_id"), label.index).reset_index()
    score = score[score.index.isin(label.index)]
    print(f"{all_n} images in {path}, {all_n - len(score)} of them without a label and left out")
    unknown = [f for f in score.columns if f not in label.columns]
    if unknown:
        print(f"Not in {what}, so not scored: {', '.join(unknown)}")
    return score, images[images["image_id"].isin(label.index)]


def _specificity(text):
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is no fraction between 0 and 1")
    return value


def main(arguments=None):
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="cxr score", description=__doc__.splitlines()[0])
    parser.add_argument("predictions", type=Path, help="CSV: image_id and a probability per finding")
    parser.add_argument("--labels", required=True, help="a name of the catalogue, or a CSV")
    parser.add_argument("--compare", type=Path, help="another model's predictions: paired differences")
    parser.add_argument("--specificity", type=_specificity, default=0.9, help="a fraction, 0.9 by default")
    auditing.common_options(parser)
    parser.add_argument("--out", type=Path, help="folder to write scores.csv and differences.csv into")
    chosen = parser.parse_args(arguments)
    try:
        label, images = auditing.opened(chosen.labels, chosen.policy, chosen.blank)
        score, own = _read(chosen.predictions, label, chosen.labels)
        images = auditing.merged(own, images)
        rng = np.random.default_rng(chosen.seed)
        found = scoring.table(label, score, images, chosen.resamples, rng, chosen.specificity, chosen.by)
        auditing.tell(found, images, chosen.by)
        both = None
        if chosen.compare:
            other, _ = _read(chosen.compare, label, chosen.labels)
            both = scoring.compared(label, score, other, images, chosen.resamples, rng)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    with pd.option_context("display.width", 250, "display.max_columns", 20, "display.max_rows", 500):
        whole = found[found["by"] == "all"]
        shown = whole.assign(text=[intervals.text(r.estimate, r.low, r.high) for r in whole.itertuples()])
        keys = ["finding", "images_n", "patients_n", "positives_n"]
        print(shown.pivot(index=keys, columns="measure", values="text")[list(scoring.measures(0.9))].to_string())
        if chosen.by:
            hidden = ["measure", "reason", "delong_low", "delong_high"]
            print(found[found["by"] != "all"].drop(columns=hidden).round(3).to_string(index=False))
        if both is not None:
            print(both.drop(columns="reason").round(4).to_string(index=False))
    if chosen.out:
        chosen.out.mkdir(parents=True, exist_ok=True)
        found.to_csv(chosen.out / "scores.csv", index=False)
        if both is not None:
            both.to_csv(chosen.out / "differences.csv", index=False)


if __name__ == "__main__":
    main()
