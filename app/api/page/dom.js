// Makes elements, and sets text as text, so that nothing a service or a file says becomes markup.

/** An element such as "p.soft#said", with attributes and children in any order; null becomes nothing. */
export function h(selector, ...parts) {
	const [tag, ...marks] = selector.split(/(?=[.#])/), element = document.createElement(tag);
	for (const mark of marks) {
		if (mark[0] === "#") element.id = mark.slice(1);
		else element.classList.add(mark.slice(1));
	}
	for (const part of parts.flat()) {
		if (part?.constructor !== Object) element.append(part ?? "");
		else for (const [name, value] of Object.entries(part)) {
			if (typeof value === "function") element[name] = value;
			else if (value !== false) element.setAttribute(name, value);
		}
	}
	return element;
}

/** The first cell of each row is the row's heading. */
export const table = (caption, head, rows) =>
	h("div.scroll", { tabindex: 0, role: "region", "aria-label": caption },
		h("table",
			h("caption", caption),
			h("thead", h("tr", head.map((name) => h("th", { scope: "col" }, name)))),
			h("tbody", rows.map(([first, ...rest]) =>
				h("tr", h("th", { scope: "row" }, first), rest.map((cell) => h("td", cell)))))));

export const panel = (name, title, ...content) =>
	h(`section.panel#p-${name}`, { "aria-labelledby": `t-${name}` }, h(`h2#t-${name}`, title), content);

export const canvas = (id, label) => h(`canvas#${id}`, { role: "img", "aria-label": label });

/** Boxes or radio buttons, with a value's `attributes`. */
export const chips = (legend, type, values, attributes) =>
	h("fieldset.chips", h("legend", legend),
		values.map((value) => h("label", h("input", { type, value, name: legend, ...attributes(value) }), value)));

export const by = (id) => document.getElementById(id);

export const write = (id, text) => (by(id).textContent = text);

export const number = (value, digits = 3) =>
	value == null || Number.isNaN(value) ? "–" : value.toLocaleString("en", { maximumSignificantDigits: digits });

export const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

export const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(2).padStart(5, "0")}`;
