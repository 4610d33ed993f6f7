"""The label sets that a cohort can have: published, shipped, one's own, read from reports, simulated."""

import numpy as np
import pandas as pd
import pytest

from cxrlib.base import label_tables, paths, vocabulary
from cxrlib.cohorts import simulation
from cxrlib.cohorts.store import Store
from cxrlib.labelers import registry
from cxrlib.labels import derived, given, kinds, report_labels, shipped_files, simulated_labels
from cxrlib.releases import catalogue
from cxrlib.releases.google import read_google_four
from cxrlib.statistics import noise

NAN = float("nan")


def store(index, labels=None):
    """Return a packed cohort without its pixels."""
    return Store("fake", index, np.zeros((len(index), 1, 1), np.uint8), pd.DataFrame(), None, labels)


def of_ids(*ids):
    return store(pd.DataFrame({"image_id": ids, "patient_id": ids}))


@pytest.fixture
def csv(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "labels.csv"
        path.write_bytes(text.encode(encoding))
        return str(path)

    return write


# --- published ---------------------------------------------------------------------------------------------


def test_published_sets_on_the_images_of_a_cohort():
    google = read_google_four()["image_id"][:50].tolist()
    for name, columns in (("nih_reports", 17), ("google_adjudicated", 5)):
        table, card = given.published(of_ids(*google, "not NIH's"), name)
        label_tables.check(table, name)
        assert sorted(table["image_id"]) == sorted(google) and table.shape[1] == columns
        assert {*label_tables.CARD_FIELDS, "pixels", "published", "notes"} == set(card) and card["notes"]
    whole = catalogue.read_release("nih_reports").table
    table, _ = given.published(of_ids(*whole["image_id"][::-1000]), "nih_reports")
    pd.testing.assert_frame_equal(table, whole[whole["image_id"].isin(table["image_id"])].reset_index(drop=True))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vindr_readers", r"several readers an image: say readers: unanimous, or .*\(nih_reports, google"),
        (
            "siim",
            "None of the 12047 images of 'siim' is in cohort 'fake': it labels nih images under the owner's ids",
        ),
        ("mimic", "no published label set 'mimic'; there are nih_reports"),
    ],
)
def test_published_refuses(name, message):
    with pytest.raises(ValueError, match=message):
        given.published(of_ids("00000001_000.png"), name)


# --- one's own ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_own(csv, encoding):
    path = csv("image_id, edema ,mass\na,1,\nb,-1,0.0\nelsewhere,1,1\n", encoding)
    table, card = given.own(of_ids("b", "a", "c"), path, who="us", how="read twice.")
    assert table.set_index("image_id").loc["a"].to_dict() == pytest.approx({"edema": 1, "mass": NAN}, nan_ok=True)
    assert table.set_index("image_id").loc["b"].to_dict() == {"edema": -1, "mass": 0} and len(table) == 2
    assert card == {"who": "us", "how": "read twice; 1 rows of images not in the cohort left out"}


def test_own_takes_what_audit_and_score_take(csv):
    path = csv("report_id,patient_id,Pleural Effusion,remark\na,7,1,\nb,8,0,seen twice\n")
    table, card = given.own(of_ids("a", "b"), path, who="us")
    assert list(table) == ["image_id", "effusion"] and table["effusion"].tolist() == [1, 0]
    assert card["notes"] == [f"columns of {path} that are not read: remark"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: it needs a header"),
        ("id,edema\na,1\n", "has no column image_id; it has id, edema"),
        ("image_id,oedema\na,1\n", "no column of a finding; it has oedema. Known: .*edema"),
        ("image_id,edema\na,1\nb,yes\n", "line 3: edema is 'yes'"),
        ("image_id,edema\na,1\nb,0\nc,0.5\n", "line 4: edema is '0.5'"),
        ("image_id,edema\na,1\nb,0\na,1\n", "line 4 has an image id that occurs twice \\('a'\\)"),
        ("image_id,edema\nx,1\ny,0\n", "None of the 2 image ids in .* is in cohort 'fake'"),
        ("image_id,edema\na,1,2,3\nb,1\nc,1,2,3,4,5\n", "line 2: 4 fields, more fields than its header"),
    ],
)
def test_own_says_what_is_wrong(csv, text, message):
    with pytest.raises(ValueError, match=message):
        given.own(of_ids("a", "b", "c"), csv(text))


def test_own_in_another_encoding(csv):
    with pytest.raises(ValueError, match="is not UTF-8"):
        given.own(of_ids("a"), csv("image_id,edema\nä,1\n", "latin-1"))


def test_shipped():
    labels = pd.DataFrame({"image_id": ["a"], "edema": [1.0]})
    table, card = given.shipped(store(of_ids("a").index, labels), who="them")
    pd.testing.assert_frame_equal(table, labels)
    assert table is not labels and card == {"who": "them"}
    with pytest.raises(ValueError, match="came without labels"):
        given.shipped(store(of_ids("a").index, labels[["image_id"]]))


# --- simulated ---------------------------------------------------------------------------------------------

MEASURED = {("other_positive", "missed"): 0.45, ("no_other_positive", "missed"): 0.55}
MEASURED |= {("other_positive", "false"): 0.2, ("no_other_positive", "false"): 0.05}


@pytest.fixture(scope="module")
def simulated():
    index = simulation.admissions(simulation.HOSPITALS["internal"], 12_000, np.random.default_rng(0))
    return store(
        index,
        index[["image_id", *simulation.SIMULATED_FINDINGS]].astype(
            dict.fromkeys(simulation.SIMULATED_FINDINGS, "float32")
        ),
    )


@pytest.fixture
def built(simulated, tmp_path, monkeypatch):
    """Return label sets of the simulated cohort, by noise scale and log-odds, on a made-up calibration."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (tmp_path / "data").mkdir()
    rows = [
        {
            "finding": finding,
            "stratum": stratum,
            "tp": 100 - 100 * missed,
            "fn": 100 * missed,
            "fp": 100 * false,
            "tn": 100 - 100 * false,
        }
        for finding in set(simulated_labels.NOISE_MEASURED_AS.values())
        for stratum in noise.STRATA
        for missed, false in [(MEASURED[stratum, "missed"], MEASURED[stratum, "false"])]
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "data/label_noise.csv", index=False)

    def build(scale=1.0, drain=0.0, faint=0.0):
        reports = {"kind": "simulated_reports", "reference": "panel", "noise_scale": scale, "seed": 1}
        settings = {
            "drawn": {"kind": "drawn_truth"},
            "panel": {"kind": "simulated_panel", "misses_frac": 0.1},
            "nlp": {**reports, "drain_log_odds": drain, "faint_log_odds": faint},
        }
        sets = kinds.build(simulated, settings)
        for name, (table, card) in sets.items():
            label_tables.check(table, name)
            assert set(label_tables.CARD_FIELDS) <= set(card)
        return {name: table for name, (table, _) in sets.items()}

    return build


def test_panel_misses_the_faintest(simulated, built):
    sets = built()
    pd.testing.assert_frame_equal(sets["drawn"], simulated.labels)
    for finding in simulation.SIMULATED_FINDINGS:
        present, seen = sets["drawn"][finding] == 1, sets["panel"][finding] == 1
        faint = simulated.index[f"{finding}_conspicuity"]
        assert not (seen & ~present).any() and (~seen & present).sum() / present.sum() == pytest.approx(0.1, abs=0.02)
        assert faint[present & ~seen].max() < faint[present & seen].min()


def test_reports_without_noise_are_the_panel(built):
    sets = built(scale=0, drain=2, faint=3)
    assert set(sets["nlp"].columns) == {"image_id", *simulated_labels.NOISE_MEASURED_AS}
    pd.testing.assert_frame_equal(sets["nlp"], sets["panel"][list(sets["nlp"])], check_dtype=False)


@pytest.mark.parametrize(("drain", "faint"), [(0, 0), (2, 3)])
def test_reports_err_as_measured_and_where_assumed(simulated, built, drain, faint):
    sets = built(drain=drain, faint=faint)
    for finding in simulated_labels.NOISE_MEASURED_AS:
        panel, said = sets["panel"][finding], sets["nlp"][finding]
        table = noise.calibrate(panel, said, simulated.index["patient_id"]).set_index("stratum")
        for stratum in noise.STRATA:
            row = table.loc[stratum]
            for kind, errors, trials in (("missed", row.fn, row.tp + row.fn), ("false", row.fp, row.fp + row.tn)):
                rate = MEASURED[stratum, kind]
                assert abs(errors - rate * trials) < 4 * np.sqrt(rate * (1 - rate) * trials), (finding, stratum, kind)
    panel, said = sets["panel"]["pneumothorax"], sets["nlp"]["pneumothorax"]
    drained = simulated.index["chest_drain"] == 1
    false = said[panel == 0].groupby(drained).mean()
    conspicuity = simulated.index["pneumothorax_conspicuity"][panel == 1]
    lean = conspicuity[said == 1].mean() - conspicuity[said == 0].mean()
    alone = noise.other_positive(panel, simulated.index["patient_id"])
    within = said[(panel == 0) & alone].groupby(drained).mean()  # drains and other positives go together
    if drain:
        assert within[True] > 1.5 * within[False] and false[True] > 2 * false[False] and lean > 0.05
    else:
        assert abs(within[True] - within[False]) < 0.1 and abs(lean) < 0.04


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"x": {"kind": "guess"}}, "'x': kind 'guess' is none of"),
        ({"x": {}}, "'x': kind None is none of"),
        ({"x": {"kind": "simulated_panel"}}, "'x': .*misses_frac"),
        ({"x": {"kind": "drawn_truth", "seed": 1}}, "'x': .*seed"),
        (
            {"x": {"kind": "simulated_reports", "reference": "y"}, "y": {"kind": "drawn_truth"}},
            "list its reference 'y' before",
        ),
    ],
)
def test_build_says_which_label_set_is_wrong(simulated, settings, message):
    with pytest.raises(ValueError, match=message):
        kinds.build(simulated, settings)


# --- files that are shipped ------------------------------------------------------------------------------------

NAMES = list(vocabulary.CHEXPERT_FINDINGS)
CHEXPERT_IDS = [f"CheXpert-v1.0-small/train/patient{p:05d}/study1/view1_frontal.jpg" for p in range(4)]


@pytest.fixture
def shipped_csv(tmp_path):
    def write(ids, column="Path", drop=(), name="train.csv", rename=None):
        rows = pd.DataFrame(np.nan, range(len(ids)), NAMES)
        rows.loc[0, ["Edema", "Pleural Effusion"]] = 1, -1
        rows.loc[1:, "Edema"] = 0
        rows = rows.drop(columns=list(drop)).rename(columns=rename or {})
        rows.insert(0, column, ids)
        rows.to_csv(tmp_path / name, index=False)
        return str(tmp_path / name)

    return write


def test_shipped_file_keeps_uncertain_and_blank(shipped_csv):
    ids = [i.replace("-small", "") for i in CHEXPERT_IDS[:3]]  # the full release calls its folder otherwise
    table, card = shipped_files.shipped_file(of_ids(*CHEXPERT_IDS[::-1]), shipped_csv(ids), "visualchexbert")
    label_tables.check(table, "shipped")
    assert table["image_id"].tolist() == CHEXPERT_IDS[2::-1] and table.shape == (3, 15)
    last = table.iloc[-1]
    assert (last["edema"], last["effusion"]) == (1, -1) and np.isnan(last["cardiomegaly"])
    assert set(label_tables.CARD_FIELDS) < set(card) and "VisualCheXbert" in card["who"]
    assert card["notes"] == [
        "1 of 4 images of the cohort are not in train.csv.",
        "0 of its 3 rows are of no image of the cohort.",
        "38 blank labels, not mentioned, are kept as not assessed.",
    ]
    table, card = shipped_files.shipped_file(of_ids(*CHEXPERT_IDS), shipped_csv(ids), "chexpert", blank="absent")
    assert not table.isna().any(axis=None) and (table["effusion"] == -1).sum() == 1
    assert card["notes"][-1] == "38 blank labels, not mentioned, are taken as absent."


def test_shipped_file_of_studies(shipped_csv, tmp_path):
    pairs = of_ids("test/patient1/study1/view1_frontal.jpg", "test/patient1/study1/view2_frontal.jpg")
    path = shipped_csv(["CheXpert-v1.0/test/patient1/study1", "CheXpert-v1.0/test/patient2/study1"], "Study")
    table, card = shipped_files.shipped_file(pairs, path, "chexpert_test_labeler")
    assert table["edema"].tolist() == [1, 1] and "1 of its 2 rows" in card["notes"][1]
    (tmp_path / "meta.csv").write_text("dicom_id,subject_id,study_id\na,1,50\nb,1,50\nc,2,60\n")
    path = shipped_csv([60, 50], "study_id", drop=["No Finding"], rename={"Lung Opacity": "Airspace Opacity"})
    metadata = str(tmp_path / "meta.csv")
    table, card = shipped_files.shipped_file(of_ids("a", "c", "d"), path, "mimic_report_radiologist", metadata)
    assert table.set_index("image_id")["edema"].to_dict() == {"a": 0, "c": 1}
    assert "lung_opacity" in table and "no_finding" not in table and "not the image" in card["who"]
    with pytest.raises(ValueError, match="labels studies: name `metadata`"):
        shipped_files.shipped_file(of_ids("a"), path, "mimic_report_radiologist")


def test_shipped_file_says_what_is_wrong(shipped_csv):
    def refuses(message, path, by="chexpert", ids=CHEXPERT_IDS, **arguments):
        with pytest.raises(ValueError, match=message):
            shipped_files.shipped_file(of_ids(*ids), path, by, **arguments)

    refuses("by: 'cxr' is none of chexpert, chexbert", shipped_csv(CHEXPERT_IDS), by="cxr")
    refuses("blank: 'zero' is none of kept, absent", shipped_csv(CHEXPERT_IDS), blank="zero")
    refuses("no column for edema; it has Path", shipped_csv(CHEXPERT_IDS, drop=["Edema"]))
    refuses("no column Path, Study or study_id", shipped_csv(CHEXPERT_IDS, "image"))
    refuses("line 4: 'train/patient00000/study1/view1_frontal' occurs twice", shipped_csv(CHEXPERT_IDS[:2] * 2))
    refuses("None of the 4 rows of .* is of an image of cohort 'fake'", shipped_csv(CHEXPERT_IDS), ids=["a"])
    with pytest.raises(FileNotFoundError, match=r"train_cheXbert\.csv was not found"):
        shipped_files.shipped_file(of_ids(*CHEXPERT_IDS), "train_cheXbert.csv", "chexbert")


# --- reports, read -----------------------------------------------------------------------------------------------


class Reader:
    """A labeler for tests: says edema where the word is."""

    def __init__(self, uncertain="may"):
        self.uncertain, self.read = uncertain, []

    def read_many(self, texts):
        self.read += texts
        said = [(-1 if self.uncertain in t else 1) if "edema" in t else np.nan for t in texts]
        return pd.DataFrame({"edema": said, "mass": 0.0})


@pytest.fixture
def reader(monkeypatch):
    made = []

    def labeler(name, **arguments):
        made.append((name, arguments, Reader(**arguments)))
        return made[-1][-1]

    monkeypatch.setattr(registry, "open_labeler", labeler)
    return made


def test_read_reports(reader, csv):
    path = csv("image_id,text,report_id\na,edema,1\nb,edema,1\nc,might be edema,2\nd,clear,3\nx,edema,4\n")
    settings = {
        "rules": {
            "kind": "read_reports",
            "labeler": "rules",
            "arguments": {"uncertain": "might"},
            "reports": {"source": "folder", "path": path},
        }
    }
    table, card = kinds.build(of_ids("d", "c", "b", "a", "e"), settings)["rules"]
    label_tables.check(table, "rules")
    assert table["image_id"].tolist() == ["d", "c", "b", "a"] and table["mass"].tolist() == [0] * 4
    np.testing.assert_array_equal(table["edema"], [NAN, -1, 1, 1])
    name, arguments, made = reader[0]
    assert (name, arguments) == ("rules", {"uncertain": "might"})
    assert made.read == ["clear", "might be edema", "edema"], "each report is read once"
    assert set(label_tables.CARD_FIELDS) < set(card) and card["labeler"] == {"name": "rules", "uncertain": "might"}
    assert card["notes"] == [
        "1 images have no report with text: e.",
        "1 reports are of no image of the cohort: 4.",
        "1 blank labels, not mentioned, are kept as not assessed.",
    ]
    settings["rules"] |= {"blank": "absent", "who": "ours"}
    table, card = kinds.build(of_ids("d", "c"), settings)["rules"]
    assert table["edema"].tolist() == [0, -1] and card["who"] == "ours"


def test_read_reports_says_what_is_wrong(reader, csv):
    reports = {"source": "folder", "path": csv("image_id,text\na,edema\n")}
    with pytest.raises(ValueError, match="None of 1 images"):
        report_labels.read_reports(of_ids("z"), "rules", reports)
    settings = {"kind": "read_reports", "labeler": "rules", "reports": reports}
    with pytest.raises(ValueError, match="'argument' is neither an argument of read_reports nor a field"):
        kinds.build(of_ids("a"), {"x": {**settings, "argument": {}}})
    with pytest.raises(ValueError, match=r"'x': .*uncertainty"):
        kinds.build(of_ids("a"), {"x": {**settings, "arguments": {"uncertainty": 1}}})


def test_a_labeler_that_skips_reports_is_refused(monkeypatch, csv):
    class Short(Reader):
        def read_many(self, texts):
            return super().read_many(texts)[:-1]

    monkeypatch.setattr(registry, "open_labeler", lambda name: Short())
    with pytest.raises(ValueError, match="'short' gave 1 rows for 2 reports"):
        path = csv("image_id,text\na,edema\nb,clear\n")
        report_labels.read_reports(of_ids("a", "b"), "short", {"source": "folder", "path": path})


def test_labelers_are_looked_up_by_name(monkeypatch):
    monkeypatch.setitem(registry.LABELERS, "fake", Reader)
    assert registry.open_labeler("fake", uncertain="or").uncertain == "or"
    with pytest.raises(ValueError, match="no report labeler 'bart'; there are rules"):
        registry.open_labeler("bart")


# --- finding or no finding --------------------------------------------------------------------------------------


def any_finding(table, **options):
    table = pd.DataFrame({"image_id": [f"i{k}" for k in range(len(table))], **table})
    got, card = derived.any_finding(None, "source", {"source": table}, **options)
    assert not [f for f in label_tables.CARD_FIELDS if f not in card]
    return got["abnormal"].tolist()


def test_any_finding_of_a_set_that_lists_findings():
    table = pd.DataFrame({"effusion": [1, 0, 0, -1, 0, NAN], "edema": [0, 0, -1, 1, NAN, 1], "support_devices": 1})
    assert np.array_equal(any_finding(table), [1, 0, -1, 1, NAN, 1], equal_nan=True)


def test_any_finding_of_some_leaves_out_images_with_another():
    table = pd.DataFrame({"effusion": [1, 0, 0], "nodule": [1, 1, 0]})
    assert np.array_equal(any_finding(table, findings=["effusion"]), [1, NAN, 0], equal_nan=True)


def test_a_set_that_says_normal_itself_is_believed():
    table = pd.DataFrame({"effusion": [1, 0, 0, 0], "no_finding": [0, 0, 1, NAN]})
    assert np.array_equal(any_finding(table), [1, 1, 0, NAN], equal_nan=True)
    assert np.array_equal(any_finding(table, findings=["effusion"]), [1, NAN, 0, NAN], equal_nan=True)
    table = pd.DataFrame({"effusion": [1, 0, 0], "abnormal": [1, 1, 0]})
    assert any_finding(table) == [1, 1, 0]


def test_any_finding_names_what_is_missing():
    with pytest.raises(ValueError, match="'source' does not assess 'hernia'; it has effusion"):
        any_finding(pd.DataFrame({"effusion": [1]}), findings=["hernia"])


def test_agreeing_keeps_what_all_say():
    one = pd.DataFrame({"image_id": ["a", "b", "c", "d"], "abnormal": [1.0, 0, 1, 0]})
    two = pd.DataFrame({"image_id": ["d", "c", "a"], "abnormal": [0.0, 0, 1]})
    got, _ = derived.agreeing(None, "one", {"one": one, "two": two}, ["two"])
    assert np.array_equal(got["abnormal"], [1, NAN, NAN, 0], equal_nan=True)


def test_permuted_keeps_the_labels_and_deals_them_out_anew():
    one = pd.DataFrame({"image_id": [f"i{k}" for k in range(500)], "abnormal": (np.arange(500) < 150).astype(float)})
    got, _ = derived.permuted(None, "one", {"one": one}, 3)
    assert got["image_id"].equals(one["image_id"]) and got["abnormal"].sum() == 150
    assert 60 > (got["abnormal"][:150]).sum() > 30, "the positives are everywhere"


def test_what_several_readers_say_alike():
    whole = catalogue.read_release("vindr_readers").table
    first = whole["image_id"].iloc[0]
    store_ = of_ids(*whole["image_id"].unique()[:300])
    table, card = given.published(store_, "vindr_readers", readers="unanimous")
    label_tables.check(table, "vindr")
    reads = whole[whole["image_id"] == first].drop(columns=["image_id", "reader_id"])
    mine = table.set_index("image_id").loc[first]
    for finding in mine.index:
        alike = reads[finding].nunique(dropna=False) == 1
        assert (mine[finding] == reads[finding].iloc[0]) if alike else np.isnan(mine[finding])
    assert "alike" in card["how"] and table["image_id"].is_unique


def test_a_set_it_is_made_of_comes_before_it():
    settings = {"b": {"kind": "agreeing", "reference": "a", "also": ["c"]}}
    with pytest.raises(ValueError, match="list its reference 'a' before it"):
        kinds.build(of_ids("x"), settings)
