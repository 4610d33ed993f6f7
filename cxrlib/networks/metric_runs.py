"""All that notebook 18 trains: heads of every loss on the vectors of fine-tuned networks, and their controls.

As the abstract of Jin et al. 2023 reads, a network is fine-tuned first and its vectors are mapped afterwards. So
every loss trains a head on the same stored vectors of the same networks, from the same seeds, for as many steps, and
with a search of the learning rate that is as large. Each part returns a table, image by image, for notebook 25.
"""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import torch
from scipy.special import expit, logit
from sklearn.ensemble import HistGradientBoostingClassifier

from cxrlib.base import label_tables, paths, runs, whole_files
from cxrlib.cohorts import shortcuts
from cxrlib.cohorts.store import open_store
from cxrlib.networks import architectures, heads, losses, metric_scores, name_vectors, training
from cxrlib.statistics import calibration

_PARTS = ("train", "valid", "test")
_CLASSES = {"positives": 1, "negatives": 0}


@dataclasses.dataclass(frozen=True)
class Vectors:
    """The vectors of one fine-tuned network, and the labels that heads on them learn.

    Attributes
    ----------
    findings : list of str
        That the network learned, and heads learn.
    x : dict of str to (n, d) float32
        By part; standardised by the training part (`standardised`).
    y : dict of str to (n, f) float32
        Of the training and validation parts: 1, 0, NaN.
    """

    findings: list
    x: dict
    y: dict


def standardised(x):
    """Return vectors by part, (n, d) float32, less the training part's mean and divided by its spread."""
    mean, spread = x["train"].mean(0), x["train"].std(0)
    return {part: np.float32((each - mean) / np.where(spread > 0, spread, 1)) for part, each in x.items()}


class MetricRuns:
    """The trainings of study 5.

    Parameters
    ----------
    edition, cohort : str
    settings : Mapping
        `params.yaml`.

    Attributes
    ----------
    findings : list of str
        In the order of the first target.
    test : pandas.DataFrame
        `image_id, patient_id` of the test images.
    left_out : dict of str to str
        Rows of `prototypes` that could not be made, and why: an encoder's file may have names alone.
    """

    def __init__(self, edition, cohort, settings):
        self.edition, self.cohort, self._settings = edition, cohort, settings
        self._study, self._store = settings["metric"], open_store(cohort)
        self.seeds = list(self._study["seeds"])
        self.findings = list(settings["targets"][self._study["targets"][0]]["findings"])
        split = pd.read_parquet(paths.split_path(edition))
        self._test_ids = split["image_id"][split["split"] == "test"].to_numpy(object)
        of_image = self._store.index.set_index("image_id")
        self.test = of_image.loc[self._test_ids, ["patient_id"]].reset_index()
        self._fit = heads.FitSettings(**self._study["fit"])
        self.left_out = {}
        self._vectors, self._rates, self._heads, self._images = {}, {}, {}, self._store.images
        self._true = self._named(self._study["prompt"])

    def images(self):
        """Return the test images with the labels that score them: `image_id, patient_id, <label set>.<finding>`."""
        table = self.test
        for name in self._study["scored_against"]:
            labels = label_tables.load(self.cohort, name).reindex(self._test_ids)
            for finding in [f for f in self.findings if f in labels]:
                values = label_tables.apply_policy(labels[finding].to_numpy(float), self._study["policy"])
                table = table.assign(**{f"{name}.{finding}": np.float32(values)})
        return table

    def training(self):
        """Return the training labels of each finding: `target, trained_on, finding, positives_n, negatives_n`."""
        rows = []
        for target in dict.fromkeys((*self._study["targets"], *self._study["zero_shot"])):
            table = pd.read_parquet(paths.target_path(self.edition, target))
            table = table[table["split"] == "train"]
            for finding in self._settings["targets"][target]["findings"]:
                where = {"target": target, "trained_on": self._trained_on(target), "finding": finding}
                counts = {f"{name}_n": int((table[finding] == k).sum()) for name, k in _CLASSES.items()}
                rows.append({**where, **counts})
        return pd.DataFrame(rows)

    def _trained_on(self, target):
        return self._settings["targets"][target]["label_set"]

    def vectors(self, target, seed):
        """Return the `Vectors` of one network, and keep them in `data/metric_vectors/`."""
        if (target, seed) not in self._vectors:
            architecture = self._study["architecture"]
            table = pd.read_parquet(paths.target_path(self.edition, target))
            findings = [c for c in table if c not in ("image_id", "split")]
            ids = {part: table["image_id"][table["split"] == part].to_numpy(object) for part in _PARTS[:2]}
            ids["test"] = self._test_ids
            folder = paths.run_dir(self.edition, target, architecture, seed)
            network = architectures.load_network(folder / "model.safetensors", architecture, len(findings))
            size = self._settings["targets"][target].get("training", {}).get("train_px")
            x = {
                part: heads.image_vectors(network, self._images, self._store.rows(ids[part]), size) for part in _PARTS
            }
            y = {part: table[findings][table["split"] == part].to_numpy(np.float32) for part in _PARTS[:2]}
            path = metric_scores.vectors_path(self.edition, runs.key(target, architecture, seed))
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_files.replacing(path) as new, open(new, "wb") as file:
                np.savez(file, **{part: np.float16(each) for part, each in x.items()})
            self._vectors[target, seed] = Vectors(findings, standardised(x), y)
        return self._vectors[target, seed]

    def _trained(self, vectors, loss, seed, rate, prototypes=None, tuned=False, kind=None):
        """Return a head, of the loss's kind or another, that was trained with a loss at one learning rate."""
        recipe = losses.recipe(loss)
        prototypes = self._true if prototypes is None else prototypes
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            shape = vectors.x["train"].shape[1], len(vectors.findings)
            prevalence = np.nanmean(vectors.y["train"], axis=0)
            head = heads.create_head(kind or recipe.head, *shape, prototypes, tuned, prevalence)
        made = recipe.make(vectors.y["train"])
        epochs = self._epochs_for(len(vectors.x["train"]))
        settings = dataclasses.replace(self._fit, epochs=epochs)
        heads.fit(head, made, vectors.x["train"], vectors.y["train"], settings, rate, seed)
        return head

    def _epochs_for(self, images_n):
        """Return how many passes through so many images are as many steps as those through the first target's."""
        target = self._study["targets"][0]
        all_n = len(self.vectors(target, self.seeds[0]).x["train"])
        passes = [max(n // min(self._fit.batch_size, n), 1) for n in (all_n, images_n)]
        return round(self._fit.epochs * passes[0] / passes[1])

    def _searched(self, vectors, loss, seed, *how):
        """Return the head whose learning rate is best on validation, that rate, and the search.

        The search has the columns `learning_rate, valid_auc, chosen`.
        """
        rows, best = [], None
        for rate in self._study["learning_rates"]:
            head = self._trained(vectors, loss, seed, rate, *how)
            area = training.mean_auc(vectors.y["valid"], heads.scores(head, vectors.x["valid"]))
            rows.append({"learning_rate": rate, "valid_auc": area})
            if best is None or area > best[1]:
                best = head, area, rate
        head, _, rate = best
        table = pd.DataFrame(rows)
        return head, rate, table.assign(chosen=table["learning_rate"] == rate)

    def _long(self, score, findings, **where):
        """Return scores as a long table: `**where`, `finding, image_id, score`, rounded as far as ranks need."""
        digits = 4 if np.abs(score).max() <= 1 else 3
        parts = [
            pd.DataFrame({**where, "finding": f, "image_id": self._test_ids, "score": np.round(score[:, k], digits)})
            for k, f in enumerate(findings)
        ]
        table = pd.concat(parts, ignore_index=True)
        return table.assign(score=table["score"].astype("float32"))

    def compare(self):
        """Train a head with every loss, on the vectors of every network of the study's targets.

        Returns
        -------
        scores : pandas.DataFrame
            `trained_on, loss, seed, finding, image_id, score`: logits, of `ranking_hinge` cosines.
        search : pandas.DataFrame
            `trained_on, loss, seed, learning_rate, valid_auc, chosen`.
        scaling : pandas.DataFrame
            `trained_on, loss, seed, finding, intercept, slope`: Platt's, of validation images.
        """
        found = {"scores": [], "search": [], "scaling": []}
        for target in self._study["targets"]:
            for seed in self.seeds:
                vectors = self.vectors(target, seed)
                for loss in losses.LOSSES:
                    where = {"trained_on": self._trained_on(target), "loss": loss, "seed": seed}
                    head, rate, search = self._searched(vectors, loss, seed)
                    self._heads[target, loss, seed], self._rates[target, loss, seed] = head, rate
                    score = heads.scores(head, vectors.x["test"])
                    found["scores"].append(self._long(score, vectors.findings, **where))
                    found["search"].append(search.assign(**where))
                    before = expit(heads.scores(head, vectors.x["valid"]))
                    scaled = calibration.platt_scaling(vectors.y["valid"], before)
                    of = {"finding": vectors.findings, "intercept": scaled[:, 0], "slope": scaled[:, 1]}
                    found["scaling"].append(pd.DataFrame({**where, **of}))
        return tuple(pd.concat(found[name], ignore_index=True) for name in ("scores", "search", "scaling"))

    def end_to_end(self):
        """Return what networks that were trained with a loss from the start give test images (notebook 10).

        Returns
        -------
        pandas.DataFrame
            `loss, seed, finding, image_id, score`: logits. Empty where the edition trains none.
        """
        parts = [pd.DataFrame(columns=["loss", "seed", "finding", "image_id", "score"])]
        for loss, target in self._study["end_to_end"].items():
            for seed in self.seeds:
                folder = paths.run_dir(self.edition, target, self._study["architecture"], seed)
                table = pd.read_parquet(folder / "predictions.parquet").pivot(
                    index="image_id", columns="finding", values="probability"
                )
                found = table.loc[self._test_ids, self.findings].to_numpy(float)
                parts.append(self._long(logit(np.clip(found, 1e-7, 1 - 1e-7)), self.findings, loss=loss, seed=seed))
        return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)

    def prototypes(self):
        """Train the dual-weighted loss with prototypes of other origin, to see whether the names' meaning helps.

        Of the first target. The row `shuffled after training` is the head of the true names whose prototypes change
        places afterwards; it must lose what it learned.

        Returns
        -------
        pandas.DataFrame
            `prototypes, seed, finding, image_id, score`.
        """
        target, parts, defined = self._study["targets"][0], [], self._defined()
        for seed in self.seeds:
            vectors, head = self.vectors(target, seed), self._heads[target, metric_scores.DUAL, seed]
            for name in [name for name in metric_scores.PROTOTYPES if name not in self.left_out]:
                if name == metric_scores.BY_NAME:
                    score = heads.scores(head, vectors.x["test"])
                elif name == metric_scores.AFTERWARDS:
                    score = self._in_other_places(head, vectors.x["test"], seed)
                else:
                    sphere = "prototype sphere" if name == metric_scores.ON_SPHERE else None
                    tuned = name in (metric_scores.TUNED, metric_scores.RANDOM_TUNED)
                    made = defined if name == metric_scores.DEFINED else self._prototypes_of(name, seed)
                    how = made, tuned, sphere
                    other, _, _ = self._searched(vectors, metric_scores.DUAL, seed, *how)
                    self._heads[target, name, seed] = other
                    score = heads.scores(other, vectors.x["test"])
                parts.append(self._long(score, vectors.findings, prototypes=name, seed=seed))
        return pd.concat(parts, ignore_index=True)

    def _prototypes_of(self, name, seed):
        """Return the prototypes (f, f) of a control, or the true ones."""
        if name in metric_scores.CONTROL_OF:
            return name_vectors.control(metric_scores.CONTROL_OF[name], self._true, seed)
        return self._true

    def _defined(self):
        """Return the prototypes of names and definitions, (f, f); None, and why in `left_out`, without an encoder."""
        try:
            return self._named(name_vectors.PROMPTS[1])
        except ValueError as error:
            self.left_out[metric_scores.DEFINED] = str(error)
            return None

    def _named(self, prompt):
        """Return the prototypes of the findings' names by the study's encoder, (f, f)."""
        return name_vectors.space(name_vectors.name_vectors(self.findings, self._study["encoder"], prompt))

    def _in_other_places(self, head, x, seed):
        """Return the scores (n, f) of a head whose prototypes change places, their radius with them."""
        order = name_vectors.control("shuffled", np.arange(len(self.findings)), seed)
        return heads.scores(head, x)[:, order]

    def shortcuts(self):
        """Return what needs no anatomy: boosted trees on grey levels, metadata, file and holder.

        Of the first target's labels and images. The trees (scikit-learn's) have no seed that matters and stand once
        for each seed.

        Returns
        -------
        pandas.DataFrame
            `known, seed, finding, image_id, score`.
        """
        target, parts = self._study["targets"][0], []
        table = pd.read_parquet(paths.target_path(self.edition, target))
        train = table[table["split"] == "train"]
        y = train[self.findings].to_numpy(float)
        for name, features in self._shortcut_features().items():
            score = np.stack([_boosted(features, train["image_id"], self._test_ids, label) for label in y.T], axis=1)
            parts += [self._long(score, self.findings, known=name, seed=seed) for seed in self.seeds]
        return pd.concat(parts, ignore_index=True)

    def shuffled_labels(self):
        """Return what heads reach that learned the labels of other images, at the rates of the true ones.

        Returns
        -------
        pandas.DataFrame
            `loss, seed, permutation, scored_against, mean_auc`: the mean over findings, on test images.
        """
        target, rows = self._study["targets"][0], []
        images = self.images()
        for seed in self.seeds:
            vectors, rng = self.vectors(target, seed), np.random.default_rng((seed, 53))
            for permutation in range(self._study["permutations_n"]):
                order = rng.permutation(len(vectors.y["train"]))
                other = dataclasses.replace(vectors, y={**vectors.y, "train": vectors.y["train"][order]})
                for loss in ("bce", metric_scores.DUAL):
                    head = self._trained(other, loss, seed, self._rates[target, loss, seed])
                    score = heads.scores(head, vectors.x["test"])
                    for name in self._study["scored_against"]:
                        kept = [k for k, f in enumerate(vectors.findings) if f"{name}.{f}" in images]
                        label = images[[f"{name}.{vectors.findings[k]}" for k in kept]].to_numpy(float)
                        where = {"loss": loss, "seed": seed, "permutation": permutation, "scored_against": name}
                        rows.append({**where, "mean_auc": training.mean_auc(label, score[:, kept])})
        return pd.DataFrame(rows)

    def _shortcut_features(self):
        """Return tables of features by name, indexed by image id; those that the cohort has."""
        index, size = self._store.index, self._settings["size_px"]
        cohort = self._settings["cohorts"][self.cohort]
        found = {
            metric_scores.GREY_LEVELS: shortcuts.pixel_statistics(self._images, range(len(index))),
            metric_scores.METADATA: shortcuts.metadata(index),
            metric_scores.FILE: shortcuts.files(cohort, size, index),
            metric_scores.HOLDER: shortcuts.holders(cohort, index),
        }
        return {name: table.set_index(index["image_id"]) for name, table in found.items() if table is not None}

    def unseen(self):
        """Train heads on networks that have not seen some findings, and score those by their names alone.

        Images with an unseen finding are in no training part, and the learning rate is the best for the findings that
        are learned. Every head has as many steps. `no name` is the image's distance from the origin: how far from
        everything it lies. `normals` says whether images without any of the seen
        findings were trained on; the published 0.66 of Hayat et al. drops them in training and in test.

        Returns
        -------
        pandas.DataFrame
            `target, prototypes, normals, seed, seen, finding, image_id, score`: minus the squared distance.
        """
        parts, every = [], range(len(self.findings))
        kinds = (metric_scores.BY_NAME, metric_scores.SHUFFLED, metric_scores.RANDOM)
        for target in self._study["zero_shot"]:
            for seed in self.seeds:
                whole = self.vectors(target, seed)
                at = [self.findings.index(finding) for finding in whole.findings]
                _, rate, _ = self._searched(whole, metric_scores.DUAL, seed, self._true[at])
                for name, normals in itertools.product(kinds, (True, False)):
                    some = whole if normals else _abnormal(whole)
                    all_names = self._prototypes_of(name, seed)
                    head = self._trained(some, metric_scores.DUAL, seed, rate, all_names[at])
                    found = {name: -_distances(head, whole.x["test"], all_names)}
                    if name == metric_scores.BY_NAME:
                        alone = np.square(_embedded(head, whole.x["test"])).sum(1)
                        found[metric_scores.NO_NAME] = np.tile(-alone[:, None], len(self.findings))
                    for kind, score in found.items():
                        kept = [k for k in every if k not in at or kind == metric_scores.BY_NAME]
                        table = self._long(score[:, kept], [self.findings[k] for k in kept])
                        table = table.assign(target=target, prototypes=kind, normals=normals, seed=seed)
                        parts.append(table.assign(seen=table["finding"].isin(whole.findings)))
        columns = ["target", "prototypes", "normals", "seed", "seen", "finding", "image_id", "score"]
        return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)

    def space(self):
        """Return where test images and prototypes lie in the metric space, of the first target's dual-weighted heads.

        Returns
        -------
        pandas.DataFrame
            `seed, what` (`image`, `prototype`), `name` (image id or finding), and the numbers `x0, x1, ...`.
        """
        target, parts = self._study["targets"][0], []
        for seed in self.seeds:
            head, x = self._heads[target, metric_scores.DUAL, seed], self.vectors(target, seed).x["test"]
            for what, names, points in (
                ("prototype", self.findings, self._true),
                ("image", self._test_ids, _embedded(head, x)),
            ):
                numbers = {f"x{k}": np.round(points[:, k], 3).astype("float32") for k in range(points.shape[1])}
                parts.append(pd.DataFrame({"seed": seed, "what": what, "name": names, **numbers}))
        return pd.concat(parts, ignore_index=True)

    def nearest(self, nearest_n=5, most=2000):
        """Return whether what is near an image fits: images of other patients that share a finding, a finding it has.

        Of test images that have a finding, by the first label set of `scored_against`; at most so many, at random.

        Returns
        -------
        pandas.DataFrame
            `model, seed, image_id, shared_frac, present`: the share of the nearest images that have a finding in
            common with it, and whether it has the finding whose prototype is nearest. `any image, commonest finding`
            is the share among all images of other patients, and the commonest finding of the training labels.
        """
        target, parts = self._study["targets"][0], []
        name = self._study["scored_against"][0]
        labels = np.float32(self.images()[[f"{name}.{f}" for f in self.findings]].to_numpy(float) == 1)
        patient = pd.factorize(self.test["patient_id"])[0]
        asked = np.flatnonzero(labels.any(1))
        if len(asked) > most:
            asked = np.sort(np.random.default_rng(59).choice(asked, most, replace=False))
        for seed in self.seeds:
            x = self.vectors(target, seed).x["test"]
            spaces = {metric_scores.SPACE: metric_scores.DUAL, metric_scores.SHUFFLED_SPACE: metric_scores.SHUFFLED}
            spaces = {model: self._heads[target, kind, seed] for model, kind in spaces.items()}
            points = {model: _embedded(head, x) for model, head in spaces.items()}
            points |= {metric_scores.OWN_VECTORS: x, metric_scores.ANY: None}
            commonest = np.nansum(self.vectors(target, seed).y["train"], axis=0).argmax()
            first = {metric_scores.ANY: np.full(len(asked), commonest)}
            first |= {model: _distances(head, x[asked], head.prototypes).argmin(1) for model, head in spaces.items()}
            for model, each in points.items():
                shared = [_shared_frac(each, at, labels, patient, nearest_n) for at in asked]
                present = labels[asked, first[model]] if model in first else np.nan
                where = {"model": model, "seed": seed, "image_id": self._test_ids[asked]}
                parts.append(pd.DataFrame({**where, "shared_frac": np.float32(shared), "present": present}))
        return pd.concat(parts, ignore_index=True)


def _shared_frac(points, at, labels, patient, nearest_n):
    """Return what share of an image's nearest images of other patients, without points of all, has its finding."""
    other = np.flatnonzero(patient != patient[at])
    if points is not None:
        distance = np.square(points[other] - points[at]).sum(1)
        other = other[np.argsort(distance, kind="stable")[:nearest_n]]
    return (labels[other] @ labels[at] > 0).mean()


@torch.no_grad()
def _embedded(head, x):
    """Return where a prototype head puts vectors, (n, k) float32."""
    return head.embed(torch.as_tensor(x, device=head.prototypes.device)).cpu().numpy()


@torch.no_grad()
def _distances(head, x, prototypes):
    """Return the squared distances of vectors and any prototypes, those of unseen findings too, (n, f) float32."""
    device = head.prototypes.device
    found = head.distances(torch.as_tensor(x, device=device), torch.as_tensor(prototypes).to(device))
    return found.cpu().numpy()


def _abnormal(vectors):
    """Return vectors without the training images that have none of the findings."""
    keep = (vectors.y["train"] == 1).any(1)
    some = ({**by_part, "train": by_part["train"][keep]} for by_part in (vectors.x, vectors.y))
    return Vectors(vectors.findings, *some)


def _boosted(features, train_ids, test_ids, label):
    """Return the logits of boosted trees on some features, (len(test_ids),); 0 where training has one class."""
    known = ~np.isnan(label)
    if len(np.unique(label[known])) < 2:
        return np.zeros(len(test_ids))
    shape = {"max_iter": 60, "max_leaf_nodes": 6, "min_samples_leaf": 15, "random_state": 0, "early_stopping": False}
    trees = HistGradientBoostingClassifier(learning_rate=0.1, **shape)
    trees.fit(features.loc[train_ids].to_numpy(float)[known], label[known])
    return trees.decision_function(features.loc[test_ids].to_numpy(float))
