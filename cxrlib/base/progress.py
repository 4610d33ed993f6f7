"""Progress bars that a person sees and a stored notebook does not."""

import os
import sys

from tqdm import tqdm


def bar(items, *, total=None, desc=None):
    """Return `items` under a progress bar.

    Stepping through in JupyterLab, and in a plain Python session, it is shown there. When the pipeline runs a
    notebook it goes to the terminal, past the notebook, so that executed copies hold no bars.
    """
    stepping = "ipykernel" not in sys.modules or "JPY_SESSION_NAME" in os.environ
    file = sys.stderr if stepping else sys.__stderr__
    return tqdm(items, total=total, desc=desc, leave=False, file=file, disable=not (stepping or file.isatty()))
