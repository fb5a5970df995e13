// What the heads say: now, and at two horizons beside what then came.

import { timeline } from "./chart.js";
import { h, number } from "./dom.js";

const top = (row) => row.indexOf(Math.max(...row));
const percent = (share) => `${Math.round(100 * share)} %`;

export class Heads {
	#rows;

	/** `horizons` are 0 and two more. */
	constructor(heads, { outputs, values, novelty }, horizons) {
		Object.assign(this, { horizons, novelty });
		this.#rows = heads.map((head) => {
			const columns = head.outputs.map((name) => outputs.indexOf(name));
			return { head, series: horizons.map((horizon) => values.get(horizon).map((row) => columns.map((c) => row[c]))) };
		});
	}

	elements() {
		const [, near, far] = this.horizons;
		return [
			h("p", { class: "soft" }, `The line: what it says of a frame once that is there. ● and ○: what it expects now of ${near} and of ${far} frames on. Where they meet the faint line, it was right.`),
			...this.#rows.map((row) => {
				row.canvas = h("canvas", { role: "img", "aria-label": `${row.head.name} over time` });
				row.words = h("span", { class: "soft" });
				return h("div", { class: "row" }, h("h3", {}, row.head.name, " ", row.words), row.canvas);
			}),
		];
	}

	draw(at, over) {
		for (const { head, series: [now, ...later], canvas, words } of this.#rows) {
			const isNumber = head.kind === "number", isClasses = head.kind === "classes", best = isClasses ? top(now[at]) : 0;
			const values = now.map((row) => row[best]), [low, high] = isNumber ? [Math.min(...values), Math.max(...values)] : [0, 1];
			const say = (row) => isClasses ? `${head.outputs[top(row)].split("=").pop()} ${percent(Math.max(...row))}` : isNumber ? number(row[0]) : percent(row[0]);
			words.textContent = [say(now[at]), ...later.map((rows, i) => `${say(rows[at])} in ${this.horizons[i + 1]}`)].join(" → ");
			const dots = later.map((rows, i) => ({ at: Math.min(over.count - 1, at + this.horizons[i + 1]), value: rows[at][best], hollow: i > 0 }));
			timeline(canvas, { ...over, low, high, lines: [{ values, ahead: true }], dots, ticks: [low, high].map((value) => [value, number(value, 2)]) });
		}
	}
}
