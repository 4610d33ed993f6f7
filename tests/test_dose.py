"""The dose-response study: labels in doses, trainings that resume, and statistics that find a truth that is known."""

import itertools
import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm
from sklearn.isotonic import isotonic_regression

from cxrlib.base import paths, runs
from cxrlib.cohorts import simulation
from cxrlib.commands import beyond, computes
from cxrlib.labels import dose_labels
from cxrlib.networks import architectures, dose_runs, dose_scores, stopped_training
from cxrlib.statistics import accuracy, noise, resampling
from cxrlib.studies import dose_displays, dose_exchange, dose_response
from cxrlib.studies.dose_response import BY_DRAWN

CALIBRATION = pd.DataFrame(
    {"stratum": noise.STRATA, "tp": [63, 34], "fp": [39, 64], "fn": [52, 46], "tn": [237, 1427]}  # notebook 02
)
INDEPENDENT = {"faint_log_odds": 0.0, "drain_log_odds": 0.0}
DRAINS = {"faint_log_odds": 0.0, "drain_log_odds": 2.0}


@pytest.fixture(scope="module")
def images():
    return simulation.admissions(simulation.HOSPITALS["internal"], 12_000, np.random.default_rng(3))


# Labels in doses


def test_a_reader_is_as_sensitive_as_told_and_a_poorer_one_misses_more(images):
    drawn = images["pneumothorax"].to_numpy()
    good, poor = (dose_labels.reading(images, s, 3.0, (1, 2)) for s in (0.98, 0.735))
    for read, wanted in ((good, 0.98), (poor, 0.735)):
        assert abs(read[drawn == 1].mean() - wanted) < 0.03 and not read[drawn == 0].any()
    assert not (poor > good).any()
    seen = images.loc[(drawn == 1), "pneumothorax_conspicuity"]
    assert seen[poor[drawn == 1] == 0].mean() < seen[poor[drawn == 1] == 1].mean() - 0.1


@pytest.mark.parametrize("mechanism", [INDEPENDENT, DRAINS, {"faint_log_odds": 3.0, "drain_log_odds": 0.0}])
@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_reports_err_more_with_the_dose_on_the_same_images(images, mechanism, correlation):
    read = dose_labels.reading(images, 0.98, 3.0, 1)
    doses = [dose_labels.report(images, read, CALIBRATION, mechanism, s, correlation, 5) for s in (0, 0.5, 1)]
    wrong = [dose != read for dose in doses]
    assert not wrong[0].any()
    for less, more in itertools.pairwise(wrong):
        assert not (less & ~more).any() and less.sum() < more.sum()
    rates = accuracy.rates(read, doses[-1])
    assert abs(rates["sensitivity"] - 0.48) < 0.05 and 0.4 < rates["ppv"] < 0.65
    false, drain = (read == 0) & (doses[-1] == 1), images["chest_drain"].to_numpy() == 1
    lean = drain[false].mean() / drain[read == 0].mean()
    assert lean > 2.5 if mechanism == DRAINS else lean < 2.5  # a positive on another image goes with drains too


# Levels


def test_levels_keep_order_and_ties_and_nearly_the_auc():
    rng = np.random.default_rng(0)
    label = rng.random(3000) < 0.11
    for strength in (0.5, 1.5, 2.5):
        score = rng.normal(size=3000) + strength * label
        levels = dose_scores.to_levels(score)
        assert levels.dtype == np.uint8 and (np.diff(levels[np.argsort(score)].astype(int)) >= 0).all()
        assert abs(accuracy.auc(label, score) - accuracy.auc(label, levels)) < 0.001
    assert len(set(dose_scores.to_levels(np.array([1.0, 2.0, 2.0, 2.0, 3.0]))[1:4])) == 1


def test_level_areas_are_those_of_the_reference():
    rng = np.random.default_rng(1)
    patient = rng.integers(0, 60, 200)
    label, levels = (rng.random(200) < 0.2).astype(int), rng.integers(0, 12, 200).astype(np.uint8)
    resamples = resampling.patient_resamples(patient, 50, rng)
    how = resamples.patient, dose_response.patient_weights(resamples)
    area, replicates = dose_response.level_areas(levels, label, *how)
    assert area == pytest.approx(accuracy.auc(label, levels), abs=1e-12)
    np.testing.assert_allclose(replicates, accuracy.auc(label, levels, resamples), atol=1e-12)
    assert np.isnan(dose_response.level_areas(levels, np.zeros(200), *how)[0])


# The exchange rate


def test_images_needed_by_hand():
    sizes, areas = [100, 200, 400, 800], [0.6, 0.7, 0.8, 0.85]

    def needed(sizes, areas, target):
        return dose_exchange.images_needed(sizes, np.array([areas]), [target])[0]

    assert needed(sizes, areas, 0.7) == pytest.approx(200)
    assert needed(sizes, areas, 0.75) == pytest.approx(200 * np.sqrt(2))
    assert needed(sizes, areas, 0.6) == pytest.approx(100)
    assert needed(sizes, areas, 0.85) == pytest.approx(800)
    assert needed(sizes, areas, 0.59) == -np.inf and needed(sizes, areas, 0.86) == np.inf
    # 0.75, 0.7 are pooled to 0.725: the curve reaches it at 200, and 0.71 between 100 and 200
    assert needed(sizes, [0.6, 0.75, 0.7, 0.85], 0.725) == pytest.approx(200)
    assert needed(sizes, [0.6, 0.75, 0.7, 0.85], 0.7) == pytest.approx(100 * 2 ** (0.1 / 0.125))


def test_rising_curves_are_those_of_isotonic_regression():
    curves = np.random.default_rng(8).normal(np.linspace(0, 1, 6), 0.5, (200, 6))
    wanted = np.stack([isotonic_regression(curve) for curve in curves])
    np.testing.assert_allclose(dose_exchange.rising(curves), wanted, atol=1e-12)


SIZES = [250, 500, 1000, 2000, 4000]


def exchange_data(rng, seeds_n, worth, replicates_n=200):
    """Return AUCs that grow by 0.05 a doubling; one label of the better kind is worth `worth` of the other."""
    better = 0.6 + 0.05 * np.log2(np.array(SIZES) / 250)
    other = better - 0.05 * np.log2(worth)
    of_seeds = rng.normal(0, 0.012, (2, len(SIZES), seeds_n))
    patients = rng.normal(0, 0.01, (2, 1, 1, replicates_n)) + rng.normal(0, 0.004, (2, len(SIZES), 1, replicates_n))
    luck = rng.normal(0, 0.01, (2, 1, 1)) + rng.normal(0, 0.004, (2, len(SIZES), 1))  # of the one test set
    each = np.stack([better, other])[:, :, None] + of_seeds + luck
    return [(each[k], each[k][:, :, None] + patients[k]) for k in (0, 1)]


def test_the_exchange_rate_is_found_and_its_interval_covers():
    rng = np.random.default_rng(2)
    covered, ratios = 0, []
    for _ in range(200):
        found = dose_exchange.exchanged(SIZES, *exchange_data(rng, 8, 3.0), 2000, rng)
        covered += found["ratio_low"] <= 3.0 <= found["ratio_high"]
        ratios.append(found["ratio"])
    assert abs(np.median(ratios) - 3.0) < 0.15
    assert 0.90 <= covered / 200 <= 0.99


def test_what_lies_beyond_the_sizes_is_said():
    rng = np.random.default_rng(3)
    data = exchange_data(rng, 8, 40.0)
    found = dose_exchange.exchanged(SIZES, *data, 1000, rng)
    assert np.isnan(found["needed"]) and np.isnan(found["ratio"]) and np.isnan(found["needed_low"])
    assert "the estimate lies below 250 images" in found["reason"]
    assert dose_displays.images_text(pd.Series(found)).startswith("below 250 (below 250 to ")
    found = dose_exchange.exchanged(SIZES, *exchange_data(rng, 8, 0.5), 4000, rng)
    assert np.isnan(found["needed"]) and "above 4000 images" in found["reason"]
    found = dose_exchange.exchanged(SIZES, *exchange_data(rng, 1, 3.0), 2000, rng)
    assert np.isfinite(found["ratio"]) and np.isnan(found["ratio_low"]) and "one training seed" in found["reason"]
    assert dose_displays.images_text(pd.Series(found)) == f"{found['needed']:,.0f}"


# All of the statistics, on scores whose AUC is known


def made_up(rng, seeds_n=6, images_n=3000, effect=0.0):
    """Return scores whose separation falls with the scale as told, the faint mechanism's by `effect` more."""
    settings = runs.params("dose_response") | {"seeds": list(range(1, seeds_n + 1))}
    patient = rng.integers(0, images_n // 3, images_n)
    drawn = (rng.random(images_n) < 0.15).astype(int)
    test = pd.DataFrame({"patient_id": patient.astype(str), "drawn": drawn})
    for sensitivity in settings["sensitivities"]:
        test[dose_scores.of_reader(sensitivity)] = drawn
    shared = rng.normal(size=images_n)
    rows, levels, reports = [], [], []
    for seed in settings["seeds"]:
        for cell in dose_runs.cells(settings):
            separation = 1.0 + 0.3 * np.log10(cell.size) - 0.6 * cell.scale
            separation -= effect * cell.scale * (cell.mechanism == "faint")
            separation *= cell.role != dose_scores.PERMUTED
            own = shared if cell.role != dose_scores.PERMUTED else rng.normal(size=images_n)
            score = drawn * separation + np.sqrt(0.9) * own + np.sqrt(0.1) * rng.normal(size=images_n)
            if cell.scale == 0 and cell.role in (dose_scores.GRID, dose_scores.AGAIN):
                score = drawn * separation + shared
            levels.append(dose_scores.to_levels(score))
            wrong = rng.random(images_n) < np.where(drawn == 1, 0.5, 0.06) * cell.scale
            reports.append((drawn ^ wrong).astype(bool))
            told = {"seed": seed, "chosen_step": 10, "steps_n": 20, "converged": True, "positives_n": 5}
            digest = {"logits_sha256": str(hash(levels[-1].tobytes())), "train_sensitivity": 0.5, "train_ppv": 0.5}
            rows.append({**cell.__dict__, **told, **digest})
    table = pd.DataFrame(rows)
    courses = pd.DataFrame({"run": table.index, "step": 10, "valid_loss": 0.3, "valid_auc": 0.7})
    return dose_scores.DoseScores(table, np.stack(levels), np.stack(reports), test, courses)


@pytest.fixture(scope="module")
def study():
    scores = made_up(np.random.default_rng(4), effect=0.3)
    return dose_response.DoseResponse(scores, 200, np.random.default_rng(5))


def truth(size, scale, faint=False):
    return norm.cdf((1.0 + 0.3 * np.log10(size) - (0.9 if faint else 0.6) * scale) / np.sqrt(2))


def test_the_study_knows_its_lines(study):
    assert study.base == dose_response.Line(1000, "independent", 0.0, 0.98)
    assert len(study.lines()) == 12 and study.readers() == [0.98, 0.735]
    assert [line.size for line in study.size_lines()] == runs.params("dose_response", "sizes")
    faint = dose_response.Line(1000, "faint", 0.8, 0.98)
    assert study.row(faint, 0.0, 1) == study.row(study.base, 0.0, 1) != study.row(faint, 1.0, 1)


def test_slope_and_bend_are_those_of_a_line(study):
    for combination, on_line, on_square in ((study.slope, 1.0, None), (study.bend, 0.0, -0.25)):
        weights = combination(study.base)
        assert sum(weights.values()) == pytest.approx(0)
        assert sum(w * scale for (_, scale), w in weights.items()) == pytest.approx(on_line)
        if on_square:
            assert sum(w * scale**2 for (_, scale), w in weights.items()) == pytest.approx(on_square)
    each, _ = study.combined(study.slope(study.base), BY_DRAWN)
    areas = [[study.areas(study.base, s, BY_DRAWN)[0][k] for s in study.scales] for k in range(len(study.seeds))]
    np.testing.assert_allclose(each, [np.polyfit(study.scales, a, 1)[0] for a in areas], atol=1e-12)


def test_slopes_and_differences_find_what_was_put_in(study):
    slopes = dose_response.slopes(study)
    line = slopes[(slopes["measure"] == "slope") & (slopes["scored_against"] == BY_DRAWN)].iloc[0]
    wanted = np.polyfit(study.scales, [truth(1000, s) for s in study.scales], 1)[0]
    assert line["low"] < wanted < line["high"] and line["p_holm"] < 0.001
    table = dose_response.slope_differences(study)
    mean = table[(table["at"] == "mean") & (table["scored_against"] == BY_DRAWN)].set_index("comparison")
    faint = np.polyfit(study.scales, [truth(1000, s, True) for s in study.scales], 1)[0]
    assert mean.loc["faint - independent", "low"] < faint - wanted < mean.loc["faint - independent", "high"]
    assert mean.loc["faint - independent", "p_holm"] < 0.01 < 0.05 < mean.loc["drains - independent", "p_holm"]
    assert mean.loc["0.8 - 0", "p_holm"] > 0.05 < mean.loc["0.735 - 0.98", "p_holm"]
    assert len(table[table["scored_against"] == BY_DRAWN]) == 5 + 4 + 4 + 6 + 6


def test_independent_test_errors_attenuate_as_expected(study):
    table = dose_response.lead_by_reports(study)
    inside = (table["excess_low"] < 0) & (table["excess_high"] > 0)
    assert len(table) == 12 and inside.sum() >= 10
    assert (table["lead_reports"] < 0.6 * table["lead"]).all()
    assert table["test_sensitivity"].between(0.45, 0.55).all()


def test_controls_come_out_as_known(study):
    table = dose_response.controls(study).set_index("control")
    shuffled = table.loc["AUC, trained on shuffled labels"]
    assert shuffled["low"] < 0.5 < shuffled["high"] and abs(shuffled["estimate"] - 0.5) < 0.02
    again = table[table.index.str.contains("scale 0")].iloc[0]
    assert (again[["estimate", "low", "high"]] == 0).all() and again["p"] == 1
    assert dose_response.same_without_noise(study) == (6, 6)


def test_tables_and_figures_are_made_of_all_of_it(study):
    curves, exchange = dose_response.dose_curves(study), dose_exchange.exchange(study, np.random.default_rng(0))
    assert curves["low"].notna().all() and len(curves) == 3 * (5 * (12 + 5) + 2 * 5)  # scorers, scales, lines
    assert len(exchange) == 2 * 3 * 6
    made = {"slopes": dose_response.slopes(study), "differences": dose_response.slope_differences(study)}
    made |= {"leads": dose_response.lead_by_reports(study), "controls": dose_response.controls(study)}
    head = dose_displays.headline(study, exchange=exchange, **made)
    assert head["question"].is_unique and not head["answer"].str.contains("nan|undefined").any()
    for fig in (
        dose_displays.dose_figure(curves, 1000),
        dose_displays.exchange_figure(curves, exchange),
        dose_displays.slope_figure(made["slopes"], 1000),
        dose_displays.course_figure(study.scores, study.base),
    ):
        fig.canvas.draw()


# Trainings


TRAINING = stopped_training.StoppedSettings(
    batch_size=16, learning_rate=0.01, weight_decay=0.0, warm_up=2, averaged=4, every=2, least_steps=4, patience=8,
    most_steps=60, shift_px=1,
)  # fmt: skip


def spots(n, seed):
    """Return images (n, 16, 16) uint8, bright in the middle where the label is 1."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 3 == 0
    pixels = rng.integers(0, 120, (n, 16, 16))
    pixels[label, 5:11, 5:11] += 100
    return np.uint8(pixels), label.astype(np.float32)


def tuned(settings, seed=1):
    torch.manual_seed(0)
    network, _ = architectures.create_network("test_resnet", 1)
    (images, label), (valid, valid_label) = spots(90, 1), spots(45, 2)
    x = [stopped_training.tensor(part) for part in (images, valid)]
    return stopped_training.fine_tune(network, x[0], label, x[1], valid_label, settings, seed)


def test_a_training_learns_stops_and_repeats_itself():
    done, again = tuned(TRAINING), tuned(TRAINING)
    images, label = spots(60, 3)
    found = stopped_training.logits(done.network, stopped_training.tensor(images))
    assert accuracy.auc(label, found) > 0.95 and done.converged
    assert (found == stopped_training.logits(again.network, stopped_training.tensor(images))).all()
    assert done.valid_auc[done.steps == done.chosen_step] == done.valid_auc[done.steps >= 4].max()
    assert done.steps[-1] - done.chosen_step == 8 and done.chosen_step >= 4
    more = tuned(stopped_training.StoppedSettings(**{**TRAINING.__dict__, "patience": 16}))
    shared = len(done.steps)
    assert len(more.steps) > shared and (more.valid_loss[:shared] == done.valid_loss).all()


def test_a_training_that_is_cut_short_says_so():
    assert not tuned(stopped_training.StoppedSettings(**{**TRAINING.__dict__, "most_steps": 4})).converged


def test_one_class_is_refused():
    x = stopped_training.tensor(spots(20, 1)[0])
    network, _ = architectures.create_network("test_resnet", 1)
    with pytest.raises(ValueError, match="All 20 validation labels are 0"):
        stopped_training.fine_tune(network, x, np.arange(20) % 2, x, np.zeros(20), TRAINING, 1)


def test_the_cells_are_a_chosen_part_of_all_combinations():
    settings = runs.params("dose_response")
    cells = dose_runs.cells(settings)
    grid = [cell for cell in cells if cell.role == dose_scores.GRID]
    assert len(grid) == 6 * 5 + 2 * 6 * 4 - 4 + 1 + 5 * 2 and len(cells) == len(grid) + 4
    assert len({cell.name() for cell in cells}) == len(cells)
    noiseless = {(cell.mechanism, cell.correlation) for cell in grid if cell.scale == 0}
    assert noiseless == {("independent", 0.0)}
    assert {cell.role for cell in cells} == set(dose_scores.ROLES)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Trainings of a few steps, in a folder of their own."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(dose_runs, "noise_of_reports", lambda: CALIBRATION)
    settings = {
        "seeds": [1, 2],
        "sizes": [80],
        "scales": [0.0, 1.0],
        "mechanisms": {"independent": INDEPENDENT, "drains": DRAINS},
        "correlations": [0.0],
        "sensitivities": [0.98],
        "base": {"size": 80, "mechanism": "independent", "correlation": 0.0, "sensitivity": 0.98},
        "faint_log_odds": 3.0,
        "images": {
            "hospital": "internal", "size_px": 16, "valid_frac": 0.25, "valid_least": 80, "test_n": 60,
            "pretraining_n": 64,
        },
        "start": {
            "architecture": "test_resnet", "epochs": 1, "batch_size": 32, "learning_rate": 0.001, "least_images": 0,
        },
        "training": {**TRAINING.__dict__, "most_steps": 8, "patience": 2, "learning_rate": 0.001},
    }  # fmt: skip
    return settings


def test_an_interrupted_study_goes_on_where_it_was(tiny, monkeypatch, tmp_path):
    whole, said = dose_runs.DoseRuns(tiny), []
    fit, fits = dose_runs.DoseRuns._fit, []

    def interrupted(self, seed, cell, x, y):
        if len(fits) == 3:
            raise KeyboardInterrupt
        fits.append((seed, cell))
        return fit(self, seed, cell, x, y)

    monkeypatch.setattr(dose_runs.DoseRuns, "_fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        whole.train_all(1, said.append)
    planned = whole.planned()
    assert len(planned) == 2 * 7 and whole.missing() == planned[3:]
    with pytest.raises(FileNotFoundError, match="11 trainings are missing"):
        whole.collected()
    before = {file: file.stat().st_mtime_ns for file in whole.folder.iterdir()}
    monkeypatch.setattr(dose_runs.DoseRuns, "_fit", fit)
    dose_runs.DoseRuns(tiny).train_all(2, said.append)
    assert "3 of 14 trainings are there." in said and not whole.missing()
    assert all(file.stat().st_mtime_ns == time for file, time in before.items())
    assert not list(whole.folder.glob(".*.partial"))
    scores = whole.collected()
    study = dose_response.DoseResponse(scores, 20, np.random.default_rng(0))
    assert dose_response.same_without_noise(study) == (2, 2)
    assert set(whole.seconds()["seconds"] > 0) == {True} and "seconds" not in scores.runs
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        scores.save(folder)
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in dose_scores.DOSE_FILES)
    opened = dose_scores.open_dose_scores(first)
    assert (opened.levels == scores.levels).all() and (opened.reports == scores.reports).all()
    pd.testing.assert_frame_equal(opened.test, scores.test, check_dtype=False)
    assert opened.runs["logits_sha256"].tolist() == scores.runs["logits_sha256"].tolist()
    one = dose_runs.DoseRuns({**tiny, "seeds": [1, 2, 3]})  # another seed: those that are there stay
    assert one.folder == whole.folder and {seed for seed, _ in one.missing()} == {3}
    assert dose_runs.DoseRuns(tiny, "other code").folder != whole.folder


def test_what_is_trained_is_nested_and_seeds_share_no_patient(tiny):
    study = dose_runs.DoseRuns({**tiny, "sizes": [80, 120]})
    study.folder.mkdir(parents=True)
    drawn = {}
    for seed in (1, 2):
        study._paint(seed, ("train", "valid"), study._population_file(seed))
        drawn[seed] = {part: study._part(seed, part) for part in ("train", "valid")}
    assert len(drawn[1]["train"][1]) == 120 and len(drawn[1]["valid"][1]) == 80
    assert not (drawn[1]["train"][1][:80] == drawn[2]["train"][1][:80]).all(axis=(1, 2)).any()
    cells = {
        (cell.size, cell.scale): cell for cell in dose_runs.cells(study.settings) if cell.mechanism == "independent"
    }
    table = drawn[1]["train"][0]
    read, none = study._labels(table, 1, "train", cells[80, 0.0])
    _, small = study._labels(table, 1, "train", cells[80, 1.0])
    _, large = study._labels(table, 1, "train", cells[120, 1.0])
    assert (read == none).all() and (small == large).all() and (small != read).any()


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    scores = made_up(np.random.default_rng(6), seeds_n=1, images_n=60)
    scores.save(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == set(dose_scores.DOSE_FILES)
    scores.test.iloc[1:].to_parquet(tmp_path / "test.parquet")
    with pytest.raises(ValueError, match=r"60 images, runs\.csv has 89 and test\.parquet 59"):
        dose_scores.open_dose_scores(tmp_path)
    (tmp_path / "runs.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"runs.csv is not here: .* `make beyond`"):
        dose_scores.open_dose_scores(tmp_path)


# The command


def test_make_beyond_calls_the_command_and_make_repro_does_not():
    makefile = (paths.ROOT / "Makefile").read_text()
    rule = makefile[makefile.index("\nbeyond:") :].split("\n\n")[0]
    assert "cxrlib.commands.beyond" in rule and makefile.count("commands.beyond") == 1
    assert "dose" not in (paths.ROOT / "dvc.yaml").read_text()
    for name, section in beyond.NOTEBOOKS.items():
        assert (paths.ROOT / "notebooks" / f"{name}.ipynb").exists() and runs.params(section)


@pytest.fixture
def small(tiny, monkeypatch):
    """Let `make beyond` make the tiny study, without its pages; return its folder."""
    monkeypatch.setattr(runs, "params", lambda *_: tiny | {"seeds": [1]})
    monkeypatch.setattr(paths, "label_noise_path", lambda: Path(__file__))
    monkeypatch.setattr(computes, "module_computes", lambda *_: "code")
    monkeypatch.setattr(beyond, "_workers", lambda: 2)
    monkeypatch.setattr(beyond, "NOTEBOOKS", {})
    return dose_runs.DoseRuns(tiny, "code").folder


def test_a_training_that_is_killed_is_one_sentence(small, monkeypatch):
    monkeypatch.setattr(dose_runs.DoseRuns, "prepare", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(SystemExit, match=r"^A process that trained was killed.*`make beyond` again.*`taskset -c 0"):
        beyond.main()


@pytest.mark.parametrize(
    ("name", "also", "damage"),
    [
        ("run-1-*.npz", "", lambda whole: b""),
        ("run-1-*.npz", "", lambda whole: whole[: len(whole) // 2]),
        ("run-1-*.npz", "", lambda whole: bytes(len(whole))),
        ("test.npz", "run-1-", lambda whole: whole[:-9]),
        ("patients-1.npz", "start-1.safetensors", lambda whole: whole[:-9]),
    ],
)
def test_a_damaged_file_of_a_training_is_named_and_made_anew(small, monkeypatch, name, also, damage):
    beyond.main()
    first, *_ = sorted(small.glob(name))
    whole = first.read_bytes()
    first.write_bytes(damage(whole))
    dose_runs._opened.cache_clear()
    if "start" in also:
        sorted(small.glob("run-1-*.npz"))[0].unlink()  # a training that reads it
    with pytest.raises(SystemExit, match=r"is damaged: delete .* and run `make beyond` again") as raised:
        beyond.main()
    said = str(raised.value)
    deleted = said.partition(": delete ")[2].partition(" and run ")[0].split(" and ")
    assert said.startswith(f"{first} is damaged") and deleted[0] == str(first) and also in deleted[-1]
    for path in deleted:
        Path(path).unlink()
    beyond.main()
    assert first.exists()


def test_the_code_of_the_trainings_hangs_on_what_trains_and_not_on_what_shows():
    text = computes.module_computes(dose_runs.__name__, paths.ROOT)
    for name in ("networks/dose_runs", "networks/stopped_training", "statistics/noise", "cohorts/simulation"):
        assert f"cxrlib/{name}.py" in text
    assert "figures" not in text and "studies" not in text
