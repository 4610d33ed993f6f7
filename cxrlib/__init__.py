"""What chest X-ray labels are worth: the library behind the notebooks."""

import os
import warnings

# OpenMP threads that wait by spinning take the core that another process needs: a small network trained beside
# anything else ran up to forty times slower, and without any spinning it runs a third slower alone. So they spin
# for some microseconds. Must be set before torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

__version__ = "0.1.0"

# tqdm, which torch's libraries import, asks for ipywidgets; nothing here needs them, and stored notebooks stay clean.
warnings.filterwarnings("ignore", message="IProgress not found")
