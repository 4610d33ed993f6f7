"""Reading headers and matching an archive of generated reports, with the peak memory of n, 2 n and 4 n of them.

    python benchmarks/archive.py [REPORTS]

REPORTS is 4 n; 215,786 if not given, as many as the images of Shin et al. (CVPR 2015). Each size runs in a process of
its own, whose peak memory is told. The reports are one CSV, of which 5 % lack the accession number, 10 % have it in
another form and 2 % have that of another patient; the images are a table, as if their headers had been read: one in
four exams has two. What a header costs is measured on 1,000 DICOM files that are written first.
"""

import csv
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from cxrlib.reports import archive, archive_pairs, matching, simulated_archive

WORDS = (
    "the lungs are clear heart size is normal no pleural effusion or pneumothorax seen on the lateral view".split()
)


def exams(n, rng):
    """Return n exams of n / 3 patients: patient, date, accession number, and the number as the report has it."""
    table = pd.DataFrame({"patient": [f"P{k:07d}" for k in np.sort(rng.integers(0, n // 3 + 1, n))]})
    table["date"] = np.datetime64("2010-01-01") + rng.integers(0, 3000, n)
    table["accession"] = [f"A{k:08d}" for k in rng.permutation(n)]
    fault = rng.choice(4, n, p=[0.83, 0.05, 0.1, 0.02])
    other = table["accession"].to_numpy()[rng.permutation(n)]
    said = [table["accession"], [""] * n, table["accession"].str[1:].str.lstrip("0"), other]
    table["said"] = np.choose(fault, [np.asarray(s, object) for s in said])
    return table


def write_reports(table, path, rng):
    """Write a CSV of a report of about 130 words per exam."""
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["ReportID", "AccessionNumber", "PatientID", "StudyDate", "ReportText"])
        for k, exam in enumerate(table.itertuples()):
            text = " ".join(np.asarray(WORDS)[rng.integers(0, len(WORDS), 130)])
            rows.writerow([f"R{k}", exam.said, exam.patient, f"{exam.date:%Y-%m-%d}", f"FINDINGS: {text}."])


def image_table(table):
    """Return the images as `read_archive` would: a quarter of the exams has a second one."""
    rows = pd.concat([table, table[::4]]).reset_index(names="exam")
    number = rows.groupby("exam").cumcount() + 1
    columns = {
        "image_id": "1.2.3." + rows.index.astype(str),
        "file": "f/" + rows.index.astype(str),
        "sop_uid": "1.2.3." + rows.index.astype(str),
        "study_uid": "1.2.4." + rows["exam"].astype(str),
        "accession": rows["accession"],
        "study_id": None,
        "patient_id": rows["patient"],
        "date": rows["date"].dt.strftime("%Y%m%d"),
        "time": None,
        "series_number": "1",
        "instance_number": number.astype(str),
        "view": number.map({1: "PA", 2: "LL"}),
        "series_description": None,
        "modality": "DX",
        "photometric": "MONOCHROME2",
        "has_pixels": True,
    }
    return pd.DataFrame(columns)


def memory_mib():
    """Return this process's peak memory; `resource` would count the process that started it, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10


def read(n, folder, send):
    """Write n reports, read them as an export, and make the table of their images; send what reading took."""
    rng = np.random.default_rng(1)
    (folder / "export").mkdir()
    table = exams(n, rng)
    write_reports(table, folder / "export" / "reports.csv", rng)
    start = time.process_time()
    archive.read_archive(folder / "export", folder / "tables")
    send.send((time.process_time() - start, memory_mib()))
    image_table(table).to_parquet(folder / "tables" / "images.parquet")


def match(n, folder, send):
    """Match what was read and write the pairs; send numbers, times and memory."""
    start = time.process_time()
    found = archive.open_archive(folder / "tables")
    matched = matching.match(found.images, found.reports)
    took, start, memory = time.process_time() - start, time.process_time(), memory_mib()
    written = archive_pairs.write_pairs(found, matched, folder / "pairs.parquet")
    wrote, peak = time.process_time() - start, memory_mib()
    right = found.reports.loc[matched.links["report"], "report_id"].str[1:].to_numpy()
    right = (right == found.images.loc[matched.links["image"], "study_uid"].str[6:].to_numpy()).mean()
    send.send((len(found.images), written.pairs_n, right, took, wrote, memory, peak))


def apart(work, *arguments):
    """Return what a function sends from a process of its own."""
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=work, args=(*arguments, send))
    process.start()
    send.close()
    sent = receive.recv()
    process.join()
    return sent


def headers(n=1_000):
    """Return CPU ms per DICOM file and per text file that are read."""
    index = pd.DataFrame(
        {"image_id": [f"i{k}" for k in range(n)], "patient_id": [f"P{k // 3:05d}" for k in range(n)]}
    ).assign(follow_up_number=0, view="PA")
    store = SimpleNamespace(index=index, images=np.zeros((n, 64, 64), np.uint8))
    none = dict.fromkeys(simulated_archive.ArchiveFaults.__dataclass_fields__, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        simulated_archive.write_simulated_archive(store, [f"FINDINGS: {' '.join(WORDS)}."] * n, folder / "x", 1, none)
        took = []
        for part in ("images", "reports"):
            start = time.process_time()
            archive.read_archive(folder / "x" / part, folder / part)
            took.append(1e3 * (time.process_time() - start) / n)
    return took


def main():
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 215_786
    os.environ["OMP_NUM_THREADS"] = "1"
    image_ms, report_ms = headers()
    print(f"{image_ms:.2f} s CPU per 1,000 DICOM headers, {report_ms:.2f} s per 1,000 text files, on one core")
    heads = ("reports", "images", "pairs", "right", "read, CPU s", "match", "write", "read, MiB", "match", "write")
    print("".join(f"{head:>{max(10, len(head) + 2)}}" for head in heads))
    for n in (most // 4, most // 2, most):
        with tempfile.TemporaryDirectory() as folder:
            read_s, read_mib = apart(read, n, Path(folder))
            images_n, pairs_n, right, match_s, write_s, match_mib, write_mib = apart(match, n, Path(folder))
        values = (f"{n:,}", f"{images_n:,}", f"{pairs_n:,}", f"{right:.5f}")
        values += tuple(f"{s:.1f}" for s in (read_s, match_s, write_s))
        values += tuple(f"{mib:,.0f}" for mib in (read_mib, match_mib, write_mib))
        print("".join(f"{v:>{max(10, len(head) + 2)}}" for v, head in zip(values, heads, strict=True)), flush=True)


if __name__ == "__main__":
    main()
