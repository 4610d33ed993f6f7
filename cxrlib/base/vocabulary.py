"""The vocabulary: every finding that any label set here assesses, and how each source spells it."""

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
            "chest_tube",
        ]
    )
)


# Findings that stand for several of a finer label set: present if any of them is.
# The five that the report labels have for an airspace opacity are chosen by what they mean: notebook 02 has their
# sensitivity (0.506) and PPV (0.767) by Google's adjudicated "airspace opacity". They do not agree best with it: with
# effusion added, which is no opacity of the lung, kappa is 0.338 instead of 0.278 (notebook 07).
ANY_OF = {
    "airspace_opacity": ("atelectasis", "consolidation", "edema", "infiltration", "pneumonia"),
    "nodule_or_mass": ("nodule", "mass"),
}


def finding_named(text: str) -> str | None:
    """Return the finding of the vocabulary that a column's name means, by any source's spelling, or None."""
    plain = text.strip().lower().replace(" ", "_").replace("-", "_").replace("/", "_or_")
    spelled: dict[str, str] = {}
    for source in (GOOGLE_READER_FINDINGS, VINDR_FINDINGS, CHEXPERT_FINDINGS, GOOGLE_FINDINGS, NIH_FINDINGS):
        spelled |= {name.lower().replace(" ", "_").replace("/", "_or_"): ours for name, ours in source.items()}
    spelled |= {name: name for name in VOCABULARY}
    return spelled.get(plain)
