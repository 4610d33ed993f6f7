"""Report labelers compared with people who saw the images: F1 and kappa, their means, and paired differences."""

from itertools import combinations

import numpy as np
import pandas as pd

from cxrlib.base import label_tables
from cxrlib.statistics import accuracy, intervals
from cxrlib.studies import case_tables

COMPARED_POLICIES = ("u_zeros", "u_ones")


BEST = "best of two"  # for each finding the policy with the higher value, as Jain et al. report it


AGREEMENT_MEASURES = {"f1": accuracy.f1, "kappa": accuracy.kappa}


# Agreement with radiologists who looked at the image, average F1 over eight conditions of CheXpert's 500 test studies
# (VisualCheXbert, CHIL 2021). The differences are of its abstract, the means second-hand. NaN: unavailable.
PUBLISHED = pd.DataFrame(
    [
        ("labeler, best of two policies", 0.54, np.nan, np.nan),
        ("logistic regression on the labeler's output", 0.65, np.nan, np.nan),
        ("VisualCheXbert", 0.68, np.nan, np.nan),
        ("VisualCheXbert - labeler", 0.14, 0.12, 0.17),
        ("VisualCheXbert - radiologists reading reports, least", 0.12, 0.09, 0.15),
        ("VisualCheXbert - radiologists reading reports, most", 0.21, 0.18, 0.24),
        ("CheXbert", np.nan, np.nan, np.nan),
        ("image networks, any difference between labelers", np.nan, np.nan, np.nan),
    ],
    columns=["what", "estimate", "low", "high"],
)


PUBLISHED_FINDINGS = (
    "atelectasis",
    "cardiomegaly",
    "edema",
    "effusion",
    "enlarged_cardiomediastinum",
    "lung_opacity",
    "support_devices",
    "no_finding",
)


def opinions(table, label_sets, findings, decided=None):
    """Return what each labeler says of the images of a case table.

    Parameters
    ----------
    table : pandas.DataFrame
        A case table.
    label_sets : sequence of str
        Those that the table lacks are passed over.
    findings : sequence of str
    decided : pandas.DataFrame, optional
        `image_id, labeler` and findings: labelers that have no label set (notebook 13). One that lacks an image of
        the table is passed over.

    Returns
    -------
    dict of pandas.DataFrame
        Labeler -> the findings that it reads (1, 0, -1, NaN), rows as in the table.
    """
    out = {}
    for name in label_sets:
        columns = {case_tables.label(name, f): f for f in findings if case_tables.label(name, f) in table}
        if columns:
            out[name] = table[list(columns)].rename(columns=columns)
    if decided is not None:
        for name, part in decided.groupby("labeler", sort=False):
            part = part.set_index("image_id")
            if table["image_id"].isin(part.index).all():
                out[name] = part.loc[table["image_id"], [f for f in findings if f in part]].set_axis(table.index)
    return out


class Against:
    """Labelers against a reference on the same images; replicates of every cell are made once.

    A finding is compared on the images that the reference and every labeler assess. One that has fewer than
    `stats.FEW_PATIENTS` patients with or without it gets no interval, and is in no mean.

    Parameters
    ----------
    truth : pandas.DataFrame
        A column per finding: 1, 0; anything else is not assessed.
    said : Mapping of str to pandas.DataFrame
        Of `opinions`.
    resamples : stats.Resamples
        Of the same images.
    """

    def __init__(self, truth, said, resamples):
        self.said = said
        self.findings = [f for f in truth if said and all(f in labels for labels in said.values())]
        self.cells, self.few, self.counts = {}, {}, {}
        for finding in self.findings:
            keep = np.isin(truth[finding], (0, 1))
            for labels in said.values():
                keep &= labels[finding].notna().to_numpy()
            label, part = truth[finding].to_numpy(float)[keep], resamples.of(keep)
            self.few[finding] = intervals.too_few_of_either(label, part)
            self.counts[finding] = {"images_n": int(keep.sum()), "positives_n": int(label.sum())}
            for name, labels in said.items():
                for policy in COMPARED_POLICIES:
                    called = label_tables.apply_policy(labels[finding].to_numpy()[keep], policy)
                    for measure, function in AGREEMENT_MEASURES.items():
                        both = function(label, called), function(label, called, part)
                        self.cells[name, finding, policy, measure] = both

    def _cell(self, name, finding, policy, measure):
        """Return estimate and replicates (b,); of the better policy, chosen again in each resample, for `BEST`."""
        if policy != BEST:
            return self.cells[name, finding, policy, measure]
        values, replicates = zip(*(self.cells[name, finding, p, measure] for p in COMPARED_POLICIES), strict=True)
        return max(values), np.maximum(*replicates)

    def _mean(self, name, policy, measure, findings):
        each = [self._cell(name, f, policy, measure) for f in findings]
        return float(np.mean([value for value, _ in each])), np.mean([replicates for _, replicates in each], axis=0)

    def scored(self, findings=None):
        """Return those of some findings (all if not given) that have enough patients, and the others' names."""
        asked = [f for f in self.findings if findings is None or f in findings]
        return [f for f in asked if not self.few[f]], ", ".join(f for f in asked if self.few[f])

    def table(self):
        """Return F1 and kappa of every labeler, finding and policy, and their means over findings.

        Returns
        -------
        pandas.DataFrame
            `finding` (`mean` for the mean), `labeler, policy, measure, images_n, positives_n, estimate, low, high,
            reason, findings_n, left_out`.
        """
        rows = []
        for (name, finding, policy, measure), (value, replicates) in self.cells.items():
            cell = intervals.interval(value, replicates, self.few[finding])
            row = {"finding": finding, "labeler": name, "policy": policy, "measure": measure}
            rows.append({**row, **self.counts[finding], **cell._asdict(), "findings_n": 1, "left_out": ""})
        kept, left_out = self.scored()
        for name in self.said if self.findings else ():
            for policy in (*COMPARED_POLICIES, BEST):
                for measure in AGREEMENT_MEASURES:
                    cell = intervals.Interval(*3 * [np.nan], "no finding has enough patients with and without it")
                    if kept:
                        cell = intervals.interval(*self._mean(name, policy, measure, kept))
                    row = {"finding": "mean", "labeler": name, "policy": policy, "measure": measure}
                    rows.append({**row, **cell._asdict(), "findings_n": len(kept), "left_out": left_out})
        return pd.DataFrame(rows)

    def differences(self, measure="f1", policy=BEST, findings=None):
        """Return paired differences between every two labelers of a mean over findings.

        Returns
        -------
        pandas.DataFrame
            `first, second, policy, measure, estimate, low, high, p, reason, smallest, findings_n, left_out`: later
            labeler minus earlier one; `p_holm` over these rows.
        """
        kept, left_out = self.scored(findings)
        rows = []
        for second, first in combinations(self.said, 2):
            if kept:
                sides = [self._mean(name, policy, measure, kept) for name in (first, second)]
                cell = intervals.compared(sides[0][0] - sides[1][0], sides[0][1] - sides[1][1])
            else:
                few = "no finding has enough patients with and without it"
                cell = {**intervals.Test(*4 * [np.nan], few)._asdict(), "smallest": np.nan}
            row = {"first": first, "second": second, "policy": policy, "measure": measure, **cell}
            rows.append({**row, "findings_n": len(kept), "left_out": left_out})
        table = pd.DataFrame(rows)
        return table.assign(p_holm=intervals.holm(table["p"])) if rows else table
