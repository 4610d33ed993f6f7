"""Run committed notebooks again and compare their outputs; what several test files need."""

import subprocess
import sys


def nbval(scratch, *notebooks):
    """Return what nbval says of notebooks that are run again in a copy of the checkout."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--nbval"]
    command += ["--nbval-cell-timeout=300", "--nbval-sanitize-with", "tests/nbval_sanitize.cfg", *notebooks]
    for _ in range(3):  # two kernels that start at once may choose the same port; one of them then dies
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
        if "Kernel died before replying" not in done.stdout:
            break
    return done
