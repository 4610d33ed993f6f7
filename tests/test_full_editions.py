"""Editions chexpert and mimic on tiny fakes of their releases: from files to what each network would learn."""

import gzip

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from cxrlib.base import editions, label_tables, paths, runs, vocabulary
from cxrlib.cohorts import packing, sources, splits, store
from cxrlib.labelers import registry
from cxrlib.labels import kinds
from cxrlib.labels.targets import target_table
from cxrlib.studies.case_tables import assemble, probability

CHECKOUT = paths.ROOT
NAMES = list(vocabulary.CHEXPERT_FINDINGS)
FINDINGS = list(vocabulary.CHEXPERT_FINDINGS.values())
HALVES = {"train": 0.5, "valid": 0.3, "test": 0.2}


@pytest.fixture
def release(tmp_path, monkeypatch):
    """Return a folder for a fake release; everything that is made goes to another."""
    monkeypatch.setenv("CXR_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(paths, "ROOT", tmp_path / "checkout")
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def labels(n, rng, values=(1, 0, -1, np.nan), names=NAMES):
    return pd.DataFrame(rng.choice(values, (n, len(names))), columns=names)


def picture(path, rng):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (20, 24), np.uint8)).save(path)


def built(settings, size_px=16):
    """Pack every cohort, build and save its label sets, split and write targets as notebooks 01, 03 and 04 do."""
    cards, stores = {}, {}
    for cohort in settings["cohort_names"]:
        source = sources.open_source({**settings["cohorts"][cohort], "size_px": size_px})
        packing.pack(source, paths.cohort_dir(cohort), paths.partial_dir(cohort), size_px=size_px, workers=1)
        stores[cohort] = store.open_store(cohort)
        sets = kinds.build(stores[cohort], settings["label_sets"][cohort])
        cards[cohort] = {name: label_tables.save(table, card, cohort, name) for name, (table, card) in sets.items()}
    train = settings["train_cohort"]
    for cohort in set(settings["test_cohorts"]) - {train}:
        splits.check_external(train, cohort, settings["cohorts"])
        splits.check_apart(stores[train].index, stores[cohort].index, train, cohort, settings["cohorts"])
    made = {name: splits.make(stores[train].index, options) for name, options in settings["splits"].items()}
    own = {name: label_tables.load(train, name) for name in settings["label_sets"][train]}
    planned = dict.fromkeys(target for target, _, _ in runs.planned(settings))
    tables = {}
    for name in planned:
        options = dict(settings["targets"][name])
        tables[name] = target_table(made[options.pop("split", "main")], own, **options)
    return cards, made["main"], tables


def edition(name, **changes):
    return {**editions.compose(name, CHECKOUT), **changes}


def check_targets(settings, targets):
    """Every pair that is compared trains on the same images; the policies differ where labels are uncertain."""
    for study in ("pneumothorax", "labelers"):
        for first, second in settings[study]["comparisons"].values():
            assert targets[first]["image_id"].equals(targets[second]["image_id"])
            assert targets[first].columns.equals(targets[second].columns)
    fourteen = [t for name, t in targets.items() if not name.startswith("pneumothorax")]
    assert all(set(t.columns) == {"image_id", "split", *FINDINGS} for t in fourteen)
    assert not any(t[FINDINGS].isna().any(axis=None) for t in fourteen), "blank counts as absent"


# --- CheXpert -----------------------------------------------------------------------------------------------------


def chexpert(root, rng, tested_n=6):
    """Write CheXpert's layout: 200 training images (with laterals), a valid and a test part, five label files."""
    prefix = "CheXpert-v1.0-small/"
    parts = {
        "train": [(k // 2, k % 2 + 1, "frontal" if k % 10 else "lateral") for k in range(200)],
        "valid": [(64541 + k, 1, "frontal") for k in range(6)],
        "test": [(64741 + k, 1, "frontal") for k in range(tested_n)],
    }
    written = {}
    for part, images in parts.items():
        paths_ = [f"{part}/patient{p:05d}/study{s}/view1_{side}.jpg" for p, s, side in images]
        for path in paths_:
            picture(root / "chexpert" / path, rng)
        side = ["Frontal" if s == "frontal" else "Lateral" for _, _, s in images]
        about = {"Path": [prefix + p for p in paths_], "Sex": "Female", "Age": 60, "Frontal/Lateral": side}
        about = pd.DataFrame(about).assign(**{"AP/PA": [None if s == "Lateral" else "AP" for s in side]})
        written[part] = about
    n = len(written["train"])
    files = {
        "train.csv": written["train"].join(labels(n, rng)),
        "train_cheXbert.csv": written["train"].join(labels(n, rng)).sample(frac=1, random_state=0),  # another order
        "train_visualCheXbert.csv": written["train"].join(labels(n, rng, (1, 0), NAMES[::-1])),  # of columns too
        "valid.csv": written["valid"].join(labels(6, rng, (1, 0))),
        "test_labels.csv": written["test"][["Path"]].join(labels(tested_n, rng, (1, 0))),  # no sex, age, view
    }
    files["train_cheXbert.csv"]["Path"] = files["train_cheXbert.csv"]["Path"].str.replace("-small", "")
    for name, table in files.items():
        table.to_csv(root / "chexpert" / name, index=False)
    studies = "CheXpert-v1.0/" + written["test"]["Path"].str.removeprefix(prefix).str.rpartition("/")[0]
    (root / "labels/chexpert_test").mkdir(parents=True)
    studies.rename("Study").to_frame().join(labels(tested_n, rng)).to_csv(
        root / "labels/chexpert_test/report_labeler.csv", index=False
    )
    return files


def test_chexpert(release):
    files = chexpert(release, np.random.default_rng(0))
    settings = edition("chexpert", splits={"main": {"kind": "by_patient", "fractions": HALVES, "seed": 3}})
    cards, split, targets = built(settings)
    assert len(split) == 180, "laterals are left out"
    assert [card["images_n"] for card in cards["chexpert"].values()] == [180] * 3
    assert "VisualCheXbert" in cards["chexpert"]["visualchexbert"]["who"]
    assert cards["chexpert_valid"]["radiologist"]["images_n"] == cards["chexpert_test"]["labeler"]["images_n"] == 6
    raw = files["train_cheXbert.csv"].set_index(
        files["train_cheXbert.csv"]["Path"].str.replace("v1.0/", "v1.0-small/")
    )
    mine = label_tables.load("chexpert", "chexbert")
    for theirs, ours in vocabulary.CHEXPERT_FINDINGS.items():
        np.testing.assert_array_equal(mine[ours], raw.loc[mine.index, theirs].fillna(0), theirs)
    check_targets(settings, targets)
    assert set(targets) == set(settings["targets"]) - {"visualchexbert_u_ones"}
    differ = targets["chexpert_u_ones"][FINDINGS] - targets["chexpert_u_zeros"][FINDINGS]
    uncertain = label_tables.load("chexpert", "chexpert").loc[targets["chexpert_u_ones"]["image_id"], FINDINGS] == -1
    np.testing.assert_array_equal(differ.to_numpy() == 1, uncertain.to_numpy())


def case_tables(settings, split):
    """Write the case tables as notebook 11 does, with random predictions."""
    rng = np.random.default_rng(5)
    for cohort in settings["test_cohorts"]:
        index = store.open_store(cohort).index
        part = split if cohort == settings["train_cohort"] else splits.all_test(index)
        sets = {name: label_tables.load(cohort, name) for name in settings["label_sets"][cohort]}
        table = assemble(index, part, sets, FINDINGS)
        said = {
            probability(runs.key(*run), f): rng.random(len(table), np.float32)
            for run in runs.planned(settings, ["labelers"])
            for f in FINDINGS
        }
        table = pd.concat([table, pd.DataFrame(said)], axis=1)
        table.to_parquet(paths.results_dir(settings["edition"], "cases") / f"{cohort}.parquet")


def test_the_labeler_study_runs_on_chexpert(release, monkeypatch):
    """Notebook 21 itself: no visual labeler here, nobody read the training cohort's images, some tests are tiny."""
    chexpert(release, np.random.default_rng(0), tested_n=60)
    settings = edition("chexpert", splits={"main": {"kind": "by_patient", "fractions": HALVES, "seed": 3}})
    _, split, _ = built(settings)
    case_tables(settings, split)
    (paths.ROOT / "params.yaml").write_text(yaml.safe_dump(settings))
    notebook = nbformat.read(CHECKOUT / "notebooks" / "21_labelers.ipynb", 4)
    given = {"edition": "chexpert", "train_cohort": "chexpert", "images": "CheXpert", "resamples_n": 50}
    space = {"display": lambda *shown: None}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            exec(cell.source, space)
            if "parameters" in cell.metadata.get("tags", []):
                space |= given
    out = paths.ROOT / "results" / "chexpert" / "labelers"
    tables = {n: pd.read_csv(out / f"{n}.csv") for n in ("labels", "label_differences", "table", "differences")}
    assert set(tables["labels"]["labeler"]) == {"labeler"} and set(tables["labels"]["test"]) == {"test"}
    assert tables["label_differences"].empty, "one labeler has nobody to be compared with"
    means = tables["table"].query("scored_against == 'radiologist'").set_index(["trained_on", "test"])
    assert means.loc[("chexbert_u_ones", "test"), "findings_n"] == 14
    assert np.isfinite(means.loc[("chexbert_u_ones", "test"), ["low", "high"]].astype(float)).all()
    for unscored in ("internal", "valid"):
        row = means.loc[("chexbert_u_ones", unscored)]
        assert np.isnan(row["estimate"]) and row["reason"].startswith("no finding has 10 patients")
    asked = settings["labelers"]
    assert len(tables["differences"]) == len(asked["comparisons"]) * 3 * len(asked["scored_against"])
    assert (tables["differences"]["seeds_n"].isin((0, 3))).all() and (out / "differences.png").exists()


# --- MIMIC-CXR ----------------------------------------------------------------------------------------------------


def mimic(root, rng):
    """Write MIMIC-CXR's layout: 120 studies of two images, reports of all but one, four label files, the split."""
    folder = root / "mimic"
    studies = pd.DataFrame({"subject_id": 10000000 + np.arange(120) // 2, "study_id": 50000000 + np.arange(120)})
    images = studies.loc[studies.index.repeat(2)].reset_index(drop=True)
    images.insert(0, "dicom_id", [f"{k:08x}-{k:08x}" for k in range(240)])
    images["ViewPosition"] = ["AP", "LATERAL"] * 120
    images["StudyDate"] = 21800506
    for row in images.itertuples():
        study = f"p{str(row.subject_id)[:2]}/p{row.subject_id}/s{row.study_id}"
        picture(folder / "files" / study / f"{row.dicom_id}.jpg", rng)
        report = folder / "reports/files" / f"{study}.txt"
        report.parent.mkdir(parents=True, exist_ok=True)
        if row.study_id != 50000007:
            said = " ".join(name for name in FINDINGS if rng.random() < 0.4)
            report.write_text(f" INDICATION: edema?\n\n IMPRESSION:\n\n Seen: {said} .\n")
    part = np.repeat(["train", "validate", "test"], (60, 40, 20))[
        images["subject_id"].rank(method="dense").astype(int) * 2 - 2
    ]
    packed = {
        "mimic-cxr-2.0.0-metadata.csv.gz": images,
        "mimic-cxr-2.0.0-split.csv.gz": images[["dicom_id", "study_id", "subject_id"]].assign(split=part),
        "mimic-cxr-2.0.0-chexpert.csv.gz": studies.join(labels(120, rng)),
        "mimic-cxr-2.0.0-negbio.csv.gz": studies.join(labels(120, rng)),
    }
    for name, table in packed.items():
        (folder / name).write_bytes(gzip.compress(table.to_csv(index=False).encode()))
    read = studies[["study_id"]][100:].reset_index(drop=True).join(labels(20, rng))
    read = read.rename(columns={"Lung Opacity": "Airspace Opacity"})
    read.to_csv(folder / "mimic-cxr-2.1.0-test-set-labeled.csv", index=False)


class Words:
    """A labeler for tests: a finding is present where its name is; `bert` is not sure of texts of an odd length."""

    def __init__(self, name):
        self.name = name

    def read_many(self, texts):
        sure = [self.name == "rules" or len(t) % 2 == 0 for t in texts]
        rows = [
            {f: (1 if s else -1) if f in t.split() else np.nan for f in FINDINGS}
            for t, s in zip(texts, sure, strict=True)
        ]
        return pd.DataFrame(rows)


def test_mimic(release, monkeypatch):
    mimic(release, np.random.default_rng(1))
    monkeypatch.setattr(registry, "open_labeler", Words)
    settings = edition("mimic")
    cards, split, targets = built(settings)
    cards = cards["mimic"]
    assert split.groupby("split").size().to_dict() == {"train": 60, "valid": 40, "test": 20}, "laterals are left out"
    assert {name: card["images_n"] for name, card in cards.items()} == {
        "chexpert": 120,
        "negbio": 120,
        "report_radiologist": 20,
        "rules": 119,
        "bert": 119,
    }
    assert cards["rules"]["notes"][0].startswith("1 images have no report with text: ")
    rules, bert = (cards[name]["counts"]["edema"] for name in ("rules", "bert"))
    assert rules["present"] == bert["present"] + bert["uncertain"] > bert["present"] > 0
    assert rules["present"] < 119, "the clinical question is not read"
    radiologist = label_tables.load("mimic", "report_radiologist")
    assert set(split.loc[split["split"] == "test", "image_id"]) == set(radiologist.index)
    assert "lung_opacity" in radiologist
    check_targets(settings, targets)
    assert set(targets) == set(settings["targets"])
    assert len(targets["rules_u_ones"]) == len(targets["bert_u_ones"]) == 99, "the image without a report is in none"
    pd.testing.assert_frame_equal(targets["bert_u_ones"], targets["rules_u_zeros"])
