"""Progress bars that a person sees and a stored notebook does not."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def bar(items: Iterable[Any] | None, *, total: int | None = None, desc: str | None = None) -> tqdm:
    """Return `items` under a progress bar.

    Stepping through in JupyterLab it is shown there, and a terminal shows it too; a pipe or a log file does not. When
    the pipeline runs a notebook it goes to the terminal, past the notebook, so that executed copies hold no bars.
    """
    in_kernel = "ipykernel" in sys.modules
    stepping = in_kernel and "JPY_SESSION_NAME" in os.environ
    file = sys.__stderr__ if in_kernel and not stepping else sys.stderr
    return tqdm(items, total=total, desc=desc, leave=False, file=file, disable=not (stepping or file.isatty()))  # type: ignore[union-attr]
