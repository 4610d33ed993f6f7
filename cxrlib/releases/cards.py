"""The YAML files beside the code (cards of label sets, addresses of tables), read and checked entry by entry."""

from pathlib import Path

from cxrlib.base import label_tables, yaml_files

_CARDS = Path(__file__).with_name("cards.yaml")


def read_entries(path):
    """Return the entries of a YAML file: name to what stands under it, in the order of the file.

    Raises
    ------
    ValueError
        If it is no YAML, no mapping of names, or has a key twice.
    """
    found = yaml_files.parse_file(Path(path), str(path), "proper YAML")
    if not isinstance(found, dict) or not found:
        raise ValueError(f"{path} holds no entries: write one as a name, a colon and its fields below.")
    return found


def check_fields(entry, required, optional, where):
    """Raise a ValueError, naming file and entry, if a field is missing or unknown.

    Parameters
    ----------
    entry : dict
    required, optional : sequence of str
    where : str
        File and entry, for the message.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"{where} is {entry!r}; write its fields below it: {', '.join((*required, *optional))}.")
    for field in required:
        if field not in entry:
            raise ValueError(f"{where} lacks {field!r}; it needs {', '.join(required)}.")
    for field in entry:
        if field not in (*required, *optional):
            raise ValueError(f"{where} has an unknown key {field!r}; known are {', '.join((*required, *optional))}.")


def check_texts(entry, fields, where):
    """Raise a ValueError, naming file and entry, if a field that is there is not text."""
    for field in fields:
        if field in entry and not (isinstance(entry[field], str) and entry[field].strip()):
            raise ValueError(f"{where}: {field!r} is {entry[field]!r}, which is no text; write it between quotes.")


def check_card(card, where):
    """Raise a ValueError, naming file and entry, if a card is not the text of every `CARD_FIELDS` and no more."""
    check_fields(card, label_tables.CARD_FIELDS, (), where)
    check_texts(card, label_tables.CARD_FIELDS, where)


def read_releases(path=_CARDS):
    """Return the families of images and the releases of `cards.yaml`, checked.

    Returns
    -------
    families : dict
        Name to `datasets` and, for some, `tables`.
    releases : dict
        Name to `pixels`, `card` and, for some, `package`, `third_party`, `labels`, `instead`, `readers`, `doi`,
        `url`.

    Raises
    ------
    ValueError
        In one sentence that names file and entry, if a field is missing, unknown or of another kind.
    """
    whole = read_entries(path)
    check_fields(whole, ("families", "releases"), (), str(path))
    for part, entries in whole.items():
        if not isinstance(entries, dict):
            raise ValueError(f"{path}: {part!r} holds no entries; write one as a name, a colon and its fields below.")
    for name, family in whole["families"].items():
        where = f"{path}, family {name!r}"
        check_fields(family, ("datasets",), ("tables",), where)
        _check_lists(family, ("datasets", "tables"), where)
    for name, entry in whole["releases"].items():
        where = f"{path}, entry {name!r}"
        files = ("package", "third_party", "labels", "instead")
        check_fields(entry, ("pixels", "card"), (*files, "readers", "doi", "url"), where)
        check_card(entry["card"], f"{where}: the card")
        check_texts(entry, ("pixels", "doi", "url"), where)
        _check_lists(entry, files, where)
        if entry["pixels"] not in whole["families"]:
            known = ", ".join(whole["families"])
            raise ValueError(f"{where}: 'pixels' is {entry['pixels']!r}, no family; the families are {known}.")
        if not isinstance(entry.get("readers", False), bool):
            raise ValueError(f"{where}: 'readers' is {entry['readers']!r}; write true or false.")
        if not {"package", "third_party", "labels"} & set(entry):
            raise ValueError(f"{where} names no file; give it 'package', 'third_party' or 'labels'.")
    return whole["families"], whole["releases"]


def _check_lists(entry, fields, where):
    """Raise a ValueError, naming file and entry, if a field that is there is not a list of names."""
    for field in fields:
        names = entry.get(field, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{where}: {field!r} is {names!r}; write a list of names, as [a, b].")
