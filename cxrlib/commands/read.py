"""Read one radiograph approximately, by networks that an archive's reports taught. Research, not for diagnosis.

cxr read chest.png
cxr read chest.png --report report.txt --out reading/

It prints topic and key words, findings present and absent with calibrated probability, and the nearest reports of the
archive; with --out it writes saliency maps. Where the edition in force has no such networks, the released ones
(models/) are used, which learned from simulated images.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cxrlib.base import torchvision_fix  # noqa: F401 (must come before timm, fastai and transformers)

# isort: split

from cxrlib.base import runs
from cxrlib.cohorts import image_files
from cxrlib.commands import explain, released
from cxrlib.labelers import rules
from cxrlib.networks import image_reading, mined_pairs, presence, trained_runs
from cxrlib.releases import released_models

if TYPE_CHECKING:
    from collections.abc import Sequence

RESEARCH_ONLY = (
    "RESEARCH ONLY, NOT FOR DIAGNOSIS: networks wrote this that an archive's reports taught, errors and all; nobody "
    "has tested them on patients. Do not use it for anyone's care."
)

_RELEASED = "archive_reader"  # in models/

_MOST_MAPS = 3  # findings that get a map: those present, else the most probable one


def _parser():
    about, _, examples = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="cxr read",
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("image", type=Path, help="PNG, JPEG or DICOM")
    add("--edition", help="whose archive taught the networks; the one in force by default")
    add("--networks", type=Path, help="their folder, if not data/mining_networks/EDITION")
    add("--report", type=Path, help="a text file with the true report, to stand beside")
    add("--nearest", type=int, default=3, help="how many of the archive's reports to show, 3 by default")
    add("--out", type=Path, help="folder to write saliency maps into; one without an explained.csv, unless --force")
    add("--force", action="store_true", help="replace the explained.csv in --out, and overlays of the same names")
    return parser


def _networks_folder(chosen):
    """Return the folder of the reader that was asked for; the released one where the edition in force has none."""
    if chosen.networks is not None:
        return chosen.networks
    folder = image_reading.reader_dir(chosen.edition or runs.params("edition"))
    if (folder / "reading.json").is_file() or not released_models.is_released(_RELEASED):
        return folder
    if chosen.edition not in (None, released_models.read_models()[_RELEASED].about["edition"]):
        return folder
    found = released_models.find_model(_RELEASED, released_models.ARCHIVE_READER)
    released.say_released(found)
    return found.folder


def _report_text(path):
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise OSError(f"{path} cannot be read ({error.strerror}): give the report as a text file.") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8.") from None


def _texts(reader, report_ids):
    """Return the text of reports by id, of those that lie on this disk; released networks bring theirs with them."""
    if "text" in reader.reports:
        return reader.reports.set_index("report_id")["text"].loc[report_ids].to_dict()
    path = mined_pairs.pairs_path(reader.about["edition"], reader.about["cohort"])
    if not path.is_file() or not len(report_ids):
        return {}
    table = pd.read_parquet(path, columns=["report_id", "text"], filters=[("report_id", "in", list(report_ids))])
    return dict(zip(table["report_id"], table["text"], strict=True))


def _indented(text):
    return "\n".join(f"    {line}" for line in text.strip().splitlines())


def _said(text, findings):
    """Return what the rules read in the true report, by finding, in words."""
    labels = pd.DataFrame([rules.RuleLabeler().read(text).labels]).astype("float32")
    labels = presence.with_airspace_opacity(labels).iloc[0]
    words = {1: "present", 0: "absent", -1: "uncertain"}
    return [words.get(labels.get(finding), "not mentioned") for finding in findings]


def _show(reader, reading, image, report):
    """Print a reading."""
    learned = reader.about["images"]
    print(
        f"Approximate reading of {image}, by networks that learned from {learned} (edition {reader.about['edition']})"
    )
    print("They say nothing about a real radiograph.\n" if "simulated" in learned else "")
    first = reading.topics.iloc[0]
    print(f"Topic {first['topic']} ({first['probability']:.2f}): {first['words']}")
    for row in reading.topics.iloc[1:].itertuples():
        print(f"  else {row.topic} ({row.probability:.2f}): {row.words}")
    words = ", ".join(reading.words["word"].head(5))
    print(f"Disease words near the image: {words or 'none among the key words of these topics'}\n")
    table = reading.findings.sort_values("probability", ascending=False, kind="stable")
    shown = pd.DataFrame({"finding": table["finding"], "probability": table["probability"].map("{:.3f}".format)})
    shown["reading"] = table["present"].map({True: "present", False: "absent"})
    shown["from"] = table["threshold"].map("{:.3f}".format)
    if report is not None:
        shown["the true report says"] = _said(report, table["finding"])
    print(
        f"Findings; probabilities are calibrated by {reader.about['calibrated_by']}, `from` is where present begins:"
    )
    print(shown.to_string(index=False))
    texts = _texts(reader, reading.nearest["report_id"])
    print("\nNearest reports of the archive (cosine):" if len(reading.nearest) else "")
    for row in reading.nearest.itertuples():
        print(f"  {row.report_id} ({row.similarity:.3f}), of image {row.image_id}")
        print(_indented(texts.get(row.report_id, "its text is not on this disk")))
    if report is not None:
        print(f"\nThe true report:\n{_indented(report)}")


def _maps(reader, folder, reading, picture, chosen):
    """Write saliency maps of the findings that are present, or of the most probable one."""
    table = reading.findings.sort_values("probability", ascending=False, kind="stable")
    present = table["finding"][table["present"]].tolist()[:_MOST_MAPS] or table["finding"].tolist()[:1]
    factor = reader.about["size_px"] / reader.about["store_px"]
    places = {"scale": picture.scale * factor, "left_px": picture.left_px * factor, "top_px": picture.top_px * factor}
    small = dataclasses.replace(picture, square=reader.fitted(picture.square)[0], **places)
    run = trained_runs.Run(reader.findings, tuple(reader.about["findings"]), reader.about["size_px"], folder)
    explain.explain(run, [small], chosen.out, findings=present, force=chosen.force)
    print(f"\nSaliency maps of {', '.join(present)}: {chosen.out} (probabilities there are not calibrated)")


def main(arguments: Sequence[str] | None = None) -> int | None:
    """Run the command line; return the exit status."""
    chosen = _parser().parse_args(arguments)
    if chosen.nearest < 0:
        sys.exit("--nearest is below 0: give 0 or more.")
    try:
        folder = _networks_folder(chosen)
        reader = image_reading.open_reader(folder)
        if chosen.out is not None:
            explain.make_explained_folder(chosen.out, chosen.force)
        report = _report_text(chosen.report) if chosen.report else None
        picture = explain.read_fitted(chosen.image, reader.about["store_px"])
        print(f"{RESEARCH_ONLY}\n")
        reading = reader.read(picture.square, chosen.nearest)
        _show(reader, reading, chosen.image, report)
        if chosen.out is not None:
            _maps(reader, folder, reading, picture, chosen)
        print(f"\n{RESEARCH_ONLY}")
    except image_files.UnreadableImageError as error:
        sys.exit(f"{chosen.image} cannot be read: {error}.")
    except BrokenPipeError:  # `cxr` ends quietly when the reader of our output has gone
        raise
    except (ValueError, OSError, KeyError) as error:
        sys.exit(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
