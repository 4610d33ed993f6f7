"""Work on several cores: in order, bounded, with its errors, by whatever backend of joblib."""

import itertools
import os
import signal
import warnings

import divided_work
import joblib
import pytest

from cxrlib.base import parallel


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
    divided_work.assert_labelled_the_same({}, {"backend": "loky"}, workers=2)


def test_resamples_are_measured_the_same_alone_by_threads_and_by_what_is_configured(monkeypatch):
    divided_work.assert_measured_the_same(monkeypatch, {}, {"backend": "loky"})
