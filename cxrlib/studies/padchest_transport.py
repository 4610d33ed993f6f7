"""PadChest: how often the network that labelled most reports calls findings, and physicians who labelled the rest.

Most reports were labelled by one or the other, so that their rates differ for two reasons: other reports, and another
labeler. In 2014 both labelled reports of the same months. There the physicians' reports are weighted to the case mix
of the network's, and then to what the texts mention.
"""

import re

import numpy as np
import pandas as pd

from cxrlib.statistics import accuracy, intervals, resampling, weighting

BOTH_FROM, BOTH_TO = 20140201, 20141231  # dates between which both labelled

# Beginnings of Spanish words that name a finding, and what makes a sentence speak of something else.
MENTIONS = {
    "atelectasis": ("atelectasi", None),
    "cardiomegaly": ("cardiomegali", None),
    "consolidation": ("condens|consolid", None),
    "edema": ("edem", None),
    "effusion": ("derram", "pericard"),
    "emphysema": ("enfisem", "subcut"),
    "fibrosis": ("fibros", None),
    "fracture": ("fractur", None),
    "hernia": ("herni", None),
    "infiltration": ("infiltr", None),
    "nodule": ("nodul", None),
    "pneumonia": ("neumoni", None),
    "pneumothorax": ("neumotorax", None),
}
_DENIAL = re.compile(r"\b(?:no|sin|ni|descart|ausenci|resolu|desaparec|desaparicion)\b")
CLASSES = ("not named", "denied", "named")


def mention_class(text, finding):
    """Return how a report speaks of a finding: `named`, `denied` in each sentence that names it, or `not named`.

    Parameters
    ----------
    text : str
        As released; sentences end in a full stop between spaces.
    finding : str
        One of `MENTIONS`.
    """
    word, other = MENTIONS[finding]
    found = "not named"
    for sentence in text.split(" . "):
        at = re.search(rf"\b(?:{word})", sentence)
        if at is None or (other and re.search(other, sentence)):
            continue
        if not _DENIAL.search(sentence[: at.start()]):
            return "named"
        found = "denied"
    return found


def months_of_both(studies):
    """Return the studies of the months in which both labelled, with covariates, and a note of what is left out.

    Parameters
    ----------
    studies : pandas.DataFrame
        Of `padchest.read_padchest_studies`.

    Returns
    -------
    studies : pandas.DataFrame
        With `network` (1 or 0), `month`, and `said <finding>` (one of `CLASSES`) of each of `MENTIONS`.
    note : str
    """
    inside = studies[studies["taken"].between(BOTH_FROM, BOTH_TO)]
    whole = inside.dropna(subset=["sex", "age"]).reset_index(drop=True)
    note = f"{len(inside) - len(whole)} of {len(inside):,} studies lack sex or age and are left out."
    whole = whole.assign(network=(whole["labelled_by"] == "network") * 1.0, month=whole["taken"] // 100)
    said = {f"said {f}": [mention_class(text, f) for text in whole["text"]] for f in MENTIONS}
    return pd.concat([whole, pd.DataFrame(said)], axis=1), note


def case_mix(studies):
    """Return the covariates of studies: month, bedside, lateral, sex, age and its square, maker; an array."""
    age = studies["age"].to_numpy(float)
    columns = [studies[name].to_numpy(float) for name in ("bedside", "lateral")]
    columns += [(studies["sex"] == "M").to_numpy(float), age, (age - age.mean()) ** 2]
    dummies = [pd.get_dummies(studies[name], dtype=float).iloc[:, 1:] for name in ("month", "maker")]
    return np.column_stack([*columns, *dummies])


def _weights(studies, resamples_n, rng):
    """Return how often each study counts in each resample, once with the physicians' weights and once without."""
    network = studies["network"].to_numpy() == 1
    counts = resampling.patient_resamples(studies["patient_id"], resamples_n, rng).weights()
    x = weighting.with_intercept(case_mix(studies))
    fold = weighting.patient_folds(studies["patient_id"], rng)
    whole, each = weighting.cross_fitted(x, network.astype(float), counts, fold)
    odds, odds_each = np.where(network, 1.0, np.exp(whole)), np.where(network, 1.0, np.exp(each))
    patient = studies["patient_id"].to_numpy()
    checks = {
        "effective_patients": weighting.effective_patients(odds[~network], patient[~network]),
        "imbalance": weighting.imbalance(x[~network, 1:], odds[~network], x[network, 1:]),
    }
    once = np.ones((1, len(studies)))
    return {"raw": (once, counts), "case mix": (odds[None], counts * odds_each)}, checks


def _gap(value, network, weights):
    """Return the mean of a value by the network less that by the physicians, under weights (b, n); NaN if unknown."""
    known = np.isfinite(value)
    sides = []
    for side in (network & known, ~network & known):
        with np.errstate(invalid="ignore", divide="ignore"):
            sides.append((weights[:, side] @ value[side]) / weights[:, side].sum(1))
    return sides[0] - sides[1]


def _gap_at_same_texts(value, network, said, weights):
    """Return the same with the physicians' classes of texts as frequent as the network's."""
    total = gap = 0.0
    for name in CLASSES:
        inside = np.isfinite(value) & (said == name)
        own = weights[:, network & inside].sum(1)
        shared = (own > 0) & (weights[:, ~network & inside].sum(1) > 0)  # a class that one side lacks says nothing
        part = _gap(np.where(inside, value, np.nan), network, weights)
        gap, total = gap + np.where(shared, own * part, 0.0), total + np.where(shared, own, 0.0)
    return gap / total


def calling_table(studies, resamples_n, rng):
    """Return how much more often the network calls findings than the physicians, raw, at one case mix and one text.

    Parameters
    ----------
    studies : pandas.DataFrame
        Of `months_of_both`.
    resamples_n : int
        Of patients.
    rng : numpy.random.Generator

    Returns
    -------
    table : pandas.DataFrame
        `finding, network_n, physicians_n` (studies that each calls), `network, physicians` (rates), and differences,
        network less physicians, with `_low, _high`: `raw`, `case_mix` once the physicians' studies are weighted to
        the case mix of the network's, `text` once their texts also name and deny the finding as often, and `named`,
        the difference in how often a text names the finding at one case mix, which no labeler can have changed. Each
        has `_p`, and the last three `_p_holm`, over the findings; `reason` where there is no interval.
    checks : dict
        `effective_patients, imbalance` of the weights.
    """
    weights, checks = _weights(studies, resamples_n, rng)
    network = studies["network"].to_numpy() == 1
    patient = studies["patient_id"].to_numpy()
    rows = []
    for finding in MENTIONS:
        value = studies[finding].to_numpy(float)
        said = studies[f"said {finding}"].to_numpy()
        few = intervals.too_few([patient[(value == 1) & side] for side in (network, ~network)])
        row = {"finding": finding}
        for name, side in (("network", network), ("physicians", ~network)):
            row |= {f"{name}_n": int(np.nansum(value[side])), name: float(np.nanmean(value[side]))}
        gaps = {name: [_gap(value, network, w) for w in pair] for name, pair in weights.items()}
        gaps["text"] = [_gap_at_same_texts(value, network, said, w) for w in weights["case mix"]]
        gaps["named"] = [_gap((said == "named") * 1.0, network, w) for w in weights["case mix"]]
        for name, (whole, each) in gaps.items():
            test = intervals.difference(float(whole[0]), each)
            key = name.replace(" ", "_")
            row |= {key: test.estimate, f"{key}_low": test.low, f"{key}_high": test.high, f"{key}_p": test.p}
            if few and name != "named":
                row |= {f"{key}_{end}": np.nan for end in ("low", "high", "p")}
        rows.append({**row, "reason": few})
    table = pd.DataFrame(rows)
    adjusted = {f"{name}_p_holm": intervals.holm(table[f"{name}_p"]) for name in ("case_mix", "text", "named")}
    return table.assign(**adjusted), checks


def same_text_table(studies, resamples_n, rng):
    """Return how the network's labels agree with the physicians' on texts that both labelled, a text once.

    Parameters
    ----------
    studies : pandas.DataFrame
        Of `padchest.read_padchest_studies`.
    resamples_n : int
        Of texts.
    rng : numpy.random.Generator

    Returns
    -------
    pandas.DataFrame
        `finding, texts_n, physicians_n, network_n, both_n, kappa, kappa_low, kappa_high, reason`.
    """
    told = studies[studies["text"].str.strip() != ""].drop_duplicates(["text", "labelled_by"])
    sides = {name: part.set_index("text") for name, part in told.groupby("labelled_by")}
    shared = sides["physicians"].index.intersection(sides["network"].index)
    resamples = resampling.patient_resamples(np.arange(len(shared)), resamples_n, rng)
    rows = []
    for finding in MENTIONS:
        people, network = (sides[name].loc[shared, finding].to_numpy(float) for name in ("physicians", "network"))
        known = np.isfinite(people) & np.isfinite(network)
        people, network, part = people[known], network[known], resamples.of(known)
        few = intervals.too_few_of_either(people, part)
        value = intervals.interval(accuracy.kappa(people, network), accuracy.kappa(people, network, part), few)
        row = {"finding": finding, "texts_n": len(people), "physicians_n": int(people.sum())}
        row |= {"network_n": int(network.sum()), "both_n": int((people * network).sum())}
        rows.append({**row, "kappa": value.estimate, "kappa_low": value.low, "kappa_high": value.high, "reason": few})
    return pd.DataFrame(rows)


def labelers_at_random(studies, rng):
    """Return the network's studies as if two labelers had shared the patients at random: a control."""
    own = studies[studies["network"] == 1].reset_index(drop=True)
    names = own["patient_id"].unique()
    chosen = set(rng.permutation(names)[: len(names) // 2])
    return own.assign(network=own["patient_id"].isin(chosen).to_numpy() * 1.0)
