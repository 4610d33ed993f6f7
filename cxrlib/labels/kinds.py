"""The label sets that a cohort can have: published, shipped, one's own, read from reports, or simulated.

`params.yaml` lists them by cohort; `kind` names a function of `LABEL_SET_KINDS`, the rest are its arguments.
"""

from cxrlib.labels import derived, given, report_labels, shipped_files, simulated_labels

LABEL_SET_KINDS = {
    "any_finding": derived.any_finding,
    "agreeing": derived.agreeing,
    "permuted": derived.permuted,
    "published": given.published,
    "shipped": given.shipped,
    "own": given.own,
    "shipped_file": shipped_files.shipped_file,
    "read_reports": report_labels.read_reports,
    "drawn_truth": simulated_labels.drawn_truth,
    "simulated_panel": simulated_labels.simulated_panel,
    "simulated_reports": simulated_labels.simulated_reports,
    "simulated_report_labels": simulated_labels.simulated_report_labels,
}


def build(store, settings, earlier=None):
    """Return the label sets of a cohort, as `params.yaml` lists them.

    Parameters
    ----------
    store : cohorts.Store
    settings : Mapping
        Name of the label set -> `kind` (of `LABEL_SET_KINDS`) and that function's arguments.
    earlier : Mapping of str to pandas.DataFrame, optional
        Label sets that are there, indexed by `image_id`, to which `settings` may refer.

    Returns
    -------
    dict of (pandas.DataFrame, dict)
        Table and card by name.
    """
    built = {}
    there = {name: table.reset_index() for name, table in (earlier or {}).items()}
    for name, arguments in settings.items():
        arguments = dict(arguments)
        kind = arguments.pop("kind", None)
        if kind not in LABEL_SET_KINDS:
            raise ValueError(f"Label set {name!r}: kind {kind!r} is none of {', '.join(LABEL_SET_KINDS)}.")
        needed = [arguments[k] for k in ("reference",) if k in arguments] + list(arguments.get("also", []))
        if needed:
            late = [n for n in needed if n not in there]
            if late:
                raise ValueError(f"Label set {name!r}: list its reference {late[0]!r} before it.")
            arguments["built"] = dict(there)
        try:
            built[name] = LABEL_SET_KINDS[kind](store, **arguments)
        except TypeError as error:
            raise ValueError(f"Label set {name!r}: {error}.") from None
        there[name] = built[name][0]
    return built
