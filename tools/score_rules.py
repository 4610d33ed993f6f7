"""Compare the rule labeler with NegBio's human codes of Open-i: `python tools/score_rules.py`, seconds.

Writes results/rules/openi_gold.csv (parts of the reports) and openi_gold_findings.csv, which docs/labelers.md shows.
Run it when a phrase or a rule changes. The codes are `openi_gold` (docs/data.md); hernia is left out, since they code
none.
"""

import hashlib

import pandas as pd

from cxrlib.base import paths, vocabulary
from cxrlib.labelers import rules
from cxrlib.releases import catalogue, openi_reports

FINDINGS = [finding for finding in vocabulary.NIH_FINDINGS.values() if finding != "hernia"]


def development(report_id):
    """Return whether a report is of the half that the phrases were tuned on."""
    return hashlib.sha256(report_id.encode()).digest()[0] % 2 == 0


def rates(codes, labels):
    """Return positives, precision, recall and F1 of the labels of present findings, over all columns together."""
    code, label = codes.to_numpy() == 1, labels.to_numpy() == 1
    assessed = codes.notna().to_numpy()
    hit, wrong, missed = ((part & assessed).sum() for part in (code & label, ~code & label, code & ~label))
    return {
        "positives": int((code & assessed).sum()),
        "precision": hit / (hit + wrong),
        "recall": hit / (hit + missed),
        "F1": 2 * hit / (2 * hit + wrong + missed),
    }


def main():
    """Read the reports and the codes, and write both tables."""
    codes = catalogue.read_release("openi_gold").table.set_index("image_id")[FINDINGS]
    labeler = rules.RuleLabeler()
    read = {r.report_id: labeler.labels(r.text) for r in openi_reports.read_reports() if r.report_id in codes.index}
    labels = pd.DataFrame.from_dict(read, orient="index").loc[codes.index, FINDINGS]
    tuned = codes.index.map(development).to_numpy(bool)
    parts = {"tuned on": tuned, "held out": ~tuned, "all": tuned | ~tuned}
    rows = [
        {"reports": name, "n": int(part.sum()), **rates(codes[part], labels[part])} for name, part in parts.items()
    ]
    found = []
    for finding in FINDINGS:
        row = {"finding": finding, **rates(codes[[finding]], labels[[finding]])}
        held = rates(codes.loc[~tuned, [finding]], labels.loc[~tuned, [finding]])
        found.append({**row, "F1 held out": held["F1"]})
    folder = paths.ROOT / "results" / "rules"
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).round(3).to_csv(folder / "openi_gold.csv", index=False)
    pd.DataFrame(found).round(3).to_csv(folder / "openi_gold_findings.csv", index=False)


if __name__ == "__main__":
    main()
