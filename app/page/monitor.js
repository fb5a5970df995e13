// Service: how it keeps up, from /metrics and /models/{name}/drift while this view is looked at.

import { timeline } from "./chart.js";
import { by, h, number, plural, table } from "./dom.js";
import { byLabel, parse, quantile, sum } from "./metrics.js";
import { ask, json } from "./service.js";

const EVERY_MS = 2000;
/** Drift changes slowly. */
const DRIFT_EVERY = 5;
const POINTS = 60;
const FRAME_MS = 1000 / 60;
const DURATION = "jepa_http_request_duration_seconds";
const asksAModel = ({ method }) => method === "POST" || method === "WS" || method === "GRPC";
const TILES = { rate: ["Requests a second", ""], p50: ["Half within", "ms"], p99: ["99 % within", "ms"], batch: ["Rows in a batch", ""], refused: ["Refused a second", ""] };
let page, timer = null, before = null, looks = 0, past = {};

export function renew() {
	[before, looks, past] = [null, 0, {}];
}

export function enter(shared) {
	page = shared;
	if (!by("service").childElementCount) build();
	if (timer === null) look();
}

export function leave() {
	clearTimeout(timer);
	timer = null;
}

function build() {
	by("service").append(
		h("div", { class: "head" }, h("h1", { id: "service-title" }, "How it keeps up"), h("p", { class: "soft" }, "Of all that ask it, every two seconds. A frame at 60 Hz lasts 16.7 ms.")),
		h("div", { class: "tiles" }, Object.entries(TILES).map(([name, [title, unit]]) => h("section", { class: "tile", "aria-labelledby": `t-${name}` },
			h("h2", { id: `t-${name}` }, title), h("p", {}, h("b", { id: `n-${name}` }, "–"), ` ${unit}`), h("canvas", { id: `c-${name}`, role: "img", "aria-label": `${title} over the last two minutes` })))),
		h("div", { class: "columns" }, h("section", { id: "refusals" }), h("section", { id: "drift" })));
}

async function look() {
	timer = setTimeout(look, EVERY_MS);
	if (document.hidden) return;
	try {
		const now = parse(await (await ask("metrics")).text()), seconds = EVERY_MS / 1000;
		if (before) {
			const rate = (name, which) => Math.max(0, sum(now, name, which) - sum(before, name, which)) / seconds;
			const runs = rate("jepa_infer_executions_total");
			const values = {
				rate: rate("jepa_http_requests_total", asksAModel),
				p50: 1000 * quantile(before, now, DURATION, 0.5, asksAModel),
				p99: 1000 * quantile(before, now, DURATION, 0.99, asksAModel),
				batch: runs ? rate("jepa_infer_rows_total") / runs : NaN,
				refused: rate("jepa_requests_rejected_total"),
			};
			for (const [name, value] of Object.entries(values)) past[name] = [...(past[name] ?? Array(POINTS).fill(NaN)), value].slice(-POINTS);
			draw();
		}
		before = now;
		const refused = Object.entries(byLabel(now, "jepa_requests_rejected_total", "reason")).filter(([, count]) => count);
		by("refusals").replaceChildren(h("h2", {}, "Refused since the start"), refused.length
			? table("Refusals by reason", ["reason", "requests"], refused.map(([reason, count]) => [reason.replaceAll("_", " "), count.toLocaleString("en")]))
			: h("p", { class: "soft" }, "Nothing was refused."));
		if (looks % DRIFT_EVERY === 0) drift(await json(`models/${page.model.name}/drift`));
		looks += 1;
	} catch {
		// The head of the page says what is wrong; the next look may be better.
		before = null;
	}
}

/** What the last five seconds of each stream were like, where the bundle can tell. */
function novel(novelty) {
	if (!novelty) return [];
	const { frames, mean, streams } = novelty, most = streams[0];
	return [h("h2", {}, "How novel it was"), h("p", {}, frames ? `${plural(frames, "frame")} of ${plural(streams.length, "stream")} in the last five seconds: farther from training than ${Math.round(mean)} % of held-out frames, in the most novel stream than ${Math.round(most.mean)} %.` : "No frame was judged in the last five seconds.")];
}

function drift({ rows, features, novelty }) {
	by("drift").replaceChildren(h("h2", {}, "Columns unlike training"), features.length
		? table(`Of ${plural(rows, "sampled row")}`, ["column", "finding", "outside", "mean, in training"], features.map((each) =>
			[each.name, each.detail.replace(`${each.name} `, "") + (each.looks_like ? `; looks like ${each.looks_like}` : ""), `${number(100 * each.share_outside, 2)} %`, `${number(each.mean)}, ${number(each.training_mean)}`]))
		: h("p", { class: "soft" }, rows ? `All are as in training, in ${plural(rows, "sampled row")}.` : "No row was sampled yet: about one request in 128 is."), ...novel(novelty));
}

export function draw() {
	for (const [name, values] of Object.entries(past)) {
		by(`n-${name}`).textContent = number(values.at(-1));
		const isTime = name === "p50" || name === "p99", high = Math.max(...values.filter((value) => !Number.isNaN(value)), isTime ? 20 : 1);
		timeline(by(`c-${name}`), { count: POINTS, high, lines: [{ values }], rule: isTime ? FRAME_MS : null, ticks: [[0, "0"], [high, number(high, 2)]], labels: ["2 min ago", "now"] });
	}
}
