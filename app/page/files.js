// Reads recordings that a user drops: .csv, .npy and .npz, as float32 rows.

const KINDS = { f4: Float32Array, f8: Float64Array, i1: Int8Array, i2: Int16Array, i4: Int32Array, u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, b1: Uint8Array, i8: BigInt64Array, u8: BigUint64Array };
/** More rows are cut off: two minutes at 60 frames a second. */
export const MAX_ROWS = 7200;

/** Of a file's name and bytes: `{rows, width, features, names, note}`; throws an Error that says what is wrong. */
export async function read(name, buffer) {
	const bytes = new Uint8Array(buffer);
	const ending = name.toLowerCase().split(".").pop();
	if (ending === "csv" || ending === "tsv") return csv(new TextDecoder().decode(bytes));
	if (ending === "npy") return matrix(npy(bytes), name);
	if (ending === "npz") return npz(bytes, name);
	throw new Error(`${name} is no .csv, .npy or .npz; save the frames as one of these, a row a frame`);
}

function matrix({ shape, values }, name, episode = null) {
	if (shape.length !== 2 || !shape[0] || !shape[1]) {
		throw new Error(`${name} has the shape [${shape}]; it must be [frames, columns]`);
	}
	const width = shape[1];
	let rows = shape[0];
	const notes = [];
	if (episode) {
		const first = episode.values[0], end = episode.values.findIndex((each) => each !== first);
		if (end > 0) [rows] = [end, notes.push(`the first of several games, ${end} of ${shape[0]} rows`)];
	}
	if (rows > MAX_ROWS) [rows] = [MAX_ROWS, notes.push(`the first ${MAX_ROWS} rows of ${rows}`)];
	return { rows, width, features: Float32Array.from(values.subarray(0, rows * width), Number), names: null, note: notes.join("; ") };
}

function half(bits) {
	const sign = bits >> 15 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
	if (exponent === 31) return fraction ? NaN : sign * Infinity;
	return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

/** NumPy's format, https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
function npy(bytes) {
	const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
	if (bytes.length < 12 || bytes[0] !== 0x93 || String.fromCharCode(...bytes.subarray(1, 6)) !== "NUMPY") {
		throw new Error("this is no .npy array");
	}
	const long = bytes[6] > 1, start = long ? 12 : 10;
	const end = start + (long ? view.getUint32(8, true) : view.getUint16(8, true));
	const header = new TextDecoder("latin1").decode(bytes.subarray(start, end));
	const [, order, kind] = /'descr':\s*'([<>|=])([a-z]\d+)'/.exec(header) ?? [];
	const shape = (/'shape':\s*\(([^)]*)\)/.exec(header)?.[1] ?? "").split(",").map((s) => s.trim()).filter(Boolean).map(Number);
	if (order === ">" || !(kind in KINDS || kind === "f2")) {
		throw new Error(`the array holds ${kind ?? "no plain numbers"}; save it as float32`);
	}
	const Kind = kind === "f2" ? Uint16Array : KINDS[kind];
	const count = shape.reduce((a, b) => a * b, 1);
	if (bytes.length - end < count * Kind.BYTES_PER_ELEMENT) throw new Error("the file ends before the array does");
	let values = new Kind(bytes.slice(end, end + count * Kind.BYTES_PER_ELEMENT).buffer);
	if (kind === "f2") values = Float32Array.from(values, half);
	if (/'fortran_order':\s*True/.test(header) && shape.length === 2) {
		const [rows, width] = shape, turned = new Kind(count);
		for (let r = 0; r < rows; r += 1) for (let c = 0; c < width; c += 1) turned[r * width + c] = values[c * rows + r];
		values = turned;
	}
	return { shape, values };
}

/** A zip archive of arrays: `features`, and `episode` where there is one. */
async function npz(bytes, name) {
	const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
	let at = bytes.length - 22;
	while (at >= 0 && view.getUint32(at, true) !== 0x06054b50) at -= 1;
	if (at < 0) throw new Error(`${name} is no zip archive`);
	const arrays = {};
	for (let left = view.getUint16(at + 10, true), next = view.getUint32(at + 16, true); left > 0; left -= 1) {
		const method = view.getUint16(next + 10, true), size = view.getUint32(next + 20, true);
		const nameSize = view.getUint16(next + 28, true), local = view.getUint32(next + 42, true);
		const entry = new TextDecoder().decode(bytes.subarray(next + 46, next + 46 + nameSize));
		const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
		arrays[entry.replace(/\.npy$/, "")] = { method, packed: bytes.subarray(start, start + size) };
		next += 46 + nameSize + view.getUint16(next + 30, true) + view.getUint16(next + 32, true);
	}
	const names = Object.keys(arrays);
	const wanted = arrays.features ? "features" : names.length === 1 ? names[0] : null;
	if (!wanted) throw new Error(`${name} has no array 'features' (it has ${names.join(", ")}); save the rows under that name`);
	const episode = arrays.episode ? npy(await unpacked(arrays.episode)) : null;
	return matrix(npy(await unpacked(arrays[wanted])), name, episode);
}

async function unpacked({ method, packed }) {
	if (method === 0) return packed;
	const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
	return new Uint8Array(await new Response(stream).arrayBuffer());
}

function csv(text) {
	const lines = text.split(/\r?\n/).filter((line) => line.trim());
	if (!lines.length) throw new Error("the file is empty");
	const mark = ["\t", ";", ","].find((each) => lines[0].includes(each)) ?? ",";
	const cells = (line) => line.split(mark).map((cell) => cell.trim().replace(/^"(.*)"$/, "$1"));
	const isNumber = (cell) => cell !== "" && !Number.isNaN(Number(cell));
	const head = cells(lines[0]), names = head.every(isNumber) ? null : head;
	const body = lines.slice(names ? 1 : 0), width = head.length;
	if (!body.length) throw new Error("the file has names, but no rows");
	const episode = names?.indexOf("episode") ?? -1;
	const rows = [], notes = [];
	let game;
	for (const [i, line] of body.entries()) {
		const row = cells(line);
		if (row.length !== width) throw new Error(`line ${i + 1 + (names ? 1 : 0)} has ${row.length} cells, the first has ${width}`);
		game ??= row[episode];
		if (episode >= 0 && row[episode] !== game) {
			notes.push(`the first of several games, ${rows.length} of ${body.length} rows`);
			break;
		}
		if (rows.length === MAX_ROWS) {
			notes.push(`the first ${MAX_ROWS} rows of ${body.length}`);
			break;
		}
		rows.push(row.map((cell) => (/^true$/i.test(cell) ? 1 : /^false$/i.test(cell) ? 0 : cell === "" ? NaN : Number(cell))));
	}
	return { rows: rows.length, width, features: Float32Array.from(rows.flat()), names, note: notes.join("; ") };
}
