"""Label sets: who says which finding is on which image, in one vocabulary, with a card each.

A label set is a table with `image_id` and one float32 column per finding it assesses. Values:
1 present, 0 absent, -1 uncertain, NaN not assessed. It lies at `data/label_sets/<cohort>/<name>.parquet`
with its card, `<name>.yaml`, beside it. What a study makes of -1 and NaN is a named policy (`POLICIES`).
"""

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from cxrlib import noise, paths, simulate

# The vocabulary: every finding that any label set here assesses, and how each source spells it.
NIH_FINDINGS = {
    "Atelectasis": "atelectasis",
    "Cardiomegaly": "cardiomegaly",
    "Effusion": "effusion",
    "Infiltration": "infiltration",
    "Mass": "mass",
    "Nodule": "nodule",
    "Pneumonia": "pneumonia",
    "Pneumothorax": "pneumothorax",
    "Consolidation": "consolidation",
    "Edema": "edema",
    "Emphysema": "emphysema",
    "Fibrosis": "fibrosis",
    "Pleural_Thickening": "pleural_thickening",
    "Hernia": "hernia",
}
GOOGLE_FINDINGS = {
    "Fracture": "fracture",
    "Pneumothorax": "pneumothorax",
    "Airspace opacity": "airspace_opacity",
    "Nodule or mass": "nodule_or_mass",
}
CHEXPERT_FINDINGS = {
    "No Finding": "no_finding",
    "Enlarged Cardiomediastinum": "enlarged_cardiomediastinum",
    "Cardiomegaly": "cardiomegaly",
    "Lung Opacity": "lung_opacity",
    "Lung Lesion": "lung_lesion",
    "Edema": "edema",
    "Consolidation": "consolidation",
    "Pneumonia": "pneumonia",
    "Atelectasis": "atelectasis",
    "Pneumothorax": "pneumothorax",
    "Pleural Effusion": "effusion",
    "Pleural Other": "pleural_other",
    "Fracture": "fracture",
    "Support Devices": "support_devices",
}
VOCABULARY = tuple(dict.fromkeys([*NIH_FINDINGS.values(), *GOOGLE_FINDINGS.values(), *CHEXPERT_FINDINGS.values()]))

# Findings that stand for several of a finer label set: present if any of them is.
# The five that the report labels have for an airspace opacity are those under which they agree best
# with Google's adjudicated "airspace opacity"; notebook 02 recomputes sensitivity 0.506, PPV 0.767.
ANY_OF = {
    "airspace_opacity": ("atelectasis", "consolidation", "edema", "infiltration", "pneumonia"),
    "nodule_or_mass": ("nodule", "mass"),
}

POLICIES = {
    "u_zeros": "uncertain counts as absent",
    "u_ones": "uncertain counts as present",
    "u_ignore": "uncertain counts as not assessed",
}

CARD_FIELDS = ("who", "how", "version", "source", "licence", "citation")


# --- reading ------------------------------------------------------------------------------------------------


def read_csv(path, required):
    """Return a CSV as text columns, or say in one sentence why it cannot be used.

    Blank lines are left out; the row with index k stands on line k + 2.

    Parameters
    ----------
    path : Path
    required : sequence of str
        Columns that must be there.

    Raises
    ------
    ValueError
        If the file is empty, not UTF-8, not a table, or lacks a column.
    """
    try:
        table = pd.read_csv(
            path,
            dtype="string",
            encoding="utf-8-sig",
            skipinitialspace=True,
            skip_blank_lines=False,  # so that a row's index tells its line
            keep_default_na=False,
            na_values=[""],
        )
    except pd.errors.EmptyDataError:
        raise ValueError(f"{path} is empty: it needs a header with {', '.join(required)}.") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}): save it as CSV UTF-8.") from None
    except pd.errors.ParserError as error:
        raise ValueError(f"{path} is not a table: {str(error).strip()}.") from None
    if not isinstance(table.index, pd.RangeIndex):
        raise ValueError(f"{path}: its rows have more fields than its header; remove commas at the ends of lines.")
    table.columns = [str(c).strip() for c in table.columns]
    missing = [c for c in required if c not in table]
    if missing:
        hint = " Separate columns by commas." if len(table.columns) == 1 else ""
        raise ValueError(f"{path} has no column {', '.join(missing)}; it has {', '.join(table.columns)}.{hint}")
    if table.columns.duplicated().any():
        raise ValueError(f"{path} has the column {table.columns[table.columns.duplicated()][0]!r} twice.")
    return table.dropna(how="all")


def check_label_columns(rows, findings, where):
    """Return columns of labels as float32, checked against the vocabulary and the four values.

    Parameters
    ----------
    rows : pandas.DataFrame of text
    findings : sequence of str
    where : Path
        For the messages.

    Raises
    ------
    ValueError
        Naming the column, or the first line and value, that is not allowed.
    """
    unknown = [f for f in findings if f not in VOCABULARY]
    if unknown:
        raise ValueError(
            f"{where} has columns that are no finding of the vocabulary: {', '.join(unknown)}. "
            f"Rename or remove them; the findings are {', '.join(VOCABULARY)}."
        )
    labels = {}
    for finding in findings:
        values = pd.to_numeric(rows[finding], errors="coerce").astype("float32")
        bad = (values.isna() & rows[finding].notna()) | ~(values.isna() | values.isin([-1, 0, 1]))
        if bad.any():
            at = int(np.flatnonzero(bad.to_numpy())[0])
            raise ValueError(
                f"{where} line {rows.index[at] + 2}: {finding} is {rows[finding].iloc[at]!r}; "
                "labels are 1 (present), 0 (absent), -1 (uncertain) or empty (not assessed)."
            )
        labels[finding] = values.to_numpy(dtype="float32", na_value=np.nan)
    return pd.DataFrame(labels, index=rows.index)


def read_nih_entries(folder=None):
    """Return ChestX-ray14's entry list: image attributes and its 14 report labels.

    Parameters
    ----------
    folder : Path, optional
        Where `Data_Entry_2017_v2020.csv` may lie; torchxrayvision's copy otherwise.

    Returns
    -------
    pandas.DataFrame
        `image_id, patient_id, follow_up_number, view, sex, age` and 14 findings (1 or 0, float32).
        112,120 rows. Ages are years as released; Wang et al., CVPR 2017.
    """
    path = None if folder is None else Path(folder) / "Data_Entry_2017_v2020.csv"
    if path is None or not path.exists():
        path = paths.torchxrayvision_data("Data_Entry_2017_v2020.csv.gz")
    raw = pd.read_csv(path)
    needed = (
        "Image Index",
        "Finding Labels",
        "Follow-up #",
        "Patient ID",
        "Patient Age",
        "Patient Gender",
        "View Position",
    )
    missing = [c for c in needed if c not in raw]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}: it is not NIH's Data_Entry_2017_v2020.csv.")
    entries = pd.DataFrame(
        {
            "image_id": raw["Image Index"],
            "patient_id": raw["Patient ID"].map("{:08d}".format),
            "follow_up_number": raw["Follow-up #"],
            "view": raw["View Position"],
            "sex": raw["Patient Gender"],
            "age": raw["Patient Age"],
        }
    )
    named = raw["Finding Labels"].str.split("|")
    unknown = set().union(*named) - set(NIH_FINDINGS) - {"No Finding"}
    if unknown:
        raise ValueError(f"{path}: unknown finding {sorted(unknown)[0]!r} in column Finding Labels.")
    for theirs, ours in NIH_FINDINGS.items():
        entries[ours] = np.float32([theirs in labels for labels in named])
    return entries


def read_nih_boxes(folder=None):
    """Return radiologists' boxes as fractions of the image: `image_id, finding, x0_frac ... y1_frac`.

    984 boxes of 8 findings on 880 images; the release gives x, y, width, height in 1024 x 1024 pixels.
    """
    path = None if folder is None else Path(folder) / "BBox_List_2017.csv"
    if path is None or not path.exists():
        path = paths.torchxrayvision_data("BBox_List_2017.csv.gz")
    raw = pd.read_csv(path)
    x, y, width, height = (raw.iloc[:, k].astype(float) for k in (2, 3, 4, 5))
    spelling = {**NIH_FINDINGS, "Infiltrate": "infiltration"}
    return pd.DataFrame(
        {
            "image_id": raw["Image Index"],
            "finding": raw["Finding Label"].map(spelling),
            "x0_frac": x / 1024,
            "y0_frac": y / 1024,
            "x1_frac": (x + width) / 1024,
            "y1_frac": (y + height) / 1024,
        }
    )


def read_google_four(which=None):
    """Return Google's adjudicated labels of four findings on NIH images.

    Three radiologists an image, up to five rounds (Majkowska et al., Radiology 2020). The 2,414
    validation images lie inside the official train_val list, the 1,962 test images inside its test list.

    Parameters
    ----------
    which : {"val", "test"}, optional

    Returns
    -------
    pandas.DataFrame
        `image_id, patient_id, set` and four findings (1 or 0, float32). From torchxrayvision's copy.
    """
    raw = pd.read_csv(paths.torchxrayvision_data("google2019_nih-chest-xray-labels.csv.gz"))
    table = pd.DataFrame(
        {
            "image_id": raw["Image Index"],
            "patient_id": raw["Patient ID"].map("{:08d}".format),
            "set": raw["Set Id"],
        }
    )
    for theirs, ours in GOOGLE_FINDINGS.items():
        table[ours] = np.float32(raw[theirs] == "YES")
    return table if which is None else table[table["set"] == which].reset_index(drop=True)


# --- the label sets that a cohort can have ------------------------------------------------------------------


def nih_reports(store):
    """Return NIH's report labels: 14 findings, and the opacity that they add up to."""
    entries = read_nih_entries()
    table = entries[["image_id", *NIH_FINDINGS.values()]]
    table = table[table["image_id"].isin(store.index["image_id"])].reset_index(drop=True)
    for finding in ("airspace_opacity", "nodule_or_mass"):
        table[finding] = table[list(ANY_OF[finding])].max(axis=1)
    card = {
        "who": "a program reading the radiology report",
        "how": "DNorm and MetaMap with negation rules over the parse; uncertain mentions were removed, so "
        "absent means not mentioned. airspace_opacity and nodule_or_mass are derived: any of their parts.",
        "version": "Data_Entry_2017_v2020",
        "source": "NIH Clinical Center, ChestX-ray14 (copy in torchxrayvision)",
        "licence": "free use; credit the NIH Clinical Center and link its download page",
        "citation": "Wang X et al. ChestX-ray8. CVPR 2017",
    }
    return table, card


def google_adjudicated(store):
    """Return Google's adjudicated labels of four findings, on the images of the cohort that have them."""
    table = read_google_four().drop(columns=["patient_id", "set"])
    table = table[table["image_id"].isin(store.index["image_id"])].reset_index(drop=True)
    card = {
        "who": "three radiologists an image, adjudicated",
        "how": "independent reads, then up to five rounds until they agreed",
        "version": "2019",
        "source": "Google Health (copy in torchxrayvision)",
        "licence": "research and educational purposes only",
        "citation": "Majkowska A et al. Radiology 2020;294:421; Wang X et al. CVPR 2017",
    }
    return table, card


def rsna_radiologists(store, path, max_mse):
    """Return the RSNA pneumonia challenge's classes on NIH ids as labels of airspace opacity.

    Parameters
    ----------
    store : cohorts.Store
    path : str
        `rsna_to_nih.csv`: `rsna, nih, mse, cls`; which RSNA image is which NIH image.
    max_mse : float
        Pairs that match worse are dropped; the card says how many.

    Notes
    -----
    An NIH image that occurs twice keeps its class if both agree; else it is not assessed.
    """
    csv = paths.source_path(path)
    raw = pd.read_csv(csv)
    missing = [c for c in ("nih", "mse", "cls") if c not in raw]
    if missing:
        raise ValueError(f"{csv} has no column {', '.join(missing)}.")
    good = raw[raw["mse"] <= max_mse].copy()
    classes = {"Lung Opacity": 1.0, "No Lung Opacity / Not Normal": 0.0, "Normal": 0.0}
    unknown = set(good["cls"]) - set(classes)
    if unknown:
        raise ValueError(f"{csv}: class {sorted(unknown)[0]!r} is none of {', '.join(classes)}.")
    good["airspace_opacity"] = good["cls"].map(classes).astype("float32")
    good["no_finding"] = (good["cls"] == "Normal").astype("float32")
    grouped = good.groupby("nih")[["airspace_opacity", "no_finding"]]
    table = grouped.mean()
    disagree = (table % 1 != 0).any(axis=1)
    table = table.mask(table % 1 != 0).astype("float32")
    table = table.rename_axis("image_id").reset_index()
    table = table[table["image_id"].isin(store.index["image_id"])].reset_index(drop=True)
    card = {
        "who": "radiologists of the RSNA pneumonia challenge",
        "how": "class of the image; airspace_opacity is 'Lung Opacity' (one suspicious of pneumonia), "
        f"no_finding is 'Normal'. {len(raw) - len(good)} pairs with a match error above {max_mse:g} were "
        f"dropped; {int((grouped.size() > 1).sum())} NIH images occur twice, of which "
        f"{int(disagree.sum())} disagree and are not assessed.",
        "version": "stage 2",
        "source": "RSNA pneumonia detection challenge 2018, matched to NIH ids by torchxrayvision",
        "licence": "RSNA challenge terms; matching Apache-2.0",
        "citation": "Shih G et al. Radiol Artif Intell 2019;1:e180041",
    }
    return table, card


def shipped(store, **card):
    """Return the labels that came with the images (`folder`, torchxrayvision), with the user's card."""
    if len(store.labels.columns) < 2:
        raise ValueError(f"Cohort {store.name!r} came without labels: its source has no column of the vocabulary.")
    return store.labels.copy(), card


def own(store, path, **card):
    """Return a label set of one's own: one CSV with `image_id` and a column per finding.

    Rows of images that the cohort lacks are counted in the card and left out.
    """
    csv = paths.source_path(path)
    rows = read_csv(csv, ("image_id",))
    if rows["image_id"].duplicated().any():
        at = int(np.flatnonzero(rows["image_id"].duplicated())[0])
        raise ValueError(
            f"{csv} line {rows.index[at] + 2}: image_id {rows['image_id'].iloc[at]!r} occurs twice; keep one row."
        )
    labels = check_label_columns(rows, [c for c in rows.columns if c != "image_id"], csv)
    table = pd.concat([rows["image_id"], labels], axis=1)
    inside = table["image_id"].isin(store.index["image_id"])
    if not inside.any():
        raise ValueError(f"None of the {len(table)} image ids in {csv} is in cohort {store.name!r}.")
    card["how"] = f"{card.get('how', '')} {int((~inside).sum())} rows of images not in the cohort left out.".strip()
    return table[inside].reset_index(drop=True), card


_SIMULATED = {
    "source": "cxrlib.simulate: simulated images, no patients",
    "licence": "Apache-2.0",
    "citation": "this repository",
}

# Which measured noise a simulated finding borrows. Findings that no adjudicated set assesses have none,
# and the simulated report labels do not assess them.
MEASURED_AS = {
    "pneumothorax": "pneumothorax",
    "airspace_opacity": "airspace_opacity",
    "nodule": "nodule_or_mass",
    "mass": "nodule_or_mass",
}


def drawn_truth(store):
    """Return what was drawn on simulated images, whether or not it can be seen."""
    return store.labels.copy(), {
        "who": "the simulation",
        "how": "every finding that was drawn, however faint",
        "version": "1",
        **_SIMULATED,
    }


def simulated_panel(store, misses_frac):
    """Return the simulated radiologists' labels: what was drawn, less the faintest of each finding.

    The calibration's own reference is an adjudicated panel, so a panel's error cannot be read off it:
    `misses_frac` is an assumption.
    """
    table = store.labels.copy()
    for finding in simulate.FINDINGS:
        present = table[finding] == 1
        faint = store.index[f"{finding}_conspicuity"].where(present).rank(pct=True)
        table.loc[present & (faint <= misses_frac), finding] = 0
    return table, {
        "who": "simulated adjudicated panel",
        "how": f"what was drawn, less the faintest {misses_frac:.0%} of each finding (assumed); no false alarms",
        "version": "1",
        **_SIMULATED,
    }


def simulated_reports(store, reference, noise_scale, drain_log_odds, faint_log_odds, seed, built):
    """Return simulated report labels: the panel's, with the errors measured on real report labels.

    Parameters
    ----------
    store : cohorts.Store
    reference : str
        The label set that errors are put into.
    noise_scale : float in [0, 1]
        1 is the measured noise, 0 none.
    drain_log_odds : float
        How much rather a pneumothorax is reported, falsely, where a chest drain lies (assumed).
    faint_log_odds : float
        How much rather a finding of conspicuity 0 than one of conspicuity 1 goes unreported (assumed).
    seed : int
    built : dict of pandas.DataFrame
        The label sets of this cohort built so far.
    """
    measured = pd.read_csv(paths.label_noise_path())
    source = built[reference].set_index("image_id").loc[store.index["image_id"]]
    table = pd.DataFrame({"image_id": store.index["image_id"]})
    for k, (finding, proxy) in enumerate(MEASURED_AS.items()):
        table[finding] = noise.corrupt(
            source[finding],
            store.index["patient_id"],
            measured[measured["finding"] == proxy],
            np.random.default_rng((seed, k)),
            scale=noise_scale,
            miss_log_odds=-faint_log_odds * store.index[f"{finding}_conspicuity"],
            false_alarm_log_odds=drain_log_odds * store.index["chest_drain"] * (finding == "pneumothorax"),
        )
    return table, {
        "who": "simulated report labels",
        "how": f"errors put into {reference!r} at {noise_scale:g} times the rates at which NIH's report labels "
        "err against Google's adjudicated ones, by whether another image of the patient is positive "
        "(measured, notebook 02); within a stratum, misses lean to faint findings by "
        f"{faint_log_odds:g} and false pneumothoraces to chest drains by {drain_log_odds:g} log-odds (assumed). "
        "Findings that the adjudicated labels lack are not assessed.",
        "version": "1",
        **_SIMULATED,
    }


KINDS = {
    "nih_reports": nih_reports,
    "google_adjudicated": google_adjudicated,
    "rsna_radiologists": rsna_radiologists,
    "shipped": shipped,
    "own": own,
    "drawn_truth": drawn_truth,
    "simulated_panel": simulated_panel,
    "simulated_reports": simulated_reports,
}


def build(store, settings):
    """Return the label sets of a cohort, as `params.yaml` lists them.

    Parameters
    ----------
    store : cohorts.Store
    settings : Mapping
        Name of the label set -> `kind` (of `KINDS`) and that function's arguments.

    Returns
    -------
    dict of (pandas.DataFrame, dict)
        Table and card by name.
    """
    built = {}
    for name, arguments in settings.items():
        arguments = dict(arguments)
        kind = arguments.pop("kind", None)
        if kind not in KINDS:
            raise ValueError(f"Label set {name!r}: kind {kind!r} is none of {', '.join(KINDS)}.")
        if "reference" in arguments:
            if arguments["reference"] not in built:
                raise ValueError(f"Label set {name!r}: list its reference {arguments['reference']!r} before it.")
            arguments["built"] = {n: table for n, (table, _) in built.items()}
        try:
            built[name] = KINDS[kind](store, **arguments)
        except TypeError as error:
            raise ValueError(f"Label set {name!r}: {error}.") from None
    return built


# --- contract -----------------------------------------------------------------------------------------------


def check(table, where):
    """Raise a ValueError unless the table is a label set.

    Parameters
    ----------
    table : pandas.DataFrame
    where : str
        Named in the message.
    """
    if "image_id" not in table:
        raise ValueError(f"{where}: a label set needs the column image_id.")
    if table["image_id"].duplicated().any():
        twice = table["image_id"][table["image_id"].duplicated()].iloc[0]
        raise ValueError(f"{where}: image_id {twice!r} occurs twice; a label set has one row per image.")
    findings = [c for c in table if c != "image_id"]
    unknown = [f for f in findings if f not in VOCABULARY]
    if unknown or not findings:
        raise ValueError(f"{where}: {unknown or 'no column'} is no finding of the vocabulary (labelsets.VOCABULARY).")
    for finding in findings:
        values = table[finding].to_numpy(dtype="float64", na_value=np.nan)
        bad = ~(np.isnan(values) | np.isin(values, (-1, 0, 1)))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise ValueError(f"{where} row {row}: {finding} is {values[row]:g}; labels are 1, 0, -1 or missing.")


def counts(table):
    """Return how often each finding is present, absent, uncertain and not assessed, as nested dicts."""
    names = {1.0: "present", 0.0: "absent", -1.0: "uncertain"}
    return {
        finding: {
            **{name: int((table[finding] == value).sum()) for value, name in names.items()},
            "not_assessed": int(table[finding].isna().sum()),
        }
        for finding in table.columns
        if finding != "image_id"
    }


def save(table, card, cohort, name):
    """Write a label set and its card; return the card as written, with its counts.

    Raises
    ------
    ValueError
        If the table is not a label set or the card lacks a field of `CARD_FIELDS`.
    """
    check(table, f"label set {name!r}")
    missing = [f for f in CARD_FIELDS if f not in card]
    if missing:
        raise ValueError(f"The card of label set {name!r} lacks {', '.join(missing)}: say it in params.yaml.")
    table = table.astype({c: "float32" for c in table if c != "image_id"}).astype({"image_id": "string"})
    path = paths.label_set_path(cohort, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path, index=False)
    card = {"label_set": name, "cohort": cohort, **card, "images_n": len(table), "counts": counts(table)}
    path.with_suffix(".yaml").write_text(yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=100))
    return card


def load(cohort, name):
    """Return a label set, checked, indexed by `image_id`."""
    path = paths.label_set_path(cohort, name)
    if not path.exists():
        have = ", ".join(sorted(p.stem for p in path.parent.glob("*.parquet"))) or "none"
        raise FileNotFoundError(f"Cohort {cohort!r} has no label set {name!r} (it has: {have}).")
    table = pd.read_parquet(path)
    check(table, str(path))
    return table.set_index("image_id")


def apply_policy(values, policy):
    """Return labels with the uncertain ones resolved.

    Parameters
    ----------
    values : array of float
        1, 0, -1 or NaN.
    policy : str
        A key of `POLICIES` (Irvin et al., CheXpert, AAAI 2019).

    Returns
    -------
    ndarray of float32
        1, 0 or NaN, same shape.
    """
    if policy not in POLICIES:
        raise ValueError(f"policy {policy!r} is none of {', '.join(POLICIES)}.")
    values = np.array(values, np.float32)
    values[values == -1] = {"u_zeros": 0, "u_ones": 1, "u_ignore": np.nan}[policy]
    return values
