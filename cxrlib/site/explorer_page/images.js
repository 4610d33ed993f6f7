// Images of the simulated cohort on which label sets part; of one image everything that is known.
"use strict";

{
  const { el, svg, words, count } = explorer;
  const PER_PAGE = 24;
  const SHOWN = {
    part: ["where the two part", (a, b) => (a === 1) !== (b === 1)],
    first: ["where only the first says present", (a, b) => a === 1 && b !== 1],
    second: ["where only the second says present", (a, b) => a !== 1 && b === 1],
    both: ["where both say present", (a, b) => a === 1 && b === 1],
    all: ["all that both assess", () => true],
  };
  const LABEL = { 1: "present", 0: "absent", "-1": "uncertain" };
  let cohort, labels, probabilities, position;

  // Return arrays over the cohort's test images, gathered from every case table that has them.
  const gathered = (tables, part, kind, empty) => {
    const out = {};
    for (const table of tables) {
      const rows = table.image_ids.map(id => position.get(id));
      const parts = explorer.unpack(table.part);
      for (const [name, byFinding] of Object.entries(table[part])) {
        for (const [finding, packed] of Object.entries(byFinding)) {
          const values = explorer.unpack(packed);
          const own = ((out[name] ??= {})[finding] ??= new kind(cohort.images_n).fill(empty));
          rows.forEach((row, i) => { if (row !== undefined && (part === "labels"
            || parts[i] === 1)) own[row] = values[i]; });
        }
      }
    }
    return out;
  };

  // Load what the panels on the simulated cohort share.
  explorer.loadCohort = async () => {
    const { about } = explorer.data;
    const names = Object.keys(about.cases).filter(name => name === about.cohort
      || name.startsWith(`${about.cohort}-`));
    const loaded = await Promise.all(["cohort", ...names.map(name => `cases_${name}`)].map(explorer.load));
    if (cohort) return cohort;
    cohort = loaded[0];
    position = new Map(cohort.image_ids.map((id, k) => [id, k]));
    const tables = loaded.slice(1).reverse(); // the main table last, so that its values stand
    labels = gathered(tables, "labels", Int8Array, about.missing_label);
    probabilities = gathered(tables, "probabilities", Float32Array, NaN);
    cohort.position = position;
    return cohort;
  };

  explorer.patientsAmong = rows => new Set(rows.map(k => explorer.unpack(cohort.patients)[k])).size;
  explorer.imageName = k => `simulated radiograph ${cohort.image_ids[k]}, ${cohort.view[k]} view`;

  // Return a button with an image's picture that opens the image.
  explorer.thumbnail = (k, px, changes, note) => el("button", {
    type: "button", class: "thumbnail", "data-key": cohort.image_ids[k],
    "aria-pressed": String(explorer.get("image") === cohort.image_ids[k]),
    onclick: () => explorer.set({ image: cohort.image_ids[k], ...changes }) },
    explorer.tile(cohort.sheets, k, px, explorer.imageName(k)), el("span", null, cohort.image_ids[k], note
      ? ` ${note}` : ""));

  const findings = () => [...new Set(Object.values(labels).flatMap(Object.keys))];
  const setsOf = finding => Object.keys(labels).filter(name => labels[name][finding]);

  // The report.

  // Return a report with its mentions marked and the words of the rules underlined.
  explorer.markedReport = k => {
    const text = cohort.reports[k], evidence = cohort.evidence[k];
    const ends = evidence.flatMap(m => [m[0], m[1], m[5], m[6]]);
    const bounds = [...new Set([0, text.length, ...ends])].sort((a, b) => a - b);
    const parts = bounds.slice(1).map((end, j) => {
      const start = bounds[j], within = (from, to) => from <= start && end <= to;
      const mentions = evidence.filter(m => within(m[0], m[1]));
      const ruled = evidence.some(m => (m[5] !== m[0] || m[6] !== m[1]) && within(m[5], m[6]));
      let part = text.slice(start, end);
      if (ruled) part = el("u", null, part);
      if (!mentions.length) return part;
      const says = mentions.map(m => `${words(m[2])}: ${words(m[3])} (${m[4]})`).join("; ");
      return el("mark", { class: mentions[0][3], title: says }, part);
    });
    return el("p", { class: "report" }, parts);
  };

  const evidenceTable = k => {
    const text = cohort.reports[k];
    const rows = cohort.evidence[k].map(m => ({ words: text.slice(m[0], m[1]), finding: words(m[2]),
      reading: words(m[3]), rule: m[4], by: m[5] === m[0] && m[6] === m[1] ? null : text.slice(m[5], m[6]) }));
    if (!rows.length) return el("p", null, "The rule labeler found no mention of a finding in this report.");
    return explorer.table("What the rule labeler read, and which words decided (airspace opacity is any of lung " +
      "opacity, " +
      "consolidation, infiltration and pneumonia)", [["words", "Words"], ["finding", "Finding"],
      ["reading", "Reading"], ["rule", "Rule"], ["by", "Decided by"]], rows);
  };

  // One image.

  const picture = (k, map) => {
    const maps = cohort.maps, size = cohort.size_px, px = 288;
    const place = maps.images.indexOf(k),
      chosen = maps.names.map(name => name.join(".")).indexOf(map);
    const layers = [explorer.tile(cohort.sheets, k, px, explorer.imageName(k))];
    if (place >= 0 && chosen >= 0) {
      const heat = explorer.tile(maps.sheets, chosen * maps.images.length + place, px);
      heat.classList.add("heat");
      heat.style.opacity = explorer.get("opacity", "0.7");
      layers.push(heat);
    }
    if (explorer.get("boxes") === "1") {
      layers.push(svg("svg", { viewBox: `0 0 ${size} ${size}`, class: "boxes", role: "img", "aria-label":
        `Boxes of what was drawn: ${cohort.boxes[k].map(b => words(b[0])).join(", ") || "nothing"}` },
        cohort.boxes[k].map(([, x0, y0, x1, y1]) => svg("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0 }))));
    }
    return el("div", { class: "picture", style: `width:${px}px;height:${px}px` }, layers);
  };

  const mapNote = k => {
    const { maps } = cohort;
    if (!maps.names.length) {
      return el("div", null, el("p", { class: "empty" }, "Saliency maps need the networks: run ",
        el("code", null, "make repro"), ", then ", el("code", null, "make explorer"), "."),
        maps.examples && el("details", null, el("summary", null, "Examples that are committed"),
          el("img", { src: `data/${maps.examples}`, class: "whole", alt:
            "Simulated radiographs with Grad-CAM maps of two networks and the boxes of what was drawn" })));
    }
    if (maps.images.includes(k)) return null;
    return el("p", { class: "empty" },
      `Maps are drawn for ${maps.images.length} images only: tick “only images with maps”.`);
  };

  const opinions = k => {
    const named = findings(), columns = named.map(f => [f, words(f)]);
    const text = (set, finding) => {
      const value = labels[set][finding]?.[k];
      return LABEL[value] ? el("span", { class: `label-${LABEL[value]}` }, LABEL[value]) : null;
    };
    const rows = Object.keys(labels).map(set => ({ set: el("span", { title: explorer.data.about.label_sets[set]
      || "" }, words(set)),
      ...Object.fromEntries(named.map(f => [f, text(set, f)])) }));
    return explorer.table("Every label set’s opinion (– is not assessed)", [["set", "Label set"], ...columns], rows);
  };

  const strip = values => svg("svg", { viewBox: "-2 0 104 12", class: "strip", role: "img",
    "aria-label": `probabilities ${values.map(v => v.toFixed(2)).join(", ")}` },
    svg("line", { x1: 0, x2: 100, y1: 6, y2: 6 }), values.map(v => svg("circle", { cx: 100 * v, cy: 6, r: 2.4 })));

  const probabilityTable = (k, finding) => {
    const groups = new Map();
    for (const [run, byFinding] of Object.entries(probabilities)) {
      const value = byFinding[finding]?.[k];
      const note = explorer.data.about.runs[run];
      if (value === undefined || Number.isNaN(value) || !note) continue;
      const name = `${note.target} ${note.network}`;
      if (!groups.has(name)) groups.set(name, { ...note, values: [] });
      groups.get(name).values.push(value);
    }
    const rows = [...groups.values()].map(({ target, network, trained_on, values }) => ({ target: words(target),
      network,
      trained_on: words(trained_on), seeds: values.length, strip: strip(values),
      mean: explorer.fixed(values.reduce((a, b) => a + b) / values.length),
      spread: `${explorer.fixed(Math.min(...values))} to ${explorer.fixed(Math.max(...values))}` }));
    if (!rows.length) {
      return el("p", { class: "empty" },
        `No run gave this image a probability of ${words(finding)}: choose another finding.`);
    }
    return explorer.table(`Every run’s probability of ${words(finding)}, a dot a training seed`, [["target",
      "Target"],
      ["network", "Network"], ["trained_on", "Trained on labels of"], ["seeds", "Seeds"], ["mean", "Mean"],
      ["spread", "Range"], ["strip", "0 to 1"]], rows);
  };

  const facts = k => {
    const drawn = cohort.boxes[k].map(b => words(b[0]));
    return el("dl", { class: "facts" }, [
      ["Image", cohort.image_ids[k]], ["View", cohort.view[k]], ["Sex and age",
        `${cohort.sex[k]}, ${cohort.age[k]} years`],
      ["Follow-up", cohort.follow_up_number[k]], ["Devices", cohort.devices[k].map(words).join(", ") || "none"],
      ["Drawn", [...new Set(drawn)].join(", ") || "nothing"],
    ].flatMap(([term, value]) => [el("dt", null, term), el("dd", null, value)]));
  };

  // The panel.

  explorer.panels.images = {
    title: "Images",
    load: explorer.loadCohort,
    mount(root) {
      const reset = () => ({ page: null });
      this.controls = {
        finding: explorer.select("Finding", "finding", () => ({ page: null, a: null, b: null })),
        a: explorer.select("First label set", "a", reset),
        b: explorer.select("Second label set", "b", reset),
        show: explorer.select("Show images", "show", reset),
        mapped: explorer.checkbox("only images with maps", "mapped", { page: null, image: null }),
      };
      this.views = {
        map: explorer.select("Saliency map", "map"),
        opacity: explorer.slider("Opacity of the map", "opacity", { min: 0, max: 1, step: 0.05 }),
        boxes: explorer.checkbox("boxes of what was drawn", "boxes"),
      };
      this.status = el("p", { role: "status" });
      this.notes = el("p", { class: "note" });
      this.grid = el("div", { class: "grid", onclick: event => {
        const below = this.chosen.getBoundingClientRect().top > innerHeight - 160;
        if (event.target.closest("button") && below) this.chosen.scrollIntoView();
      } });
      this.pager = el("div", { class: "pager" });
      this.detail = el("div", { class: "detail" });
      this.side = el("div", { class: "side" });
      this.rest = el("div");
      this.chosen = el("section", { "aria-labelledby": "image-heading" }, el("h3", { id: "image-heading" },
        "One image"),
        el("div", { class: "controls" }, Object.values(this.views)), el("div", { class: "detail" }, this.detail,
          this.side), this.rest);
      root.append(explorer.provenance("simulated",
        `${count(cohort.images_n)} test images of ${count(cohort.patients_n)} ` +
        "patients, as studies 1, 2, 4 and 5 use them; abnormal or not is assessed of those that study 3 holds out."),
        el("div", { class: "controls" }, Object.values(this.controls)), this.status, this.notes, this.grid,
          this.pager, this.chosen);
    },
    update() {
      const { controls, views } = this;
      const named = findings(), finding = named.includes(explorer.get("finding")) ? explorer.get("finding")
        : named[0];
      const sets = setsOf(finding), pick = (key, wish) => {
        const value = explorer.get(key, wish);
        return sets.includes(value) ? value : sets[0];
      };
      const a = pick("a", finding === "abnormal" ? "finding_radiologist" : "radiologist");
      const b = pick("b", finding === "abnormal" ? "finding_reports" : "rules");
      const show = SHOWN[explorer.get("show", "part")] ? explorer.get("show", "part") : "part";
      const options = sets.map(name => [name, words(name)]);
      controls.finding.show(named.map(f => [f, words(f)]), finding);
      controls.a.show(options, a);
      controls.b.show(options, b);
      controls.show.show(Object.entries(SHOWN).map(([key, [text]]) => [key, text]), show);
      controls.mapped.show(explorer.get("mapped"));
      controls.mapped.hidden = !cohort.maps.names.length;
      const [first, second] = [labels[a][finding], labels[b][finding]], missing = explorer.data.about.missing_label;
      const mapped = explorer.get("mapped") === "1" ? new Set(cohort.maps.images) : null;
      const all = [...first.keys()].filter(k => first[k] !== missing && second[k] !== missing && (!mapped
        || mapped.has(k)));
      const rows = all.filter(k => SHOWN[show][1](first[k], second[k]));
      const cells = explorer.rates.cells(first.map(v => (v === missing ? v : v === 1 ? 1 : 0)),
        second.map(v => (v === missing ? v : v === 1 ? 1 : 0)), explorer.unpack(cohort.patients));
      const kappa = explorer.rates.estimate(explorer.rates.measures.kappa, cells);
      this.status.textContent = `${explorer.plural(rows.length, "image")} of ` +
        `${explorer.plural(explorer.patientsAmong(rows), "patient")} ` +
        `shown, of ${count(all.length)} that both assess. Kappa of ${words(a)} and ${words(b)} on ` +
          `${words(finding)} is ` +
        `${explorer.withInterval(kappa.estimate, kappa.low, kappa.high)} (95 % interval over patients; uncertain ` +
          `counts as absent).`;
      const says = name => `${words(name)} holds ${explorer.data.about.label_sets[name] || "labels"}`;
      this.notes.textContent = `The set ${says(a)}. The set ${says(b)}.`;
      this.list(rows);
      const names = cohort.maps.names, fitting = names.find(([, f]) => f === finding) ?? names[0];
      const map = explorer.get("map", mapped && fitting ? fitting.join(".") : "");
      views.map.show([["", "none"], ...names.map(([n, f]) => [`${n}.${f}`, `${words(n)}: ${words(f)}`])], map);
      views.opacity.show(explorer.get("opacity", "0.7"));
      views.map.hidden = views.opacity.hidden = !names.length;
      views.boxes.show(explorer.get("boxes"));
      this.image(position.get(explorer.get("image")) ?? rows[0], finding, map);
    },
    list(rows) {
      const pages = Math.max(1, Math.ceil(rows.length / PER_PAGE));
      const page = Math.min(Math.max(1, Number(explorer.get("page", 1)) || 1), pages);
      const some = rows.slice((page - 1) * PER_PAGE, page * PER_PAGE);
      this.grid.replaceChildren(...some.map(k => explorer.thumbnail(k, 88)));
      if (!rows.length) {
        this.grid.append(el("p", { class: "empty" },
          "No image is left: choose two label sets that differ, or show all images that both assess."));
      }
      const turn = (to, text) => el("button", { type: "button", "data-key": text, disabled: to < 1 || to > pages,
        onclick: () => explorer.set({ page: to === 1 ? null : to }) }, text);
      this.pager.replaceChildren(turn(page - 1, "Previous page"), el("span", null, `Page ${page} of ${pages}`),
        turn(page + 1, "Next page"));
      this.pager.hidden = pages === 1;
    },
    image(k, finding, map) {
      this.chosen.hidden = k === undefined;
      if (k === undefined) return;
      this.chosen.querySelector("h3").textContent = `Image ${cohort.image_ids[k]}`;
      this.detail.replaceChildren(el("div", null, picture(k, map), mapNote(k) || ""), facts(k));
      this.side.replaceChildren(el("h4", null, "Simulated report"), explorer.markedReport(k),
        el("p", { class: "legend" }, ["present", "absent", "uncertain", "kept_out"].map(name => [el("mark",
          { class: name }, words(name)), " "])));
      this.rest.replaceChildren(evidenceTable(k), opinions(k), probabilityTable(k, finding),
        el("p", null, el("a", { href: explorer.link({ panel: "space", image: cohort.image_ids[k] }) },
          "Nearest images in the metric space"), " · ",
          el("a", { href: explorer.link({ panel: "topics", corpus: "archive", image: cohort.image_ids[k] }) },
            "Topic of its report")));
    },
  };
}
