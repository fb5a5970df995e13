// Asks the service. Says so when it goes away, waits until it is back, and asks the user for a key where it wants one.

/** "up", "down" (with the reason as `detail`) and "key". */
export const events = new EventTarget();
// In this page's memory alone.
let key = "", given = null, isUp = null;

const RETRY_MS = 1000;
const MAX_TRIES = 5;
const BINARY = "application/octet-stream";

/** What a problem document (RFC 9457) says. */
export class Problem extends Error {
	constructor({ title = "The service refused", status, detail = "", type = "" }) {
		super(detail || title);
		Object.assign(this, { title, status, type });
	}
}

export const hasKey = () => key !== "";

export function giveKey(text) {
	key = text.trim();
	given?.resolve();
	given = null;
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function tell(up, why = "") {
	const before = isUp;
	isUp = up;
	if (up ? before === false : before !== false) events.dispatchEvent(new CustomEvent(up ? "up" : "down", { detail: why }));
}

/** Notes that a stream broke, and looks for the service until it answers again. */
export async function lost(why) {
	if (isUp === false) return;
	tell(false, why);
	while (!isUp) {
		await pause(RETRY_MS);
		try {
			const answer = await fetch(new URL("readyz", document.baseURI), { cache: "no-store" });
			if (answer.ok) tell(true);
		} catch {
			// Still away.
		}
	}
}

async function wantKey(isWrong) {
	if (!given) {
		let resolve;
		const promise = new Promise((done) => (resolve = done));
		given = { promise, resolve };
		events.dispatchEvent(new CustomEvent("key", { detail: isWrong }));
	}
	await given.promise;
}

/** The answer to a request; throws a Problem for a refusal, and a TypeError where nobody answers. */
export async function ask(path, { headers = {}, ...options } = {}) {
	for (let tries = 1; ; tries += 1) {
		const used = key, auth = key ? { Authorization: `Bearer ${key}` } : {};
		let answer;
		try {
			answer = await fetch(new URL(path, document.baseURI), { ...options, headers: { ...auth, ...headers } });
		} catch (error) {
			if (error.name !== "AbortError") lost("nothing answers");
			throw error;
		}
		if (answer.ok) {
			tell(true);
			return answer;
		}
		if (answer.status === 401) {
			if (used === key) await wantKey(used !== "");
			continue;
		}
		const problem = new Problem(await answer.json().catch(() => ({ status: answer.status, detail: answer.statusText })));
		// Bots go first: what this page asks for beside them waits.
		if (answer.status !== 429 || tries === MAX_TRIES) {
			if (answer.status === 503) lost(problem.message);
			throw problem;
		}
		await pause(RETRY_MS);
	}
}

export const json = async (path, options) => (await ask(path, options)).json();

export const post = (path, document, signal) =>
	json(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(document), signal });

const query = (options) => {
	const filled = Object.entries(options).filter(([, value]) => value !== undefined && String(value) !== "");
	return filled.length ? "?" + new URLSearchParams(filled.map(([name, value]) => [name, String(value)])) : "";
};

/** POSTs float32 rows as they are in memory; the answer is Float32Array or, with `as` "json", a document. */
export async function postRows(path, rows, options, as = "floats", signal = undefined) {
	const headers = { "Content-Type": BINARY, Accept: as === "floats" ? BINARY : "application/json" };
	const answer = await ask(path + query(options), { method: "POST", headers, body: rows, signal });
	return as === "floats" ? new Float32Array(await answer.arrayBuffer()) : answer.json();
}

/** Frames one by one over a WebSocket or, as that sends no key, by a POST each. */
export class Stream {
	#socket = null;
	#options;
	#sent = new Map();
	#closed = false;

	/** `onAnswer(number, embedding, ms)` is called for each frame, with null for one that a newer one replaced. */
	constructor(options, onAnswer) {
		this.#options = options;
		this.onAnswer = onAnswer;
		if (!hasKey()) this.#open();
	}

	get waiting() {
		return this.#sent.size;
	}

	#open() {
		const url = new URL("stream" + query(this.#options), document.baseURI);
		url.protocol = url.protocol.replace("http", "ws");
		const socket = new WebSocket(url);
		socket.binaryType = "arraybuffer";
		socket.onmessage = ({ data }) => {
			if (typeof data === "string") return this.#take(JSON.parse(data).seq, null);
			this.#take(new DataView(data).getUint32(0, true), new Float32Array(data, 4));
		};
		socket.onclose = () => {
			this.#socket = null;
			this.#sent.clear();
			if (!this.#closed) lost("the stream ended");
		};
		this.#socket = socket;
	}

	#take(number, embedding) {
		const began = this.#sent.get(number);
		this.#sent.delete(number);
		if (began !== undefined) this.onAnswer(number, embedding, performance.now() - began);
	}

	/** False where the frame cannot be sent now. */
	send(number, row) {
		if (this.#closed || (this.#socket && this.#socket.readyState !== WebSocket.OPEN)) return false;
		if (this.#socket) {
			const message = new Uint8Array(4 + row.byteLength);
			new DataView(message.buffer).setUint32(0, number, true);
			message.set(new Uint8Array(row.buffer, row.byteOffset, row.byteLength), 4);
			this.#sent.set(number, performance.now());
			this.#socket.send(message);
			return true;
		}
		// A browser opens six connections to a host.
		if (!hasKey() || this.#sent.size >= 6) return false;
		this.#sent.set(number, performance.now());
		postRows("embed", row.slice(), this.#options).then(
			(embedding) => this.#take(number, embedding),
			() => this.#sent.delete(number),
		);
		return true;
	}

	close() {
		this.#closed = true;
		this.#socket?.close();
	}
}
