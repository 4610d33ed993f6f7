"""Properties that hold for any input: of what parses, of the rules that read reports, and of the statistics.

The examples are those of a fixed seed, so that a test that passes once passes always.
"""

import csv
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import average_precision_score, cohen_kappa_score, roc_auc_score

from cxrlib.base import csv_rows, json_files, label_tables, tables, xml_files, yaml_files
from cxrlib.cohorts import splits
from cxrlib.labelers import rules
from cxrlib.reports import image_reports, report_rows
from cxrlib.statistics import (
    accuracy,
    agreement,
    attenuation,
    calibration,
    delong,
    intervals,
    noise,
    resampling,
    retrieval,
    stratified,
    two_raters,
    weighting,
)

some = settings(max_examples=30, derandomize=True, deadline=None, database=None)
few = settings(max_examples=12, derandomize=True, deadline=None, database=None)

CELLS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8)
WORDS = st.sampled_from(
    ["no", "edema", "effusion", "pneumothorax.", "Findings:", "IMPRESSION:", "without", "possible", "small", "left"]
    + ["?", ";", ",", "\n", "\t", "...", "normal", "heart"]
)
REPORTS = st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=20).map(" ".join))


@st.composite
def scored(draw, least=4, most=24):
    """Labels with both classes, scores with ties, and patients."""
    n = draw(st.integers(least, most))
    label = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)), float)
    label[:4] = (0, 0, 1, 1)
    score = np.array(draw(st.lists(st.integers(0, 9), min_size=n, max_size=n)), float) / 9
    patient = np.array(draw(st.lists(st.integers(0, 6), min_size=n, max_size=n)))
    return label, score, patient


def resamples_of(patient, resamples_n=40):
    return resampling.patient_resamples(patient, resamples_n, np.random.default_rng(0))


# What parses


@some
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5))
def test_a_csv_that_was_written_is_read_as_it_was(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([("a", "b"), *rows])
    assume(any(cell for row in rows for cell in row))
    table = tables.read_csv(path, ("a", "b"))
    expected = [row for row in rows if any(row)]
    assert table.fillna("").to_numpy().tolist() == [list(row) for row in expected]
    with open(path, encoding="utf-8", newline="") as file:
        starts = [1]
        reader = csv.reader(file)
        starts += [reader.line_num + 1 for _ in reader]
    assert (table.index + 2).tolist() == [starts[k + 1] for k, row in enumerate(rows) if any(row)]


@some
@given(st.one_of(st.binary(max_size=80), st.text(alphabet='a,"\n\r; 1', max_size=40).map(str.encode)))
def test_any_bytes_are_a_table_or_one_sentence(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(data)
    try:
        table = tables.read_csv(path, ())
    except ValueError as error:
        assert str(path) in str(error) and "\n" not in str(error).replace(str(data), "")
        return
    plain = [row for row in csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), skipinitialspace=True)]
    assert len(table) == sum(any(row) for row in plain[1:]), "no row is dropped"


@some
@given(st.text(alphabet='a",\n\r', max_size=40))
def test_lines_are_those_of_the_file(text):
    lines = csv_rows.Lines(io.StringIO(text, newline=""))
    assert "".join(lines) == text and lines.characters_n == len(text)


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**9), 10**9),
        st.floats(allow_nan=False, allow_infinity=False),
        CELLS,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(CELLS, inner, max_size=3)),
    max_leaves=8,
)


@some
@given(VALUES)
def test_json_and_yaml_that_were_written_are_read_as_they_were(value):
    assert json_files.parse_json(json.dumps(value)) == value
    assert yaml_files.parse_yaml(yaml.safe_dump(value, allow_unicode=True), "f") == value


@some
@given(st.one_of(st.text(max_size=40), st.text(alphabet="ab:{}[]&*!<-? \n\t'\"1#|>%@`", max_size=30)))
@example('{"a": 1, "a": 2}')
@example("[NaN, -Infinity]")
@example("[1,]")
def test_any_text_is_yaml_and_json_or_one_sentence(text):
    try:
        plain = yaml.safe_load(text)
    except Exception:
        plain = ValueError
    try:
        found = yaml_files.parse_yaml(text, "f.yaml")
    except ValueError as error:
        assert str(error).startswith("f.yaml") and "\n" not in str(error)
    else:
        assert plain is not ValueError and repr(found) == repr(plain)
    try:
        plain = json.loads(text)
    except ValueError:
        plain = ValueError
    try:
        found = json_files.parse_json(text)
    except ValueError as error:
        stricter = re.search("is no number of JSON|occurs twice in one object", str(error))
        assert plain is ValueError or stricter, "only what JSON does not have is refused"
    else:
        assert plain is not ValueError and repr(found) == repr(plain)


@some
@given(st.one_of(st.binary(max_size=60), st.text(alphabet="<>ab/&;! \"='?[]", max_size=40).map(str.encode)))
def test_any_bytes_are_xml_or_half_a_sentence(data):
    try:
        assert xml_files.parse_xml(data).tag
    except ValueError as error:
        assert "XML" in str(error)


@some
@given(CELLS, st.text(max_size=40))
def test_a_report_is_taken_or_rejected_never_both(report_id, text):
    row = report_rows.report_row("line 2", report_id, text)
    assert (row.text is None) != (row.problem is None)
    assert row.text in (None, text) and row.where == "line 2"


@some
@given(st.text(max_size=80))
def test_sections_of_any_text(text):
    found = image_reports.sections(text)
    assert set(found) == {"findings", "impression", "last"}
    words = set(text.split())
    assert all(set(part.split()) <= words or ":" in text for part in found.values())


@some
@given(
    st.lists(st.sampled_from([1.0, 0.0, -1.0, np.nan]), min_size=1, max_size=20),
    st.sampled_from(list(label_tables.POLICIES)),
)
def test_a_policy_changes_uncertain_labels_alone(values, policy):
    values = np.array(values, np.float32)
    resolved = label_tables.apply_policy(values, policy)
    np.testing.assert_array_equal(resolved[values != -1], values[values != -1])
    assert not (resolved == -1).any()
    np.testing.assert_array_equal(label_tables.apply_policy(resolved, policy), resolved)


# The rules that read reports


@pytest.fixture(scope="module")
def labeler():
    return rules.RuleLabeler()


@some
@given(REPORTS)
def test_any_text_is_labelled_and_its_evidence_lies_in_it(labeler, text):
    reading = labeler.read(text)
    assert set(reading.labels) == set(rules.LABELED_FINDINGS)
    assert all(np.isnan(v) or v in (1, 0, -1) for v in reading.labels.values())
    for mention in reading.evidence:
        assert 0 <= mention.start < mention.end <= len(text) and text[mention.start : mention.end] == mention.text
        assert 0 <= mention.rule_start <= mention.rule_end <= len(text)
    quick = labeler.labels(text)
    assert all(quick[f] == v or np.isnan([quick[f], v]).all() for f, v in reading.labels.items())


@some
@given(
    st.lists(st.sampled_from(["No edema.", "Small effusion.", "Possible pneumonia.", "Heart is normal."]), max_size=5)
)
def test_white_space_that_means_nothing_changes_no_label(labeler, parts):
    labels = [labeler.labels(text) for text in (" ".join(parts), "  ".join(parts), " " + "\t".join(parts) + " \n")]
    assert all(str(other) == str(labels[0]) for other in labels)


@some
@given(REPORTS)
def test_labels_are_the_same_whatever_was_read_before(labeler, text):
    before = str(labeler.labels(text))
    labeler.labels("No edema. Possible effusion.")
    assert str(labeler.labels(text)) == before


@some
@given(REPORTS)
def test_nih_has_no_uncertain_label(labeler, text):
    nih = rules.as_nih(labeler.labels(text))
    assert not any(v == -1 for v in nih.values())


# Statistics of scores


@some
@given(scored())
def test_auc_is_that_of_scikit_learn_and_turns_with_label_and_score(of):
    label, score, _ = of
    area = accuracy.auc(label, score)
    assert area == pytest.approx(roc_auc_score(label, score), abs=1e-12)
    assert accuracy.auc(1 - label, score) == pytest.approx(1 - area, abs=1e-12)
    assert accuracy.auc(label, -score) == pytest.approx(1 - area, abs=1e-12)
    assert accuracy.auc(label, np.exp(3 * score) - 7) == pytest.approx(area, abs=1e-12), "only the order counts"


@some
@given(scored())
def test_average_precision_is_that_of_scikit_learn(of):
    label, score, _ = of
    assert accuracy.average_precision(label, score) == pytest.approx(average_precision_score(label, score), abs=1e-12)


@some
@given(scored(), st.floats(0.05, 0.95))
def test_a_threshold_is_as_specific_as_asked_and_the_lowest(of, specificity):
    label, score, _ = of
    threshold = accuracy.threshold_at_specificity(label, score, specificity)
    negative = score[label == 0]
    assert (negative < threshold).mean() >= specificity - 1e-9
    lower = score[score < threshold]
    if len(lower):
        assert (negative < lower.max()).mean() < specificity - 1e-9 or lower.max() < negative.max(initial=-np.inf)


@some
@given(scored())
def test_a_resample_that_holds_everything_once_is_the_estimate(of):
    label, score, patient = of
    everything = resamples_of(patient).with_counts(np.ones((1, len(np.unique(patient))), np.float32))
    for measure in (accuracy.auc, accuracy.average_precision, calibration.brier, calibration.calibration_error):
        assert measure(label, score, resamples=everything)[0] == pytest.approx(measure(label, score), abs=1e-12)


@some
@given(scored())
def test_delong_is_the_auc_and_its_covariance_is_one(of):
    label, score, _ = of
    areas, covariance = delong.delong(label, np.stack([score, -score, score**2]))
    assert areas[0] == pytest.approx(accuracy.auc(label, score), abs=1e-12)
    np.testing.assert_allclose(covariance, covariance.T, atol=1e-15)
    assert np.linalg.eigvalsh(covariance).min() > -1e-12 and (np.diag(covariance) >= 0).all()
    assert covariance[0, 0] == pytest.approx(covariance[1, 1], abs=1e-12), "a score and its opposite vary alike"
    one_each = delong.delong(label, score, np.arange(len(label)))[1]
    assert one_each[0, 0] == pytest.approx(covariance[0, 0], abs=1e-12), "patients of one image each are no clusters"


@some
@given(scored())
def test_kappa_is_that_of_scikit_learn_and_symmetric(of):
    label, score, _ = of
    called = (score > 0.5).astype(float)
    kappa = accuracy.kappa(label, called)
    assert -1 <= kappa <= 1 and kappa == pytest.approx(accuracy.kappa(called, label), abs=1e-12, nan_ok=True)
    assert kappa == pytest.approx(cohen_kappa_score(label, called), abs=1e-12)
    found = accuracy.rates(label, called)
    flipped = accuracy.rates(1 - label, 1 - called)
    assert flipped["sensitivity"] == found["specificity"] and flipped["ppv"] == pytest.approx(
        found["npv"], nan_ok=True
    )
    assert all(np.isnan(v) or 0 <= v <= 1 for name, v in found.items() if name != "kappa")


@some
@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_predictive_values_at_a_prevalence(sensitivity, specificity, prevalence):
    ppv = accuracy.ppv_at_prevalence(sensitivity, specificity, prevalence)
    npv = accuracy.npv_at_prevalence(sensitivity, specificity, prevalence)
    assert 0 <= ppv <= 1 and 0 <= npv <= 1
    called = sensitivity * prevalence + (1 - specificity) * (1 - prevalence)
    assert ppv * called + (1 - npv) * (1 - called) == pytest.approx(prevalence)


@some
@given(scored())
def test_intervals_are_ordered_and_of_a_constant_a_point(of):
    label, score, patient = of
    found = intervals.estimate(calibration.brier, label, score, resamples_of(patient))
    assert 0 <= found.low <= found.high <= 1
    same = intervals.interval(0.3, np.full(50, 0.3))
    assert same.low == same.estimate == same.high == 0.3
    assert np.isnan(intervals.interval(np.nan, np.full(50, np.nan)).low)
    test = intervals.paired(calibration.brier, label, score, score, resamples_of(patient))
    assert (test.estimate, test.low, test.high, test.p) == (0, 0, 0, 1), "nothing differs from itself"


@some
@given(st.lists(st.floats(-1, 1), min_size=20, max_size=60))
def test_a_difference_turns_with_its_sides(replicates):
    replicates = np.array(replicates)
    one, other = intervals.difference(0.1, replicates), intervals.difference(-0.1, -replicates)
    assert one.p == pytest.approx(other.p) and one.low == pytest.approx(-other.high) and 0 <= one.p <= 1
    assert one.low <= one.high


@some
@given(st.sampled_from([0.0, 1.0]), st.integers(1, 400))
def test_an_exact_interval_holds_its_estimate(rate, patients_n):
    found = intervals.exact_interval(rate, np.arange(patients_n))
    wider = intervals.exact_interval(rate, np.arange(max(1, patients_n // 2)))
    assert 0 <= found.low <= rate <= found.high <= 1
    assert wider.high - wider.low >= found.high - found.low


@some
@given(st.lists(st.one_of(st.floats(0, 1), st.just(np.nan)), min_size=1, max_size=12))
def test_holm_raises_p_values_and_keeps_their_order(p):
    p = np.array(p)
    holm, fdr = intervals.holm(p), intervals.benjamini_hochberg(p)
    known = ~np.isnan(p)
    np.testing.assert_array_equal(np.isnan(holm), ~known)
    assert (holm[known] >= p[known]).all() and (holm[known] <= 1).all()
    assert (np.diff(holm[known][np.argsort(p[known], kind="stable")]) >= 0).all()
    assert (fdr[known] <= holm[known] + 1e-12).all()
    assert (holm[known] <= np.minimum(1, p[known] * known.sum()) + 1e-12).all(), "never above Bonferroni's"


@some
@given(st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_resamples_keep_patients_together(patient):
    resamples = resamples_of(np.array(patient), 9)
    weights = resamples.weights()
    for each in set(patient):
        assert np.ptp(weights[:, np.array(patient) == each], axis=1).max() == 0
    assert (resamples.counts.sum(1) == len(set(patient))).all()
    np.testing.assert_allclose(resamples.totals(np.ones(len(patient))), weights.sum(1))
    left = resamples.jackknife()
    assert (left.counts.sum(1) == len(set(patient)) - 1).all()


@some
@given(st.lists(st.integers(0, 30), min_size=20, max_size=80), st.integers(0, 99))
def test_splits_and_folds_are_disjoint_by_patient(patient, seed):
    assume(len(set(patient)) >= 12)
    index = pd.DataFrame(
        {"image_id": np.arange(len(patient)).astype(str), "patient_id": np.array(patient).astype(str)}
    )
    split = splits.by_patient(index, {"train": 0.6, "valid": 0.2, "test": 0.2}, seed)
    assert split["image_id"].tolist() == index["image_id"].tolist()
    assert split.groupby("patient_id")["split"].nunique(dropna=False).eq(1).all()
    fold = weighting.patient_folds(np.array(patient), np.random.default_rng(seed))
    assert pd.Series(fold).groupby(patient).nunique().eq(1).all()


# Statistics of probabilities, readers and errors


@few
@given(scored(least=12, most=40))
def test_calibration_turns_with_label_and_probability(of):
    label, score, _ = of
    probability = 0.05 + 0.9 * score
    assert calibration.brier(label, probability) == pytest.approx(calibration.brier(1 - label, 1 - probability))
    error = calibration.calibration_error(label, probability)
    assert 0 <= error <= 1
    intercept = calibration.calibration_intercept(label, probability)
    assert intercept == pytest.approx(-calibration.calibration_intercept(1 - label, 1 - probability), abs=1e-6)
    recalibrated = expit(intercept + np.log(probability / (1 - probability)))
    assert recalibrated.mean() == pytest.approx(label.mean(), abs=1e-6), "in the large, it fits"
    predicted, observed = calibration.reliability(label, probability)
    assert (np.diff(predicted) > 0).all() and ((observed >= 0) & (observed <= 1)).all()


@few
@given(st.lists(st.tuples(st.integers(2, 5), st.integers(0, 5)), min_size=2, max_size=15))
def test_agreement_is_at_most_1_and_turns_with_the_label(counts):
    counts = pd.DataFrame([(m, min(m, p)) for m, p in counts], columns=["readings_n", "positives_n"])
    flipped = counts.assign(positives_n=counts["readings_n"] - counts["positives_n"])
    alpha = agreement.krippendorff_alpha(counts)
    assert np.isnan(alpha) or alpha <= 1
    assert alpha == pytest.approx(agreement.krippendorff_alpha(flipped), nan_ok=True)
    share = agreement.positive_agreement(counts)
    assert np.isnan(share) or 0 <= share <= 1


@few
@given(scored(least=8), st.floats(0, 1), st.integers(0, 99))
def test_labels_that_are_made_to_err_are_labels_and_none_err_at_scale_0(of, scale, seed):
    reference, score, patient = of
    measured = noise.calibrate(reference, (score > 0.5).astype(float), patient)
    measured[["tp", "fp", "fn", "tn"]] += 1

    def made(scale):
        return noise.corrupt(reference, patient, measured, np.random.default_rng(seed), scale=scale)

    assert set(np.unique(made(scale))) <= {0.0, 1.0}
    np.testing.assert_array_equal(made(0), reference)
    wrong = made(scale) != reference
    assert (wrong <= (made(1) != reference)).all(), "the scale changes rates, not luck"
    cells = noise.confusion(reference, made(scale))
    assert sum(cells.values()) == len(reference) and cells["tp"] + cells["fn"] == reference.sum()


@few
@given(scored(least=8))
def test_bounds_of_two_raters_are_ordered_rates(of):
    a, score, _ = of
    b = (score > 0.5).astype(float)
    b[:4] = (0, 1, 0, 1)
    table = two_raters.bounds(a, b)
    known = table.dropna(subset=["lowest", "highest"])
    assert (known["lowest"] <= known["highest"] + 1e-12).all()
    assert known[["lowest", "highest"]].stack().between(-1e-12, 1 + 1e-12).all()
    assert (table["reason"] != "").equals(table["lowest"].isna())


@few
@given(scored(least=8))
def test_auc_within_one_stratum_is_the_auc_and_weights_balance(of):
    label, score, stratum = of
    assert stratified.auc_within(label, score, np.zeros(len(label))) == pytest.approx(accuracy.auc(label, score))
    within = stratified.auc_within(label, score, stratum)
    assert np.isnan(within) or 0 <= within <= 1
    weights = stratified.balancing_weights(label, stratum, np.inf)
    assert (weights >= 0).all() and stratified.effective_n(weights) <= len(label) + 1e-9
    if weights.any():
        assert stratified.imbalance(label, stratum, weights) == pytest.approx(0, abs=1e-9)
        assert weights.sum() == pytest.approx((weights > 0).sum()), (
            "stabilised weights sum to the images that have one"
        )


@few
@given(scored(least=6))
def test_an_attenuated_auc_lies_between_one_half_and_the_auc(of):
    label, score, _ = of
    other = (score > 0.5).astype(float)
    other[:2] = (0, 1)
    share = attenuation.markedness(label, other)
    assert -1 <= share <= 1 and share == pytest.approx(attenuation.markedness(1 - label, 1 - other))
    area = accuracy.auc(label, score)
    assert abs(attenuation.attenuated(area, share) - 0.5) <= abs(area - 0.5) + 1e-12
    assert attenuation.expected_auc(label, np.arange(len(label)), score) == pytest.approx(area), "each its own class"


@few
@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=6))
def test_overlap_of_findings_is_symmetric_and_1_with_itself(sets):
    overlap = retrieval.label_overlap(sets, sets)
    np.testing.assert_allclose(overlap, overlap.T)
    np.testing.assert_array_equal(np.diag(overlap), 1)
    assert ((overlap >= 0) & (overlap <= 1)).all()
