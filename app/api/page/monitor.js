// Service: how it keeps up, while it is looked at.

import { timeline } from "./chart.js";
import { by, canvas, h, number, panel, plural, table, write } from "./dom.js";
import { parse, quantile, sum, sums } from "./metrics.js";
import { ask, json } from "./service.js";

const EVERY_MS = 2000;
const DRIFT_EVERY = 5;
const POINTS = 60;
const FRAME_MS = 1000 / 60;
const asksAModel = ({ method }) => /POST|WS|GRPC/.test(method);
const TILES = { rate: "Requests a second", p50: "Half within, in ms", p99: "99 % within, in ms", batch: "Rows in a batch" };
let page, timer = null, before = null, looks = 0, past = {};

export const renew = () => ([before, looks, past] = [null, 0, {}]);

export function enter(shared) {
	page = shared;
	if (!by("drift")) build();
	if (timer === null) look();
}

export function leave() {
	clearTimeout(timer);
	timer = null;
}

function build() {
	by("figures").append(
		h("div.tiles", Object.entries(TILES).map(([name, title]) =>
			panel(name, title, h(`b#n-${name}`, "–"), canvas(`c-${name}`, `${title} over time`)))),
		h("div.columns", h("section#refusals"), h("section#drift")));
}

async function look() {
	timer = setTimeout(look, EVERY_MS);
	if (document.hidden) return;
	try {
		const now = Object.assign(parse(await (await ask("metrics")).text()), { ms: performance.now() });
		if (before) note(now);
		before = now;
		refusals(now);
		if (looks % DRIFT_EVERY === 0) drift(await json(`models/${page.model.name}/drift`));
		looks += 1;
	} catch {
		// The page's head says why.
		before = null;
	}
}

function note(now) {
	const rate = (name, which) => (1000 * Math.max(0, sum(now, name, which) - sum(before, name, which))) / (now.ms - before.ms);
	const ms = (share) => 1000 * quantile(before, now, "jepa_http_request_duration_seconds", share, asksAModel);
	const values = {
		rate: rate("jepa_http_requests_total", asksAModel),
		p50: ms(0.5),
		p99: ms(0.99),
		batch: rate("jepa_infer_rows_total") / rate("jepa_infer_executions_total"),
	};
	for (const [name, value] of Object.entries(values)) past[name] = [...(past[name] ?? Array(POINTS).fill(NaN)), value].slice(-POINTS);
	draw();
}

function refusals(now) {
	const said = [...sums(now, "jepa_requests_rejected_total", "reason")].flatMap(([reason, count]) => (count ? `${reason.replaceAll("_", " ")}: ${count}` : []));
	by("refusals").replaceChildren(h("h2", "Refused so far"), h("p.soft", said.join(", ") || "Nothing."));
}

function drift({ rows, features, novelty }) {
	by("drift").replaceChildren(
		h("h2", "Columns unlike training"),
		features.length
			? table(`Of ${plural(rows, "sampled row")}`, ["column", "finding", "outside"], features.map((each) =>
				[each.name, each.detail, `${number(100 * each.share_outside, 2)} %`]))
			: h("p.soft", `None, of ${plural(rows, "sampled row")}.`),
		...(novelty ? [h("h2", "How novel it was"), h("p", novel(novelty))] : []));
}

function novel({ frames, mean, streams, misfits, swapped }) {
	if (!frames) return "No frame of late.";
	const odd = swapped ?? misfits, columns = odd.length ? ` ${swapped ? "Look exchanged" : "Unlike the rest"}: ${odd.join(", ")}.` : "";
	return `Farther from training than ${Math.round(mean)} % of held-out frames; the most novel stream: ${Math.round(streams[0].mean)} %.${columns}`;
}

export function draw() {
	for (const [name, values] of Object.entries(past)) {
		write(`n-${name}`, number(values.at(-1)));
		const isTime = TILES[name].endsWith("ms"), high = Math.max(isTime ? 20 : 1, ...values.filter(Number.isFinite));
		timeline(by(`c-${name}`), {
			count: POINTS, high,
			lines: [{ values }],
			rule: isTime ? FRAME_MS : null,
			ticks: [[0, "0"], [high, number(high, 2)]],
			labels: ["2 min ago", "now"],
		});
	}
}
