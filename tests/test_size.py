"""What is measured at full size (`benchmarks/size.py`), at tiny sizes; and that memory stays flat as n grows."""

import os
import sys
import threading
import time
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cxrlib.base import paths
from cxrlib.cohorts import image_source, packing
from cxrlib.reports import report_files, report_rows
from cxrlib.statistics import resampling

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import size

    return size


@pytest.fixture
def steps(bench, monkeypatch, tmp_path):
    """The steps, in a folder of their own, with three runs and ten resamples."""
    import size_steps

    monkeypatch.setattr(paths, "ROOT", tmp_path)
    small = {"RUNS_N": 3, "RESAMPLES_N": 10, "SCORED_RESAMPLES_N": 10, "STEPS_N": 2, "BATCH": 4, "WRITTEN_N": 300}
    small |= {"ANCHOR_SECONDS": 0.1}
    for name, value in small.items():
        monkeypatch.setattr(size_steps, name, value)
    return size_steps


# growth


def rows_of(sizes, seconds, mib, step="pack"):
    return pd.DataFrame({"step": step, "n": sizes, "cpu_seconds": seconds, "anonymous_mib": mib})


def test_growth_of_linear_quadratic_and_flat(bench):
    table = pd.concat(
        [
            rows_of([400, 100, 200], [4.0, 1.0, 2.0], [110.0, 100.0, 100.0], "pack"),
            rows_of([100, 400], [1.0, 16.0], [100.0, 400.0], "label"),
        ]
    )
    found = bench.with_growth(table).set_index(["step", "n"])
    assert found["time_exponent"]["pack", 400] == pytest.approx(1)
    assert found["time_exponent"]["label", 400] == pytest.approx(2)
    mib = 2**20
    assert found["growth_bytes"].dropna().tolist() == pytest.approx([0, 10 * mib / 300, mib])
    assert found["time_exponent"].isna().sum() == 2  # of the smallest sizes


def test_a_row_measured_again_replaces_the_old_one(bench, tmp_path):
    out = tmp_path / "results" / "size.csv"
    for n, seconds in ((100, 1.0), (400, 9.0), (400, 4.0)):
        bench.kept(rows_of([n], [seconds], [50.0]).iloc[0].to_dict(), out)
    table = pd.read_csv(out)
    assert table["n"].tolist() == [100, 400] and table["time_exponent"].iloc[1] == pytest.approx(1)


HOLDS = """
import mmap, time
file = open({path!r}, "rb")
pages = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
read = sum(pages[k] for k in range(0, len(pages), 4096))
held = bytearray(b"1" * ({mib} << 20))
time.sleep(0.5)
print("a line before the last")
print('{{"items": 3, "read": %d}}' % read)
"""


def test_anonymous_memory_is_told_apart_from_mapped_files(bench, tmp_path):
    (tmp_path / "mapped").write_bytes(b"\1" * (96 << 20))
    program = HOLDS.format(path=str(tmp_path / "mapped"), mib=24)
    found = bench.watched([sys.executable, "-I", "-S", "-c", program])
    assert found["items"] == 3 and found["read"] == (96 << 20) // 4096
    assert 24 <= found["anonymous_mib"] < 24 * 2 + 16  # b"1" * n and its copy at most
    assert found["peak_mib"] > 96 + 24


def test_a_step_that_fails_stops_the_measurement(bench):
    with pytest.raises(RuntimeError, match="status 3"):
        bench.watched([sys.executable, "-c", "raise SystemExit(3)"])


# steps and their anchors, at tiny sizes


@pytest.mark.parametrize(("step", "n"), [("pack", 24), ("bootstrap", 300), ("label", 30)])
def test_a_step_and_its_anchor(steps, tmp_path, step, n):
    found = [steps.one(step, part, tmp_path, n) for part in ("ours", "anchor")]
    for taken in found:
        assert taken["items"] > 0 and taken["seconds"] > 0 and taken["cpu_seconds"] >= 0
    if step == "pack":
        index = pd.read_parquet(paths.cohort_dir("size_24") / "images.parquet")
        assert len(index) == n and index["sha256"].nunique() == steps.FILES_N
        assert set(index["official_split"]) == {"train_val", "test"}
    if step == "label":
        labels = pd.read_csv(tmp_path / f"labels_{n}.csv")
        assert len(labels) == n and labels.drop(columns="report_id").notna().any(axis=None)


def test_case_table_is_made_and_scored(steps, tmp_path):
    for step, n in (("cases", 200), ("score", 200)):
        assert steps.one(step, "ours", tmp_path, n)["items"] > 0
    table = pd.read_parquet(tmp_path / "cases_200.parquet")
    assert len(table) == 200 and sum(c.startswith("probability.") for c in table) == 3 * len(steps.FINDINGS)


def test_reports_are_recombined_so_that_few_texts_repeat(steps):
    texts = list(steps.recombined(1_000))
    sentences = [s for text in texts for s in text.split(". ")]
    assert len(texts) == 1_000 == len(set(texts)) and len(set(sentences)) > 0.25 * len(sentences)


@pytest.mark.slow
def test_networks_train_and_predict(steps, tmp_path):
    for step in ("pack", "train", "steps", "predict"):
        for part in ("ours", "anchor"):
            assert steps.one(step, part, tmp_path, 160)["items"] > 0
    (table,) = (tmp_path / "data" / "partial" / "predictions" / steps.EDITION / "size_160").glob("*.parquet")
    assert len(pd.read_parquet(table)) == 160 * len(steps.FINDINGS)


# Every row of the committed table: a quarter, half and all of ChestX-ray14, and of a million reports.
_IMAGES = [28_030, 56_060, 112_120]
MEASURED = {
    **dict.fromkeys(("pack", "train", "steps", "predict", "bootstrap"), _IMAGES),
    "label": [250_000, 500_000, 1_000_000],
    **dict.fromkeys(("cases", "score"), _IMAGES),
}


def test_the_committed_table_is_whole(bench, steps):
    """Every row that was measured, in the order of the steps, its growth as the rows say."""
    table = pd.read_csv(bench.OUT)
    assert {step: part["n"].tolist() for step, part in table.groupby("step")} == MEASURED
    assert list(dict.fromkeys(table["step"])) == list(MEASURED) == list(steps.STEPS)
    again = bench.with_growth(table)
    for column in ("time_exponent", "growth_bytes"):
        np.testing.assert_allclose(again[column], table[column], rtol=1e-6)
    np.testing.assert_allclose(table["ratio"], table["items_per_cpu_second"] / table["anchor_items_per_cpu_second"])


# flatness: what n and 4 n hold beyond the start, in anonymous memory


def anonymous_mib():
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def rise(work):
    """Return by how many MiB anonymous memory rose at most while `work` ran, looked at every 2 ms."""
    start, peak, over = anonymous_mib(), [0.0], threading.Event()

    def look():
        while not over.is_set():
            peak[0] = max(peak[0], anonymous_mib())
            time.sleep(0.002)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        work()
    finally:
        over.set()
        watcher.join()
    return max(0.0, peak[0] - start)


def pixels(folder, n, size_px):
    """Return a memory map of n images of zeros."""
    np.lib.format.open_memmap(folder / f"{n}.npy", "w+", np.uint8, (n, size_px, size_px)).flush()
    return np.load(folder / f"{n}.npy", mmap_mode="r")


def test_the_watch_sees_what_is_held():
    held = []
    assert rise(lambda: (held.append(bytearray(os.urandom(1) * (64 << 20))), time.sleep(0.05))) > 50


def test_batches_of_an_epoch_are_not_held(tmp_path):
    """4 n images are 128 MiB as the network sees them; holding a third of them would fail."""
    from cxrlib.networks.batches import StoreLoader

    def epoch(n):
        loader = StoreLoader(images[n], np.arange(n), np.zeros((n, 2)), 64)
        assert sum(len(x) for x, _ in loader) == n

    images = {n: pixels(tmp_path, n, 64) for n in (256, 2_048, 8_192)}
    epoch(256)  # what torch takes once
    assert rise(partial(epoch, 8_192)) < rise(partial(epoch, 2_048)) + 40


def test_predicting_holds_probabilities_alone(tmp_path):
    """As above: 128 MiB pass through, half a MiB stays."""
    import torch

    from cxrlib.networks import training

    class Means(torch.nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :14]

    def predict(n):
        store = SimpleNamespace(images=images[n])
        assert training.predict(Means(), store, np.arange(n), 64).shape == (n, 14)

    images = {n: pixels(tmp_path, n, 64) for n in (256, 2_048, 8_192)}
    predict(256)
    assert rise(partial(predict, 8_192)) < rise(partial(predict, 2_048)) + 40


def test_packing_holds_names_and_not_pixels(tmp_path):
    """8,000 images of 64 px are 31 MiB of pixels, and may take 2 KiB each for names, hashes and tables."""

    def read(files, i):
        return image_source.PackedImage(np.full((64, 64), i % 256, np.uint8), f"{i:064x}", 64, 64, 0.5, 0, 0)

    def pack(n):
        ids = [f"{k:08d}" for k in range(n)]
        table = pd.DataFrame({"image_id": ids, "patient_id": ids})
        source = image_source.ImageSource(table=table, read=partial(read, ids))
        packing.pack(source, tmp_path / f"store_{n}", tmp_path / "work", size_px=64, workers=1)

    pack(100)
    assert rise(partial(pack, 8_000)) < 16


def test_labelling_holds_eight_bytes_a_report():
    """A set of 300,000 ids' hashes would take some 25 MiB."""

    def all_of(n):
        found = (report_rows.ReportSource("", f"R{k}", "text") for k in range(n))
        assert sum(1 for _ in report_files.accepted(found, None)) == n

    all_of(100)
    assert rise(partial(all_of, 300_000)) < 10


def test_an_id_that_occurs_twice_is_refused_wherever_it_comes():
    refused = []
    names = [f"R{k}" for k in range(40_000)] + ["R7", "R39999", "R0"]
    found = (report_rows.ReportSource("", name, "text") for name in names)
    assert len(list(report_files.accepted(found, refused.append))) == 40_000
    assert [source.report_id for source in refused] == ["R7", "R39999", "R0"]


def drawn_at_once(patients_n, resamples_n, rng):
    chance = np.full(patients_n, 1 / patients_n)
    return rng.multinomial(patients_n, chance, size=resamples_n).astype(np.float32)


@pytest.mark.parametrize("resamples_n", [1, 2, 63, 64, 65, 128, 129, 1_000, 1_001])
def test_resamples_are_those_drawn_at_once(resamples_n):
    """To the bit, as are the sums over them; the generator goes on as before."""
    rng, other = np.random.default_rng(5), np.random.default_rng(5)
    found = resampling.patient_resamples(np.arange(301).repeat(2), resamples_n, rng)
    counts = drawn_at_once(301, resamples_n, other)
    values = np.random.default_rng(6).normal(size=602)
    assert found.counts.dtype == np.uint8 and np.array_equal(found.counts, counts)
    assert rng.random() == other.random()
    assert np.array_equal(found.totals(values), counts @ np.bincount(found.patient, values))


def test_resamples_take_a_byte_a_patient():
    """1,000 resamples of 8,000 patients are 8 MiB, and a block of them 4 more; drawn at once they take 92."""
    made = []

    def draw():
        made.append(resampling.patient_resamples(np.arange(8_000), 1_000, np.random.default_rng(0)))
        made[0].totals(np.ones(8_000))

    assert rise(draw) < 30 and made[0].counts.nbytes == 8_000_000


def test_many_runs_are_added_without_a_word():
    """Column by column, pandas warns beyond a hundred of them, and slows down."""
    from cxrlib.studies import case_tables

    table = pd.DataFrame({"image_id": ["a", "b"]}, index=[4, 7])
    predictions = pd.DataFrame({"image_id": ["b", "a"] * 2, "finding": ["edema"] * 2 + ["mass"] * 2})
    predictions["probability"] = [0.1, 0.2, 0.3, 0.4]
    with warnings.catch_warnings(action="error"):
        for k in range(60):
            table = case_tables.add_predictions(table, f"run-{k}", predictions)
    assert case_tables.runs_in(table) == [(f"run-{k}", f) for k in range(60) for f in ("edema", "mass")]
    assert table["probability.run-59.edema"].tolist() == pytest.approx([0.2, 0.1])
    assert table.index.tolist() == [4, 7] and table["probability.run-0.mass"].dtype == np.float32
