"""Label radiology reports: one row of labels for each report, with the words that decided on request.

    cxr label reports.csv --out labels.csv --evidence spans.csv
    cxr label folder_of_reports/ --out nih_labels.csv --policy nih

INPUT is a CSV (or .tsv, .csv.gz) or Parquet table, a folder or .tgz of .txt and Open-i .xml files, or one such file.
The output has the id column and one column per finding: 1 present, 0 absent, -1 uncertain, empty not mentioned. What
cannot be read is listed in `<out>.rejected.csv` with the reason; the rest is labelled. Files that exist are replaced
only with --force. Exit status 0 if anything was
labelled, 1 with a sentence that says what to do if not, 2 for wrong options.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from cxrlib.base import parallel, paths, progress, whole_files
from cxrlib.labelers import registry, rules
from cxrlib.reports import report_files, report_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

_ID_NAME = "report_id"  # of the id column in what is written


_AGGREGATIONS_OFFERED = rules.AGGREGATIONS


_ENDINGS = (".csv", ".parquet")  # of what is written


def stream(labeler, reports, workers=None, evidence=False):
    """Yield `id, labels, mentions` for a stream of `id, text`, in order, by any labeler."""
    if hasattr(labeler, "stream"):
        yield from labeler.stream(reports, workers, evidence)
        return
    reports = iter(reports)
    while batch := list(itertools.islice(reports, report_rows.BATCH_N)):
        table = labeler.read_many([text for _, text in batch])
        columns = list(table.columns)
        for (report_id, _), row in zip(batch, table.to_numpy(float), strict=True):
            yield report_id, dict(zip(columns, row.tolist(), strict=True)), ()


def _rejected_path(out):
    """Return where what could not be read is listed."""
    return Path(f"{out}.rejected.csv")


@contextlib.contextmanager
def _writing(path):
    """Turn what a full disk or a wrong place raises into a sentence that names the file that was asked for."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"{path} cannot be written ({report_rows.brief(error)}): name a file elsewhere, or see to its folder's "
            "permissions and space."
        ) from None


def _check_outputs(outputs):
    """Raise a ValueError if a file could not be written, before any work is done for it; folders are made later."""
    for path in outputs:
        with _writing(path):
            if path.is_dir():
                raise ValueError(f"{path} is a folder: name a file, such as {path / 'labels.csv'}.")
            folder = next(p for p in path.absolute().parents if p.exists())
            if not folder.is_dir():
                raise ValueError(f"{path} cannot be written, since {folder} is no folder: name a file elsewhere.")
            tempfile.TemporaryFile(dir=folder).close()


class Table:
    """A table written as its rows come, CSV or Parquet by its ending, under its name only once it is whole.

    Used in a `with`: what was not kept by its end is removed.
    """

    def __init__(self, path, columns):
        self.path = Path(path)
        self.partial = whole_files.unfinished(self.path)
        self.columns = columns  # name to pyarrow type
        self.rows, self.rows_n = [], 0
        self.schema = pa.schema(list(columns.items()))
        try:
            with _writing(self.path):
                self._open()
        except ValueError:
            self._remove()
            raise

    def _open(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.suffix.lower() == ".parquet":
            self.file, self.writer = None, pq.ParquetWriter(self.partial, self.schema)
        else:
            self.file = open(self.partial, "w", encoding="utf-8", errors="backslashreplace", newline="")
            self.writer = csv.writer(self.file)
            self.writer.writerow(self.columns)

    def add(self, row):
        """Add a row, values in the order of the columns, None where empty."""
        self.rows.append(row)
        self.rows_n += 1
        if len(self.rows) >= 5_000:
            self._flush()

    def _flush(self):
        with _writing(self.path):
            if self.file is not None:
                self.writer.writerows(self.rows)
            elif self.rows:
                arrays = [
                    pa.array(c, t) for c, t in zip(zip(*self.rows, strict=True), self.columns.values(), strict=True)
                ]
                self.writer.write_batch(pa.record_batch(arrays, schema=self.schema))
        self.rows = []

    def finish(self):
        """Write what is left."""
        self._flush()
        with _writing(self.path):
            (self.file or self.writer).close()

    def keep(self):
        """Give the finished file its name."""
        with _writing(self.path):
            whole_files.finish(self.partial, self.path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):  # a full disk fails again; the file goes either way
            (self.file or self.writer).close()
        self._remove()

    def _remove(self):
        with contextlib.suppress(OSError):  # there is none, once it was kept or if it could not be opened
            self.partial.unlink()


def _with_policy(labels, policy):
    """Return labels under a key of `POLICIES`."""
    if policy == "chexpert":
        return labels
    return rules.as_nih(labels)


_MENTION_COLUMNS = {
    "finding": pa.string(),
    "start": pa.int32(),
    "end": pa.int32(),
    "text": pa.string(),
    "assertion": pa.string(),
    "rule": pa.string(),
    "rule_start": pa.int32(),
    "rule_end": pa.int32(),
    "section": pa.string(),
}


def label(found, labeler, out, evidence=None, policy="chexpert", workers=None):
    """Label sources and write the tables; return how many were labelled, and how many rejected.

    Parameters
    ----------
    found : iterable of Source
    labeler : object
        As `Rules` describes.
    out, evidence : Path
        Tables to write; `evidence` may be None. Rejected sources are listed in `<out>.rejected.csv`, which is removed
        if there is none. After an exception all are as they were before.
    policy : str
        A key of `POLICIES`.
    workers : int, optional
        Processes; as many as cores if not given.

    Raises
    ------
    ValueError
        If evidence is asked of a labeler that has none, or a table cannot be written.
    """
    if evidence and not getattr(labeler, "gives_evidence", False):
        raise ValueError(f"The labeler {labeler.name!r} names no words: leave --evidence away.")
    columns = {_ID_NAME: pa.string(), **dict.fromkeys(labeler.findings, pa.int8())}
    with contextlib.ExitStack() as stack:
        table = stack.enter_context(Table(out, columns))
        listed = dict.fromkeys(("where", _ID_NAME, "reason"), pa.string())
        rejected = stack.enter_context(Table(_rejected_path(out), listed))
        tables = [table]
        if evidence:
            tables.append(stack.enter_context(Table(evidence, {_ID_NAME: pa.string(), **_MENTION_COLUMNS})))
        rejected_n = _fill(tables, rejected, found, labeler, policy, workers)
        # The labels come last: where they are, all of it is.
        kept = [rejected] * (rejected.rows_n > 0) + tables[::-1] * (table.rows_n > 0)
        for each in kept:
            each.finish()
        if not rejected.rows_n:
            _rejected_path(out).unlink(missing_ok=True)
        for each in kept:
            each.keep()
    return table.rows_n, rejected_n


def _fill(tables, rejected, found, labeler, policy, workers):
    """Write labels, mentions if there is a table for them, and what is rejected; return how many reports that is."""
    rejected_n = 0
    table, *spans = tables

    def reject(source):
        nonlocal rejected_n
        rejected_n += source.is_report
        rejected.add((source.where, source.report_id, source.problem))

    labelled = stream(labeler, report_files.accepted(found, reject), workers, bool(spans))
    with _watched(labelled, f"labelling by {labeler.name}") as watched:
        for report_id, labels, mentions in watched:
            labels = _with_policy(labels, policy)
            table.add((report_id, *(_whole(labels[f]) for f in labeler.findings)))
            for mention in mentions if spans else ():
                spans[0].add((report_id, *mention))
    return rejected_n


def _watched(items, desc):
    """Return a context that gives the items, under a progress bar where a person looks at the terminal.

    The bar is gone when the context ends, also by an error, whose sentence then stands on a line of its own.
    """
    return progress.bar(items, desc=desc) if sys.stderr.isatty() else contextlib.nullcontext(items)


def _whole(value):
    return None if value != value else int(value)


def _parser():
    about, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="cxr label", description=about, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", type=Path, metavar="INPUT", help="CSV, Parquet, folder, .txt, .xml or .tgz")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="labels, .csv or .parquet")
    parser.add_argument("--labeler", choices=registry.LABELERS, default="rules", help="default: rules")
    parser.add_argument(
        "--evidence", type=Path, metavar="FILE", help="also write the words that decided, one row each"
    )
    parser.add_argument(
        "--id-column", metavar="NAME", help=f"default: the first of {', '.join(report_rows.ID_COLUMNS)}"
    )
    parser.add_argument(
        "--text-column",
        action="append",
        metavar="NAME",
        help="may be given several times, to be joined; default: report or text, else findings and impression",
    )
    parser.add_argument(
        "--policy",
        choices=_AGGREGATIONS_OFFERED,
        default="chexpert",
        help="; ".join(f"{k}: {v}" for k, v in _AGGREGATIONS_OFFERED.items()),
    )
    parser.add_argument(
        "--phrases",
        "--weights",
        type=Path,
        metavar="PATH",
        help="what the labeler reads by. rules: a changed copy of cxrlib/labelers/phrases; bert, visual: the folder "
        "of a trained labeler (labeler.json, model.safetensors), default for bert: data/labelers/bert in a clone of "
        "the repository, or the released one in models/, for visual name data/labelers/visual/EDITION; chexbert: its "
        f"authors' checkpoint, default: data/labelers/chexbert/{registry.CHEXBERT_FILE} in a clone",
    )
    parser.add_argument(
        "--separator",
        type=_separator,
        metavar="CHARACTER",
        help="of a CSV: ';', tab, ...; default: comma, tab in .tsv",
    )
    parser.add_argument("--encoding", default="utf-8", help="of CSV and text files; default: utf-8")
    parser.add_argument("--workers", type=int, metavar="N", help="processes; default: the number of cores")
    parser.add_argument("--force", action="store_true", help="replace the files of --out and --evidence")
    return parser


def _separator(text):
    character = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}.get(text, text)
    if len(character) != 1 or character in '"\r\n':
        raise argparse.ArgumentTypeError(f"{text!r} is not one character, such as ';', or the word tab")
    return character


def _check_options(parser, given):
    """Stop with the usage if options contradict each other."""
    if given.workers is not None and given.workers < 1:
        parser.error("--workers is at least 1")
    for path in (given.out, given.evidence):
        if path is not None and path.suffix.lower() not in _ENDINGS:
            parser.error(f"{path} must end in {' or '.join(_ENDINGS)}")
    files = [p.resolve() for p in (given.input, *_outputs(given))]
    if len(set(files)) < len(files):
        parser.error(
            f"INPUT, --out, --evidence and the list of what is rejected, {_rejected_path(given.out)}, must be "
            "different files"
        )
    try:
        "".encode(given.encoding)
    except LookupError:
        parser.error(f"there is no encoding {given.encoding!r}")


def _outputs(given):
    return [given.out, _rejected_path(given.out), *[given.evidence] * (given.evidence is not None)]


def _check_kept(given):
    """Raise a ValueError if a file would be replaced without --force."""
    for path in (given.out, given.evidence):
        if path is not None and path.exists() and not given.force:
            raise ValueError(f"{path} exists already: name another file, or say --force to replace it.")


def _opened(name, folder):
    """Return a labeler; where the language model is asked for and was not trained here, its released copy."""
    if name != "bert" or folder is not None or (paths.labeler_dir(name) / "labeler.json").exists():
        return registry.LABELERS[name](folder)
    from cxrlib.releases import released_models  # rules need nothing of what it imports

    if not released_models.is_released(name):
        return registry.LABELERS[name]()
    found = released_models.find_model(name, released_models.REPORT_LABELER)
    _say(found.said)
    from cxrlib.labelers import released_bert  # torch and transformers take seconds

    return released_bert.ReleasedBert(found.folder)


def _say(sentence):
    tqdm.write(f"cxr label: {sentence}", file=sys.stderr)  # above a progress bar, if there is one


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    _check_options(parser, given)
    try:
        _check_outputs(_outputs(given))
        _check_kept(given)
        if given.input.is_dir():
            os.listdir(given.input)  # raises an error that names the folder if it cannot be read
        found = report_files.sources(
            given.input, given.id_column, given.text_column, given.encoding, given.separator, _say
        )
        labeler = _opened(given.labeler, given.phrases)
        labelled, rejected = label(found, labeler, given.out, given.evidence, given.policy, given.workers)
    except (ValueError, FileNotFoundError) as error:
        _say(error)
        return 1
    except parallel.WorkerKilledError:
        _say(
            f"a process that labelled was killed, as happens when memory runs out, and {given.out} is as it was: run "
            "it again with fewer processes, such as --workers 1."
        )
        return 1
    except OSError as error:
        _say(
            f"{error.filename or given.input} could not be read ({report_rows.brief(error)}): check its permissions."
        )
        return 1
    if rejected:
        _say(
            f"{rejected:,} of {labelled + rejected:,} reports could not be read: {_rejected_path(given.out)} lists "
            "them with the reason and what to do."
        )
    if not labelled:
        _say(f"nothing in {given.input} could be labelled.")
        return 1
    print(f"{labelled:,} reports labelled: {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
