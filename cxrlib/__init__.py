"""What chest X-ray labels are worth: the library behind the notebooks."""

import os

# OpenMP threads that wait by spinning take the core that another process needs: a training beside anything
# else ran five times slower. Must be set before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
