"""What chest X-ray labels are worth: the library behind the notebooks."""

import os
import warnings

# OpenMP threads that wait by spinning take the core that another process needs: a small network trained beside
# anything else ran up to forty times slower, and without any spinning it runs a third slower alone. So they spin
# for some microseconds. Must be set before torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
# One thread gives the same bytes on any number of cores, and two runs side by side are faster than one on two cores.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

__version__ = "0.1.0"

# tqdm, which torch's libraries import, asks for ipywidgets; nothing here needs them, and stored notebooks stay clean.
warnings.filterwarnings("ignore", message="IProgress not found")
