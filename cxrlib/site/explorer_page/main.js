// Panels: the navigation, and which panel is shown.
"use strict";

{
  const { el } = explorer;
  const order = ["images", "operating", "topics", "space", "real"];
  const main = document.getElementById("main"), list = document.getElementById("panels");
  let shown = null, drawn = 0;

  const failed = error => {
    shown = null;
    main.replaceChildren(el("p", { class: "empty", role: "alert" }, error.message));
  };

  explorer.redraw = async () => {
    const wish = explorer.get("panel"), name = order.includes(wish) ? wish : order[0], panel = explorer.panels[name];
    const turn = ++drawn, focused = document.activeElement?.dataset.key;
    try {
      list.replaceChildren(...order.map(each => el("li", null, el("a", { href: explorer.link({ panel: each }),
        "data-key": each, "aria-current": each === name ? "page" : null }, explorer.panels[each].title))));
      if (shown !== name) {
        main.setAttribute("aria-busy", "true");
        await panel.load();
        if (turn !== drawn) return;
        const root = el("section", { "aria-labelledby": "panel-heading" }, el("h2", { id: "panel-heading" },
          panel.title));
        panel.mount(root);
        main.replaceChildren(root);
        shown = name;
        document.title = `${panel.title} · Explorer: what chest X-ray labels are worth`;
      }
      await panel.update();
      main.removeAttribute("aria-busy");
      // What had the focus may have been drawn again; elements with a key are found by it.
      if (focused && document.activeElement === document.body) {
        document.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
      }
      document.body.dataset.drawn = String(drawn);
    } catch (error) {
      failed(error);
      throw error;
    }
  };

  document.getElementById("skip").addEventListener("click", event => {
    event.preventDefault();
    main.focus();
  });
  explorer.load("about").then(explorer.redraw, failed);
}
