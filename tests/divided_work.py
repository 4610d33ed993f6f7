"""Work that the library divides among processes, done alone and as joblib is configured: twice the same."""

import joblib
import numpy as np

from cxrlib.labelers import rules
from cxrlib.statistics import resampling


def assert_labelled_the_same(*configurations, **how):
    """Assert that reports get the same labels and evidence from one process and by each configuration of joblib."""
    reports = [(str(k), f"No pneumothorax. Possible nodule of {k} mm.") for k in range(60)]
    here = repr(list(rules.label_reports(reports, workers=1, evidence=True)))
    for chosen in configurations:
        with joblib.parallel_config(**chosen):
            assert repr(list(rules.label_reports(reports, chunk=10, evidence=True, **how))) == here


def assert_measured_the_same(monkeypatch, *configurations):
    """Assert that resamples are measured to the same bit alone and by each configuration of joblib."""
    values = np.random.default_rng(0).random(400)
    resamples = resampling.patient_resamples(np.arange(400) // 2, 2000, np.random.default_rng(1))

    def of_some(part):
        return part.totals(values) / part.totals(1 - values)

    alone = resampling.in_each(resamples, 400, of_some)
    monkeypatch.setattr(resampling, "_PARTS_ALONE", 0)
    for chosen in configurations:
        with joblib.parallel_config(**chosen):
            assert (resampling.in_each(resamples, 400, of_some) == alone).all()
