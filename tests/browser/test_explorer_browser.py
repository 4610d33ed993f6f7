"""The explorer in a browser without network: it filters, recomputes what pandas gives, shares its state, and fits."""

import shutil
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import pytest

from cxrlib.base import editions, paths
from cxrlib.statistics import accuracy, intervals, resampling
from cxrlib.studies import case_tables, triage

sync_playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: install requirements.txt"
).sync_playwright
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")

PANELS = ("images", "operating", "topics", "space", "real")
WIDTHS = (390, 768, 1280)


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Reader:
    """One window on the explorer, without network; whatever it complains of fails the test."""

    def __init__(self, context, folder):
        self.folder, self.complaints = folder, []
        self.page = context.new_page()
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._asked)

    def _asked(self, request):
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.complaints.append(f"asks for {request.url}")

    def open(self, **state):
        """Open a panel in a given state and wait until it is drawn."""
        self.page.goto("about:blank")
        self.page.goto(f"{(self.folder / 'index.html').as_uri()}#{urlencode(state)}")
        self.drawn()
        return self.page

    def drawn(self):
        """Wait until nothing is being drawn."""
        self.page.wait_for_selector("body[data-drawn] main:not([aria-busy]) h2")
        self.page.wait_for_function(
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
        )

    def choose(self, name, value):
        """Choose an option of the select of that name."""
        self.page.select_option(f"select[name={name}]", value)
        self.drawn()

    def status(self):
        """Return the sentence of the first status line."""
        return self.page.text_content("[role=status]")


@pytest.fixture
def reader(browser, explorer_folder):
    """A window of 1280 px."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    one = Reader(context, explorer_folder)
    yield one
    context.close()
    assert one.complaints == []


@pytest.fixture(scope="module")
def test_images():
    """The case table's test images."""
    return case_tables.read("quick", "simulated").query("split == 'test'").reset_index(drop=True)


# Images


def counted(table, a, b, finding):
    """Return the images that both label sets assess, and which of them each calls present."""
    both = table[[case_tables.label(a, finding), case_tables.label(b, finding)]].dropna()
    return both.index, (both == 1).to_numpy().T


@pytest.mark.parametrize(
    ("a", "b", "finding"),
    [("radiologist", "rules", "pneumothorax"), ("drawn", "radiologist", "effusion"), ("rules", "bert", "edema")],
)
def test_filters_show_the_images_on_which_label_sets_part(reader, test_images, a, b, finding):
    page = reader.open()
    for name, value in (("finding", finding), ("a", a), ("b", b)):
        reader.choose(name, value)
    index, (first, second) = counted(test_images, a, b, finding)
    wanted = {"part": first != second, "first": first & ~second, "second": ~first & second, "both": first & second}
    for show, mask in {**wanted, "all": np.ones(len(first), bool)}.items():
        reader.choose("show", show)
        patients_n = test_images.loc[index[mask], "patient_id"].nunique()
        images_n, patients_n = (
            f"{n:,} {one}{'' if n == 1 else 's'}" for n, one in ((mask.sum(), "image"), (patients_n, "patient"))
        )
        assert reader.status().startswith(f"{images_n} of {patients_n} shown, of {len(first):,} that both assess.")
        shown = page.locator(".grid").first.locator("button").all_text_contents()
        assert [text.strip() for text in shown] == test_images.loc[index[mask][:24], "image_id"].tolist()
    kappa = accuracy.kappa(first, second)
    assert f"on {finding} is {kappa:.3f}" in reader.status()


def test_pages_of_images_are_turned(reader, test_images):
    page = reader.open(show="all")
    page.click("text=Next page")
    reader.drawn()
    first = page.locator(".grid").first.locator("button").first.text_content().strip()
    assert first == test_images["image_id"][24]
    assert page.locator(".pager span").first.text_content() == "Page 2 of 74"


def test_an_empty_list_says_what_to_do(reader):
    page = reader.open(a="drawn", b="drawn")
    assert "No image is left: choose two label sets that differ" in page.locator(".grid").first.text_content()


def test_an_image_is_shown_with_all_that_is_known_of_it(reader, test_images):
    page = reader.open(finding="pneumothorax")
    chosen = page.locator(".grid").first.locator("button").nth(2)
    image_id = chosen.text_content().strip()
    chosen.click()
    reader.drawn()
    assert page.text_content("#image-heading") == f"Image {image_id}"
    assert f"image={image_id}" in page.url
    row = test_images.set_index("image_id").loc[image_id]
    opinions = page.locator("table", has_text="Every label set’s opinion")
    heads = opinions.locator("thead th").all_text_contents()
    says = {1.0: "present", 0.0: "absent", -1.0: "uncertain"}
    for cells in opinions.locator("tbody tr").all():
        label_set, *values = cells.locator("th, td").all_text_contents()
        for finding, value in zip(heads[1:], values, strict=True):
            column = case_tables.label(label_set.replace(" ", "_"), finding.replace(" ", "_"))
            if column in row:
                assert value == says.get(row[column], "–")
    probabilities = page.locator("table", has_text="Every run’s probability of pneumothorax")
    for cells in probabilities.locator("tbody tr").all():
        target, network, _, seeds, mean, *_ = cells.locator("th, td").all_text_contents()
        run = f"probability.{target.replace(' ', '_')}-{network}-"
        own = row[[c for c in row.index if c.startswith(run) and c.endswith(".pneumothorax")]]
        assert (len(own), f"{own.mean():.3f}") == (int(seeds), mean)
    assert probabilities.locator("tbody tr").count() >= 5
    report = page.text_content(".report")
    assert report.startswith("INDICATION:") and "IMPRESSION:" in report
    marked = page.locator(".report mark").all_text_contents()
    assert marked and all(text in report for text in marked)


def test_maps_lie_over_the_image(reader):
    page = reader.open()
    page.check("input[name=mapped]")
    reader.drawn()
    assert page.locator(".picture .heat").count() == 1
    assert page.input_value("select[name=map]").endswith(".pneumothorax")
    page.locator("input[name=opacity_slider]").focus()
    page.keyboard.press("ArrowLeft")
    reader.drawn()
    assert float(page.locator(".heat").evaluate("node => node.style.opacity")) == pytest.approx(0.65)


def test_boxes_of_what_was_drawn_can_be_shown(reader, test_images):
    image_id = test_images.loc[test_images["label.drawn.cardiomegaly"] == 1, "image_id"].iloc[0]
    page = reader.open(image=image_id)
    assert page.locator(".boxes rect").count() == 0
    page.check("input[name=boxes]")
    reader.drawn()
    assert page.locator(".boxes rect").count() >= 1
    assert "cardiomegaly" in page.locator(".boxes").get_attribute("aria-label")


# Operating point


def measured(page):
    """Return what the table of the operating point says: estimate and ends by measure."""
    nodes = page.locator("#worth [data-measure]").all()
    read = {node.get_attribute("data-measure"): node for node in nodes}
    return {
        name: [float(node.get_attribute(f"data-{end}").replace("null", "nan")) for end in ("value", "low", "high")]
        for name, node in read.items()
    }


def linearised(label, called, patient, prevalence):
    """Return the ends of the intervals of sensitivity and PPV by their influence on each patient, a second way."""
    tp, fn = (label & called).sum(), (label & ~called).sum()
    fp, tn = (~label & called).sum(), (~label & ~called).sum()
    found, kept = tp / (tp + fn), tn / (tn + fp)
    of_found = np.where(label, (called - found) / (tp + fn), 0.0)
    of_kept = np.where(~label, (~called - kept) / (tn + fp), 0.0)
    hits, alarms = found * prevalence, (1 - kept) * (1 - prevalence)
    of_ppv = (alarms * prevalence * of_found + hits * (1 - prevalence) * of_kept) / (hits + alarms) ** 2
    ends = {}
    for name, value, each in (("sensitivity", found, of_found), ("ppv", hits / (hits + alarms), of_ppv)):
        by_patient = pd.Series(each).groupby(patient).sum()
        error = np.sqrt((by_patient**2).sum() * len(by_patient) / (len(by_patient) - 1))
        reach = 1.959963984540054 * error / (value * (1 - value))
        odds = np.log(value / (1 - value))
        ends[name] = [1 / (1 + np.exp(-(odds - reach))), 1 / (1 + np.exp(-(odds + reach)))]
    return ends


POSITIONS = [
    ("simulated", "pneumothorax_radiologist-test_resnet-1", "pneumothorax", "radiologist", "test", 0.25, 0.1),
    ("simulated", "pneumothorax_nlp-test_efficientnet-3", "pneumothorax", "nlp", "valid", 0.2, 0.03),
    ("simulated", "labelers_rules_u_ones-test_resnet-2", "airspace_opacity", "rules", "both", 0.31, 0.505),
    ("simulated_external", "labelers_radiologist-test_resnet-4", "effusion", "drawn", "test", 0.4, 0.2),
    ("simulated-by_patient", "finding_reports-test_resnet-5", "abnormal", "finding_clear", "test", 0.5, 0.3),
    ("simulated", "labelers_visual-test_resnet-1", "edema", "bert", "test", 0.123, 0.75),
]


@pytest.mark.parametrize("position", POSITIONS, ids=lambda p: p[1])
def test_an_operating_point_is_what_pandas_gives(reader, position):
    name, run, finding, reference, part, threshold, prevalence = position
    table = pd.read_parquet(paths.ROOT / "results" / "quick" / "cases" / f"{name}.parquet")
    parts = ["test", "valid"] if part == "both" else [part]
    label = table[case_tables.label(reference, finding)]
    table = table[table["split"].isin(parts) & label.isin((0, 1))]
    label = table[case_tables.label(reference, finding)].to_numpy() == 1
    called = table[case_tables.probability(run, finding)].to_numpy(float) >= threshold
    page = reader.open(panel="operating", cases=name, run=run, finding=finding, reference=reference, part=part)
    for field, value in (("threshold", threshold), ("prevalence", prevalence)):
        page.fill(f"input[name={field}]", str(value))
        page.keyboard.press("Enter")
        reader.drawn()
    cells = [int(text.replace(",", "")) for text in page.locator("#cells td").all_text_contents()]
    assert cells == [
        (label & called).sum(),
        (~label & called).sum(),
        (label & ~called).sum(),
        (~label & ~called).sum(),
    ]
    rates, shown = accuracy.rates(label, called), measured(page)
    found, kept = rates["sensitivity"], rates["specificity"]
    expected = {
        "sensitivity": found,
        "specificity": kept,
        "ppv": float(accuracy.ppv_at_prevalence(found, kept, prevalence)),
        "npv": float(accuracy.npv_at_prevalence(found, kept, prevalence)),
        "workSaved": float(triage.work_saved(found, kept, prevalence)),
    }
    assert {measure: value for measure, (value, *_) in shown.items()} == pytest.approx(
        expected, nan_ok=True, abs=1e-12
    )
    assert all(low <= value <= high for value, low, high in shown.values() if not np.isnan(low))
    source = page.text_content(".provenance")
    assert f"{len(table):,} images of {table['patient_id'].nunique():,} patients" in source
    score = table[case_tables.probability(run, finding)].to_numpy(float)
    assert f"AUC {accuracy.auc(label, score):.3f}" in page.locator("figure", has_text="ROC").text_content()


def test_intervals_are_those_of_a_second_way_and_near_the_bootstrap_s(reader, test_images):
    prevalence, threshold = 0.1, 0.25
    page = reader.open(panel="operating", threshold=threshold, prevalence=prevalence)
    label = test_images["label.radiologist.pneumothorax"].to_numpy() == 1
    score = test_images["probability.pneumothorax_radiologist-test_resnet-1.pneumothorax"].to_numpy(float)
    called, patient = score >= threshold, test_images["patient_id"].to_numpy(object)
    shown = measured(page)
    for measure, ends in linearised(label, called, patient, prevalence).items():
        assert shown[measure][1:] == pytest.approx(ends, abs=1e-5)
    resamples = resampling.patient_resamples(patient, 2000, np.random.default_rng(1))
    by_bootstrap = intervals.rate_intervals(label, called, resamples)
    for measure in ("sensitivity", "specificity"):
        ends = by_bootstrap[measure].low, by_bootstrap[measure].high
        assert shown[measure][1:] == pytest.approx(ends, abs=0.015)


def test_a_slider_moves_by_keys_and_the_table_with_it(reader):
    page = reader.open(panel="operating", threshold="0.25")
    before = measured(page)["sensitivity"][0]
    page.locator("input[name=threshold_slider]").focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    reader.drawn()
    assert page.input_value("input[name=threshold]") == "0.27"
    assert "threshold=0.27" in page.url and measured(page)["sensitivity"][0] < before
    assert page.evaluate("document.activeElement.name") == "threshold_slider"


def test_a_threshold_is_chosen_on_validation_images_as_the_studies_choose_it(reader):
    table = case_tables.read("quick", "simulated")
    run = "pneumothorax_nlp-test_resnet-2"
    valid = table[table["split"] == "valid"]
    scores = valid[case_tables.probability(run, "pneumothorax")].to_numpy(float)
    for cases in ("simulated", "simulated_external"):
        page = reader.open(panel="operating", run=run, reference="radiologist", cases=cases)
        page.click("text=95 % sensitivity on validation images")
        page.wait_for_url("**threshold=*")
        reader.drawn()
        wanted = triage.threshold_at_sensitivity(valid["label.radiologist.pneumothorax"], scores, 0.95)
        assert float(page.input_value("input[name=threshold]")) == wanted
        if cases == "simulated":  # the threshold is a score itself, which counts as called
            reader.choose("part", "valid")
            positives = scores[(valid["label.radiologist.pneumothorax"] == 1).to_numpy()]
            assert measured(page)["sensitivity"][0] == pytest.approx((positives >= wanted).mean(), abs=1e-12)


# What is shared and read elsewhere


STATES = [
    {"finding": "edema", "a": "drawn", "b": "bert", "show": "first", "image": "P00009_000", "boxes": "1"},
    {"panel": "operating", "cases": "simulated_external", "threshold": "0.333", "prevalence": "0.05"},
    {"panel": "topics", "word": "pneu", "level": "sentence"},
    {"panel": "space", "seed": "3", "highlight": "mass", "image": "P00005_000"},
    {"panel": "real", "left": "rsna_opacity_on_nih", "among": "all", "sign": "airspace_opacity", "side": "right"},
]


def whole(page):
    """Return everything that a panel shows and has chosen."""
    values = "nodes => nodes.map(node => [node.name, node.type === 'checkbox' ? node.checked : node.value])"
    return page.text_content("#main"), page.eval_on_selector_all("select, input", values)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.get("panel", "images"))
def test_a_link_restores_what_was_chosen(reader, browser, explorer_folder, state):
    page = reader.open(panel=state.get("panel", "images"))
    before = whole(page)
    page.evaluate("state => explorer.set(state)", state)
    reader.drawn()
    chosen = whole(page)
    assert chosen != before
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    other = Reader(context, explorer_folder)
    other.page.goto(page.url)
    other.drawn()
    assert whole(other.page) == chosen
    assert other.complaints == []
    context.close()


def test_going_back_by_the_address_changes_the_panel(reader):
    page = reader.open(panel="operating")
    page.click("nav >> text=Real labels")
    page.wait_for_selector("h2:text('Real labels')")
    page.go_back()
    page.wait_for_selector("h2:text('Operating point')")
    assert page.get_attribute("nav a[aria-current=page]", "href").endswith("panel=operating")


def test_nearest_images_are_of_other_patients_and_have_their_reports(reader):
    space = pd.read_parquet(paths.to_read(paths.ROOT / "data" / "metric_scores" / "quick" / "space.parquet"))
    points = space[(space["seed"] == 2) & (space["what"] == "image")].set_index("name").filter(regex=r"^x\d")
    patient, x = points.index.str.slice(0, 6).to_numpy(object), np.rint(1000 * points.to_numpy(float))

    def nearest(k, allowed):
        distance = np.square(x - x[k]).sum(1)
        return [i for i in np.argsort(distance, kind="stable") if allowed[i] and i != k][:5]

    every = np.ones(len(x), bool)
    at = next(k for k in range(len(x)) if any(patient[i] == patient[k] for i in nearest(k, every)))
    asked, wanted = points.index[at], points.index[nearest(at, patient != patient[at])].tolist()
    page = reader.open(panel="space", seed=2, image=asked)
    cards = page.locator(".neighbours article")
    shown = [text.split()[0] for text in cards.locator("button").all_text_contents()]
    assert shown == [asked, *wanted]
    assert all("INDICATION:" in text for text in cards.all_text_contents())
    page.click("text=Next image")
    reader.drawn()
    assert page.input_value("input[name=image]") != asked
    page.fill("input[name=image]", "nothing")
    page.keyboard.press("Enter")
    assert "There is no test image “nothing”" in reader.status()
    box = page.locator("svg.map").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 3)
    reader.drawn()
    assert "image=" in page.url


def test_topics_are_searched_and_an_empty_search_says_what_to_do(reader):
    table = pd.read_csv(paths.ROOT / "results" / "topics" / "document_words.csv")
    page = reader.open(panel="topics")
    page.locator("input[name=word]").press_sequentially("pneumo")
    reader.drawn()
    hits = table["words"].str.split().map(lambda words: any(word.startswith("pneumo") for word in words))
    assert page.locator(".topics li").count() == hits.sum() > 0
    page.fill("input[name=word]", "zzz")
    reader.drawn()
    assert "type fewer letters" in reader.status()


def test_topics_that_are_not_here_name_the_target(reader, explorer_folder, tmp_path):
    copy = tmp_path / "explorer"
    shutil.copytree(explorer_folder, copy)
    script = copy / "data" / "topics.js"
    script.write_text(script.read_text().replace('"archive":{', '"archive":null,"was":{', 1))
    reader.folder = copy
    reader.open(panel="topics", corpus="archive")
    assert "The archive’s topics are not here: run “make repro”" in reader.status()


def test_a_missing_data_file_is_named_with_the_remedy(reader, explorer_folder, tmp_path):
    copy = tmp_path / "explorer"
    shutil.copytree(explorer_folder, copy)
    (copy / "data" / "real.js").unlink()
    reader.folder = copy
    reader.page.goto(f"{(copy / 'index.html').as_uri()}#panel=real")
    assert 'data/real.js is missing: build the explorer again with "make explorer"' in reader.page.text_content(
        "[role=alert]"
    )
    assert reader.complaints
    reader.complaints.clear()


def test_real_labels_part_as_pandas_counts(reader):
    from cxrlib.releases import catalogue

    one, two = (
        catalogue.read_release(name).table.set_index("image_id") for name in ("google_adjudicated", "nih_reports")
    )
    part = catalogue.read_release("google_adjudicated").images.set_index("image_id")["part"]
    page = reader.open(panel="real", sign="nodule_or_mass", among="val", side="right")
    ids = part.index[part == "val"]
    a, b = (labels.loc[ids, "nodule_or_mass"] == 1 for labels in (one, two))
    cells = [int(text.replace(",", "")) for text in page.locator("#real-cells td").all_text_contents()]
    assert cells == [(a & b).sum(), (~a & b).sum(), (a & ~b).sum(), (~a & ~b).sum()]
    rates = accuracy.rates(a.to_numpy(), b.to_numpy())
    for measure in ("kappa", "sensitivity", "specificity", "ppv", "npv"):
        value = float(page.get_attribute(f"#main [data-measure={measure}]", "data-value"))
        assert value == pytest.approx(rates[measure], abs=1e-12)
    with page.expect_download() as download:
        page.click("text=Download these ids as CSV")
    saved = pd.read_csv(download.value.path())
    assert saved["image_id"].tolist() == sorted(ids[(~a & b).to_numpy()])
    reader.choose("right", "mgh_platinum")
    assert "no finding in common" in page.locator("[role=status]").first.text_content()


def test_counts_of_readers_are_those_of_the_committed_table(reader):
    pairs = pd.read_csv(paths.ROOT / "results" / "explorer" / "pairs.csv")
    page = reader.open(
        panel="real", family="chexpert_test", one="chexpert_test_readers: bc4", two="chexpert_test_labeler"
    )
    own = pairs[(pairs["reference"] == "chexpert_test_readers: bc4") & (pairs["other"] == "chexpert_test_labeler")]
    rows = page.locator("table", has_text="Only second").locator("tbody tr").all()
    assert len(rows) == len(own) == 14
    for row, wanted in zip(rows, own.itertuples(), strict=True):
        shown = row.locator("th, td").all_text_contents()[1:7]
        cells = wanted.images_n, wanted.patients_n, wanted.tp, wanted.fn, wanted.fp, wanted.tn
        assert [int(text) for text in shown] == list(cells)


# How it looks


def states():
    """Return a state of each panel with much on it."""
    return [{"panel": panel} for panel in PANELS] + STATES


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_and_follows_the_reader_s_scheme(browser, explorer_folder, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
    reader = Reader(context, explorer_folder)
    for state in states():
        page = reader.open(**state)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, state
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        red = int(ground.removeprefix("rgb(").split(",")[0])
        assert (red < 64) == (scheme == "dark")
    context.close()
    assert reader.complaints == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_it_has_no_serious_barrier(browser, explorer_folder, width, scheme):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    ).Axe()
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
    reader = Reader(context, explorer_folder)
    for state in states():
        page = reader.open(**state)
        violations = [v for v in axe.run(page).response["violations"] if v["impact"] in ("serious", "critical")]
        assert not [(v["id"], v["nodes"][0]["html"][:120]) for v in violations], state
    context.close()


def test_what_is_drawn_again_keeps_the_focus(reader):
    page = reader.open(show="all")
    focused = "document.activeElement.dataset.key"
    for selector, key in (("nav a >> nth=3", "space"), ("nav a >> nth=0", "images"), ("text=Next page", "Next page")):
        page.focus(selector)
        page.keyboard.press("Enter")
        page.wait_for_function(f"{focused} === '{key}'")
        reader.drawn()
    thumbnail = page.locator(".grid button").nth(3)
    key = thumbnail.get_attribute("data-key")
    thumbnail.focus()
    page.keyboard.press("Enter")
    reader.drawn()
    assert page.evaluate(focused) == key and page.text_content("#image-heading") == f"Image {key}"


def test_keys_reach_the_panel_and_every_control_has_a_name(reader):
    page = reader.open()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the panel"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    for panel in PANELS:
        page = reader.open(panel=panel)
        unnamed = page.eval_on_selector_all(
            "main select, main input, main button",
            "nodes => nodes.filter(n => !(n.labels?.length || n.ariaLabel || n.textContent.trim())).map(n => n.name)",
        )
        assert unnamed == []
        says = page.locator(".provenance").all_text_contents()
        assert says and all(text.startswith(("simulated ", "real ")) for text in says)


def test_every_edition_that_is_shown_may_be_shown():
    assert editions.compose("quick", paths.ROOT)["published"] is True
