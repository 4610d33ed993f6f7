"""What every notebook starts with, and the record that every run leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cxrlib.base import paths, yaml_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any


def params(*keys: str) -> Any:
    """Return a section of `params.yaml`, for settings that are more than one value.

    Raises
    ------
    KeyError
        Naming the section that is missing.
    ValueError
        If `params.yaml` is no plain YAML, in one sentence with the line.
    """
    section = yaml_files.read_mapping(paths.ROOT / "params.yaml", "params.yaml")
    for k, key in enumerate(keys):
        if key not in section:
            raise KeyError(f"params.yaml has no {'.'.join(keys[: k + 1])}; there are {', '.join(map(str, section))}.")
        section = section[key]
    return section


def planned(settings: Mapping[str, Any], groups: Iterable[str] | None = None) -> list[tuple[str, str, int]]:
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


def key(target: str, architecture: str, seed: int) -> str:
    """Return a run's key: its folder, its stage and its row in every table."""
    return f"{target}-{architecture}-{seed}"
