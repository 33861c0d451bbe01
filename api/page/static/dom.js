// Elements are made here and nowhere else. Values become text nodes, so markup in them stays text.

/** An element: `h("p", {class: "x", onclick: f}, "text", child)`. */
export function h(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Write a text only where it differs: a screen reader then hears only what is new. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A table; each cell is a text or an element. */
export function table(caption, heads, rows) {
  return h("table", {},
    h("caption", {}, caption),
    h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell) => h("td", {}, cell))))));
}

/** Pairs of a name and a value; those without a value are left out. */
export function pairs(entries) {
  const shown = entries.filter(([, value]) => value !== null && value !== undefined);
  return h("dl", { class: "pairs" }, shown.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]).flat());
}
