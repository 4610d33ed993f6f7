"""Tables and lists that pages show and no result file holds: the five studies, and the cards of the label sets."""

import pandas as pd
import yaml
from scipy import stats

from cxrlib.commands import values
from cxrlib.releases import catalogue

_CARD = ("who", "how", "version", "source", "licence", "citation")


def five_studies(root):
    """Return the table of the five studies: what was published beside what is estimated here, a row an estimate.

    Parameters
    ----------
    root : pathlib.Path
        The repository, whose docs/five_studies.yaml says which estimates these are.

    Returns
    -------
    pandas.DataFrame
    """
    rows = []
    for study in yaml.safe_load((root / "docs/five_studies.yaml").read_text(encoding="utf-8")):
        for number, estimate in enumerate(study["estimates"]):
            first = number == 0
            rows.append(
                {
                    "study": f"[{study['study']}]({study['page']})" if first else "",
                    "question": study["question"] if first else "",
                    "published": study["published"] if first else "",
                    "our estimate (95 % interval)": values.value(estimate["value"], root),
                    "of": estimate["of"],
                    "images": f"**{estimate['images'].partition(',')[0]}**"
                    + "".join(estimate["images"].partition(",")[1:]),
                }
            )
    return pd.DataFrame(rows)


def study(root, number):
    """Return the rows of one study of that table, without its name and its question.

    Parameters
    ----------
    root : pathlib.Path
    number : str
        From 1.

    Returns
    -------
    pandas.DataFrame
    """
    table = five_studies(root)
    return table[table["study"].ne("").cumsum().eq(int(number))].drop(columns=["study", "question"])


def label_set_cards(_root):
    """Return the cards of the published label sets, a heading and a table each.

    Returns
    -------
    str
        Markdown.
    """
    parts = []
    for name, entry in catalogue.ENTRIES.items():
        lines = [f"## {name}", "", "| field | content |", "| --- | --- |"]
        card = {field: " ".join(str(entry.card[field]).split()) for field in _CARD if entry.card.get(field)}
        lines += [f"| {field} | {text} |" for field, text in card.items()]
        lines.append(f"| readers kept apart | {'yes' if entry.readers else 'no'} |")
        if entry.doi or entry.url:
            lines.append(f"| paper | <{f'https://doi.org/{entry.doi}' if entry.doi else entry.url}> |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def labeler_networks(root):
    """Return the differences in mean AUC between networks trained on labels of different labelers (study 2).

    Returns
    -------
    pandas.DataFrame
        A row a comparison, with the internal and the external test as columns.
    """
    table = pd.read_csv(root / "results/quick/labelers/differences.csv", dtype={"p_holm": str})
    table = table[table["findings"] == "all"]
    rows = []
    for comparison, part in table.groupby("comparison", sort=False):
        row = {"difference in mean AUC": comparison}
        for line in part.itertuples():
            row[f"{line.test} test"] = f"{line.estimate:.3f} ({line.low:.3f} to {line.high:.3f})"
            p = line.p_holm if line.p_holm.startswith("<") else f"{float(line.p_holm):.3f}"
            row[f"p, {line.test}, Holm"] = p
        rows.append(row)
    return pd.DataFrame(rows)


def _brief(number):
    return f"{number / 1e6:,.0f} million" if number > 1e7 else f"{number:,.0f}"


def _two_digits(number):
    return "" if pd.isna(number) else f"{number:.2f}"


def full_size(root):
    """Return what each step takes at its largest size, and how it grew to there (`benchmarks/size.py`).

    Returns
    -------
    pandas.DataFrame
        A row a step: CPU seconds at the largest size, the exponent of their growth from the smallest one, anonymous
        memory at every size, and by how many bytes an image or report it grows.
    """
    table = pd.read_csv(root / "results/benchmarks/size.csv")
    rows = []
    for step, part in table.groupby("step", sort=False):
        last = part.iloc[-1]
        memory = ", ".join(f"{mib:.0f}" for mib in part["anonymous_mib"])
        rows.append(
            {
                "step": step,
                "items": f"{_brief(last['items'])} {last['unit']}",
                "CPU seconds": f"{last['cpu_seconds']:,.0f}",
                "grows as n to the power": _two_digits(last["time_exponent"]),
                "anchor": last["anchor"],
                "items per CPU second over the anchor's": f"{last['ratio']:,.2f}",
                "images or reports (n)": ", ".join(f"{n:,}" for n in part["n"]),
                "MiB at these": memory,
                "MiB of the largest worker": f"{last['worker_mib']:.0f}" if last["worker_mib"] >= 1 else "",
                "grows by, bytes": "" if pd.isna(last["growth_bytes"]) else f"{last['growth_bytes']:,.0f}",
            }
        )
    return pd.DataFrame(rows)


def failure_frac_high(moments_n, equal_n):
    """Return the upper 95 % bound of the rate of failures: Clopper and Pearson's, with all 5 % on its side.

    Parameters
    ----------
    moments_n : int
        How often something was tried, each time on its own.
    equal_n : int
        How often it did not fail.

    Returns
    -------
    float
        After no failure it is a little less than 3 / `moments_n`.
    """
    failures_n = moments_n - equal_n
    return float(stats.beta.ppf(0.95, failures_n + 1, equal_n)) if equal_n else 1.0


def _faults_table(root):
    """Return what `benchmarks/faults.py` wrote, a row per fault and what it befell."""
    return pd.read_csv(root / "results" / "benchmarks" / "faults.csv")


def interruptions(root):
    """Return in a sentence how many interruptions at random moments left no trace, and what that bounds.

    Parameters
    ----------
    root : pathlib.Path
        The repository.

    Returns
    -------
    str
    """
    table = _faults_table(root)
    table = table[table["fault"].isin(["SIGKILL to the whole group", "SIGINT to the whole group"])]
    moments_n, equal_n = int(table["moments_n"].sum()), int(table["equal_n"].sum())
    high = failure_frac_high(moments_n, equal_n)
    return (
        f"After {equal_n} of {moments_n} interruptions at random moments, the same command ended with the results of "
        "an undisturbed run.\n"
        f"The share of interruptions after which it does not is at most {100 * high:.0f} %, with 95 % confidence."
    )


def faults(root):
    """Return the table of the faults that were brought about (`benchmarks/faults.py`), without messages and times.

    Parameters
    ----------
    root : pathlib.Path
        The repository.

    Returns
    -------
    pandas.DataFrame
        A row per fault and what it befell, with the upper 95 % bound of the rate at which it is not dealt with.
    """
    table = _faults_table(root)
    names = {"fault": "fault", "of": "of", "moments_n": "moments", "equal_n": "noticed, or ended equal"}
    bounds = [failure_frac_high(*counts) for counts in zip(table["moments_n"], table["equal_n"], strict=True)]
    shown = table[list(names)].rename(columns=names)
    return shown.assign(**{"neither, at most (95 % bound)": [f"{100 * bound:.0f} %" for bound in bounds]})


MADE = {
    "faults": faults,
    "full_size": full_size,
    "interruptions": interruptions,
    "labeler_networks": labeler_networks,
    "five_studies": five_studies,
    "study": study,
    "label_set_cards": label_set_cards,
}
