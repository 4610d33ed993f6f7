"""The report labelers by name, as the command line and label sets use them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cxrlib.base import paths
from cxrlib.labelers import rules
from cxrlib.reports import report_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any, ClassVar

    import pandas as pd

    from cxrlib.labelers.assertions import Mention

CHEXBERT_FILE = "chexbert.pth"


class Rules:
    """The rule labeler, as this command uses it.

    A labeler of this command is a class with `name`, `findings` (columns, in order) and `read_many(texts)`, which
    returns a pandas.DataFrame with a row per text and float32 columns `findings`: 1, 0, -1 or NaN. It is made with
    `folder` (None for its own phrases or weights). If it has `stream(reports, workers, evidence)`, that is used
    instead: it yields `(id, labels as dict, mentions as sequence of rules.Mention)` in order. `gives_evidence` says
    whether it can name the words that decided.
    """

    name = "rules"
    findings = rules.LABELED_FINDINGS
    gives_evidence = True

    def __init__(self, folder: Path | str | None = None) -> None:
        if folder is not None and not Path(folder).is_dir():
            raise FileNotFoundError(
                f"{folder} is no folder of phrases: copy cxrlib/labelers/phrases and name the copy."
            )
        self.labeler = rules.RuleLabeler(folder)

    def read_many(self, texts: Iterable[str]) -> pd.DataFrame:
        """Return labels, a row per text."""
        return self.labeler.read_many(texts)

    def stream(
        self, reports: Iterable[tuple[str, str]], workers: int | None = None, evidence: bool = False
    ) -> Iterator[tuple[str, dict[str, float], Sequence[Mention]]]:
        """Yield `id, labels, mentions` for a stream of `id, text`."""
        folder = self.labeler.folder
        for report_id, reading in rules.label_reports(
            reports, workers, report_rows.BATCH_N, folder=folder, evidence=evidence, labeler=self.labeler
        ):
            yield report_id, reading.labels, reading.evidence


class _Learned:
    """A labeler that was trained, as this command uses it: `folder` is where it lies."""

    gives_evidence = False
    if TYPE_CHECKING:
        name: ClassVar[str]

        @staticmethod
        def _load(folder: Path) -> Any: ...

    def __init__(self, folder: Path | str | None = None) -> None:
        self.labeler = self._load(self._find(Path(folder) if folder else paths.labeler_dir(self.name)))
        self.findings = tuple(self.labeler.findings)

    @staticmethod
    def _find(folder: Path) -> Path:
        """Return the folder, or say where one is to be had; asked before torch is loaded, which takes seconds."""
        if not (folder / "labeler.json").exists():
            raise FileNotFoundError(
                f"{folder} holds no trained labeler (labeler.json): name the folder of one by --weights, or train it "
                "by `make repro` in a clone of the repository, which puts it below data/labelers."
            )
        return folder

    def read_many(self, texts: Iterable[str]) -> pd.DataFrame:
        """Return labels, a row per text."""
        return self.labeler.read_many(list(texts))


class Bert(_Learned):
    """The language-model labeler that notebook 12 trains."""

    name = "bert"

    @staticmethod
    def _load(folder: Path) -> Any:
        from cxrlib.labelers import bert

        return bert.BertLabeler.load(folder)


class Visual(_Learned):
    """The labeler that learned from images, which notebook 13 trains."""

    name = "visual"

    @staticmethod
    def _load(folder: Path) -> Any:
        from cxrlib.labelers import visual

        return visual.VisualLabeler.load(folder)


class Chexbert(_Learned):
    """CheXbert's released checkpoint; `folder` is the file, chexbert.pth, or the folder that holds it."""

    name = "chexbert"

    @staticmethod
    def _find(folder: Path) -> Path:
        path = folder / CHEXBERT_FILE if folder.is_dir() or not folder.suffix else folder
        if not path.exists():
            raise FileNotFoundError(
                f"There is no file {path}: CheXbert's authors give it out (github.com/stanfordmlgroup/CheXbert); put "
                "it there, or name it by --weights."
            )
        return path

    @staticmethod
    def _load(folder: Path) -> Any:
        from cxrlib.labelers import chexbert

        return chexbert.load_chexbert(folder)


LABELERS = {"rules": Rules, "bert": Bert, "visual": Visual, "chexbert": Chexbert}


def open_labeler(name: str, **arguments: Any) -> Any:
    """Return a report labeler: an object whose `read_many(texts)` gives a row of findings a text.

    Parameters
    ----------
    name : str
        A key of `LABELERS`.
    **arguments
        Of that entry.
    """
    if name not in LABELERS:
        raise ValueError(f"There is no report labeler {name!r}; there are {', '.join(LABELERS)}.")
    return LABELERS[name](**arguments)
