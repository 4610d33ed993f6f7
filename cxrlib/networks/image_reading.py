"""An approximate reading of one image by what was mined from an archive: topic, words, findings, nearest reports.

Notebook 17 keeps its networks with `save_reader`, and `cxr read` opens them with `open_reader`. It is research: an
archive's reports taught these networks, with all of their errors, and nobody has tested them on patients.
"""

import json
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from cxrlib.base import paths, weight_files
from cxrlib.networks import (
    architectures,
    batches,
    presence,
    short_training,
    topic_networks,
    trained_runs,
    word_networks,
)
from cxrlib.statistics import calibration

_NETWORKS = ("topics", "words", "findings", "joint")


_REMEDY = "make the networks of notebook 17 again"


_FIELDS = {
    "settings": dict,
    "outputs": dict,
    "topics": list,
    "prior": list,
    "findings": list,
    "key_words": list,
    "scaling": list,
    "thresholds": list,
    "size_px": int,
    "store_px": int,
}


_FILES = ("reading.json", "topics.safetensors", "findings.safetensors", "joint.safetensors", "reports.parquet")


@dataclass(frozen=True)
class ImageReading:
    """What the networks make of one image.

    Attributes
    ----------
    topics : pandas.DataFrame
        `topic, probability, words` of the most probable topics, the first first.
    words : pandas.DataFrame
        `word, cosine`: disease words among those topics' key words, the nearest first; empty without a word network.
    findings : pandas.DataFrame
        `finding, probability, threshold, present`; the probability is calibrated.
    nearest : pandas.DataFrame
        `report_id, image_id, similarity` of training reports, the nearest first, each text once.
    """

    topics: pd.DataFrame
    words: pd.DataFrame
    findings: pd.DataFrame
    nearest: pd.DataFrame


@dataclass(frozen=True)
class Reader:
    """Opened networks.

    Attributes
    ----------
    about : dict
        `reading.json`: `architecture, store_px, size_px, findings, calibrated_by` and so on.
    topics : topic_networks.TopicNetwork
    words : word_networks.WordNetwork or None
    findings : torch.nn.Module
    image_network : torch.nn.Module
        Of the joint embedding.
    reports : pandas.DataFrame
        `report_id, image_id, group` and the vector of each training report.
    """

    about: dict
    topics: topic_networks.TopicNetwork
    words: word_networks.WordNetwork | None
    findings: object
    image_network: object
    reports: pd.DataFrame

    def fitted(self, square):
        """Return an image of `store_px` a side at the size that the networks take, (1, size_px, size_px) uint8."""
        return short_training.shrunk(np.asarray(square)[None], self.about["size_px"])

    def read(self, square, nearest_n=3):
        """Return the `ImageReading` of an image.

        Parameters
        ----------
        square : (store_px, store_px) uint8
            As in the packed cohort.
        nearest_n : int
        """
        image = self.fitted(square), np.arange(1)
        chance = self.topics.probabilities(*image)
        first = np.argsort(-chance[0], kind="stable")[:3]
        key_words = self.about["key_words"]
        topics = {"topic": self.topics.topics[first], "probability": chance[0, first]}
        found = presence.finding_probabilities(self.findings, *image)
        found = calibration.platt_scaled(found, np.array(self.about["scaling"]))[0]
        findings = pd.DataFrame({"finding": self.about["findings"], "probability": found})
        findings["threshold"] = self.about["thresholds"]
        return ImageReading(
            pd.DataFrame({**topics, "words": [key_words[k] for k in first]}),
            self._words(image, chance),
            findings.assign(present=findings["probability"] >= findings["threshold"]),
            self._nearest(image, nearest_n),
        )

    def _words(self, image, chance):
        if self.words is None:
            return pd.DataFrame({"word": [], "cosine": []})
        among = word_networks.topic_words(chance, self.about["key_words"], self.words.words)[0]
        table = pd.DataFrame({"word": self.words.words, "cosine": self.words.scores(*image)[0]})[among]
        return table.sort_values("cosine", ascending=False, kind="stable").reset_index(drop=True)

    def _nearest(self, image, nearest_n):
        vector = short_training.outputs(self.image_network, *image)[0]
        vector = vector / max(float(np.linalg.norm(vector)), 1e-12)
        table = self.reports[["report_id", "image_id", "group"]].copy()
        table["similarity"] = self.reports.filter(regex=r"^v\d+$").to_numpy(np.float32) @ vector
        table = table.sort_values("similarity", ascending=False, kind="stable").drop_duplicates("group")
        return table.drop(columns="group").head(nearest_n).reset_index(drop=True)


def reader_dir(edition):
    """Return the folder of the networks that an edition's archive taught (notebook 17)."""
    return paths.ROOT / "data" / "mining_networks" / edition


def report_vectors(pairs, embedding, features):
    """Return training reports with their vectors: `report_id, image_id, group, v0, v1, ...`, a row each report.

    Parameters
    ----------
    pairs : mined_pairs.MinedPairs
    embedding : joint.JointEmbedding
    features : (n, d) array or sparse matrix
        Of the report of each pair.
    """
    at = pairs.at("train")
    vectors = embedding.embed_texts(features[at])
    known = pairs.table.iloc[at][["report_id", "image_id"]].reset_index(drop=True).assign(group=pairs.group[at])
    table = pd.concat([known, pd.DataFrame(vectors, columns=[f"v{k}" for k in range(vectors.shape[1])])], axis=1)
    return table.drop_duplicates("report_id").reset_index(drop=True)


def save_reader(folder, *, settings, topics, key_words, words, findings, embedding, reports, about):
    """Write networks so that `open_reader` opens them.

    Parameters
    ----------
    folder : Path
    settings : short_training.ShortSettings
    topics : topic_networks.TopicNetwork
        Of the document level.
    key_words : sequence of str
        Of each of its topics, space-separated.
    words : word_networks.WordNetwork or None
    findings : torch.nn.Module
    embedding : joint.JointEmbedding
    reports : pandas.DataFrame
        Of `report_vectors`.
    about : Mapping
        `edition, cohort, store_px, size_px, findings, scaling, thresholds, calibrated_by`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entry = {**about, "settings": asdict(settings), "key_words": list(key_words)}
    entry |= {"topics": topics.topics.tolist(), "prior": topics.prior.tolist()}
    entry["outputs"] = {"topics": len(topics.topics), "findings": len(about["findings"])}
    entry["outputs"]["joint"] = embedding.network.num_classes
    architectures.save_network(topics.network, folder / "topics.safetensors")
    architectures.save_network(findings, folder / "findings.safetensors")
    architectures.save_network(embedding.network, folder / "joint.safetensors")
    if words is not None:
        architectures.save_network(words.network, folder / "words.safetensors")
        bounds = pd.DataFrame({"low": words.low, "high": words.high})
        bounds.to_parquet(folder / "word_bounds.parquet", index=False)
        columns = {f"v{k}": column for k, column in enumerate(words.matrix.T)}
        pd.DataFrame({"word": words.words, **columns}).to_parquet(folder / "words.parquet", index=False)
        entry["outputs"]["words"] = len(words.low)
    reports.to_parquet(folder / "reports.parquet", index=False)
    (folder / "reading.json").write_text(json.dumps(entry, indent=2) + "\n", encoding="utf-8")


def open_reader(folder):
    """Return the `Reader` of a folder.

    Raises
    ------
    FileNotFoundError
        If it has no such networks.
    ValueError
        If its files are damaged or do not belong together.
    """
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} has no {' and no '.join(missing)}: run `make repro` for an edition with an archive, whose "
            "notebook 17 makes them, or name their folder by --networks."
        )
    try:
        about = _about(folder)
        networks = {name: _opened(folder, name, about) for name in _NETWORKS if name in about["outputs"]}
        topics = topic_networks.TopicNetwork(
            networks["topics"], np.array(about["topics"], np.int64), np.array(about["prior"]), []
        )
        words = None
        if "words" in networks:
            bounds, table = (pd.read_parquet(folder / name) for name in ("word_bounds.parquet", "words.parquet"))
            low, high = (bounds[name].to_numpy(np.float32) for name in ("low", "high"))
            matrix = table.drop(columns="word").to_numpy(np.float32)
            words = word_networks.WordNetwork(networks["words"], low, high, tuple(table["word"]), matrix, [])
        reports = pd.read_parquet(folder / "reports.parquet")
    except (KeyError, TypeError, OverflowError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise ValueError(f"{folder} does not hold the networks of notebook 17 ({reason}): make them again.") from None
    return Reader(about, topics, words, networks["findings"], networks["joint"], reports)


def _about(folder):
    """Return `reading.json`, checked as far as memory and files' names hang on it."""
    about = weight_files.read_record(folder / "reading.json", _FIELDS, _REMEDY)
    if not about["findings"] or not all(map(weight_files.is_plain_name, about["findings"])):
        raise ValueError("reading.json names findings that are no names")
    if not 0 < about["size_px"] <= about["store_px"] <= trained_runs.MOST_PX:
        raise ValueError(f"reading.json has images of {about['size_px']} and {about['store_px']} px")
    return about


def _opened(folder, name, about):
    network = architectures.load_network(
        folder / f"{name}.safetensors", about["settings"]["architecture"], about["outputs"][name]
    )
    return network.eval().to(batches.device())
