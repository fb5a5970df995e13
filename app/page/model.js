// Model: what the program does, what is served, and what to do next.

import { by, h, number, plural, table } from "./dom.js";

const METRICS = {
	loss: ["Loss on held-out games", "smooth L1 between what was predicted and what came"],
	loss_ratio: ["Beside the mean", "its loss over that of predicting the mean; below 1 something was learned"],
	std: ["Spread", "of an embedding's numbers; near 0 the encoder has collapsed"],
	rankme: ["RankMe", "how many directions the embeddings use"],
};
let built = null;

export const renew = () => (built = null);

export function enter({ model, refused }) {
	if (built === model) return;
	built = model;
	const { training, metrics, statistics } = model;
	const next = (href, title, text) => h("a.next", { href }, h("b", title), h("span.soft", text));
	const facts = {
		"Made of": training.rows ? `${plural(training.rows, "row")} of ${plural(training.episodes, "episode")}` : "–",
		Source: model.data.source ?? "–",
		Licence: model.licence || "–",
	};
	by("model").replaceChildren(
		h("div.hero",
			h("h1", "What in this frame matters for the next?"),
			h("p", `jepa-serve learned it from recorded games, without labels. Post a frame of ${plural(model.input_dim, "number")}: get back ${model.embed_dim} that say where the game stands, what it expects ${model.horizons.join(", ")} frames later, and how surprising what came was. Before the next frame is due.`)),
		h("div.nexts",
			next("#/watch", "Watch it play", model.sample ? "with what it expects and what surprises it" : "a recording of yours"),
			next("#/call", "Call it from your bot", "in curl, Python or JavaScript"),
			next("#/service", "See how it keeps up", "requests, latency, drift"),
			next("docs", "Look up the API", "every endpoint, with requests to try")),
		h("h2", `Served: ${model.name}, version ${model.version}`),
		h("dl.facts", Object.entries(facts).map(([term, value]) => h("div", h("dt", term), h("dd", value)))),
		...refused.map(({ bundle, reason }) => h("p.notice.wrong", `${bundle} is not served: ${reason}`)),
		h("h2", "How good is it"),
		table("What training measured on games held out of it", ["measure", "value", "what it is"],
			Object.entries(metrics).map(([name, value]) => [METRICS[name]?.[0] ?? name, number(value), METRICS[name]?.[1] ?? ""])),
		...(model.heads?.length ? [headTable(model)] : []),
		h("h2", `${plural(model.input_dim, "column")} in ${plural(model.groups.length, "group")}`),
		...model.groups.map(({ name, start, stop }) => h("details",
			h("summary", h("b", name), ` ${plural(stop - start, "column")}`),
			table(`Columns of ${name}, in training`, ["column", "least", "mean", "most"], model.names.slice(start, stop).map((column, i) =>
				[column, ...["min", "mean", "max"].map((each) => number(statistics[each]?.[start + i]))])))),
	);
}

/** Heads, with what their tables measured of frames that are there and of the horizons. */
function headTable({ heads, horizons }) {
	const shown = [0, ...horizons].filter((horizon) => heads.some(({ table }) => table?.[horizon]));
	return table("Heads: what can be asked for by name, with ROC AUC (numbers: R²) on held-out games",
		["head", "of", ...shown.map((horizon) => (horizon ? `${horizon} on` : "now"))],
		heads.map(({ name, labels, table: scores }) => [
			name, labels, ...shown.map((horizon) => number(scores?.[horizon]?.auc ?? scores?.[horizon]?.r2))]));
}
