"""Label sets: the four values and what is made of them, files, published counts, and the simulated ones."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from cxrlib import labelsets, noise, paths, simulate, stats
from cxrlib.store import Store

NAN = float("nan")
CARD = dict.fromkeys(labelsets.CARD_FIELDS, "said")
RSNA = Path(os.environ.get("CXR_DATA") or "nowhere") / "labels" / "rsna_to_nih.csv"
needs_rsna = pytest.mark.skipif(
    not RSNA.exists(), reason="CXR_DATA is not set, or $CXR_DATA/labels/rsna_to_nih.csv is not there"
)


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


# --- published numbers -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def entries():
    return labelsets.read_nih_entries()


@pytest.fixture(scope="module")
def paired(entries):
    """Return Google's labels with the report labels of the same images, `_nih`."""
    both = labelsets.read_google_four().merge(entries, on="image_id", suffixes=("", "_nih"), validate="1:1")
    assert len(both) == 4376 and (both["patient_id"] == both["patient_id_nih"]).all()
    return both


def test_nih_entries_as_published(entries):
    assert entries.shape == (112120, 20) and entries["image_id"].is_unique
    assert entries["patient_id"].nunique() == 30805 and entries["pneumothorax"].sum() == 5302
    assert (entries["image_id"].str[:8] == entries["patient_id"]).all()
    labels = entries[list(labelsets.NIH_FINDINGS.values())]
    assert (labels.max(axis=1) == 0).sum() == 60361  # No Finding
    assert labels.isin([0, 1]).all(axis=None) and labels.sum().sum() == 81176


def test_nih_boxes_as_published(entries):
    boxes = labelsets.read_nih_boxes()
    assert len(boxes) == 984 and boxes["image_id"].nunique() == 880 and boxes["finding"].nunique() == 8
    assert boxes["image_id"].isin(entries["image_id"]).all()
    assert (
        (boxes["x0_frac"] >= 0).all()
        and (boxes["x0_frac"] < boxes["x1_frac"]).all()
        and (boxes["x1_frac"] <= 1).all()
    )
    assert (
        (boxes["y0_frac"] >= 0).all()
        and (boxes["y0_frac"] < boxes["y1_frac"]).all()
        and (boxes["y1_frac"] <= 1).all()
    )
    agreed = boxes.merge(entries, on="image_id").apply(lambda row: row[row["finding"]], axis=1)
    assert agreed.mean() > 0.99  # a box is of a finding that the report named


@pytest.mark.parametrize(
    ("which", "cells", "kappa"), [("test", (97, 103, 98, 1664), 0.434), ("val", (12, 26, 31, 2345), 0.284)]
)
def test_report_labels_against_adjudicated_pneumothorax(paired, which, cells, kappa):
    part = paired[paired["set"] == which]
    assert tuple(noise.confusion(part["pneumothorax"], part["pneumothorax_nih"]).values()) == cells
    assert round(stats.rates(part["pneumothorax"], part["pneumothorax_nih"])["kappa"], 3) == kappa
    assert labelsets.read_google_four(which)["image_id"].tolist() == part["image_id"].tolist()


def test_five_report_labels_against_adjudicated_opacity(paired):
    part = paired[paired["set"] == "test"]
    said = part[list(labelsets.ANY_OF["airspace_opacity"])].max(axis=1)
    rates = stats.rates(part["airspace_opacity"], said)
    assert (round(rates["sensitivity"], 3), round(rates["ppv"], 3)) == (0.506, 0.767)
    assert (
        labelsets.nih_reports(of_ids(*part["image_id"]))[0].set_index("image_id")["airspace_opacity"].sum()
        == said.sum()
    )


def test_nih_and_google_label_sets_of_a_cohort(paired):
    ids = [*paired["image_id"][:50], "not NIH's"]
    for kind, columns in (("nih_reports", 17), ("google_adjudicated", 5)):
        table, card = labelsets.KINDS[kind](of_ids(*ids))
        labelsets.check(table, kind)
        assert sorted(table["image_id"]) == sorted(ids[:50]) and table.shape[1] == columns
        assert set(labelsets.CARD_FIELDS) <= set(card)


# --- values, policies, files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "expected"), [("u_zeros", [1, 0, 0, NAN]), ("u_ones", [1, 0, 1, NAN]), ("u_ignore", [1, 0, NAN, NAN])]
)
def test_policy(policy, expected):
    values = pd.Series([1, 0, -1, NAN], dtype="float64")
    got = labelsets.apply_policy(values, policy)
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == np.float32 and values[2] == -1, "the input stays as it is"


def test_unknown_policy():
    with pytest.raises(ValueError, match="policy 'u_half' is none of u_zeros, u_ones, u_ignore"):
        labelsets.apply_policy([1], "u_half")


def test_save_and_load(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    table = pd.DataFrame({"image_id": ["b", "a", "c", "d"], "edema": [1, 0, -1, NAN], "mass": [0, 0, 0, 1]})
    card = labelsets.save(table, {**CARD, "who": "Müller"}, "ours", "reader")
    assert card["counts"] == {
        "edema": {"present": 1, "absent": 1, "uncertain": 1, "not_assessed": 1},
        "mass": {"present": 1, "absent": 3, "uncertain": 0, "not_assessed": 0},
    }
    got = labelsets.load("ours", "reader")
    assert (got.dtypes == np.float32).all() and got.index.tolist() == table["image_id"].tolist()
    np.testing.assert_array_equal(got.to_numpy(), table[["edema", "mass"]].to_numpy(np.float32))
    assert yaml.safe_load((tmp_path / "data/label_sets/ours/reader.yaml").read_text()) == card
    with pytest.raises(FileNotFoundError, match=r"no label set 'nlp' \(it has: reader\)"):
        labelsets.load("ours", "nlp")
    with pytest.raises(ValueError, match="card of label set 'reader' lacks licence"):
        labelsets.save(table, {k: v for k, v in CARD.items() if k != "licence"}, "ours", "reader")
    (tmp_path / "data/label_sets/ours/bad.parquet").write_bytes(
        (table.assign(edema=[1, 0, 3, 0])).to_parquet(index=False)
    )
    with pytest.raises(ValueError, match=r"bad\.parquet row 2: edema is 3"):
        labelsets.load("ours", "bad")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"edema": [1]}, "needs the column image_id"),
        ({"image_id": ["a", "b", "a"], "edema": [1, 1, 1]}, "image_id 'a' occurs twice"),
        ({"image_id": ["a"], "oedema": [1]}, "'oedema'.* is no finding of the vocabulary"),
        ({"image_id": ["a"]}, "no column is no finding"),
        ({"image_id": ["a", "b"], "edema": [1, 2]}, "here row 1: edema is 2; labels are 1, 0, -1 or missing"),
        ({"image_id": ["a", "b", "c"], "edema": [1, NAN, -0.5]}, "here row 2: edema is -0.5"),
    ],
)
def test_check(table, message):
    with pytest.raises(ValueError, match=message):
        labelsets.check(pd.DataFrame(table), "here")


# --- one's own ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_own(csv, encoding):
    path = csv("image_id, edema ,mass\na,1,\nb,-1,0.0\nelsewhere,1,1\n", encoding)
    table, card = labelsets.own(of_ids("b", "a", "c"), path, who="us", how="read twice.")
    assert table.set_index("image_id").loc["a"].to_dict() == pytest.approx({"edema": 1, "mass": NAN}, nan_ok=True)
    assert table.set_index("image_id").loc["b"].to_dict() == {"edema": -1, "mass": 0} and len(table) == 2
    assert card == {"who": "us", "how": "read twice. 1 rows of images not in the cohort left out."}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: it needs a header with image_id"),
        ("id,edema\na,1\n", "has no column image_id; it has id, edema"),
        ("image_id,oedema\na,1\n", "no finding of the vocabulary: oedema"),
        ("image_id,edema\na,1\nb,yes\n", "line 3: edema is 'yes'"),
        ("image_id,edema\na,1\nb,0\nc,0.5\n", "line 4: edema is '0.5'"),
        ("image_id,edema\na,1\nb,0\na,1\n", "line 4: image_id 'a' occurs twice"),
        ("image_id,edema\nx,1\ny,0\n", "None of the 2 image ids in .* is in cohort 'fake'"),
        ("image_id,edema\na,1,2,3\nb,1\nc,1,2,3,4,5\n", "is not a table"),
    ],
)
def test_own_says_what_is_wrong(csv, text, message):
    with pytest.raises(ValueError, match=message):
        labelsets.own(of_ids("a", "b", "c"), csv(text))


def test_own_in_another_encoding(csv):
    with pytest.raises(ValueError, match="is not UTF-8"):
        labelsets.own(of_ids("a"), csv("image_id,edema\nä,1\n", "latin-1"))


def test_shipped():
    labels = pd.DataFrame({"image_id": ["a"], "edema": [1.0]})
    table, card = labelsets.shipped(store(of_ids("a").index, labels), who="them")
    pd.testing.assert_frame_equal(table, labels)
    assert table is not labels and card == {"who": "them"}
    with pytest.raises(ValueError, match="came without labels"):
        labelsets.shipped(store(of_ids("a").index, labels[["image_id"]]))


# --- RSNA --------------------------------------------------------------------------------------------------

OPACITY, NORMAL, OTHER = "Lung Opacity", "Normal", "No Lung Opacity / Not Normal"


def rsna_csv(rows):
    return "rsna,nih,mse,cls\n" + "".join(f"r{k},{nih},{mse},{cls}\n" for k, (nih, mse, cls) in enumerate(rows))


def test_rsna_classes_matches_and_duplicates(csv):
    rows = [
        ("a", 1, OPACITY),
        ("b", 1, NORMAL),
        ("c", 1, OTHER),
        ("far", 5.1, OPACITY),
        ("edge", 5, OPACITY),
        *[("agree", 1, OPACITY)] * 2,
        *[("differ", 1, OPACITY), ("differ", 1, NORMAL)],
        *[("half", 1, NORMAL), ("half", 1, OTHER)],  # no opacity either way; whether normal is disputed
        *[("one_far", 1, NORMAL), ("one_far", 90, OPACITY)],
        *[("thrice", 1, OTHER), ("thrice", 1, OTHER), ("thrice", 1, OPACITY)],
        ("elsewhere", 1, NORMAL),
    ]
    expected = {
        "a": (1, 0),
        "agree": (1, 0),
        "b": (0, 1),
        "c": (0, 0),
        "differ": (NAN, NAN),
        "edge": (1, 0),
        "half": (0, NAN),
        "one_far": (0, 1),
        "thrice": (NAN, 0),
    }
    table, card = labelsets.rsna_radiologists(of_ids(*expected, "far", "unread"), csv(rsna_csv(rows)), max_mse=5)
    labelsets.check(table, "rsna")
    table = table.set_index("image_id")[["airspace_opacity", "no_finding"]]
    assert table.index.tolist() == list(expected)
    np.testing.assert_array_equal(table.to_numpy(), np.float32(list(expected.values())))
    assert (
        "2 pairs with a match error above 5 were dropped; 4 NIH images occur twice, of which 3 disagree"
        in card["how"]
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [("rsna,nih,cls\n", "has no column mse"), (rsna_csv([("a", 1, "Opacity")]), "class 'Opacity' is none of")],
)
def test_rsna_bad_file(csv, text, message):
    with pytest.raises(ValueError, match=message):
        labelsets.rsna_radiologists(of_ids("a"), csv(text), max_mse=5)


@needs_rsna
def test_rsna_as_released(entries):
    """26,684 pairs: 21 NIH ids twice, but 20 of these second matches are among the 99 that do not match."""
    raw = pd.read_csv(RSNA)
    assert len(raw) == 26684 and raw["nih"].duplicated().sum() == 21 and raw["nih"].value_counts().max() == 2
    assert ((raw["mse"] > 5).sum(), (raw["mse"] > 10).sum()) == (99, 98)
    assert raw[raw["mse"] <= 5]["nih"].duplicated().sum() == 1
    table, card = labelsets.rsna_radiologists(of_ids(*entries["image_id"]), "labels/rsna_to_nih.csv", max_mse=5)
    assert "99 pairs" in card["how"] and "1 NIH images occur twice, of which 0 disagree" in card["how"]
    assert len(table) == 26584 and table.notna().all(axis=None)
    good = raw[raw["mse"] <= 5].drop_duplicates("nih")
    assert table["airspace_opacity"].sum() == (good["cls"] == OPACITY).sum()
    assert table["no_finding"].sum() == (good["cls"] == NORMAL).sum()


# --- simulated ---------------------------------------------------------------------------------------------

MEASURED = {("other_positive", "missed"): 0.45, ("no_other_positive", "missed"): 0.55}
MEASURED |= {("other_positive", "false"): 0.2, ("no_other_positive", "false"): 0.05}


@pytest.fixture(scope="module")
def simulated():
    index = simulate.admissions(simulate.HOSPITALS["internal"], 12_000, np.random.default_rng(0))
    return store(index, index[["image_id", *simulate.FINDINGS]].astype(dict.fromkeys(simulate.FINDINGS, "float32")))


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
        for finding in set(labelsets.MEASURED_AS.values())
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
        sets = labelsets.build(simulated, settings)
        for name, (table, card) in sets.items():
            labelsets.check(table, name)
            assert set(labelsets.CARD_FIELDS) <= set(card)
        return {name: table for name, (table, _) in sets.items()}

    return build


def test_panel_misses_the_faintest(simulated, built):
    sets = built()
    pd.testing.assert_frame_equal(sets["drawn"], simulated.labels)
    for finding in simulate.FINDINGS:
        present, seen = sets["drawn"][finding] == 1, sets["panel"][finding] == 1
        faint = simulated.index[f"{finding}_conspicuity"]
        assert not (seen & ~present).any() and (~seen & present).sum() / present.sum() == pytest.approx(0.1, abs=0.02)
        assert faint[present & ~seen].max() < faint[present & seen].min()


def test_reports_without_noise_are_the_panel(built):
    sets = built(scale=0, drain=2, faint=3)
    assert set(sets["nlp"].columns) == {"image_id", *labelsets.MEASURED_AS}
    pd.testing.assert_frame_equal(sets["nlp"], sets["panel"][list(sets["nlp"])], check_dtype=False)


@pytest.mark.parametrize(("drain", "faint"), [(0, 0), (2, 3)])
def test_reports_err_as_measured_and_where_assumed(simulated, built, drain, faint):
    sets = built(drain=drain, faint=faint)
    for finding in labelsets.MEASURED_AS:
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
        labelsets.build(simulated, settings)
