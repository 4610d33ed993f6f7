"""Get the files of the edition in force from a DVC remote, each checked by its hash: `cxr pull [REMOTE]`."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import TYPE_CHECKING

from cxrlib.base import editions, paths
from cxrlib.commands import sharing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def pull(remote: str | None = None) -> int:
    """Get what `dvc.lock` names of the edition in force; return how many outputs came.

    DVC trusts what a bucket or a server sends unless a remote has `verify`. Here every file is hashed, of any remote.

    Parameters
    ----------
    remote : str, optional
        The default remote of DVC, if not given. What only the remote `private` has comes from there.

    Raises
    ------
    ValueError
        In one sentence, if there is no such remote, it cannot be used, files are missing in it or damaged, or a file
        here would have to give way that DVC has nowhere else.
    """
    from dvc.exceptions import CheckoutError, DownloadError
    from dvc.repo import Repo  # takes a second

    with Repo(str(paths.ROOT)) as repo:
        name, address = sharing.remote_named(repo, remote)
    verified = {"remote": {key: {"verify": True} for key in (name, editions.PRIVATE)}}
    with Repo(str(paths.ROOT), config=verified) as repo:
        made = [out for out in sharing.kept_outputs(repo) if out.hash_info]
        with sharing.failures(name, address), contextlib.suppress(CheckoutError, DownloadError):
            repo.fetch(remote=name)  # what it lacks is named below
        lacking = sorted(str(out) for out in made if out.changed_cache())
        if lacking:
            store = repo.cloud.get_remote_odb(name)
            with sharing.failures(name, address):
                store.fs.exists(store.path)  # DVC only logs that it could not ask
            raise ValueError(
                f"The remote {name} ({address}) lacks files, or has them damaged, of {len(lacking)} outputs: "
                f"{sharing.some(lacking)}; whoever has them pushes them again (`cxr push {name}`), or `make repro` "
                "makes them."
            )
        with _giving_way():
            came = repo.checkout([out.fs_path for out in made], force=False)
    return sum(len(came.get(what, ())) for what in ("added", "modified"))


@contextlib.contextmanager
def _giving_way() -> Iterator[None]:
    """Turn what DVC says of files that it will not replace, or cannot write, into a ValueError of one sentence."""
    from dvc.exceptions import CheckoutError, DvcException
    from dvc.lock import LockError

    try:
        yield
    except LockError:
        raise ValueError(sharing.BUSY) from None
    except CheckoutError as error:
        raise ValueError(
            f"{sharing.some(error.target_infos)} could not be written: see to the space and the rights of their "
            "folders, and pull again."
        ) from None
    except DvcException as error:
        first, *named = str(error).splitlines()  # a file a line, if they are what stands in the way
        if not named:
            raise ValueError(f"DVC cannot put the files in their places: {first}") from None
        files = [os.path.relpath(name, paths.ROOT) for name in named]
        raise ValueError(
            f"{sharing.some(files)}: DVC has no copy of what is here, and pulling would replace or remove it; move "
            "away what you want to keep, remove the rest, and pull again."
        ) from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="cxr pull", description=__doc__.splitlines()[0])
    parser.add_argument("remote", nargs="?", metavar="REMOTE", help="a remote of DVC; without it, the default one")
    chosen = parser.parse_args(arguments)
    try:
        came = pull(chosen.remote)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    print(f"{came} outputs came; what dvc.lock names of this edition is here.")


if __name__ == "__main__":
    main()
