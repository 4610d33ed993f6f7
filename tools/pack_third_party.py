"""Write the tables of `third_party/` from those of their owners: `python tools/pack_third_party.py FOLDER`.

FOLDER holds the owners' files as docs/data.md names them (`predictions/`, `labels/`). Run once when a table is added;
what comes out is committed, with each owner's licence beside it.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from cxrlib.base import paths, tables, vocabulary
from cxrlib.releases import predictions

folder, out = Path(sys.argv[1]), paths.ROOT / "third_party"


def probabilities(path):
    """Return an owner's probabilities: `image_id` and 14 findings."""
    raw = pd.read_csv(path).rename(columns=lambda name: name.removeprefix("prob_"))
    return raw.rename(columns={"Image Index": "image_id", **vocabulary.NIH_FINDINGS}).set_index("image_id")


# Half precision: no AUC by report labels changes by more than 2e-5 (tests/test_predictions.py recomputes one).
networks = {name: probabilities(folder / file) for name, file in predictions.OWNERS_FILES.items()}
images = sorted(networks[next(iter(networks))].index)
parts = [
    rows.loc[images, list(vocabulary.NIH_FINDINGS.values())].astype(np.float16).add_prefix(f"{name} ")
    for name, rows in networks.items()
]
whole = pd.concat(parts, axis=1).rename_axis("image_id").reset_index()
whole.to_parquet(out / "nih_predictions" / "probabilities.parquet", compression="zstd", index=False)

matches = pd.read_csv(folder / "labels" / "rsna_to_nih.csv", usecols=["rsna", "nih", "mse"])
tables.write_csv(matches.round({"mse": 3}).sort_values("rsna"), out / "rsna_matches" / "rsna_to_nih.csv.gz")

for path in sorted((folder / "labels" / "mgh_platinum").glob("*.csv")):
    rows = pd.read_csv(path)
    of_nih = rows[rows["PATH"].str.fullmatch(r"\d{8}_\d{3}\.png")]
    tables.write_csv(of_nih.sort_values("PATH"), out / "mgh_platinum" / path.name)

tubes = pd.read_csv(folder / "labels" / "siim_chest_tubes" / "tube_labels.csv")
tables.write_csv(tubes.sort_values("ImageId"), out / "siim_chest_tubes" / "tube_labels.csv.gz")
