"""Topics against planted ones and hand computations; pages that show no rare word; word vectors."""

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq

from cxrlib.topics import choice, levels, models, pages, vectors, words

LOOSE = words.WordRules(shortest=1, least_documents=1, commonest_n=0, least_terms=1)


def corpus_of(*texts, rules=LOOSE, **options):
    return words.corpus([(f"d{k}", text) for k, text in enumerate(texts)], rules, **options)


def planted(documents_n, seed, topics_n=4, words_n=12, length=40):
    """Return documents of Dirichlet's model, the words of its topics, and each document's shares."""
    rng = np.random.default_rng(seed)
    own = [[f"{chr(97 + k)}{chr(97 + w)}word" for w in range(words_n)] for k in range(topics_n)]
    chance = np.arange(words_n, 0, -1) / np.arange(words_n + 1).sum()
    shares, documents = rng.dirichlet(np.full(topics_n, 0.1), size=documents_n), []
    for k, share in enumerate(shares):
        each = rng.choice(topics_n, size=length, p=share)
        documents.append((f"d{seed}-{k}", " ".join(own[e][rng.choice(words_n, p=chance)] for e in each)))
    return documents, own, shares


PLANTED_RULES = words.WordRules(commonest_n=0)


@pytest.fixture(scope="module")
def trained():
    documents, own, shares = planted(150, 0)
    return words.corpus(documents, PLANTED_RULES), own, shares


@pytest.fixture(scope="module")
def fitted(trained):
    return {
        (engine, seed): models.fit_topics(trained[0], 4, seed, engine, alpha=0.1, iterations=n)
        for engine, seed, n in (("tomotopy", 1, 60), ("tomotopy", 2, 60), ("sklearn", 1, 20))
    }


# Words


def test_words_are_lower_case_letters_and_digits_of_some_length():
    assert words.tokens("The T12 vertebra: 3-mm NODULE, (x2)!") == ["the", "t12", "vertebra", "nodule"]
    assert words.tokens("A-B c_d 1.5", shortest=1) == ["a", "b", "c", "d", "1", "5"]
    assert words.tokens("") == []


def test_spanish_words_stay_whole_however_their_accents_are_written():
    assert words.tokens("Neumotórax en el pulmón. SEÑALES") == ["neumotórax", "pulmón", "señales"]
    assert words.tokens("pulmo\u0301n") == words.tokens("pulm\u00f3n")


def test_what_deidentification_left_is_no_word():
    text = "XXXX seen on x-XXXX at 4xxxxpm by Dr. ___ on [**2101-1-1**] [**Hospital 12\nLong Name**] again"
    assert words.tokens(text) == ["seen", "again"]


def test_rules_are_applied_in_the_order_of_the_released_code():
    texts = ["aaa bbb ccc ddd", "aaa bbb ccc", "aaa bbb eee", "aaa fff"]
    found = corpus_of(*texts, rules=words.WordRules(3, 2, 1, 2))
    assert found.commonest == ("aaa",) and found.terms == ("bbb", "ccc")
    assert [found.words(k) for k in range(len(found))] == [["bbb", "ccc"], ["bbb", "ccc"]]
    assert found.dropped["document_id"].tolist() == ["d2", "d3"]
    assert found.dropped["terms_n"].tolist() == [1, 0]


def test_documents_without_text_are_counted_apart_from_short_ones():
    found = words.corpus([("a", None), ("b", float("nan")), ("c", "  ..."), ("d", "one"), ("e", "one two")], LOOSE)
    assert found.document_ids == ("d", "e") and set(found.dropped["reason"]) == {"it has no words"}
    assert found.counts().toarray().tolist() == [[1, 0], [1, 1]]


def test_blocks_of_documents_make_no_difference(monkeypatch):
    documents, _, _ = planted(23, 3)
    whole = words.corpus(documents)
    monkeypatch.setattr(words, "_BLOCK", 4)
    parts = words.corpus(documents)
    assert parts.terms == whole.terms and parts.commonest == whole.commonest and len(whole.commonest) == 10
    assert (parts.tokens == whole.tokens).all() and (parts.starts == whole.starts).all()


def test_known_terms_are_all_kept_and_no_other_counts():
    found = corpus_of("new old", "new", terms=("old", "unseen"))
    assert found.terms == ("old", "unseen") and found.document_ids == ("d0",)


def test_a_part_of_a_corpus_keeps_its_terms_until_it_is_filtered():
    part = corpus_of("a b", "c c d", "b").part([2, 1])
    assert part.terms == ("a", "b", "c", "d") and [part.words(k) for k in (0, 1)] == [["b"], ["c", "c", "d"]]
    assert part.filtered(LOOSE).terms == ("b", "c", "d") and part.documents_n().tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("documents", [[], [("a", "")], [("a", "too few"), ("b", "words")]])
def test_no_document_left_is_refused_in_a_sentence(documents):
    with pytest.raises(ValueError, match=r"give (more )?reports") as error:
        words.corpus(documents)
    assert len(str(error.value).splitlines()) == 1


def test_an_id_that_occurs_twice_is_refused():
    with pytest.raises(ValueError, match="'a' occurs twice"):
        words.corpus([("a", "one"), ("a", "two")], LOOSE)


# Models


@pytest.mark.parametrize("key", [("tomotopy", 1), ("sklearn", 1)])
def test_planted_topics_are_recovered(trained, fitted, key):
    corpus, own, shares = trained
    pairs = choice.matched_topics(fitted[key].key_words(12), own)
    assert (pairs["overlap"] > 0.85).all()
    assert np.abs(fitted[key].shares_of(corpus) - shares[:, pairs["second"]]).mean() < 0.03


def test_shares_and_word_probabilities_are_distributions(trained, fitted):
    for model in fitted.values():
        shares = model.shares_of(trained[0])
        assert shares.dtype == np.float32 and shares.shape == (150, 4)
        assert np.allclose(shares.sum(1), 1, atol=1e-5) and np.allclose(model.word_probabilities.sum(1), 1, atol=1e-5)
        assert (model.word_probabilities > 0).all()


def test_tomotopy_with_one_worker_repeats_itself(trained, fitted):
    again = models.fit_topics(trained[0], 4, 1, alpha=0.1, iterations=60)
    assert (again.word_probabilities == fitted["tomotopy", 1].word_probabilities).all()


def test_perplexity_of_both_engines_is_nearly_that_of_the_planted_topics(trained, fitted):
    corpus, own, _ = trained
    held = words.corpus(planted(80, 7)[0], PLANTED_RULES, terms=corpus.terms)
    place = {term: k for k, term in enumerate(corpus.terms)}
    phi = np.full((4, len(place)), 1e-6)
    for k, each in enumerate(own):
        phi[k, [place[word] for word in each]] = np.arange(12, 0, -1) / 78
    phi /= phi.sum(1, keepdims=True)
    truth = models.TopicModel("tomotopy", corpus.terms, phi, 0.1, (), {}).perplexity(held)
    for engine in ("tomotopy", "sklearn"):
        assert fitted[engine, 1].perplexity(held) == pytest.approx(truth, rel=0.02)
    assert truth < 0.6 * choice.unigram_perplexity(corpus, held)


TOY = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])


def test_perplexity_equals_a_hand_computation():
    model = models.TopicModel("tomotopy", ("a", "b", "c"), TOY, 0.5, (), {})
    held = corpus_of("a b a c", "b", terms=("a", "b", "c"))  # a, a foretell b, c; one word foretells nothing

    def moved(t):  # two words a: alpha + 2 * responsibility, over 2 + 2 * alpha
        return (0.5 + 2 * 0.7 * t / (0.7 * t + 0.1 * (1 - t))) / 3 - t

    t = brentq(moved, 0.5, 1 - 1e-9)
    by_hand = math.exp(-(math.log(0.2) + math.log(0.1 * t + 0.7 * (1 - t))) / 2)
    assert model.perplexity(held) == pytest.approx(by_hand, rel=1e-3)
    likelihoods, words_n = model.completion(held)
    assert words_n.tolist() == [2, 0] and likelihoods[1] == 0
    assert math.exp(-likelihoods[0] / 2) == pytest.approx(by_hand, rel=1e-3)


def test_shares_do_not_hang_on_how_documents_are_blocked(trained, fitted, monkeypatch):
    model = fitted["tomotopy", 1]
    whole = model.shares_of(trained[0])
    monkeypatch.setattr(models, "_BLOCK", 40)
    monkeypatch.setattr(models, "_ROWS", 7)
    assert np.abs(model.shares_of(trained[0]) - whole).max() < 1e-5
    topic, share = model.best_of(trained[0])
    assert (topic == whole.argmax(1)).all() and share == pytest.approx(whole.max(1), abs=1e-5)


def test_a_model_is_not_tested_on_what_it_was_fitted_to_or_on_other_terms(trained, fitted):
    with pytest.raises(ValueError, match="was fitted to"):
        fitted["tomotopy", 1].perplexity(trained[0])
    with pytest.raises(ValueError, match="other terms"):
        fitted["tomotopy", 1].shares_of(corpus_of("a b"))


def test_more_topics_than_documents_and_unknown_engines_are_refused():
    with pytest.raises(ValueError, match="ask for 1 to 2"):
        models.fit_topics(corpus_of("a b", "c d"), 3, 1)
    with pytest.raises(ValueError, match="none of tomotopy, sklearn"):
        models.fit_topics(corpus_of("a b"), 1, 1, "gensim")


def test_priors_may_be_symmetric():
    assert models.fit_topics(corpus_of("a b", "c d"), 2, 1, alpha=None, iterations=2).alpha == 0.5


def test_a_saved_model_comes_back_and_nothing_is_unpickled(tmp_path, fitted):
    model = fitted["tomotopy", 1]
    model.save(tmp_path / "model.npz")
    back = models.load_topics(tmp_path / "model.npz")
    assert back.key_words() == model.key_words() and back.settings == model.settings and back.alpha == model.alpha
    assert (back.word_probabilities == model.word_probabilities).all() and back.document_ids == model.document_ids
    np.savez(tmp_path / "evil.npz", about=np.array([{"a": 1}], object), terms=np.array(["a"]))
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("evil", "text"):
        with pytest.raises(ValueError, match="is no topic model"):
            models.load_topics(tmp_path / f"{name}.npz")
    with pytest.raises(FileNotFoundError, match="no topic model"):
        models.load_topics(tmp_path / "none.npz")


# The number of topics


def test_patients_are_held_out_whole():
    groups = np.repeat(np.arange(50), 3)
    held = choice.held_out(groups, 0.2, 1)
    assert held.sum() == 30 and not set(groups[held]) & set(groups[~held])
    assert (choice.held_out(groups, 0.2, 2) != held).any()
    with pytest.raises(ValueError, match="give more reports"):
        choice.held_out(["one", "one"])


def test_a_held_out_report_that_repeats_a_trained_one_is_found():
    trained = corpus_of("a b", "c d")
    held = corpus_of("a b", "b a", "a b c", terms=trained.terms)
    assert choice.unrepeated(held, trained).tolist() == [False, True, True]


def test_npmi_equals_hand_computations():
    reference = corpus_of("a b", "b a x", "a", "c")
    together = math.log(0.5 / (0.75 * 0.5)) / -math.log(0.5)
    found = choice.npmi([("a", "b"), ("a", "c"), ("a", "b", "c"), ("a", "unseen")], reference)
    assert found == pytest.approx([together, -1, (together - 2) / 3, -1])
    assert choice.npmi([("a", "b")], corpus_of("a b", "b a")) == pytest.approx([1])
    with pytest.raises(ValueError, match="at least two words"):
        choice.npmi([("a",)], reference)


def test_npmi_of_windows_counts_words_that_stand_near():
    reference = corpus_of("a x b", "a")  # windows of two: a x, x b, a
    found = choice.npmi([("a", "b"), ("a", "x")], reference, window=2)
    assert found == pytest.approx([-1, math.log((1 / 3) / (2 / 3 * 2 / 3)) / -math.log(1 / 3)])
    wide = choice.npmi([("a", "b"), ("a", "x")], reference, window=9)
    assert wide == pytest.approx(choice.npmi([("a", "b"), ("a", "x")], reference))


def test_npmi_is_tomotopys(trained, fitted):
    from tomotopy import coherence, utils

    corpus = trained[0].part(np.arange(40))
    lists = fitted["tomotopy", 1].key_words(8)
    theirs = utils.Corpus()
    for row in range(len(corpus)):
        theirs.add_doc(corpus.words(row))
    kind = coherence.ProbEstimation.DOCUMENT, coherence.Segmentation.ONE_ONE
    kind += coherence.ConfirmMeasure.NPMI, coherence.IndirectMeasure.NONE
    measure = coherence.Coherence(theirs, coherence=kind, top_n=8, targets={w for each in lists for w in each})
    both = np.array([measure.get_score(list(each)) for each in lists])
    assert choice.npmi(lists, corpus) == pytest.approx(both, abs=0.02)


def test_rank_biased_overlap_equals_hand_computations():
    p = 0.9
    assert choice.rank_biased_overlap("abcde", "abcde") == pytest.approx(1)
    assert choice.rank_biased_overlap("abc", "def") == 0
    assert choice.rank_biased_overlap("ab", "ba", p) == pytest.approx(p)
    by_hand = 2 / 3 * p**3 + (1 - p) / p * (p + p**2 / 2 + 2 / 3 * p**3)
    assert choice.rank_biased_overlap("abc", "acd", p) == pytest.approx(by_hand)
    assert choice.rank_biased_overlap("abxx", "abyy", 0.5) > choice.rank_biased_overlap("xxab", "yyab", 0.5)
    with pytest.raises(ValueError, match="same length"):
        choice.rank_biased_overlap("abc", "ab")


def permuted(model, order):
    return models.TopicModel(
        model.engine, model.terms, model.word_probabilities[order], model.alpha, model.document_ids, model.settings
    )


def test_stability_is_one_for_the_same_topics_in_any_order(fitted):
    model, other = fitted["tomotopy", 1], fitted["tomotopy", 2]
    shuffled = permuted(model, [2, 0, 3, 1])
    assert choice.stability([model, shuffled, model]) == pytest.approx([1, 1, 1])
    assert choice.matched_topics(model.key_words(), shuffled.key_words())["second"].tolist() == [1, 3, 0, 2]
    assert choice.stability([shuffled, other]) == pytest.approx(choice.stability([model, other]))
    noise = np.random.default_rng(0).dirichlet(np.ones(len(model.terms)), 4)
    random = models.TopicModel("tomotopy", model.terms, noise, 0.01, (), {})
    assert choice.stability([model, random]) < 0.5 < choice.stability([model, other])
    with pytest.raises(ValueError, match="two seeds"):
        choice.stability([model])


def test_three_measures_and_the_rule_between_them(trained):
    held = words.corpus(planted(40, 7)[0], PLANTED_RULES, terms=trained[0].terms)
    table, each = choice.topic_numbers(
        trained[0], held, held.document_ids, [2, 4, 9], [1, 2], resamples_n=50, iterations=30
    )
    assert set(each) == {(n, s) for n in (2, 4, 9) for s in (1, 2)}
    assert table.groupby("measure").size().to_dict() == {"perplexity": 3, "npmi": 3, "stability": 3}
    wide = table.pivot(index="topics_n", columns="measure", values="estimate")
    assert wide["perplexity"][2] > wide["perplexity"][4] and wide["stability"].idxmax() == 4
    first = table[table["measure"] == "perplexity"].iloc[0]
    assert first["estimate"] == pytest.approx(np.mean([each[2, s].perplexity(held) for s in (1, 2)]))
    assert first["low"] < first["estimate"] < first["high"] and first["n"] == 2
    choices = choice.chosen_number(table, choice.unigram_perplexity(trained[0], held))
    assert choices["chosen"] == choices["stability_above_chance"] == 4
    stable = table[table["measure"] == "stability"].set_index("topics_n")
    assert stable.loc[4, "control"] < 0.5 < stable.loc[4, "least"] <= stable.loc[4, "most"] <= 1
    choice.choice_figure(table, choices, 40.0)


def test_models_are_compared_on_the_same_documents(trained, fitted):
    held = words.corpus(planted(40, 7)[0], PLANTED_RULES, terms=trained[0].terms)
    table = choice.model_table({"one": fitted["tomotopy", 1], "other": fitted["sklearn", 1]}, held)
    assert table["overlap"].tolist() == [pytest.approx(1), pytest.approx(0.95, abs=0.06)]
    assert table.loc["other", "perplexity"] == fitted["sklearn", 1].perplexity(held)
    assert table.loc["one", "npmi"] == choice.npmi(fitted["tomotopy", 1].key_words(10), held).mean()


def test_shuffled_words_have_no_topics(trained):
    corpus = trained[0]
    control = choice.shuffled(corpus, 0)
    assert sorted(control.tokens) == sorted(corpus.tokens) and control.terms == corpus.terms
    held = words.corpus(planted(60, 7)[0], PLANTED_RULES, terms=corpus.terms)
    model = models.fit_topics(control, 4, 1, alpha=0.1, iterations=30)
    assert model.perplexity(held) > 0.9 * choice.unigram_perplexity(corpus, held)


def measured(**columns):
    """Return a table of numbers of topics: by measure estimate, high, least, most and control of each number."""
    each = {"perplexity": [], "npmi": [], "stability": []} | columns
    names = ["topics_n", "estimate", "high", "least", "most", "control"]
    return pd.concat([pd.DataFrame(rows, columns=names).assign(measure=m) for m, rows in each.items()])


def test_the_smallest_number_as_coherent_as_the_best_is_taken():
    high, numbers = np.nan, (5, 10, 20, 40)
    perplexity = [(n, p, p + 5, p - 1, p + 1, 99) for n, p in zip(numbers, (90, 70, 60, 50), strict=True)]
    coherence = [(n, c, high, c - 0.02, c + 0.02, 0) for n, c in zip(numbers, (0.1, 0.29, 0.3, 0.2), strict=True)]
    stable = [(n, v, high, v - 0.1, v, 0.1 * v) for n, v in zip(numbers, (0.9, 0.7, 0.5, 0.6), strict=True)]
    table = measured(perplexity=perplexity, npmi=coherence, stability=stable)
    best = {"perplexity": 40, "npmi": 20, "stability": 5, "stability_above_chance": 5, "chosen": 10}
    assert choice.chosen_number(table, 100) == best
    assert choice.chosen_number(table, 70) == {**best, "chosen": 20}, "10 topics are hardly better than none"
    stable[2] = (20, 0.5, high, 0.4, 0.5, 0.45)
    table = measured(perplexity=perplexity, npmi=coherence, stability=stable)
    assert choice.chosen_number(table, 70) == {**best, "chosen": 40}, (
        "a pair of seeds is no more alike than by chance"
    )
    with pytest.raises(ValueError, match="give more reports"):
        choice.chosen_number(table, 50)


# Levels


def pairs_of(documents, images=2):
    rows = [(f"{d}-{k}", d, text) for d, text in documents for k in range(images)]
    return pd.DataFrame(rows, columns=["image_id", "report_id", "text"])


def test_findings_and_impression_are_read_and_else_the_whole_report():
    english = "INDICATION: cough\nFINDINGS: clear lungs\nIMPRESSION: normal"
    texts = levels.report_texts(pairs_of([("a", english), ("b", "pulmones claros"), ("c", None)]))
    assert texts.to_dict() == {"a": "clear lungs\n\nnormal", "b": "pulmones claros", "c": ""}
    with pytest.raises(ValueError, match="'a' has two texts"):
        levels.report_texts(pd.concat([pairs_of([("a", "one")]), pairs_of([("a", "two")])]))


def test_document_level_drops_small_topics_and_counts_them(trained, fitted):
    corpus, _, _ = trained
    documents, _, _ = planted(150, 0)
    pairs = pairs_of([*documents, ("short", "nothing")])
    level = levels.document_level(pairs, corpus, fitted["tomotopy", 1], least_images=0)
    sizes = level.topics["images_n"]
    assert level.counts["images_without_words_n"] == 2 and level.counts["images_in_dropped_n"] == 0
    assert sizes.sum() == 300 and (sizes == 2 * level.topics["reports_n"]).all()
    assert level.table["topic"].dtype == np.int32 and level.table["share"].dtype == np.float32
    some = levels.document_level(pairs, corpus, fitted["tomotopy", 1], least_images=int(sizes.min()) + 1)
    small = sizes < sizes.min() + 1
    assert some.topics["kept"].tolist() == (~small).tolist()
    assert some.counts["images_in_dropped_n"] == sizes[small].sum() and some.counts["topics_kept_n"] == (~small).sum()
    there = level.table["topic"] >= 0
    dropped = level.table["topic"].isin(np.flatnonzero(small))
    assert (some.table["topic"] == level.table["topic"].where(~dropped, -1)).all()
    assert some.table["share"].notna().equals(there), "a dropped topic keeps its share"


def test_dominant_topics_alone_are_divided():
    big, _, _ = planted(90, 1, topics_n=3)
    rng, colours = np.random.default_rng(0), ["black", "blue", "green", "grey", "red", "white"]
    small = [(f"s{k}", " ".join(rng.choice(colours, 30))) for k in range(20)]
    documents = [(d, f"{text} same same") for d, text in big] + small
    corpus = words.corpus(documents, PLANTED_RULES)
    phi = np.array([[0.001 if (term in colours) == k else 1.0 for term in corpus.terms] for k in (1, 0)])
    model = models.TopicModel("tomotopy", corpus.terms, phi / phi.sum(1, keepdims=True), 0.01, (), {})
    asked = pairs_of(documents), corpus, model, words.WordRules(commonest_n=1), 3
    level = levels.second_level(*asked, 1.5, 5, seed=1, iterations=60)
    assert level.topics["parent"].tolist() in ([0, 0, 0, 1], [0, 1, 1, 1]) and level.counts["images_n"] == 220
    undivided = level.topics.drop_duplicates("parent", keep=False)
    assert undivided["images_n"].tolist() == [40] and "red" in undivided["words"].iloc[0]
    divided = level.topics.drop(undivided.index)
    assert divided["images_n"].sum() == 180 and not divided["words"].str.contains("same").any()
    first = model.shares_of(corpus).max(axis=1)
    share = level.table.drop_duplicates("report_id")["share"].to_numpy()
    assert (share <= first + 1e-6).all() and (share[:90] < first[:90]).any()
    assert len(levels.second_level(*asked, 1.7, 5, seed=1).topics) == 2, "1.7 times an even half is more than 90"
    assert len(levels.second_level(*asked, 1.5, 40, seed=1).topics) == 2, "three topics of 40 images are more than 90"


def test_triplets_are_around_every_sentence_where_none_names_the_image():
    texts = {"r": "One here. Two here. Three here.", "s": "1. Uno aquí. 2. dos aquí.", "t": "", "u": "One. Two."}
    found = dict(levels.triplets_of(pairs_of(list(texts.items()))))
    assert found == {
        "report r#0": "One here. Two here.",
        "report r#1": "One here. Two here. Three here.",
        "report r#2": "Two here. Three here.",
        "report s#0": "Uno aquí. dos aquí.",
        "report u#0": "One. Two.",
    }


def test_triplets_are_around_the_sentences_that_name_the_image():
    text = "FINDINGS: Heart is normal. Opacity on the lateral view. No effusion. Bones intact.\nIMPRESSION: Opacity."
    pairs = pairs_of([("r", text)]).assign(named_in=["Opacity on the lateral view.", ""])
    found = dict(levels.triplets_of(pairs))
    assert found["image r-0 of r#0"] == "Heart is normal. Opacity on the lateral view. No effusion."
    assert sum(each.startswith("image") for each in found) == 1 and "report r#0" in found
    alone = levels.triplets_of(pairs[:1])
    assert [name for name, _ in alone] == ["image r-0 of r#0"], "no image needs the report's"


def test_sentence_level_is_the_mean_of_an_images_triplets(monkeypatch):
    monkeypatch.setattr(levels, "_UNITS", 1)
    model = models.TopicModel("tomotopy", ("a", "b", "c"), TOY, 0.1, (), {})
    found = [("report r#0", "a a a"), ("report r#1", "a"), ("report r#2", "c"), ("image r-1 of r#0", "c c")]
    corpus = words.corpus(found, LOOSE, terms=model.terms)
    level = levels.sentence_level(pairs_of([("r", ""), ("t", "")]), corpus, model, least_images=1)
    shares = model.shares_of(corpus)
    assert level.table["topic"].tolist() == [0, 1, -1, -1]
    assert level.table["share"].tolist()[:2] == pytest.approx([shares[:3, 0].mean(), shares[3, 1]], abs=1e-6)
    assert level.table["share"].isna().tolist() == [False, False, True, True]
    assert level.counts["images_without_words_n"] == 2 and level.topics["reports_n"].tolist() == [1, 1]


# Pages


def test_patients_are_counted_and_not_reports():
    corpus = corpus_of("a b", "a", "a c")
    assert pages.patients_n(corpus).to_dict() == {"a": 3, "b": 1, "c": 1}
    assert pages.patients_n(corpus, ["p", "p", "q"]).to_dict() == {"a": 2, "b": 1, "c": 1}


def test_a_topic_page_shows_no_rare_word_and_needs_no_network():
    topics = pd.DataFrame({"topic": [0, 1], "reports_n": [9, 1], "images_n": [18, 2], "kept": [True, False]})
    topics["words"] = ["lung <b> mrsmith", "rib unknown"]
    frequency = pd.Series({"lung": 50, "<b>": 12, "mrsmith": 9, "rib": 10})
    page = pages.topic_page("Topics & words", "Of simulated reports.", {"document": topics}, frequency, least=10)
    assert "mrsmith" not in page and "unknown" not in page and "lung" in page and "rib" in page
    assert "&lt;b&gt;" in page and "<b>" not in page and "Topics &amp; words" in page
    assert not re.search(r"https?://|src=|<link|@import", page) and page.count("<details") == 2
    assert page.count("dropped</span>") == 1


def test_an_intruder_is_never_of_its_own_topic(trained, fitted):
    corpus, own, _ = trained
    model = fitted["tomotopy", 1]
    of_topic = dict(
        zip(*choice.matched_topics(model.key_words(12), own)[["first", "second"]].T.to_numpy(), strict=True)
    )
    for seed in range(30):
        questions = pages.intrusion_questions(model, pages.patients_n(corpus), seed)
        assert sorted(questions["topic"]) == [0, 1, 2, 3]
        for row in questions.itertuples():
            assert row.intruder not in own[of_topic[row.topic]] and row.intruder in row.words
            assert set(row.words) - {row.intruder} == set(model.key_words(5)[row.topic])
            assert len(set(row.words)) == 6


def test_rare_words_are_in_no_question(trained, fitted):
    rare = fitted["tomotopy", 1].key_words(1)[0][0]
    frequency = pages.patients_n(trained[0])
    frequency[rare] = 9
    questions = pages.intrusion_questions(fitted["tomotopy", 1], frequency, 0)
    assert not any(rare in each for each in questions["words"])
    assert pages.intrusion_questions(fitted["tomotopy", 1], frequency * 0, 0).empty


def test_the_intrusion_page_does_not_give_the_answers_away_and_readers_are_scored(tmp_path, trained, fitted):
    questions = pages.intrusion_questions(fitted["tomotopy", 1], pages.patients_n(trained[0]), 0)
    page, answers = pages.intrusion_page("Which word?", questions)
    assert page.count("<fieldset") == 4 and page.count('type="radio"') == 24
    assert "intruder" not in page and not re.search(r"https?://|src=", page)
    (tmp_path / "answers.json").write_text(answers)
    known = json.loads(answers)
    right = [("ann", q, known[q]["intruder"]) for q in known]
    wrong = [("bob", q, known[q]["intruder"] if q == "q1" else "other") for q in ("q1", "q2")]
    files = []
    for name, rows in (("ann", right), ("bob", wrong)):
        files.append(tmp_path / f"{name}.csv")
        pd.DataFrame(rows, columns=["reader", "question", "word"]).to_csv(files[-1], index=False)
    table, overall = pages.intrusion_scores(tmp_path / "answers.json", files)
    assert table["precision"].tolist() == [1, 0.5, 1, 1] and table["readers_n"].tolist() == [2, 2, 1, 1]
    assert overall.estimate == pytest.approx(3.5 / 4)
    with pytest.raises(ValueError, match="answers q1 twice"):
        pages.intrusion_scores(tmp_path / "answers.json", [files[0], files[0]])
    files[1].write_text("reader,question,word\nbob,q99,a\n")
    with pytest.raises(ValueError, match="'q99' was not asked"):
        pages.intrusion_scores(tmp_path / "answers.json", files)


# Vectors


@pytest.fixture(scope="module")
def spoken():
    rng = np.random.default_rng(0)
    left, right = ["effusion", "pleural", "fluid", "blunted"], ["rib", "fracture", "bone", "healed"]
    texts = [" ".join(rng.choice(left if k % 2 else right, 12)) for k in range(300)]
    return corpus_of(*texts, "A pleural effusion", rules=vectors.VECTOR_RULES)


@pytest.fixture(scope="module")
def learned(spoken):
    return vectors.train_vectors(spoken, 1, size=16, sample=0, epochs=5)


def test_words_of_the_same_reports_are_near_and_training_repeats_itself(spoken, learned):
    assert set(learned.nearest(learned.of("rib"), 3, ["rib"]).index) == {"fracture", "bone", "healed"}
    assert learned.nearest(learned.of("rib"), 1)["rib"] == pytest.approx(1, abs=1e-5)
    again = vectors.train_vectors(spoken, 1, size=16, sample=0, epochs=5)
    assert again.words == learned.words and (again.matrix == learned.matrix).all()
    assert learned.matrix.dtype == np.float32 and "a" not in learned, "it occurs once"
    some = learned.only(["rib", "unheard", "bone"])
    assert sorted(some.words) == ["bone", "rib"] and (some.of("rib") == learned.of("rib")).all()


def test_vectors_come_back_from_their_table(tmp_path, learned):
    learned.save(tmp_path / "vectors.parquet")
    table = pd.read_parquet(tmp_path / "vectors.parquet")
    assert list(table.columns[:2]) == ["word", "v0"] and table.shape == (8, 17)
    back = vectors.load_vectors(tmp_path / "vectors.parquet")
    assert back.words == learned.words and (back.matrix == learned.matrix).all()
    table.drop(columns="v0").to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="no table of word vectors"):
        vectors.load_vectors(tmp_path / "other.parquet")


def test_terms_of_disease_are_those_that_reports_have(spoken, learned):
    terms = vectors.disease_terms(spoken, learned)
    found = set(terms[["finding", "term"]].itertuples(index=False, name=None))
    assert {("effusion", "effusion"), ("effusion", "pleural fluid"), ("fracture", "healed fracture")} <= found
    joined = [" ".join(spoken.words(k)) for k in range(len(spoken))]
    for row in terms.itertuples():
        assert row.reports_n == sum(bool(re.search(rf"\b{row.term}\b", text)) for text in joined) >= 5


def test_vectors_of_terms_are_means_or_pairs(learned):
    rib, bone = learned.of("rib"), learned.of("bone")
    assert vectors.term_vectors(learned, ["rib bone"])[0] == pytest.approx((rib + bone) / 2)
    pair = vectors.term_vectors(learned, ["rib bone", "rib"], "pair")
    assert (pair == [[*rib, *bone], [*rib, *rib]]).all()
    assert vectors.term_vectors(learned, [], "pair").shape == (0, 32)
    for terms, form in ((["rib bone rib"], "pair"), ([""], "mean"), (["rib"], "sum")):
        with pytest.raises(ValueError, match=r"words|form"):
            vectors.term_vectors(learned, terms, form)
    with pytest.raises(KeyError, match="'unheard' has no vector"):
        vectors.term_vectors(learned, ["unheard"])


def test_too_few_words_for_vectors_are_refused():
    with pytest.raises(ValueError, match="give more reports"):
        vectors.train_vectors(corpus_of("a b"), 1)
