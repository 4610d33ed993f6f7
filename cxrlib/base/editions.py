"""Editions: `editions/NAME.yaml` states what differs from the edition that it extends, `params.yaml` is one whole.

Mappings merge and lists replace. Mappings of names that an edition chooses (`REPLACED`) replace as a whole wherever
they stand, so that no entry of another edition is left in them. OmegaConf resolves `${...}` and asks for `???`.
"""

import hashlib
import json
import re
from pathlib import Path

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cxrlib.base import paths, runs, whole_files, yaml_files

BASE = "base"  # what editions extend, and no edition itself
PRIVATE = "private"  # the one DVC remote that gets what may not be given away
REPLACED: tuple[str, ...] = ("cohorts", "label_sets", "splits", "targets", "runs")
REPLACED += ("comparisons", "controls", "curated", "again", "end_to_end")
RUN_GROUPS = ("pneumothorax", "controls", "labelers", "visual", "finding", "finding_others", "metric")
NOT_EVALUATED = ("metric",)  # groups whose study reads the networks themselves, so that no case table has them
_CASES = "data/cases/{edition}"
# Studies, by the section of `params.yaml` that each has: its notebook, and what that reads.
STUDIES = {
    "pneumothorax": ("20_pneumothorax", _CASES),
    "labelers": ("21_labelers", _CASES, "data/visual_labels/{edition}", "results/readers"),
    "finding": ("22_finding", _CASES),
    "maps": ("23_maps", _CASES, "data/map_scores/{edition}"),
    "mining": ("24_mining", "data/mining_scores/{edition}"),
    "metric": ("25_metric", "data/metric_scores/{edition}"),
}
_NOTHING_MORE = "data/code/03_label_sets.txt"  # what stands for a dependency that this edition does not have
_OPEN = ("shared", "finding", "maps")  # sections that may have more in one edition than in another
_HEADER = (
    "# Composed from editions/{name}.yaml by `cxr edition {name}`: change settings there, or in a copy of it.\n"
    "# Not changed by hand as long as the SHA-256 of what follows is {digest}.\n"
)
_SIGNED = re.compile(r"# Composed from .*\n# Not changed by hand as long as .* is ([0-9a-f]{64})\.\n")
_STAGES = re.compile(r"^stages:[^\n]*\n(?:[ \t-][^\n]*\n)*", re.MULTILINE)


def available(root=paths.ROOT):
    """Return the editions there are, name to file."""
    return {p.stem: p for p in sorted((root / "editions").glob("*.yaml")) if p.stem != BASE}


def compose(name, root=paths.ROOT):
    """Return the settings of an edition, whole and plain, with `stages`: what of it the pipeline runs.

    Raises
    ------
    ValueError
        In one sentence, if there is no such edition, a file is no YAML, or a setting is missing or not known.
    """
    if name not in available(root):
        raise ValueError(f"There is no edition {name!r}; there are: {', '.join(available(root))}.")
    layers = _chain(name, root)
    yaml_files.check_references(OmegaConf.to_container(layers), f"editions/{name}.yaml")
    try:
        whole = OmegaConf.to_container(layers, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ValueError(f"editions/{name}.yaml is not whole: {str(error).splitlines()[0]}") from None
    try:
        settings = json.loads(json.dumps({k: v for k, v in whole.items() if k != "shared"}))  # nothing shared in YAML
        settings["runs"] = _all_groups(name, settings["runs"])
        _check_whole(name, settings)
        _check_targets(name, settings)
        stages = _stages(settings)
        _check_metric(name, settings)
    except (AttributeError, KeyError, TypeError) as error:  # an entry of what replaces as a whole
        raise ValueError(
            f"editions/{name}.yaml has an entry of another kind than base.yaml has there ({error})."
        ) from None
    return {**settings, "stages": stages}


def activate(name, root=paths.ROOT):
    """Put an edition in force: write its settings to `params.yaml`, whole or not at all.

    Raises
    ------
    ValueError
        If the edition cannot be composed, or `params.yaml` holds changes that no edition has and that would be lost.
    """
    settings = compose(name, root)
    changed = _own_changes(root)
    if changed:
        raise ValueError(
            f"params.yaml holds changes of your own, which would be lost ({changed}): write them to a file "
            "editions/mine.yaml that extends the edition in force (`extends: NAME`, then what differs), or undo them "
            "(git checkout params.yaml)."
        )
    body = "\n" + yaml.safe_dump(settings, sort_keys=False, default_flow_style=None, allow_unicode=True, width=118)
    digest = hashlib.sha256(body.encode()).hexdigest()
    whole_files.write_text(root / "params.yaml", _HEADER.format(name=name, digest=digest) + body)


def refresh(root=paths.ROOT):
    """Bring `stages` of `params.yaml` up to date with the rest of it, if it was changed by hand; return whether.

    Raises
    ------
    ValueError
        If `params.yaml` is no YAML, or its sections are not those of an edition.
    """
    path = root / "params.yaml"
    settings, text = _mapping(path), path.read_text()
    try:
        stages = _stages(settings)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"params.yaml is not whole ({error}): undo what was changed (git checkout params.yaml)."
        ) from None
    if settings.get("stages") == stages:
        return False
    rest = _STAGES.sub("", text).rstrip("\n") + "\n"
    whole_files.write_text(
        path, rest + yaml.safe_dump({"stages": stages}, sort_keys=False, default_flow_style=None, width=118)
    )
    return True


def in_force(root=paths.ROOT):
    """Return the name of the edition in `params.yaml`, and the first settings of it that its file does not have.

    Returns
    -------
    name : str or None
        None if `params.yaml` is missing or cannot be read.
    changed : str
        Such as `training.epochs`; empty if there are none.
    """
    try:
        settings = _mapping(root / "params.yaml")
    except (FileNotFoundError, ValueError):
        return None, ""
    try:
        return settings.get("edition"), _differences(settings, compose(settings.get("edition"), root))
    except ValueError:
        return settings.get("edition"), "it has no file in editions/ that can be read"


def _mapping(path):
    """Return a YAML file that holds a mapping, or say in one sentence why it does not."""
    return yaml_files.read_mapping(path, path.name)


def _chain(name, root, above=()):
    """Return an edition laid over those that it extends, with `${...}` and `???` as they are written."""
    path = root / "editions" / f"{name}.yaml"
    if not path.exists():
        raise ValueError(f"editions/{above[-1]}.yaml extends {name!r}, and there is no editions/{name}.yaml.")
    if name in above:
        raise ValueError(f"editions/{name}.yaml extends itself, by way of {', '.join(above)}.")
    own = _mapping(path)
    if name == BASE:
        return OmegaConf.create(own)
    below = own.pop("extends", None)
    if below is None:
        raise ValueError(f"editions/{name}.yaml does not say what it extends: begin it with `extends: {BASE}`.")
    if own.get("edition", name) != name:
        raise ValueError(f"editions/{name}.yaml calls itself {own['edition']!r}: an edition is named by its file.")
    own.pop("stages", None)  # derived, should somebody have copied params.yaml
    layered = OmegaConf.to_container(_chain(below, root, (*above, name)))
    _check_known(layered, own, name)
    _clear(layered, own)
    try:
        return OmegaConf.merge(layered, {**own, "edition": name})
    except OmegaConfBaseException as error:
        raise ValueError(f"editions/{name}.yaml does not fit {below!r}: {str(error).splitlines()[0]}") from None


def _check_known(below, own, name, section=""):
    """Raise a ValueError if an edition sets what the edition that it extends does not have: a slip of the pen."""
    for key, value in own.items():
        if key not in below:
            near = ", ".join(map(str, below))
            raise ValueError(f"editions/{name}.yaml sets {section}{key}, which is no setting; there are {near}.")
        wanted, given = _kind(below[key]), _kind(value)
        unset = value is None and not isinstance(below[key], dict | list)
        free = unset or (isinstance(value, str) and "${" in value)
        if wanted and given != wanted and not free:
            raise ValueError(f"editions/{name}.yaml sets {section}{key} to {str(value)[:80]!r}; it takes {wanted}.")
        if isinstance(value, dict) and isinstance(below[key], dict) and key not in (*REPLACED, *_OPEN):
            _check_known(below[key], value, name, f"{section}{key}.")


def _kind(value):
    """Return what a setting is, as far as another edition may not change it; empty if it may."""
    kinds = {dict: "a mapping", list: "a list", bool: "true or false", int: "a number", float: "a number"}
    if isinstance(value, str):
        return "" if "${" in value or value == "???" else "text"
    return kinds.get(type(value), "") if value == value else ""


def _clear(below, own):
    """Empty the mappings of `below` that `own` replaces as a whole."""
    for key, value in own.items():
        if key in REPLACED:
            below[key] = None
        elif isinstance(value, dict) and isinstance(below.get(key), dict):
            _clear(below[key], value)


def _check_whole(name, settings):
    """Raise a ValueError if a mapping that replaces as a whole was given in part."""
    for group, planned in settings["runs"].items():
        missing = [key for key in ("targets", "architectures", "seeds") if key not in planned]
        if missing:
            raise ValueError(
                f"editions/{name}.yaml: runs replaces as a whole, and runs.{group} has no {missing[0]}: give "
                "targets, architectures and seeds of it, and all other groups that shall run."
            )
    for section in ("label_sets", "cohorts"):
        missing = [cohort for cohort in settings["cohort_names"] if cohort not in settings[section]]
        if missing:
            raise ValueError(
                f"editions/{name}.yaml: {section} replaces as a whole, and has nothing of the cohort {missing[0]!r}: "
                "copy what the edition that you extend has of it."
            )


_OF_A_TARGET = ("loss", "encoder", "train_px")  # settings of a training that a target gives and `training` does not


def _check_targets(name, settings):
    """Raise a ValueError if a target changes what is no setting of a training."""
    known = (*settings["training"], *_OF_A_TARGET)
    for target, made in settings["targets"].items():
        unknown = [key for key in made.get("training", {}) if key not in known]
        if unknown:
            raise ValueError(
                f"editions/{name}.yaml: targets.{target}.training.{unknown[0]} is no setting of a training; there "
                f"are {', '.join(known)}."
            )


def _check_metric(name, settings):
    """Raise a ValueError if the study of a metric loss names networks that are not trained or labels that are not."""
    study, trained = settings["metric"], settings["runs"]["metric"]
    if not study["enabled"]:
        return
    wanted = {
        "targets": [*study["targets"], *study["zero_shot"], *study["end_to_end"].values()],
        "architectures": [study["architecture"]],
        "seeds": study["seeds"],
    }
    for what, named in wanted.items():
        missing = [each for each in named if each not in trained[what]]
        if missing:
            raise ValueError(
                f"editions/{name}.yaml: metric names {missing[0]!r}, which is none of runs.metric.{what} "
                f"({', '.join(map(str, trained[what])) or 'none'}): add it there, or leave the study out with "
                "metric: {enabled: false}."
            )
    for loss, target in study["end_to_end"].items():
        learned = settings["targets"][target].get("training", {}).get("loss", "bce")
        if learned != loss:
            raise ValueError(
                f"editions/{name}.yaml: metric.end_to_end calls the networks of {target!r} {loss!r}, and their loss "
                f"is {learned!r} (targets.{target}.training.loss): name one as the other."
            )
    if not study["learning_rates"]:
        raise ValueError(f"editions/{name}.yaml: metric.learning_rates is empty: name the rates to choose from.")
    label_sets = settings["label_sets"][settings["train_cohort"]]
    missing = [each for each in study["scored_against"] if each not in label_sets]
    if missing or not study["scored_against"]:
        raise ValueError(
            f"editions/{name}.yaml: metric.scored_against must name label sets of {settings['train_cohort']}, "
            f"of which there are {', '.join(label_sets)}."
        )
    open_ones = [each for each in study["zero_shot"] if not settings["targets"][each].get("without")]
    if open_ones:
        raise ValueError(
            f"editions/{name}.yaml: metric.zero_shot names {open_ones[0]!r}, whose target leaves out no finding: "
            "give it `without`."
        )


def _all_groups(name, given):
    """Return every group of runs, those that an edition does not name without runs."""
    unknown = [group for group in given if group not in RUN_GROUPS]
    if unknown:
        raise ValueError(f"editions/{name}.yaml: runs.{unknown[0]} is no group; there are {', '.join(RUN_GROUPS)}.")
    none = {"targets": [], "architectures": [], "seeds": []}
    return {group: given.get(group) or {k: list(v) for k, v in none.items()} for group in RUN_GROUPS}


def _stages(settings):
    """Return what of an edition the pipeline runs: the loops of `dvc.yaml`."""
    edition, train_cohort = settings["edition"], settings["train_cohort"]
    visual = list(settings["runs"]["visual"]["targets"])
    targets = list(dict.fromkeys(target for target, _, _ in runs.planned(settings)))
    unknown = [target for target in targets if target not in settings["targets"]]
    if unknown:
        raise ValueError(
            f"runs names the target {unknown[0]!r}, which is none of {', '.join(settings['targets'])}: targets "
            "replaces as a whole, so copy those that shall stay."
        )
    by_bert = {cohort: label_sets_by_bert(sets) for cohort, sets in settings["label_sets"].items()}
    later = [target for target in targets if target not in visual and hangs_on_bert(settings, target)]
    finding, mining, metric, compared = (
        [edition] if settings[study]["enabled"] else [] for study in ("finding", "mining", "metric", "pneumothorax")
    )
    folders = {t: "visual_labels" if t in visual else "targets_bert" if t in later else "targets" for t in targets}
    splits = list(settings["finding"]["splits"]) if finding else []
    mined = settings["mining"]["archive"]
    scored = runs.planned(settings, evaluated_groups(settings))
    kept = {"cases": scored, "map_scores": finding, "visual_labels": visual, "mining_scores": mining}
    kept |= {"metric_scores": metric}
    tests = [(cohort, "main") for cohort in settings["test_cohorts"]] + [(train_cohort, split) for split in splits]
    return {
        "labelers": ["bert"] if any(by_bert.values()) else [],
        "label_sets_bert": [cohort for cohort, sets in by_bert.items() if sets],
        "targets_bert": [edition] if later else [],
        "train": {
            f"{edition}-{target}": {
                "target": target,
                "table": f"data/{folder}/{edition}/{target}.parquet",
                "runs": f"results/{edition}/runs/{target}",
            }
            for target, folder in folders.items()
        },
        "visual": visual,
        "visual_beside": _bert_folder(by_bert, train_cohort),
        "evaluate": {
            f"{edition}-{(name := paths.cases_path(edition, cohort, split).stem)}": dict(
                cohort=cohort, split=split, name=name, also=_bert_folder(by_bert, cohort)
            )
            for cohort, split in (tests if scored else [])
        },
        "maps": finding,
        "mining": mining,
        "metric": metric,
        "archive": {
            "notebook": "15_release" if mined["release"] else "15_archive",
            "reads": _watched_archive(mined) or f"data/label_sets/{train_cohort}",
        },
        "results": compared,
        "studies": {f"{edition}-{name}": _study(settings, name, visual) for name in STUDIES if _has(settings, name)},
        "published": [folder for folder, made in kept.items() if made and settings["published"]],
        "remote": "" if settings["published"] else PRIVATE,
        "runs": {
            target: [runs.key(*run) for run in runs.planned(settings) if run[0] == target] for target in targets
        },
        "sources": {
            cohort: _source_files(settings["cohorts"][cohort])
            | {"labels": f"data/own_tables/{cohort}" if cohort in own_tables(settings) else _NOTHING_MORE}
            | {"reports": _archive_reports(settings["label_sets"][cohort])}
            for cohort in settings["cohort_names"]
        },
    }


def _has(settings, study):
    """Return whether a study runs in an edition, as its section says; maps with the study of finding or none."""
    return settings["finding" if study == "maps" else study]["enabled"]


def _study(settings, name, visual):
    """Return the stage of a study: its notebook, its section, and up to three things that it reads."""
    notebook, *more = STUDIES[name]
    read = [path.format(edition=settings["edition"]) for path in more if visual or "visual_labels" not in path]
    read += [f"data/code/{notebook}.txt"] * (3 - len(read))
    return {"notebook": notebook, "name": name, "first": read[0], "second": read[1], "third": read[2]}


def label_sets_by_bert(label_sets):
    """Return the names of a cohort's label sets that the language model reads, or that derive from such a one."""
    found = []
    for name, made in label_sets.items():  # a label set derives from those that stand before it
        of = [made.get("reference"), *made.get("also", ())]
        if made.get("labeler") == "bert" or any(other in found for other in of):
            found.append(name)
    return found


def hangs_on_bert(settings, target):
    """Return whether a target can be written down only once the language model has read the reports."""
    by_bert = label_sets_by_bert(settings["label_sets"][settings["train_cohort"]])
    return any(name in by_bert for name in label_sets_of(settings["targets"][target]))


def label_sets_of(target):
    """Return the label sets that a target of `params.yaml` is made of: whose labels, and of whose images."""
    thinned = target.get("thinned")
    return [target["label_set"], *target["same_images_as"], *([thinned["by"]] if thinned else [])]


def evaluated_groups(settings):
    """Return the groups of runs whose predictions stand in case tables."""
    return [group for group in settings["runs"] if group not in NOT_EVALUATED]


def _bert_folder(by_bert, cohort):
    return f"data/label_sets_bert/{cohort}" if by_bert.get(cohort) else _NOTHING_MORE


def missing_sources(settings, root=paths.ROOT):
    """Return what an edition reads that is not here and that no stage makes: images, tables, an archive's export.

    Returns
    -------
    list of str
        Below `data/cxr`, which is `$CXR_DATA`, or as `params.yaml` has them.
    """
    stages = settings["stages"]
    wanted = [source[what] for source in stages["sources"].values() for what in ("images", "table")]
    wanted += [stages["archive"]["reads"]] * bool(stages["mining"])
    made = ("data/code/", "data/label_sets/")
    return [path for path in dict.fromkeys(wanted) if not path.startswith(made) and not (root / path).exists()]


def own_tables(settings):
    """Return the files that label sets are read from, by cohort and label set, as their paths are written."""
    files = {
        cohort: {name: made["path"] for name, made in sets.items() if "path" in made}
        for cohort, sets in settings["label_sets"].items()
    }
    return {cohort: named for cohort, named in files.items() if named}


def _archive_reports(label_sets):
    """Return the folder of an archive's reports, if one of a cohort's label sets is read in them."""
    given = [made.get("reports", {}) for made in label_sets.values()]
    folders = [str(Path(reports["path"]).parent) for reports in given if reports.get("source") == "archive"]
    return next(iter(folders), _NOTHING_MORE)


def _watched_archive(mined):
    """Return the file or folder that an edition's reports are read from, or None where they are simulated."""
    given = [mined["folder"], *((mined["release"] or {}).get(name) for name in ("path", "archive", "folder"))]
    return next((paths.watched_source(path) for path in given if path), _NOTHING_MORE if mined["release"] else None)


def _source_files(cohort):
    """Return what of a cohort's source the pipeline watches: its images and its table, by way of `data/cxr`."""
    given = cohort.get("arguments", cohort)
    images, table = given.get("folder", given.get("imgpath")), given.get("table", given.get("csvpath"))
    watched = [paths.watched_source(path) for path in (images, table) if path]
    unwatched = "data/code/01_cohort.txt"  # simulated images come of code alone
    return {"images": watched[0] if watched else unwatched, "table": watched[-1] if watched else unwatched}


def _own_changes(root):
    """Return the settings of `params.yaml` that no edition has, as words; empty if nothing would be lost."""
    path = root / "params.yaml"
    if not path.exists():
        return ""
    text = path.read_text()
    signed = _SIGNED.match(text)
    if signed and hashlib.sha256(text[signed.end() :].encode()).hexdigest() == signed[1]:
        return ""
    try:
        settings = _mapping(path)
    except ValueError as error:
        return str(error).rstrip(".")
    fewest = None
    for name in available(root):
        try:
            differing = _differences(settings, compose(name, root))
        except ValueError:  # an edition that cannot be composed is not the one in force
            continue
        if not differing:
            return ""
        if fewest is None or name == settings.get("edition"):
            fewest = differing
    return fewest or "no edition can be read"


def _differences(one, other):
    """Return which settings differ, as words: the first three, `stages` left out; empty if none does."""

    def walk(a, b, at):
        if isinstance(a, dict) and isinstance(b, dict):
            return [
                found for key in dict.fromkeys((*a, *b)) for found in walk(a.get(key), b.get(key), (*at, str(key)))
            ]
        return [] if a == b else [".".join(at)]

    found = [path for path in walk(one, other, ()) if path.split(".")[0] != "stages"]
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
