"""Label sets: the four values and what is made of them, and their files."""

import numpy as np
import pandas as pd
import pytest
import yaml

from cxrlib.base import label_tables, paths

NAN = float("nan")
CARD = dict.fromkeys(label_tables.CARD_FIELDS, "said")


@pytest.mark.parametrize(
    ("policy", "expected"), [("u_zeros", [1, 0, 0, NAN]), ("u_ones", [1, 0, 1, NAN]), ("u_ignore", [1, 0, NAN, NAN])]
)
def test_policy(policy, expected):
    values = pd.Series([1, 0, -1, NAN], dtype="float64")
    got = label_tables.apply_policy(values, policy)
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == np.float32 and values[2] == -1, "the input stays as it is"


def test_unknown_policy():
    with pytest.raises(ValueError, match="policy 'u_half' is none of u_zeros, u_ones, u_ignore"):
        label_tables.apply_policy([1], "u_half")


def test_save_and_load(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    table = pd.DataFrame({"image_id": ["b", "a", "c", "d"], "edema": [1, 0, -1, NAN], "mass": [0, 0, 0, 1]})
    card = label_tables.save(table, {**CARD, "who": "Müller"}, "ours", "reader")
    assert card["counts"] == {
        "edema": {"present": 1, "absent": 1, "uncertain": 1, "not_assessed": 1},
        "mass": {"present": 1, "absent": 3, "uncertain": 0, "not_assessed": 0},
    }
    got = label_tables.load("ours", "reader")
    assert (got.dtypes == np.float32).all() and got.index.tolist() == table["image_id"].tolist()
    np.testing.assert_array_equal(got.to_numpy(), table[["edema", "mass"]].to_numpy(np.float32))
    assert yaml.safe_load((tmp_path / "data/label_sets/ours/reader.yaml").read_text()) == card
    with pytest.raises(FileNotFoundError, match=r"no label set 'nlp' \(it has: reader\)"):
        label_tables.load("ours", "nlp")
    with pytest.raises(ValueError, match="card of label set 'reader' lacks licence"):
        label_tables.save(table, {k: v for k, v in CARD.items() if k != "licence"}, "ours", "reader")
    (tmp_path / "data/label_sets/ours/bad.parquet").write_bytes(
        (table.assign(edema=[1, 0, 3, 0])).to_parquet(index=False)
    )
    with pytest.raises(ValueError, match=r"bad\.parquet row 2: edema is 3"):
        label_tables.load("ours", "bad")


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
        label_tables.check(pd.DataFrame(table), "here")


def test_check_of_several_readers():
    table = pd.DataFrame({"image_id": ["a", "a", "b"], "reader_id": ["1", "2", "1"], "edema": [1, 0, NAN]})
    label_tables.check(table, "here", readers=True)
    assert set(label_tables.counts(table)) == {"edema"}
    with pytest.raises(ValueError, match="image_id 'a' occurs twice; a label set has one row per image"):
        label_tables.check(table, "here")
    with pytest.raises(ValueError, match=r"'a', reader_id '2' occurs twice; .* one row per image and reader"):
        label_tables.check(table.assign(reader_id="2"), "here", readers=True)
    with pytest.raises(ValueError, match="needs the column reader_id"):
        label_tables.check(table.drop(columns="reader_id"), "here", readers=True)
