"""What every notebook starts with."""

import logging
import os
import warnings

import numpy as np
import pandas as pd


def start():
    """Make a notebook's outputs reproducible and quiet: no warnings, no logs, fixed display widths."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    pd.set_option("display.width", 120, "display.max_columns", 30, "display.max_rows", 60, "display.precision", 3)
    np.set_printoptions(precision=4, suppress=True)
