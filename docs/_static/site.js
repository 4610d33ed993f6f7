// What pages do besides being read: one click shows all code, tables sort, filter and download. Without JavaScript
// pages are whole: code unfolds one by one, and tables are plain tables.
"use strict";

(() => {
  const script = document.currentScript;

  // A number as it stands in a table: 0.778 (0.760 to 0.795), 1,962, < 0.001, 76 %.
  const NUMBER = /^[<>≤≥]?\s*[-+−]?[\d,]*\.?\d+(e[-+]?\d+)?\s*%?(\s*[(\[].*[)\]])?$/i;

  const MISSING = ["", "–", "NaN"];

  const textOf = (cell) => String(cell).replace(/<[^>]*>/g, "").replace(/&lt;/g, "<").replace(/&gt;/g, ">").trim();

  const valueOf = (cell) => {
    const text = textOf(cell);
    if (MISSING.includes(text)) return -Infinity;
    const value = parseFloat(text.replace(/^[<>≤≥]\s*/, "").replace(/^−/, "-").replace(/,/g, ""));
    return text.startsWith("<") ? value - 1e-9 : value;
  };

  const captionOf = (caption) => caption.textContent.replace(/\s*#\s*$/, "");

  function makeTable(table) {
    const few = table.tBodies[0].rows.length < 6;
    const about = table.caption ? captionOf(table.caption) : "the table";
    table.removeAttribute("border");
    const buttons = [{ extend: "csvHtml5", text: "Download CSV", filename: table.id, title: null }];
    new window.DataTable(table, {
      paging: false,
      info: false,
      order: [],
      autoWidth: false,
      language: { search: "Filter", zeroRecords: "No row has this text: empty the filter to see all." },
      layout: { topStart: few ? null : "search", topEnd: null, bottomStart: { buttons }, bottomEnd: null },
    });
    const field = table.closest(".dt-container").querySelector("input[type=search]");
    if (field) field.setAttribute("aria-label", `Filter rows of ${about}`);
    const button = table.closest(".dt-container").querySelector(".buttons-csv");
    button.setAttribute("aria-label", `Download CSV of ${about}`);
    table.closest(".dt-container").dataset.ready = "yes";
  }

  function makeTables() {
    const tables = document.querySelectorAll("table.data");
    if (!tables.length) return;
    const bundle = document.createElement("script");
    bundle.src = new URL("datatables.js", script.src).href;
    bundle.addEventListener("load", () => {
      window.DataTable.type("estimate", {
        detect: { oneOf: (cell) => NUMBER.test(textOf(cell)), allOf: (cell) => MISSING.includes(textOf(cell)) || NUMBER.test(textOf(cell)) },
        order: { pre: valueOf },
      });
      tables.forEach(makeTable);
      makeScrollable();
    });
    document.head.append(bundle);
  }

  function makeCodeButton() {
    const folds = [...document.querySelectorAll("details.hide.above-input")];
    const title = document.querySelector("article h1");
    if (!folds.length || !title) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "show-code";
    const say = () => {
      const open = folds.every((fold) => fold.open);
      button.textContent = open ? "Hide all code" : "Show all code";
      button.setAttribute("aria-pressed", String(open));
    };
    button.addEventListener("click", () => {
      const open = !folds.every((fold) => fold.open);
      folds.forEach((fold) => { fold.open = open; });
      say();
    });
    say();
    const lead = document.querySelector("article .lead");
    (lead || title).after(button);
  }

  // What scrolls sideways must be reached by the keyboard, and say what it is.
  function makeScrollable() {
    const boxes = "article pre, article .dt-layout-table > .dt-layout-cell, article .pst-scrollable-table-container";
    document.querySelectorAll(boxes).forEach((box, place) => {
      const scrolls = box.scrollWidth > box.clientWidth && !box.querySelector(".dt-layout-table");
      if (!scrolls) {
        box.removeAttribute("tabindex");
        return;
      }
      const caption = box.querySelector("caption");
      box.tabIndex = 0;
      box.setAttribute("role", "region");
      box.setAttribute("aria-label", caption ? captionOf(caption) : `Box ${place + 1}, which scrolls`);
    });
  }

  document.addEventListener("DOMContentLoaded", () => {
    makeCodeButton();
    makeTables();
    makeScrollable();
    window.addEventListener("resize", makeScrollable);
  });
})();
