"""What a study's tables look like on a page: estimates as text, and the lines of a forest plot."""

from cxrlib.statistics import intervals

INTERNAL = "internal"  # what the test images of the training cohort are called


def places(cohorts, train_cohort):
    """Return what to call each test cohort, by cohort: `internal`, or its name without that of the training cohort.

    Parameters
    ----------
    cohorts : iterable of str
    train_cohort : str
    """
    return {c: INTERNAL if c == train_cohort else c.removeprefix(f"{train_cohort}_") for c in cohorts}


def texts(table):
    """Return each row's estimate with its interval as text, a list.

    Parameters
    ----------
    table : pandas.DataFrame
        With `estimate, low, high`.
    """
    return [intervals.text(*row) for row in table[["estimate", "low", "high"]].itertuples(index=False)]


def wide(table, index, columns):
    """Return a table with estimates and intervals as text, one column for each value of `columns`.

    Parameters
    ----------
    table : pandas.DataFrame
        With `estimate, low, high`; one row for each pair of index and column.
    index, columns : str or list of str
    """
    return table.assign(text=texts(table)).pivot(index=index, columns=columns, values="text")


def forest_lines(table, names, colours):
    """Return the lines of `figures.forest`, one a row of a table.

    Parameters
    ----------
    table : pandas.DataFrame
        With `estimate, low, high`.
    names, colours : sequence of str
        One a row.
    """
    return [
        {"name": name, "estimate": r.estimate, "low": r.low, "high": r.high, "colour": colour}
        for r, name, colour in zip(table.itertuples(), names, colours, strict=True)
    ]
