"""Paired patient bootstrap of 14 findings x 2 models on a test set of ChestX-ray14's size, against scikit-learn."""

import resource
import time

import numpy as np
from sklearn.metrics import roc_auc_score

from cxrlib.statistics import accuracy, resampling

IMAGES_N, PATIENTS_N, FINDINGS_N, RESAMPLES_N = 25_596, 2_797, 14, 2_000
SLOW_N = 3  # resamples that the plain loop is timed on; its time grows with their number


def test_set(rng):
    """Return patients (some with many images), labels at ChestX-ray14's prevalences, scores of two models."""
    share = rng.pareto(1.2, PATIENTS_N) + 0.2
    patient = np.r_[np.arange(PATIENTS_N), rng.choice(PATIENTS_N, IMAGES_N - PATIENTS_N, p=share / share.sum())]
    prevalence = np.array([3279, 1069, 4658, 6112, 1748, 1623, 555, 2665, 1815, 925, 1093, 435, 1143, 86]) / IMAGES_N
    leaning = rng.normal(size=(PATIENTS_N, FINDINGS_N))[patient] + rng.normal(size=(IMAGES_N, FINDINGS_N))
    label = (leaning > np.quantile(leaning, 1 - prevalence, axis=0).diagonal()).astype(int)
    score = label * 1.4 + leaning * 0.2 + rng.normal(size=(2, IMAGES_N, FINDINGS_N))
    return patient, label, score


def plain_loop(patient, label, score, resamples, finding):
    """Return AUC differences of the first resamples, row by row, by scikit-learn."""
    out = []
    for weights in resamples.first(SLOW_N).weights():
        rows = np.repeat(np.arange(IMAGES_N), weights.astype(int))
        areas = [roc_auc_score(label[rows, finding], s[rows, finding]) for s in score]
        out.append(areas[0] - areas[1])
    return np.array(out)


def main():
    rng = np.random.default_rng(0)
    patient, label, score = test_set(rng)
    start = time.perf_counter()
    resamples = resampling.patient_resamples(patient, RESAMPLES_N, rng)
    fast = [
        accuracy.auc(label[:, k], score[0, :, k], resamples) - accuracy.auc(label[:, k], score[1, :, k], resamples)
        for k in range(FINDINGS_N)
    ]
    ours = time.perf_counter() - start
    start = time.perf_counter()
    slow = [plain_loop(patient, label, score, resamples, k) for k in range(FINDINGS_N)]
    theirs = (time.perf_counter() - start) / SLOW_N * RESAMPLES_N
    apart = max(np.abs(f[:SLOW_N] - s).max() for f, s in zip(fast, slow, strict=True))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{RESAMPLES_N} resamples x {FINDINGS_N} findings x 2 models, {IMAGES_N} images, {PATIENTS_N} patients")
    print(f"cxrlib.statistics.accuracy.auc            {ours:10.1f} s   peak memory of the process {memory:.2f} GiB")
    print(f"scikit-learn, row by row    {theirs:10.1f} s   from {SLOW_N} resamples")
    print(f"ratio {theirs / ours:.0f}; largest difference between the two {apart:.1e}")


if __name__ == "__main__":
    main()
