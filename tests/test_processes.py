"""Several processes train as one; checkpoints and runs are whole or not there; whoever is killed is named."""

import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from cxrlib.base import paths
from cxrlib.cohorts import packing, sources, splits
from cxrlib.cohorts.store import open_store
from cxrlib.labels.targets import target_table
from cxrlib.networks import checkpoints, launching, processes, run, training

FINDINGS = ["pneumothorax", "effusion"]
TOLERANCE = 1e-4  # of probabilities, two processes against one; docs/guides/gpu.md states it


def make_settings(**changes):
    base = {"architecture": "test_efficientnet", "pretrained": "none", "epochs": 2, "batch_size": 16, "seed": 1}
    base |= {"learning_rate": 2e-3, "weight_decay": 0.05, "positive_weight": "sqrt", "flip": True}
    return training.TrainingSettings(**base | changes)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A checkout's folders with one cohort of 120 simulated images and one target, and nothing trained."""
    root = tmp_path_factory.mktemp("made")
    for name in ("dvc.yaml", "params.yaml"):  # by which other processes find this root
        (root / name).touch()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(paths, "ROOT", root)
        source = sources.simulated(hospital="internal", images_n=120, seed=5, size_px=32)
        packing.pack(source, paths.cohort_dir("c"), root / "work", size_px=32, workers=1)
        store = open_store("c")
        split = splits.by_patient(store.index, {"train": 0.7, "valid": 0.3}, 1)
        table = target_table(split, {"drawn": store.labels.set_index("image_id")}, FINDINGS, "drawn", "u_zeros")
        paths.targets_dir("e").mkdir(parents=True)
        table.to_parquet(paths.target_path("e", "t"))
    return root


@pytest.fixture
def edition(made, tmp_path, monkeypatch):
    """A copy of it, which is the root."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return tmp_path


def in_processes(function, n, folder, *arguments):
    """Call `function(folder, *arguments)` in forked processes that have joined, and wait for them."""

    def child(rank):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": n, "MASTER_ADDR": "127.0.0.1"}
        os.environ |= {name: str(value) for name, value in place.items()}
        os.environ |= {"MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
        with processes.joined():
            function(folder, *arguments)

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    forked = [multiprocessing.get_context("fork").Process(target=child, args=(rank,)) for rank in range(n)]
    for each in forked:
        each.start()
    for each in forked:
        each.join(300)
    assert [each.exitcode for each in forked] == [0] * n


# --- two processes are as one ----------------------------------------------------------------------------------


def normed(folder, x, weights):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    shared = processes.SharedNetwork(
        nn.Sequential(norm, nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 2
    )
    shared.images_n = len(x)
    out = shared(x[processes.share(len(x))])
    (out * weights).sum().backward()
    found = [out.detach(), norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]
    torch.save(found, folder / f"{processes.rank()}.pt")


def test_outputs_gradients_and_batch_norms_are_those_of_the_whole_batch(tmp_path):
    torch.manual_seed(1)
    x, weights = 100 + torch.randn(5, 3, 4, 4), torch.randn(5, 2)
    in_processes(normed, 2, tmp_path, x, weights)
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    out = nn.Sequential(norm, nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())(x)
    (out * weights).sum().backward()
    expected = [out.detach(), norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]
    for rank in range(2):  # shares of three images and of two
        for value, wanted in zip(torch.load(tmp_path / f"{rank}.pt"), expected, strict=True):
            torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-5)


def trained_and_predicted(folder, settings):
    store, table = open_store("c"), pd.read_parquet(paths.target_path("e", "t"))
    trained = training.train(store, table, FINDINGS, settings, folder / "work")
    probability = training.predict(trained.network, store, np.arange(119))
    np.save(folder / f"{processes.rank()}.npy", probability)
    trained.history.to_csv(folder / f"{processes.rank()}.csv", index=False)


def test_two_processes_predict_what_one_does_complete_and_in_order(edition):
    for n in (1, 2):
        (edition / f"of_{n}").mkdir()
    trained_and_predicted(edition / "of_1", make_settings())
    in_processes(trained_and_predicted, 2, edition / "of_2", make_settings(processes=2))
    alone, (first, second) = np.load(edition / "of_1/0.npy"), (np.load(edition / f"of_2/{r}.npy") for r in (0, 1))
    assert first.shape == (119, 2) and first.tobytes() == second.tobytes()
    np.testing.assert_allclose(first, alone, atol=TOLERANCE)
    assert np.ptp(alone[:, 0]) > 10 * TOLERANCE and abs(first - alone[::-1]).max() > 10 * TOLERANCE, (
        "or order is moot"
    )
    for name in ("train_loss", "valid_loss"):
        histories = [pd.read_csv(edition / f"of_{n}/0.csv")[name] for n in (1, 2)]
        np.testing.assert_allclose(*histories, atol=TOLERANCE)


def test_a_batch_that_cannot_be_shared_is_refused(edition, monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 3)
    with pytest.raises(ValueError, match=r"batch of 16 images cannot be shared by 3 processes: .* multiple of 3"):
        trained_and_predicted(edition, make_settings(processes=3))


def test_settings_of_more_processes_than_there_are_are_refused(edition):
    with processes.joined(), pytest.raises(ValueError, match="ask for 2 processes, and 1 are here"):
        trained_and_predicted(edition, make_settings(processes=2))


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ValueError, match="GPU of its own, and this machine has 1"), processes.joined():
        pass


# --- checkpoints -----------------------------------------------------------------------------------------------


def test_a_checkpoint_comes_back_with_random_states(tmp_path):
    state = {"a": torch.arange(3.0), "best": -np.inf, "random": checkpoints.random_states(), "rows": [{"x": 1}]}
    drawn = np.random.random(), torch.rand(2)  # noqa: NPY002
    checkpoints.write(state, tmp_path / "c.pt")
    found = checkpoints.read(tmp_path / "c.pt")
    assert torch.equal(found["a"], state["a"]) and found["best"] == -np.inf and found["rows"] == [{"x": 1}]
    checkpoints.set_random_states(found["random"])
    assert np.random.random() == drawn[0] and torch.equal(torch.rand(2), drawn[1])  # noqa: NPY002
    assert [file.name for file in tmp_path.iterdir()] == ["c.pt"]


class Executed:
    def __reduce__(self):
        return os.mkdir, (self.where,)


@pytest.mark.parametrize("harm", ["cut short", "empty", "a bit that fell over", "something to execute"])
def test_a_damaged_checkpoint_is_named_and_nothing_of_it_is_executed(harm, tmp_path):
    path, trap = tmp_path / "checkpoint.pt", Executed()
    trap.where = str(tmp_path / "executed")
    checkpoints.write({"a": torch.zeros(100)} | ({"b": trap} if harm == "something to execute" else {}), path)
    content = bytearray(path.read_bytes())
    if harm == "a bit that fell over":
        content[len(content) // 2] ^= 1
    path.write_bytes({"cut short": content[:-9], "empty": b""}.get(harm, content))
    with pytest.raises(checkpoints.DamagedCheckpointError, match=r"checkpoint.pt is damaged: .* Delete it"):
        checkpoints.read(path)
    assert not (tmp_path / "executed").exists()


# --- runs ------------------------------------------------------------------------------------------------------


def a_run(**changes):
    return run.run("e", "c", "t", make_settings(**changes))


def whole(folder):
    """Return the contents of a run that do not tell the time."""
    history = pd.read_csv(folder / "history.csv").drop(columns=["seconds", "images_per_second"]).to_csv()
    return [history, *((folder / name).read_bytes() for name in ("predictions.parquet", "model.safetensors"))]


def test_a_run_that_ends_while_it_is_written_leaves_nothing_and_is_not_trained_again(edition, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    out = paths.run_dir("e", "t", "test_efficientnet", 1)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(run.records, "record", stopped)
        a_run()
    assert not out.exists()
    done = a_run()
    assert done.trained_now and done.record["resumed_at_epoch"] == 2, "both epochs were kept"
    assert not (edition / "data/partial/runs/e/t-test_efficientnet-1").exists()
    before = whole(out)
    assert not a_run().trained_now
    (out / "run.json").write_text((out / "run.json").read_text()[:-50])
    assert a_run().trained_now and whole(out) == before


def test_a_run_is_put_in_its_place_from_another_disk_too(tmp_path, monkeypatch):
    def other_disk(source, place):
        if source.parent != place.parent:
            raise OSError(18, "Invalid cross-device link")
        replace(source, place)

    replace = os.replace
    monkeypatch.setattr(run.os, "replace", other_disk)
    (tmp_path / "work/finished").mkdir(parents=True)
    (tmp_path / "work/finished/run.json").write_text("{}")
    run._put(tmp_path / "work/finished", tmp_path / "runs/a-1")
    assert [p.relative_to(tmp_path / "runs").as_posix() for p in (tmp_path / "runs").rglob("*")] == [
        "a-1",
        "a-1/run.json",
    ]


# --- launching -------------------------------------------------------------------------------------------------

JOB = """
import os, signal, sys, time
from pathlib import Path
from cxrlib.networks import launching
job = Path(sys.argv[1])
with launching.launched(job):
    (job.parent / f"pid.{os.environ['RANK']}").write_text(str(os.getpid()))
    if os.environ["RANK"] == "1":
        %s
    time.sleep(60)
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A function that writes a module for processes to run, with what the second of them does; returns the job."""

    def write(second):
        (tmp_path / "a_job.py").write_text(JOB % second)
        (tmp_path / "job.json").write_text("{}")
        return tmp_path / "job.json"

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(paths.ROOT)]))
    return write


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            r"Process 1 of 2, counted from 0, was killed by SIGKILL.*Run it again",
        ),
        ("raise ValueError('no such image')", r"Process 1 of 2, counted from 0, failed: no such image"),
    ],
)
def test_a_process_that_fails_ends_all_and_is_named(job, second, said, tmp_path):
    with pytest.raises(RuntimeError, match=said):
        launching.launch("a_job", job(second), 2, tmp_path / "log")
    assert not any(lives(file) for file in tmp_path.glob("pid.*"))


def lives(file):
    """Return whether the process whose id a file holds is alive."""
    try:
        return "Z" not in open(f"/proc/{file.read_text()}/stat").read().split(")")[1][:3]
    except FileNotFoundError:
        return False


def test_processes_end_with_the_one_that_launched_them(job, tmp_path):
    code = f"""
        from pathlib import Path
        from cxrlib.networks import launching
        launching.launch("a_job", Path({str(job("pass"))!r}), 2, Path({str(tmp_path / "log")!r}))
    """
    launcher = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=paths.ROOT)
    wait_for(lambda: len(list(tmp_path.glob("pid.*"))) == 2 and all(p.read_text() for p in tmp_path.glob("pid.*")))
    assert all(lives(file) for file in tmp_path.glob("pid.*"))
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    wait_for(lambda: not any(lives(file) for file in tmp_path.glob("pid.*")))


def wait_for(what, seconds=120):
    deadline = time.time() + seconds
    while not what():
        assert time.time() < deadline, "it did not come"
        time.sleep(0.05)


# --- all of it -------------------------------------------------------------------------------------------------

KILLED = """
import os, signal
from cxrlib.networks import processes, run, training
trained = training._Epochs.after_train
def killed(self):
    if self.epoch == 2 and processes.rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)  # the first process needs it for the validation
    trained(self)
if os.environ.get("KILL"):
    training._Epochs.after_train = killed
if __name__ == "__main__":
    import sys
    from pathlib import Path
    run.main(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_the_next_call_ends_as_if_nothing_had_happened(edition, monkeypatch):
    """Two real processes of torchrun; the second dies before the third epoch ends, after the second was kept."""
    root = paths.find_root(os.path.dirname(__file__))
    (edition / "killed_run.py").write_text(KILLED)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(edition), str(root)]))
    monkeypatch.setattr(run, "__name__", "killed_run")
    monkeypatch.chdir(edition)
    settings, out = {"processes": 2, "epochs": 4}, paths.run_dir("e", "t", "test_efficientnet", 1)
    a_run(**settings)
    undisturbed = whole(out)
    (out / "run.json").unlink()
    monkeypatch.setenv("KILL", "1")
    with pytest.raises(RuntimeError, match="Process 1 of 2, counted from 0, was killed by SIGKILL"):
        a_run(**settings)
    assert not out.exists() and (edition / "data/partial/runs/e/t-test_efficientnet-1/checkpoint.pt").exists()
    monkeypatch.delenv("KILL")
    done = a_run(**settings)
    assert done.record["resumed_at_epoch"] == 2 and whole(out) == undisturbed
    assert (
        len(pd.read_parquet(out / "predictions.parquet"))
        == 2 * (pd.read_parquet(paths.target_path("e", "t"))["split"] == "valid").sum()
    )


# --- what a GPU would do ---------------------------------------------------------------------------------------


def test_the_benchmark_of_a_gpu_runs_on_a_processor_and_says_where_there_is_none(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(paths.find_root(os.path.dirname(__file__)) / "benchmarks"))
    import gpu

    assert gpu.main(["--smoke", "--networks", "test_resnet", "--out", str(tmp_path / "gpu.csv")]) == 0
    table = pd.read_csv(tmp_path / "gpu.csv")
    assert (
        table["loop"].tolist() == ["bare", "bare", "ours", "batches alone"] and (table["images_per_second"] > 0).all()
    )
    assert {"device", "date", "ratio_to_bare", "loader_share"} <= set(table)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--out", str(tmp_path / "none.csv")]) == 2
    assert (
        "finds no GPU here, so nothing was measured" in capsys.readouterr().err
        and not (tmp_path / "none.csv").exists()
    )
