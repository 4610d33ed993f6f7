"""Packing, labelling and resampling on a Dask cluster of two processes: the same bytes, also if one is killed."""

import os
import signal
import threading
import time

import divided_work
import joblib
import nbformat
import pytest

distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed: no Dask")

from cxrlib.base import parallel  # noqa: E402
from cxrlib.cohorts import packing, sources  # noqa: E402
from cxrlib.commands import notebook  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client():
    """A client of a cluster of two processes with one thread each."""
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def kill_one(client):
    """Kill a worker as soon as it has some work; return a list that its process id will be in."""
    killed = []

    def wait_and_kill():
        while not killed:
            for address, tasks in client.processing().items():
                if tasks:
                    killed.append(pids[address])
                    os.kill(killed[0], signal.SIGKILL)
                    return
            time.sleep(0.02)

    pids = client.run(os.getpid)
    threading.Thread(target=wait_and_kill, daemon=True).start()
    return killed


def slow_square(k):
    time.sleep(0.05)
    return k * k


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_pack_with_a_worker_killed_in_the_middle_has_the_same_bytes(client, tmp_path):
    source = sources.simulated(size_px=32, images_n=300, seed=1, hospital="internal")
    packing.pack(source, tmp_path / "here", tmp_path / "work_here", size_px=32, workers=1)
    with joblib.parallel_config(backend="dask", client=client):
        killed = kill_one(client)
        packing.pack(source, tmp_path / "there", tmp_path / "work_there", size_px=32)
    assert killed and killed[0] not in client.run(os.getpid).values()
    assert files(tmp_path / "there") == files(tmp_path / "here") and len(files(tmp_path / "here")) >= 5


def test_a_pack_by_threads_of_one_worker_has_the_same_bytes(tmp_path):
    source = sources.simulated(size_px=32, images_n=300, seed=1, hospital="internal")
    packing.pack(source, tmp_path / "here", tmp_path / "work_here", size_px=32, workers=1)
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=4, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as threads,
        joblib.parallel_config(backend="dask", client=threads),
    ):
        packing.pack(source, tmp_path / "there", tmp_path / "work_there", size_px=32)
    assert files(tmp_path / "there") == files(tmp_path / "here")


def test_maps_are_in_order_with_a_worker_killed_in_the_middle(client):
    with joblib.parallel_config(backend="dask", client=client):
        killed = kill_one(client)
        assert list(parallel.mapped(slow_square, range(60), 2)) == [k * k for k in range(60)]
    assert killed


def test_reports_are_labelled_and_resamples_measured_the_same(client, monkeypatch):
    by_dask = {"backend": "dask", "client": client}
    divided_work.assert_labelled_the_same(by_dask)
    divided_work.assert_measured_the_same(monkeypatch, by_dask)


def test_the_kernel_of_a_stage_joins_the_cluster_of_its_place(client, tmp_path, monkeypatch):
    code = "import joblib\nfrom cxrlib.base import parallel\nprint(parallel.forked(), joblib.effective_n_jobs())"
    template = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    template.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(template, tmp_path / "template.ipynb")
    monkeypatch.setenv("CXR_DASK", client.scheduler.address)
    monkeypatch.setenv("PYTHONSTARTUP", "")
    notebook.main([str(tmp_path / "template.ipynb"), str(tmp_path / "page.ipynb")])
    (cell,) = nbformat.read(tmp_path / "page.ipynb", 4).cells
    assert "".join(output.text for output in cell.outputs) == "False 2\n"
