"""Figures in words: what a reader who does not see a figure is told, and what tests compare of it.

`described(fig)` reads panels, axes, series and their numbers from what was drawn, not from what was meant to be
drawn, so that a row that stands beside another row's interval is told as it stands.
"""

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.ticker import FixedLocator

_MOST_SAID = 40  # names or points of one panel that are told one by one
_INTERVAL, _POINT = "interval", "point"


def described(fig, caption=""):
    """Return a figure in words: a line that says what it shows, its caption, and the numbers of each panel.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
    caption : str
        What images it is from, and what its intervals cover.

    Returns
    -------
    str
        The first line is short, an alternative text. After an empty line follow `Caption: ...` and, for each panel, a
        line of what it is and a line for each named row or series with its numbers, to three digits.
    """
    panels = [axis for axis in fig.axes if axis.get_visible()]
    lines = [_summary(panels), "", f"Caption: {caption}" if caption else ""]
    for panel in panels:
        lines += _panel(panel)
    return "\n".join(line for k, line in enumerate(lines) if line or k == 1)


def alternative_text(description):
    """Return the line of a description (`described`) that stands for the figure where it cannot be seen."""
    return description.partition("\n")[0]


def _summary(panels):
    """Return in one sentence what a figure shows."""
    if panels and all(panel.images and not _title(panel) for panel in panels):
        rows = [name for panel in panels if (name := _words(panel.get_ylabel()))]
        return f"{len(panels)} images{f', in rows: {_listed(rows)}' if rows else ''}."
    titles = [name for panel in panels if (name := _title(panel))]
    axes = next((text for panel in panels if (text := _axes(panel))), "")
    kinds = list(dict.fromkeys(label for panel in panels for label in _labels(panel)))
    parts = [_listed(titles, "; ") if titles else "", axes, f"series: {_listed(kinds)}" if kinds else ""]
    count = f"{len(panels)} panels" if len(panels) > 1 else "Figure"
    return f"{count}: {'. '.join(part for part in parts if part) or 'without titles'}."


def _listed(names, between=", ", most=6):
    shown = list(dict.fromkeys(names))
    return between.join(shown[:most]) + (f"{between}and {len(shown) - most} more" if len(shown) > most else "")


def _words(text):
    return " ".join(str(text).split())


def _title(axis):
    return next((text for place in ("left", "center", "right") if (text := _words(axis.get_title(loc=place)))), "")


def _axes(axis):
    """Return the names of an axis's two scales."""
    across, up = _words(axis.get_xlabel()), _words(axis.get_ylabel())
    return f"{up} by {across}" if across and up else across or up


def _labels(axis):
    return [_words(label) for label in axis.get_legend_handles_labels()[1]]


def _named(scale):
    """Return the names of the places of a scale that has names, {place: name}, else an empty dictionary."""
    if not isinstance(scale.get_major_locator(), FixedLocator):
        return {}
    places = scale.get_majorticklocs()
    names = [_words(name) for name in scale.get_major_formatter().format_ticks(places)]
    numbers = all(_is_number(name) for name in names if name)
    return {} if numbers else {float(place): name for place, name in zip(places, names, strict=False) if name}


def _is_number(text):
    try:
        float(text.replace(",", "").rstrip("%"))
    except ValueError:
        return False
    return True


def _panel(axis):
    """Return the lines that tell one panel."""
    title, scales = _title(axis), _axes(axis)
    heading = ": ".join(part for part in (title, scales) if part) or "panel"
    if axis.images and not axis.texts:
        return [f"{heading}: an image"] if title else []
    rows, columns = _named(axis.yaxis), _named(axis.xaxis)
    if axis.images or (axis.texts and axis.patches):
        told = _cells(axis, rows, columns)
    elif rows and not columns:
        told = _rows(axis, rows)
    else:
        told = _series(axis, columns) or _written(axis)
    return [
        f"{heading}.",
        *told[:_MOST_SAID],
        *([f"and {len(told) - _MOST_SAID} more."] if told[_MOST_SAID:] else []),
    ]


def _cells(axis, rows, columns):
    """Return the written numbers of a panel of cells or bars, a line a row."""
    told = {}
    for text in axis.texts:
        x, y = text.get_position()
        row, column = rows.get(round(float(y))), columns.get(round(float(x)))
        told.setdefault(row or "", []).append(f"{column} {_words(text.get_text())}" if column else text.get_text())
    return [
        f"{row}: {', '.join(map(_words, parts))}" if row else ", ".join(map(_words, parts))
        for row, parts in told.items()
    ]


def _written(axis):
    """Return the words that stand in a panel, a line for each place across, from top to bottom."""
    columns = {}
    for text in axis.texts:
        x, y = text.get_position()
        columns.setdefault(round(float(x), 3), []).append((float(y), _words(text.get_text())))
    down = axis.yaxis_inverted()
    return [", ".join(word for _, word in sorted(columns[x], reverse=not down)) for x in sorted(columns)]


def _marks(axis):
    """Yield what is drawn as (kind, label, x, y): intervals have two x, points one."""
    for line in axis.lines:
        x, y = np.ravel(line.get_xdata(orig=False)), np.ravel(line.get_ydata(orig=False))
        label = "" if line.get_label().startswith("_") else _words(line.get_label())
        if line.get_transform() != axis.transData or line.get_linestyle() == ":" or not len(x):
            continue
        if line.get_linestyle() == "None" or len(x) == 1:
            for one, other in zip(x, y, strict=True):
                yield _POINT, label, (one,), other
        elif len(x) == 2 and y[0] == y[1]:
            yield _INTERVAL, label, tuple(x), y[0]
        else:
            for one, other in zip(x, y, strict=True):
                yield _POINT, label, (one,), other
    for drawn in axis.collections:
        if isinstance(drawn, LineCollection):
            for segment in drawn.get_segments():
                if len(segment) == 2 and segment[0][1] == segment[1][1]:
                    yield _INTERVAL, "", (segment[0][0], segment[1][0]), segment[0][1]
    for bar in axis.patches:
        if hasattr(bar, "get_width"):
            yield _POINT, "", (bar.get_width(),), bar.get_y() + bar.get_height() / 2


def _rows(axis, names):
    """Return a line for each named row: its points, each with the interval at the same height."""
    down = axis.yaxis_inverted()
    told = {names[place]: [] for place in sorted(names, reverse=not down)}
    intervals, points = {}, {}
    for kind, label, x, y in _marks(axis):
        place = min(names, key=lambda known: abs(known - y))
        if abs(place - y) < 0.5:
            (intervals if kind == _INTERVAL else points).setdefault((place, round(float(y), 6)), []).append(
                (label, x)
            )
    for (place, y), shown in points.items():
        ends = intervals.get((place, y), [])
        for k, (label, (value,)) in enumerate(shown):
            interval = f" ({_number(ends[k][1][0])} to {_number(ends[k][1][1])})" if k < len(ends) else ""
            told[names[place]].append(f"{f'{label} ' if label else ''}{_number(value)}{interval}")
    return [f"{name}: {', '.join(parts)}" for name, parts in told.items() if parts]


def _series(axis, names):
    """Return a line for each curve or cloud: its points one by one if they are few, else ends and range."""
    told = []
    for line in axis.lines:
        if line.get_transform() != axis.transData or line.get_linestyle() == ":" or line.get_label().startswith("_"):
            continue
        x, y = np.ravel(line.get_xdata(orig=False)), np.ravel(line.get_ydata(orig=False))
        if len(x):  # an empty line only stands for others in a legend
            told.append(f"{_words(line.get_label())}: {_points(x, y, names)}")
    for drawn in axis.collections:
        label = _words(drawn.get_label())
        if label and not label.startswith("_") and len(drawn.get_offsets()):
            told.append(f"{label}: {len(drawn.get_offsets())} points")
    for drawn in axis.containers:
        label = _words(drawn.get_label())
        if label and not label.startswith("_") and getattr(drawn, "lines", None):
            x, y = drawn.lines[0].get_data() if drawn.lines[0] is not None else ([], [])
            told.append(f"{label}: {_points(np.ravel(x), np.ravel(y), names)}")
    return told


def _points(x, y, names):
    finite = np.isfinite(np.asarray(x, float)) & np.isfinite(np.asarray(y, float))
    x, y = np.asarray(x, float)[finite], np.asarray(y, float)[finite]
    if not len(x):
        return "no points"
    where = [names.get(float(round(one))) if names else None for one in x]
    if len(x) <= 8:
        return ", ".join(f"{_number(b)} at {w or _number(a)}" for a, b, w in zip(x, y, where, strict=True))
    ends = f"from {_number(y[0])} at {where[0] or _number(x[0])} to {_number(y[-1])} at {where[-1] or _number(x[-1])}"
    return f"{len(x)} points {ends}, between {_number(y.min())} and {_number(y.max())}"


def _number(value):
    """Return a number to three digits, large ones as integers, without a minus sign at zero."""
    text = f"{float(value):,.0f}" if abs(value) >= 1000 else f"{float(value):.3g}"
    return "0" if text == "-0" else text
