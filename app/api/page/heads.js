// What the heads say: now, and at two horizons beside what then came.

import { timeline } from "./chart.js";
import { canvas, h, number } from "./dom.js";

const MIN_GAP = 0.1;
const top = (row) => row.indexOf(Math.max(...row));
const percent = (share) => `${Math.round(100 * share)}\xa0%`;

const KINDS = {
	binary: ([share]) => percent(share),
	number: ([value]) => number(value),
	classes: (row, names) => `${names[top(row)].split("=").pop()} ${percent(Math.max(...row))}`,
};

export class Heads {
	#rows;

	constructor(heads, { outputs, values, novelty }, horizons) {
		Object.assign(this, { horizons, novelty });
		this.#rows = heads.map(({ name, kind, outputs: names }) => {
			const columns = names.map((each) => outputs.indexOf(each));
			const [now, ...later] = values.map((rows) => rows.map((row) => columns.map((c) => row[c])));
			const lines = names.map((_, i) => [{ values: now.map((row) => row[i]) }]);
			const [low, high] = kind === "number" ? [Math.min(...now.flat()), Math.max(...now.flat())] : [0, 1];
			const scale = { low, high, ticks: [low, high].map((value) => [value, number(value, 2)]) };
			return { name, names, kind, now, later, lines, scale, canvas: canvas(`h-${name}`, `${name} over time`), words: h("span.soft") };
		});
	}

	elements() {
		const [, near, far] = this.horizons;
		return [
			h("p.soft", `● and ○: what it expects ${near} and ${far} frames on. Where they meet the faint line, it was right.`),
			...this.#rows.map(({ name, words, canvas }) => h("div.row", h("h3", name, " ", words), canvas)),
		];
	}

	/** The outcome that was expected worst. */
	worst(at) {
		const gaps = this.#rows.filter(({ kind }) => kind !== "number").flatMap(({ names, now, later: [near] }) =>
			names.map((name, i) => ({ name, was: near[at - this.horizons[1]]?.[i], came: now[at][i] })));
		const gap = ({ was, came }) => Math.abs(was - came), [worst] = gaps.sort((a, b) => gap(b) - gap(a));
		return worst && gap(worst) > MIN_GAP ? [`${worst.name} expected at ${percent(worst.was)}, came at ${percent(worst.came)}`] : [];
	}

	say(at) {
		for (const { kind, names, now, later, words } of this.#rows) {
			const [first, ...rest] = [now, ...later].map((rows) => KINDS[kind](rows[at], names));
			words.textContent = [first, ...rest.map((said, i) => `${said} in ${this.horizons[i + 1]}`)].join(" → ");
		}
	}

	draw(at, over) {
		for (const { now, later, lines, scale, canvas } of this.#rows) {
			// Of classes, the one that is likely now.
			const best = top(now[at]);
			timeline(canvas, {
				...over, ...scale, lines: lines[best],
				dots: later.map((rows, i) => ({ at: Math.min(over.count - 1, at + this.horizons[i + 1]), value: rows[at][best], hollow: i > 0 })),
			});
		}
	}
}
