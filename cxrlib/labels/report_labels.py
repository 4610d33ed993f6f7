"""What a labeler reads in the reports of a cohort's images."""

import pandas as pd

from cxrlib.base import label_tables
from cxrlib.labelers import registry
from cxrlib.reports import image_reports

_BLANK = ("kept", "absent")  # what a finding that a report does not mention becomes: not assessed, or 0


def with_blanks(table, card, blank):
    """Return a label set with its blanks kept or taken as absent, which the card says with their number."""
    if blank not in _BLANK:
        raise ValueError(f"blank: {blank!r} is none of {', '.join(_BLANK)}.")
    findings = [c for c in table if c != "image_id"]
    said = f"{int(table[findings].isna().sum().sum())} blank labels, not mentioned, are "
    if blank == "absent":
        table = table.fillna(dict.fromkeys(findings, 0.0))
    notes = [
        *card.get("notes", []),
        said + ("taken as absent." if blank == "absent" else "kept as not assessed."),
    ]
    return table, {**card, "notes": notes}


def read_reports(store, labeler, reports, arguments=None, blank="kept", **card):
    """Return what a labeler reads in the reports of the cohort's images.

    Parameters
    ----------
    store : cohorts.Store
    labeler : str
        A key of `registry.LABELERS`.
    reports : Mapping
        Where the reports are (`report_sources.read`).
    arguments : Mapping, optional
        Of the labeler.
    blank : {"kept", "absent"}
        Whether what a report does not mention stays not assessed or counts as absent. -1 is always kept.
    **card
        Fields of the card, where they are to say something else.

    Raises
    ------
    ValueError
        If a setting is unknown, no image has a report, or the labeler does not give one row a text.

    Notes
    -----
    Every image of a study gets its report's labels. Images without a report are not in the label set: the card
    counts them.
    """
    unknown = sorted(set(card) - set(label_tables.CARD_FIELDS))
    if unknown:
        raise ValueError(f"{unknown[0]!r} is neither an argument of read_reports nor a field of the card.")
    found = image_reports.of_images(image_reports.read_linked(reports), store.index["image_id"])
    texts = found.table.drop_duplicates("report_id").set_index("report_id")["text"]
    said = registry.open_labeler(labeler, **(arguments or {})).read_many(texts.tolist())
    if len(said) != len(texts):
        raise ValueError(f"Labeler {labeler!r} gave {len(said)} rows for {len(texts)} reports.")
    labels = said.astype("float32").set_axis(texts.index).loc[found.table["report_id"]].reset_index(drop=True)
    table = pd.concat([found.table["image_id"].reset_index(drop=True), labels], axis=1)
    about = {
        "who": f"the labeler {labeler!r} of this repository, a program reading the radiology report",
        "how": f"{len(texts)} reports of {len(table)} images; section {reports.get('sections', 'impression')}",
        "version": "this revision",
        "source": f"reports from {reports['source']}",
        "licence": "as the reports",
        "citation": "this repository, and the owner of the reports",
        **card,
        "labeler": {"name": labeler, **(arguments or {})},
        "notes": found.notes(),
    }
    return with_blanks(table, about, blank)
