// A recording, and what the model makes of it, asked in pieces so that bots are not held up.

import { number } from "./dom.js";
import { read } from "./files.js";
import { ask, post, postRows } from "./service.js";

/** Enough to fill batches. */
const CHUNK_ROWS = 128;
const MAX_CHANGES = 3;

/** The sample of a model's bundle: `features` [rows × width] in the order of the model's columns, and what they are. */
export async function sample({ name, sample }) {
	const bytes = await (await ask(`models/${name}/sample`)).arrayBuffer();
	return { ...(await read("sample.npz", bytes)), name: "The bundle's sample", ...sample };
}

/** The same of a dropped file; columns with names are matched by them. */
export async function dropped(file, model) {
	const found = await read(file.name, await file.arrayBuffer());
	return { ...(found.names ? matched(found, model) : found), name: file.name, source: "your file, sent to this service alone", rate: 60 };
}

/** `count` rows, flat. */
export const part = ({ features, width }, first, count = 1) => features.subarray(first * width, (first + count) * width);

function matched(found, { name, names: wanted }) {
	const { rows, width, features, names } = found, size = wanted.length;
	const from = wanted.map((column) => names.indexOf(column)), missing = wanted.filter((_, i) => from[i] < 0);
	if (missing.length) throw new Error(`the file lacks ${missing.length} columns of model '${name}', such as ${missing[0]}`);
	const picked = new Float32Array(rows * size).map((_, i) => features[Math.floor(i / size) * width + from[i % size]]);
	return { ...found, width: size, features: picked };
}

/** `[first, rows]` of the pieces of `count` frames. */
function* pieces(recording, count = recording.rows) {
	for (let first = 0; first < count; first += CHUNK_ROWS) yield [first, part(recording, first, Math.min(CHUNK_ROWS, count - first))];
}

/** The embeddings [rows × D] of the frames by the target encoder. */
export async function embeddings(recording, { name: model, embed_dim: size }, signal) {
	const out = new Float32Array(recording.rows * size);
	for (const [first, rows] of pieces(recording)) out.set(await postRows("embed", rows, { model }, signal), first * size);
	return out;
}

/** Where embeddings lie on the bundle's map: [rows × 2]. */
export function places(embedded, { mean, components }) {
	const size = mean.length, out = new Float32Array((2 * embedded.length) / size);
	for (let i = 0; i < embedded.length; i += 1) {
		const row = Math.floor(i / size), column = i % size, away = embedded[i] - mean[column];
		out[2 * row] += away * components[0][column];
		out[2 * row + 1] += away * components[1][column];
	}
	return out;
}

/** Where things are, by columns such as own_x and own_y: `{label, points: [rows × 2]}`. */
export const things = ({ rows, width, features }, { names }) =>
	names.flatMap((name, x) => {
		const [, label = ""] = /^(?!prev|proj)([a-z]+_)?x$/.exec(name) ?? [], y = names.indexOf(`${label}y`);
		return name !== `${label}x` || y < 0 ? [] : { label: label.slice(0, -1), points: new Float32Array(2 * rows).map((_, i) => features[(i >> 1) * width + (i % 2 ? y : x)]) };
	});

/** The columns that changed most in `horizon` frames, by their spread in training. */
export function changes(recording, { names, statistics: { std } }, at, horizon) {
	const before = part(recording, at - horizon), now = part(recording, at);
	const sizes = names.map((_, i) => Math.abs(now[i] - before[i]) / (std?.[i] || 1));
	return peaks(sizes, MAX_CHANGES, 0).filter((i) => sizes[i]).map((i) => `${names[i]} ${number(before[i])} → ${number(now[i])}`);
}

/** Rows for JSON, where four decimals are a third of the bytes of all. */
const matrix = (flat, size) =>
	Array.from({ length: flat.length / size }, (_, r) => Array.from(flat.subarray(r * size, (r + 1) * size), (value) => +value.toFixed(4)));

/** How surprising each frame is after the one `horizon` before, seen without the `hidden` groups, also as `percents` of
 * held-out frames; NaN for the first ones. `targets` are the embeddings of what came. */
export async function surprise(recording, { name: model, embed_dim: size }, hidden, horizon, targets, signal) {
	const losses = new Float32Array(recording.rows).fill(NaN), percents = losses.slice();
	for (const [first, rows] of pieces(recording, recording.rows - horizon)) {
		const predicted = matrix(await postRows("predict", rows, { model, horizon, hidden }, signal), size), start = first + horizon;
		const target = matrix(targets.subarray(start * size, (start + predicted.length) * size), size);
		const answer = await post("loss", { model, horizon, predicted, target }, signal);
		losses.set(answer.losses, start);
		percents.set(answer.percentiles ?? [], start);
	}
	return { losses, percents };
}

/** What `heads` say of each frame: for each of `horizons`, `values` are rows of `outputs`. */
export async function forecasts(recording, { name: model, novelty }, heads, hidden, horizons, signal) {
	const found = { values: horizons.map(() => []), novelty: novelty && [] };
	for (const [i, horizon] of horizons.entries()) {
		const options = { model, heads: heads.map(({ name }) => name), hidden, horizon, novelty: i === 0 && Boolean(novelty) };
		for (const [, rows] of pieces(recording)) {
			const answer = await postRows("forecast", rows, options, signal);
			found.outputs = answer.outputs;
			found.values[i].push(...answer.values);
			found.novelty?.push(...(answer.novelty ?? []));
		}
	}
	return found;
}

/** Where the `count` largest values are that lie `apart` or more from each other. */
export function peaks(values, count, apart) {
	const found = [];
	for (const at of [...values.keys()].filter((at) => !Number.isNaN(values[at])).sort((a, b) => values[b] - values[a])) {
		if (found.length < count && found.every((other) => Math.abs(other - at) >= apart)) found.push(at);
	}
	return found;
}
