"""Mining an archive: networks learn what images show, shuffled pairs destroy it, and tables say what was stored."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from cxrlib.base import paths
from cxrlib.labelers import rules
from cxrlib.networks import (
    image_reading,
    interleaving,
    joint,
    mined_pairs,
    mining_runs,
    presence,
    report_retrieval,
    routes,
    short_training,
    topic_networks,
    word_networks,
)
from cxrlib.statistics import calibration, intervals, resampling, retrieval
from cxrlib.studies import displays, mining, mining_trade
from cxrlib.topics import vectors

QUICK = short_training.ShortSettings("test_byobnet", epochs=8, batch_size=16, least_images=0)
SENTENCES = (
    "There is a left pleural effusion.",
    "The heart is enlarged, with cardiomegaly.",
    "Large pneumothorax on the right.",
    "No pneumothorax. The lungs are clear.",
)
FILLERS = ("Bony structures are intact.", "Spine is unremarkable.", "Comparison with the prior.", "Two views.")


def squares(n, seed=1):
    """Images with a bright square in one of four corners, and which."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 4, n)
    pixels = rng.integers(60, 90, (n, 32, 32)).astype(np.uint8)
    for image, where in zip(pixels, corner, strict=True):
        y, x = 3 + 15 * (where // 2), 3 + 15 * (where % 2)
        image[y : y + 11, x : x + 11] = 230
    return pixels, corner


@pytest.fixture(scope="module")
def pairs():
    """240 images of 120 patients whose reports say in words which corner is bright."""
    pixels, corner = squares(240)
    rng = np.random.default_rng(2)
    texts = [f"{SENTENCES[c]} {' '.join(rng.permutation(FILLERS)[:2])}" for c in corner]
    split = np.repeat(["train", "valid", "test"], [120, 40, 80])
    table = pd.DataFrame(
        {"image_id": [f"i{k}" for k in range(240)], "patient_id": [f"p{k // 2}" for k in range(240)]}
    )
    table = table.assign(report_id=[f"r{k}" for k in range(240)], split=split)
    labeler = rules.RuleLabeler()
    readings = [labeler.read(text) for text in texts]
    labels = presence.with_airspace_opacity(pd.DataFrame([r.labels for r in readings]).astype("float32"))
    left_out = pd.DataFrame({"what": [], "pairs_n": []})
    found = pixels, table, np.arange(240), texts, retrieval.duplicate_groups(texts), readings, labels, left_out
    return mined_pairs.MinedPairs(*found), corner


# --- short trainings ------------------------------------------------------------------------------------------


def test_shrunk_is_the_mean_of_squares():
    pixels = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    small = short_training.shrunk(pixels, 4, block_n=1)
    assert small[0, 0, 0] == round((0 + 1 + 8 + 9) / 4) and small.shape == (1, 4, 4)
    assert short_training.shrunk(pixels) is pixels
    with pytest.raises(ValueError, match="cannot be shrunk to 3"):
        short_training.shrunk(pixels, 3)


def test_a_training_repeats_itself_and_leaves_the_generator_alone(pairs):
    archive, corner = pairs
    torch.manual_seed(5)
    before = torch.get_rng_state()
    done = [topic_networks.train_topics(archive.images, np.arange(64), corner[:64], QUICK, 3, epochs=1) for _ in "ab"]
    other = topic_networks.train_topics(archive.images, np.arange(64), corner[:64], QUICK, 4, epochs=1)
    seen = [one.probabilities(archive.images, np.arange(8)) for one in (*done, other)]
    assert (seen[0] == seen[1]).all() and not np.allclose(seen[0], seen[2])
    assert (torch.get_rng_state() == before).all()


def test_a_start_gives_all_but_the_last_layer():
    first = short_training.new_network(QUICK, 3, seed=1)
    second = short_training.new_network(QUICK, 5, seed=2, start=first)
    same = {k: bool((v == second.state_dict()[k]).all()) for k, v in first.state_dict().items() if "head.fc" not in k}
    assert all(same.values()) and second.get_classifier().out_features == 5


def test_a_loss_that_is_not_finite_stops():
    network = short_training.new_network(QUICK, 2, 1)
    with pytest.raises(RuntimeError, match="not finite"):
        short_training.learn(network, squares(8)[0], np.arange(8), lambda x, _: x.sum() * math.nan, QUICK, 1)


# --- topics ---------------------------------------------------------------------------------------------------


def test_topic_scores_by_hand():
    probability = np.array([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6]])
    scores, left_out_n = topic_networks.topic_scores(probability, [4, 7, 9], np.array([0.5, 0.3, 0.2]), [4, 9, -1])
    top1 = scores.pivot(index="at", columns="model", values="top1")
    assert left_out_n == 1 and top1.index.tolist() == [0, 1]
    assert top1["network"].tolist() == [1, 0] and top1["majority"].tolist() == [1, 0]
    assert top1["prior"].tolist() == [0.5, 0.2] and top1["chance"].tolist() == [1 / 3, 1 / 3]
    bits = scores.pivot(index="at", columns="model", values="bits")
    assert bits["network"].tolist() == pytest.approx([1, -math.log2(0.3)])


def test_a_dropped_topic_is_not_learned(pairs):
    archive, corner = pairs
    network = topic_networks.train_topics(
        archive.images, np.arange(60), np.where(corner[:60] == 2, -1, corner[:60]), QUICK, 1
    )
    assert network.topics.tolist() == [0, 1, 3] and network.prior.sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="1 topics to learn"):
        topic_networks.train_topics(archive.images, np.arange(60), np.zeros(60, int), QUICK, 1)


def test_shuffled_order_deals_reports_among_patients_within_each_part(pairs):
    table = pairs[0].table
    order = mined_pairs.shuffled_order(table, 1)
    assert sorted(order) == list(range(240)) and (table["split"].to_numpy()[order] == table["split"]).all()
    assert (table["patient_id"].to_numpy()[order] == table["patient_id"]).mean() < 0.02


# --- words ----------------------------------------------------------------------------------------------------


def test_only_terms_that_are_asserted_count():
    texts = ("No effusion. Small pneumothorax.", "Possible pleural thickening.", "Lungs are clear.")
    terms = ["effusion", "pleural thickening", "pneumothorax"]
    found = word_networks.asserted_terms(map(rules.RuleLabeler().read, texts), terms)
    assert found == [("pneumothorax",), ("pleural thickening",), ()]
    assert word_networks.words_of(found, ["effusion", "pleural"]).tolist() == [[0, 0], [0, 1], [0, 0]]


def test_key_words_of_the_most_probable_topics():
    found = word_networks.topic_words([[0.1, 0.6, 0.3]], ["a b", "b c", "d"], ["a", "b", "d"], topics_n=2)
    assert found.tolist() == [[False, True, True]]


def test_a_network_finds_the_words_and_frequency_does_not(pairs):
    archive, _ = pairs
    known = vectors.WordVectors(("effusion", "cardiomegaly", "pneumothorax"), np.eye(3, 8, dtype=np.float32))
    terms = word_networks.asserted_terms(archive.readings, known.words)
    train, test = archive.at("train"), archive.at("test")
    taught = [terms[k] for k in train]
    network = word_networks.train_words(archive.images, archive.rows[train], taught, known, QUICK, 1)
    right = word_networks.words_of(terms, network.words)
    score = network.scores(archive.images, archive.rows[test])
    found, left_out_n = word_networks.word_scores(
        score, right[test], right[train].sum(0), {"all": np.ones_like(right[test])}
    )
    mean = found.groupby("model")[["r1", "r5"]].mean()
    assert left_out_n == (~right[test].any(1)).sum() > 0
    assert mean["r1"]["network"] > 0.8 > mean["r1"]["frequency"] and mean["r1"]["chance"] == pytest.approx(1 / 3)
    assert (mean["r5"] == 1).all()


# --- one space ------------------------------------------------------------------------------------------------


def test_info_nce_by_hand_and_without_duplicates():
    image, text = torch.eye(3), torch.eye(3)
    scale = torch.tensor(2.0)
    apart = joint.info_nce(image, text, torch.tensor([0, 1, 2]), scale)
    assert float(apart) == pytest.approx(math.log(1 + 2 * math.exp(-2)))
    merged = joint.info_nce(image, text, torch.tensor([0, 1, 1]), scale)
    expected = (math.log(1 + 2 * math.exp(-2)) + 2 * math.log(1 + math.exp(-2))) / 3
    assert float(merged) == pytest.approx(expected)


def test_minilm_reads_each_sentence_once():
    texts = ["Lungs are clear. Heart is normal.", "Heart is normal. Lungs are clear."]
    features = joint.TextFeatures([*texts, "Effusion."], "minilm")
    assert len(features._known) == 3
    assert np.allclose(*features.of(texts), atol=1e-5)
    with pytest.raises(ValueError, match="no text encoder 'clip'"):
        joint.TextFeatures(texts, "clip")


# --- findings -------------------------------------------------------------------------------------------------


def test_frequent_findings_say_why_others_are_not():
    labels = pd.DataFrame(
        {"often": [1, 1, 0, np.nan] * 25, "rare": [1] + [0] * 99, "one_patient": [1] * 10 + [-1] * 90}
    )
    patient = [0] * 10 + list(range(1, 91))
    found = presence.frequent_findings(labels, patient, 0.05, 5).set_index("finding")
    assert found["kept"].tolist() == [True, False, False] and found.loc["often", "reason"] == ""
    assert "1.0% of the reports" in found["reason"]["rare"] and "1 patients with" in found["reason"]["one_patient"]
    assert found.loc["often", ["present_n", "absent_n", "not_mentioned_n"]].tolist() == [50, 25, 25]


def test_airspace_opacity_is_any_of_four():
    columns = ["lung_opacity", "consolidation", "infiltration", "pneumonia"]
    rows = [[0, 1, -1, np.nan], [np.nan, 0, -1, 0], [0, np.nan, np.nan, np.nan], [np.nan] * 4]
    found = presence.with_airspace_opacity(pd.DataFrame(rows, columns=columns))["airspace_opacity"]
    assert found.tolist()[:3] == [1, -1, 0] and np.isnan(found[3])


def test_through_topics_by_hand():
    labels = np.array([[1.0], [0.0], [1.0], [1.0]])
    found = presence.through_topics([[1, 0], [0.5, 0.5]], [3, 8], [3, 3, 8, 8], labels)
    first, second = (1 + 0.5 * 0.75) / 2.5, (2 + 0.5 * 0.75) / 2.5
    assert found[:, 0] == pytest.approx([first, (first + second) / 2])


def test_calibration_undoes_a_shift_of_the_logit():
    rng = np.random.default_rng(1)
    true = rng.uniform(-3, 3, 20000)
    label = (rng.random(20000) < 1 / (1 + np.exp(-true)))[:, None].astype(float)
    shifted = 1 / (1 + np.exp(-(2 * true + 1)))[:, None]
    scaling = calibration.platt_scaling(label, shifted)
    assert scaling[0] == pytest.approx([-0.5, 0.5], abs=0.05)
    assert calibration.platt_scaled(shifted, scaling)[:, 0] == pytest.approx(1 / (1 + np.exp(-true)), abs=0.03)
    assert calibration.platt_scaling(np.zeros((5, 1)), np.full((5, 1), 0.3)).tolist() == [[0, 1]]


def test_best_threshold_has_the_best_f1():
    probability = np.array([0.1, 0.4, 0.35, 0.8])[:, None]
    assert presence.best_thresholds(np.array([[0.0], [0], [1], [1]]), probability)[0] == 0.35
    assert presence.best_thresholds(np.zeros((4, 1)), probability)[0] == 0.5


def test_budgets_of_labels_lie_inside_each_other_patient_by_patient():
    patient = np.repeat(list("abcdef"), 3)
    order = presence.labelled_order(patient, 1)
    assert sorted(order) == list(range(18)) and len(set(patient[order[:6]])) == 2
    assert any((presence.labelled_order(patient, seed) != order).any() for seed in (2, 3))


def test_the_trade_has_every_route_and_takes_the_weak_network_as_it_is(pairs):
    archive, corner = pairs
    train, test = archive.at("train"), archive.at("test")
    clean = np.eye(4, dtype=np.float32)[corner][:, :2]
    weak = clean[mined_pairs.shuffled_order(archive.table, 1)]
    network = presence.train_findings(archive.images, archive.rows[train], weak[train], QUICK, 1, epochs=1)
    learned = {"rows": archive.rows[train], "patient_id": archive.table["patient_id"].to_numpy()[train]}
    learned |= {"clean": clean[train], "weak": weak[train]}
    asked = {"rows": archive.rows[test], "image_id": archive.table["image_id"].to_numpy()[test]}
    found = presence.trade_curve(
        archive.images, learned, asked, ["a", "b"], [40, 500], {1: network}, QUICK, {1: network}
    )
    assert list(found.columns) == ["route", "images_n", "seed", "finding", "image_id", "probability"]
    assert set(found["route"]) == {"clean", "weak", "weak then clean", "topics then clean"}
    assert set(found["images_n"]) == {40, 120} and len(found) == 4 * 2 * 2 * 80
    whole = found[(found["route"] == "weak") & (found["images_n"] == 120) & (found["finding"] == "a")]
    own = presence.finding_probabilities(network, archive.images, archive.rows[test])[:, 0]
    assert whole["probability"].to_numpy() == pytest.approx(own, abs=1e-4)


# --- rounds ---------------------------------------------------------------------------------------------------


def scene(n=400, seed=3):
    """Text that tells two of four groups apart, and image features that tell the other two."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, n)
    text = np.eye(2)[truth // 2] + 0.1 * rng.normal(size=(n, 2))
    topic = np.where(rng.random(n) < 0.6, truth, rng.integers(0, 4, n))
    seen = np.full((n, 4), 0.02, np.float32) + 0.94 * np.eye(4, dtype=np.float32)[(truth % 2)]
    return truth, text, topic, seen, np.arange(n) < 300


def done_rounds(monkeypatch, arm, rounds):
    truth, text, topic, seen, trained = scene()
    monkeypatch.setattr(interleaving, "_taught", lambda *_: seen)
    patient = np.arange(400) // 2
    start = interleaving.start_rounds(None, np.arange(400), patient, text, topic, trained, QUICK, rounds, 1)
    return truth, trained, [start.first, *interleaving.later_rounds(start, arm)]


def test_image_features_regroup_reports_and_shuffled_ones_do_not(monkeypatch):
    rounds = interleaving.InterleavingSettings(rounds_n=3)
    told = {}
    for arm in (routes.IMAGES, routes.TEXT_ALONE, routes.SHUFFLED_IMAGES):
        truth, trained, done = done_rounds(monkeypatch, arm, rounds)
        last = pd.crosstab(done[-1].group[~trained], truth[~trained])
        told[arm] = last.max(axis=1).sum() / last.to_numpy().sum()
    assert told[routes.IMAGES] > 0.95 and max(told[routes.SHUFFLED_IMAGES], told[routes.TEXT_ALONE]) < 0.8


def test_rounds_end_when_two_agree(monkeypatch):
    rounds = interleaving.InterleavingSettings(rounds_n=9, least_rounds=2, agreement=0.99)
    _, _, done = done_rounds(monkeypatch, routes.IMAGES, rounds)
    assert 2 <= done[-1].number < 9 and done[-1].adjusted_rand >= 0.99 and done[-1].moved_n < 10
    assert [r.number for r in done] == list(range(len(done))) and np.isnan(done[0].adjusted_rand)


def test_nobody_sees_a_network_that_learned_their_own_group(monkeypatch, pairs):
    archive, corner = pairs
    trained = np.isin(np.arange(240), archive.at("train"))
    patient = archive.table["patient_id"].to_numpy()
    half = interleaving._halves(patient, trained, 1)
    assert not set(patient[half == 0]) & set(patient[half == 1]) and (half[~trained] == -1).all()
    learned, looked = {}, {}
    monkeypatch.setattr(short_training, "new_network", lambda *_, **__: len(learned))
    monkeypatch.setattr(
        short_training, "learn", lambda network, images, rows, *_, **__: learned.setdefault(network, rows)
    )

    def outputs(network, images, rows):
        looked[network] = rows
        return np.zeros((len(rows), 4), np.float32)

    monkeypatch.setattr(short_training, "outputs", outputs)
    seen = interleaving._taught({}, None, np.arange(240), corner, half, 4, QUICK, 1, None)
    assert all(not set(learned[k]) & set(looked[k]) for k in learned) and len(learned) == 2
    assert seen.sum(1) == pytest.approx(1)


# --- pairs ----------------------------------------------------------------------------------------------------


def test_pairs_that_cannot_be_used_are_counted_with_their_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    ids = [f"i{k}" for k in range(4)]
    table = pd.DataFrame({"image_id": [*ids, "i0", "stranger"], "patient_id": list("abcdad"), "report_id": "r0"})
    table["report_id"] = ["r0", "r1", "r2", "r3", "r0", "r5"]
    table["text"] = ["Effusion.", "effusion", "No effusion.", " ", "Effusion.", "Edema."]
    for path in (mined_pairs.pairs_path("e", "c"), paths.split_path("e")):
        path.parent.mkdir(parents=True)
    table.to_parquet(mined_pairs.pairs_path("e", "c"))
    split = pd.DataFrame({"image_id": ids, "split": ["train", "valid", "test", "test"]})
    split.to_parquet(paths.split_path("e"))
    pixels = np.zeros((4, 8, 8), np.uint8)
    store = SimpleNamespace(
        images=pixels, index=pd.DataFrame({"image_id": ids}), rows=lambda wanted: [ids.index(i) for i in wanted]
    )
    monkeypatch.setattr(mined_pairs, "open_store", lambda _: store)
    pairs = mined_pairs.read_pairs("e", "c", 4)
    assert pairs.table["image_id"].tolist() == ["i0", "i1", "i2"] and pairs.images.shape == (4, 4, 4)
    assert pairs.left_out["pairs_n"].tolist() == [1, 0, 1, 1] and pairs.group.tolist() == [0, 0, 1]
    assert pairs.labels["effusion"].tolist() == [1, 1, 0]
    split.assign(split="train").to_parquet(paths.split_path("e"))
    with pytest.raises(ValueError, match="has no pair in valid, test"):
        mined_pairs.read_pairs("e", "c")


# --- everything together --------------------------------------------------------------------------------------

STUDY = {
    "training": dataclasses.asdict(QUICK),
    "seeds": [1, 2],
    "shuffle_seed": 1,
    "words": {"epochs": 8, "least_reports": 2},
    "joint": {"text_encoder": "tfidf", "embedding_n": 8, "epochs": 8},
    "retrieval_most": 70,
    "trade_sizes": [40],
    "topics_then_clean": False,
    "rounds": {"rounds_n": 1, "text_size": 4, "seeds_n": 2},
}


@pytest.fixture(scope="module")
def mined(pairs, tmp_path_factory):
    """All that notebook 17 stores, of an archive whose images show what reports say."""
    archive, corner = pairs
    root = tmp_path_factory.mktemp("mined")
    done = mining_runs.MiningRuns(archive, {"document": corner, "second": corner // 2}, STUDY)
    found = ["effusion", "cardiomegaly", "pneumothorax"]
    clean = np.eye(4, dtype=np.float32)[corner][:, :3]
    weak = (archive.labels[found] == 1).to_numpy(np.float32)
    known = vectors.WordVectors(("effusion", "cardiomegaly", "pneumothorax"), np.eye(3, 8, dtype=np.float32))
    key_words = {0: "effusion left", 1: "cardiomegaly heart", 2: "pneumothorax", 3: "clear"}
    tables = {
        "topics": done.topics(),
        "words": done.words(known, key_words),
        "presence": done.findings(found, weak, clean),
    }
    tables |= {
        "retrieval": done.retrieval(),
        "trade": done.trade(),
        "images": done.images({"clean": clean, "reports": weak}),
    }
    tables["interleaving"], tables["rounds"] = done.rounds(clean)
    patched = pytest.MonkeyPatch()
    patched.setattr(paths, "ROOT", root)
    for name, table in tables.items():
        path = routes.scores_path("e", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(path)
    done.keep_reader(
        image_reading.reader_dir("e"),
        {"edition": "e", "cohort": "c", "images": "squares", "store_px": 32, "calibrated_by": "clean"},
    )
    yield SimpleNamespace(tables=tables, scores=mining.open_scores("e", 200, 1), root=root, runs=done)
    patched.undo()


def test_every_table_is_there_and_holds_no_text(mined, pairs):
    assert set(mined.tables) == set(routes.STORED)
    for name, table in mined.tables.items():
        for column in table.select_dtypes(["object", "string", "category"]):
            words = table[column].astype(str).str.contains("effusion|lungs|structures|views", case=False)
            assert not (words & (column != "finding")).any(), f"{name}.{column} holds words of reports"


@pytest.fixture(scope="module")
def mined_tables(mined):
    """The tables of notebook 24 that have a control."""
    topics, gains = mining.topic_table(mined.scores)
    hits, _ = mining.word_table(mined.scores)
    retrieved, _ = mining.retrieval_table(mined.scores, pool_n=10)
    return SimpleNamespace(topics=topics, gains=gains, hits=hits, retrieved=retrieved)


def test_true_pairs_teach_and_shuffled_ones_do_not(mined, mined_tables):
    """Images have but four corners, so one network that learned in vain may still be lucky: no floor is asked for."""
    done = mined_tables
    areas, _ = mining_trade.presence_table(mined.scores)
    control = mining.control_table(done.topics, done.hits, done.retrieved, areas, pool_n=10).set_index("result")
    for result in ("topic of the report, top-5", "words, R@5 of all disease words"):
        control = control.drop(result)  # of four topics and three words, five are all
    assert (control["true_pairs"] > control["shuffled_pairs"] + 0.1).all()
    top1 = done.topics[(done.topics["level"] == "document") & (done.topics["measure"] == "top1")]
    top1 = top1.set_index("model")["estimate"]
    assert top1["network"] > 0.8 > top1["majority"] and top1["network, shuffled pairs"] < 0.5
    ahead = done.gains[(done.gains["level"] == "document") & (done.gains["measure"] == "top1")]
    assert (ahead["low"] > 0).all() and set(ahead["comparison"]) == {
        "network - majority",
        "network - network, shuffled pairs",
    }


def test_a_control_that_does_not_fall_is_said(mined, mined_tables):
    done, found = mined_tables, {}
    areas, _ = mining_trade.presence_table(mined.scores)
    mine = done.retrieved["model"] == "joint, shuffled pairs"
    for name, low in {"fallen": -1.0, "risen": 1.0, "unknown": np.nan}.items():
        retrieved = done.retrieved.assign(low=np.where(mine, low, -1.0))
        found[name] = mining.control_table(done.topics, done.hits, retrieved, areas, pool_n=10)
        rows = found[name][found[name]["result"].str.startswith("joint")]
        expected = {"fallen": [True] * 2, "risen": [False] * 2, "unknown": [None] * 2}[name]
        assert rows["falls"].replace({np.nan: None}).tolist() == expected
    said = {name: " ".join(mining.control_sentences(table)) for name, table in found.items()}
    assert "Above the floor on shuffled pairs: joint, image to report, R@5 of 10; joint" in said["risen"]
    assert "Without an interval, so not known: joint" in said["unknown"] and "Without" not in said["fallen"]


def test_what_has_nothing_to_destroy_is_said(mined, mined_tables):
    done = mined_tables
    areas, _ = mining_trade.presence_table(mined.scores)
    topics = done.topics.assign(low=np.where(done.topics["model"] == "network", 0.0, done.topics["low"]))
    said = mining.control_sentences(mining.control_table(topics, done.hits, done.retrieved, areas, pool_n=10))
    assert any(line.startswith("Not above it, so that shuffling could destroy nothing: topic") for line in said)


def test_a_verdict_is_by_the_corrected_p():
    row = {"estimate": 0.1, "low": 0.01, "high": 0.2}
    assert displays.verdict(row) == "better" and displays.verdict({**row, "p_holm": 0.06}).startswith(
        "not significant"
    )
    assert displays.verdict({"estimate": -0.1, "low": -0.2, "high": -0.01, "p_holm": 0.01}) == "worse"
    assert displays.verdict({**row, "low": np.nan}) == "not estimable"


def test_chance_of_a_pool_is_exact(mined):
    curve = mining.pool_curve(mined.scores, k=1)
    chance = curve[curve["model"] == "chance"]
    assert chance["estimate"].to_numpy() == pytest.approx(1 / chance["pool_n"])
    joined = curve[(curve["model"] == "joint") & (curve["direction"] == report_retrieval.DIRECTIONS[0])]
    assert joined["estimate"].is_monotonic_decreasing and len(mining.pool_figure(curve).axes) == 2


def test_presence_and_trade_tables(mined):
    areas, gaps = mining_trade.presence_table(mined.scores)
    assert set(areas["route"]) == {routes.STRICT, routes.BY_TOPICS, f"{routes.STRICT}, shuffled pairs"}
    assert set(areas["scored_against"]) == {"clean", "reports"} and gaps["p_holm"].notna().sum() == 6
    trade = mining_trade.Trade(mined.scores, "clean")
    assert trade.sizes == [40, 120] and len(trade.by_seed()) == 3 * 2 * 2 * 3
    worth = trade.worth(np.random.default_rng(1))
    assert 40 <= worth["clean_n"] <= 120 and worth["low"] <= worth["clean_n"] <= worth["high"]
    lines = trade.sentences(trade.gaps(), worth)
    assert lines[0].startswith("Labels mined from the reports of 120 images") and len(lines) == 2
    assert len(trade.figure().axes) == 1


def test_round_tables(mined):
    table, gaps = mining_trade.round_table(mined.scores, "clean")
    assert set(table["arm"]) == {"images", "text alone", "shuffled images"} and set(table["round"]) == {0, 1}
    start = table[(table["round"] == 0) & (table["finding"] == mining.MEAN)].set_index(["route", "arm"])["estimate"]
    assert start[routes.OWN_GROUP].nunique() == 1  # both arms begin at the same round
    agreed = mining_trade.agreement_table(mined.scores.table("rounds"))
    lines = mining_trade.round_sentences(gaps, agreed, 0.95)
    assert "stopping rule" in lines[0] and len(lines) == 7
    assert len(mining_trade.round_figure(table).axes) == 2


def test_calibration_is_of_the_first_seed(mined):
    found = mining_trade.calibration_table(mined.scores)
    rates = {"sensitivity", "specificity", "ppv", "npv"}
    assert set(found["measure"]) == {"intercept", "slope", "error", "Brier score"} | rates
    brier = found[(found["measure"] == "Brier score") & (found["scored_against"] == "clean")]
    assert (brier["estimate"] < 0.15).all() and (found["finding"].nunique(), len(found)) == (3, 48)


def test_a_stored_value_that_is_altered_alters_the_table(mined, monkeypatch):
    before = mining.topic_table(mined.scores)[0]
    path = routes.scores_path("e", "topics")
    table = pd.read_parquet(path)
    table.assign(top1=table["top1"] / 2).to_parquet(path)
    after = mining.topic_table(mined.scores)[0]
    table.to_parquet(path)
    rows = (before["measure"] == "top1") & (before["model"] != "chance")
    assert after["estimate"][rows].to_numpy() == pytest.approx(before["estimate"][rows].to_numpy() / 2)


def test_the_crossing_of_a_curve_by_hand():
    curve = np.array([[0.6, 0.7, 0.8], [0.6, 0.7, 0.8], [0.6, 0.7, 0.8]])
    found = mining_trade._crossing([100, 200, 400], curve, np.array([0.75, 0.5, 0.9]))
    assert found == pytest.approx([math.sqrt(200 * 400), 100, 400])


def test_one_seed_has_no_interval_and_unlike_seeds_have_wide_ones():
    rng = np.random.default_rng(1)
    value = rng.random(100)
    resamples = resampling.patient_resamples(np.arange(100), 300, rng)
    scores = mining.MiningScores("e", pd.DataFrame({"image_id": range(100)}), resamples)
    one = pd.DataFrame({"seed": 1, "image": np.arange(100), "x": value, "model": "m"})
    alone = mining._means(scores, one, ["model"], ["x"]).iloc[0]
    assert alone["estimate"] == pytest.approx(value.mean()) and np.isnan([alone["low"], alone["high"]]).all()
    assert alone["reason"] == intervals.ONE_SEED and alone["seeds_n"] == 1
    found = []
    for shift in (0.001, 0.2):
        seeds = ((1, -shift), (2, 0), (3, shift))
        table = pd.concat([one.assign(x=value + moved, seed=seed) for seed, moved in seeds])
        found.append(mining._means(scores, table, ["model"], ["x"]).iloc[0])
    alike, unlike = found
    assert alike["estimate"] == pytest.approx(unlike["estimate"]) == pytest.approx(alone["estimate"])
    assert unlike["high"] - unlike["low"] > 2 * (alike["high"] - alike["low"])
    patients = intervals.mean(value, resamples)
    assert alike["high"] - alike["low"] == pytest.approx(patients.high - patients.low, rel=0.15)
