"""The pipeline itself, end to end on a tiny edition: what runs, what runs again, and what does not."""

import os
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from cxrlib.base import editions, paths
from cxrlib.commands import replay
from cxrlib.labelers import report_network
from cxrlib.releases import nih
from cxrlib.releases.google import read_google_four

# isort: split
from tiny_edition import ENCODER, tiny
from transformers import AutoTokenizer, BertConfig, BertModel


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A git checkout of this tree with the tiny edition in force, run once from nothing."""
    root = replay.scratch_copy(paths.ROOT, tmp_path_factory.mktemp("pipeline"))
    for edition in (paths.ROOT / "editions").glob("*.yaml"):  # the audits stay: their tables may not be here
        shutil.rmtree(root / "paper" / edition.stem, ignore_errors=True)
        shutil.rmtree(root / "results" / edition.stem, ignore_errors=True)
    (root / "dvc.lock").unlink(missing_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(report_network.encoder_path("minilm"))
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(root / ENCODER)
    tokenizer.save_pretrained(root / ENCODER)
    for command in (["git", "init", "-q"], ["git", "add", "-A"], ["git", "commit", "-qm", "start"]):
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *command[1:]], cwd=root, check=True
        )
    return root


def repro(root, settings, *targets, **variables):
    """Put settings in force, reproduce, and return the stages that ran and those that did not."""
    (root / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    editions.refresh(root)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "PYTEST"))} | variables
    link = root / "data" / "cxr"
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(environment.get("CXR_DATA", "nowhere"))
    done = subprocess.run(
        ["dvc", "repro", *targets], cwd=root, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    ran = re.findall(r"Running stage '([^']+)'", done.stdout)
    kept = re.findall(r"Stage '([^']+)' didn't change", done.stdout) + re.findall(
        r"Stage '([^']+)' is cached", done.stdout
    )
    return set(ran), set(kept)


RADIOLOGIST, NLP = (f"train@tiny-pneumothorax_{who}" for who in ("radiologist", "nlp"))


@pytest.fixture(scope="module")
def first_run(checkout):
    return repro(checkout, tiny(), "results")


def test_from_nothing_everything_runs_and_the_table_is_there(checkout, first_run):
    ran, _ = first_run
    assert {"cohort@simulated", "label_noise", "targets@tiny", RADIOLOGIST, NLP, "results@tiny"} <= ran
    table = pd.read_csv(checkout / "results/tiny/pneumothorax/table.csv")
    assert set(table["trained_on"]) == {"radiologist", "nlp"} == set(table["scored_against"]) - {"drawn"}
    assert set(table["test"]) == {"internal", "external"} and set(table["images"]) == {"simulated images"}
    run = checkout / "results/tiny/runs/pneumothorax_nlp/test_resnet-1"
    assert {"predictions.parquet", "model.safetensors", "history.csv", "run.json", "dvclive"} <= set(os.listdir(run))
    assert not (checkout / "data/partial/runs/tiny/pneumothorax_nlp-test_resnet-1").exists()


def test_nothing_changed_nothing_runs(checkout, first_run):
    ran, kept = repro(checkout, tiny(), "results")
    assert not ran and len(kept) >= 12


def test_a_changed_label_set_retrains_only_the_runs_that_use_it(checkout, first_run):
    changed = tiny()
    changed["label_sets"]["simulated"]["nlp"]["seed"] += 1
    ran, kept = repro(checkout, changed, "train")
    assert {stage for stage in ran if stage.startswith("train")} == {NLP}
    assert RADIOLOGIST in kept


@pytest.mark.slow
def test_an_added_seed_trains_only_the_new_runs_and_going_back_trains_none(checkout, first_run):
    first = checkout / "results/tiny/runs/pneumothorax_radiologist/test_resnet-1/run.json"
    before = first.stat().st_mtime_ns
    ran, _ = repro(checkout, tiny(seeds=[1, 2]), "train")
    assert {stage for stage in ran if stage.startswith("train")} == {RADIOLOGIST, NLP}
    assert (first.parents[1] / "test_resnet-2" / "run.json").exists()
    assert first.stat().st_mtime_ns == before, "the run that was there is not trained again"
    repro(checkout, tiny(), "train")
    assert first.stat().st_mtime_ns == before


def test_metrics_and_plots_are_there_to_show(checkout, first_run):
    repro(checkout, tiny(), "results")
    shown = subprocess.run(
        ["dvc", "metrics", "show", "--md"], cwd=checkout, capture_output=True, text=True, check=True
    )
    assert "pneumothorax.test_resnet.nlp.internal.by_radiologist.auc" in shown.stdout
    page = checkout / "plots"
    subprocess.run(["dvc", "plots", "show", "-o", str(page)], cwd=checkout, capture_output=True, check=True)
    assert "pneumothorax_nlp-test_resnet-1" in (page / "index.html").read_text()


def test_images_label_sets_and_splits_are_versioned(checkout, first_run):
    lock = yaml.safe_load((checkout / "dvc.lock").read_text())["stages"]
    out = {o["path"]: o for stage in lock.values() for o in stage.get("outs", [])}
    for path in (
        "data/cohorts/simulated",
        "data/label_sets/simulated",
        "data/splits/tiny",
        "data/targets/tiny",
    ):
        assert out[path]["md5"]


# --- edition nih on a tiny folder of the release's layout ----------------------------------------------------


def tiny_release(folder):
    """Write a folder laid out as the NIH release, with real ids and grey noise; return the image ids."""
    rng = np.random.default_rng(0)
    entries = nih.read_nih_entries().drop_duplicates("patient_id")
    google = read_google_four("test").drop_duplicates("patient_id")
    test = pd.concat([google[google["pneumothorax"] == value].head(25) for value in (0, 1)])["image_id"]
    rest = entries[~entries["patient_id"].isin(google["patient_id"])]
    train_val = pd.concat([rest[rest["pneumothorax"] == value].head(60) for value in (0, 1)])["image_id"]
    chosen = [*test, *train_val]
    (folder / "nih" / "images").mkdir(parents=True)
    for name in chosen:
        Image.fromarray(rng.integers(0, 256, (48, 40), np.uint8)).save(folder / "nih" / "images" / name)
    (folder / "nih" / "test_list.txt").write_text("\n".join(test))
    (folder / "nih" / "train_val_list.txt").write_text("\n".join(train_val))
    classes = rng.choice(["Lung Opacity", "No Lung Opacity / Not Normal", "Normal"], len(chosen))
    (folder / "labels").mkdir()
    pairs = pd.DataFrame({"rsna": [f"r{k}" for k in range(len(chosen))], "nih": chosen, "mse": 1.0, "cls": classes})
    pairs.to_csv(folder / "labels" / "rsna_to_nih.csv", index=False)
    return chosen


@pytest.mark.slow
def test_edition_nih_runs_on_a_tiny_folder_of_the_releases_layout(checkout, first_run, tmp_path):
    chosen = tiny_release(tmp_path)
    settings = editions.compose("nih")
    settings |= {"edition": "tiny_nih", "size_px": 32}
    settings["cohorts"]["nih"]["images_n"] = len(chosen)
    settings["splits"]["main"]["valid_frac"] = 0.3
    settings["runs"]["pneumothorax"] |= {"architectures": ["test_resnet"], "seeds": [1]}
    settings["training"] |= {"epochs": 1, "batch_size": 16, "pretrained": "none"}
    settings["pneumothorax"] |= {"resamples_n": 50}
    settings["bert"] = tiny()["bert"]
    for group in ("finding", "finding_others", "metric"):
        settings["runs"][group]["targets"] = []
    settings["finding"] |= {"enabled": False, "splits": []}
    settings["metric"] |= {"enabled": False}
    made = settings["label_sets"]["nih"]
    for name in [n for n in made if "google" in n and n != "google"]:  # tables that are fetched by hand
        del made[name]
    ran, _ = repro(checkout, settings, "results", CXR_DATA=str(tmp_path))
    trained = {stage for stage in ran if stage.startswith("train@tiny_nih")}
    assert len(trained) >= 3 and {"cohort@nih", "label_sets@nih", "results@tiny_nih"} <= ran
    table = pd.read_csv(checkout / "results/tiny_nih/pneumothorax/table.csv")
    scored = set(zip(table["finding"], table["trained_on"], table["scored_against"], strict=True))
    assert ("pneumothorax", "nlp", "google") in scored, "the adjudicated labels score pneumothorax"
    assert {("airspace_opacity", who, by) for who in ("rsna", "nlp") for by in ("rsna", "nlp", "google")} <= scored
    rejected = pd.read_csv(checkout / "data/cohorts/nih/rejected.csv")
    assert len(rejected) + len(chosen) == 112_120, "every row of the release is an image or a rejection"
    back, _ = repro(checkout, tiny(), "train")
    assert not back, "coming back trains nothing"


@pytest.mark.slow
def test_finding_or_no_finding_runs_to_its_end(checkout, first_run):
    """Last: its cohorts have the names of the tiny edition's, so coming back to that one would pack them again."""
    whole = editions.compose("quick")
    settings = tiny() | {"edition": "tiny_finding"}
    settings["pneumothorax"] |= {"comparisons": {}}
    settings["runs"] = {group: {**run, "targets": []} for group, run in settings["runs"].items()}
    for group in ("finding", "finding_others"):
        settings["runs"][group] = whole["runs"][group] | {"seeds": [1]}
    settings["runs"]["controls"] = {**settings["runs"]["controls"], "targets": ["pneumothorax_radiologist"]}
    settings["splits"]["by_image"]["fractions"] = settings["splits"]["by_patient"]["fractions"] = {
        "train": 0.5,
        "valid": 0.2,
        "test": 0.3,
    }
    settings["finding"] |= {"enabled": True, "splits": whole["finding"]["splits"], "resamples_n": 50}
    settings["finding"]["desk"] |= {"lists_n": 20, "resamples_n": 20}
    settings["maps"]["drains"] |= {"targets": [], "seeds": []}
    settings["maps"] |= {"again": {}, "draws_n": 1, "images_n": 20, "gradient_free_images_n": 5, "resamples_n": 50}
    settings["maps"]["runs"] = {n: r for n, r in settings["maps"]["runs"].items() if n.startswith("finding")}
    ran, _ = repro(checkout, settings, "study@tiny_finding-finding", "study@tiny_finding-maps")
    assert {f"evaluate@tiny_finding-simulated-{s}" for s in settings["finding"]["splits"]} <= ran
    results = checkout / "results" / "tiny_finding"
    assert set(pd.read_csv(results / "finding" / "published.csv")["split"]) == {"by_image", "by_patient"}
    table = pd.read_csv(results / "maps" / "table.csv")
    drawn = {"grad_cam", "grad_cam_plus_plus", "occlusion"}
    assert drawn | {"centre", "mean box", "lungs", "chance"} == set(table["method"])
    assert set(pd.read_csv(results / "maps" / "sanity.csv")["against"]) == {
        "weights re-initialised",
        "labels permuted",
    }
