"""`python -m cxrlib COMMAND` is `cxr COMMAND`."""

from cxrlib.commands.cxr import main

if __name__ == "__main__":
    main()
