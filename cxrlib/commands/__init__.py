"""The commands: `cxr NAME`, also `python -m cxrlib NAME`; and what `make` calls.

In come words of a command line; out come files, a sentence on what was done, and an exit status.
"""
