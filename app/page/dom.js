// Makes elements. Text is always set as text, so nothing that a service or a file says becomes markup.

/** An element with attributes (`onclick` and its kind are listeners) and children, of which strings become text. */
export function h(tag, attributes = {}, ...children) {
	const element = document.createElement(tag);
	for (const [name, value] of Object.entries(attributes)) {
		if (typeof value === "function") element.addEventListener(name.slice(2), value);
		else if (value === true) element.setAttribute(name, "");
		else if (value !== false && value != null) element.setAttribute(name, value);
	}
	element.append(...children.flat().filter((child) => child != null));
	return element;
}

/** A table with a caption; the first cell of each row is the row's heading. */
export function table(caption, head, rows) {
	return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
		h("table", {},
			h("caption", {}, caption),
			h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col" }, name)))),
			h("tbody", {}, rows.map(([first, ...rest]) =>
				h("tr", {}, h("th", { scope: "row" }, first), rest.map((cell) => h("td", {}, cell)))))));
}

/** Pairs of a term and what it is. */
export const facts = (pairs) =>
	h("dl", { class: "facts" }, pairs.map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))));

export const by = (id) => document.getElementById(id);

export const number = (value, digits = 3) =>
	value == null || Number.isNaN(value) ? "–" : Number(value.toPrecision(digits)).toLocaleString("en", { maximumSignificantDigits: digits });

/** 1st, 2nd, 3rd, 98th. */
export function ordinal(value) {
	const n = Math.round(value), isTeen = n % 100 > 10 && n % 100 < 14;
	return n + ((!isTeen && ["th", "st", "nd", "rd"][n % 10]) || "th");
}

export const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

export const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(2).padStart(5, "0")}`;
