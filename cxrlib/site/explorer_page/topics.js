// Topics and words of reports: of real ones as words alone, of the simulated archive with its images.
"use strict";

{
  const { el, words, count } = explorer;
  const LEVELS = [["document", "of whole reports"], ["second", "within dominant topics"], ["sentence",
    "of sentences and their neighbours"]];
  const MOST_IMAGES = 12;

  const measured = (name, caption, columns, measures) => explorer.table(caption, [...columns, ["model", "Model"],
    ["images_n", "Images"],
    ...Object.entries(measures).map(([key, heading]) => [key, heading, row => (row[key]
      ? explorer.withInterval(...row[key]) : "–")])],
    explorer.data.topics.tables[name]);

  explorer.panels.topics = {
    title: "Topics and words",
    load: () => Promise.all([explorer.load("topics"), explorer.loadCohort()]),
    mount(root) {
      this.controls = {
        corpus: explorer.select("Reports", "corpus", () => ({ topic: null })),
        level: explorer.select("Topics", "level", () => ({ topic: null })),
      };
      const search = el("input", { type: "search", name: "word", autocomplete: "off",
        oninput: () => explorer.set({ word: search.value.trim().toLowerCase() || null }) });
      this.search = search;
      this.source = el("div");
      this.status = el("p", { role: "status" });
      this.list = el("ul", { class: "topics" });
      this.chosen = el("section", { "aria-labelledby": "topic-heading" });
      this.near = el("div");
      root.append(this.source, el("div", { class: "controls" }, Object.values(this.controls),
        el("label", { class: "control" }, el("span", null, "Words that begin with"), search)),
        this.status, this.list, this.chosen, this.near,
        el("section", null, el("h3", null, "What networks learned of topics and words"),
          explorer.provenance("simulated",
            "study 4, test images of the archive; networks are compared with the commonest topic, " +
            "with topics as common as they are, and with chance."),
          measured("topics", "Is the topic of an image’s report named? (95 % intervals over patients and seeds)",
            [["group", "Level"]],
            { top1: "First", top5: "Among the first five", bits: "Bits per image" }),
          measured("words", "Is a disease word of an image’s report named? (95 % intervals over patients and seeds)",
            [["group", "Among"]],
            { r1: "First", r5: "Among the first five", r10: "Among the first ten" })));
    },
    update() {
      const { topics } = explorer.data, cohort = explorer.data.cohort;
      const corpus = ["real", "archive"].includes(explorer.get("corpus")) ? explorer.get("corpus") : "real";
      const level = LEVELS.some(([key]) => key === explorer.get("level")) ? explorer.get("level") : "document";
      this.controls.corpus.show([["real", "Open-i, real"], ["archive", "archive of study 4, simulated"]], corpus);
      this.controls.level.show(LEVELS, level);
      const asked = explorer.get("word");
      if (document.activeElement !== this.search) this.search.value = asked;
      const found = topics[corpus];
      if (!found) {
        this.source.replaceChildren(explorer.provenance("simulated", "reports of the archive of study 4."));
        this.status.textContent = "The archive’s topics are not here: run “make repro”, then “make explorer”; or " +
          "choose the real reports.";
        for (const part of [this.list, this.chosen, this.near]) part.replaceChildren();
        return;
      }
      this.source.replaceChildren(explorer.provenance(found.reports,
        `${found.title}: ${count(found.reports_n)} reports, ` +
        `${count(found.images_n)} images, ${count(found.patients_n)} patients. Words that fewer than 10 patients’ ` +
          `reports have are not shown.`));
      const all = found.levels[level];
      const rows = all.filter(row => !asked || row.words.split(" ").some(word => word.startsWith(asked)))
        .sort((one, other) => other.images_n - one.images_n || one.topic - other.topic);
      this.status.textContent = rows.length
        ? `${explorer.plural(rows.length, "topic")} of ${count(all.length)} shown, the largest first; ` +
          `${count(all.filter(row => row.kept).length)} have enough images to be learned.`
        : `No topic has a word that begins with “${asked}”: type fewer letters.`;
      const own = corpus === "archive" && cohort.position.has(explorer.get("image"))
        ? explorer.unpack(found.topic_of[level])[cohort.position.get(explorer.get("image"))] : null;
      const wish = explorer.get("topic") === "" ? own : Number(explorer.get("topic"));
      const topic = rows.find(row => row.topic === wish) || rows[0];
      const most = Math.max(1, ...all.map(row => row.images_n));
      this.list.replaceChildren(...rows.map(row => el("li", null, el("button", { type: "button",
        "data-key": `topic ${row.topic}`,
        "aria-pressed": String(row === topic), onclick: () => explorer.set({ topic: row.topic }) },
        el("span", { class: "bar", style: `width:${(6 * row.images_n / most).toFixed(2)}rem` }),
        `${row.topic}${row.parent === undefined ? "" : ` in ${row.parent}`}: ` +
          `${row.words.split(" ").slice(0, 6).join(" ")} `,
        el("small", null, `${count(row.images_n)} images${row.kept ? "" : ", too few to be learned"}`)))));
      this.chosen.replaceChildren(...(topic ? this.one(found, level, topic, own) : []));
      this.near.replaceChildren(...this.neighbours(found, topic, asked));
    },
    one(found, level, topic, own) {
      const parts = [el("h3", { id: "topic-heading" }, `Topic ${topic.topic}`),
        el("p", null, `${count(topic.reports_n)} reports, ${count(topic.images_n)} images. `,
          own !== null && own === topic.topic ? `The report of image ${explorer.get("image")} has this topic. ` : "",
          "Its words, the most characteristic first: ", el("strong", null, topic.words))];
      if (!found.topic_of) return [...parts, el("p", { class: "note" },
        "No report of a patient is shown, and no image: words alone are published.")];
      const of = explorer.unpack(found.topic_of[level]), rows = [...of.keys()].filter(k => of[k] === topic.topic);
      const named = found.found[level];
      if (!rows.length) return [...parts, el("p", { class: "empty" },
        "No test image has this topic: choose a larger one.")];
      if (named) {
        const mean = key => {
          const known = rows.map(k => explorer.unpack(named[key])[k]).filter(v => v >= 0);
          return known.length ? explorer.fixed(known.reduce((a, b) => a + b, 0) / known.length / 100) : "–";
        };
        parts.push(el("p", null,
          `Networks name this topic first for a share of ${mean("top1")} of its test images, and among the first ` +
            `five for ${mean("top5")}.`));
      }
      return [...parts, el("p", null,
        `${explorer.plural(rows.length, "test image")} of ` +
          `${explorer.plural(explorer.patientsAmong(rows), "patient")}` +
        `${rows.length > MOST_IMAGES ? `; the first ${MOST_IMAGES}:` : ":"}`),
        el("div", { class: "grid" }, rows.slice(0, MOST_IMAGES).map(k => explorer.thumbnail(k, 88,
          { panel: "images" })))];
    },
    neighbours(found, topic, asked) {
      if (!found.near || !topic) return [];
      const some = Object.keys(found.near).filter(word => (asked ? word.startsWith(asked)
        : topic.words.split(" ").includes(word))).slice(0, 12);
      if (!some.length) return [];
      return [explorer.table("Nearest words by their vectors, learned from the archive’s reports", [["word", "Word"],
        ["near", "Nearest words"]],
        some.map(word => ({ word, near: found.near[word].join(", ") })))];
    },
  };
}
