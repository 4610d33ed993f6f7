// Real label tables without pixels: choose two label sets and a finding, and see where they part.
"use strict";

{
  const { el, words, count, rates } = explorer;
  const LISTED = 100;
  const FAMILIES = { chexpert_test: "CheXpert’s 500 test studies", google_810: "810 images of ChestX-ray14 (Google)",
    vindr: "VinDr-CXR’s readers" };
  const PARTS = [["test", "Google’s test images"], ["val", "Google’s validation images"], ["all",
    "all that both assess"]];
  const CODE = { val: 1, test: 2 };

  const digits = (number, n) => String(number).padStart(n, "0");
  const imageName = number => `${digits(Math.floor(number / 1000), 8)}_${digits(number % 1000, 3)}.png`;

  const cardList = (name, card) => el("div", { class: "card" }, el("h4", null, words(name)), el("p", null,
    `${card.who}; ${card.how.replace(/\.$/, "")}. Source: ${card.source}. Terms: ${card.licence}. Cite: ` +
      `${card.citation}.`));

  explorer.panels.real = {
    title: "Real labels",
    load: () => explorer.load("real"),
    mount(root) {
      const again = () => ({ side: null });
      this.controls = {
        left: explorer.select("Reference", "left", again),
        right: explorer.select("Other label set", "right", again),
        sign: explorer.select("Finding", "sign", again),
        among: explorer.select("Images", "among", again),
      };
      this.side = explorer.select("List images", "side");
      this.source = el("div");
      this.status = el("p", { role: "status" });
      this.output = el("div");
      this.save = el("button", { type: "button", onclick: () => this.download() }, "Download these ids as CSV");
      this.list = el("ul", { class: "ids" });
      this.cards = el("div", { class: "cards" });
      this.counted = {
        family: explorer.select("Images", "family", () => ({ one: null, two: null })),
        one: explorer.select("First", "one"),
        two: explorer.select("Second", "two"),
      };
      this.countedTable = el("div");
      root.append(el("section", null, el("h3", null, "By image: labels of ChestX-ray14"), this.source,
        el("div", { class: "controls" }, Object.values(this.controls)), this.status, this.output,
        el("div", { class: "controls" }, this.side, this.save), this.list, el("h4", null, "Owners and terms"),
          this.cards,
        el("p", { class: "note" }, "The radiographs are the ",
          el("a", { href: "https://nihcc.app.box.com/v/ChestXray-NIHCC" }, "NIH Clinical Center’s"),
            "; none is here.")),
        el("section", null, el("h3", null, "Counts alone: readers whose tables may not be passed on"),
          explorer.provenance("real",
            "counts of images or studies; no id is shown, since the owners’ tables come without terms that allow " +
              "it."),
          el("div", { class: "controls" }, Object.values(this.counted)), this.countedTable));
    },
    update() {
      const { real } = explorer.data, names = Object.keys(real.sets);
      const pick = (key, options, fallback) => (options.includes(explorer.get(key)) ? explorer.get(key)
        : options.includes(fallback) ? fallback : options[0]);
      const left = pick("left", names, "google_adjudicated");
      const right = pick("right", names.filter(name => name !== left), "nih_reports");
      const findings = Object.keys(real.sets[left].labels).filter(f => real.sets[right].labels[f]);
      const among = pick("among", PARTS.map(([key]) => key), "test");
      const { controls } = this;
      controls.left.show(names.map(name => [name, words(name)]), left);
      controls.right.show(names.filter(name => name !== left).map(name => [name, words(name)]), right);
      controls.among.show(PARTS, among);
      const finding = pick("sign", findings, "pneumothorax");
      controls.sign.show(findings.length ? findings.map(f => [f, words(f)]) : [["", "none in common"]],
        finding ?? "");
      this.cards.replaceChildren(...[left, right].map(name => cardList(name, real.sets[name].card)));
      this.differing = { name: "", rows: [] };
      if (findings.length) this.compare(left, right, finding, among);
      else this.empty("These two label sets have no finding in common: choose another one.");
      this.updateCounts(pick);
    },
    empty(text) {
      this.source.replaceChildren(explorer.provenance("real", "radiographs of ChestX-ray14."));
      this.status.textContent = text;
      this.output.replaceChildren();
      this.list.replaceChildren();
      this.side.hidden = this.save.hidden = true;
    },
    compare(left, right, finding, among) {
      const { real } = explorer.data, ids = explorer.unpack(real.ids), parts = explorer.unpack(real.parts);
      const [a, b] = [left, right].map(name => explorer.unpack(real.sets[name].labels[finding]));
      const missing = explorer.data.about.missing_label, as01 = v => (v === missing ? missing : v === 1 ? 1 : 0);
      const rows = [...ids.keys()].filter(k => a[k] !== missing && b[k] !== missing && (among === "all"
        || parts[k] === CODE[among]));
      if (!rows.length) {
        this.empty("Both label sets assess none of these images for this finding: choose “all that both assess”, " +
          "or another finding.");
        return;
      }
      const patient = rows.map(k => Math.floor(ids[k] / 1000));
      const cells = rates.cells(rows.map(k => as01(a[k])), rows.map(k => as01(b[k])), patient), [tp, fp, fn,
        tn] = cells.total;
      this.source.replaceChildren(explorer.provenance("real",
        `radiographs of ChestX-ray14 without pixels: ${explorer.plural(rows.length, "image")} of ` +
        `${explorer.plural(cells.patients.size, "patient")} that both label sets assess for ${words(finding)}.`));
      this.status.textContent = `They part on ${explorer.plural(fp + fn, "image")}: ${count(fn)} that only ` +
        `${words(left)} calls present, and ${count(fp)} that only ${words(right)} does.`;
      const value = key => {
        const found = rates.estimate(rates.measures[key], cells);
        return el("span", { "data-measure": key, "data-value": String(found.estimate), title: found.reason },
          explorer.withInterval(found.estimate, found.low, found.high));
      };
      this.output.replaceChildren(
        explorer.table(`Images by both label sets, ${words(finding)}`, [["is", "Images"], ["yes",
          `${words(left)}: present`], ["no", `${words(left)}: absent`]],
          [{ is: `${words(right)}: present`, yes: count(tp), no: count(fp) }, { is: `${words(right)}: absent`,
            yes: count(fn), no: count(tn) }],
          { class: "numbers", id: "real-cells" }),
        explorer.table(`Agreement of ${words(right)} with ${words(left)} (95 % intervals over patients)`,
          [["measure", "Measure"], ["value", "Estimate (interval)"]],
          [["kappa", "Cohen’s kappa"], ["sensitivity", "Sensitivity"], ["specificity", "Specificity"], ["ppv",
            "PPV"], ["npv", "NPV"]]
            .map(([key, measure]) => ({ measure, value: value(key) }))));
      const sides = { left: [`only ${words(left)} says present`, k => a[k] === 1 && b[k] !== 1],
        right: [`only ${words(right)} says present`, k => a[k] !== 1 && b[k] === 1] };
      const side = explorer.get("side") === "right" ? "right" : "left";
      this.side.hidden = false;
      this.side.show(Object.entries(sides).map(([key, [text]]) => [key, text]), side);
      const some = rows.filter(k => sides[side][1](k)).map(k => imageName(ids[k]));
      this.differing = { name: `${finding}_${side === "left" ? left : right}_only.csv`, rows: some };
      this.save.hidden = !some.length;
      this.list.replaceChildren(...some.slice(0, LISTED).map(id => el("li", null, id)));
      if (some.length > LISTED) this.list.append(el("li", null,
        `and ${count(some.length - LISTED)} more, which the CSV has`));
      if (!some.length) this.list.append(el("li", { class: "empty" },
        "No image is of this kind: choose the other side."));
    },
    download() {
      explorer.download(this.differing.name, ["image_id", ...this.differing.rows, ""].join("\n"));
    },
    updateCounts(pick) {
      const { counts, cards } = explorer.data.real;
      const at = name => counts.columns.indexOf(name);
      const family = pick("family", Object.keys(FAMILIES), "chexpert_test");
      const rows = counts.rows.filter(row => row[at("family")] === family);
      const ones = [...new Set(rows.map(row => row[at("reference")]))];
      const one = pick("one", ones, ones[0]);
      const twos = [...new Set(rows.filter(row => row[at("reference")] === one).map(row => row[at("other")]))];
      const two = pick("two", twos, twos[0]);
      this.counted.family.show(Object.entries(FAMILIES), family);
      this.counted.one.show(ones.map(name => [name, words(name)]), one);
      this.counted.two.show(twos.map(name => [name, words(name)]), two);
      const own = rows.filter(row => row[at("reference")] === one && row[at("other")] === two)
        .map(row => Object.fromEntries(counts.columns.map((name, k) => [name, row[k]])));
      const whose = [...new Set([one, two].map(name => name.split(":")[0]))].filter(name => cards[name]);
      const unit = family === "chexpert_test" ? "studies" : "images";
      this.countedTable.replaceChildren(explorer.table(`${words(one)} and ${words(two)}: ${unit} by both, by ` +
        `finding`, [["finding", "Finding", row => words(row.finding)],
        ["images_n", family === "chexpert_test" ? "Studies" : "Images"], ["patients_n", "Patients"], ["tp",
          "Both present"], ["fn", "Only first"], ["fp", "Only second"], ["tn", "Neither"],
        ["value", "Kappa (95 % interval over patients)", row => explorer.withInterval(row.kappa, row.kappa_low,
          row.kappa_high)]], own),
        el("p", { class: "note" }, family === "vindr"
          ? "VinDr-CXR is published without patients, so each image counts as one. " : "",
          "What is uncertain counts as absent; of CheXpert’s report labeler, also what the report does not mention."),
        el("div", { class: "cards" }, whose.map(name => cardList(name, cards[name]))));
    },
  };
}
