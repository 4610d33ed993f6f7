"""What a kernel of `make lab` runs first (`PYTHONSTARTUP`); it leaves no name behind in the notebook."""

__import__("IPython").get_ipython() and __import__("IPython").get_ipython().run_line_magic(
    "load_ext", "cxrlib.commands.lab"
)
