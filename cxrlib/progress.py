"""Progress bars that a person sees and a stored notebook does not."""

import os
import sys

from tqdm.auto import tqdm as notebook_tqdm
from tqdm.std import tqdm


def stepping():
    """Return whether a person steps through this in JupyterLab (or in a plain Python session)."""
    return "ipykernel" not in sys.modules or "JPY_SESSION_NAME" in os.environ


def bar(items, *, total=None, desc=None):
    """Return `items` under a progress bar.

    In JupyterLab the bar is shown in the notebook. When the pipeline runs a notebook it goes to the
    terminal, past the notebook, so that executed copies hold no bars.
    """
    if stepping():
        return notebook_tqdm(items, total=total, desc=desc, leave=False, disable=None)
    return tqdm(items, total=total, desc=desc, leave=False, file=sys.__stderr__, disable=not sys.__stderr__.isatty())
