"""Put an edition in force: `python -m cxrlib edition NAME` copies `editions/NAME.yaml` to `params.yaml`."""

import sys

from cxrlib.base import paths


def available(root=paths.ROOT):
    """Return the editions there are, name to file."""
    return {p.stem: p for p in sorted((root / "editions").glob("*.yaml"))}


def activate(name, root=paths.ROOT):
    """Make an edition the one in force.

    Raises
    ------
    ValueError
        If there is no such edition, or `params.yaml` holds changes that no edition has and that would be lost.
    """
    editions = available(root)
    if name not in editions:
        raise ValueError(f"There is no edition {name!r}; there are: {', '.join(editions)}.")
    params = root / "params.yaml"
    wanted = editions[name].read_bytes()
    if params.exists() and params.read_bytes() == wanted:
        return
    if params.exists() and params.read_bytes() not in [p.read_bytes() for p in editions.values()]:
        raise ValueError(
            "params.yaml holds changes of your own, which would be lost: save it as an edition "
            "(cp params.yaml editions/mine.yaml, with a new name in its line `edition:`), or undo them "
            "(git checkout params.yaml)."
        )
    params.write_bytes(wanted)


def main():
    """Run the command line."""
    if len(sys.argv) != 2:
        sys.exit(f"Say which edition: make repro EDITION=NAME, with NAME one of {', '.join(available())}.")
    try:
        activate(sys.argv[1])
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
