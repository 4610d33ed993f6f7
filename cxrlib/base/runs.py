"""What every notebook starts with, and the record that every run leaves."""

import yaml

from cxrlib.base import paths


def params(*keys):
    """Return a section of `params.yaml`, for settings that are more than one value.

    Raises
    ------
    KeyError
        Naming the section that is missing.
    """
    section = yaml.safe_load((paths.ROOT / "params.yaml").read_text())
    for k, key in enumerate(keys):
        if key not in section:
            raise KeyError(f"params.yaml has no {'.'.join(keys[: k + 1])}; there are {', '.join(map(str, section))}.")
        section = section[key]
    return section


def planned(settings, groups=None):
    """Return the runs of an edition as `(target, architecture, seed)`, in the order of `params.yaml`.

    Parameters
    ----------
    settings : Mapping
        `params.yaml`.
    groups : sequence of str, optional
        Which groups of `settings["runs"]`; all if not given.
    """
    return [
        (target, architecture, seed)
        for group in (settings["runs"] if groups is None else groups)
        for target in settings["runs"][group]["targets"]
        for architecture in settings["runs"][group]["architectures"]
        for seed in settings["runs"][group]["seeds"]
    ]


def key(target, architecture, seed):
    """Return a run's key: its folder, its stage and its row in every table."""
    return f"{target}-{architecture}-{seed}"
