"""All that `make beyond` trains: one small network for each dose of label noise, and for each seed.

A seed has patients of its own, from whom training sets of every size are taken, each within the next; first weights
of its own, learned from ten other findings of yet other patients; and one draw an image of what the radiologist
misses and where the report errs. So doses, mechanisms and sizes are compared on the same patients, weights and luck,
and seeds differ in all of them. The test images are the same for all.

A finished training is one file. Interrupted and called again, `train_all` makes those that are missing.
"""

import hashlib
import json
import time
from dataclasses import asdict, astuple, dataclass
from functools import lru_cache, partial

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from cxrlib.base import parallel, paths, whole_files
from cxrlib.cohorts import simulation
from cxrlib.labels import dose_labels
from cxrlib.networks import architectures, batches, dose_scores, short_training, stopped_training
from cxrlib.statistics import accuracy, noise

# Parts of the simulated hospital: the number is in every seed that is drawn from.
_PARTS = {"train": 1, "valid": 2, "pretraining": 3, "test": 4}
_TEST_SEED = 0  # of the test images and their radiologist, whatever the seed of the training
# What first weights know: findings and devices other than pneumothorax, and no chest drains, which go with it.
_KNOWN_BEFORE = tuple(name for name in simulation.DRAWN if name not in (dose_labels.DOSED, "chest_drain"))


@dataclass(frozen=True)
class DoseCell:
    """One dose: what a network is trained on.

    Attributes
    ----------
    role : str
        One of `dose_scores.ROLES`.
    size : int
        Training images.
    scale : float
        Of the noise; 0 is the radiologist's label.
    mechanism : str
        Which images err: a key of `mechanisms` in the settings.
    correlation : float
        Of the errors of a patient's images.
    sensitivity : float
        Of the radiologist.
    """

    role: str
    size: int
    scale: float
    mechanism: str
    correlation: float
    sensitivity: float

    def name(self):
        """Return the name of the cell's files."""
        return "-".join(f"{value:g}" if isinstance(value, int | float) else value for value in astuple(self))


def cells(settings):
    """Return the cells of the study: a chosen part of all combinations of its factors.

    Every size with every scale, by the mechanism, correlation and sensitivity of `base`; every scale, mechanism,
    correlation and sensitivity at the size of `base`; the least and the greatest scale at every size for every
    sensitivity; and the controls. Without noise there are no mechanism and no correlation, and `base` has that cell.

    Parameters
    ----------
    settings : Mapping
        `dose_response` of `params.yaml`.

    Returns
    -------
    list of DoseCell
    """
    base, scales, sizes = settings["base"], settings["scales"], settings["sizes"]
    ends, readers = (min(scales), max(scales)), settings["sensitivities"]

    def cell(role=dose_scores.GRID, **changed):
        one = {"scale": 0.0, **base, **changed}
        if one["scale"] == 0 and role == dose_scores.GRID:
            one |= {"mechanism": base["mechanism"], "correlation": base["correlation"]}
        numbers = {name: float(one[name]) for name in ("scale", "correlation", "sensitivity")}
        return DoseCell(role, int(one["size"]), mechanism=one["mechanism"], **numbers)

    grid = [cell(size=size, scale=scale) for size in sizes for scale in scales]
    grid += [
        cell(scale=scale, mechanism=mechanism, correlation=correlation, sensitivity=sensitivity)
        for sensitivity in readers
        for mechanism in settings["mechanisms"]
        for correlation in settings["correlations"]
        for scale in scales
    ]
    grid += [cell(size=size, scale=s, sensitivity=reader) for reader in readers for size in sizes for s in ends]
    other = {"mechanism": list(settings["mechanisms"])[-1], "correlation": settings["correlations"][-1]}
    controls = [cell(dose_scores.PERMUTED), cell(dose_scores.AGAIN, **other)]
    controls += [cell(dose_scores.PATIENT, scale=scale) for scale in ends]
    return list(dict.fromkeys([*grid, *controls]))


class DoseRuns:
    """The trainings of the study, in a folder that outlives an interruption.

    Parameters
    ----------
    settings : Mapping
        `dose_response` of `params.yaml`.
    code : str
        What changes when the code that trains changes; trainings of other code, or of other settings of images,
        first weights, training or noise, lie in another folder.
    """

    def __init__(self, settings, code=""):
        self.settings = settings
        self._calibration = noise_of_reports()
        shared = {name: settings[name] for name in ("images", "mechanisms", "faint_log_odds", "start", "training")}
        told = json.dumps([shared, self._calibration.to_dict("list"), code], sort_keys=True)
        self.folder = paths.ROOT / "data" / "dose" / hashlib.sha256(told.encode()).hexdigest()[:12]
        self._training = stopped_training.StoppedSettings(**settings["training"])

    def planned(self):
        """Return every seed and cell, a list of (int, DoseCell)."""
        return [(seed, cell) for seed in self.settings["seeds"] for cell in cells(self.settings)]

    def missing(self):
        """Return the part of `planned` that is not trained yet."""
        return [(seed, cell) for seed, cell in self.planned() if not self._file(seed, cell).exists()]

    def train_all(self, workers, say):
        """Train what is missing, a training a process and thread.

        Parameters
        ----------
        workers : int
            Processes; one where a GPU trains.
        say : Callable
            Takes a line on how far it is.
        """
        todo, started = self.missing(), time.monotonic()
        say(f"{len(self.planned()) - len(todo)} of {len(self.planned())} trainings are there.")
        seeds = [seed for seed in dict.fromkeys(seed for seed, _ in todo) if not self._start_file(seed).exists()]
        self.folder.mkdir(parents=True, exist_ok=True)
        if todo and not (self.folder / "test.npz").exists():
            self._paint(_TEST_SEED, ("test",), self.folder / "test.npz")
        for seed in parallel.mapped(self.prepare, seeds, workers, ordered=False):
            say(f"seed {seed}: patients and first weights are there ({(time.monotonic() - started) / 60:.1f} min)")
        started = time.monotonic()
        for k, _ in enumerate(parallel.mapped(partial(_train, self), todo, workers, ordered=False), 1):
            if k % 10 == 0 or k == len(todo):
                past = (time.monotonic() - started) / 60
                say(f"{k} of {len(todo)}: {past:.1f} min, {past * (len(todo) - k) / k:.0f} more to come")

    def prepare(self, seed):
        """Draw a seed's patients and train its first weights; return the seed."""
        self._paint(seed, ("train", "valid"), self._population_file(seed))
        table, images = self._drawn(seed, "pretraining")
        label = torch.tensor(table[list(_KNOWN_BEFORE)].to_numpy(), dtype=torch.float32, device=batches.device())

        def loss(output, which):
            return binary_cross_entropy_with_logits(output, label[which])

        how = short_training.ShortSettings(**self.settings["start"])
        network = short_training.new_network(how, len(_KNOWN_BEFORE), seed)
        short_training.learn(network, images, np.arange(len(images)), loss, how, seed)
        _replaced(self._start_file(seed), lambda path: architectures.save_network(network, path))
        return seed

    def train_cell(self, seed, cell):
        """Train one network and write what is kept of it.

        Its file has `logits` (test images), `reports` (their simulated reports), `steps, valid_loss, valid_auc`, and
        `told`, a row of `dose_scores.DoseScores.runs` as JSON.
        """
        started = time.monotonic()
        sizes = {"train": cell.size, "valid": self._valid_n(cell.size)}
        x, y, read = {}, {}, {}
        for part, n in sizes.items():
            table, images = self._part(seed, part)
            read[part], report = (label[:n] for label in self._labels(table, seed, part, cell))
            if cell.role == dose_scores.PERMUTED:
                report = np.random.default_rng((seed, _PARTS[part], 2)).permutation(report)
            x[part], y[part] = stopped_training.tensor(images[:n]), report
        done = self._fit(seed, cell, x, y)
        table, images = self._part(_TEST_SEED, "test")
        found = stopped_training.logits(done.network, stopped_training.tensor(images))
        rates = accuracy.rates(read["train"], y["train"])
        told = {
            **asdict(cell),
            "seed": seed,
            "positives_n": int(y["train"].sum()),
            "train_sensitivity": rates["sensitivity"],
            "train_ppv": rates["ppv"],
            "valid_n": sizes["valid"],
            "valid_positives_n": int(y["valid"].sum()),
            "valid_auc": float(done.valid_auc[done.steps == done.chosen_step][0]),
            "chosen_step": done.chosen_step,
            "steps_n": int(done.steps[-1]),
            "converged": done.converged,
            "logits_sha256": hashlib.sha256(found.tobytes()).hexdigest()[:16],
            "seconds": round(time.monotonic() - started, 2),
        }
        kept = {
            "logits": found,
            "reports": self._labels(table, seed, "test", cell)[1] == 1,
            "steps": done.steps,
            "valid_loss": np.float32(done.valid_loss),
            "valid_auc": np.float32(done.valid_auc),
            "told": json.dumps(told),
        }
        _replaced(self._file(seed, cell), lambda path: _savez(path, kept))

    def collected(self):
        """Return what is kept of all trainings.

        Raises
        ------
        FileNotFoundError
            If some are missing.
        """
        missing = self.missing()
        if missing:
            raise FileNotFoundError(f"{len(missing)} trainings are missing: run `make beyond` again.")
        rows, levels, reports, courses = [], [], [], []
        for k, (seed, cell) in enumerate(self.planned()):
            with np.load(self._file(seed, cell)) as kept:
                rows.append(json.loads(str(kept["told"])))
                levels.append(dose_scores.to_levels(kept["logits"]))
                reports.append(kept["reports"])
                course = {name: np.float32(kept[name]) for name in ("valid_loss", "valid_auc")}
                courses.append(pd.DataFrame({"run": np.int16(k), "step": np.int16(kept["steps"]), **course}))
        table, _ = self._part(_TEST_SEED, "test")
        test = pd.DataFrame({"patient_id": table["patient_id"], "drawn": np.int8(table[dose_labels.DOSED])})
        for sensitivity in self.settings["sensitivities"]:
            test[dose_scores.of_reader(sensitivity)] = np.int8(self._reading(table, _TEST_SEED, "test", sensitivity))
        runs = pd.DataFrame(rows).drop(columns="seconds")  # which differ from one time to the next
        return dose_scores.DoseScores(runs, np.stack(levels), np.stack(reports), test, pd.concat(courses))

    def seconds(self):
        """Return how long each finished training took, a data frame of `seed`, the cell's fields, `seconds`."""
        rows = []
        for seed, cell in self.planned():
            if self._file(seed, cell).exists():
                with np.load(self._file(seed, cell)) as kept:
                    rows.append(json.loads(str(kept["told"])))
        return pd.DataFrame(rows)

    def _fit(self, seed, cell, x, y):
        how = self.settings["start"]["architecture"]
        start = architectures.load_network(self._start_file(seed), how, len(_KNOWN_BEFORE))
        network = short_training.new_network(short_training.ShortSettings(how), 1, seed, start)
        prevalence = float(np.mean(y["train"]))
        torch.nn.init.constant_(network.get_classifier().bias, np.log(prevalence / (1 - prevalence)))
        training = self._training
        if cell.role == dose_scores.PATIENT:
            training = stopped_training.StoppedSettings(**{**asdict(training), "patience": 2 * training.patience})
        return stopped_training.fine_tune(network, x["train"], y["train"], x["valid"], y["valid"], training, seed)

    def _valid_n(self, size):
        """Return how many validation images go with so many training images."""
        how = self.settings["images"]
        return max(how["valid_least"], round(size * how["valid_frac"]))

    def _images_n(self, part):
        how, largest = self.settings["images"], max(self.settings["sizes"])
        return {"train": largest, "valid": self._valid_n(largest)}.get(part) or how[f"{part}_n"]

    def _drawn(self, seed, part):
        """Return a part's images: `simulation.admissions` and (n, side, side) uint8."""
        hospital, number = simulation.HOSPITALS[self.settings["images"]["hospital"]], _PARTS[part]
        table = simulation.admissions(hospital, self._images_n(part), np.random.default_rng((seed, number)))
        painter = simulation.Painter(hospital, self.settings["images"]["size_px"], 10 * seed + number)
        return table, np.stack([painter.draw(row, k)[0] for k, row in enumerate(table.to_dict("records"))])

    def _paint(self, seed, parts, path):
        kept = {}
        for part in parts:
            table, images = self._drawn(seed, part)
            columns = ["patient_id", dose_labels.DOSED, f"{dose_labels.DOSED}_conspicuity", "chest_drain"]
            kept |= {f"{part}.{name}": table[name].to_numpy() for name in columns[1:]}
            kept |= {f"{part}.patient_id": table["patient_id"].to_numpy(str), f"{part}.images": images}
        _replaced(path, lambda new: _savez(new, kept))

    def _part(self, seed, part):
        """Return a part's images as they are kept: what labels hang on, and (n, side, side) uint8."""
        return _opened(self.folder / "test.npz" if part == "test" else self._population_file(seed), part)

    def _reading(self, table, seed, part, sensitivity):
        return dose_labels.reading(table, sensitivity, self.settings["faint_log_odds"], (seed, _PARTS[part], 0))

    def _labels(self, table, seed, part, cell):
        """Return the radiologist's and the reports' labels of a part, (n,) each; the test has one radiologist."""
        read = self._reading(table, _TEST_SEED if part == "test" else seed, part, cell.sensitivity)
        mechanism = self.settings["mechanisms"][cell.mechanism]
        how = (self._calibration, mechanism, cell.scale, cell.correlation, (seed, _PARTS[part], 1))
        return read, dose_labels.report(table, read, *how)

    def _population_file(self, seed):
        return self.folder / f"patients-{seed}.npz"

    def _start_file(self, seed):
        return self.folder / f"start-{seed}.safetensors"

    def _file(self, seed, cell):
        return self.folder / f"run-{seed}-{cell.name()}.npz"


def noise_of_reports():
    """Return how NIH's report labels of pneumothorax err, as notebook 02 measured it (`noise.calibrate`)."""
    measured = pd.read_csv(paths.label_noise_path())
    chosen = (measured["finding"] == dose_labels.DOSED) & measured["stratum"].isin(noise.STRATA)
    return measured.loc[chosen, ["stratum", "tp", "fp", "fn", "tn"]]


def _train(runs, planned):
    """Train one network; a function of the module, so that worker processes can have it."""
    runs.train_cell(*planned)


@lru_cache(maxsize=4)
def _opened(path, part):
    with np.load(path) as kept:
        columns = {name.split(".")[1]: kept[name] for name in kept.files if name.startswith(f"{part}.")}
    images = columns.pop("images")
    return pd.DataFrame(columns), images


def _savez(path, arrays):
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def _replaced(path, write):
    """Write a file whole or not at all, whenever the process ends."""
    with whole_files.replacing(path) as new:
        write(new)
