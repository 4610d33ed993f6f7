"""All that notebook 17 trains, part by part: what networks learn from an archive, and what they give test images.

Each part returns a table image by image, without text, as notebook 24 reads it. Networks are kept, since later parts
start from them. Beside every result from images to text stands the control, the same training on shuffled pairs.
"""

import itertools

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from cxrlib.networks import (
    image_reading,
    interleaving,
    joint,
    mined_pairs,
    presence,
    report_retrieval,
    routes,
    short_training,
    topic_networks,
    word_networks,
)
from cxrlib.statistics import calibration
from cxrlib.topics import vectors, words

NO_DISEASE = ("no_finding", "support_devices")  # what the rules read and no network here is to find


class MiningRuns:
    """The trainings of one archive.

    Parameters
    ----------
    pairs : mined_pairs.MinedPairs
    topic : Mapping of str to (n,) int
        By level the topic of each pair; `document` must be there.
    study : Mapping
        `mining.image_to_text` of `params.yaml`.

    Attributes
    ----------
    seeds : list of int
    orders : dict of int to (n,) int64
        By seed which report each pair has in the control.
    topic_networks, finding_networks : dict of int to network
        By seed; filled by `topics` and `findings`.
    words_found : tuple of str
        The words that `words` looks through.
    unscored : dict of str to int
        Test pairs that a part does not score.
    """

    def __init__(self, pairs, topic, study):
        self.pairs, self.topic, self._study = pairs, topic, study
        self._how, self.seeds = short_training.ShortSettings(**study["training"]), list(study["seeds"])
        self.orders = {
            seed: mined_pairs.shuffled_order(pairs.table, study["shuffle_seed"] + seed) for seed in self.seeds
        }
        self._train, self._valid, self._test = (pairs.at(part) for part in mined_pairs.PARTS)
        self._image_id = pairs.table["image_id"].to_numpy(object)
        self.topic_networks, self.finding_networks, self.unscored, self.words_found = {}, {}, {}, ()
        self._in_vain, self._seen, self._words, self._embedding = {}, {}, None, None  # control networks by part, seed

    def _dealt(self, learned, seed):
        """Return which report each pair has: its own, or in the control another's."""
        return np.arange(len(self.orders[seed])) if learned == routes.TRUE_PAIRS else self.orders[seed]

    def _taught_topics(self, level, seed, learned=routes.TRUE_PAIRS, start=None):
        label = self.topic[level][self._dealt(learned, seed)][self._train]
        images, rows = self.pairs.images, self.pairs.rows[self._train]
        return topic_networks.train_topics(images, rows, label, self._how, seed, start)

    def _identified(self, table, **where):
        """Return scores with `image_id` for the position among test pairs, and columns that are the same in each."""
        table = table.assign(image_id=self._image_id[self._test][table["at"]], **where)
        return table.drop(columns="at")

    def _look(self, network):
        return network.probabilities(self.pairs.images, self.pairs.rows[self._test])

    def topics(self):
        """Train a network a seed on topics of documents and its control, and of one seed those of the other levels.

        Returns
        -------
        pandas.DataFrame
            `level, pairs, seed, model, image_id, top1, top5, bits` (`topic_networks.topic_scores`); the model
            `network, from scratch` did not start from the level before.
        """
        first, parts = self.seeds[0], []
        for seed in self.seeds:
            network = self.topic_networks[seed] = self._taught_topics("document", seed)
            self._seen[routes.TRUE_PAIRS, seed] = self._look(network)
            parts.append(self._topic_scores("document", network, self._seen[routes.TRUE_PAIRS, seed], seed))
        before = self.topic_networks[first]
        for level in [name for name in self.topic if name != "document"]:
            for name, start in (("network", before.network), ("network, from scratch", None)):
                network = self._taught_topics(level, first, start=start)
                parts.append(self._topic_scores(level, network, self._look(network), first, name))
                before = network if start is not None else before
        for seed in self.seeds:
            network = self._taught_topics("document", seed, routes.SHUFFLED_PAIRS)
            seen = self._look(network)
            self._in_vain["topics", seed], self._seen[routes.SHUFFLED_PAIRS, seed] = network, seen
            control = self._topic_scores("document", network, seen, seed)
            parts.append(control[control["model"] == "network"].assign(pairs=routes.SHUFFLED_PAIRS))
        parts.append(self._told_topics())
        return pd.concat(parts, ignore_index=True)

    def _told_topics(self):
        """Return how well the findings that a report itself names tell its topic: what no image has to show."""
        said = (self.pairs.labels == 1).to_numpy(float)
        train, test = (part[self.topic["document"][part] >= 0] for part in (self._train, self._test))
        model = LogisticRegression(max_iter=1000).fit(said[train], self.topic["document"][train])
        known = model.classes_, np.full(len(model.classes_), 1 / len(model.classes_)), self.topic["document"][test]
        scores, _ = topic_networks.topic_scores(model.predict_proba(said[test]), *known)
        told = scores[scores["model"] == "network"].assign(model=routes.FINDINGS_OF_REPORT)
        told = told.assign(image_id=self._image_id[test][told["at"]]).drop(columns="at")
        return pd.concat([told.assign(level="document", pairs=routes.TRUE_PAIRS, seed=seed) for seed in self.seeds])

    def _topic_scores(self, level, network, seen, seed, name="network"):
        known = network.topics, network.prior, self.topic[level][self._test]
        scores, self.unscored[f"topics, {level}"] = topic_networks.topic_scores(seen, *known)
        if name != "network":
            scores = scores[scores["model"] == "network"].assign(model=name)
        return self._identified(scores, level=level, pairs=routes.TRUE_PAIRS, seed=seed)

    def words(self, word_vectors, key_words):
        """Train a network a seed on the vectors of disease terms, started from the seed's topics; and the control.

        Parameters
        ----------
        word_vectors : vectors.WordVectors
        key_words : Mapping of int to str
            By topic of documents, space-separated.

        Returns
        -------
        pandas.DataFrame
            `pairs, seed, candidates, model, image_id, r1, r5, r10` (`word_networks.word_scores`).
        """
        corpus = words.corpus(((k, self.pairs.texts[k]) for k in self._train), vectors.VECTOR_RULES)
        terms = vectors.disease_terms(corpus, word_vectors, self._study["words"]["least_reports"])
        terms = terms["term"][~terms["finding"].isin(NO_DISEASE)].unique()
        said, parts = word_networks.asserted_terms(self.pairs.readings, terms), []
        self._key_words = [key_words.get(t, "") for t in self.topic_networks[self.seeds[0]].topics]
        for seed, learned in itertools.product(self.seeds, (routes.TRUE_PAIRS, routes.SHUFFLED_PAIRS)):
            network, scores = self._word_scores(said, word_vectors, key_words, learned, seed)
            if self._words is None:
                self._words, self.words_found = network, network.words
            parts.append(self._identified(scores, pairs=learned, seed=seed))
        return pd.concat(parts, ignore_index=True)

    def _word_scores(self, said, word_vectors, key_words, learned, seed):
        """Train one network on words; return it and `word_networks.word_scores`, of the control the network's."""
        pairs, train, test = self.pairs, self._train, self._test
        control = learned == routes.SHUFFLED_PAIRS
        dealt = self._dealt(learned, seed)[train]
        of_topics = self._in_vain["topics", seed] if control else self.topic_networks[seed]
        options = {"start": of_topics.network, "epochs": self._study["words"]["epochs"]}
        taught = pairs.rows[train], [said[k] for k in dealt], word_vectors, self._how, seed
        network = word_networks.train_words(pairs.images, *taught, **options)
        right = word_networks.words_of(said, network.words)
        names = [key_words.get(t, "") for t in of_topics.topics]
        chosen = word_networks.topic_words(self._seen[learned, seed], names, network.words)
        among = {"all disease words": np.ones_like(right[test]), "key words of three topics": chosen}
        score = network.scores(pairs.images, pairs.rows[test])
        scores, self.unscored["words"] = word_networks.word_scores(score, right[test], right[dealt].sum(0), among)
        return network, scores[scores["model"] == "network"] if control else scores

    def findings(self, findings, weak, clean):
        """Train a network a seed on what the rules read, and send the topic networks' outputs through their topics.

        Parameters
        ----------
        findings : sequence of f str
        weak, clean : (n, f) float
            What the rules read of each pair; what calibrates on validation images (the same if nothing better is
            known). 1, 0, NaN.

        Returns
        -------
        pandas.DataFrame
            `route, seed, finding, image_id, probability, calibrated, called`; the last two are of `strictly
            supervised` alone: calibrated on validation images, and 1 from where F1 is best there.
        """
        pairs, train, test = self.pairs, self._train, self._test
        self.names, self._weak, self._clean = list(findings), weak, clean
        parts, where = [], (self.names, self._image_id[test])
        for seed in self.seeds:
            taught = pairs.images, pairs.rows[train], weak[train], self._how, seed
            network = self.finding_networks[seed] = presence.train_findings(*taught)
            found, scaled, thresholds = self._calibrated(network, clean)
            table = presence.long_scores(found, *where, route=routes.STRICT, seed=seed)
            table["calibrated"] = presence.long_scores(scaled, *where)["probability"]
            table["called"] = presence.long_scores(np.float32(scaled >= thresholds), *where)["probability"]
            parts.append(table)
            topics, seen = self.topic_networks[seed], self._seen[routes.TRUE_PAIRS, seed]
            implied = presence.through_topics(seen, topics.topics, self.topic["document"][train], weak[train])
            parts.append(presence.long_scores(implied, *where, route=routes.BY_TOPICS, seed=seed))
            taught = pairs.images, pairs.rows[train], weak[self.orders[seed]][train], self._how, seed
            network = presence.train_findings(*taught)
            self._in_vain["findings", seed] = network
            control = {"route": f"{routes.STRICT}, shuffled pairs", "seed": seed}
            found = presence.finding_probabilities(network, pairs.images, pairs.rows[test])
            parts.append(presence.long_scores(found, *where, **control))
        return pd.concat(parts, ignore_index=True)

    def _calibrated(self, network, labels):
        """Return a network's probabilities of test pairs, as they come and calibrated, and where present begins."""
        scaling, thresholds = self._calibration(network, labels)
        found = presence.finding_probabilities(network, self.pairs.images, self.pairs.rows[self._test])
        return found, calibration.platt_scaled(found, scaling), thresholds

    def _calibration(self, network, labels):
        """Return a network's scaling and thresholds, fitted on validation pairs by `labels` (n, f)."""
        before = presence.finding_probabilities(network, self.pairs.images, self.pairs.rows[self._valid])
        known = labels[self._valid]
        scaling = calibration.platt_scaling(known, before)
        return scaling, presence.best_thresholds(known, calibration.platt_scaled(before, scaling))

    def retrieval(self):
        """Train a joint embedding a seed, and look for the report of each test image and the image of each report.

        At most `retrieval_most` test pairs are looked through, patient by patient at random. Classifiers are
        calibrated by what the reports of validation images say, in the control by those dealt to them.

        Returns
        -------
        pandas.DataFrame
            `pairs, seed, model, direction, image_id, above, tied, wrong_n, ndcg` (`report_retrieval.retrieved`).
        """
        pairs, study = self.pairs, self._study["joint"]
        patient = pairs.table["patient_id"].to_numpy(object)[self._test]
        some = np.sort(presence.labelled_order(patient, self.seeds[0])[: self._study["retrieval_most"]])
        test, self.unscored["retrieval"] = self._test[some], len(self._test) - len(some)
        of_texts = joint.TextFeatures([pairs.texts[k] for k in self._train], study["text_encoder"])
        self._features = of_texts.of(pairs.texts)
        said = (pairs.labels.drop(columns="no_finding").abs() == 1).to_numpy()[test]
        known, parts = (pairs.group[test], pairs.group[self._train], len(some)), []
        blind = {("chance", routes.TRUE_PAIRS): np.zeros((len(some), len(some)), np.float32)}
        blind["commonest report", routes.TRUE_PAIRS] = report_retrieval.commonest_scores(*known)
        for (model, learned), score in blind.items():
            table = report_retrieval.retrieved(score, pairs.group[test], said).assign(model=model, pairs=learned)
            parts += [table.assign(seed=seed) for seed in self.seeds]
        for seed, learned in itertools.product(self.seeds, (routes.TRUE_PAIRS, routes.SHUFFLED_PAIRS)):
            for model, score in self._pair_scores(learned, seed, some).items():
                table = report_retrieval.retrieved(score, pairs.group[test], said)
                parts.append(table.assign(model=model, pairs=learned, seed=seed))
        table = pd.concat(parts, ignore_index=True)
        return table.assign(image_id=self._image_id[test][table["at"]]).drop(columns="at")

    def _pair_scores(self, learned, seed, some):
        """Return scores of test images by test reports, by model, of one seed; `some` are the test pairs used."""
        pairs, test, control = self.pairs, self._test[some], learned == routes.SHUFFLED_PAIRS
        dealt, train = self._dealt(learned, seed), self._train
        topics = self._in_vain["topics", seed] if control else self.topic_networks[seed]
        by_topic = self._seen[learned, seed][some], topics.topics, self.topic["document"][test]
        scores = {"topic neighbours": report_retrieval.topic_neighbour_scores(*by_topic)}
        network = self._in_vain["findings", seed] if control else self.finding_networks[seed]
        found = self._calibrated(network, self._weak[dealt])[1][some]
        labels, prior = pairs.labels[self.names].to_numpy(float)[test], np.nanmean(self._weak[dealt][train], axis=0)
        scores["classifier neighbours"] = report_retrieval.label_neighbour_scores(found, labels, prior)
        study = self._study["joint"]
        given = self._features[dealt[train]], pairs.group[dealt[train]], self._how, seed, study["embedding_n"]
        options = {"start": topics.network, "epochs": study["epochs"]}
        embedding, _ = joint.train_joint(pairs.images, pairs.rows[train], *given, **options)
        seen = embedding.embed_images(pairs.images, pairs.rows[test])
        scores["joint"] = seen @ embedding.embed_texts(self._features[test]).T
        self._embedding = self._embedding or embedding
        return scores

    def trade(self):
        """Train by every route on few or many labels, clean or weak (`presence.trade_curve`).

        Returns
        -------
        pandas.DataFrame
            `route, images_n, seed, finding, image_id, probability`.
        """
        train, test = ({"rows": self.pairs.rows[part]} for part in (self._train, self._test))
        train |= {"patient_id": self.pairs.table["patient_id"].to_numpy(object)[self._train]}
        train |= {routes.CLEAN: self._clean[self._train], routes.WEAK: self._weak[self._train]}
        test["image_id"] = self._image_id[self._test]
        starts = None
        if self._study["topics_then_clean"]:
            starts = {seed: network.network for seed, network in self.topic_networks.items()}
        asked = self._study["trade_sizes"], self.finding_networks, self._how, starts
        return presence.trade_curve(self.pairs.images, train, test, self.names, *asked)

    def rounds(self, truth):
        """Go through the rounds of text and images in turns, of the text alone, and of shuffled image features.

        Parameters
        ----------
        truth : (n, f) float
            That measures what groups know, 1, 0, NaN; the rounds never see it.

        Returns
        -------
        scores : pandas.DataFrame
            `arm, seed, round, route, finding, image_id, probability` (`interleaving.round_scores`).
        about : pandas.DataFrame
            `arm, seed, round, adjusted_rand, mutual_information, moved_n`.
        """
        study = dict(self._study["rounds"])
        size, seeds = study.pop("text_size"), self.seeds[: study.pop("seeds_n")]
        rounds = interleaving.InterleavingSettings(**study)
        used = np.sort(np.r_[self._train, self._test])
        trained = np.isin(used, self._train)
        text = interleaving.dense_text(self._features[used], trained, size, self.seeds[0])
        given = self.pairs.images, self.pairs.rows[used], self.pairs.table["patient_id"].to_numpy(object)[used]
        given += (text, self.topic["document"][used], trained, self._how, rounds)
        told = trained, np.asarray(truth)[used], self.names, self._image_id[used]
        parts, about = [], []
        for seed in seeds:
            start = interleaving.start_rounds(*given, seed)
            for arm in (routes.IMAGES, routes.TEXT_ALONE, routes.SHUFFLED_IMAGES):
                for done in (start.first, *interleaving.later_rounds(start, arm)):
                    scores, row = interleaving.round_scores(done, arm, seed, *told)
                    parts.append(scores)
                    about.append(row)
        return pd.concat(parts, ignore_index=True), pd.DataFrame(about)

    def images(self, label_sets):
        """Return the test images with their labels: `image_id, patient_id, <label set>.<finding>`.

        Parameters
        ----------
        label_sets : Mapping of str to (n, f) float
            By name, of each pair and of the findings.
        """
        table = self.pairs.table[["image_id", "patient_id"]].iloc[self._test].reset_index(drop=True)
        for name, labels in label_sets.items():
            for k, finding in enumerate(self.names):
                table[f"{name}.{finding}"] = np.asarray(labels, np.float32)[self._test, k]
        return table.drop_duplicates("image_id").reset_index(drop=True)

    def keep_reader(self, folder, about):
        """Write the first seed's networks for `cxr read`.

        Parameters
        ----------
        folder : Path
        about : Mapping
            `edition, cohort, store_px, calibrated_by`.
        """
        seed, pairs = self.seeds[0], self.pairs
        network = self.finding_networks[seed]
        scaling, thresholds = self._calibration(network, self._clean)
        entry = {"scaling": scaling.tolist(), "thresholds": thresholds.tolist(), "findings": self.names}
        image_reading.save_reader(
            folder,
            settings=self._how,
            topics=self.topic_networks[seed],
            key_words=self._key_words,
            words=self._words,
            findings=network,
            embedding=self._embedding,
            reports=image_reading.report_vectors(pairs, self._embedding, self._features),
            about={**about, **entry, "size_px": pairs.images.shape[1]},
        )
