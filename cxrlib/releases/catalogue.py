"""Published label sets of chest radiographs: each read from its owner's table, on the shared vocabulary, with a card.

`read(name)` returns a `LabelSet`; `names()` lists the entries of `ENTRIES`. Most tables are in the
torchxrayvision package; the others lie in `$CXR_DATA/labels` or `data/sources/labels`, where
`cxr fetch` puts them. Sets on the same pixels belong to one family (`PIXELS`), and none of a
family is external to another (`check_not_shared`).
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from cxrlib.base import label_tables
from cxrlib.releases import challenges, chexpert, google, nih, openi, openi_reports, owner_tables, padchest, pixels


@dataclass(frozen=True)
class LabelSet:
    """A published label set.

    Attributes
    ----------
    name : str
    table : pandas.DataFrame
        `image_id` (with several readers an image also `reader_id`), unique, and float32 findings: 1 present,
        0 absent, -1 uncertain, NaN not assessed.
    images : pandas.DataFrame
        A row per image: `IMAGE_COLUMNS` as far as known, else NA; age in years as released. Google's sets also
        have `part`, the publisher's `val` or `test`.
    card : dict
        `labelsets.CARD_FIELDS`, and `pixels`, `images_n`, `readers_n` (0 where readers are not told apart),
        `counts`.
    notes : tuple of str
        What was dropped, merged or not mapped, with its number, a sentence each.
    """

    name: str
    table: pd.DataFrame
    images: pd.DataFrame
    card: dict
    notes: tuple


@dataclass(frozen=True)
class Entry:
    """Where a label set is and how it is read.

    Attributes
    ----------
    load : Callable[[], (table, images, notes)]
    card : dict
        `labelsets.CARD_FIELDS`.
    package : tuple of str
        Files of torchxrayvision's data folder that it needs.
    labels : tuple of str
        Files below `labels/` of `$CXR_DATA` or `data/sources` that it needs.
    instead : tuple of str
        Files below `labels/` that do as well.
    readers : bool
        Whether there is a row per image and reader.
    """

    load: Callable
    card: dict
    package: tuple = ()
    labels: tuple = ()
    instead: tuple = ()
    readers: bool = False


def names():
    """Return the names of the label sets, in order."""
    return tuple(ENTRIES)


def _entry(name):
    if name not in ENTRIES:
        raise ValueError(f"There is no published label set {name!r}; there are {', '.join(ENTRIES)}.")
    return ENTRIES[name]


def available(name):
    """Return whether all files of a label set are here, without reading them."""
    entry = _entry(name)
    if entry.instead and all(owner_tables.find_labels(path) for path in entry.instead):
        return True
    return all(owner_tables.find_labels(path) for path in entry.labels)


def where(name):
    """Return in a sentence where a label set's files are, or are to be put."""
    entry = _entry(name)
    said = []
    if entry.package:
        said.append(f"{', '.join(entry.package)} in the torchxrayvision package")
    if entry.labels:
        said.append(
            f"{', '.join(entry.labels)} in $CXR_DATA/labels or data/sources/labels "
            f"(`cxr fetch {name}` fetches them or says where from)"
        )
    return "; ".join(said) + "."


def read_release(name):
    """Return a published label set, checked.

    Parameters
    ----------
    name : str
        A key of `ENTRIES`.

    Raises
    ------
    FileNotFoundError
        If a file of it is not here; the message says where to get it.
    ValueError
        If there is no such entry, or its file is not the published one: a column is missing, a class or value
        is unknown, an image occurs twice.
    """
    entry = _entry(name)
    if not available(name):
        raise FileNotFoundError(f"Label set {name!r} is not here: it needs {where(name)}")
    remedy = f"Remove that file and run `cxr fetch {name}`." if entry.labels else owner_tables.REINSTALL
    try:
        table, images, notes = entry.load()
        table = table.astype({c: "string" for c in ("image_id", "reader_id") if c in table})
        label_tables.check(table, f"label set {name!r}", entry.readers)
    except ValueError as error:
        raise ValueError(f"{error} {remedy}") from error
    card = {
        **entry.card,
        "pixels": pixels.PIXELS[name],
        "images_n": int(table["image_id"].nunique()),
        "readers_n": int(table["reader_id"].nunique()) if entry.readers else 0,
        "counts": label_tables.counts(table),
    }
    return LabelSet(name, table, images, card, tuple(notes))


_GOOGLE_TERMS = {"licence": "research and educational purposes only"}


_GOOGLE_FOUR = {
    "version": "2019",
    **_GOOGLE_TERMS,
    "citation": "Majkowska A et al. Radiology 2020;294:421; Wang X et al. CVPR 2017",
}


_GOOGLE_ALL = {
    "version": "2021",
    "source": "Google Health, all_findings_expert_labels",
    **_GOOGLE_TERMS,
    "citation": "Nabulsi Z et al. Sci Rep 2021;11:15523; Wang X et al. CVPR 2017",
}


_CHEXPERT_TEST = {
    "version": "test set of 500 studies, labels released 2021",
    "source": "Stanford, rajpurkarlab/cheXpert-test-set-labels",
    "licence": "none stated",
    "citation": "Irvin J et al. CheXpert. AAAI 2019; Rajpurkar P et al. CheXternal. CHIL 2021",
}


_PADCHEST_CARD = {
    "version": "160K_01.02.19",
    "source": "BIMCV, PadChest (copy in torchxrayvision)",
    "licence": "not stated with the table; PadChest's research use agreement (BIMCV)",
    "citation": "Bustos A et al. PadChest. Med Image Anal 2020;66:101797",
}


_PADCHEST_HOW = (
    "terms that the report lists, of a tree of 193; a finding is present if it or a kind of it is listed, else absent"
)


_OPENI_CARD = {
    "licence": "CC BY-NC-ND 4.0, as the reports say",
    "citation": "Demner-Fushman D et al. J Am Med Inform Assoc 2016;23:304",
}


ENTRIES = {
    "nih_reports": Entry(
        nih.nih_reports,
        {
            "who": "a program reading the radiology report",
            "how": "DNorm and MetaMap with negation rules over the parse; uncertain mentions were removed, so "
            "absent means not mentioned. airspace_opacity and nodule_or_mass are derived: any of their parts.",
            "version": "Data_Entry_2017_v2020",
            "source": "NIH Clinical Center, ChestX-ray14 (copy in torchxrayvision)",
            "licence": "free use; credit the NIH Clinical Center and link its download page",
            "citation": "Wang X et al. ChestX-ray8. CVPR 2017",
        },
        package=("Data_Entry_2017_v2020.csv.gz",),
    ),
    "google_adjudicated": Entry(
        google.google_adjudicated,
        {
            "who": "three radiologists an image, adjudicated",
            "how": "independent reads, then up to five rounds until they agreed",
            "source": "Google Health (copy in torchxrayvision)",
            **_GOOGLE_FOUR,
        },
        package=("google2019_nih-chest-xray-labels.csv.gz",),
    ),
    "google_four_readers": Entry(
        google.google_four_readers,
        {
            "who": "22 radiologists and residents, each by a number",
            "how": "the labels of each reader by itself; pneumothorax and nodule or mass may be hedged. Mostly three "
            "readers an image",
            "source": "Google Health, four_findings_expert_labels",
            **_GOOGLE_FOUR,
        },
        labels=("google_four_findings/individual_readers.csv",),
        readers=True,
    ),
    "google_all_majority": Entry(
        google.google_all_majority,
        {
            "who": "the majority of three of five radiologists",
            "how": "independent reads of 810 PA images of Google's test set; readers 4343882785, 4343883593, "
            "4343883996",
            **_GOOGLE_ALL,
        },
        labels=("google_all_findings/test_labels.csv",),
    ),
    "google_all_readers": Entry(
        google.google_all_readers,
        {
            "who": "five radiologists, each by a number",
            "how": "independent reads: abnormal or not, and if so which of 14 findings or another",
            **_GOOGLE_ALL,
        },
        labels=("google_all_findings/test_individual_readers.csv",),
        readers=True,
    ),
    "rsna": Entry(
        challenges.rsna,
        {
            "who": "radiologists of the RSNA pneumonia challenge",
            "how": "boxes around opacities suspicious of pneumonia; airspace_opacity is any box. Under the "
            "challenge's ids",
            "version": "stage 2",
            "source": "RSNA pneumonia detection challenge 2018 (copy in torchxrayvision)",
            "licence": "research, education and other use with attribution (RSNA's challenge page)",
            "citation": "Shih G et al. Radiol Artif Intell 2019;1:e180041; Wang X et al. CVPR 2017",
        },
        package=("kaggle_stage_2_train_labels.csv.zip", "kaggle_stage_2_train_images_dicom_headers.csv.gz"),
    ),
    "rsna_on_nih": Entry(
        challenges.rsna_on_nih,
        {
            "who": "radiologists of the RSNA pneumonia challenge",
            "how": "class of the image; airspace_opacity is 'Lung Opacity' (one suspicious of pneumonia), "
            "no_finding is 'Normal'",
            "version": "stage 2",
            "source": "RSNA pneumonia detection challenge 2018, matched to NIH ids by torchxrayvision",
            "licence": "RSNA challenge terms; matching Apache-2.0",
            "citation": "Shih G et al. Radiol Artif Intell 2019;1:e180041",
        },
        labels=("rsna_to_nih.csv",),
    ),
    "siim": Entry(
        challenges.siim,
        {
            "who": "radiologists of SIIM and STR",
            "how": "outlines of pneumothoraces (run-length masks); present is any outline",
            "version": "training set of the challenge",
            "source": "SIIM-ACR pneumothorax segmentation challenge 2019 (copy in torchxrayvision)",
            "licence": "not stated with the table; the challenge's rules (Kaggle)",
            "citation": "SIIM-ACR Pneumothorax Segmentation, Kaggle 2019; Wang X et al. CVPR 2017",
        },
        package=("siim-pneumothorax-train-rle.csv.gz",),
    ),
    "vindr_readers": Entry(
        challenges.vindr_readers,
        {
            "who": "17 radiologists, three an image, kept apart",
            "how": "boxes of 14 classes, or 'No finding', by each rater without the others",
            "version": "training set of the challenge",
            "source": "VinBigData, VinDr-CXR (copy in torchxrayvision)",
            "licence": "not stated with the table; the challenge's rules (Kaggle)",
            "citation": "Nguyen HQ et al. VinDr-CXR. Sci Data 2022;9:429",
        },
        package=("vinbigdata-train.csv.gz",),
        readers=True,
    ),
    "padchest_physicians": Entry(
        functools.partial(padchest.padchest_labels_by, "Physician"),
        {"who": "trained physicians reading the Spanish report", "how": _PADCHEST_HOW, **_PADCHEST_CARD},
        package=(padchest.PADCHEST,),
    ),
    "padchest_network": Entry(
        functools.partial(padchest.padchest_labels_by, "RNN_model"),
        {
            "who": "a recurrent network reading the Spanish report, trained on the physicians' labels",
            "how": _PADCHEST_HOW,
            **_PADCHEST_CARD,
        },
        package=(padchest.PADCHEST,),
    ),
    "chexpert_labeler": Entry(
        chexpert.chexpert_labeler,
        {
            "who": "the CheXpert labeler, a program reading the radiology report",
            "how": "rules for mention, negation and uncertainty; -1 uncertain, blank not mentioned",
            "version": "CheXpert-v1.0 training set",
            "source": "Stanford, CheXpert (copy in torchxrayvision)",
            "licence": "not stated with the table; Stanford's research use agreement",
            "citation": "Irvin J et al. CheXpert. AAAI 2019",
        },
        package=("chexpert_train.csv.gz",),
    ),
    "chexpert_test_majority": Entry(
        chexpert.chexpert_test_majority,
        {"who": "the majority of five radiologists", "how": "independent reads of the study", **_CHEXPERT_TEST},
        labels=(chexpert.CHEXPERT_TRUTH,),
    ),
    "chexpert_test_readers": Entry(
        chexpert.chexpert_test_readers,
        {
            "who": "eight board-certified radiologists",
            "how": "independent reads of the study: five make the majority, three are the benchmark",
            **_CHEXPERT_TEST,
        },
        labels=chexpert.CHEXPERT_READERS,
        readers=True,
    ),
    "chexpert_test_labeler": Entry(
        chexpert.chexpert_test_labeler,
        {
            "who": "a program reading the radiology report (the CheXpert labeler or CheXbert)",
            "how": "-1 uncertain, blank not mentioned",
            **_CHEXPERT_TEST,
        },
        labels=(chexpert.CHEXPERT_LABELER,),
    ),
    "openi_codes": Entry(
        openi.openi_codes,
        {
            "who": "human coders reading the radiology report",
            "how": "MeSH and RadLex headings with qualifiers; a finding is present if its heading is coded, else "
            "absent",
            "version": "NLMCXR, 3,955 reports",
            "source": "Indiana University and the US National Library of Medicine, Open-i (copy in torchxrayvision)",
            **_OPENI_CARD,
        },
        package=(openi_reports.ARCHIVE,),
    ),
    "openi_gold": Entry(
        openi.openi_gold,
        {
            "who": "human coders reading the radiology report",
            "how": "their codes on NIH's 14 findings and normal, as NegBio's authors released them; per report",
            "version": "openi_gld_std14",
            "source": "ncbi-nlp/NegBio, examples/openi_gld_std14.csv",
            "licence": "US public domain (NegBio); reports CC BY-NC-ND 4.0",
            "citation": "Peng Y et al. NegBio. AMIA Jt Summits Transl Sci 2018; Demner-Fushman D et al. JAMIA "
            "2016;23:304",
        },
        labels=(openi.OPENI_GOLD_DEVELOPMENT,),
        instead=(openi.OPENI_GOLD_WHOLE,),
    ),
}
