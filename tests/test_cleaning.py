"""Label cleaning: what cleanlab's options come to with two labels; reviews of simulated labels with known errors."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from cxrlib.releases import predictions
from cxrlib.statistics import accuracy, calibration, intervals
from cxrlib.studies import cleaning, cleaning_tables

FINDING = "pneumothorax"


def make_pool(rng, patients_n=160, knows=1.5, missed=0.5, overcalled=0.05):
    """Return a pool of two networks whose scores know the truth, and the truth; errors hang on the label alone."""
    patient = np.repeat(np.arange(patients_n), rng.integers(1, 5, patients_n))
    n = len(patient)
    truth = (rng.random(patients_n)[patient] * 0.5 + rng.random(n) * 0.5 < 0.3).astype(float)
    wrong = rng.random(n) < np.where(truth == 1, missed, overcalled)
    given = np.where(wrong, 1 - truth, truth)
    ids = [f"i{k:04d}" for k in range(n)]
    networks = {
        name: pd.DataFrame({FINDING: expit(-2 + knows * (truth + rng.normal(0, 0.6, n)))}, index=ids) for name in "ab"
    }
    images = pd.DataFrame(
        {
            "patient_id": [f"p{k}" for k in patient],
            "view": np.where(rng.random(n) < 0.5, "AP", "PA"),
            "sex": np.where(rng.random(n) < 0.5, "M", "F"),
            "age": rng.integers(20, 80, n),
            "follow_up_number": rng.integers(0, 9, n),
        },
        index=ids,
    )
    pool = cleaning.Pool(pd.DataFrame({FINDING: given}, index=ids), images, networks, patient % 4)
    return pool, pd.Series(truth, ids)


def make_case(rng, resamples_n=60, shuffles_n=3, **settings):
    pool, truth = make_pool(rng, **settings)
    scores = cleaning.scorers(pool, FINDING, rng, shuffles_n)
    return cleaning.judged_images(pool, FINDING, "judge", truth, scores, resamples_n, rng)


@pytest.fixture(scope="module")
def one():
    return make_case(np.random.default_rng(0))


@pytest.fixture(scope="module")
def reviews(one):
    return cleaning.reviewed(one)


# --- what cleanlab's options come to --------------------------------------------------------------------------------


def test_with_two_labels_the_three_quality_scores_rank_alike():
    rng = np.random.default_rng(1)
    given, probability = (rng.random(3000) < 0.1).astype(float), rng.uniform(1e-4, 1 - 1e-4, 3000)
    of_given = np.where(given == 1, probability, 1 - probability)
    for method in cleaning.QUALITY_SCORES:
        quality = cleaning.label_quality(given, probability, method)
        assert (np.argsort(quality) == np.argsort(of_given)).all(), method
    assert cleaning.label_quality(given, probability) == pytest.approx(of_given)


def test_the_entropy_score_calls_a_label_doubtful_that_is_next_to_certain():
    """Why self-confidence is used: below an entropy of 1e-6, cleanlab 2.9.0 clips, and the order turns round."""
    probability = np.array([0.2, 1e-4, 1e-12])
    quality = cleaning.label_quality(np.zeros(3), probability, "confidence_weighted_entropy")
    assert quality[1] > quality[0] > quality[2]


def test_within_one_label_quality_is_the_order_of_the_scores(one):
    for adjusted in (False, True):
        order, scores = cleaning.by_quality(one, cleaning.NETWORK, adjusted)[0, 0], one.of(cleaning.NETWORK)[0, 0]
        for label, sign in ((0, 1), (1, -1)):
            inside = one.given == label
            assert (np.argsort(order[inside]) == np.argsort(sign * scores[inside])).all()


def test_the_filters_flag_the_same_images_and_only_across_one_half():
    rng = np.random.default_rng(2)
    probability = rng.beta(0.5, 3, 4000)
    given = (rng.random(4000) < probability).astype(float)
    given[rng.random(4000) < 0.05] = 0
    first, second = (cleaning.flagged(given, probability, by) for by in cleaning.FILTERS)
    assert (first == second).all() and 0 < first.sum() < 400
    assert ((probability[first] > 0.5) != (given[first] == 1)).all()


# --- scores ---------------------------------------------------------------------------------------------------------


def test_the_pool_is_of_the_published_networks_and_keeps_a_patient_in_one_fold():
    pool = cleaning.read_pool(predictions.FIVE, np.random.default_rng(0))
    assert len(pool.given) == 22_433 and set(pool.scores) == set(predictions.FIVE)
    folds = pd.Series(pool.fold).groupby(pool.images["patient_id"].to_numpy()).nunique()
    assert (folds == 1).all() and set(pool.fold) == set(range(5))
    parts = pool.given.drop(columns=["abnormal", "airspace_opacity", "nodule_or_mass"])
    assert (pool.given["abnormal"] == parts.max(axis=1)).all()


def test_no_image_has_a_part_in_the_fit_that_scores_it():
    fold = np.arange(12) % 3

    def fit(train, held):
        assert not (train & held).any() and (train | held).all()
        return np.flatnonzero(held).astype(float)

    assert cleaning.cross_fitted(np.arange(12) % 2, fold, fit).tolist() == list(range(12))
    with pytest.raises(ValueError, match="without fold 0 every label is the same"):
        cleaning.cross_fitted((fold == 0).astype(float), fold, fit)


def test_calibration_mends_scores_that_are_too_extreme():
    rng = np.random.default_rng(3)
    true = expit(rng.normal(-2, 1.5, 6000))
    label, fold = (rng.random(6000) < true).astype(float), np.arange(6000) % 5
    extreme = expit(2 * logit(true) + 1)
    assert calibration.calibration_slope(label, extreme) == pytest.approx(0.5, abs=0.05)
    assert cleaning.platt(label, extreme, fold) == pytest.approx(true, abs=0.03)
    isotonic = cleaning.isotonic(label, extreme, fold)
    assert np.mean(np.abs(isotonic - true)) < 0.02
    held = np.flatnonzero(fold == 0)[np.argsort(extreme[fold == 0])]
    assert (np.diff(isotonic[held]) >= 0).all()


def test_shuffled_scores_are_the_same_numbers_and_know_nothing():
    rng = np.random.default_rng(4)
    patient = np.repeat(np.arange(300), 4)
    values = patient + np.tile([0, 0.1, 0.2, 0.3], 300)
    got = cleaning.shuffled_across_patients(values, patient, rng)
    assert sorted(got) == sorted(values)
    of_one = got.reshape(300, 4)
    assert (np.floor(of_one) == np.floor(of_one[:, :1])).all(), (
        "as many images each: those of a patient stay together"
    )
    assert abs(np.corrcoef(got, values)[0, 1]) < 0.2


def test_metadata_are_no_more_than_metadata(one):
    assert one.scores[cleaning.METADATA_ALONE].shape == (1, 1, len(one.labels))
    truth_known = accuracy.auc(one.labels, one.scores[cleaning.METADATA_ALONE][0, 0])
    assert abs(truth_known - 0.5) < 0.1, "view, sex, age and follow-up are random here"


# --- reviews --------------------------------------------------------------------------------------------------------


def test_random_review_finds_the_disagreement_rate_and_the_ceiling_all(one, reviews):
    rate = (one.given != one.truth).mean()
    assert reviews[cleaning.RANDOM_REVIEW].estimates["precision"] == pytest.approx(rate)
    spent = np.array(list(cleaning.budgets(len(one.given)).values()))
    assert reviews[cleaning.CEILING].estimates["precision"][0] == pytest.approx(np.minimum(1, rate / spent))


def test_a_review_by_quality_is_what_sorting_gives(one, reviews):
    at = list(cleaning.budgets(len(one.given))).index("100 images")
    for k in range(2):
        p = one.of(cleaning.NETWORK)[k, 0]
        first = np.argsort(np.where(one.given == 1, p, 1 - p), kind="stable")[:100]
        wrong = (one.given != one.truth)[first].mean()
        assert reviews[cleaning.QUALITY].estimates["precision"][k, at] == pytest.approx(wrong, abs=0.011)


def test_a_network_that_knows_beats_the_controls_and_one_that_does_not_does_not():
    controls = [cleaning.SAME_LABELS, cleaning.SHUFFLED_SCORES]
    rng = np.random.default_rng(5)
    gains = {}
    for knows in (2.5, 0.0):
        rows = []
        for _ in range(8):
            one = make_case(rng, resamples_n=40, knows=knows)
            rows.append(cleaning_tables.compared_table(one, cleaning.reviewed(one), controls)["estimate"].to_numpy())
        gains[knows] = np.mean(rows, axis=0)
    assert (gains[2.5] > 6).all() and (np.abs(gains[0.0]) < 3).all(), gains


def test_labels_after_a_review_are_those_of_the_mended_labels(one, reviews):
    after = cleaning_tables.labels_after(one, reviews, [cleaning.QUALITY])
    table = after[after["budget"] == "50 images"].set_index("measure")["estimate"]
    orders = cleaning.by_quality(one, cleaning.NETWORK)[:, 0]
    rates = [accuracy.rates(one.truth, cleaning_tables.cleaned(one, order, 50)) for order in orders]
    for measure in ("sensitivity", "ppv"):
        assert table[measure] == pytest.approx(np.mean([rate[measure] for rate in rates]), abs=0.01)
    before = after[after["strategy"] == "no review"].set_index("measure")["estimate"]
    assert before["ppv"] == pytest.approx(accuracy.rates(one.truth, one.given)["ppv"])


def test_labels_that_were_cleaned_in_the_networks_order_flatter_it():
    """Both of two networks see the truth with noise of their own; reports err at random."""
    rng = np.random.default_rng(6)
    gaps = []
    for _ in range(6):
        table = cleaning_tables.auc_after_table(make_case(rng, knows=2.0), [60], rng).set_index("labels")
        gaps.append(table["less_judge"])
        assert np.isnan(table.loc["judge", "less_judge"])
    mean = pd.concat(gaps, axis=1).mean(axis=1)
    assert mean["report"] < mean["cleaned at random"] < 0, "random errors lower the AUC, and fewer lower it less"
    assert mean["cleaned by its own scores"] > mean["cleaned at random"] + 0.03


def test_mending_every_label_gives_the_judges(one):
    table = cleaning_tables.auc_after_table(one, [len(one.given)], np.random.default_rng(0)).set_index("labels")
    assert table.loc["cleaned at random", "less_judge"] == pytest.approx(0)
    assert (cleaning_tables.cleaned(one, np.zeros(len(one.given)), 0) == one.given).all()


def test_what_is_known_within_a_label_is_the_auc_there(one):
    table = cleaning_tables.known_table(one).set_index(["view", "reported", "scores"])
    inside = (one.given == 0) & (one.images["view"] == "AP").to_numpy()
    areas = [accuracy.auc(one.truth[inside], p[0, inside]) for p in one.of(cleaning.NETWORK)]
    row = table.loc[("AP", "absent", cleaning.NETWORK)]
    assert row["estimate"] == pytest.approx(np.mean(areas)) and row["images_n"] == inside.sum()
    gap = table.loc[("all", "absent", "network less metadata alone")]
    assert gap["estimate"] > 0.1 and gap["p"] < 0.05


def test_flags_are_counted_among_the_images_that_were_judged(one):
    table = cleaning_tables.flag_table(one).set_index(["scores", "filter"])
    masks = [cleaning.flagged(one.labels, p[0], "both")[one.index] for p in one.scores[cleaning.NETWORK]]
    row = table.loc[("calibrated", "both")]
    assert row["flagged_n"] == pytest.approx(np.mean([mask.sum() for mask in masks]))
    wrong = one.given != one.truth
    assert row["estimate"] == pytest.approx(np.mean([wrong[mask].mean() for mask in masks]))
    shares = [(one.given[mask] == 1).mean() for mask in masks]
    overcalls, missed = wrong[one.given == 1].mean(), wrong[one.given == 0].mean()
    assert row["same_labels"] == pytest.approx(np.mean([s * overcalls + (1 - s) * missed for s in shares]))


def test_a_part_of_the_pool_is_judged_and_thresholds_are_those_of_all():
    rng = np.random.default_rng(7)
    pool, truth = make_pool(rng)
    scores = cleaning.scorers(pool, FINDING, rng, 1)
    some = truth.iloc[::2].copy()
    some.iloc[0] = np.nan
    case = cleaning.judged_images(pool, FINDING, "judge", some, scores, 20, rng)
    assert len(case.given) == len(some) - 1 and case.images.index.equals(some.index[1:])
    whole = cleaning.judged_images(pool, FINDING, "judge", truth, scores, 20, rng)
    adjusted = cleaning.by_quality(whole, cleaning.NETWORK, adjusted=True)[..., case.index]
    assert cleaning.by_quality(case, cleaning.NETWORK, adjusted=True) == pytest.approx(adjusted)
    with pytest.raises(ValueError, match=r"judge has read none of the \d+ images for pneumothorax"):
        cleaning.judged_images(pool, FINDING, "judge", some[:0], scores, 20, rng)


def test_few_patients_get_no_interval():
    rng = np.random.default_rng(8)
    one = make_case(rng, patients_n=60, missed=0.0, overcalled=0.03)
    assert 0 < one.counts()["patients_with_errors_n"] < intervals.FEW_PATIENTS
    table = cleaning_tables.precision_table(one, cleaning.reviewed(one))
    assert table["estimate"].notna().all() and table["low"].isna().all()
    assert table["reason"].str.contains("fewer than 10").all()


def test_tables_of_several_cases_become_a_headline_and_a_figure(one, reviews):
    precision = cleaning_tables.precision_table(one, reviews)
    assert precision.loc[precision["budget"] == "100 images", "reads_n"].eq(100).all()
    assert precision[["low", "high"]].stack().dropna().between(0, 1).all()
    compared = cleaning_tables.compared_table(one, reviews, [cleaning.RANDOM_REVIEW, cleaning.SHUFFLED_SCORES])
    headline = cleaning_tables.headline_table(precision, compared, {"judge": "Judge"})
    rate = 100 * (one.given != one.truth).mean()
    assert headline.loc[0, "random review"].startswith(f"{rate:.0f} (") and headline.loc[0, "judge"] == "Judge"
    curve = cleaning_tables.curve_table(one, reviews)
    area = curve[curve["budget_frac"].isna()].set_index("strategy")["estimate"]
    some = curve[(curve["strategy"] == cleaning.QUALITY) & (curve["budget_frac"] <= 0.2)]
    assert area[cleaning.QUALITY] == pytest.approx(some["estimate"].mean()) and len(some) == 20
    figure = cleaning_tables.curves(curve, {(FINDING, "judge"): "a title"})
    assert len(figure.axes[0].lines) == 6
