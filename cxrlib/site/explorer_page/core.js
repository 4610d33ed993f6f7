// What every panel uses: data files, the state in the address, and elements of the page.
"use strict";

const explorer = { data: {}, panels: {} };

// Data files. A page opened from a disk may not fetch, so each file is a script that calls `explorer.receive`.

{
  const pending = {};
  const arrays = new WeakMap();
  const KINDS = { i1: Int8Array, u1: Uint8Array, i2: Int16Array, u2: Uint16Array, u4: Uint32Array, f4: Float32Array };

  explorer.receive = (name, content) => { explorer.data[name] = content; };

  // Return a promise of the content of data/NAME.js.
  explorer.load = name => {
    if (!pending[name]) {
      pending[name] = new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = `data/${name}.js`;
        script.onload = () => resolve(explorer.data[name]);
        script.onerror = () => reject(new Error(
          `data/${name}.js is missing: build the explorer again with "make explorer".`));
        document.head.append(script);
      });
    }
    return pending[name];
  };

  // Return the typed array of {kind, data}, decoded once.
  explorer.unpack = packed => {
    if (!arrays.has(packed)) {
      const bytes = Uint8Array.from(atob(packed.data), letter => letter.charCodeAt(0));
      arrays.set(packed, new KINDS[packed.kind](bytes.buffer));
    }
    return arrays.get(packed);
  };
}

// The state: everything that is chosen stands behind the # of the address, unless it is the default.

{
  const read = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  let state = read();

  explorer.get = (key, fallback = "") => state[key] ?? fallback;

  // Change the state (null takes a key out), put it into the address and redraw.
  explorer.set = changes => {
    const next = { ...state, ...changes };
    for (const key of Object.keys(next)) if (next[key] === null) delete next[key];
    state = Object.fromEntries(Object.entries(next).map(([key, value]) => [key, String(value)]));
    const hash = new URLSearchParams(state).toString();
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
    explorer.redraw();
  };

  // Return an address with some of the state changed, for a link.
  explorer.link = changes => `#${new URLSearchParams({ ...state, ...changes })}`;

  window.addEventListener("hashchange", () => {
    if (location.hash === "#main") return;
    state = read();
    explorer.redraw();
  });
}

// Elements.

{
  const fill = (node, attributes, children) => {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value === true) node.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined));
    return node;
  };

  explorer.el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  explorer.svg = (tag, attributes, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

explorer.words = name => name.replaceAll("_", " ");
explorer.count = number => Number(number).toLocaleString("en-US");
explorer.fixed = (value, digits = 3) => (value === null || !Number.isFinite(value) ? "–" : value.toFixed(digits));
explorer.plural = (number, one, many) => `${explorer.count(number)} ${number === 1 ? one : many || `${one}s`}`;

// Return "0.123 (0.100 to 0.150)", or the estimate alone where there is no interval.
explorer.withInterval = (value, low, high) =>
  explorer.fixed(value) + (low === null || !Number.isFinite(low) ? ""
    : ` (${explorer.fixed(low)} to ${explorer.fixed(high)})`);

{
  const { el } = explorer;

  // Return a labelled select that writes `key` of the state; `show(options, value)` sets what is offered.
  // Options are [value, text] pairs; `extra(value)` may change further keys.
  explorer.select = (label, key, extra) => {
    const field = el("select", { name: key, onchange: () => explorer.set({ [key]: field.value,
      ...(extra?.(field.value)) }) });
    const node = el("label", { class: "control" }, el("span", null, label), field);
    node.show = (options, value) => {
      const wanted = JSON.stringify(options);
      if (field.dataset.options !== wanted) {
        field.replaceChildren(...options.map(([option, text]) => el("option", { value: option }, text)));
        field.dataset.options = wanted;
      }
      field.value = value;
    };
    return node;
  };

  // Return a labelled checkbox that writes "1" to `key`, or takes it out.
  explorer.checkbox = (label, key, changes) => {
    const field = el("input", { type: "checkbox", name: key, onchange: () =>
      explorer.set({ [key]: field.checked ? "1" : null, ...changes }) });
    const node = el("label", { class: "control check" }, field, el("span", null, label));
    node.show = value => { field.checked = value === "1"; };
    return node;
  };

  // Return a slider and a number field for one key: the slider moves on a grid, the field takes any value.
  explorer.slider = (label, key, { min, max, step }) => {
    const write = value => { if (value !== "" && Number.isFinite(Number(value))) explorer.set({ [key]: value }); };
    const range = el("input", { type: "range", name: `${key}_slider`, min, max, step,
      oninput: () => write(range.value) });
    const exact = el("input", { type: "number", name: key, min, max, step: "any", onchange: () => write(exact.value),
      "aria-label": `${label}, as a number` });
    const node = el("div", { class: "control slider" },
      el("label", null, el("span", null, label), range), exact);
    node.show = value => {
      range.value = value;
      if (document.activeElement !== exact) exact.value = value;
    };
    return node;
  };

  // Return a table: columns are [key, heading] pairs, or [key, heading, function of the row].
  explorer.table = (caption, columns, rows, attributes) =>
    el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption }, el("table", attributes,
      el("caption", null, caption),
      el("thead", null, el("tr", null, columns.map(([, heading]) => el("th", { scope: "col" }, heading)))),
      el("tbody", null, rows.map(row => el("tr", null, columns.map(([key, , made], k) => {
        const value = made ? made(row) : row[key];
        return el(k ? "td" : "th", k ? null : { scope: "row" }, value === null || value === undefined ? "–" : value);
      }))))));

  // Return one tile of a sheet as a picture of `px` CSS pixels.
  explorer.tile = (sheets, k, px, label) => {
    const inside = k % sheets.per_sheet;
    const x = (inside % sheets.columns) * px, y = Math.floor(inside / sheets.columns) * px;
    const file = sheets.files[Math.floor(k / sheets.per_sheet)];
    const place = `width:${px}px;height:${px}px;background-image:url(data/${file});` +
      `background-size:${sheets.columns * px}px auto;background-position:-${x}px -${y}px`;
    return el("span", { class: "tile", style: place, ...(label ? { role: "img", "aria-label": label }
      : { "aria-hidden": "true" }) });
  };

  // Return a paragraph that says what a panel's data are.
  explorer.provenance = (kind, text) => el("p", { class: `provenance ${kind}` }, el("strong", null, kind), " ", text);
}

// Hand a text to the reader as a file.
explorer.download = (name, text) => {
  const link = explorer.el("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })),
    download: name });
  link.click();
  URL.revokeObjectURL(link.href);
};
