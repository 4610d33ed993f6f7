"""Push to a DVC remote what may go there, and name what was left out: `cxr push [REMOTE]` (`make push`).

Only the remote `private` gets what is made of images that may not be given away. Exit status 1 if anything that
should have gone did not.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from cxrlib.base import editions, paths, runs
from cxrlib.commands import sharing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dvc.repo import Repo


def push(remote: str | None = None) -> int:
    """Push the edition in force to a remote, as far as it may go there; return how many files were sent.

    Parameters
    ----------
    remote : str, optional
        The default remote of DVC, if not given.

    Raises
    ------
    ValueError
        In one sentence, if there is no such remote, it cannot be used, or something may not go or is not here.
    """
    from dvc.repo import Repo  # takes a second

    sharing.check_edition(runs.params())
    with Repo(str(paths.ROOT)) as repo:
        name, address = sharing.remote_named(repo, remote)
        kept = sharing.kept_outputs(repo)
        if name != editions.PRIVATE:
            _tell_left_out(repo, name)
        with sharing.failures(name, address):
            sent = repo.push(remote=name)
        goes = [out for out in kept if out.hash_info and (name == editions.PRIVATE or out.remote != editions.PRIVATE)]
        lacking = sorted(str(out) for out in goes if out.changed_cache())
    if lacking:
        raise ValueError(
            f"{len(lacking)} outputs are not whole here, and went to {name} in part or not at all: "
            f"{sharing.some(lacking)}; `make repro` makes them, `cxr pull` gets them."
        )
    return sent


def _tell_left_out(repo: Repo, name: str) -> None:
    """Print what a public remote does not get; refuse if a file's own terms are not known."""
    unknown = sharing.undeclared_files(repo)
    if unknown:
        raise ValueError(
            f"{unknown[0]} does not say who may have its file, and nothing was pushed to {name}: add "
            f"`remote: private` to its output, or `meta: {{for: {sharing.ANYONE}}}` if its owner lets anyone have it."
        )
    kept = sharing.private_outputs(repo)
    if kept:
        print(
            f"Left out, since edition {runs.params()['edition']} may not be given away: {len(kept)} outputs ("
            f"{sharing.some(kept)}). `cxr push {editions.PRIVATE}` pushes them to the remote {editions.PRIVATE}, "
            f"{sharing.remote_named(repo, editions.PRIVATE)[1]}."
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="cxr push", description=__doc__.splitlines()[0])
    parser.add_argument("remote", nargs="?", metavar="REMOTE", help="a remote of DVC; without it, the default one")
    chosen = parser.parse_args(arguments)
    try:
        sent = push(chosen.remote)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    print(f"{sent} files were pushed." if sent else "The remote has everything already.")


if __name__ == "__main__":
    main()
