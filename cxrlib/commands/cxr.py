"""The command `cxr`: one name for every tool of this repository (`python -m cxrlib` does the same)."""

import importlib
import os
import sys
from collections.abc import Sequence

from cxrlib.commands import extras

COMMANDS = {
    "label": "label radiology reports, with the words that decided",
    "audit": "compare a label set with another on the same images",
    "score": "score a network's predictions by any label set",
    "leaks": "search a split or an external test set for images and patients that were trained on",
    "explain": "draw where in a radiograph a network finds its evidence",
    "read": "read one radiograph approximately, by what an archive's reports taught (research only)",
    "fetch": "fetch the published label tables that are in no package",
    "edition": "put an edition's settings in force, or write one for your own images",
    "privacy": "search what is to be published for traces of patients",
    "push": "push to a DVC remote what may go there, and name what may not",
    "pull": "get this edition's files from a DVC remote, each checked by its hash",
    "gc": "remove from DVC's cache what no version of dvc.lock names",
    "verify": "compare results with those that are committed",
}
_HELP = (
    "usage: cxr COMMAND ...\n\n"
    + "\n".join(f"  {name:<9}{purpose}" for name, purpose in COMMANDS.items())
    + "\n\n`cxr COMMAND --help` says more."
)


def main(arguments: Sequence[str] | None = None) -> int | None:
    """Run the command line; return what the command returns.

    A sentence on standard error and exit status 2 answer a command that there is not. Where packages of a command are
    not installed, a sentence says which extra brings them, with exit status 1. Ctrl+C ends with status 130 and
    a closed pipe with 141, without a traceback.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_HELP)
        return None
    if words[0] not in COMMANDS:
        print(f"cxr: there is no command {words[0]!r}; there are {', '.join(COMMANDS)}.", file=sys.stderr)
        sys.exit(2)
    try:
        status: int | None = importlib.import_module(f"cxrlib.commands.{words[0]}").main(words[1:])
        return status
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] == "cxrlib":  # a fault of ours, whose traceback is needed
            raise
        print(extras.sentence(words[0], error.name), file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    sys.exit(main())
