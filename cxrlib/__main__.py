"""`python -m cxrlib COMMAND` is `cxr COMMAND`."""

import sys

from cxrlib.commands.cxr import main

if __name__ == "__main__":
    sys.exit(main())
