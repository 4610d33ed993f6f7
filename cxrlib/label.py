"""Label radiology reports: reports in, one row of labels per report out, with the words that decided on request.

    python -m cxrlib.label reports.csv --out labels.csv --evidence spans.csv

INPUT is a CSV or Parquet table, a folder of .txt and Open-i .xml files, one such file, or Open-i's .tgz. The output
has the id column and one column per finding: 1 present, 0 absent, -1 uncertain, empty not mentioned. What cannot be
read is listed in `<out>.rejected.csv` with the reason; the rest is labelled. Exit status 0 if anything was labelled.
"""

import argparse
import contextlib
import csv
import itertools
import os
import sys
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cxrlib import openi, paths, progress, rules

ID_COLUMNS = ("report_id", "study_id", "image_id", "id", "uid", "accession", "accession_number", "study", "filename")
TEXT_COLUMNS = ("report", "text", "report_text", "report text", "report impression", "impression")
BATCH_N = 1_000
ID_NAME = "report_id"  # of the id column in what is written
POLICIES = rules.AGGREGATIONS


class Source(NamedTuple):
    """A report of the input, or why there is none.

    Attributes
    ----------
    where : str
        Line, row or file.
    report_id : str or None
    text : str or None
    problem : str or None
        What is wrong with it; then it is rejected.
    """

    where: str
    report_id: str | None
    text: str | None
    problem: str | None = None


# --- labelers -----------------------------------------------------------------------------------------------


class Rules:
    """The rule labeler, as this command uses it.

    A labeler of this command is a class with `name`, `findings` (columns, in order) and `read_many(texts)`, which
    returns a pandas.DataFrame with a row per text and float32 columns `findings`: 1, 0, -1 or NaN. It is made with
    `folder` (None for its own phrases or weights). If it has `stream(reports, workers, evidence)`, that is used
    instead: it yields `(id, labels as dict, mentions as sequence of rules.Mention)` in order. `gives_evidence` says
    whether it can name the words that decided.
    """

    name = "rules"
    findings = rules.FINDINGS
    gives_evidence = True

    def __init__(self, folder=None):
        self.labeler = rules.Labeler(folder)

    def read_many(self, texts):
        """Return labels, a row per text."""
        return self.labeler.read_many(texts)

    def stream(self, reports, workers=None, evidence=False):
        """Yield `id, labels, mentions` for a stream of `id, text`."""
        folder = self.labeler.folder
        for report_id, reading in rules.label_reports(
            reports, workers, BATCH_N, folder=folder, evidence=evidence, labeler=self.labeler
        ):
            yield report_id, reading.labels, reading.evidence


class _Learned:
    """A labeler that was trained, as this command uses it: `folder` is where it lies."""

    gives_evidence = False

    def __init__(self, folder=None):
        self.labeler = self._load(Path(folder) if folder else paths.labeler_dir(self.name))
        self.findings = tuple(self.labeler.findings)

    def read_many(self, texts):
        """Return labels, a row per text."""
        return self.labeler.read_many(list(texts))


class Bert(_Learned):
    """The language-model labeler that notebook 12 trains."""

    name = "bert"

    @staticmethod
    def _load(folder):
        from cxrlib import bert  # loads torch: seconds that the rules need not wait

        return bert.BertLabeler.load(folder)


class Visual(_Learned):
    """The labeler that learned from images, which notebook 13 trains."""

    name = "visual"

    @staticmethod
    def _load(folder):
        from cxrlib import visual

        return visual.VisualLabeler.load(folder)


class Chexbert(_Learned):
    """CheXbert's released checkpoint; `folder` is the file, chexbert.pth."""

    name = "chexbert"

    @staticmethod
    def _load(folder):
        from cxrlib import bert

        return bert.load_chexbert(folder)


LABELERS = {"rules": Rules, "bert": Bert, "visual": Visual, "chexbert": Chexbert}


def stream(labeler, reports, workers=None, evidence=False):
    """Yield `id, labels, mentions` for a stream of `id, text`, in order, by any labeler."""
    if hasattr(labeler, "stream"):
        yield from labeler.stream(reports, workers, evidence)
        return
    reports = iter(reports)
    while batch := list(itertools.islice(reports, BATCH_N)):
        table = labeler.read_many([text for _, text in batch])
        columns = list(table.columns)
        for (report_id, _), row in zip(batch, table.to_numpy(float), strict=True):
            yield report_id, dict(zip(columns, row.tolist(), strict=True)), ()


# --- input --------------------------------------------------------------------------------------------------


def sources(path, id_column=None, text_columns=None, encoding="utf-8"):
    """Yield a `Source` per report of an input.

    Parameters
    ----------
    path : Path
    id_column : str, optional
        Of a table; the first of `ID_COLUMNS` that it has, if not given.
    text_columns : sequence of str, optional
        Of a table; several are joined under their names as headings. `TEXT_COLUMNS` if not given, else `findings` and
        `impression`.
    encoding : str
        Of text and CSV files.

    Raises
    ------
    ValueError, FileNotFoundError
        In a sentence, if the input as a whole cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    if path.is_dir():
        return _folder(path, encoding)
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty: there is no report in it.")
    ending = path.suffix.lower()
    if ending == ".csv":
        return _csv(path, id_column, text_columns, encoding)
    if ending in (".parquet", ".pq"):
        return _parquet(path, id_column, text_columns)
    if ending in (".txt", ".xml"):
        return iter([_file(path, path.stem, encoding)])
    if path.name.lower().endswith((".tgz", ".tar.gz")):
        return _archive(path)
    raise ValueError(f"{path} is none of .csv, .parquet, .txt, .xml, .tgz, and no folder.")


def _columns(have, id_column, text_columns, path):
    """Return the id column and the text columns of a table, or say which one is missing."""
    lower = {str(c).strip().lower(): c for c in reversed(have)}
    listed = ", ".join(map(str, have))
    for asked in [id_column] * (id_column is not None) + list(text_columns or ()):
        if asked not in have:
            raise ValueError(f"{path} has no column {asked!r}; it has {listed}.")
    if id_column is None:
        id_column = next((lower[c] for c in ID_COLUMNS if c in lower), None)
        if id_column is None:
            raise ValueError(f"{path} has no column of ids; name it by --id-column. It has {listed}.")
    if not text_columns:
        found = next((lower[c] for c in TEXT_COLUMNS[:-1] if c in lower), None)
        both = [lower[c] for c in ("findings", "impression") if c in lower]
        if found is None and not both:
            raise ValueError(f"{path} has no column of reports; name it by --text-column. It has {listed}.")
        text_columns = [found] if found is not None else both
    if id_column in text_columns:
        raise ValueError(f"{path}: the column {id_column!r} cannot be both id and text.")
    return id_column, list(text_columns)


def _joined(values, names):
    """Return the text of a row; of several columns, each under its name as a heading."""
    if len(names) == 1:
        return values[0]
    parts = [f"{name.upper()}: {value}" for name, value in zip(names, values, strict=True) if value and value.strip()]
    return "\n\n".join(parts)


def _row(where, report_id, text):
    if report_id is None or not report_id.strip():
        return Source(where, None, None, "it has no id")
    if not text or not text.strip():
        return Source(where, report_id.strip(), None, "it has no text")
    return Source(where, report_id.strip(), text)


def _csv(path, id_column, text_columns, encoding):
    """Yield the rows of a CSV; bytes that are not of its encoding reject their row only."""
    with open(path, "rb") as file:
        start = file.read(4)
    if encoding == "utf-8" and (start[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in start):
        raise ValueError(
            f"{path} is not UTF-8 text but looks like UTF-16: save it as CSV UTF-8 or say --encoding utf-16."
        )
    csv.field_size_limit(2**31 - 1)
    encoding = "utf-8-sig" if encoding == "utf-8" else encoding
    with open(path, encoding=encoding, errors="surrogateescape", newline="") as file:
        rows = csv.reader(file, strict=True)
        try:
            header = [name.strip() for name in next(rows, [])]
        except (csv.Error, UnicodeError) as error:
            raise ValueError(f"{path} is not a table: {error}.") from None
        if not any(header):
            raise ValueError(f"{path} is empty: it needs a header with an id column and a text column.")
        if not _decoded("".join(header)):
            raise ValueError(
                f"{path} is not {encoding} text: save it as CSV UTF-8, or name its encoding by --encoding."
            )
        id_column, text_columns = _columns(header, id_column, text_columns, path)
        places = header.index(id_column), [header.index(c) for c in text_columns]
        while True:
            where = f"line {rows.line_num + 1}"
            try:
                row = next(rows, None)
            except csv.Error as error:
                yield Source(where, None, None, f"it is not CSV ({error})")
                continue
            except UnicodeError as error:
                raise ValueError(
                    f"{path} is not {encoding} text ({error}); name its encoding by --encoding."
                ) from None
            if row is None:
                return
            if row:
                yield _csv_row(where, row, header, places, text_columns)


def _csv_row(where, row, header, places, text_columns):
    at, texts = places
    if len(row) != len(header):
        report_id = row[at].strip() if at < len(row) and _decoded(row[at]) else None
        return Source(where, report_id, None, f"it has {len(row)} fields, the header {len(header)}")
    values = [row[k] for k in texts]
    if not _decoded(row[at]) or not all(map(_decoded, values)):
        report_id = row[at] if _decoded(row[at]) else None
        return Source(where, report_id, None, "it has bytes that are not of the file's encoding (see --encoding)")
    return _row(where, row[at], _joined(values, text_columns))


def _decoded(text):
    return not any("\ud800" <= c <= "\udfff" for c in text) if not text.isascii() else True


def _parquet(path, id_column, text_columns):
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is not a Parquet file ({error}).") from None
    with file:
        names = file.schema_arrow.names
        id_column, text_columns = _columns(names, id_column, text_columns, path)
        for c in text_columns:
            kind = file.schema_arrow.field(c).type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
                raise ValueError(f"{path}: the column {c!r} is {kind}, not text.")
        number = 0
        for batch in file.iter_batches(BATCH_N, columns=[id_column, *text_columns]):
            columns = [batch.column(c).to_pylist() for c in (id_column, *text_columns)]
            for report_id, *values in zip(*columns, strict=True):
                number += 1
                report_id = None if report_id is None else str(report_id)
                yield _row(f"row {number}", report_id, _joined([v or "" for v in values], text_columns))


def _folder(path, encoding):
    files = sorted(f for f in path.rglob("*") if f.suffix.lower() in (".txt", ".xml") and f.is_file())
    if not files:
        raise ValueError(f"{path} has no .txt or .xml file.")
    return (_file(f, str(f.relative_to(path).with_suffix("")), encoding) for f in files)


def _file(path, report_id, encoding):
    try:
        data = path.read_bytes()
    except OSError as error:
        return Source(str(path), report_id, None, f"it could not be read ({error.strerror})")
    if path.suffix.lower() == ".xml":
        return _xml(str(path), data, report_id)
    try:
        text = data.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeError:
        return Source(str(path), report_id, None, f"it is not {encoding} text (see --encoding)")
    if "\0" in text:
        return Source(str(path), report_id, None, "it is not text but has null bytes (see --encoding)")
    return _row(str(path), report_id, text)


def _xml(where, data, report_id):
    try:
        report = openi.parse(data, "it")
    except ValueError as error:
        return Source(where, report_id, None, str(error).removesuffix("."))
    if not (report.sections.get("FINDINGS") or report.sections.get("IMPRESSION")):
        return Source(where, report.report_id, None, "it has no text under findings or impression")
    return Source(where, report.report_id, report.text)


def _archive(path):
    empty = True
    for where, data in openi.members(path):
        empty = False
        yield _xml(where, data, None)
    if empty:
        raise ValueError(f"{path} has no .xml file in it.")


def accepted(found, reject):
    """Yield `id, text` of the sources that can be labelled; pass the others, and repeated ids, to `reject`.

    Its memory is that of the ids' 8-byte hashes.
    """
    seen = set()
    for source in found:
        if source.problem is None and (key := hash(source.report_id)) in seen:
            source = source._replace(text=None, problem="its id occurs before")
        if source.problem is not None:
            reject(source)
            continue
        seen.add(key)
        yield source.report_id, source.text


# --- output -------------------------------------------------------------------------------------------------


class Table:
    """A table written as its rows come, CSV or Parquet by its ending, under its name only once it is whole."""

    def __init__(self, path, columns):
        self.path = Path(path)
        self.columns = columns  # name to pyarrow type
        self.partial = self.path.with_name(f".{self.path.name}.partial")
        self.rows = []
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.schema = pa.schema(list(columns.items()))
        if self.path.suffix.lower() == ".parquet":
            self.file, self.writer = None, pq.ParquetWriter(self.partial, self.schema)
        else:
            self.file = open(self.partial, "w", encoding="utf-8", newline="")
            self.writer = csv.writer(self.file)
            self.writer.writerow(columns)

    def add(self, row):
        """Add a row, values in the order of the columns, None where empty."""
        self.rows.append(row)
        if len(self.rows) >= 5_000:
            self._flush()

    def _flush(self):
        if self.file is not None:
            self.writer.writerows(self.rows)
        elif self.rows:
            arrays = [
                pa.array(c, t) for c, t in zip(zip(*self.rows, strict=True), self.columns.values(), strict=True)
            ]
            self.writer.write_batch(pa.record_batch(arrays, schema=self.schema))
        self.rows = []

    def close(self, keep=True):
        """Write what is left and give the file its name; without `keep`, remove it."""
        if keep:
            self._flush()
        (self.file or self.writer).close()
        if keep:
            os.replace(self.partial, self.path)
        else:
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
        if there is none.
    policy : str
        A key of `POLICIES`.
    workers : int, optional
        Processes; as many as cores if not given.

    Raises
    ------
    ValueError
        If evidence is asked of a labeler that has none.
    """
    if evidence and not getattr(labeler, "gives_evidence", False):
        raise ValueError(f"The labeler {labeler.name!r} names no words: leave --evidence away.")
    rejected_path = Path(f"{out}.rejected.csv")
    columns = {ID_NAME: pa.string(), **dict.fromkeys(labeler.findings, pa.int8())}
    with contextlib.ExitStack() as stack:
        tables = [Table(out, columns), Table(rejected_path, dict.fromkeys(("where", ID_NAME, "reason"), pa.string()))]
        if evidence:
            tables.append(Table(evidence, {ID_NAME: pa.string(), **_MENTION_COLUMNS}))
        stack.callback(lambda: [table.close(keep=False) for table in tables])
        labels_table, rejected, spans = tables[0], tables[1], tables[2] if evidence else None
        count = {"labelled": 0, "rejected": 0}

        def reject(source):
            count["rejected"] += 1
            rejected.add((source.where, source.report_id, source.problem))

        reports = accepted(found, reject)
        for report_id, labels, mentions in progress.bar(
            stream(labeler, reports, workers, bool(evidence)), desc=f"labelling by {labeler.name}"
        ):
            count["labelled"] += 1
            labels = _with_policy(labels, policy)
            labels_table.add((report_id, *(_whole(labels[f]) for f in labeler.findings)))
            for mention in mentions:
                spans.add((report_id, *mention))
        stack.pop_all()
    labels_table.close(keep=count["labelled"] > 0)
    rejected.close(keep=count["rejected"] > 0)
    if not count["rejected"]:
        rejected_path.unlink(missing_ok=True)
    if spans:
        spans.close(keep=count["labelled"] > 0)
    return count["labelled"], count["rejected"]


def _whole(value):
    return None if value != value else int(value)


# --- command line -------------------------------------------------------------------------------------------


def _parser():
    about, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="cxr-label", description=about, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", type=Path, metavar="INPUT", help="CSV, Parquet, folder, .txt, .xml or Open-i .tgz")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="labels, .csv or .parquet")
    parser.add_argument("--labeler", choices=LABELERS, default="rules", help="default: rules")
    parser.add_argument(
        "--evidence", type=Path, metavar="FILE", help="also write the words that decided, one row each"
    )
    parser.add_argument("--id-column", metavar="NAME", help=f"default: the first of {', '.join(ID_COLUMNS)}")
    parser.add_argument(
        "--text-column",
        action="append",
        metavar="NAME",
        help="may be given several times, to be joined; default: report or text, else findings and impression",
    )
    parser.add_argument(
        "--policy", choices=POLICIES, default="chexpert", help="; ".join(f"{k}: {v}" for k, v in POLICIES.items())
    )
    parser.add_argument("--phrases", type=Path, metavar="FOLDER", help="a changed copy of cxrlib/phrases")
    parser.add_argument("--encoding", default="utf-8", help="of CSV and text files; default: utf-8")
    parser.add_argument("--workers", type=int, metavar="N", help="processes; default: the number of cores")
    return parser


def main(arguments=None):
    """Run the command line; return its exit status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.workers is not None and given.workers < 1:
        parser.error("--workers is at least 1")
    for path in (given.out, given.evidence):
        if path is not None and path.suffix.lower() not in (".csv", ".parquet"):
            parser.error(f"{path} must end in .csv or .parquet")
    outputs = [p.resolve() for p in (given.out, given.evidence, given.input) if p is not None]
    if len(set(outputs)) < len(outputs):
        parser.error("INPUT, --out and --evidence must be different files")
    try:
        "".encode(given.encoding)
    except LookupError:
        parser.error(f"there is no encoding {given.encoding!r}")
    try:
        found = sources(given.input, given.id_column, given.text_column, given.encoding)
        labeler = LABELERS[given.labeler](given.phrases)
        labelled, rejected = label(found, labeler, given.out, given.evidence, given.policy, given.workers)
    except (ValueError, FileNotFoundError) as error:
        print(f"cxr-label: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"cxr-label: {error.filename or given.out} could not be written ({error.strerror}).", file=sys.stderr)
        return 1
    if rejected:
        print(
            f"cxr-label: {rejected:,} of {labelled + rejected:,} reports could not be read: {given.out}.rejected.csv "
            "lists them with the reason.",
            file=sys.stderr,
        )
    if not labelled:
        print(f"cxr-label: nothing in {given.input} could be labelled.", file=sys.stderr)
        return 1
    print(f"{labelled:,} reports labelled: {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
