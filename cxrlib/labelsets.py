"""Label sets: who says which finding is on which image, in one vocabulary, with a card each.

A label set is a table with `image_id` and one float32 column per finding it assesses. Values:
1 present, 0 absent, -1 uncertain, NaN not assessed. A set in which several readers label an image has a
row per image and reader, and a column `reader_id`. A cohort's label set lies at
`data/label_sets/<cohort>/<name>.parquet` with its card, `<name>.yaml`, beside it. What a study makes of -1
and NaN is a named policy (`POLICIES`). Published sets are in `cxrlib.catalogue`; what a cohort's settings
may ask for is in `cxrlib.cohort_labels`.
"""

import numpy as np
import pandas as pd
import yaml

from cxrlib import paths

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
GOOGLE_READER_FINDINGS = {
    "Fracture": "fracture",
    "Pneumothorax": "pneumothorax",
    "Airspace opacity": "airspace_opacity",
    "Nodule/mass": "nodule_or_mass",
}
GOOGLE_ALL_FINDINGS = {
    **{theirs.replace("_", " "): ours for theirs, ours in NIH_FINDINGS.items()},
    "Abnormal": "abnormal",
    "Other": "other",
}
OPENI_GOLD_FINDINGS = {**NIH_FINDINGS, "normal": "no_finding"}
VINDR_FINDINGS = {
    "No finding": "no_finding",
    "Aortic enlargement": "aortic_enlargement",
    "Atelectasis": "atelectasis",
    "Calcification": "calcification",
    "Cardiomegaly": "cardiomegaly",
    "Consolidation": "consolidation",
    "ILD": "interstitial_lung_disease",
    "Infiltration": "infiltration",
    "Lung Opacity": "lung_opacity",
    "Nodule/Mass": "nodule_or_mass",
    "Other lesion": "other",
    "Pleural effusion": "effusion",
    "Pleural thickening": "pleural_thickening",
    "Pneumothorax": "pneumothorax",
    "Pulmonary fibrosis": "fibrosis",
}

# PadChest's terms, by the finding that they mean or are a kind of; a term may mean two. Left out on purpose:
# patterns (alveolar, interstitial, infiltrates' kin), signs (COPD signs, air trapping, blunted angles, volume
# loss), pseudonodules, subcutaneous emphysema, fibrotic bands, vertebral compression and implants of bone.
PADCHEST_TERMS = {
    "atelectasis": (
        "atelectasis",
        "atelectasis basal",
        "laminar atelectasis",
        "lobar atelectasis",
        "round atelectasis",
        "segmental atelectasis",
        "total atelectasis",
    ),
    "cardiomegaly": ("cardiomegaly",),
    "effusion": (
        "empyema",
        "hydropneumothorax",
        "loculated fissural effusion",
        "loculated pleural effusion",
        "pleural effusion",
    ),
    "infiltration": ("infiltrates",),
    "mass": ("mass", "pulmonary mass"),
    "nodule": ("multiple nodules", "nodule"),
    "pneumonia": ("atypical pneumonia", "pneumonia"),
    "pneumothorax": ("hydropneumothorax", "pneumothorax"),
    "consolidation": ("consolidation",),
    "edema": ("pulmonary edema",),
    "emphysema": ("emphysema",),
    "fibrosis": ("pulmonary fibrosis",),
    "pleural_thickening": ("apical pleural thickening", "calcified pleural thickening", "pleural thickening"),
    "hernia": ("hiatal hernia",),
    "fracture": (
        "callus rib fracture",
        "clavicle fracture",
        "fracture",
        "humeral fracture",
        "rib fracture",
        "vertebral fracture",
    ),
    "calcification": (  # of lung, pleura or lymph nodes
        "calcified adenopathy",
        "calcified densities",
        "calcified granuloma",
        "calcified mediastinal adenopathy",
        "calcified pleural plaques",
        "calcified pleural thickening",
    ),
    "support_devices": (
        "NSG tube",
        "aortic endoprosthesis",
        "artificial aortic heart valve",
        "artificial heart valve",
        "artificial mitral heart valve",
        "catheter",
        "central venous catheter",
        "central venous catheter via jugular vein",
        "central venous catheter via subclavian vein",
        "central venous catheter via umbilical vein",
        "chest drain tube",
        "double J stent",
        "dual chamber device",
        "electrical device",
        "endoprosthesis",
        "endotracheal tube",
        "gastrostomy tube",
        "nephrostomy tube",
        "pacemaker",
        "reservoir central venous catheter",
        "single chamber device",
        "tracheostomy tube",
        "ventriculoperitoneal drain tube",
    ),
}

# Open-i's codes are headings with qualifiers, as in `Opacity/lung/base/left`: a code counts if it has this
# heading and, where one is given, this qualifier anywhere.
OPENI_CODES = {
    "atelectasis": ("Pulmonary Atelectasis",),
    "cardiomegaly": ("Cardiomegaly",),
    "effusion": ("Hemopneumothorax", "Hemothorax", "Hydropneumothorax", "Pleural Effusion"),
    "infiltration": ("Infiltrate",),
    "mass": ("Mass/lung",),
    "nodule": ("Nodule/lung",),
    "pneumonia": ("Pneumonia",),
    "pneumothorax": ("Hemopneumothorax", "Hydropneumothorax", "Pneumothorax"),
    "consolidation": ("Consolidation",),
    "edema": ("Pulmonary Edema",),
    "emphysema": ("Bullous Emphysema", "Emphysema", "Pulmonary Emphysema"),
    "fibrosis": ("Fibrosis", "Pulmonary Fibrosis"),
    "pleural_thickening": ("Thickening/pleura",),
    "hernia": ("Hernia, Diaphragmatic", "Hernia, Hiatal"),
    "fracture": ("Fractures, Bone",),
    "airspace_opacity": ("Airspace Disease",),
    "lung_opacity": ("Opacity/lung",),
    "interstitial_lung_disease": ("Lung Diseases, Interstitial",),
    "calcification": ("Calcified Granuloma", "Calcinosis/lung", "Calcinosis/lymph nodes", "Calcinosis/pleura"),
    "support_devices": ("Catheters, Indwelling", "Implanted Medical Device", "Medical Device", "Tube, Inserted"),
}
# Findings whose code means what the label means, as the owner of `openi_gold` scored them. Not so, for example, lung
# opacity: the code leaves out what has a code of its own, such as consolidation. `openi_gold` codes no hernia.
OPENI_SAME_MEANING = tuple(finding for finding in NIH_FINDINGS.values() if finding != "hernia")
VOCABULARY = tuple(
    dict.fromkeys(
        [
            *NIH_FINDINGS.values(),
            *GOOGLE_FINDINGS.values(),
            *CHEXPERT_FINDINGS.values(),
            *GOOGLE_ALL_FINDINGS.values(),
            *VINDR_FINDINGS.values(),
            *PADCHEST_TERMS,
            *OPENI_CODES,
        ]
    )
)

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
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}.") from None
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


# --- contract -----------------------------------------------------------------------------------------------


IDS = ("image_id", "image index", "image id", "imageid", "image", "filename", "study")
ATTRIBUTES = {
    "patient_id": ("patient_id", "patient id", "patientid", "patient"),
    "view": ("view", "view position", "viewposition"),
    "sex": ("sex", "patient gender", "gender", "patient sex"),
    "age": ("age", "patient age"),
    "follow_up_number": ("follow_up_number", "follow-up #"),
}
SCORE_PREFIXES = ("prob_", "probability_", "probability.", "p_", "pred_", "score_")


def finding_named(text):
    """Return the finding of the vocabulary that a column's name means, by any source's spelling, or None."""
    plain = text.strip().lower().replace(" ", "_").replace("-", "_").replace("/", "_or_")
    spelled = {}
    for source in (GOOGLE_READER_FINDINGS, VINDR_FINDINGS, CHEXPERT_FINDINGS, GOOGLE_FINDINGS, NIH_FINDINGS):
        spelled |= {name.lower().replace(" ", "_").replace("/", "_or_"): ours for name, ours in source.items()}
    spelled |= {name: name for name in VOCABULARY}
    return spelled.get(plain)


def read_own(path, scores=False):
    """Return labels or scores from a CSV of one's own, one row an image.

    Parameters
    ----------
    path : Path
        UTF-8, comma-separated, with a header: `image_id` (or a name of `IDS`), a column per finding in any spelling
        that `finding_named` knows, and, if known, `patient_id, view, sex, age, follow_up_number`.
    scores : bool
        Columns are scores (any number), which may be named `prob_<finding>` and so on (`SCORE_PREFIXES`); if any is,
        columns without a prefix are not read as scores. Otherwise labels: 1, 0, -1 or empty.

    Returns
    -------
    table : pandas.DataFrame
        `image_id` and one column per finding: float32 labels, float64 scores, NaN where empty.
    images : pandas.DataFrame
        `image_id, patient_id, view, sex, age, follow_up_number`, NA where not given.
    notes : list of str
        Which columns were not read.

    Raises
    ------
    ValueError
        In one sentence with the file, the line and the remedy.
    """
    rows = read_csv(path, ())
    lower = {c.lower(): c for c in rows.columns}
    ids = [lower[name] for name in IDS if name in lower]
    if not ids:
        raise ValueError(f"{path} has no column image_id; it has {', '.join(rows.columns)}.")
    attributes = {ours: [lower[n] for n in named if n in lower] for ours, named in ATTRIBUTES.items()}
    image_id = rows[ids[0]].str.strip()
    for wrong, what in ((image_id.isna(), "no image id"), (image_id.duplicated(), "an image id that occurs twice")):
        if wrong.any():
            at = int(np.flatnonzero(wrong.to_numpy())[0])
            raise ValueError(
                f"{path} line {rows.index[at] + 2} has {what} ({image_id.iloc[at]!r}): keep one row an image."
            )
    used = {ids[0], *(c[0] for c in attributes.values() if c)}
    columns = _finding_columns([c for c in rows.columns if c not in used], scores, path)
    renamed = rows[list(columns)].rename(columns=columns)
    values = _scores(renamed, path) if scores else check_label_columns(renamed, list(renamed), path)
    table = pd.concat([image_id.rename("image_id"), values], axis=1).reset_index(drop=True)
    images = pd.DataFrame({"image_id": table["image_id"]})
    for ours, found in attributes.items():
        text = rows[found[0]].str.strip().reset_index(drop=True) if found else pd.Series(pd.NA, images.index)
        images[ours] = _attribute(ours, text.astype("string"), rows.index, path)
    left = [c for c in rows.columns if c not in used and c not in columns]
    return table, images, [f"columns of {path} that are not read: {', '.join(left)}"] if left else []


def _attribute(name, text, index, path):
    """Return an attribute's column with its dtype: ages such as 058Y as years, male and female as M and F."""
    if name == "sex":
        return text.replace({"male": "M", "Male": "M", "MALE": "M", "female": "F", "Female": "F", "FEMALE": "F"})
    if name not in ("age", "follow_up_number"):
        return text
    values = pd.to_numeric(text.str.replace(r"^0*(\d+)Y$", r"\1", regex=True), errors="coerce").astype("Float64")
    bad = values.isna() & text.notna()
    if bad.any():
        at = int(np.flatnonzero(bad.to_numpy())[0])
        raise ValueError(
            f"{path} line {index[at] + 2}: {name} is {text.iloc[at]!r}, which is no number; leave it empty."
        )
    return values


def _finding_columns(names, scores, path):
    """Return which columns hold findings, theirs to ours."""
    prefixed = {
        c: found
        for c in names
        for prefix in SCORE_PREFIXES
        if scores and c.lower().startswith(prefix) and (found := finding_named(c[len(prefix) :]))
    }
    columns = prefixed or {c: found for c in names if (found := finding_named(c))}
    if not columns:
        raise ValueError(
            f"{path} has no column of a finding; it has {', '.join(names)}. Known: {', '.join(VOCABULARY)}."
        )
    ours = list(columns.values())
    twice = [c for c in columns if ours.count(columns[c]) > 1]
    if twice:
        raise ValueError(f"{path}: the columns {' and '.join(twice)} both mean {columns[twice[0]]}: keep one.")
    return columns


def _scores(rows, path):
    """Return columns of text as float64 scores; what is no number raises a ValueError with its line."""
    out = pd.DataFrame(index=rows.index)
    for finding in rows:
        values = pd.to_numeric(rows[finding], errors="coerce").astype("Float64")
        bad = (values.isna() & rows[finding].notna()) | values.isin([np.inf, -np.inf]).fillna(False)
        if bad.any():
            at = int(np.flatnonzero(bad.to_numpy())[0])
            raise ValueError(
                f"{path} line {rows.index[at] + 2}: {finding} is {rows[finding].iloc[at]!r}; a score is a number, or "
                "empty where there is none."
            )
        out[finding] = values.to_numpy(dtype=float, na_value=np.nan)
    return out


def check(table, where, readers=False):
    """Raise a ValueError unless a table is a label set.

    Parameters
    ----------
    table : pandas.DataFrame
    where : str
        For the messages.
    readers : bool
        Whether there is a row per image and reader (`image_id, reader_id`) instead of one per image.
    """
    key = ["image_id", "reader_id"] if readers else ["image_id"]
    for column in key:
        if column not in table:
            raise ValueError(f"{where}: a label set needs the column {column}.")
    again = table.duplicated(key)
    if again.any():
        twice = ", ".join(f"{column} {table[column][again].iloc[0]!r}" for column in key)
        raise ValueError(
            f"{where}: {twice} occurs twice; a label set has one row per image{' and reader' * readers}."
        )
    findings = [c for c in table if c not in key]
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
        if finding not in ("image_id", "reader_id")
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
