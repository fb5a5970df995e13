// What the heads say: now, and at two horizons beside what then came.

import { timeline } from "./chart.js";
import { canvas, h, number } from "./dom.js";

const top = (row) => row.indexOf(Math.max(...row));
const percent = (share) => `${Math.round(100 * share)} %`;

/** How an answer [outputs] of each kind of head is said. */
const KINDS = {
	binary: ([share]) => percent(share),
	number: ([value]) => number(value),
	classes: (row, names) => `${names[top(row)].split("=").pop()} ${percent(Math.max(...row))}`,
};

export class Heads {
	#rows;

	/** `horizons` are 0 and two more. */
	constructor(heads, { outputs, values, novelty }, horizons) {
		Object.assign(this, { horizons, novelty });
		this.#rows = heads.map(({ name, kind, outputs: names }) => {
			const columns = names.map((each) => outputs.indexOf(each));
			const [now, ...later] = horizons.map((horizon) => values.get(horizon).map((row) => columns.map((c) => row[c])));
			const range = kind === "number" ? [Math.min(...now.flat()), Math.max(...now.flat())] : [0, 1];
			const say = (row) => KINDS[kind](row, names);
			return { name, now, later, range, say, canvas: canvas(`h-${name}`, `${name} over time`), words: h("span.soft") };
		});
	}

	elements() {
		const [, near, far] = this.horizons;
		return [
			h("p.soft", `● and ○: what it expects now of ${near} and of ${far} frames on. Where they meet the faint line, it was right.`),
			...this.#rows.map(({ name, words, canvas }) => h("div.row", h("h3", name, " ", words), canvas)),
		];
	}

	draw(at, over) {
		for (const { now, later, range: [low, high], say, canvas, words } of this.#rows) {
			// Of classes, the one that is likely now.
			const best = top(now[at]), ahead = later.map((rows, i) => ({ row: rows[at], on: this.horizons[i + 1] }));
			words.textContent = [say(now[at]), ...ahead.map(({ row, on }) => `${say(row)} in ${on}`)].join(" → ");
			timeline(canvas, {
				...over, low, high,
				lines: [{ values: now.map((row) => row[best]), ahead: true }],
				dots: ahead.map(({ row, on }, i) => ({ at: Math.min(over.count - 1, at + on), value: row[best], hollow: i > 0 })),
				ticks: [low, high].map((value) => [value, number(value, 2)]),
			});
		}
	}
}
