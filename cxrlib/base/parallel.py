"""Work on several cores, all of it through joblib: `joblib.parallel_config` around a call sends it elsewhere.

Unless it does, processes are forked from this one. joblib's own start slowly, since they import and load everything
again, and its fork, `multiprocessing`, waits for ever for a worker that was killed and holds all results until the
last. Threads need nothing of this: `joblib.Parallel(prefer="threads")`.
"""

import multiprocessing
import os
import threading
import warnings
from concurrent.futures import Future, ProcessPoolExecutor, process

import joblib
from joblib.parallel import ParallelBackendBase, get_active_backend

WorkerKilledError = process.BrokenProcessPool


WAITING = 8  # results a worker that are computed, or being computed, before their turn comes


def _stop_with_parent():
    """Let this worker end when its parent is killed, instead of waiting for it for ever."""

    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


class _Forked(ParallelBackendBase):
    """Processes that have all that this one has loaded; if one is killed, that is a `WorkerKilledError`."""

    supports_retrieve_callback = True  # results can be had one by one

    def effective_n_jobs(self, n_jobs):
        return n_jobs

    def configure(self, n_jobs=1, parallel=None, **_):
        self.parallel = parallel
        fork = multiprocessing.get_context("fork")
        self.pool = ProcessPoolExecutor(n_jobs, mp_context=fork, initializer=_stop_with_parent)
        return n_jobs

    def submit(self, func, callback=None):
        try:
            future = self.pool.submit(func)
        except WorkerKilledError:
            raise
        except RuntimeError:  # the pool is closed, since this process ends: nobody waits for the result
            return Future()
        future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, future):
        return future.result()

    def terminate(self):
        self.pool.shutdown(cancel_futures=True)

    def abort_everything(self, ensure_ready=True):
        self.terminate()


def forked():
    """Return whether workers are forked, and so have what this process has: unless a backend was configured."""
    return len({type(get_active_backend(prefer=kind)[0]) for kind in ("processes", "threads")}) == 2


def mapped(function, items, workers, *, ordered=True):
    """Yield `function(item)` for each item, from worker processes.

    Items are taken only as fast as results are: no more than `WAITING` a worker are on their way, whoever is the
    slowest. An exception of the function, or of the items, comes out here.

    Parameters
    ----------
    function : Callable
        With one worker it runs in this process.
    items : iterable
    workers : int
    ordered : bool
        Whether results come in the order of the items, not as they are ready.
    """
    items = iter(items)
    taken = given = 0

    def some():
        nonlocal taken
        while taken < given + WAITING * workers:
            try:
                item = next(items)
            except StopIteration:
                return
            taken += 1
            yield joblib.delayed(function)(item)

    with joblib.Parallel(
        workers,
        backend=_Forked(nesting_level=0) if forked() else None,
        return_as="generator" if ordered else "generator_unordered",
        batch_size=1,
    ) as parallel:
        before = -1
        while given > before:
            before = given
            results = parallel(some())
            try:
                for result in results:
                    given += 1
                    yield result
            finally:
                with warnings.catch_warnings(action="ignore"):  # that some results were not asked for
                    results.close()
