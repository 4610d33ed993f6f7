"""Two raters: closed forms, members of the family that give the table back, and a search over all truths."""

import numpy as np
import pytest

from cxrlib.statistics import resampling, two_raters


def table(both, only_a, only_b, neither):
    counts = (both, only_a, only_b, neither)
    return np.repeat([1, 1, 0, 0], counts), np.repeat([1, 0, 1, 0], counts)


def of(found, assumption, rate):
    row = found.set_index(["assumption", "rate"]).loc[(assumption, rate)]
    return row["lowest"], row["highest"]


def test_closed_forms():
    """Both say yes to 50 of 1,000, each alone to 50 more: the covariance is 0.05 - 0.01 = 0.04."""
    found = two_raters.bounds(*table(50, 50, 50, 850))
    assert of(found, "independent", "prevalence") == pytest.approx((0.04 / 0.85, 0.01 / 0.05))
    assert of(found, "independent", "sensitivity_a") == pytest.approx((0.5, 1))
    assert of(found, "independent", "specificity_b") == pytest.approx((850 / 900, 1))
    assert of(found, "agreed", "prevalence") == pytest.approx((0.05, 0.15))
    assert of(found, "agreed", "sensitivity_b") == pytest.approx((0.5, 1))
    assert of(found, "any", "prevalence") == pytest.approx((0, 1))
    assert of(found, "any", "sensitivity_a") == pytest.approx((0.1, 1))
    assert of(found, "any", "specificity_a") == pytest.approx((0.9, 1))


def test_raters_who_always_agree_may_be_perfect_or_copy_each_other():
    found = two_raters.bounds(*table(100, 0, 0, 900))
    assert of(found, "independent", "prevalence") == pytest.approx((0.1, 0.1))
    assert of(found, "independent", "sensitivity_a") == pytest.approx((1, 1))
    assert of(found, "any", "sensitivity_a") == pytest.approx((0.1, 1))


def test_every_member_of_the_family_gives_the_table_back():
    a, b = table(60, 90, 40, 810)
    grid = np.linspace(0.8, 1, 41)
    rates = two_raters.compatible(a, b, grid[:, None], grid[None, :])
    fits = np.isfinite(rates.prevalence)
    assert 100 < fits.sum() < fits.size
    p, s, c, t, d = (rate[fits] for rate in rates)
    assert p * s * t + (1 - p) * (1 - c) * (1 - d) == pytest.approx(0.06)
    assert p * s * (1 - t) + (1 - p) * (1 - c) * d == pytest.approx(0.09)
    assert p * (1 - s) * t + (1 - p) * c * (1 - d) == pytest.approx(0.04)
    found = two_raters.bounds(a, b)
    for name, values in zip(two_raters.Rates._fields, (p, s, c, t, d), strict=True):
        lowest, highest = of(found, "independent", name)
        assert lowest - 1e-9 <= values.min() and values.max() <= highest + 1e-9
    # the ends are reached: at the corners of the family
    a_least, b_least = (of(found, "independent", f"specificity_{rater}")[0] for rater in "ab")
    corners = two_raters.compatible(a, b, [a_least, 1], [b_least, 1])
    assert corners.prevalence == pytest.approx(of(found, "independent", "prevalence"))
    assert corners.sensitivity_a == pytest.approx(of(found, "independent", "sensitivity_a")[::-1])


def test_the_truth_that_made_a_table_is_inside_and_any_truth_is_inside_the_widest():
    rng = np.random.default_rng(0)
    for _ in range(50):
        p, s, t, c, d = rng.uniform(0.05, 0.6), *rng.uniform(0.55, 1, 2), *rng.uniform(0.55, 1, 2)
        cells = p * np.outer([s, 1 - s], [t, 1 - t]) + (1 - p) * np.outer([1 - c, c], [1 - d, d])
        a, b = table(*np.round(cells.ravel() * 1e6).astype(int) // 100)
        found = two_raters.bounds(a, b)
        for name, value in zip(two_raters.Rates._fields, (p, s, c, t, d), strict=True):
            lowest, highest = of(found, "independent", name)
            assert lowest - 0.01 <= value <= highest + 0.01
        truth = rng.random(len(a)) < np.where(a + b == 2, 0.9, np.where(a + b == 1, 0.4, 0.1))
        sensitivity, specificity = a[truth].mean(), 1 - a[~truth].mean()
        if sensitivity + specificity >= 1:
            assert of(found, "any", "sensitivity_a")[0] <= sensitivity
            assert of(found, "any", "specificity_a")[0] <= specificity


def test_raters_who_agree_less_than_chance_fit_nothing():
    found = two_raters.bounds(*table(0, 100, 100, 800))
    part = found[found["assumption"] == "independent"]
    assert part[["lowest", "highest"]].isna().all(axis=None) and part["reason"].str.contains("chance").all()
    assert np.isnan(two_raters.compatible(*table(0, 100, 100, 800), 0.95, 0.95).prevalence)


def test_intervals_hold_the_bounds_and_narrow_with_patients():
    widths = []
    for times in (1, 16):
        a, b = table(6 * times, 9 * times, 4 * times, 81 * times)
        resamples = resampling.patient_resamples(np.arange(len(a)), 400, np.random.default_rng(1))
        found = two_raters.bounds(a, b, resamples).set_index(["assumption", "rate"])
        row = found.loc[("independent", "sensitivity_a")]
        assert row["low"] <= row["lowest"] and row["high"] == 1
        prevalence = found.loc[("independent", "prevalence")]
        assert prevalence["low"] < prevalence["lowest"] and prevalence["high"] > prevalence["highest"]
        widths.append(row["lowest"] - row["low"])
    assert widths[1] < widths[0] / 2


def test_a_reading_that_is_none_is_named():
    with pytest.raises(ValueError, match="reading 1 of the second rater is 2"):
        two_raters.bounds([1, 0], [1, 2])
