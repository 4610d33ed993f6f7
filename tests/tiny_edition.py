"""The smallest edition that still trains networks; what several test files need."""

from cxrlib.base import editions

ENCODER = "tiny_encoder"  # which `checkout` makes: to read 3,955 reports with MiniLM takes a minute


def tiny(seeds=(1,)):
    settings = editions.compose("quick") | {"edition": "tiny", "size_px": 32}
    settings["cohorts"]["simulated"]["images_n"] = 400
    settings["cohorts"]["simulated_external"]["images_n"] = 120
    settings["runs"]["pneumothorax"] |= {"architectures": ["test_resnet"], "seeds": list(seeds)}
    for group in ("controls", "labelers", "visual", "finding", "finding_others", "metric"):
        settings["runs"][group]["targets"] = []
    for study in ("labelers", "finding", "mining", "metric"):
        settings[study]["enabled"] = False
    settings["finding"]["splits"] = []
    settings["bert"] |= {
        "encoder": ENCODER,
        "trained_layers": 1,
        "rule_epochs": 1,
        "people_epochs": 1,
        "reports_n": 64,
        "practice_n": 16,
    }
    settings["training"]["epochs"] = 1
    settings["pneumothorax"] |= {"resamples_n": 50, "controls": {}}
    return settings
