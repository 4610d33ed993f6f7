// The metric space of study 5: a map of images and of findings' names, and the reports that are nearest to an image.
"use strict";

{
  const { el, svg, words, count } = explorer;
  const NEAREST_N = 5, WIDTH = 640, HEIGHT = 460, EDGE = 24;
  let cohort;

  // Return the images nearest to one, of other patients, by squared distance: [index, distance] pairs.
  explorer.nearest = (points, dimensions, patients, asked, nearestN = NEAREST_N) => {
    const distances = [];
    for (let k = 0; k < patients.length; k++) {
      if (patients[k] === patients[asked]) continue;
      let square = 0;
      for (let j = 0; j < dimensions; j++) square += (points[k * dimensions + j] - points[asked * dimensions
        + j]) ** 2;
      distances.push([k, Math.sqrt(square)]);
    }
    return distances.sort((one, other) => one[1] - other[1] || one[0] - other[0]).slice(0, nearestN);
  };

  const flattened = (points, dimensions, flat) => Array.from({ length: points.length / dimensions }, (_, k) => [0,
    1].map(axis => {
    let sum = 0;
    for (let j = 0; j < dimensions; j++) sum += points[k * dimensions + j] / 1000 * flat[2 * j + axis];
    return sum;
  }));

  explorer.panels.space = {
    title: "Metric space",
    load: async () => { [cohort] = await Promise.all([explorer.loadCohort(), explorer.load("space")]); },
    mount(root) {
      const { space } = explorer.data;
      this.controls = {
        seed: explorer.select("Training seed", "seed"),
        highlight: explorer.select("Highlight images with", "highlight"),
      };
      const field = el("input", { name: "image", list: "image-ids", autocomplete: "off", spellcheck: "false",
        onchange: () => {
        if (cohort.position.has(field.value.trim())) explorer.set({ image: field.value.trim() });
        else this.status.textContent = `There is no test image “${field.value}”: choose one of the list.`;
      } });
      this.field = field;
      const step = by => () => explorer.set({ image: cohort.image_ids[(this.asked + by
        + cohort.images_n) % cohort.images_n] });
      this.status = el("p", { role: "status" });
      this.figure = el("figure");
      this.nearest = el("div", { class: "neighbours" });
      root.append(explorer.provenance("simulated",
        `${count(space.images_n)} test images of ${count(space.patients_n)} patients, and the names ` +
        `of ${space.findings.length} findings, in the ${space.dimensions_n} dimensions of the head that study 5 ` +
          `trained on radiologists’ labels. ` +
        "Shown are the two directions in which the names differ most."),
        el("div", { class: "controls" }, Object.values(this.controls), el("label", { class: "control" }, el("span",
          null, "Image"), field),
          el("datalist", { id: "image-ids" }, cohort.image_ids.map(id => el("option", { value: id }))),
          el("div", { class: "pager" }, el("button", { type: "button", onclick: step(-1) }, "Previous image"),
            el("button", { type: "button", onclick: step(1) }, "Next image"))),
        this.figure, this.status, this.nearest,
        explorer.table("Do the five nearest images of other patients share a finding? (study 5, images with a " +
          "finding)",
          [["model", "Nearest by"], ["images_n", "Images"], ["value", "Share that does (95 % interval over patients)",
            row => explorer.withInterval(row.estimate, row.low, row.high)]], space.nearest_table));
    },
    update() {
      const { space } = explorer.data, seeds = Object.keys(space.spaces);
      const seed = seeds.includes(explorer.get("seed")) ? explorer.get("seed") : seeds[0];
      const highlight = space.findings.includes(explorer.get("highlight")) ? explorer.get("highlight")
        : space.findings[0];
      const { dimensions_n: dimensions } = space, here = space.spaces[seed];
      const points = explorer.unpack(here.images), flat = explorer.unpack(here.flat);
      const asked = this.asked = cohort.position.get(explorer.get("image")) ?? 0;
      this.controls.seed.show(seeds.map(each => [each, each]), seed);
      this.controls.highlight.show(space.findings.map(f => [f, words(f)]), highlight);
      if (document.activeElement !== this.field) this.field.value = cohort.image_ids[asked];
      const near = explorer.nearest(points, dimensions, explorer.unpack(cohort.patients), asked);
      this.map(flattened(points, dimensions, flat), flattened(explorer.unpack(here.prototypes), dimensions, flat),
        highlight, asked, near);
      const of = k => space.findings.filter(f => explorer.unpack(space.labels.radiologist[f])[k] === 1);
      const own = of(asked), shared = near.filter(([k]) => of(k).some(f => own.includes(f))).length;
      this.status.textContent = own.length
        ? `${cohort.image_ids[asked]} has ${own.map(words).join(", ")} by the simulated panel; ${shared} of its ` +
          `${near.length} nearest images of other patients share a finding with it.`
        : `${cohort.image_ids[asked]} has no finding by the simulated panel.`;
      const card = (k, note) => el("article", null, explorer.thumbnail(k, 96, {}, note),
        el("p", null, el("strong", null, of(k).map(words).join(", ") || "no finding")), explorer.markedReport(k));
      this.nearest.replaceChildren(el("h3", null, "The image and its report, then the nearest ones"), el("div",
        { class: "cards" }, card(asked, "(chosen)"),
        near.map(([k, distance]) => card(k, `at ${(distance / 1000).toFixed(3)}`))));
    },
    map(images, prototypes, highlight, asked, near) {
      const { space } = explorer.data, label = explorer.unpack(space.labels.radiologist[highlight]);
      const all = [...images, ...prototypes], ends = [0, 1].map(axis => [Math.min(...all.map(p => p[axis])),
        Math.max(...all.map(p => p[axis]))]);
      const scale = Math.min((WIDTH - 2 * EDGE) / (ends[0][1] - ends[0][0]),
        (HEIGHT - 2 * EDGE) / (ends[1][1] - ends[1][0]));
      const at = point => [EDGE + (point[0] - ends[0][0]) * scale, HEIGHT - EDGE - (point[1] - ends[1][0]) * scale];
      const dot = (k, shape) => { const [x, y] = at(images[k]); return svg("circle", { cx: x.toFixed(1),
        cy: y.toFixed(1), ...shape }); };
      const order = [...images.keys()], nearest = near.map(([k]) => k);
      const width = 2 * EDGE + (ends[0][1] - ends[0][0]) * scale, height = HEIGHT;
      const pick = event => {
        const box = event.currentTarget.getBoundingClientRect();
        const x = (event.clientX - box.left) * width / box.width, y = (event.clientY - box.top) * height / box.height;
        const far = k => { const [px, py] = at(images[k]); return (px - x) ** 2 + (py - y) ** 2; };
        explorer.set({ image: cohort.image_ids[order.reduce((best, k) => (far(k) < far(best) ? k : best))] });
      };
      this.figure.replaceChildren(svg("svg", { viewBox: `0 0 ${width.toFixed(0)} ${height}`, class: "chart map",
        role: "img", onclick: pick,
        "aria-label": `Map of ${count(images.length)} images; ${count(label.filter(v => v === 1).length)} with ` +
          `${words(highlight)} are highlighted; ` +
          `${cohort.image_ids[asked]} and its ${nearest.length} nearest images are ringed` },
        order.filter(k => label[k] !== 1).map(k => dot(k, { r: 1.8, class: "without" })),
        order.filter(k => label[k] === 1).map(k => dot(k, { r: 2.8, class: "with" })),
        nearest.map(k => dot(k, { r: 6, class: "near" })), dot(asked, { r: 9, class: "asked" }),
        prototypes.map((point, k) => {
          const [x, y] = at(point), name = words(space.findings[k]);
          return svg("g", { class: space.findings[k] === highlight ? "name highlighted" : "name" },
            svg("path", { d: `M${x} ${y - 6}L${x + 6} ${y + 5}L${x - 6} ${y + 5}Z` }),
            svg("text", { x: x > width / 2 ? x - 9 : x + 9, y: y + 4, "text-anchor": x > width / 2 ? "end"
              : "start" }, name));
        })), el("figcaption", null,
          "Triangles are names of findings, large dots images with the highlighted finding by the simulated panel. " +
          "The largest ring is the chosen image, small rings its nearest images of other patients, in all " +
            "dimensions. Click to choose the nearest image."));
    },
  };
}
