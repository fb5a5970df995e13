// Reads recordings that a user drops: .csv, .npy and .npz, as float32 rows.

const KINDS = {
	f2: globalThis.Float16Array, f4: Float32Array, f8: Float64Array, b1: Uint8Array,
	i1: Int8Array, i2: Int16Array, i4: Int32Array, i8: BigInt64Array,
	u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, u8: BigUint64Array,
};
const MAX_ROWS = 120 * 60;

/** `{rows, width, features, names, note}`; throws an Error that says what is wrong. */
export async function read(name, buffer) {
	const bytes = new Uint8Array(buffer), ending = name.toLowerCase().split(".").pop();
	if (ending === "csv") return firstGame(...csv(new TextDecoder().decode(bytes)));
	if (ending === "npy") return firstGame(npy(bytes));
	if (ending === "npz") return firstGame(...(await npz(bytes, name)));
	throw new Error(`${name} is no .csv, .npy or .npz; save it as one of these`);
}

/** `games` has one a row. */
function firstGame({ shape, values }, games = [], names = null) {
	const [all, width] = shape, end = games.findIndex((game) => game !== games[0]);
	if (shape.length !== 2 || !all || !width) throw new Error(`the array has the shape [${shape}]; it must be [frames, columns]`);
	const rows = Math.min(end < 0 ? all : end, MAX_ROWS);
	return { rows, width, features: Float32Array.from(values.subarray(0, rows * width), Number), names, note: rows < all ? `the first ${rows} of ${all} rows` : "" };
}

const viewOf = ({ buffer, byteOffset }) => new DataView(buffer, byteOffset);

/** The format that numpy.lib.format describes. */
function npy(bytes) {
	// Version 1 has two bytes for the length of its header, later ones four.
	const end = bytes[6] > 1 ? 12 + viewOf(bytes).getUint32(8, true) : 10 + viewOf(bytes).getUint16(8, true);
	const header = new TextDecoder("latin1").decode(bytes.subarray(10, end));
	const [, order, kind] = /'descr':\s*'([<>|=])([a-z]\d+)'/.exec(header) ?? [], Kind = KINDS[kind];
	const shape = (/'shape':\s*\(([^)]*)\)/.exec(header)?.[1].match(/\d+/g) ?? []).map(Number);
	if (order === ">" || !Kind) throw new Error(`the array holds ${kind ?? "no plain numbers"}; save it as float32`);
	const size = shape.reduce((a, b) => a * b, Kind.BYTES_PER_ELEMENT);
	if (bytes.length - end < size) throw new Error("the file ends before the array does");
	const values = new Kind(bytes.slice(end, end + size).buffer), [rows, width] = shape;
	if (!/'fortran_order':\s*True/.test(header)) return { shape, values };
	return { shape, values: values.map((_, i) => values[(i % width) * rows + Math.floor(i / width)]) };
}

/** A zip archive with `features`, and `episode` where there is one. */
async function npz(bytes, name) {
	const view = viewOf(bytes), arrays = {};
	let at = bytes.length - 22;
	while (at >= 0 && view.getUint32(at, true) !== 0x06054b50) at -= 1;
	if (at < 0) throw new Error(`${name} is no zip archive`);
	let next = view.getUint32(at + 16, true);
	for (let left = view.getUint16(at + 10, true); left > 0; left -= 1) {
		const [nameSize, extra, comment] = [28, 30, 32].map((field) => view.getUint16(next + field, true));
		const local = view.getUint32(next + 42, true), start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
		const entry = new TextDecoder().decode(bytes.subarray(next + 46, next + 46 + nameSize));
		const packed = bytes.subarray(start, start + view.getUint32(next + 20, true));
		const isPacked = view.getUint16(next + 10, true) > 0;
		arrays[entry.replace(/\.npy$/, "")] = async () => npy(isPacked ? await unpacked(packed) : packed);
		next += 46 + nameSize + extra + comment;
	}
	const names = Object.keys(arrays), wanted = names.length === 1 ? names[0] : "features";
	if (!arrays[wanted]) throw new Error(`${name} has no array 'features' (it has ${names.join(", ")}); save the rows under that name`);
	return [await arrays[wanted](), (await arrays.episode?.())?.values];
}

async function unpacked(packed) {
	const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
	return new Uint8Array(await new Response(stream).arrayBuffer());
}

function csv(text) {
	const lines = text.split(/\r?\n/).filter((line) => !/^\s*(# |$)/.test(line)), [mark] = /[\t;,]/.exec(lines[0]) ?? [","];
	const cells = (line) => line.split(mark).map((cell) => cell.trim().replace(/^"(.*)"$/, "$1"));
	const head = cells(lines[0] ?? ""), names = head.some((cell) => Number.isNaN(Number(cell))) ? head : null;
	const body = lines.slice(names ? 1 : 0), width = head.length;
	if (!body.length) throw new Error("the file has no rows");
	const rows = body.slice(0, MAX_ROWS).map(cells), wrong = rows.findIndex((row) => row.length !== width);
	if (wrong >= 0) throw new Error(`row ${wrong + 1} has ${rows[wrong].length} cells, the first line has ${width}`);
	const values = Float32Array.from(rows.flat(), (cell) => ({ true: 1, false: 0, "": NaN })[cell.toLowerCase()] ?? Number(cell));
	const episode = names?.indexOf("episode") ?? -1, games = episode < 0 ? [] : rows.map((row) => row[episode]);
	return [{ shape: [body.length, width], values }, games, names];
}
