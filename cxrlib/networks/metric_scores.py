"""Names of what notebook 18 trains and stores, for it and for the study that reads it; nothing here loads torch."""

from cxrlib.base import paths

# Losses of `losses.LOSSES` that the study names: the metric loss without weights, with each, and with both.
PLAIN, IMAGE, DISEASE, DUAL = "prototype", "image_weights", "disease_weights", "dual_weighted"
# The four cells of the 2 x 2, neither, image, disease and both, by the head that they train.
TWO_BY_TWO = {
    "prototypes": (PLAIN, IMAGE, DISEASE, DUAL),
    "linear": ("bce", "linear_image_weights", "linear_disease_weights", "linear_dual_weighted"),
}

# Where the prototypes of the dual-weighted loss come from.
BY_NAME, DEFINED, TUNED = "names", "names and definitions", "names, then learned"
ON_SPHERE = "names, images on the sphere"
SHUFFLED, RANDOM, ONE_HOT = "shuffled names", "random directions", "one axis a finding"
RANDOM_TUNED, NO_NAME = "random directions, then learned", "no name, distance from the origin"
AFTERWARDS = "shuffled after training"
PROTOTYPES = (BY_NAME, DEFINED, ON_SPHERE, SHUFFLED, RANDOM, ONE_HOT, TUNED, RANDOM_TUNED, AFTERWARDS)
CONTROL_OF = {
    SHUFFLED: "shuffled",
    RANDOM: "random",
    RANDOM_TUNED: "random",
    ONE_HOT: "one-hot",
}  # of `name_vectors.control`

# What an image's neighbours are found by.
SPACE, SHUFFLED_SPACE, OWN_VECTORS = "metric space", "space of shuffled names", "network's own vectors"
ANY = "any image, commonest finding"

# What is known of an image without its anatomy (`cohorts.shortcuts`).
GREY_LEVELS, METADATA = "grey levels and sharpness", "view, sex, age, follow-up"
FILE, HOLDER = "size of file and image", "holder"

METRIC_TABLES: tuple[str, ...] = ("images", "training", "losses", "search", "scaling")
METRIC_TABLES += ("end_to_end", "prototypes", "shortcuts", "shuffled_labels", "unseen", "space", "nearest")


def metric_table_path(edition, name):
    """Return a table of what notebook 18 stores, one of `METRIC_TABLES`."""
    return paths.ROOT / "data" / "metric_scores" / edition / f"{name}.parquet"


def vectors_path(edition, run_key):
    """Return the stored vectors of one network, an array a part of the split."""
    return paths.ROOT / "data" / "metric_vectors" / edition / f"{run_key}.npz"
