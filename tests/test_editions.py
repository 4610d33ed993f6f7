"""Editions: whole when composed, one key set, and switching loses nothing."""

import copy
import io
import os
import re
import shutil
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from cxrlib.base import editions, label_tables, paths, runs, vocabulary
from cxrlib.cohorts import sources, splits
from cxrlib.commands import edition, label
from cxrlib.labels import kinds
from cxrlib.networks import architectures
from cxrlib.releases import catalogue, pixels
from cxrlib.studies import crossing

CHECKOUT = paths.ROOT
EDITIONS = sorted(editions.available())


@cache
def composed(name):
    return editions.compose(name, CHECKOUT)


def load(name):
    return copy.deepcopy(composed(name))


def test_the_default_edition_is_in_force():
    same = yaml.safe_load((CHECKOUT / "params.yaml").read_text()) == load("quick")
    assert same, "another edition is in force: make edition EDITION=quick"


@pytest.mark.parametrize("name", EDITIONS)
def test_edition_is_consistent(name):
    check_consistent(name, CHECKOUT)


def check_consistent(name, checkout):
    """Return an edition's settings if its parts fit each other."""
    settings = editions.compose(name, checkout)
    assert settings["edition"] == name
    assert set(settings) == set(load("quick")), "every edition has the same sections"
    assert set(settings["training"]) == set(load("quick")["training"])
    assert settings["train_cohort"] in settings["cohort_names"] and set(settings["test_cohorts"]) <= set(
        settings["cohort_names"]
    )
    for cohort in settings["cohort_names"]:
        assert settings["cohorts"][cohort]["source"] in sources.IMAGE_SOURCES
        sets = settings["label_sets"][cohort].values()
        assert {s["kind"] for s in sets} <= set(kinds.LABEL_SET_KINDS)
        published = [s for s in sets if s["kind"] == "published"]
        family = splits.pixel_family(settings["cohorts"][cohort])
        assert all(pixels.PIXELS[s["name"]] == family for s in published)
        assert all(bool(catalogue.ENTRIES[s["name"]].readers) == ("readers" in s) for s in published)
    for cohort in settings["test_cohorts"]:
        if cohort != settings["train_cohort"]:
            splits.check_external(settings["train_cohort"], cohort, settings["cohorts"])
    own = settings["label_sets"][settings["train_cohort"]]
    assert settings["reference"] in own
    planned = runs.planned(settings)
    assert len(set(planned)) == len(planned), "no run is in two groups"
    for target in {t for t, _, _ in runs.planned(settings, [g for g in settings["runs"] if g != "visual"])}:
        entry = settings["targets"][target]
        assert entry["policy"] in label_tables.POLICIES and set(entry["findings"]) <= set(vocabulary.VOCABULARY)
        assert {entry["label_set"], *entry["same_images_as"]} <= set(own)
        assert entry.get("split", "main") in settings["splits"]
    study = settings["pneumothorax"]
    arms = crossing.arms(settings, study["runs"])
    for comparison, (first, second) in {**study["comparisons"], **study["controls"]}.items():
        assert crossing.pairs(arms, first, second), comparison
    return settings


@pytest.mark.parametrize("name", [n for n in EDITIONS if load(n)["finding"]["enabled"]])
def test_study_of_findings_has_what_it_compares(name):
    settings = load(name)
    study, own = settings["finding"], settings["label_sets"][settings["train_cohort"]]
    arms = crossing.arms(settings, study["runs"])
    assert crossing.pairs(arms, *study["leak"]), "the twins of the leak are trained with the same seeds"
    for target, split in zip(study["leak"], study["splits"], strict=True):
        assert settings["targets"][target]["split"] == split
    twins = [dict(settings["splits"][split]) for split in study["splits"]]
    assert [t.pop("kind") for t in twins] == ["by_image", "by_patient_beside"] and twins[0] == twins[1]
    assert {*study["scored_against"], study["critical_by"]} <= set(own)
    for first, second in study["comparisons"].values():
        assert crossing.pairs(arms, first, second)
    planned = set(runs.planned(settings))
    maps = settings["maps"]
    for run in maps["runs"].values():
        assert (run["target"], run["architecture"], run["seed"]) in planned
        assert settings["targets"][run["target"]].get("split", "main") == run["split"]
    assert {maps["randomised"], maps["permuted"]} <= set(maps["runs"])
    drains = maps["drains"]
    others = {(t, drains["architecture"], s) for t in drains["targets"] for s in drains["seeds"]}
    assert others | ({tuple(maps["again"].values())} if maps["again"] else set()) <= planned
    assert {*study["curated"], *study["curated"].values()} <= set(own)


def test_the_full_edition_uses_the_papers_networks():
    timm = architectures.timm
    full = load("nih")
    assert full["runs"]["pneumothorax"]["architectures"] == ["resnet50", "densenet121", "efficientnet_b3"]
    assert full["runs"]["finding"]["architectures"] == ["resnet152"]
    assert 224 <= full["size_px"] <= 320
    assert all(timm.is_model(a) for name in EDITIONS for _, a, _ in runs.planned(load(name)))


# --- composing -----------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path):
    shutil.copytree(paths.ROOT / "editions", tmp_path / "editions")
    editions.activate("quick", tmp_path)
    return tmp_path


def add(checkout, text, name="mine"):
    (checkout / "editions" / f"{name}.yaml").write_text(text)
    return editions.compose(name, checkout)


def shown_editions():
    """Return the whole editions that pages print, by page: blocks of YAML that name themselves."""
    found = {}
    for page in sorted((CHECKOUT / "docs").rglob("*.md")):
        for block in re.findall(r"^```yaml\n(# Edition (\w+): .*?)^```", page.read_text(), re.S | re.M):
            found[page.relative_to(CHECKOUT).as_posix()] = block
    return found


SHOWN = shown_editions()
WHOLE = [
    page for page in SHOWN if page != "docs/own_images.md"
]  # that one extends an edition that `cxr edition` writes


def test_guides_print_editions():
    assert {"docs/guides/another_network.md", "docs/guides/own_labels.md"} <= set(WHOLE)


@pytest.mark.parametrize("page", WHOLE)
def test_an_edition_of_a_guide_is_whole(checkout, page):
    """It is composed, its parts fit, and it trains what it compares and nothing else."""
    text, name = SHOWN[page]
    add(checkout, text, name)
    settings = check_consistent(name, checkout)
    compared = {target for pair in settings["pneumothorax"]["comparisons"].values() for target in pair}
    assert {target for target, _, _ in runs.planned(settings)} == compared == set(settings["targets"])
    assert list(settings["stages"]["studies"]) == [f"{name}-pneumothorax"]
    for made in (made for sets in settings["label_sets"].values() for made in sets.values() if made["kind"] == "own"):
        card = [made.get(field) for field in label_tables.CARD_FIELDS]
        assert all(written and "..." not in written for written in card), "the card is written out"


def tree(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_mappings_merge_and_lists_replace(checkout):
    quick, mine = load("quick"), add(checkout, "extends: quick\ntraining: {epochs: 6}\ntest_cohorts: [simulated]\n")
    assert mine["training"] == {**quick["training"], "epochs": 6} and mine["test_cohorts"] == ["simulated"]
    named = {"edition", "stages", "training", "test_cohorts"}
    assert list(mine["stages"]["studies"]) == [f"mine-{study}" for study in editions.STUDIES]
    assert all(mine[k] == quick[k] for k in set(quick) - named)


def test_mappings_of_chosen_names_replace_as_a_whole(checkout):
    changes = {
        "cohorts": {"simulated": load("quick")["cohorts"]["simulated"]},
        "label_sets": {"simulated": {"drawn": {"kind": "drawn_truth"}}},
        "splits": {"main": {"kind": "official", "valid_frac": 0.1, "seed": 3}},
        "targets": {"only": {"label_set": "drawn", "findings": ["mass"], "policy": "u_ones", "same_images_as": []}},
        "runs": {"controls": {"targets": ["only"], "architectures": ["test_resnet"], "seeds": [1]}},
        "pneumothorax": {"comparisons": {}, "controls": {}},
        "finding": {"curated": {}, "comparisons": {}},
        "maps": {"runs": {}, "again": {}},
        "metric": {"enabled": False, "end_to_end": {}},
    }
    assert {*changes, *(k for s in ("pneumothorax", "finding", "maps", "metric") for k in changes[s])} >= set(
        editions.REPLACED
    )
    mine = add(checkout, yaml.safe_dump({"extends": "quick", **changes}))
    for section in ("cohorts", "label_sets", "splits", "targets"):
        assert mine[section] == changes[section]
    for study in ("pneumothorax", "finding", "maps"):
        assert {k: mine[study][k] for k in changes[study]} == changes[study]
    empty = {"targets": [], "architectures": [], "seeds": []}
    assert mine["runs"] == {**dict.fromkeys(editions.RUN_GROUPS, empty), **changes["runs"]}
    assert mine["cohort_names"] == mine["test_cohorts"] == ["simulated"]
    assert list(mine["stages"]["train"]) == ["mine-only"]


@pytest.mark.parametrize("name", EDITIONS)
def test_stages_are_what_of_an_edition_runs(name):
    settings = load(name)
    stages, groups = settings["stages"], settings["runs"]
    now = [t for group, run in groups.items() if group != "visual" for t in run["targets"]]
    visual = groups["visual"]["targets"]
    assert {each["target"] for each in stages["train"].values()} == {*now, *visual} and stages["visual"] == visual
    assert stages["labelers"] == (["bert"] if name in ("quick", "mimic") else [])
    assert stages["label_sets_bert"] == {"quick": ["simulated"], "mimic": ["mimic"]}.get(name, [])
    for each in stages["train"].values():
        late = "_bert" if name == "mimic" or (name == "quick" and "_bert" in each["target"]) else ""
        folder = "visual_labels" if each["target"] in visual else f"targets{late}"
        assert each["table"] == f"data/{folder}/{name}/{each['target']}.parquet"
    assert stages["maps"] == [name] * settings["finding"]["enabled"]
    splits = settings["finding"]["splits"] if stages["maps"] else []
    tests = [(c, "main") for c in settings["test_cohorts"]] + [(settings["train_cohort"], s) for s in splits]
    assert [(e["cohort"], e["split"]) for e in stages["evaluate"].values()] == (tests if stages["train"] else [])
    studies = [n for n in ("pneumothorax", "labelers", "finding") if settings[n]["enabled"]]
    studies += ["maps"] * settings["finding"]["enabled"]
    studies += [n for n in ("mining", "metric") if settings[n]["enabled"]]
    assert [study["name"] for study in stages["studies"].values()] == studies
    for study in stages["studies"].values():
        assert (paths.ROOT / "notebooks" / f"{study['notebook']}.ipynb").exists() and study["name"] in settings


def test_what_is_only_repeated_is_no_setting_and_nothing_is_left_open():
    for name in EDITIONS:
        text = yaml.safe_dump(load(name))
        assert "shared" not in load(name) and "${" not in text and "???" not in text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "extends: quick\ntraining: {epoch: 6}\n",
            r"mine.yaml sets training.epoch, which is no setting; there are .*epochs",
        ),
        ("extends: quick\ntrainnig: {}\n", "mine.yaml sets trainnig, which is no setting"),
        ("extends: quick\nedition: quick\n", "calls itself 'quick': an edition is named by its file"),
        ("extends: qick\n", "mine.yaml extends 'qick', and there is no editions/qick.yaml"),
        ("extends: mine\n", "mine.yaml extends itself"),
        ("images: ours\n", "does not say what it extends"),
        ("extends: base\nimages: ours\n", "mine.yaml is not whole: Missing mandatory value"),
        ("extends: quick\nimages: ${shared.nothing}\n", "mine.yaml is not whole: .*shared.nothing"),
        ("extends: quick\nruns: {extra: {targets: [], architectures: [], seeds: []}}\n", "runs.extra is no group"),
        (
            "extends: quick\nruns: {controls: {targets: [nobody], architectures: [a], seeds: [1]}}\n",
            "runs names the target 'nobody'",
        ),
        (
            "extends: quick\nruns: {controls: {targets: [finding_reports], architectures: [a], seeds: [1]}}\n",
            r"metric names 'metric_radiologist', which is none of runs.metric.targets \(none\): add it there, or",
        ),
        (
            "extends: quick\nmetric: {seeds: [1, 2, 6]}\n",
            r"metric names 6, which is none of runs.metric.seeds \(1, 2, 3, 4, 5\)",
        ),
        (
            "extends: quick\nmetric: {scored_against: [mine]}\n",
            "metric.scored_against must name label sets of simulated",
        ),
        ("extends: quick\nmetric: {zero_shot: [metric_nlp]}\n", "'metric_nlp', whose target leaves out no finding"),
        (
            "extends: base\nimages: x\nsize_px: 8\ncohorts: {a: {source: nih}}\nreference: r\nsplits: {}\nruns: {}\n"
            "label_sets: {a: {}}\ntargets: {t: {training: {losss: bce}}}\n"
            "pneumothorax: {scored_against: [], comparisons: {}}\n",
            "targets.t.training.losss is no setting of a training; there are pretrained.*loss, encoder, train_px",
        ),
        ("extends: [quick\n", "mine.yaml line 2 is no YAML"),
        ("- quick\n", "mine.yaml holds no settings"),
    ],
)
def test_an_edition_that_cannot_be_composed_says_why_and_changes_nothing(checkout, text, says):
    (checkout / "editions" / "mine.yaml").write_text(text)
    before = tree(checkout)
    with pytest.raises(ValueError, match=says) as raised:
        editions.activate("mine", checkout)
    assert len(str(raised.value).splitlines()) == 1 and tree(checkout) == before


# --- putting in force -----------------------------------------------------------------------------------------------


def test_switching_there_and_back(checkout):
    before = (checkout / "params.yaml").read_bytes()
    editions.activate("nih_mini", checkout)
    text = (checkout / "params.yaml").read_text()
    assert yaml.safe_load(text) == load("nih_mini") and "editions/nih_mini.yaml" in text.splitlines()[0]
    assert editions.in_force(checkout) == ("nih_mini", "")
    editions.activate("quick", checkout)
    assert (checkout / "params.yaml").read_bytes() == before
    assert sorted(p.name for p in checkout.iterdir()) == ["editions", "params.yaml"], "no unfinished file is left"


def change(checkout, old=" epochs: 4", new=" epochs: 6"):
    text = (checkout / "params.yaml").read_text()
    assert old in text
    (checkout / "params.yaml").write_text(text.replace(old, new, 1))


def test_own_changes_are_not_overwritten(checkout):
    change(checkout)
    before = tree(checkout)
    for name in ("nih_mini", "quick"):
        with pytest.raises(ValueError, match=r"would be lost \(training.epochs\)"):
            editions.activate(name, checkout)
    assert tree(checkout) == before and editions.in_force(checkout) == ("quick", "training.epochs")
    add(checkout, "extends: quick\ntraining: {epochs: 6}\n")
    change(checkout, "edition: quick", "edition: mine")
    editions.activate("nih_mini", checkout)  # an edition has the changes now


def test_a_changed_edition_comes_into_force_over_what_was_composed_of_it(checkout):
    quick = checkout / "editions" / "quick.yaml"
    quick.write_text(quick.read_text().replace("epochs: 4", "epochs: 5"))
    assert editions.in_force(checkout) == ("quick", "training.epochs")
    editions.activate("quick", checkout)
    assert yaml.safe_load((checkout / "params.yaml").read_text())["training"]["epochs"] == 5


def test_settings_that_cannot_be_read_are_not_overwritten(checkout):
    (checkout / "params.yaml").write_text("<<<<<<< mine\nedition: quick\n=======\n")
    with pytest.raises(ValueError, match="would be lost"):
        editions.activate("quick", checkout)


def test_refresh_brings_stages_up_to_date_and_nothing_else(checkout):
    before = (checkout / "params.yaml").read_text()
    assert not editions.refresh(checkout) and (checkout / "params.yaml").read_text() == before
    change(checkout, "targets: [pneumothorax_nlp_noise_free]", "targets: [] # no control")
    assert editions.refresh(checkout)
    text = (checkout / "params.yaml").read_text()
    settings = yaml.safe_load(text)
    assert "# no control" in text and "quick-pneumothorax_nlp_noise_free" not in settings["stages"]["train"]
    assert {k for k, v in settings.items() if v != load("quick")[k]} == {"runs", "stages"}
    assert not editions.refresh(checkout)
    with pytest.raises(ValueError, match="would be lost"):
        editions.activate("quick", checkout)


def test_unknown_edition_names_those_there_are(checkout):
    before = tree(checkout)
    with pytest.raises(ValueError, match="quick"):
        editions.activate("qick", checkout)
    with pytest.raises(ValueError, match="no edition 'base'"):
        editions.activate("base", checkout)
    assert tree(checkout) == before


# --- the command, and one's own images ------------------------------------------------------------------------------


@pytest.fixture
def hospital(checkout, tmp_path_factory, monkeypatch):
    """Return a checkout beside 60 images of 30 patients, with labels of one finding in two files."""
    data = tmp_path_factory.mktemp("hospital")
    monkeypatch.setenv("CXR_DATA", str(data))
    monkeypatch.setattr(paths, "ROOT", checkout)
    rng = np.random.default_rng(0)
    rows = []
    for k in range(60):
        file = data / "ours/images" / ("even" if k % 2 else "odd") / f"image{k:02d}.{'jpg' if k % 3 else 'png'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 10), np.uint8)).save(file)
        rows.append((file.stem, f"patient {k // 2}", int(rng.random() < 0.5), int(rng.random() < 0.5)))
    table = pd.DataFrame(rows, columns=["image_id", "patient_id", "pneumothorax", "other"])
    table.drop(columns="other").to_csv(data / "ours/reports.csv", index=False)
    reads = table[["image_id", "other"]].rename(columns={"other": "pneumothorax"})
    reads.to_csv(data / "ours/reads.csv", index=False)
    return checkout


OWN = ["ours", "--folder", "ours/images", "--table", "ours/reports.csv", "--labels", "pneumothorax"]
READS = ["--radiologist", "ours/reads.csv", "pneumothorax"]


def test_own_images_labelled_twice_become_an_edition(hospital, capsys):
    edition.main([*OWN, *READS])
    assert "60 images of 30 patients" in capsys.readouterr().out
    assert len((hospital / "editions/ours.yaml").read_text().splitlines()) <= 25
    settings = check_consistent("ours", hospital)
    assert settings["pneumothorax"]["comparisons"] == {
        "radiologist - labels": ["pneumothorax_radiologist", "pneumothorax_labels"]
    }
    kinds_ = {k: v["kind"] for k, v in settings["label_sets"]["ours"].items()}
    assert kinds_ == {"radiologist": "own", "labels": "shipped"}
    stages = settings["stages"]
    assert list(stages["train"]) == ["ours-pneumothorax_radiologist", "ours-pneumothorax_labels"]
    assert stages["sources"]["ours"]["labels"] == "data/own_tables/ours"
    assert not any(stages[k] for k in ("visual", "labelers", "maps", "published"))
    assert list(stages["studies"]) == ["ours-pneumothorax"]
    edition.main(["ours"])
    edition.main([])
    assert "* ours " in capsys.readouterr().out


def test_own_images_labelled_once_are_compared_with_shuffled_labels(hospital):
    edition.main(OWN)
    settings = check_consistent("ours", hospital)
    assert list(settings["label_sets"]["ours"]) == ["labels", "shuffled"]
    assert settings["pneumothorax"]["scored_against"] == ["labels"]


def test_reports_named_like_their_images_give_the_labels_of_an_edition(hospital, tmp_path, monkeypatch):
    """What `cxr label` writes is taken as it is, if the reports are named as the table names the images."""
    monkeypatch.chdir(tmp_path)
    data = Path(os.environ["CXR_DATA"])
    images = pd.read_csv(data / "ours/reports.csv")
    images[["image_id", "patient_id"]].to_csv(data / "ours/images.csv", index=False)
    words = [
        "ours",
        "--folder",
        "ours/images",
        "--table",
        "ours/images.csv",
        "--labels",
        "labels.csv",
        "pneumothorax",
    ]
    for prefix in ("report of ", ""):
        shutil.rmtree("reports", ignore_errors=True)
        Path("reports").mkdir()
        for image_id, present in zip(images["image_id"], images["pneumothorax"], strict=True):
            said = "Small left pneumothorax." if present else "No pneumothorax."
            Path("reports", f"{prefix}{image_id}.txt").write_text(said)
        label.main(["reports/", "--out", "labels.csv", "--force"])
        if prefix:
            with pytest.raises(SystemExit, match=r"None of the 60 image ids in .*labels\.csv is in cohort 'ours'"):
                edition.main(words)
    edition.main([*words, *READS])
    settings = check_consistent("ours", hospital)
    made = settings["label_sets"]["ours"]["labels"]
    assert made["kind"] == "own" and Path(made["path"]).name == "labels.csv"
    table, _ = kinds.build(  # to the label, what the reports say
        SimpleNamespace(name="ours", index=images[["image_id"]], labels=None), {"labels": made}
    )["labels"]
    assert table.set_index("image_id")["pneumothorax"][images["image_id"]].tolist() == images["pneumothorax"].tolist()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (OWN[:3], r"say --table CSV and --labels COL \(or --radiologist COL\) too"),
        ([*OWN[:5], "--labels", "Pneumothorax"], "no column 'Pneumothorax'; it has image_id"),
        ([*OWN[:5], "--labels", "patient_id"], "'patient_id' is no finding of the vocabulary"),
        ([*OWN, "--radiologist", "pneumothorax"], "name the same columns"),
        ([*OWN, "--radiologist", "ours/reads.csv"], "name the columns of the labels after the file"),
        ([*OWN[:3], "--table", "ours/no.csv", *OWN[5:]], "ours/no.csv was not found"),
        (["quick", *OWN[1:]], "There is an editions/quick.yaml already"),
        (["Our Own", *OWN[1:]], "cannot name an edition"),
    ],
)
def test_what_is_missing_or_wrong_is_said_in_one_sentence(hospital, monkeypatch, words, says):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    before = tree(hospital)
    with pytest.raises(SystemExit, match=says) as raised:
        edition.main(words)
    assert len(str(raised.value).splitlines()) == 1 and tree(hospital) == before


def test_labels_that_cannot_be_learned_leave_no_edition(hospital, monkeypatch):
    data = Path(os.environ["CXR_DATA"])
    table = pd.read_csv(data / "ours/reports.csv").assign(pneumothorax=0)
    table.to_csv(data / "ours/reports.csv", index=False)
    with pytest.raises(SystemExit, match="both classes are needed"):
        edition.main([*OWN, *READS])
    assert not (hospital / "editions/ours.yaml").exists()


def test_a_terminal_is_asked_for_what_is_missing(hospital, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    answers = iter(["", "ours/reports.csv", "pneumothorax", "ours/reads.csv pneumothorax"])
    monkeypatch.setattr("builtins.input", lambda question: next(answers))
    edition.main(OWN[:3])
    assert list(check_consistent("ours", hospital)["label_sets"]["ours"]) == ["radiologist", "labels"]


def test_a_table_of_labels_is_watched_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    mine = tmp_path / "data" / "mine.csv"
    mine.write_text("image_id,mass\na,1\n")
    settings = {"label_sets": {"ours": {"me": {"kind": "own", "path": "mine.csv"}, "drawn": {"kind": "drawn_truth"}}}}
    assert editions.own_tables(settings) == {"ours": {"me": "mine.csv"}}
    paths.link_sources(editions.own_tables(settings), tmp_path)
    link = tmp_path / "data" / "own_tables" / "ours" / "me.csv"
    assert link.resolve() == mine and (tmp_path / "data" / "cxr").resolve() == tmp_path / "data"
    paths.link_sources({"ours": {"other": str(mine)}}, tmp_path)
    assert not link.is_symlink() and link.with_name("other.csv").resolve() == mine, "what is no longer read is let go"
    with pytest.raises(FileNotFoundError, match=r"gone\.csv was not found"):
        paths.link_sources({"ours": {"me": "gone.csv"}}, tmp_path)
