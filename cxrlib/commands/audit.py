"""Compare one label set with another on the same images.

cxr audit google_adjudicated nih_reports --part test
cxr audit google_adjudicated my_labels.csv --by view sex --out audit/
cxr audit my_labels.csv@v1 my_labels.csv@v2 --out changes/

A label set is a name of the catalogue (docs/data.md lists them) or a CSV with `image_id` and a column a finding.
FILE@REVISION is a file as a tag or commit of git has it. Two versions are not scored: which images changed their
label is counted by finding, and `changes.csv` in the folder of --out names them. --changes does so with two files.
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
from cxrlib.labels import label_versions
from cxrlib.studies import auditing

if TYPE_CHECKING:
    from collections.abc import Sequence


def _tell_blanks(reference, other, shared):
    """Print of which findings many shared images have no label on one side."""
    for finding in auditing.shared_findings(reference, other):
        blank = reference.loc[shared, finding].isna() | other.loc[shared, finding].isna()
        if blank.mean() > 0.05:
            print(
                f"{finding}: {int(blank.sum())} of {len(shared)} images have no label on one side and are left out; "
                "if a blank means absent, as in report labelers' files, say --blank absent"
            )


def _parser():
    about, _, examples = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="cxr audit",
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("reference", help="a name of the catalogue, or a CSV")
    parser.add_argument("other", help="the label set compared with it")
    parser.add_argument("--changes", action="store_true", help="two versions of one label set: what changed")
    auditing.common_options(parser)
    parser.add_argument("--part", help="only this part of the reference's release, as its publisher divided it: test")
    parser.add_argument("--out", type=Path, help="folder to write audit.csv into")
    return parser


def _is_versioned(where):
    """Return whether a word names a version of a file."""
    return label_versions.split_version(where)[1] is not None


def _compare_versions(chosen):
    """Print which labels changed between two versions, and write which images they are of."""
    asked = [name for name, given in (("--by", chosen.by), ("--part", chosen.part)) if given]
    if asked:
        raise ValueError(f"{asked[0]} is for two label sets that are compared: leave it out with two versions.")
    versions = [label_versions.opened_version(where) for where in (chosen.reference, chosen.other)]
    for (_, _, notes), where in zip(versions, (chosen.reference, chosen.other), strict=True):
        print(*(f"{where}: {note}" for note in notes), sep="\n", end="\n" if notes else "")
    (first, images, _), (second, more, _) = versions
    patient = pd.concat([more, images]).dropna(subset="patient_id").drop_duplicates("image_id")
    counts, labels = label_versions.changed_labels(first, second, patient.set_index("image_id")["patient_id"])
    shared = first.index.intersection(second.index)
    print(
        f"{len(first)} images in {chosen.reference}, {len(second)} in {chosen.other}, {len(shared)} in both; "
        f"{labels['image_id'].nunique()} images have a label that changed or are in one version alone"
    )
    print(counts.to_string(index=False) if len(counts) else "No label changed.")
    if chosen.out:
        tables.write_csv(labels, chosen.out / "changes.csv")
        tables.write_csv(counts, chosen.out / "counts.csv")
        print(f"every label that changed: {chosen.out / 'changes.csv'}")


def _audit(chosen):
    """Compare the two label sets, and print and write what comes of it."""
    if chosen.out:
        tables.make_folder(chosen.out)
    if chosen.changes or _is_versioned(chosen.reference) or _is_versioned(chosen.other):
        _compare_versions(chosen)
        return
    extras.check_tables([chosen.reference, chosen.other])
    reference, images = auditing.opened(chosen.reference, chosen.policy, chosen.blank)
    if chosen.part:
        reference = auditing.only_part(reference, images, chosen.part, chosen.reference)
    other, more = auditing.opened(chosen.other, chosen.policy, chosen.blank)
    with extras.saying_of_both(chosen.other, chosen.reference):
        other = auditing.matched(other, reference.index)
    shared = reference.index.intersection(other.index)
    of_part = f" (part {chosen.part})" if chosen.part else ""
    print(
        f"{len(reference)} images in {chosen.reference}{of_part}, {len(other)} in {chosen.other}, "
        f"{len(shared)} in both"
    )
    images = auditing.merged(images, auditing.matched(more.set_index("image_id"), reference.index).reset_index())
    images = images[auditing.among(images["image_id"], shared)]
    rng = np.random.default_rng(chosen.seed)
    table = auditing.against(reference, other, images, chosen.resamples, rng, by=chosen.by)
    _tell_blanks(reference, other, shared)
    auditing.tell(table, images, chosen.by)
    for here, there, name in ((reference, other, chosen.other), (other, reference, chosen.reference)):
        left_out = [f for f in here.columns if f not in there.columns]
        if left_out:
            print(f"Not in {name}, so not compared: {', '.join(left_out)}")
    with pd.option_context("display.width", 250, "display.max_columns", 20, "display.max_rows", 500):
        print(auditing.wide(table).to_string())
    if chosen.out:
        tables.write_csv(table, chosen.out / "audit.csv")
        print(f"every measure: {chosen.out / 'audit.csv'}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    chosen = _parser().parse_args(arguments)
    try:
        _audit(chosen)
    except BrokenPipeError:  # `cxr` ends quietly when the reader of our output has gone
        raise
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
