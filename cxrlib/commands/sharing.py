"""What DVC may give to whom: the outputs that only the remote `private` gets, and editions that contradict it.

DVC pushes an output that names a remote to no other (`remote: ${stages.remote}` in `dvc.yaml`), also by a plain
`dvc push`. `stages.remote` is `private` unless an edition says `published: true`. Here stands what DVC cannot know:
whether an edition may say so, and files that were added by hand.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from cxrlib.base import editions, paths, yaml_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from dvc.output import Output
    from dvc.repo import Repo

_GUIDE = "docs/guides/dvc_remotes.md"
BUSY = "Another DVC command works in this checkout: wait until it has ended."
ANYONE = "anyone"  # what `meta: {for: anyone}` in a .dvc file says


def check_edition(settings: Mapping[str, Any], root: Path = paths.ROOT) -> None:
    """Raise a ValueError if an edition that gives everything away has what may not be given away.

    Parameters
    ----------
    settings : Mapping
        Of `params.yaml`. An edition with `published: false` passes: its outputs go to the private remote alone.
    root : Path

    Raises
    ------
    ValueError
        In one sentence, if images are not simulated and the edition's own file does not say `published: true` of
        them, so that it has it from the edition that it extends, or from a change of `params.yaml`; or if a published
        label set of theirs is one that its owner alone gives out.
    """
    if not settings["published"]:
        return
    name = settings["edition"]
    real = [key for key in settings["cohort_names"] if settings["cohorts"][key]["source"] != "simulated"]
    unsaid = [key for key in real if not _says_so(root, name, key, settings["cohorts"][key])]
    if unsaid:
        raise ValueError(
            f"Edition {name} gives everything away (`published: true`), the images of {unsaid[0]} are not simulated, "
            f"and editions/{name}.yaml itself does not say so of them: write `published: false` there, or "
            f"`published: true` if their owner lets anyone have all that is made of them ({_GUIDE})."
        )
    held = [(cohort, each) for cohort in settings["cohort_names"] for each in _held_back(settings, cohort)]
    if held:
        cohort, (label_set, release, licence) = held[0]
        raise ValueError(
            f"editions/{name}.yaml says `published: true`, and its label set {label_set} of {cohort} is {release}, "
            f"which its owner alone gives out (terms: {licence}): write `published: false`, or leave that set out."
        )


def _says_so(root, name, cohort, images):
    """Return whether an edition's own file says that it is published, and has a cohort as it is in force."""
    file = root / "editions" / f"{name}.yaml"
    if not file.exists() or "published" not in (yaml_files.read_yaml(file, file.name) or {}):
        return False
    return editions.compose(name, root)["cohorts"].get(cohort) == images


def _held_back(settings, cohort):
    """Return the label sets of a cohort that are tables which only their owner gives out, with name and licence."""
    named = [
        (label_set, made["name"])
        for label_set, made in settings["label_sets"][cohort].items()
        if made.get("kind") == "published"
    ]
    if not named:
        return []
    from cxrlib.releases import catalogue  # needs packages of an extra

    return [
        (label_set, name, catalogue.ENTRIES[name].card["licence"])
        for label_set, name in named
        if name in catalogue.ENTRIES and catalogue.ENTRIES[name].labels
    ]


def kept_outputs(repo: Repo) -> list[Output]:
    """Return the outputs of the edition in force that DVC keeps.

    Raises
    ------
    ValueError
        In one sentence, if DVC cannot read `dvc.yaml` or `dvc.lock`.
    """
    from dvc.exceptions import DvcException

    try:
        return [out for out in repo.index.outs if out.use_cache]
    except DvcException as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"DVC cannot read the pipeline ({said}): `make repro` mends a dvc.lock that was cut short, and "
            "`git checkout dvc.lock dvc.yaml` restores what is committed."
        ) from None


def private_outputs(repo: Repo) -> list[str]:
    """Return the outputs of the edition in force that only the private remote gets, as paths, sorted."""
    return sorted({str(out) for out in kept_outputs(repo) if out.remote == editions.PRIVATE})


def undeclared_files(repo: Repo) -> list[str]:
    """Return the `.dvc` files that do not say where their file may go, as paths, sorted.

    One says it by `remote: private` below its output, which DVC obeys, or by `meta: {for: anyone}`.
    """
    return sorted(
        stage.relpath
        for stage in repo.index.stages
        if stage.path.endswith(".dvc")
        and (stage.meta or {}).get("for") != ANYONE
        and any(out.use_cache and out.remote != editions.PRIVATE for out in stage.outs)
    )


def remote_named(repo: Repo, name: str | None) -> tuple[str, str]:
    """Return a remote of the checkout and its address: the one that is named, or the default.

    Raises
    ------
    ValueError
        In one sentence, if there is no such remote, none is the default, or a public remote is at the private
        one's address.
    """
    remotes = {key: str(remote["url"]) for key, remote in repo.config["remote"].items()}
    others = ", ".join(key for key in remotes)
    chosen = name or repo.config["core"].get("remote")
    if not chosen:
        raise ValueError(
            "No remote is named and none is the default: `dvc remote add --default NAME ADDRESS` adds one "
            f"({_GUIDE}); there are {others or 'none'}."
        )
    if chosen not in remotes:
        raise ValueError(
            f"There is no remote {chosen!r}; there are {others or 'none'}: `dvc remote add NAME ADDRESS` adds one."
        )
    private = remotes.get(editions.PRIVATE)
    shared = [key for key, url in remotes.items() if key != editions.PRIVATE and url.rstrip("/") == private]
    if shared:
        raise ValueError(
            f"The remotes {editions.PRIVATE} and {shared[0]} have one address, {private}: whoever may read the one "
            "would read what may not be given away; give one of them another (`dvc remote modify NAME url ADDRESS`)."
        )
    return chosen, remotes[chosen]


def some(names: Sequence[str]) -> str:
    """Return the first three of some names, and how many more there are, as text."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@contextlib.contextmanager
def failures(remote: str, address: str) -> Iterator[None]:
    """Turn what a store's client raises into a ValueError of one sentence; what a pull finds missing passes.

    Parameters
    ----------
    remote, address : str
    """
    from dvc.exceptions import CheckoutError, DownloadError, DvcException
    from dvc.lock import LockError

    try:
        yield
    except (CheckoutError, DownloadError):
        raise
    except LockError:
        raise ValueError(BUSY) from None
    except (DvcException, OSError, *_client_errors()) as error:
        raise ValueError(_sentence(error, remote, address)) from None


def _client_errors():
    """Return the exceptions of the clients of stores, as far as one is installed; a folder has none."""
    found = []
    for module, names in (("botocore.exceptions", ("BotoCoreError", "ClientError")), ("asyncssh", ("Error",))):
        if importlib.util.find_spec(module.partition(".")[0]):
            found += [getattr(importlib.import_module(module), name) for name in names]
    return found


def _sentence(error, remote, address):
    """Return what DVC, or the client of a store, says of a remote, as a sentence with the remedy."""
    said = " ".join(str(error).split()) or type(error).__name__
    low = f"{type(error).__name__} {said}".lower()
    remedies = (
        (("credential", "invalidaccesskeyid", "signaturedoesnotmatch"), "set the store's access key and secret"),
        (("host key", "hostkey"), "put the server's host key into ~/.ssh/known_hosts"),
        (("permission", "access denied", "accessdenied", "forbidden"), "ask who keeps the store for access to it"),
        (("nosuchbucket", "does not exist", "no such file"), "check its address, and that the store was made"),
        (("connect", "timed out", "resolve", "name or service"), "check its address and the network"),
        (("is required", "requires", "not installed", "missing dependencies"), 'run pip install "cxrlib[remotes]"'),
    )
    remedy = next((then for words, then in remedies if any(word in low for word in words)), "see what it says")
    return f"The remote {remote} ({address}) cannot be used: {remedy} ({said.rstrip('.')}); {_GUIDE} shows how."
