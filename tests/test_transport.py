"""Weights between two samples against sklearn, closed forms and simulation; then the two parts, and PadChest."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from cxrlib.base import paths
from cxrlib.releases import padchest
from cxrlib.statistics import intervals, resampling, weighting
from cxrlib.studies import padchest_transport, transport

# --- weights ------------------------------------------------------------------------------------------------


def sample(n=300, seed=0):
    """Return covariates with an intercept, labels that follow them, and patients of three images each."""
    rng = np.random.default_rng(seed)
    x = weighting.with_intercept(rng.normal(size=(n, 2)) * [1, 5] + [0, 7])
    y = (rng.random(n) < 1 / (1 + np.exp(-(x @ [-0.5, 1, -0.7])))).astype(float)
    return x, y, np.arange(n) // 3


def test_covariates_are_standardised_and_constant_ones_left_out():
    x = weighting.with_intercept(np.column_stack([[1.0, 2, 3, 4], [5.0] * 4]))
    assert x.shape == (4, 2) and (x[:, 0] == 1).all()
    assert x[:, 1].mean() == pytest.approx(0) and x[:, 1].std() == pytest.approx(1)


def test_ridge_logistic_is_sklearns_for_every_weighting():
    x, y, patient = sample()
    counts = resampling.patient_resamples(patient, 4, np.random.default_rng(1)).weights()
    start = weighting.ridge_logistic(x, y, np.ones((1, len(y))))[0]
    for beta in (weighting.ridge_logistic(x, y, counts), weighting.ridge_logistic(x, y, counts, start)):
        for own, weight in zip(beta, counts, strict=True):
            slow = LogisticRegression(C=1.0, tol=1e-10, max_iter=2000).fit(x[:, 1:], y, sample_weight=weight)
            assert own[0] == pytest.approx(slow.intercept_[0], abs=1e-4)
            assert own[1:] == pytest.approx(slow.coef_[0], abs=1e-4)


def test_classes_that_a_covariate_separates_have_finite_coefficients():
    x = weighting.with_intercept(np.arange(20.0)[:, None])
    beta = weighting.ridge_logistic(x, (np.arange(20) > 9).astype(float), np.ones((1, 20)))
    assert np.isfinite(beta).all() and 1 < beta[0, 1] < 10


def test_an_image_is_fitted_without_its_patient():
    x, y, patient = sample()
    fold = weighting.patient_folds(patient, np.random.default_rng(2))
    assert set(fold) == set(range(weighting.FOLDS_N))
    assert (pd.Series(fold).groupby(patient).nunique() == 1).all()
    once = np.ones((1, len(y)))
    before, each = weighting.cross_fitted(x, y, once, fold)
    assert each[0] == pytest.approx(before, abs=1e-6)
    turned = np.where(fold == 0, 1 - y, y)
    after, _ = weighting.cross_fitted(x, turned, once, fold)
    assert after[fold == 0] == pytest.approx(before[fold == 0]) and after[fold == 1] != pytest.approx(
        before[fold == 1]
    )


def test_effective_patients():
    assert weighting.effective_patients(np.ones(6), [1, 1, 2, 2, 3, 3]) == pytest.approx(3)
    assert weighting.effective_patients([1, 0, 0], [1, 2, 3]) == pytest.approx(1)
    assert weighting.effective_patients([2, 2, 1], [1, 1, 2]) == pytest.approx(25 / 17)


def test_imbalance_is_the_largest_difference_in_standard_deviations():
    x, target = np.array([[0.0, 1], [2, 1]]), np.array([[1.0, 1], [3, 1]])
    assert weighting.imbalance(x, np.array([1.0, 1]), target) == pytest.approx(1)
    assert weighting.imbalance(x, np.array([0.0, 1]), target) == pytest.approx(0)
    assert weighting.imbalance(x[:, 1:], np.ones(2), target[:, 1:]) == 0


# --- the two parts ------------------------------------------------------------------------------------------


def two_parts(shift, n=900, seed=0, moved=1.0):
    """Return a rate in two parts that follows a covariate, which lies higher in the second, and is shifted there."""
    rng = np.random.default_rng(seed)
    second = np.arange(n) % 2 == 1
    x = rng.normal(size=n) + moved * second
    outcome = (rng.random(n) < np.clip(0.5 + 0.15 * x + shift * second, 0.02, 0.98)).astype(float)
    patient = np.array([f"p{k}" for k in range(n)])
    counts = np.empty((200, n))
    for part in (second, ~second):
        counts[:, part] = resampling.patient_resamples(patient[part], 200, rng).weights()
    return transport.standardise(outcome, second, x[:, None], patient, counts, np.random.default_rng(seed))


@pytest.mark.parametrize("shift", [0.0, -0.2])
def test_what_is_left_is_what_the_covariate_does_not_make(shift):
    for row in transport.rows_of(two_parts(shift), {}):
        assert row["left_low"] < shift < row["left_high"] and abs(row["left"] - shift) < 0.09
        assert row["left_robust"] == pytest.approx(row["left"], abs=0.05)
        assert row["left"] + row["explained"] == pytest.approx(row["difference"])
        assert row["explained_low"] > 0.05 and row["imbalance"] < 0.25
        if np.isfinite(row.get("share", np.nan)):
            assert row["share"] == pytest.approx(row["explained"] / row["difference"])


def test_intervals_of_what_is_left_cover():
    inside = 0
    for seed in range(60):
        row = transport.rows_of(two_parts(-0.1, 400, seed, moved=0.5), {})[seed % 2]
        inside += row["left_low"] <= -0.1 <= row["left_high"]
    assert inside >= 52


def test_parts_without_overlap_have_a_reason_and_nothing_is_left():
    rows = transport.rows_of(two_parts(0.0, 300, moved=6.0), {})
    assert all(row["reason"].startswith("not estimable") and "left" not in row for row in rows)
    assert np.isfinite(rows[0]["difference"])
    assert "9 effective patients" in transport.why_not(9.4, 0.1) and "0.30" in transport.why_not(50, 0.3)
    assert transport.why_not(50, 0.1) == ""


@pytest.fixture(scope="module")
def images():
    return transport.nih_parts()


def test_the_parts_are_googles(images):
    assert images.groupby("part").size().to_dict() == {"test": 1962, "val": 2414}
    seen = images.groupby("part")["seen pneumothorax"].sum()
    assert seen["test"] == 195 and seen["val"] == 43
    rates = {}
    for measure in transport.RATES:
        inside, outcome = transport.condition(images, "pneumothorax", measure)
        rates[measure] = {p: round(outcome[inside & (images["part"] == p)].mean(), 3) for p in transport.PARTS}
    assert rates["sensitivity"] == {"val": 0.279, "test": 0.497}
    assert rates["specificity"] == {"val": 0.989, "test": 0.942}
    assert rates["ppv"] == {"val": 0.316, "test": 0.485}


def test_another_image_of_the_patient():
    label = pd.Series([1.0, 0, 0, 1, 0], list("abcde"))
    patient = pd.Series(["p", "p", "q", "r", "r"], list("abcde"))
    assert transport._other(label, patient, ["a", "b", "c", "d", "e"]).tolist() == [0, 1, 0, 0, 1]


def test_covariates_of_other_images_are_of_the_finding(images):
    found = transport.covariates(images, "nodule_or_mass", ["ap", "other_seen"])
    assert (found == images[["ap", "other_seen nodule_or_mass"]].to_numpy()).all()


def test_ppv_goes_step_by_step_from_part_to_part(images):
    counts = transport.stratified(images, 20, np.random.default_rng(0))
    steps = transport.ppv_steps(images, counts, 1, transport.CASE_MIX["view"]).set_index(["finding", "step"])[
        "estimate"
    ]
    for finding in transport.TRANSPORTED:
        one = steps[finding]
        assert one["val"] + one["prevalence"] + one["case mix and left"] == pytest.approx(one["test"])
        if np.isfinite(one["case mix"]):
            assert one["case mix"] + one["left"] == pytest.approx(one["case mix and left"])


def test_parts_at_random_are_as_large_and_noise_means_nothing(images):
    dealt = transport.at_random(images, np.random.default_rng(0))
    assert dealt.groupby("part")["patient_id"].nunique().to_dict() == {"test": 860, "val": 835}
    assert (dealt.groupby("patient_id")["part"].nunique() == 1).all() and (dealt["part"] != images["part"]).any()
    noisy = transport.noise(images, np.random.default_rng(0))
    assert (noisy.groupby("patient_id")["noise_patient"].nunique() == 1).all()
    assert abs(np.corrcoef(noisy["noise_image"], noisy["part"] == "test")[0, 1]) < 0.05


def test_the_table_and_its_short_form(images):
    counts = transport.stratified(images, 20, np.random.default_rng(0))
    mixes = {"view": transport.CASE_MIX["view"]}
    table = transport.with_holm(
        transport.transport_table(images, counts, 1, mixes, ["pneumothorax"], ["sensitivity"])
    )
    assert table["direction"].tolist() == list(transport.DIRECTIONS) and (table["val_n"] == 43).all()
    assert (table["left_p_holm"].dropna() >= table["left_p"].dropna()).all()
    short = transport.headline(table, ["view"])
    assert short.loc[0, "val"] == "0.279" and short["finding"].tolist() == ["pneumothorax", "fracture"]


# --- PadChest -----------------------------------------------------------------------------------------------

HEADER = (
    "ImageID,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,Projection,Manufacturer_DICOM,ReportID,"
    "Report,MethodLabel,Labels\n"
)


@pytest.fixture
def padchest_table(tmp_path, monkeypatch):
    def write(*rows):
        file = tmp_path / "padchest.csv"
        file.write_text(HEADER + "\n".join(rows) + "\n")
        monkeypatch.setattr(paths, "torchxrayvision_data", lambda name: file)

    return write


def test_studies_have_one_row_and_every_view(padchest_table):
    padchest_table(
        "a,20140301,s1,p,1950,M,PA,Maker,r1,derram pleural .,Physician,['pleural effusion']",
        "b,20140301,s1,p,1950,M,L,Maker,r1,derram pleural .,Physician,['pleural effusion']",
        "c,20140401,s2,q,1960,F,AP,Maker,r2,,RNN_model,['normal']",
        "d,20140401,s3,q,1960,F,EXCLUDE,Maker,r3,x,RNN_model,['normal']",
    )
    found = padchest.read_padchest_studies().set_index("study_id")
    assert sorted(found.index) == ["s1", "s2"]
    assert found.loc["s1", ["bedside", "lateral", "effusion"]].tolist() == [0, 1, 1]
    assert found.loc["s2", ["bedside", "lateral", "effusion"]].tolist() == [1, 0, 0]
    assert found["labelled_by"].to_dict() == {"s1": "physicians", "s2": "network"} and found.at["s2", "text"] == ""
    assert found["taken"].to_dict() == {"s1": 20140301, "s2": 20140401}


def test_a_study_with_two_reports_is_named(padchest_table):
    padchest_table(
        "a,20140301,s1,p,1950,M,PA,Maker,r1,x,Physician,['normal']",
        "b,20140301,s1,p,1950,M,L,Maker,r2,x,Physician,['normal']",
    )
    with pytest.raises(ValueError, match="study s1 has two reports"):
        padchest.read_padchest_studies()


@pytest.mark.parametrize(
    ("text", "finding", "expected"),
    [
        ("derram pleural derech .", "effusion", "named"),
        ("no hay derram pleural . silu normal .", "effusion", "denied"),
        ("no hay infiltr . derram pleural izquierd .", "effusion", "named"),
        ("no hay derram . derram pleural izquierd .", "effusion", "named"),
        ("derram pericardic .", "effusion", "not named"),
        ("enfisem subcutane .", "emphysema", "not named"),
        ("sin signos neumotorax .", "pneumothorax", "denied"),
        ("", "pneumothorax", "not named"),
        ("nodul no calcific .", "nodule", "named"),
    ],
)
def test_how_a_text_speaks_of_a_finding(text, finding, expected):
    assert padchest_transport.mention_class(text, finding) == expected


def labelled_studies(read_named, older=0.0, n=1600, seed=0):
    """Return studies of which the network labels every named effusion and the physicians a share of them.

    `older` makes the network's patients older, and effusions are named more often in old age.
    """
    rng = np.random.default_rng(seed)
    network = rng.random(n) < 0.5
    age = 55 + 10 * rng.normal(size=n) + older * network
    named = rng.random(n) < 1 / (1 + np.exp(-(age - 75) / 8))
    effusion = named & (network | (rng.random(n) < read_named))
    table = pd.DataFrame({"network": network * 1.0, "age": age, "sex": rng.choice(["M", "F"], n)})
    table = table.assign(
        patient_id=[f"p{k // 2}" for k in range(n)],
        bedside=rng.integers(0, 2, n) * 1.0,
        lateral=1.0,
        month=rng.choice([201404, 201405], n),
        maker="A",
        **dict.fromkeys(padchest_transport.MENTIONS, 0.0),
        **{f"said {finding}": "not named" for finding in padchest_transport.MENTIONS},
    )
    return table.assign(effusion=effusion * 1.0, **{"said effusion": np.where(named, "named", "not named")})


def of_effusion(studies):
    table, checks = padchest_transport.calling_table(studies, 150, np.random.default_rng(1))
    return table.set_index("finding").loc["effusion"], checks


def test_older_patients_make_a_difference_that_case_mix_takes_away():
    row, checks = of_effusion(labelled_studies(1.0, older=8.0))
    assert row["raw_low"] > 0 and row["case_mix_low"] < 0 < row["case_mix_high"]
    assert row["named_low"] < 0 < row["named_high"] and abs(row["text"]) < 1e-9
    assert checks["effective_patients"] > 100 and checks["imbalance"] < 0.2


def test_a_labeler_that_misses_what_texts_name_stays():
    row, _ = of_effusion(labelled_studies(0.5, older=8.0))
    assert row["text_low"] > 0 and row["text_p_holm"] < 0.05 and row["named_low"] < 0 < row["named_high"]


def test_labelers_at_random_do_not_differ():
    studies = padchest_transport.labelers_at_random(labelled_studies(0.5, n=4000), np.random.default_rng(0))
    assert (studies.groupby("patient_id")["network"].nunique() == 1).all()
    row, _ = of_effusion(studies)
    assert row["raw_low"] < 0 < row["raw_high"] and row["case_mix_low"] < 0 < row["case_mix_high"]


def test_few_patients_get_no_interval():
    row, _ = of_effusion(labelled_studies(1.0, n=60))
    assert np.isnan(row["raw_low"]) and "fewer than" in row["reason"] and np.isfinite(row["raw"])


def test_the_same_text_is_compared_once():
    texts = [f"text {k}" for k in range(40)]
    rows = [
        (text, who, float(k % 2)) for k, text in enumerate(texts) for who in ("physicians", "network") for _ in "ab"
    ]
    studies = pd.DataFrame(rows, columns=["text", "labelled_by", "effusion"])
    studies = studies.assign(**{f: 0.0 for f in padchest_transport.MENTIONS if f != "effusion"})
    table = padchest_transport.same_text_table(studies, 50, np.random.default_rng(0)).set_index("finding")
    assert table.loc["effusion", ["texts_n", "physicians_n", "network_n", "both_n"]].tolist() == [40, 20, 20, 20]
    assert table.at["effusion", "kappa"] == 1 and intervals.FEW_PATIENTS == 10
    assert table.at["hernia", "reason"]
