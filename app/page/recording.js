// A recording, and what the model makes of it, which is asked in pieces so that bots beside are not held up.

import { read } from "./files.js";
import { ask, post, postRows } from "./service.js";

/** Rows of one request: enough to fill batches. */
const CHUNK_ROWS = 128;

export class Recording {
	/** `found` is what was read, with `features` [rows × width] in the order of the model's columns. */
	constructor(found, name, source, rate = 60) {
		Object.assign(this, found, { name, source, rate });
	}

	row(at) {
		return this.part(at, 1);
	}

	part(first, count) {
		return this.features.subarray(first * this.width, (first + count) * this.width);
	}

	/** The sample of a model's bundle. */
	static async sample({ name, sample }) {
		const bytes = await (await ask(`models/${name}/sample`)).arrayBuffer();
		return new Recording(await read("sample.npz", bytes), "The bundle's sample", sample.source, sample.rate);
	}

	/** What a user dropped; where its columns have names, they are matched by them. */
	static async dropped(file, model) {
		const found = await read(file.name, await file.arrayBuffer());
		return new Recording(found.names ? matched(found, model) : found, file.name, "your file, sent to this service alone");
	}
}

function matched(found, model) {
	const { rows, width, features, names } = found;
	const from = model.names.map((name) => names.indexOf(name)), missing = model.names.filter((_, i) => from[i] < 0);
	if (missing.length) {
		throw new Error(`the file lacks ${missing.length} columns of model '${model.name}', such as ${missing.slice(0, 3).join(", ")}`);
	}
	const picked = new Float32Array(rows * from.length).map((_, i) => features[Math.floor(i / from.length) * width + from[i % from.length]]);
	return { ...found, width: from.length, features: picked };
}

/** Calls `part(first, rows)` for each piece of `count` rows. */
async function pieces(count, part) {
	for (let first = 0; first < count; first += CHUNK_ROWS) await part(first, Math.min(CHUNK_ROWS, count - first));
}

/** The embeddings [rows × D] of the frames by the target encoder. */
export async function embeddings(recording, model, signal) {
	const size = model.embed_dim, out = new Float32Array(recording.rows * size);
	await pieces(recording.rows, async (first, count) => {
		out.set(await postRows("embed", recording.part(first, count), { model: model.name }, signal), first * size);
	});
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

const matrix = (flat, size) => Array.from({ length: flat.length / size }, (_, r) => [...flat.subarray(r * size, (r + 1) * size)]);

/** How surprising each frame is to one who saw the frame `horizon` before without the `hidden` groups: `losses`, and
 * as `percents` of held-out frames; NaN for the first ones. `targets` are the embeddings of what came. */
export async function surprise(recording, model, hidden, horizon, targets, signal) {
	const size = model.embed_dim, options = { model: model.name, horizon };
	const losses = new Float32Array(recording.rows).fill(NaN), percents = losses.slice();
	await pieces(Math.max(0, recording.rows - horizon), async (first, count) => {
		const predicted = await postRows("predict", recording.part(first, count), { ...options, hidden }, signal);
		const target = targets.subarray((first + horizon) * size, (first + horizon + count) * size);
		const answer = await post("loss", { ...options, predicted: matrix(predicted, size), target: matrix(target, size) }, signal);
		losses.set(answer.losses, first + horizon);
		percents.set(answer.percentiles ?? [], first + horizon);
	});
	return { losses, percents };
}

/** What `heads` say of each frame for each of `horizons`: `values` of a horizon are rows of `outputs`. */
export async function forecasts(recording, model, heads, hidden, horizons, signal) {
	const found = { outputs: [], values: new Map(), novelty: model.novelty ? [] : null };
	for (const horizon of new Set(horizons)) {
		const options = { model: model.name, heads: heads.map(({ name }) => name), hidden, horizon, novelty: horizon === 0 && found.novelty !== null };
		const values = [];
		await pieces(recording.rows, async (first, count) => {
			const answer = await postRows("forecast", recording.part(first, count), options, signal);
			found.outputs = answer.outputs;
			values.push(...answer.values);
			found.novelty?.push(...(answer.novelty ?? []));
		});
		found.values.set(horizon, values);
	}
	return found;
}

/** The frames of the largest values, at most `count`, each `apart` frames from the others or more. */
export function peaks(values, count, apart) {
	const found = [];
	for (const at of [...values.keys()].filter((at) => !Number.isNaN(values[at])).sort((a, b) => values[b] - values[a])) {
		if (found.length < count && found.every((other) => Math.abs(other - at) >= apart)) found.push(at);
	}
	return found;
}
