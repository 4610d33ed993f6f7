// An operating point: threshold and prevalence moved, and what a network is then worth.
"use strict";

{
  const { el, svg, words, count, rates } = explorer;
  const VALIDATION = 0, TEST = 1;
  const SHOWN = [
    ["sensitivity", "Sensitivity", "of images with the finding, those at or above the threshold"],
    ["specificity", "Specificity, or normals ruled out", "of images without the finding, those below the threshold"],
    ["ppv", "PPV at this prevalence", "of images at or above the threshold, those with the finding"],
    ["npv", "NPV at this prevalence", "of images below the threshold, those without the finding"],
    ["workSaved", "Work saved at this prevalence", "of all images, those below the threshold, which are ruled out"],
  ];

  // Return labels as 0 and 1 and scores, of one part of a case table.
  const chosen = (table, { reference, finding, run, part }) => {
    const parts = explorer.unpack(table.part), label = explorer.unpack(table.labels[reference][finding]);
    const score = explorer.unpack(table.probabilities[run][finding]), patients = explorer.unpack(table.patients);
    const rows = [...parts.keys()].filter(i => (part === null || parts[i] === part) && (label[i] === 0
      || label[i] === 1));
    return { label: rows.map(i => label[i]), score: rows.map(i => score[i]), patient: rows.map(i => patients[i]) };
  };

  const rocFigure = ({ corners, auc }, cells, name) => {
    const x = v => 48 + 200 * v, y = v => 215 - 200 * v;
    const point = [1 - rates.measures.specificity.of(cells.total), rates.measures.sensitivity.of(cells.total)];
    return el("figure", null, svg("svg", { viewBox: "0 0 260 255", class: "chart roc", role: "img", "aria-label":
      `ROC curve of ${name}; AUC ${explorer.fixed(auc)}; the operating point has sensitivity ` +
        `${explorer.fixed(point[1])} ` +
      `and specificity ${explorer.fixed(1 - point[0])}` },
      svg("rect", { x: x(0), y: y(1), width: 200, height: 200, class: "frame" }),
      svg("line", { x1: x(0), y1: y(0), x2: x(1), y2: y(1), class: "chance" }),
      svg("polyline", { points: corners.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" "),
        class: "curve" }),
      Number.isFinite(point[0] + point[1]) ? svg("circle", { cx: x(point[0]), cy: y(point[1]), r: 5,
        class: "point" }) : "",
      svg("text", { x: 148, y: 248, class: "axis" }, "1 − specificity"),
      svg("text", { x: -115, y: 14, class: "axis", transform: "rotate(-90)" }, "sensitivity"),
      [0, 0.5, 1].map(v => [svg("text", { x: x(v), y: 229, class: "axis" }, v), svg("text", { x: 42, y: y(v) + 4,
        class: "tick" }, v)]).flat()),
      el("figcaption", null, `ROC curve; AUC ${explorer.fixed(auc)}. The dot is the operating point.`));
  };

  const histogram = ({ label, score }, threshold) => {
    const bins = 40, tall = [0, 1].map(() => new Array(bins).fill(0));
    label.forEach((value, i) => { tall[value][Math.min(bins - 1, Math.floor(score[i] * bins))] += 1; });
    const most = tall.map(each => Math.max(1, ...each)), x = v => 10 + 320 * v;
    const bars = (each, side, base, up) => each.map((n, k) => n ? svg("rect", { x: x(k / bins), width: 320 / bins - 1,
      y: up ? base - 90 * n / most[side] : base, height: 90 * n / most[side], class: side ? "with" : "without" })
        : "");
    return el("figure", null, svg("svg", { viewBox: "0 0 340 230", class: "chart", role: "img", "aria-label":
      `Histogram of probabilities of images with the finding, above, and without it, below; threshold at ` +
        `${explorer.fixed(threshold)}` },
      bars(tall[1], 1, 104, true), bars(tall[0], 0, 108, false),
      svg("line", { x1: x(Math.min(Math.max(threshold, 0), 1)), x2: x(Math.min(Math.max(threshold, 0), 1)), y1: 8,
        y2: 204, class: "threshold" }),
      [0, 0.25, 0.5, 0.75, 1].map(v => svg("text", { x: x(v), y: 222, class: "axis" }, v))),
      el("figcaption", null,
        "Probabilities of images with the finding (up) and without it (down), each scaled to its own peak."));
  };

  const frequencies = (cells, prevalence) => {
    const per = 1000, found = rates.measures.sensitivity.of(cells.total),
      kept = rates.measures.specificity.of(cells.total);
    const whole = value => count(Math.round(value));
    if (!Number.isFinite(found + kept)) return "";
    return `Of 1,000 images at this prevalence, ${whole(per * prevalence)} have the finding: ` +
      `${whole(per * prevalence * found)} are found ` +
      `and ${whole(per * prevalence * (1 - found))} are missed. ${whole(per * (1 - prevalence) * (1 - kept))} ` +
        `images without it are called, ` +
      `and ${whole(per * (1 - prevalence) * kept)} of them are ruled out.`;
  };

  explorer.panels.operating = {
    title: "Operating point",
    load: () => explorer.load(`cases_${explorer.get("cases", explorer.data.about.cohort)}`),
    mount(root) {
      const again = keys => () => Object.fromEntries(keys.map(key => [key, null]));
      this.controls = {
        cases: explorer.select("Images", "cases", again(["run", "reference", "part"])),
        finding: explorer.select("Finding", "finding", again(["run", "reference"])),
        run: explorer.select("Run", "run"),
        reference: explorer.select("Labels that score it", "reference"),
        part: explorer.select("Part", "part"),
      };
      this.sliders = {
        threshold: explorer.slider("Threshold", "threshold", { min: 0, max: 1, step: 0.001 }),
        prevalence: explorer.slider("Prevalence", "prevalence", { min: 0.001, max: 0.999, step: 0.001 }),
      };
      const button = (text, onclick) => el("button", { type: "button", onclick }, text);
      this.buttons = el("div", { class: "pager" }, el("span", null, "Set the threshold to"),
        [0.8, 0.9, 0.95].map(wanted => button(`${Math.round(100 * wanted)} % sensitivity on validation images`,
          () => this.carry(wanted))),
        button("Prevalence of these images", () => explorer.set({ prevalence: null })));
      this.source = el("div");
      this.status = el("p", { role: "status" });
      this.figures = el("div", { class: "figures" });
      this.output = el("div");
      root.append(this.source, el("div", { class: "controls" }, Object.values(this.controls)),
        el("div", { class: "controls" }, Object.values(this.sliders)), this.buttons, this.status, this.output,
          this.figures);
    },
    async update() {
      const { about } = explorer.data;
      const names = Object.keys(about.cases), wish = explorer.get("cases", about.cohort);
      const name = names.includes(wish) ? wish : about.cohort;
      const table = await explorer.load(`cases_${name}`);
      if (explorer.get("cases", about.cohort) !== wish) return; // another choice was made in the meantime
      const among = (key, options, fallback) => {
        const value = explorer.get(key, fallback);
        return options.includes(value) ? value : options.includes(fallback) ? fallback : options[0];
      };
      const scored = new Set(Object.values(table.labels).flatMap(Object.keys));
      const predicted = new Set(Object.values(table.probabilities).flatMap(Object.keys));
      const findings = [...predicted].filter(f => scored.has(f));
      const finding = among("finding", findings, "pneumothorax");
      const runs = Object.keys(table.probabilities).filter(run => table.probabilities[run][finding]);
      const run = among("run", runs, runs[0]);
      const references = Object.keys(table.labels).filter(set => table.labels[set][finding]);
      const reference = among("reference", references, references.find(set => /^(finding_)?radiologist$/.test(set)));
      const parts = [["test", "test"], ["valid", "validation"], ["both", "test and validation"]]
        .filter(([key]) => key === "test" || explorer.unpack(table.part).includes(VALIDATION));
      const part = among("part", parts.map(([key]) => key), "test");
      const { controls, sliders } = this;
      controls.cases.show(Object.entries(about.cases), name);
      controls.finding.show(findings.map(f => [f, words(f)]), finding);
      controls.run.show(runs.map(key => [key,
        `${words(about.runs[key].target)}, ${about.runs[key].network}, seed ${about.runs[key].seed}`]), run);
      controls.reference.show(references.map(set => [set, words(set)]), reference);
      controls.part.show(parts, part);
      const here = chosen(table, { reference, finding, run, part: { test: TEST, valid: VALIDATION,
        both: null }[part] });
      const own = here.label.filter(v => v === 1).length / here.label.length;
      const threshold = Number(explorer.get("threshold", 0.25));
      const prevalence = explorer.get("prevalence") ? Math.min(Math.max(Number(explorer.get("prevalence")), 0), 1)
        : own;
      sliders.threshold.show(threshold);
      sliders.prevalence.show(explorer.get("prevalence") ? prevalence : own.toFixed(4));
      const cells = rates.cells(here.label, here.score.map(v => (v >= threshold ? 1 : 0)), here.patient);
      const every = { ...rates.measures, ...rates.at(prevalence) };
      const patients = new Set(here.patient).size;
      this.source.replaceChildren(explorer.provenance("simulated",
        `${table.title}: ${explorer.plural(here.label.length, "image")} of ${explorer.plural(patients, "patient")} ` +
          `that the ` +
        `label set “${words(reference)}” assesses for ${words(finding)}; ` +
          `${count(here.label.filter(v => v === 1).length)} have it (prevalence ${explorer.fixed(own)}). ` +
        `The run was trained on the label set “${words(about.runs[run].trained_on)}”.`));
      this.asked = { reference, finding, run };
      this.status.textContent = here.label.length ? frequencies(cells, prevalence)
        : "No image is left: choose another label set.";
      const [tp, fp, fn, tn] = cells.total;
      this.output.replaceChildren(
        explorer.table("Images by label and threshold", [["is", "Probability"], ["with", "with the finding"],
          ["without", "without"]],
          [{ is: "at or above the threshold", with: count(tp), without: count(fp) }, { is: "below it",
            with: count(fn), without: count(tn) }],
          { class: "numbers", id: "cells" }),
        explorer.table("What the operating point is worth (95 % intervals over patients)",
          [["measure", "Measure"], ["value", "Estimate (interval)"], ["means", "Meaning"]],
          SHOWN.map(([key, measure, means]) => {
            const found = rates.estimate(every[key], cells);
            return { measure, means: found.reason ? `${means}; ${found.reason}` : means,
              value: el("span", { "data-measure": key, "data-value": String(found.estimate),
                "data-low": String(found.low),
                "data-high": String(found.high) }, explorer.withInterval(found.estimate, found.low, found.high)) };
          }), { id: "worth" }));
      this.figures.replaceChildren(...(here.label.length
        ? [histogram(here, threshold), rocFigure(rates.roc(here.label, here.score), cells, words(run))] : []));
    },
    // Set the threshold that is chosen on validation images, as the studies choose theirs.
    async carry(wanted) {
      const names = [explorer.get("cases", explorer.data.about.cohort), explorer.data.about.cohort];
      const tables = await Promise.all(names.map(each => explorer.load(`cases_${each}`)));
      const { reference, finding, run } = this.asked;
      const source = tables.find(table => explorer.unpack(table.part).includes(VALIDATION) &&
        table.labels[reference]?.[finding] && table.probabilities[run]?.[finding]);
      if (!source) {
        this.status.textContent = "No validation image has this label and this run: choose another label set.";
        return;
      }
      const { label, score } = chosen(source, { reference, finding, run, part: VALIDATION });
      explorer.set({ threshold: rates.thresholdAtSensitivity(label, score, wanted) });
    },
  };
}
