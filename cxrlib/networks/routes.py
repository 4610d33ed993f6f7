"""Names of what notebook 17 trains and stores, for it and for the study that reads it; nothing here loads torch."""

from cxrlib.base import paths

# What a network learned from: the archive's pairs, or the same with reports dealt out anew (the control).
TRUE_PAIRS, SHUFFLED_PAIRS = "true", "shuffled"
FINDINGS_OF_REPORT = "the report's own findings"  # which tell a topic without an image

# How a network came to say which findings are there.
STRICT, BY_TOPICS = "strictly supervised", "through topics"

# The trade: clean labels, labels mined from reports (weak), and what came before the clean ones.
CLEAN, WEAK, WEAK_CLEAN, TOPICS_CLEAN = "clean", "weak", "weak then clean", "topics then clean"

# Text and images in turns: image features as they are or dealt out anew, and by what a round's groups tell findings.
IMAGES, TEXT_ALONE, SHUFFLED_IMAGES = "images", "text alone", "shuffled images"
OWN_GROUP, BY_NETWORK = "groups of reports", "network"

STORED = ("images", "topics", "words", "retrieval", "presence", "trade", "interleaving", "rounds")


def scores_path(edition, name):
    """Return a table of what notebook 17 stores, one of `STORED`: image by image, without text."""
    return paths.ROOT / "data" / "mining_scores" / edition / f"{name}.parquet"
