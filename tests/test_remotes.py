"""DVC remotes, for real: what is pushed comes back equal, what may not be given away stays, and gc takes nothing."""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
import yaml
from dvc import cli as dvc_cli
from dvc.repo import Repo
from moto.server import ThreadedMotoServer

from cxrlib.base import editions, paths
from cxrlib.commands import gc, inputs, pull, push, replay, repro, sharing

CHECKOUT = paths.ROOT
SSHD = "/usr/sbin/sshd"
TARGETS = ["pneumothorax_radiologist", "pneumothorax_nlp"]


def micro():
    """Return the settings of the quick edition, cut down to two networks of one epoch on 200 images."""
    settings = editions.compose("quick") | {"edition": "micro", "size_px": 32, "reference": "radiologist"}
    cohort = {**settings["cohorts"]["simulated"], "images_n": 200}
    sets = settings["label_sets"]["simulated"]
    settings |= {
        "cohorts": {"simulated": cohort},
        "cohort_names": ["simulated"],
        "test_cohorts": ["simulated"],
        "label_sets": {"simulated": {name: sets[name] for name in ("radiologist", "nlp")}},
        "targets": {name: settings["targets"][name] for name in TARGETS},
        "runs": {group: {**planned, "targets": []} for group, planned in settings["runs"].items()},
    }
    settings["runs"]["pneumothorax"] = {"targets": TARGETS, "architectures": ["test_resnet"], "seeds": [1]}
    for study in ("labelers", "finding", "mining", "metric"):
        settings[study]["enabled"] = False
    settings["finding"]["splits"] = []
    settings["training"] |= {"epochs": 1, "pretrained": "none"}
    settings["pneumothorax"] |= {"resamples_n": 50, "controls": {}}
    return settings


def run(root, *words, ok=True, **variables):
    """Run a command in a checkout; return what it said. `ok` None: it may fail or not."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "PYTEST", "AWS_"))}
    environment |= {"PYTHONPATH": str(root), "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org"}
    environment |= {"GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org", **variables}
    done = subprocess.run([*map(str, words)], cwd=root, capture_output=True, text=True, env=environment)
    said = done.stdout + done.stderr
    assert ok is None or (done.returncode == 0) == ok, said[-4000:]
    return said


def dvc(root, *words, ok=True):
    """Run the command `dvc` in this process, which saves the seconds that it takes to start."""
    with contextlib.chdir(root):
        status = dvc_cli.main([*map(str, words)])
    assert ok is None or (status == 0) == ok, words


def cxr(root, *words, **more):
    return run(root, sys.executable, "-m", "cxrlib", *words, **more)


def checkout(root, settings):
    """Make a git checkout of this tree, without what another edition made, with settings in force."""
    root.mkdir()
    replay.scratch_copy(CHECKOUT, root)
    for edition in editions.available():
        shutil.rmtree(root / "paper" / edition, ignore_errors=True)
        shutil.rmtree(root / "results" / edition, ignore_errors=True)
    (root / "dvc.lock").unlink()
    put_in_force(root, settings)
    dvc(root, "config", "core.site_cache_dir", root.parent / f"{root.name}.site")
    run(root, "git", "init", "-q")
    commit(root)
    return root


def put_in_force(root, settings):
    (root / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    editions.refresh(root)


def commit(root):
    run(root, "git", "add", "-A")
    run(root, "git", "commit", "-qm", "state", "--allow-empty")


def clone(root, to):
    """Make a fresh clone, which has its own knowledge of remotes and an empty cache."""
    run(root, "git", "clone", "-q", root, to)
    dvc(to, "config", "--local", "core.site_cache_dir", to.parent / f"{to.name}.site")
    return to


def objects(folder):
    """Return the hashes of the objects in a cache or a remote that is a folder."""
    files = Path(folder) / "files" / "md5"
    return {file.parent.name + file.name for file in files.rglob("*") if file.is_file()}


def contents(root, *paths_):
    """Return the bytes of every file below some paths of a checkout, but for what this machine has looked at."""
    found = [f for path in paths_ for f in (root / path, *sorted((root / path).rglob("*")))]
    files = [f for f in found if f.is_file() and not f.name.endswith(".checked.json")]
    return {str(f.relative_to(root)): f.read_bytes() for f in files}


# --- what may not be given away ----------------------------------------------------------------------------------


FAKED = ("code", "label_noise", "cohort@", "label_sets@", "targets@", "evaluate@")  # each more takes time
EDITIONS = {"micro": micro, "nih_mini": lambda: editions.compose("nih_mini")}


def fake(root, edition):
    """Put an edition in force and write what stands for the outputs of some stages; return their hashes.

    Nothing is run: each output is a text of its own, saved as DVC saves it.
    """
    put_in_force(root, EDITIONS[edition]())
    made = {}
    with contextlib.chdir(root), Repo(str(root)) as repo, repo.lock:
        for stage in repo.index.stages:
            if not stage.addressing.startswith(FAKED):
                continue
            for out in stage.outs:
                path = Path(out.fs_path)
                if not path.exists():
                    name = path if path.suffix else path / "part.txt"
                    name.parent.mkdir(parents=True, exist_ok=True)
                    name.write_text(f"{edition}: {path.relative_to(root)}")
            stage.save(allow_missing=True, run_cache=False)
            stage.commit(allow_missing=True)
            stage.dump(update_pipeline=False)
            for out in (out for out in stage.outs if out.use_cache):
                files = [entry.value for _, _, entry in out.obj] if out.hash_info.isdir else []
                made[str(out)] = {out.hash_info.value, *files}
    return made


@pytest.fixture(scope="module")
def two_editions(tmp_path_factory):
    """A checkout with the outputs of edition nih_mini, and of one of simulated images; and the hashes of each."""
    root = checkout(tmp_path_factory.mktemp("gated") / "repo", micro())
    made = {name: fake(root, name) for name in EDITIONS}
    put_in_force(root, micro())
    commit(root)
    for name in ("private", "store"):
        dvc(root, "remote", "add", "-q", "-f", "--local", name, root.parent / name)
    return root, made


@pytest.fixture
def gated(two_editions, monkeypatch):
    """The checkout with two editions, as the one in which this process runs."""
    monkeypatch.setattr(paths, "ROOT", two_editions[0])
    return two_editions


OPEN = {"data/code", "data/label_noise.csv", "data/labelers/bert"}


@pytest.mark.parametrize("edition", editions.available())
def test_an_edition_of_real_images_has_the_private_remote(edition):
    settings = editions.compose(edition)
    real = any(cohort["source"] != "simulated" for cohort in settings["cohorts"].values())
    assert settings["published"] != real and settings["stages"]["remote"] == (editions.PRIVATE if real else "")


def test_every_output_that_dvc_keeps_has_the_remote_of_its_edition():
    """So that a new stage of dvc.yaml cannot forget it: what has none is in OPEN, and nobody's images are in that."""
    kept = {}
    for stage in yaml.safe_load((CHECKOUT / "dvc.yaml").read_text())["stages"].values():
        for out in stage.get("do", stage)["outs"]:
            ((path, options),) = out.items() if isinstance(out, dict) else [(out, {})]
            if options.get("cache", True):
                kept[path] = options.get("remote")
    assert {path for path, remote in kept.items() if remote is None} == OPEN
    assert {remote for path, remote in kept.items() if path not in OPEN} == {"${stages.remote}"} and len(kept) > 15


def test_a_plain_push_gives_a_public_remote_nothing_of_real_images(gated, capsys):
    root, made = gated
    put_in_force(root, EDITIONS["nih_mini"]())
    secret = {each for name, found in made["nih_mini"].items() if name not in OPEN for each in found}
    assert len(secret) > 8 and objects(root / ".dvc" / "cache") >= secret
    dvc(root, "push", "-q", "-r", "store")
    assert not objects(root.parent / "store") & secret
    dvc(root, "push", "-r", "store", "data/cohorts/nih_mini", ok=None)  # named, it does not go either
    dvc(root, "config", "--local", "core.remote", "store")
    dvc(root, "push", "-q")  # each to its own: the default remote, and the private one
    assert not objects(root.parent / "store") & secret and objects(root.parent / "private") >= secret
    assert made["nih_mini"]["data/code"] <= objects(root.parent / "store")
    capsys.readouterr()
    push.push("store")
    said = capsys.readouterr().out
    assert said.startswith("Left out, since edition nih_mini may not be given away: ")
    assert "data/cases/nih_mini/" in said and f"remote private, {root.parent / 'private'}." in said
    put_in_force(root, micro())
    push.push("store")
    assert objects(root.parent / "store") >= made["micro"]["data/cohorts/simulated"]


FOLDER = {"cohorts": {"ours": {"source": "folder", "folder": "a", "table": "b"}}, "cohort_names": ["ours"]}


def test_an_edition_that_has_published_from_another_is_refused(tmp_path):
    shutil.copytree(CHECKOUT / "editions", tmp_path / "editions")
    sharing.check_edition(editions.compose("quick"))
    sharing.check_edition({**editions.compose("nih")})
    settings = {**editions.compose("quick"), **FOLDER, "label_sets": {"ours": {}}}
    with pytest.raises(ValueError, match=r"Edition quick gives everything away .* images of ours are not simulated"):
        sharing.check_edition(settings, tmp_path)
    (tmp_path / "editions" / "mine.yaml").write_text("extends: nih\npublished: true\n")
    with pytest.raises(
        ValueError, match=r"mine.yaml says `published: true`, and its label set rsna of nih is rsna_on"
    ):
        sharing.check_edition(editions.compose("mine", tmp_path), tmp_path)


def test_two_at_once_are_told_apart_from_a_store_that_fails(gated):
    root, _ = gated
    put_in_force(root, micro())
    with Repo(str(root)) as repo, repo.lock, pytest.raises(ValueError, match=r"^Another DVC command works in this"):
        push.push("store")


def test_a_file_that_was_added_by_hand_says_who_may_have_it(gated):
    root, _ = gated
    (root / "mine.csv").write_text("image_id,pneumothorax\na,1\n")
    dvc(root, "add", "-q", "mine.csv")
    pointer = root / "mine.csv.dvc"
    with pytest.raises(ValueError, match=r"mine.csv.dvc does not say who may have its file, and nothing was pushed"):
        push.push("store")
    plain = pointer.read_text()
    pointer.write_text(plain + "  remote: private\n")
    push.push("store")
    dvc(root, "push", "-q", "-r", "store")
    md5 = yaml.safe_load(plain)["outs"][0]["md5"]
    assert md5 not in objects(root.parent / "store")
    (root / "mine.csv").write_text("image_id,pneumothorax\na,0\n")
    dvc(root, "add", "-q", "mine.csv")
    assert "remote: private" in pointer.read_text(), "another version keeps what was said of the first"
    pointer.write_text(plain + "meta: {for: anyone}\n")
    push.push("store")
    pointer.unlink()


# --- a folder: pushed, cloned, pulled, equal --------------------------------------------------------------------


@pytest.mark.slow
def test_a_clone_gets_from_a_folder_what_was_pushed_to_it(gated, tmp_path, monkeypatch, capsys):
    """And is told what the folder lacks or has damaged. With stages that run: `test_a_folder`."""
    root, made = gated
    put_in_force(root, micro())
    store = root.parent / "store"
    push.push("store")
    other = clone(root, tmp_path / "clone")
    dvc(other, "remote", "add", "-q", "--local", "--default", "store", store)
    monkeypatch.setattr(paths, "ROOT", other)
    came = pull.pull()
    assert came >= len(made["micro"]) and pull.pull("store") == 0
    names = list(made["micro"])
    there, here = (contents(folder, *names) for folder in (root, other))
    assert there == here and len(here) >= len(made["micro"])
    capsys.readouterr()
    dvc(other, "status", "-c")
    assert "Cache and remote 'store' are in sync." in capsys.readouterr().out
    (name,) = (name for name in names if name.startswith("data/cases/"))
    (md5,) = made["micro"][name]
    for damage in (lambda stored: stored.write_text("damaged"), lambda stored: stored.unlink()):
        stored = store / "files" / "md5" / md5[:2] / md5[2:]
        stored.chmod(0o644)
        damage(stored)
        (other / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]).unlink(missing_ok=True)
        (other / name).unlink(missing_ok=True)
        with pytest.raises(ValueError, match=rf"lacks files, or has them damaged, of 1 outputs: {name}; whoever has"):
            pull.pull()
        assert not (other / name).exists()
        push_again(root, store, md5)
    changed, extra = other / name, other / "data" / "cohorts" / "simulated" / "notes.txt"
    pull.pull("store")
    whole = changed.read_bytes()
    for file in (changed, extra):
        changed.unlink(missing_ok=True)
        file.write_text("of somebody here")
        named = file.relative_to(other)
        with pytest.raises(
            ValueError, match=rf"^{named}: DVC has no copy of what is here, .*; move away .* pull again"
        ):
            pull.pull("store")
        assert file.read_text() == "of somebody here"
        file.unlink()
        pull.pull("store")
        assert changed.read_bytes() == whole
    with Repo(str(other)) as repo, repo.lock, pytest.raises(ValueError, match=r"^Another DVC command works in this"):
        pull.pull("store")
    lock = other / "dvc.lock"
    text = lock.read_text()
    for damaged in ("", text[: len(text) // 2 - 3] + "\n\t"):
        lock.write_text(damaged)
        for command in (pull.pull, push.push):
            with pytest.raises(ValueError, match=r"^DVC cannot read the pipeline \(.*dvc\.lock.*`make repro` mends"):
                command("store")
    lock.write_text(text)
    with pytest.raises(ValueError, match=r"^There is no remote 'none'; there are private, store: `dvc remote add"):
        pull.pull("none")
    dvc(other, "config", "--local", "--unset", "core.remote")
    with pytest.raises(ValueError, match=r"^No remote is named and none is the default: `dvc remote add --default"):
        push.push()
    dvc(other, "remote", "modify", "--local", "private", "url", store)
    with pytest.raises(
        ValueError, match=r"^The remotes private and store have one address, .*: whoever may read the"
    ):
        push.push("store")


def push_again(root, store, md5):
    """Put an object back into a folder as whoever has it would."""
    stored = store / "files" / "md5" / md5[:2] / md5[2:]
    stored.parent.mkdir(exist_ok=True)
    stored.unlink(missing_ok=True)
    shutil.copy(root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:], stored)


def test_a_folder_that_was_removed_comes_back_from_the_cache(gated):
    """By its name, whole or the part that was damaged: what messages say of damaged stores and runs."""
    root, _ = gated
    put_in_force(root, micro())
    folder = root / "data" / "label_sets" / "simulated"
    there = contents(root, "data/label_sets")
    for name in (folder, folder / "part.txt", "data/label_sets/simulated"):
        shutil.rmtree(folder)
        dvc(root, "checkout", "-q", name)
        assert contents(root, "data/label_sets") == there and there


def test_what_stages_read_and_make_is_known_with_the_lists_of_the_cache(gated):
    root, made = gated
    put_in_force(root, micro())
    waits_for, files = repro._pipeline()
    evaluates = files["evaluate@micro-simulated"]
    assert {"results/micro/runs", "data/cohorts/simulated"} <= evaluates.reads
    assert waits_for["evaluate@micro-simulated"] >= {"cohort@simulated", *(f"train@micro-{name}" for name in TARGETS)}
    listing = files["cohort@simulated"].makes["data/cohorts/simulated"]
    assert listing.parent.name + listing.name in made["micro"]["data/cohorts/simulated"]
    assert set(inputs._listed(listing)) == {"part.txt"}
    assert files["train@micro-pneumothorax_nlp"].makes == {"results/micro/runs/pneumothorax_nlp": None}


# --- gc -------------------------------------------------------------------------------------------------------------


def test_gc_keeps_the_results_of_every_edition(gated):
    root, made = gated
    cache = root / ".dvc" / "cache"
    put_in_force(root, micro())
    gc.collect(root)  # what other tests left
    useless = cache / "files" / "md5" / "00" / ("0" * 30)
    useless.parent.mkdir(exist_ok=True)
    useless.write_text("of a setting that was tried and left")
    assert gc.collect(root, dry=True) == (1, 36) and useless.exists()
    assert gc.collect(root) == (1, 36) and not useless.exists()
    wanted = {edition: set().union(*found.values()) for edition, found in made.items()}
    assert objects(cache) >= wanted["micro"] | wanted["nih_mini"]
    for edition in made:
        put_in_force(root, EDITIONS[edition]())
        for name in made[edition]:
            path = root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        dvc(root, "checkout", "-q", *made[edition])
        assert all((root / name).exists() for name in made[edition])
    put_in_force(root, micro())
    saved = shutil.copytree(cache, root.parent / "saved")
    dvc(root, "gc", "--all-commits", "-f", "-q")  # why `cxr gc` is there
    lost = wanted["nih_mini"] - wanted["micro"] - objects(cache)
    shutil.rmtree(cache)
    shutil.copytree(saved, cache)
    assert lost, "should DVC keep other editions one day, say so in the guide"


def test_gc_removes_nothing_where_it_cannot_know(gated):
    root, made = gated
    cache = root / ".dvc" / "cache"
    lock = (root / "dvc.lock").read_text()
    before = objects(cache)
    for damaged in ("a: [1\n", "", lock[: len(lock) // 2]):
        (root / "dvc.lock").write_text(damaged)
        with pytest.raises(ValueError, match=r"^dvc.lock is not whole, so nothing is removed"):
            gc.collect(root)
    (root / "dvc.lock").write_text(lock)
    pointer = root / "mine.dvc"
    pointer.write_text("a: [1\n")
    with pytest.raises(ValueError, match=r"^mine.dvc is no YAML, so nothing is removed"):
        gc.collect(root)
    pointer.unlink()
    with Repo(str(root)) as repo, repo.lock, pytest.raises(ValueError, match=r"^Another DVC command works in this"):
        gc.collect(root)
    folder = next(each for each in made["micro"]["data/cohorts/simulated"] if each.endswith(".dir"))
    listed = cache / "files" / "md5" / folder[:2] / folder[2:]
    whole = listed.read_bytes()
    listed.chmod(0o644)
    for damaged in (whole[: len(whole) // 2], whole.replace(b'"md5": "', b'"md5": "0')):
        listed.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"{folder[2:]} is damaged, a list of .* so nothing is removed: delete"):
            gc.collect(root)
    listed.write_bytes(whole)
    assert objects(cache) == before


def test_gc_keeps_what_the_copy_of_a_lock_names(gated):
    root, _ = gated
    copy = root / "data" / "partial" / "dvc.lock"
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text("schema: '2.0'\nstages:\n  a:\n    cmd: a\n    outs:\n    - {path: a, md5: 0a.dir}\n")
    assert "0a.dir" in gc.kept_hashes(root)
    copy.unlink()


def test_gc_keeps_what_another_branch_names(gated):
    root, made = gated
    lock = (root / "dvc.lock").read_text()
    (root / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    assert gc.kept_hashes(root) >= {
        each for each in made["nih_mini"]["data/cohorts/nih_mini"] if each.endswith(".dir")
    }
    (root / "dvc.lock").write_text(lock)


# --- three kinds of remotes, with a pipeline that trains ----------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkout in which the whole of the small pipeline has run: images, labels, networks, tables."""
    root = checkout(tmp_path_factory.mktemp("trained") / "repo", micro())
    run(root, "dvc", "repro", "-q", "study@micro-pneumothorax")
    commit(root)
    return root


@pytest.fixture
def bucket(monkeypatch):
    """A server that answers as S3 does; give the words that add it as a remote, and the variables of its user."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    keys = {
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "WHEN_REQUIRED",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "WHEN_REQUIRED",
    }
    client = boto3.client(
        "s3",
        endpoint_url=address,
        aws_access_key_id="someone",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="networks")
    yield client, ("s3://networks/cxr", {"endpointurl": address}), keys
    server.stop()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def server(tmp_path):
    """Debian's sshd as an ordinary process, with keys of its own; give the address and options of a remote on it."""
    if not Path(SSHD).exists():
        pytest.skip(f"not run: {SSHD} is not installed (Debian: apt-get install openssh-server)")
    home = tmp_path / "sshd"
    home.mkdir(mode=0o700)
    for key in ("host", "user"):
        run(home, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / key)
    (home / "authorized_keys").write_text((home / "user.pub").read_text())
    port = free_port()
    config = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": home / "host",
        "AuthorizedKeysFile": home / "authorized_keys",
        "PidFile": home / "pid",
        "PasswordAuthentication": "no",
        "StrictModes": "no",
        "Subsystem": "sftp internal-sftp",
    }
    (home / "config").write_text("".join(f"{name} {value}\n" for name, value in config.items()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd of root wants it
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", home / "config"], stderr=subprocess.DEVNULL)
    for _ in range(100):
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            break
        time.sleep(0.1)
    options = {"port": port, "user": getpass.getuser(), "keyfile": home / "user"}
    yield f"ssh://127.0.0.1{home}/store", options
    process.send_signal(signal.SIGTERM)
    process.wait(10)


def add(root, name, address, options, *more):
    dvc(root, "remote", "add", "-q", "-f", "--local", *more, name, address)
    for option, value in options.items():
        dvc(root, "remote", "modify", "--local", name, option, value)


def replayed(trained, to, address, options, **variables):
    """Push to a remote, clone afresh, pull, and compute the tables again; assert that all of it is equal."""
    add(trained, "store", address, options, "--default")
    assert "files were pushed" in cxr(trained, "push", **variables)
    other = clone(trained, to)
    add(other, "store", address, options, "--default")
    assert "outputs came" in cxr(other, "pull", **variables)
    assert "in sync" in run(other, "dvc", "status", "-c", **variables)
    assert "up to date" in run(other, "dvc", "status", "study@micro-pneumothorax", "train")
    parts = ("data/cohorts", "data/label_sets", "data/cases", "results/micro/runs", "results/micro/pneumothorax")
    there, here = contents(trained, *parts), contents(other, *parts)
    assert there == here and any(name.endswith("predictions.parquet") for name in here)
    shutil.rmtree(other / "results/micro/pneumothorax")
    run(other, "dvc", "repro", "-q", "--single-item", "--force", "study@micro-pneumothorax")
    again = contents(other, "results/micro/pneumothorax")
    assert again == contents(trained, "results/micro/pneumothorax") and len(again) > 5
    return other


def forget(root):
    """Take from a clone what it pulled, so that it has to ask the remote."""
    shutil.rmtree(root / ".dvc" / "cache" / "files")
    shutil.rmtree(root / "data" / "cases")


@pytest.mark.slow
def test_a_folder(trained, tmp_path):
    replayed(trained, tmp_path / "clone", tmp_path / "store", {})


@pytest.mark.slow
def test_a_server_by_ssh(trained, server, tmp_path):
    address, options = server
    other = replayed(trained, tmp_path / "clone", address, options)
    dvc(other, "remote", "modify", "--local", "store", "keyfile", tmp_path / "none")
    forget(other)
    said = cxr(other, "pull", ok=False)
    last = said.strip().splitlines()[-1]
    assert last.startswith("The remote store (ssh://127.0.0.1") and "cannot be used" in last


@pytest.mark.slow
def test_a_bucket_of_s3(trained, bucket, tmp_path):
    client, (address, options), keys = bucket
    other = replayed(trained, tmp_path / "clone", address, options, **keys)
    forget(other)
    said = cxr(other, "pull", ok=False, AWS_EC2_METADATA_DISABLED="true", HOME=str(tmp_path))
    assert "set the store's access key and secret" in said.strip().splitlines()[-1]
    # a damaged object: DVC takes it as it is, `cxr pull` does not
    with Repo(str(other)) as repo:
        (out,) = (out for out in repo.index.outs if str(out) == "data/cases/micro/simulated.parquet")
        key = f"cxr/files/md5/{out.hash_info.value[:2]}/{out.hash_info.value[2:]}"
    client.put_object(Bucket="networks", Key=key, Body=b"damaged")
    said = cxr(other, "pull", ok=False, **keys)
    assert "lacks files, or has them damaged, of 1 outputs: data/cases/micro/simulated.parquet" in said
    client.delete_object(Bucket="networks", Key=key)
    assert "data/cases/micro/simulated.parquet" in cxr(other, "pull", ok=False, **keys)
    add(other, "store", "s3://none/cxr", options, "--default")
    said = cxr(other, "pull", ok=False, **keys)
    assert said.strip().splitlines()[-1].startswith("The remote store (s3://none/cxr)")
