"""Work on several cores: in order, bounded, with its errors, by whatever backend of joblib."""

import itertools
import os
import signal
import warnings

import joblib
import numpy as np
import pytest

from cxrlib.base import parallel
from cxrlib.labelers import rules
from cxrlib.statistics import resampling


def square(k):
    if k == 40:
        raise ValueError("40 is too many.")
    return k * k


def kill(k):
    if k == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return k


def own_process(_):
    return os.getpid()


@pytest.mark.parametrize("chosen", [{}, {"backend": "threading"}, {"backend": "sequential"}, {"backend": "loky"}])
@pytest.mark.parametrize("workers", [1, 2])
def test_results_and_errors_are_the_same_by_every_backend(chosen, workers):
    with joblib.parallel_config(**chosen):
        assert parallel.forked() == (not chosen)
        assert list(parallel.mapped(square, range(40), workers)) == [k * k for k in range(40)]
        unordered = parallel.mapped(square, iter(range(40)), workers, ordered=False)
        assert sorted(unordered) == [k * k for k in range(40)]
        with pytest.raises(ValueError, match=r"^40 is too many\.$"):
            list(parallel.mapped(square, range(60), workers))
        assert list(parallel.mapped(square, [], workers)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_items_comes_out(workers):
    def items():
        yield from range(30)
        raise OSError("the file is cut short")

    with pytest.raises(OSError, match="cut short"):
        list(parallel.mapped(square, items(), workers))


@pytest.mark.parametrize("ordered", [True, False])
def test_items_are_taken_as_fast_as_results_are(ordered):
    taken = itertools.count()
    for given, _ in enumerate(parallel.mapped(abs, (next(taken) for _ in range(300)), 2, ordered=ordered), 1):
        assert taken.__reduce__()[1][0] <= given + 2 * parallel.WAITING
    assert given == 300


def test_a_worker_that_is_killed_is_an_error():
    with pytest.raises(parallel.WorkerKilledError):
        list(parallel.mapped(kill, range(10), 2))


def test_stopping_early_says_nothing_and_leaves_no_process():
    with warnings.catch_warnings(record=True) as said:
        results = parallel.mapped(own_process, itertools.count(), 2)
        workers = {next(results) for _ in range(20)}
        results.close()
    assert not said and os.getpid() not in workers
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_reports_are_labelled_the_same_by_workers_that_load_the_labeler_themselves():
    reports = [(str(k), f"No pneumothorax. Possible nodule of {k} mm.") for k in range(60)]
    here = repr(list(rules.label_reports(reports, workers=1, evidence=True)))
    for chosen in ({}, {"backend": "loky"}):
        with joblib.parallel_config(**chosen):
            assert repr(list(rules.label_reports(reports, workers=2, chunk=10, evidence=True))) == here


def test_resamples_are_measured_the_same_alone_by_threads_and_by_what_is_configured(monkeypatch):
    values = np.random.default_rng(0).random(400)
    resamples = resampling.patient_resamples(np.arange(400) // 2, 2000, np.random.default_rng(1))

    def of_some(part):
        return part.totals(values) / part.totals(1 - values)

    alone = resampling.in_each(resamples, 400, of_some)
    monkeypatch.setattr(resampling, "_PARTS_ALONE", 0)
    for chosen in ({}, {"backend": "loky"}):
        with joblib.parallel_config(**chosen):
            assert (resampling.in_each(resamples, 400, of_some) == alone).all()
