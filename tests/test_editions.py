"""Editions: complete, one key set, and switching loses nothing."""

import shutil

import pytest
import yaml

from cxrlib.base import label_tables, paths, runs, vocabulary
from cxrlib.cohorts import sources, splits
from cxrlib.commands import edition
from cxrlib.labels import kinds
from cxrlib.networks import architectures
from cxrlib.releases import catalogue, pixels
from cxrlib.studies import crossing

EDITIONS = sorted(edition.available())


def load(name):
    return yaml.safe_load((paths.ROOT / "editions" / f"{name}.yaml").read_text())


def test_the_default_edition_is_in_force():
    same = (paths.ROOT / "params.yaml").read_bytes() == (paths.ROOT / "editions" / "quick.yaml").read_bytes()
    assert same, "another edition is in force: make edition EDITION=quick"


@pytest.mark.parametrize("name", EDITIONS)
def test_edition_is_consistent(name):
    settings = load(name)
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
    for label, (first, second) in {**study["comparisons"], **study["controls"]}.items():
        assert crossing.pairs(arms, first, second), label


@pytest.mark.parametrize("name", [n for n in EDITIONS if load(n)["finding"]["editions"]])
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


@pytest.fixture
def checkout(tmp_path):
    shutil.copytree(paths.ROOT / "editions", tmp_path / "editions")
    shutil.copy(paths.ROOT / "editions" / "quick.yaml", tmp_path / "params.yaml")
    return tmp_path


def test_switching_there_and_back(checkout):
    before = (checkout / "params.yaml").read_bytes()
    edition.activate("nih_mini", checkout)
    assert yaml.safe_load((checkout / "params.yaml").read_text())["edition"] == "nih_mini"
    edition.activate("quick", checkout)
    assert (checkout / "params.yaml").read_bytes() == before


def test_own_changes_are_not_overwritten(checkout):
    changed = (checkout / "params.yaml").read_text().replace("epochs: 4", "epochs: 6")
    (checkout / "params.yaml").write_text(changed)
    with pytest.raises(ValueError, match="would be lost"):
        edition.activate("nih_mini", checkout)
    assert (checkout / "params.yaml").read_text() == changed


def test_unknown_edition_names_those_there_are(checkout):
    with pytest.raises(ValueError, match="quick"):
        edition.activate("qick", checkout)
