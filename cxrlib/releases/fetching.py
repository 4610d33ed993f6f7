"""Fetch the label tables that are in no package: `cxr fetch [NAME ...]`, with `--list` to only look.

A NAME is an entry of `cxrlib.releases.catalogue` or `chexpert_test_models`; without one, all are meant. Files go to
`$CXR_DATA/labels`, or `data/sources/labels` where that variable is not set. Each has a pinned SHA-256. What its
owner gives only by hand is not fetched: the command says from where, and where to put it. The exit status is 0
if all tables that were named are there in the end.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests

from cxrlib.base import paths
from cxrlib.releases import catalogue, chexpert, openi, owner_tables


@dataclass(frozen=True)
class File:
    """Where a table comes from.

    Attributes
    ----------
    address : str or None
        Of exactly this file; None if only a person can get it.
    sha256 : str or None
        None if the owner's file is another than the one that this project was tested with.
    by_hand : str
        What a person has to do, where there is no address.
    """

    address: str | None
    sha256: str | None
    by_hand: str = ""


_GITHUB = "https://raw.githubusercontent.com"


_GOOGLE_BY_HAND = (
    "ask Google for it (https://cloud.google.com/healthcare-api/docs/resources/public-datasets/nih-chest, additional "
    "labels; bucket gs://gcs-public-data--healthcare-nih-chest-xray-labels, folder all_findings_expert_labels)"
)


def _chexpert(path, sha256):
    commit = "a930205df292983a4bc9362ea80847e3e41f6857"
    return File(f"{_GITHUB}/rajpurkarlab/cheXpert-test-set-labels/{commit}/{path}", sha256)


# Every table, by its path below `labels/`. CheXpert's repository keeps its files in other folders than we do.
FILES = {
    "google_four_findings/individual_readers.csv": File(
        f"{_GITHUB}/iachas/nih-chest-xray-labels/22581cb90c231f697e24c34cb7a3d304aee238b7/"
        "four_findings_expert_labels/individual_readers.csv",
        "d91c58ba1fd6a97cdc59dd37e47500f6a7c243e9a593855ab9aa519baf657bd6",
    ),
    "google_all_findings/test_labels.csv": File(
        None, "2602080132c8a2366ff428adfef98b79c809f5be8cfcde9cc237c62561c7ae40", _GOOGLE_BY_HAND
    ),
    "google_all_findings/test_individual_readers.csv": File(
        None, "e6193ea748d66857ea2db11765c961eb1f8b21829df73dc9dfc11e9c63caa16c", _GOOGLE_BY_HAND
    ),
    "rsna_to_nih.csv": File(
        None,
        None,
        "make it from scripts/CrossReferenceWithNIH/rsnamatches.pkl of https://github.com/mlmed/torchxrayvision and "
        "the classes of the RSNA challenge (stage_2_detailed_class_info.csv, Kaggle): columns rsna, nih, mse, cls",
    ),
    "openi_gold/openi_gold_dev.csv": File(
        None,
        None,
        "take examples/openi_gld_std14.csv of https://github.com/ncbi-nlp/NegBio (commit c04cdb9) and keep its name, "
        "openi_gld_std14.csv",
    ),
    "chexpert_test/groundtruth.csv": _chexpert(
        "groundtruth.csv",
        "307325997d3260cf2a08b7d6314bb5707391fa255cf83cd9427f6d49b15867c0",
    ),
    "chexpert_test/report_labeler.csv": _chexpert(
        "labeler/chexpert_labels.csv",
        "771a16d7873ec7c95b610fd0df040a01dacd2542c98607aa1cf71f46998ec543",
    ),
    "chexpert_test/radiologists/groundtruth/bc1_gt.csv": _chexpert(
        "radiologists/groundtruth/bc1_gt.csv",
        "a1087d2c9018484d608f912dd655e11c71ea0cffc25534b34da90aba4c3ed142",
    ),
    "chexpert_test/radiologists/groundtruth/bc2_gt.csv": _chexpert(
        "radiologists/groundtruth/bc2_gt.csv",
        "8cc9f67bb376e327dd9623f0417bdd638b421b5ec1eacf7a905f7bba33c3b5ef",
    ),
    "chexpert_test/radiologists/groundtruth/bc3_gt.csv": _chexpert(
        "radiologists/groundtruth/bc3_gt.csv",
        "eea7cfcca39732332b5d6214a903d3629c29a116c580204f334d51ac124f20d5",
    ),
    "chexpert_test/radiologists/groundtruth/bc5_gt.csv": _chexpert(
        "radiologists/groundtruth/bc5_gt.csv",
        "bceae48c80e8d5a35abceb860c2ae734059874b5ac24c0a3c0d208d745b01eeb",
    ),
    "chexpert_test/radiologists/groundtruth/bc7_gt.csv": _chexpert(
        "radiologists/groundtruth/bc7_gt.csv",
        "21b33ceec9951e9b0b3faf113552d1be26aac1ab485863f808025d8c6db27dec",
    ),
    "chexpert_test/radiologists/benchmark_radiologists/bc4.csv": _chexpert(
        "radiologists/benchmark_radiologists/bc4.csv",
        "e38937132ea0b2f179ad39c72023966b9a93f5d0621537b85f10be3e45076c17",
    ),
    "chexpert_test/radiologists/benchmark_radiologists/bc6.csv": _chexpert(
        "radiologists/benchmark_radiologists/bc6.csv",
        "d16737506085753bc2e074bf6aaedada60cfb94f1a43f4fc54064607e2ad9dce",
    ),
    "chexpert_test/radiologists/benchmark_radiologists/bc8.csv": _chexpert(
        "radiologists/benchmark_radiologists/bc8.csv",
        "90bd6f9454d4904d248c214d57a62f613b7d481e7d9f0381f5032232a316a7b9",
    ),
    "chexpert_test/model_predictions/standard/desmond_predictions.csv": _chexpert(
        "predictions/standard/desmond_predictions.csv",
        "62e46bfefe05b8fe3a7c44f5c090a858d9790adf819a26583a666fea69473ba2",
    ),
    "chexpert_test/model_predictions/standard/drnet_predictions.csv": _chexpert(
        "example_models/predictions/standard/drnet_predictions.csv",
        "23e41262846ddef569182e1be90ed43a33694df772c3c97061545ee6af6e666d",
    ),
    "chexpert_test/model_predictions/standard/hieupham_predictions.csv": _chexpert(
        "example_models/predictions/standard/hieupham_predictions.csv",
        "2a4bcc8e29aabd358b74b3205bf4ba3608ab69ac9a865f270d3025f38a096c9f",
    ),
    "chexpert_test/model_predictions/standard/ihil_predictions.csv": _chexpert(
        "example_models/predictions/standard/ihil_predictions.csv",
        "f9e308f444711e8ae7cc13bb3911c965bacffc0bb5c2148644917d7f3aace2ce",
    ),
    "chexpert_test/model_predictions/standard/jfaboy_predictions.csv": _chexpert(
        "predictions/standard/jfaboy_predictions.csv",
        "0d81be5c2d2fdbdbaf1db763657f2c2d4d9ad5629f682c100818794a4fd85425",
    ),
    "chexpert_test/model_predictions/standard/ngango2_predictions.csv": _chexpert(
        "example_models/predictions/standard/ngango2_predictions.csv",
        "b728649449c8e60a9d120bd415cf4b6c8579600667fe90ec72a2f352f8d5cf1d",
    ),
    "chexpert_test/model_predictions/standard/ngango3_predictions.csv": _chexpert(
        "example_models/predictions/standard/ngango3_predictions.csv",
        "ad35c236742b81d4301203b4167771de76bf34a793251566ac33aa033a52e522",
    ),
    "chexpert_test/model_predictions/standard/sensexdr_predictions.csv": _chexpert(
        "example_models/predictions/standard/sensexdr_predictions.csv",
        "ad07189095c6f758ca93bc1648ad6030638a6c631e3f7bd479606c76cb38a658",
    ),
    "chexpert_test/model_predictions/standard/uestc_predictions.csv": _chexpert(
        "example_models/predictions/standard/uestc_predictions.csv",
        "3998f8948c602dbdfe9d4f17bc37336120f501b0167845487a516c23bd217e7b",
    ),
    "chexpert_test/model_predictions/standard/yww211_predictions.csv": _chexpert(
        "example_models/predictions/standard/yww211_predictions.csv",
        "18645ac8ab3e58d2f22ba1109f8a0fff99fbc0c5208dd7a38a0cb68c6123e38f",
    ),
}


WANTED = {name: entry.labels for name, entry in catalogue.ENTRIES.items() if entry.labels}


WANTED["chexpert_test_models"] = chexpert.CHEXPERT_MODEL_FILES


def tables_folder():
    """Return where tables are put: `$CXR_DATA/labels`, or `data/sources/labels` below the root."""
    data = os.environ.get("CXR_DATA")
    return (Path(data).expanduser() if data else paths.sources_dir()) / "labels"


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def state(path):
    """Return whether a table is `here`, `missing`, or `differs` from the pinned one.

    Parameters
    ----------
    path : str
        A key of `FILES`.
    """
    found = owner_tables.find_labels(path)
    if found is None and path == "openi_gold/openi_gold_dev.csv":
        found = owner_tables.find_labels(openi.OPENI_GOLD_WHOLE)
    if found is None:
        return "missing"
    pinned = FILES[path].sha256
    return "here" if pinned is None or _sha256(found) == pinned else "differs"


def _by_hand(path):
    file = FILES[path]
    pinned = f" (SHA-256 {file.sha256})" if file.sha256 else ""
    return f"{file.by_hand}, and put it into {(tables_folder() / path).parent}{pinned}"


def get(path, unreachable):
    """Fetch one table if it can be fetched.

    Parameters
    ----------
    path : str
        A key of `FILES`, of a table that is missing.
    unreachable : set of str
        Hosts that did not answer; they are not asked again, and this call may add one.

    Returns
    -------
    str or None
        Why it is still missing, in a sentence; None if it is there now.
    """
    file, to = FILES[path], tables_folder() / path
    if file.address is None:
        return f"{path} is not fetched: {_by_hand(path)}."
    host = urlsplit(file.address).netloc
    by_hand = f"download {file.address} yourself and save it as {to} (SHA-256 {file.sha256})"
    if host in unreachable:
        return f"{path} could not be fetched ({host} does not answer): {by_hand}."
    try:
        pooch.retrieve(file.address, f"sha256:{file.sha256}", fname=to.name, path=to.parent)
    except (requests.ConnectionError, requests.Timeout):
        unreachable.add(host)
        return f"{path} could not be fetched ({host} does not answer): {by_hand}."
    except requests.RequestException as error:
        return f"{path} could not be fetched ({' '.join(str(error).split())}): {by_hand}."
    except ValueError:  # pooch's word for another SHA-256; it keeps nothing then
        return f"{path}: {file.address} is now another file than the one pinned (SHA-256 {file.sha256}); not kept."
    except OSError as error:
        return f"{path} could not be written to {to} ({error.strerror}): make that folder writable or set CXR_DATA."
    return None


def fetch(names, only_list=False):
    """Fetch the tables of label sets, saying what each one's terms are first.

    Parameters
    ----------
    names : sequence of str
        Keys of `WANTED`.
    only_list : bool
        Say what is there and fetch nothing.

    Returns
    -------
    bool
        Whether all of them are there in the end.
    """
    whole, unreachable = True, set()
    for name in names:
        card = catalogue.ENTRIES.get(name, catalogue.ENTRIES["chexpert_test_majority"]).card
        states = {path: state(path) for path in WANTED[name]}
        missing = [path for path, what in states.items() if what == "missing"]
        print(f"{name}: {len(states) - len(missing)} of {len(states)} files are here.")
        if missing:
            print(f"  Terms: {card['licence']}. Cite {card['citation']}. From {card['source']}.")
        for path, what in states.items():
            if what == "differs":
                problem = _differs(path)
            elif what == "missing":
                problem = f"{path} is missing." if only_list else get(path, unreachable)
            else:
                continue
            if problem is None:
                print(f"  {path} is fetched.")
                continue
            print(f"  {problem}")
            whole = whole and what == "differs" and FILES[path].address is None
    return whole


def _differs(path):
    """Say that a table is another one than was tested; only one that can be fetched counts as not there."""
    found, file = owner_tables.find_labels(path), FILES[path]
    what = f"{found} is not the file that this project was tested with (SHA-256 {file.sha256})"
    if file.address is None:
        return f"{what}; it is used all the same."
    return f"{what}: remove it and run this again, or get it from {file.address}."
