"""Put an edition's settings in force, list the editions, or write one for your own images.

`cxr edition` lists them, `cxr edition NAME` composes `params.yaml` from `editions/NAME.yaml`, and with `--folder` it
writes that file first made for a hospital's own images (docs/own_images.md).
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import yaml

from cxrlib.base import editions, own_tables, paths, tables, vocabulary
from cxrlib.commands import interruption, sharing

if TYPE_CHECKING:
    from collections.abc import Sequence

_CARD = {"how": "not stated", "version": "1", "source": "our own", "licence": "not stated", "citation": "none"}
_WHO = {"radiologist": "radiologists", "labels": "not stated"}
_EDITION = """\
# Edition {name}: our own images (docs/own_images.md). Say in label_sets who labelled them, and how.
extends: base
images: {images}
size_px: 224
cohorts:
  {name}: {cohort}
label_sets:
  {name}:
{label_sets}
reference: {first}
splits: {{main: {split}}}
targets:
{targets}
runs:
  pneumothorax: {{targets: [{names}], architectures: [tf_efficientnet_lite0], seeds: [1, 2, 3]}}
pneumothorax:
  scored_against: {scored}
  comparisons: {{{first} - {second}: [{names}]}}
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    chosen = _parser().parse_args(arguments)
    root = paths.ROOT
    try:
        if chosen.name is None:
            _tell(root)
        elif any(value is not None for value in (chosen.folder, chosen.table, chosen.labels, chosen.radiologist)):
            path, said = write(chosen.name, root, **_complete(chosen))
            print(f"{path.relative_to(root)} is written: {said}\nNext: make repro EDITION={chosen.name}")
        else:
            sharing.check_edition(editions.compose(chosen.name, root), root)
            with interruption.alone():  # a pipeline that runs reads params.yaml
                editions.activate(chosen.name, root)
            print(f"params.yaml is edition {chosen.name}.")
    except (ValueError, OSError) as error:
        sys.exit(str(error))


def write(name, root, *, folder, table, labels=None, radiologist=None):
    """Write an edition for images of one's own; return its file and a sentence about what it is of.

    The labels are read, split and made into targets first, as the pipeline will do; no image is opened.

    Parameters
    ----------
    name : str
        Of the edition, its file and its cohort.
    root : Path
    folder, table : str
        As `cxrlib.cohorts.sources.own_folder` takes them.
    labels, radiologist : sequence of str, optional
        Columns of findings, with the CSV that has them before them if it is not `table`. One of the two at least.

    Raises
    ------
    ValueError, FileNotFoundError
        In one sentence. No file is left then.
    """
    path = root / "editions" / f"{name}.yaml"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name == editions.BASE:
        raise ValueError(
            f"{name!r} cannot name an edition: take small letters, digits and _, and not {editions.BASE!r}."
        )
    if path.exists():
        raise ValueError(f"There is an editions/{name}.yaml already: choose another name, or change that file.")
    folder, table = _path(folder), _path(table)
    if not paths.source_path(folder).is_dir():
        raise ValueError(f"--folder: {folder} is a file; name the folder that holds the images.")
    given = {k: _columns(words, table, k) for k, words in (("radiologist", radiologist), ("labels", labels)) if words}
    findings = next(iter(given.values()))[1]
    if any(set(columns) != set(findings) for _, columns in given.values()):
        raise ValueError("--labels and --radiologist must name the same findings, so that they can be compared.")
    if len({csv for csv, _ in given.values()}) < len(given):
        raise ValueError(
            "--labels and --radiologist name the same columns: put one of the label sets into another CSV."
        )
    try:
        path.write_text(_text(name, folder, table, {k: csv for k, (csv, _) in given.items()}, findings))
        said = _rehearse(editions.compose(name, root), name)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path, said


def _parser():
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(prog="cxr edition", description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", metavar="NAME", help="the edition; without it, the editions are listed")
    own = parser.add_argument_group("for your own images: write editions/NAME.yaml (docs/own_images.md)")
    own.add_argument("--folder", metavar="DIR", help="the images, in any sub-folders: PNG, JPEG or DICOM")
    own.add_argument(
        "--table", metavar="CSV", help="image_id, patient_id and, if it has labels, a column per finding"
    )
    columns = "the columns, with the CSV that has them before them if it is not --table: [CSV] COL [COL ...]"
    own.add_argument("--labels", nargs="+", metavar="COL", help=f"labels to be judged, as of reports; {columns}")
    own.add_argument(
        "--radiologist", nargs="+", metavar="COL", help="radiologists' labels of the same findings, likewise"
    )
    return parser


def _tell(root):
    """Print the editions there are, the one in force marked."""
    now, changed = editions.in_force(root)
    for name, path in editions.available(root).items():
        about = path.read_text().partition("\n")[0].removeprefix(f"# Edition {name}:").lstrip("# ").strip()
        print(f"{'*' if name == now else ' '} {name:<10} {about}")
    if now is None:
        print("No edition is in force: params.yaml cannot be read.")
    elif changed:
        print(f"* params.yaml is not editions/{now}.yaml as it is now: {changed}.")


def _complete(chosen):
    """Return what `write` needs: what was given, and the rest asked for in a terminal.

    Raises
    ------
    ValueError
        If something is missing and nobody can be asked.
    """
    given = {k: getattr(chosen, k) for k in ("folder", "table", "labels", "radiologist")}
    missing = [k for k in ("folder", "table") if not given[k]]
    unlabelled = not given["labels"] and not given["radiologist"]
    if missing or unlabelled:
        if not sys.stdin.isatty():
            wanted = {
                "folder": "--folder DIR",
                "table": "--table CSV",
                "labels": "--labels COL (or --radiologist COL)",
            }
            lacking = " and ".join(wanted[k] for k in (*missing, *["labels"] * unlabelled))
            raise ValueError(f"To write edition {chosen.name}, say {lacking} too (cxr edition --help).")
        asked = {"folder": "Folder of the images: ", "table": "CSV with image_id, patient_id and, if any, labels: "}
        for key in missing:
            given[key] = _ask(asked[key])
        if unlabelled:
            given["labels"] = shlex.split(_ask("Columns of the labels (a CSV before them, if not the same): "))
            other = input("Radiologists' labels of the same, a CSV and its columns (Enter: there are none): ")
            given["radiologist"] = shlex.split(other) or None
    return given


def _ask(question):
    """Return the answer to a question, asked until there is one."""
    while True:
        answer = input(question).strip()
        if answer:
            return answer


def _path(text):
    """Return a path as an edition can name it: as given if it is found from there, else absolute."""
    try:
        paths.source_path(text)
    except FileNotFoundError:
        if not Path(text).exists():
            raise
        return str(Path(text).resolve())
    return text


def _columns(words, table, option):
    """Return the CSV that has a label set, and its columns, each named as in the vocabulary."""
    csv, columns = (_path(words[0]), words[1:]) if words[0].lower().endswith((".csv", ".csv.gz")) else (table, words)
    if not columns:
        raise ValueError(f"--{option} {words[0]}: name the columns of the labels after the file.")
    if paths.source_path(csv).is_dir():
        raise ValueError(f"--{option}: {csv} is a folder; name the CSV in it.")
    have = tables.read_csv(paths.source_path(csv), ()).columns
    if not {c.lower() for c in have} & set(own_tables.IDS):  # said here of the option, before anything is written
        raise ValueError(f"--{option}: {csv} has no column image_id; it has {', '.join(have)}.")
    for column in columns:
        meant = vocabulary.finding_named(column)
        if column not in have:
            raise ValueError(f"--{option}: {csv} has no column {column!r}; it has {', '.join(have)}.")
        if meant is None:
            raise ValueError(
                f"--{option}: {column!r} is no finding of the vocabulary; rename the column of {csv} to one of "
                f"{', '.join(vocabulary.VOCABULARY)}."
            )
        if meant != column:
            raise ValueError(f"--{option}: rename the column {column!r} of {csv} to {meant!r}, its name here.")
    return csv, list(dict.fromkeys(columns))


def _flow(value):
    """Return a value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def _text(name, folder, table, files, findings):
    """Return the edition's file: a label set against another, or against its own labels shuffled if it is alone."""
    sets = {
        k: {
            **({"kind": "shipped"} if csv == table else {"kind": "own", "path": csv}),
            "who": _WHO[k],
            **_CARD,
        }
        for k, csv in files.items()
    }
    scored = list(sets)
    if len(sets) == 1:  # what is learned from labels that belong to other images is what chance learns
        sets["shuffled"] = {"kind": "permuted", "reference": scored[0], "seed": 31}
    first, second = sets
    stem = findings[0] if len(findings) == 1 else "findings"
    learned = {
        f"{stem}_{k}": {"label_set": k, "findings": findings, "policy": "u_zeros", "same_images_as": [other]}
        for k, other in ((first, second), (second, first))
    }
    rows = tables.read_csv(paths.source_path(table), ())
    split = {"kind": "by_patient", "fractions": {"train": 0.5, "valid": 0.2, "test": 0.3}, "seed": 3}
    if "official_split" in rows and rows["official_split"].notna().any():
        split = {"kind": "official", "valid_frac": 0.25, "seed": 3}
    return _EDITION.format(
        name=name,
        images=_flow(f"{len(rows):,} radiographs of our own"),
        cohort=_flow({"source": "folder", "folder": folder, "table": table}),
        label_sets="\n".join(f"    {k}: {_flow(options)}" for k, options in sets.items()),
        first=first,
        second=second,
        split=_flow(split),
        targets="\n".join(f"  {k}: {_flow(options)}" for k, options in learned.items()),
        names=", ".join(learned),
        scored=_flow(scored),
    )


def _rehearse(settings, name):
    """Return a sentence about the images and labels of an edition, once they can be split and learned from."""
    # imported here: label sets bring the report labelers' libraries, and putting an edition in force needs none
    from cxrlib.cohorts import sources, splits
    from cxrlib.labels import kinds
    from cxrlib.labels.targets import target_table
    from cxrlib.statistics.intervals import FEW_PATIENTS

    source = sources.open_source({**settings["cohorts"][name], "size_px": settings["size_px"]})
    unpacked = SimpleNamespace(name=name, index=source.table, labels=source.labels)
    built = kinds.build(unpacked, settings["label_sets"][name])
    indexed = {k: table.set_index("image_id") for k, (table, _) in built.items()}
    split = splits.make(source.table, settings["splits"]["main"])
    for options in settings["targets"].values():
        target_table(split, indexed, **options)
    test = split["image_id"][split["split"] == "test"]
    patient = source.table.set_index("image_id")["patient_id"]
    present = []
    for k in settings["pneumothorax"]["scored_against"]:
        for finding in next(iter(settings["targets"].values()))["findings"]:
            label = indexed[k][finding].reindex(test)
            with_n, without_n = (patient[test][(label == value).to_numpy()].nunique() for value in (1, 0))
            few = "" if min(with_n, without_n) >= FEW_PATIENTS else ", too few for an interval"
            present.append(f"{with_n} patients with and {without_n} without {finding} by {k}{few}")
    patients_n = patient.nunique()
    return (
        f"{len(source.table):,} images of {patients_n:,} patients, {len(source.rejected):,} files or rows left out; "
        f"among {len(test):,} test images {'; '.join(present)}."
    )


if __name__ == "__main__":
    main()
