"""The explorer's files: what they hold is what pandas reads in the committed tables, and they load nothing else."""

import re

import numpy as np
import pandas as pd
import pytest
from explorer_data import content, labels, unpacked
from PIL import Image

from cxrlib.base import editions, paths
from cxrlib.commands import explorer as command
from cxrlib.networks import metric_scores
from cxrlib.releases import catalogue
from cxrlib.site import (
    explorer,
    explorer_cases,
    explorer_cohort,
    explorer_files,
    explorer_maps,
    explorer_real,
    explorer_topics,
)
from cxrlib.studies import case_tables

SETTINGS = editions.compose("quick", paths.ROOT)
CASES = {"simulated": "main", "simulated_external": "main", "simulated-by_patient": "by_patient"}
CASES["simulated-by_image"] = "by_image"
PAGE = paths.ROOT / "cxrlib" / "site" / "explorer_page"


@pytest.fixture(scope="module")
def cohort(explorer_folder):
    """What the page knows of the simulated test images."""
    return content(explorer_folder, "cohort")


@pytest.mark.parametrize("name", CASES)
def test_labels_and_probabilities_are_those_of_the_committed_case_table(explorer_folder, name):
    table = pd.read_parquet(paths.ROOT / "results" / "quick" / "cases" / f"{name}.parquet")
    data = content(explorer_folder, f"cases_{name}")
    assert data["image_ids"] == table["image_id"].tolist()
    assert data["images_n"] == len(table) and data["patients_n"] == table["patient_id"].nunique()
    assert np.array_equal(unpacked(data["part"]) == 1, table["split"] == "test")
    assert len({*zip(unpacked(data["patients"]).tolist(), table["patient_id"], strict=True)}) == data["patients_n"]
    columns = 0
    for label_set, by_finding in data["labels"].items():
        for finding, packed in by_finding.items():
            if label_set != "visual":  # of another table
                column = table[case_tables.label(label_set, finding)].to_numpy(float)
                assert np.array_equal(labels(packed), column, equal_nan=True), (label_set, finding)
                columns += 1
    for run, by_finding in data["probabilities"].items():
        for finding, packed in by_finding.items():
            column = table[case_tables.probability(run, finding)].to_numpy(np.float32)
            assert np.array_equal(unpacked(packed), column), (run, finding)
            columns += 1
    assert columns == sum(c.startswith(("label.", "probability.")) for c in table)


def test_labels_of_the_visual_labeler_are_the_published_ones(explorer_folder):
    data = content(explorer_folder, "cases_simulated")
    table = pd.read_parquet(paths.ROOT / "results" / "quick" / "visual_labels" / "decided.parquet")
    table = table[table["labeler"] == "visual"].set_index("image_id").reindex(data["image_ids"])
    assert set(data["labels"]["visual"]) == set(table.columns) - {"labeler"}
    for finding, packed in data["labels"]["visual"].items():
        assert np.array_equal(labels(packed), table[finding].to_numpy(float), equal_nan=True)


def test_it_is_below_ten_megabytes_and_says_how_large_it_is(explorer_folder):
    sizes = {p.name: p.stat().st_size for p in explorer_folder.rglob("*") if p.is_file()}
    assert sum(sizes.values()) < 10_000_000
    said = explorer.size_sentence(sizes)
    assert f"{len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB" in said


def test_pages_load_what_is_there_and_nothing_from_elsewhere(explorer_folder):
    page = (explorer_folder / "index.html").read_text()
    loaded = re.findall(r'<(?:script src|link rel="stylesheet" href)="([^"]+)"', page)
    assert {"explorer.css", "core.js", "main.js"} < set(loaded)
    assert all((explorer_folder / name).is_file() for name in loaded)
    assert {p.name for p in PAGE.glob("*.js")} == {name for name in loaded if name.endswith(".js")}
    for path in PAGE.iterdir():
        text = path.read_text()
        elsewhere = set(re.findall(r"https?://[^\"'`\s)]+", text))
        assert elsewhere <= {"http://www.w3.org/2000/svg", "https://nihcc.app.box.com/v/ChestXray-NIHCC"}, path.name
        assert not re.search(r"\bfetch\(|XMLHttpRequest|\bimport\b|@import|url\((?!data/)|\beval\(", text), path.name


def test_pages_stay_short():
    lines = [line for path in PAGE.iterdir() for line in path.read_text().splitlines()]
    assert len(lines) < 1500 and max(map(len, lines)) <= 118


def test_pictures_are_the_simulation_s_and_in_the_order_of_the_ids(explorer_folder, cohort):
    some = [0, 700, len(cohort["image_ids"]) - 1]
    repeated = explorer_cohort.repeat_cohort(SETTINGS, "simulated", [cohort["image_ids"][k] for k in some])
    sheets, size = cohort["sheets"], cohort["sheets"]["tile_px"]
    for k, image, text in zip(some, repeated.images, repeated.texts, strict=True):
        sheet = np.asarray(
            Image.open(explorer_folder / "data" / sheets["files"][k // sheets["per_sheet"]]).convert("L")
        )
        row, column = divmod(k % sheets["per_sheet"], sheets["columns"])
        tile = sheet[row * size : (row + 1) * size, column * size : (column + 1) * size]
        assert np.corrcoef(tile.ravel(), image.ravel())[0, 1] > 0.98  # WebP is lossy
        assert cohort["reports"][k] == text


def test_reports_say_what_the_label_set_rules_holds(explorer_folder, cohort):
    data = content(explorer_folder, "cases_simulated")
    test = unpacked(data["part"]) == 1
    rules = labels(data["labels"]["rules"]["pneumothorax"])[test]
    says = [{m[3] for m in each if m[2] == "pneumothorax"} for each in cohort["evidence"]]
    assert np.array_equal(rules == 1, ["present" in each for each in says])
    assert 0 < (rules == 1).sum() < len(rules)
    for text, evidence in zip(cohort["reports"], cohort["evidence"], strict=True):
        for start, end, finding, assertion, *_ in evidence:
            assert 0 <= start < end <= len(text)
            assert finding and assertion in ("present", "absent", "uncertain", "kept_out")


def test_a_case_table_of_another_simulation_is_refused():
    table = case_tables.read("quick", "simulated").query("split == 'test'").head(3).reset_index(drop=True)
    repeated = explorer_cohort.repeat_cohort(SETTINGS, "simulated", table["image_id"].tolist())
    explorer_cohort.check_repeated(repeated, table, "the table")
    for column in ("label.drawn.effusion", "label.rules.edema"):
        changed = table.copy()
        changed.loc[1, column] = 1 - changed.loc[1, column]
        with pytest.raises(
            ValueError, match=rf"the table is of another simulation.*{column.split('.')[-1]}.*make repro"
        ):
            explorer_cohort.check_repeated(repeated, changed, "the table")
    with pytest.raises(ValueError, match="no image 'P99999_000'"):
        explorer_cohort.repeat_cohort(SETTINGS, "simulated", ["P99999_000"])


def test_the_noise_of_reports_is_what_the_audit_counted():
    noise = explorer_cohort.measured_noise().query("stratum == 'all'").set_index("finding")
    counted = pd.read_csv(paths.ROOT / "results" / "audit" / "nih_reports_google.csv")
    counted = counted[(counted["by"] == "all") & (counted["part"] == "test")].drop_duplicates("finding")
    counted = counted.set_index("finding")[["tp", "fp", "fn", "tn"]]
    assert noise.loc[counted.index, ["tp", "fp", "fn", "tn"]].equals(counted)


def test_nearest_images_are_those_that_study_5_scored(explorer_folder, cohort):
    data = content(explorer_folder, "space")
    scored = pd.read_parquet(paths.ROOT / "results" / "quick" / "metric_scores" / "nearest.parquet")
    scored = scored[scored["model"] == metric_scores.SPACE]
    present = np.stack([labels(data["labels"]["radiologist"][f]) == 1 for f in data["findings"]], axis=1)
    patients, ids = unpacked(cohort["patients"]), np.array(cohort["image_ids"])
    assert set(data["spaces"]) == {str(seed) for seed in scored["seed"].unique()}
    for seed, space in data["spaces"].items():
        points = unpacked(space["images"]).astype(float).reshape(-1, data["dimensions_n"])
        known = scored[scored["seed"] == int(seed)].set_index("image_id")["shared_frac"]
        shared = []
        for k in np.flatnonzero(np.isin(ids, known.index)):
            other = np.flatnonzero(patients != patients[k])
            near = other[np.argsort(np.square(points[other] - points[k]).sum(1), kind="stable")[:5]]
            shared.append((present[near] & present[k]).any(1).mean())
        same = np.isclose(shared, known.loc[ids[np.isin(ids, known.index)]], atol=1e-6)
        assert same.mean() > 0.97  # the published space is rounded, so that a few neighbours change places


def test_real_labels_part_as_the_audit_says(explorer_folder):
    data = content(explorer_folder, "real")
    counted = pd.read_csv(paths.ROOT / "results" / "audit" / "nih_reports_google.csv")
    counted = counted[(counted["by"] == "all") & (counted["part"] == "test")].drop_duplicates("finding")
    among = unpacked(data["parts"]) == 2
    for row in counted.itertuples():
        a, b = (labels(data["sets"][name]["labels"][row.finding]) for name in ("google_adjudicated", "nih_reports"))
        both = among & ~np.isnan(a) & ~np.isnan(b)
        cells = [int((both & (a == x) & (b == y)).sum()) for x, y in ((1, 1), (0, 1), (1, 0), (0, 0))]
        assert cells == [row.tp, row.fp, row.fn, row.tn]


def test_ids_are_shown_only_of_tables_that_may_be_passed_on(explorer_folder):
    data = content(explorer_folder, "real")
    assert set(data["sets"]) == set(explorer_real.WITH_IDS)
    for name in data["sets"]:
        entry = catalogue.ENTRIES[name]
        assert not entry.labels and (entry.package or entry.third_party)
        licence = data["sets"][name]["card"]["licence"]
        assert licence == entry.card["licence"] and "not stated" not in licence and "none stated" not in licence
    assert data["counts"]["columns"] == list(explorer_real.COLUMNS)  # no id among them


def test_ids_of_the_page_are_the_owners(explorer_folder):
    data = content(explorer_folder, "real")
    numbers = unpacked(data["ids"]).astype(int)
    ids = [f"{number // 1000:08d}_{number % 1000:03d}.png" for number in numbers]
    table = catalogue.read_release("mgh_platinum").table.set_index("image_id")["effusion"].dropna()
    shown = labels(data["sets"]["mgh_platinum"]["labels"]["effusion"])
    assert len(set(ids)) == len(ids)
    assert {i: v for i, v in zip(ids, shown, strict=True) if not np.isnan(v)} == table.to_dict()


def test_counts_of_readers_agree_with_those_of_notebook_07():
    pairs = pd.read_csv(explorer_real.counts_path())
    own = pairs[(pairs["reference"] == "google_all_majority") & (pairs["other"] == "nih_reports")].set_index(
        "finding"
    )
    known = pd.read_csv(paths.ROOT / "results" / "readers" / "findings_810.csv")
    known = known[known["by"] == "all"]
    kappa = known[known["measure"] == "kappa"].set_index("finding")
    shared = own.index.intersection(kappa.index)
    assert len(shared) > 10
    cells = ["images_n", "patients_n", "tp", "fp", "fn", "tn"]
    assert own.loc[shared, cells].equals(kappa.loc[shared, cells])
    assert np.allclose(own.loc[shared, "kappa"], kappa.loc[shared, "estimate"], atol=1e-5)
    ends = own.loc[shared, ["kappa_low", "kappa_high"]].to_numpy() - kappa.loc[shared, ["low", "high"]].to_numpy()
    assert np.nanmax(np.abs(ends)) < 0.03  # other resamples


def test_counts_of_readers_can_be_counted_again(label_tables, monkeypatch):
    committed = pd.read_csv(explorer_real.counts_path())
    names = ("chexpert_test_majority", "chexpert_test_labeler")
    monkeypatch.setattr(explorer_real, "_COUNTED", {"chexpert_test": names})
    again = explorer_real.count_pairs().reset_index(drop=True)
    same = committed[(committed["reference"] == names[0]) & (committed["other"] == names[1])].reset_index(drop=True)
    assert len(same) == 14
    pd.testing.assert_frame_equal(again, same, check_dtype=False, rtol=1e-5)


def test_topics_are_the_committed_ones_and_may_be_absent(explorer_folder):
    topics = content(explorer_folder, "topics")
    for level in explorer_topics.LEVELS:
        table = pd.read_csv(paths.ROOT / "results" / "topics" / f"{level}_words.csv")
        rows = pd.DataFrame(topics["real"]["levels"][level])
        assert rows["words"].tolist() == table["words"].fillna("").tolist()
        assert rows["images_n"].tolist() == table["images_n"].tolist()
    measured = pd.read_csv(paths.ROOT / "results" / "quick" / "mining" / "topics.csv")
    shown = {(row["group"], row["model"]): row for row in topics["tables"]["topics"]}
    assert measured.shape[0] > 20
    for row in measured.itertuples():
        assert shown[row.level, row.model][row.measure][0] == pytest.approx(row.estimate)
    assert explorer_topics.archive_topics("no_such_edition", ["P00001_000"]) is None


def test_maps_are_of_released_networks_where_runs_are_not_here(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "run_dir", lambda *run: tmp_path.joinpath(*map(str, run)))
    found = explorer_maps.map_networks("quick", SETTINGS)
    assert {"finding", "pneumothorax_radiologist"} <= set(found) < set(SETTINGS["maps"]["runs"])
    assert {folder.parent for folder in found.values()} == {paths.ROOT / "models"}
    own = tmp_path.joinpath("quick", "finding_reports", "test_resnet", "1")
    own.mkdir(parents=True)
    (own / "model.safetensors").touch()
    assert explorer_maps.map_networks("quick", SETTINGS)["finding"] == own


def test_maps_are_drawn_of_images_with_something_on_them_first():
    assert explorer_maps.map_networks("no_such_edition", SETTINGS) == {}
    boxes = [[], ["effusion"], [], ["edema"], []]
    assert explorer_maps.mapped_images(boxes, 2, 1).tolist() == [1, 3]
    assert set(explorer_maps.mapped_images(boxes, 3, 1).tolist()) > {1, 3}


def test_runs_and_label_sets_are_all_explained(explorer_folder):
    about = content(explorer_folder, "about")
    for name in CASES:
        data = content(explorer_folder, f"cases_{name}")
        assert set(data["probabilities"]) <= set(about["runs"])
        assert set(data["labels"]) <= set(about["label_sets"])
    assert all(about["label_sets"].values())


def test_values_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit uint8"):
        explorer_files.packed(np.array([1, 300]), "u1")
    assert np.array_equal(unpacked(explorer_files.packed(np.array([1, 250]), "u1")), [1, 250])
    assert np.array_equal(
        labels(explorer_files.packed_labels([1, 0, -1, np.nan])), [1, 0, -1, np.nan], equal_nan=True
    )


def test_a_folder_with_other_files_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert command.main([str(tmp_path)]) == 1
    assert "holds other files" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_missing_case_tables_name_the_target_that_makes_them():
    with pytest.raises(FileNotFoundError, match="make repro EDITION=no_such_edition"):
        explorer_cases.read_cases("no_such_edition", SETTINGS)
