// Model: what is served, below what the program does and what to do next.

import { by, h, number, plural, table } from "./dom.js";

const METRICS = {
	loss: "Loss: smooth L1 between what it expected and what came",
	loss_ratio: "The same over that of always expecting the mean",
	std: "Spread of an embedding's numbers; near 0 it has collapsed",
	rankme: "RankMe: how many directions the embeddings use",
};
let built = null;

export const renew = () => (built = null);

export function enter({ model, refused }) {
	if (built === model) return;
	built = model;
	const { training, metrics, statistics } = model;
	const facts = [
		`${plural(model.input_dim, "number")} in, ${model.embed_dim} out, up to ${model.horizons.at(-1)} frames ahead`,
		training.episodes && `Made of ${plural(training.rows, "frame")} of ${plural(training.episodes, "game")}`,
		model.data.source, model.licence && `Licence ${model.licence}`,
	];
	by("served").replaceChildren(
		h("h2", `Served: ${model.name}, version ${model.version}`),
		h("p", facts.filter(Boolean).join(". "), "."),
		...refused.map(({ bundle, reason }) => h("p.notice.wrong", `${bundle} is not served: ${reason}`)),
		h("h2", "How good is it"),
		table("On games held out of training", ["measure", "value"], Object.entries(metrics).map(([name, value]) => [METRICS[name] ?? name, number(value)])),
		...(model.heads?.length ? [headTable(model)] : []),
		h("h2", `${plural(model.input_dim, "column")} in ${plural(model.groups.length, "group")}`),
		...model.groups.map(({ name, start, stop }) => h("details",
			h("summary", h("b", name), ` ${plural(stop - start, "column")}`),
			table(`Columns of ${name}, in training`, ["column", "least", "mean", "most"], model.names.slice(start, stop).map((column, i) =>
				[column, ...["min", "mean", "max"].map((each) => number(statistics[each]?.[start + i]))])))),
	);
}

function headTable({ heads, horizons }) {
	const shown = [0, ...horizons].filter((horizon) => heads.some(({ table }) => table?.[horizon]));
	return table("Heads that can be asked for, with ROC AUC (numbers: R²) on held-out games",
		["head", ...shown.map((horizon) => (horizon ? `${horizon} on` : "now")), "of"],
		heads.map(({ name, labels, table: scores }) => [name, ...shown.map((horizon) => number(scores?.[horizon]?.auc ?? scores?.[horizon]?.r2)), labels]));
}
