"""Report networks on tiny encoders: losses by hand, learning, loading and saving, and CheXbert's checkpoint."""

import socket
import time

import numpy as np
import pandas as pd
import pytest
import torch

from cxrlib.base import torchvision_fix  # noqa: F401 (must come before transformers)
from cxrlib.labelers import bert, chexbert, report_network, visual
from cxrlib.statistics import accuracy

# isort: split
from transformers import AutoTokenizer, BertConfig, BertModel

TINY = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
TEXTS = [
    f"{start} {word}."
    for start in ("There is", "No", "Possible", "The lungs are clear without")
    for word in ("pneumothorax", "effusion", "large pneumothorax", "small effusion")
] * 6


@pytest.fixture
def tiny(monkeypatch):
    """Load a two-layer BERT with seeded weights wherever an encoder is asked for; the real tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(report_network.encoder_path("minilm"))

    def load(name):
        torch.manual_seed(0)
        return BertModel(TINY), tokenizer, "mean"

    monkeypatch.setattr(report_network, "load_encoder", load)
    return tokenizer


def labels():
    """Return what the sentences say: 1, 0, -1, NaN not mentioned."""
    said = {"There": 1.0, "No": 0.0, "Possible": -1.0, "The": 0.0}
    rows = []
    for text in TEXTS:
        value = said[text.split()[0]]
        rows.append({f: value if f in text else np.nan for f in ("pneumothorax", "effusion")})
    return pd.DataFrame(rows)


FAST = report_network.LessonSettings(epochs=12, batch_size=8, learning_rate=2e-3, seed=1)


def test_class_numbers():
    got = bert.class_targets([[np.nan, 1], [0, -1]])
    assert got.tolist() == [[0, 1], [2, 3]] and got.dtype == np.float32
    with pytest.raises(ValueError, match="label 2 is none of"):
        bert.class_targets([[2.0]])


def test_losses_by_hand():
    logits = torch.log(torch.tensor([[0.1, 0.6, 0.2, 0.1, 0.25, 0.25, 0.25, 0.25]]))
    four = bert.four_class_loss(logits, torch.tensor([[1.0, 3.0]]))
    assert four.item() == pytest.approx(-(np.log(0.6) + np.log(0.25)) / 2)
    assert bert.four_class_loss(logits, torch.tensor([[1.0, -100.0]])).item() == pytest.approx(-np.log(0.6))


def test_people_say_what_is_present_and_the_rules_the_rest():
    human = [[1, 0, 0, 0, 0, np.nan]]
    rules = [[np.nan, 1, 0, -1, np.nan, 1]]
    assert bert.human_targets(human, rules).tolist() == [[1, 2, 2, 3, 0, 1]]
    with pytest.raises(ValueError, match="human label -1 is none of 1, 0 and missing"):
        bert.human_targets([[-1.0]], [[0.0]])


@pytest.mark.parametrize("trained_layers", [None, 1])
def test_a_labeler_learns_what_the_rules_say_and_the_same_twice(tiny, tmp_path, trained_layers):
    labeler, history = bert.train(TEXTS, labels(), FAST, trained_layers=trained_layers)
    assert history["rules"][-1] < 0.5 * history["rules"][0]
    got, want = labeler.read_many(TEXTS), labels()
    same = (got.to_numpy() == want.to_numpy()) | (np.isnan(got.to_numpy()) & np.isnan(want.to_numpy()))
    assert same.mean() > (0.9 if trained_layers is None else 0.8)
    again, _ = bert.train(TEXTS, labels(), FAST, trained_layers=trained_layers)
    assert (again.probabilities(TEXTS[:9]) == labeler.probabilities(TEXTS[:9])).all()
    assert np.allclose(labeler.probabilities(TEXTS).sum(-1), 1, atol=1e-5)
    assert labeler.read_many([]).empty


def test_people_correct_the_rules(tiny):
    wrong = labels().assign(effusion=np.nan)  # rules that never see an effusion
    human = pd.DataFrame({"effusion": [(1.0 if "effusion" in t and t.startswith("There") else 0.0) for t in TEXTS]})
    labeler, history = bert.train(TEXTS, wrong, FAST, human, FAST)
    assert set(history) == {"rules", "people"}
    read = labeler.read_many(TEXTS)
    found = read["effusion"] == 1
    doubted = [t.startswith("Possible") and "pneumothorax" in t for t in TEXTS]
    assert (read["pneumothorax"][doubted] == -1).mean() > 0.8, "what people do not judge is not unlearned"
    assert (found == (human["effusion"] == 1)).mean() > 0.9
    with pytest.raises(ValueError, match="hernia, which the rules do not know"):
        bert.train(TEXTS, wrong, FAST, human.rename(columns={"effusion": "hernia"}), FAST)


def test_lower_layers_stay_as_they_are():
    torch.manual_seed(0)
    network = report_network.ReportNetwork(BertModel(TINY), 3, trained_layers=1)
    whole = {k: v.clone() for k, v in network.lower.state_dict().items()}
    tokens = [np.arange(5, 5 + n) for n in (3, 9, 4, 7)]
    before = report_network.logits_of(network, tokens)
    report_network.fit(
        network, tokens, np.ones((4, 3)), report_network.soft_loss, report_network.LessonSettings(2, 2, 1e-3, 1)
    )
    assert all((v == whole[k]).all() for k, v in network.lower.state_dict().items())
    assert (report_network.logits_of(network, tokens) > before).all(), "the rest has learned"
    with pytest.raises(ValueError, match="trained_layers is 3; this encoder has 2"):
        report_network.ReportNetwork(BertModel(TINY), 3, trained_layers=3)


def test_splitting_an_encoder_changes_nothing():
    torch.manual_seed(0)
    encoder = BertModel(TINY)
    tokens = [np.arange(5, 5 + n) for n in (3, 9, 4)]
    whole = report_network.ReportNetwork(encoder, 2)
    expected = report_network.logits_of(whole, tokens)
    head = {k: v.clone() for k, v in whole.head.state_dict().items()}
    split = report_network.ReportNetwork(encoder, 2, trained_layers=1)
    split.head.load_state_dict(head)
    np.testing.assert_allclose(report_network.logits_of(split, tokens), expected, atol=1e-5)


def test_a_labeler_is_saved_and_loaded(tmp_path):
    folder = tmp_path / "encoder"
    torch.manual_seed(0)
    BertModel(TINY).save_pretrained(folder)
    AutoTokenizer.from_pretrained(report_network.encoder_path("minilm")).save_pretrained(folder)
    settings = report_network.LessonSettings(1, 16, 1e-3, 1)
    labeler, _ = bert.train(TEXTS, labels(), settings, encoder=str(folder), trained_layers=1)
    labeler.save(tmp_path / "saved")
    back = bert.BertLabeler.load(tmp_path / "saved")
    assert (back.probabilities(TEXTS[:5]) == labeler.probabilities(TEXTS[:5])).all()
    pd.testing.assert_frame_equal(back.read_many(TEXTS), labeler.read_many(TEXTS))
    (tmp_path / "saved" / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="is damaged or cut short"):
        bert.BertLabeler.load(tmp_path / "saved")
    with pytest.raises(FileNotFoundError, match="holds no labeler"):
        bert.BertLabeler.load(tmp_path)


@pytest.mark.parametrize("name", ["nobody/nothing", "bert-base-uncased-of-nobody"])
def test_an_encoder_that_cannot_be_had_is_named_without_asking_the_network(monkeypatch, name):
    asked = []

    def refused(*arguments, **_):
        asked.append(arguments)
        raise AssertionError(f"the network was asked: {arguments}")

    monkeypatch.setattr(socket, "create_connection", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(socket.socket, "connect", refused)
    start = time.monotonic()
    with pytest.raises(
        ValueError, match="neither a folder here nor to be had from the hub; `minilm` needs no network"
    ) as caught:
        report_network.load_encoder(name)
    assert asked == [] and time.monotonic() - start < 5, "it waited for something"
    assert str(caught.value).startswith(f"The encoder {name!r} is") and "\n" not in str(caught.value)


# --- CheXbert's checkpoint ----------------------------------------------------------------------------------------


def checkpoint(path, **changes):
    """Write a tiny checkpoint as CheXbert's authors store theirs; return its weights."""
    torch.manual_seed(3)
    network = chexbert.ChexbertNetwork(TINY)
    state = {f"module.{k}": v for k, v in network.state_dict().items()}
    state["module.bert.embeddings.position_ids"] = torch.arange(512)[None]
    state |= changes
    torch.save({"model_state_dict": {k: v for k, v in state.items() if v is not None}, "epoch": 3}, path)
    return network


def test_chexberts_checkpoint_loads(tmp_path):
    network = checkpoint(tmp_path / "chexbert.pth").eval()
    labeler = chexbert.load_chexbert(tmp_path / "chexbert.pth", config=TINY)
    got = labeler.read_many(TEXTS[:6])
    assert list(got) == list(chexbert.CHEXBERT_ORDER) and set(got["no_finding"].dropna()) <= {1.0}
    ids = torch.as_tensor(report_network.tokenize(labeler.tokenizer, TEXTS[:1])[0])[None]
    heads = [h.argmax(-1).item() for h in network(ids, torch.ones_like(ids))]
    want = np.asarray(report_network.CLASSES)[heads]
    np.testing.assert_array_equal(got.iloc[0].to_numpy(), want.astype(np.float32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"module.linear_heads.13.weight": None}, "is not CheXbert's checkpoint: it lacks 1 weights"),
        ({"module.linear_heads.0.weight": torch.zeros(3, 32)}, "is of another network"),
    ],
)
def test_a_file_that_is_not_chexberts_is_named(tmp_path, changes, message):
    checkpoint(tmp_path / "chexbert.pth", **changes)
    with pytest.raises(ValueError, match=message):
        chexbert.load_chexbert(tmp_path / "chexbert.pth", config=TINY)


def test_a_file_that_is_no_checkpoint_at_all(tmp_path):
    with pytest.raises(FileNotFoundError, match="given out by its authors"):
        chexbert.load_chexbert(tmp_path / "none.pth")
    (tmp_path / "x.pth").write_text("hello")
    with pytest.raises(ValueError, match="not a file of weights"):
        chexbert.load_chexbert(tmp_path / "x.pth")


# --- the visual labeler -------------------------------------------------------------------------------------------


def test_a_visual_labeler_learns_probabilities_and_decides(tiny, tmp_path):
    looks = pd.DataFrame(
        {f: [0.9 if f in t and t.startswith("There") else 0.1 for t in TEXTS] for f in ("pneumothorax", "effusion")}
    )
    labeler, history = visual.train(TEXTS, looks, FAST)
    assert history[-1] < history[0]
    with pytest.raises(ValueError, match="decides nothing before"):
        labeler.read_many(TEXTS)
    truth = (looks > 0.5).astype(float)
    patient = np.arange(len(TEXTS)) // 2
    made = labeler.fit_decisions(TEXTS, truth, patient)
    read = labeler.read_many(TEXTS)
    assert (read.to_numpy() == truth.to_numpy()).mean() > 0.9
    again = made.decide(made.scores(labeler.features(TEXTS)))
    assert (again.to_numpy() == read.to_numpy()).mean() > 0.99 and list(again) == list(labeler.findings)
    labeler.save(tmp_path / "visual")
    with pytest.raises(ValueError, match="on all or none of"):
        labeler.fit_decisions(TEXTS, truth.assign(effusion=0.0), patient)
    with pytest.raises(ValueError, match="96 reports, 96 rows of labels, 3 patients: one each"):
        labeler.fit_decisions(TEXTS, truth, patient[:3])
    with pytest.raises(ValueError, match="2 patients: thresholds are chosen on 5 groups"):
        labeler.fit_decisions(TEXTS, truth, np.arange(len(TEXTS)) % 2)
    with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
        visual.train(TEXTS, looks + 1, FAST)


def test_decisions_are_made_out_of_fold():
    """Features without meaning, one a patient: in sample they tell patients apart, out of fold they tell nothing."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(40), 5)
    x = np.repeat(rng.normal(size=(40, 30)), 5, axis=0)
    y = pd.DataFrame({"mass": np.repeat((rng.random(40) < 0.3).astype(float), 5)})
    y.iloc[:10] = np.nan
    made = visual.decisions(x, y, patient)
    there = y["mass"].notna().to_numpy()
    inside = accuracy.auc(y["mass"][there], made.scores(x)[there, 0])
    outside = accuracy.auc(y["mass"][there], made.held_out[there, 0])
    assert inside > 0.9 > 0.75 > outside and np.isfinite(made.held_out).all()
    half = made.decide(made.held_out, at_half=True)["mass"]
    np.testing.assert_array_equal(half, made.held_out[:, 0] >= 0)
    best = accuracy.f1(y["mass"][there], made.decide(made.held_out)["mass"][there])
    assert best >= accuracy.f1(y["mass"][there], half[there])


def slow_best_f1(label, score):
    """Return the best F1 of any threshold, each tried by calling everything at or above it."""
    return max(accuracy.f1(label, (score >= at).astype(float)) for at in np.unique(score))


def test_a_visual_labeler_calls_what_its_thresholds_call(monkeypatch):
    """The thresholds lie well below 0: with a wrong sign, too few would be called."""
    rng = np.random.default_rng(2)
    n = 600
    truth = pd.DataFrame({"mass": (rng.random(n) < 0.06) * 1.0, "edema": (rng.random(n) < 0.6) * 1.0})
    x = truth.to_numpy() + rng.normal(size=(n, 2))
    labeler = visual.VisualLabeler(None, None, list(truth), "none")
    monkeypatch.setattr(labeler, "features", lambda texts: x[[int(text) for text in texts]])
    texts = [str(k) for k in range(n)]
    made = labeler.fit_decisions(texts, truth, np.arange(n) // 2)
    assert (made.thresholds < -0.3).all(), "otherwise this test says nothing"
    for k, finding in enumerate(truth):
        found = accuracy.f1(truth[finding], made.decide(made.held_out)[finding])
        assert found == pytest.approx(slow_best_f1(truth[finding], made.held_out[:, k])), finding
    read = labeler.read_many(texts)
    expected = np.c_[x, np.ones(n)] @ made.weights.T - made.thresholds
    clear = np.abs(expected) > 1e-9
    np.testing.assert_array_equal(read.to_numpy()[clear], (expected > 0)[clear].astype(np.float32))
    np.testing.assert_array_equal(read.to_numpy()[clear], made.decide(made.scores(x)).to_numpy()[clear])
    assert 0.02 < read["mass"].mean() < 0.3, "about as often as it is there, not at a probability of a half"


def test_features_of_a_labelers_output_and_of_a_teacher():
    got = visual.one_hot(pd.DataFrame({"a": [1.0, 0.0], "b": [-1.0, np.nan]}))
    assert got.tolist() == [[1, 0, 0, 0, 0, 1], [0, 0, 1, 0, 0, 0]]
    rng = np.random.default_rng(0)
    seen = pd.DataFrame({"a": rng.uniform(0.49, 0.51, 500), "b": 0.3})
    spread = visual.spread_out(seen)
    assert (spread["a"].rank() == seen["a"].rank()).all() and spread["b"].to_numpy() == pytest.approx(0.5)
    assert spread["a"].min() < 0.1 and spread["a"].max() > 0.9


def test_a_question_is_not_read():
    text = "INDICATION: Rule out pneumothorax.\nCOMPARISON: None.\nFINDINGS: Small effusion.\nIMPRESSION: Effusion."
    assert report_network.what_is_read(text) == "FINDINGS: Small effusion.\nIMPRESSION: Effusion."
    assert (
        report_network.what_is_read("Clinical history: fall\n\nLungs clear.")
        == "Clinical history: fall\n\nLungs clear."
    )
    assert report_network.what_is_read("No effusion.") == "No effusion."


def test_corrected_loss_lies_between_present_alone_and_four_classes(monkeypatch):
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 5 * 4, generator=rng)
    target = torch.randint(0, 4, (6, 5), generator=rng).float()
    monkeypatch.setattr(bert, "REST_WEIGHT", 1.0)
    assert torch.isclose(bert.corrected_loss(logits, target), bert.four_class_loss(logits, target))
    monkeypatch.setattr(bert, "REST_WEIGHT", 0.0)
    probability = torch.softmax(logits.view(6, 5, 4), -1)[..., 1]
    alone = torch.nn.functional.binary_cross_entropy(probability, (target == 1).float())
    assert torch.isclose(bert.corrected_loss(logits, target), alone)


def test_words_follow_a_teacher_as_far_as_they_say_it():
    """A teacher that is a function of one word is followed exactly in order; one that is not, is not."""
    rng = np.random.default_rng(2)
    said = rng.random(120) < 0.4
    texts = [f"the lung {'shows edema' if s else 'is clear'} case {k % 7}" for k, s in enumerate(said)]
    aims = pd.DataFrame({"edema": np.where(said, 2.0, -2.0), "mass": rng.normal(size=120)})
    got = visual.from_words(texts[:80], aims[:80], texts[80:])
    assert list(got) == ["edema", "mass"] and len(got) == 40
    assert got["edema"][said[80:]].min() > got["edema"][~said[80:]].max()
    assert abs(np.corrcoef(got["mass"], aims["mass"][80:])[0, 1]) < 0.4
