"""Compare one label set with another on the same images."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from cxrlib.studies import auditing


def _tell_blanks(reference, other, shared):
    """Print of which findings many shared images have no label on one side."""
    for finding in auditing.shared_findings(reference, other):
        blank = reference.loc[shared, finding].isna() | other.loc[shared, finding].isna()
        if blank.mean() > 0.05:
            print(
                f"{finding}: {int(blank.sum())} of {len(shared)} images have no label on one side and are left out; "
                "if a blank means absent, as in report labelers' files, say --blank absent"
            )


def main(arguments=None):
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="cxr audit", description=__doc__.splitlines()[0])
    parser.add_argument("reference", help="a name of the catalogue, or a CSV")
    parser.add_argument("other", help="the label set held against it")
    auditing.common_options(parser)
    parser.add_argument("--out", type=Path, help="folder to write audit.csv into")
    chosen = parser.parse_args(arguments)
    try:
        reference, images = auditing.opened(chosen.reference, chosen.policy, chosen.blank)
        other, more = auditing.opened(chosen.other, chosen.policy, chosen.blank)
        other = auditing.matched(other, reference.index)
        shared = reference.index.intersection(other.index)
        print(f"{len(reference)} images in {chosen.reference}, {len(other)} in {chosen.other}, {len(shared)} in both")
        images = auditing.merged(images, auditing.matched(more.set_index("image_id"), reference.index).reset_index())
        images = images[images["image_id"].isin(shared)]
        rng = np.random.default_rng(chosen.seed)
        table = auditing.against(reference, other, images, chosen.resamples, rng, by=chosen.by)
        _tell_blanks(reference, other, shared)
        auditing.tell(table, images, chosen.by)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    for here, there, name in ((reference, other, chosen.other), (other, reference, chosen.reference)):
        left_out = [f for f in here.columns if f not in there.columns]
        if left_out:
            print(f"Not in {name}, so not compared: {', '.join(left_out)}")
    with pd.option_context("display.width", 250, "display.max_columns", 20, "display.max_rows", 500):
        print(auditing.wide(table).to_string())
    if chosen.out:
        chosen.out.mkdir(parents=True, exist_ok=True)
        table.to_csv(chosen.out / "audit.csv", index=False)
        print(f"every measure: {chosen.out / 'audit.csv'}")


if __name__ == "__main__":
    main()
