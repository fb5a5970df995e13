// Asks the service; says when it goes away, comes back and wants a key.

/** "up", "down" (`detail`: why) and "key" (`detail`: whether the last one was wrong). */
export const events = new EventTarget();
let key = "", wanted = null, isUp = null;

const RETRY_MS = 1000;
const MAX_TRIES = 5;
const BINARY = "application/octet-stream";

export const hasKey = () => key !== "";

export function giveKey(text) {
	key = text.trim();
	wanted?.resolve();
	wanted = null;
}

/** Relative to this module, so that it holds behind any prefix. */
export const addressOf = (path) => new URL(`../../${path}`, import.meta.url);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const tell = (event, detail) => events.dispatchEvent(new CustomEvent(event, { detail }));

function found() {
	if (isUp === false) tell("up");
	isUp = true;
}

/** Looks for the service until it answers again. */
async function lost(why) {
	if (isUp === false) return;
	isUp = false;
	tell("down", why);
	while (!isUp) {
		await pause(RETRY_MS);
		if ((await fetch(addressOf("readyz")).catch(() => null))?.ok) found();
	}
}

/** Throws an Error, with the `status` of a refusal. */
export async function ask(path, { headers, ...options } = {}) {
	for (let tries = 1; ; tries += 1) {
		const used = key, auth = used && { Authorization: `Bearer ${used}` };
		const answer = await fetch(addressOf(path), { ...options, headers: { ...auth, ...headers } }).catch((error) => {
			if (error.name !== "AbortError") lost("nothing answers");
			throw error;
		});
		const { ok, status, statusText } = answer;
		if (ok) {
			found();
			return answer;
		}
		if (status === 401) {
			if (!wanted && used === key) {
				wanted = Promise.withResolvers();
				tell("key", hasKey());
			}
			await wanted?.promise;
			continue;
		}
		const { title, detail } = await answer.json().catch(() => ({ title: statusText }));
		// Bots go first.
		if (status === 429 && tries < MAX_TRIES) {
			await pause(RETRY_MS);
			continue;
		}
		if (status === 503) lost(detail);
		throw Object.assign(new Error(detail || title), { status });
	}
}

export const json = async (path, options) => (await ask(path, options)).json();

export const post = (path, document, signal) =>
	json(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(document), signal });

const query = (options) => `?${new URLSearchParams(Object.entries(options).filter(([, value]) => String(value) !== ""))}`;

/** POSTs float32 rows; the answer is a Float32Array, of forecasts a document. */
export async function postRows(path, rows, options, signal) {
	const isDocument = path === "forecast", headers = { "Content-Type": BINARY, Accept: isDocument ? "application/json" : BINARY };
	const answer = await ask(path + query(options), { method: "POST", headers, body: rows, signal });
	return isDocument ? answer.json() : new Float32Array(await answer.arrayBuffer());
}

/** Frames one by one over a WebSocket or, as a browser sends no key with that, by a POST each. */
export class Stream {
	#socket = null;
	#sent = new Map();

	/** `onAnswer(number, embedding, ms)` gets null for a frame that a newer one replaced. */
	constructor(options, onAnswer, onOpen) {
		Object.assign(this, { options, onAnswer });
		if (hasKey()) return;
		this.#socket = new WebSocket(addressOf("stream" + query(options)).href.replace("http", "ws"));
		Object.assign(this.#socket, { binaryType: "arraybuffer", onopen: onOpen });
		this.#socket.onmessage = ({ data }) => {
			if (typeof data === "string") this.#take(JSON.parse(data).seq, null);
			else this.#take(new DataView(data).getUint32(0, true), new Float32Array(data, 4));
		};
		this.#socket.onclose = () => {
			this.#socket = null;
			this.#sent.clear();
			lost("the stream ended");
		};
	}

	#take(number, embedding) {
		const began = this.#sent.get(number);
		this.#sent.delete(number);
		if (began !== undefined) this.onAnswer(number, embedding, performance.now() - began);
	}

	/** False where the frame cannot be sent now. */
	send(number, row) {
		// A browser opens six connections to a host.
		const isOpen = this.#socket ? this.#socket.readyState === WebSocket.OPEN : hasKey() && this.#sent.size < 6;
		if (!isOpen) return false;
		this.#sent.set(number, performance.now());
		if (this.#socket) {
			const message = Float32Array.of(0, ...row);
			new Uint32Array(message.buffer)[0] = number;
			this.#socket.send(message);
		} else postRows("embed", row, this.options).then((embedding) => this.#take(number, embedding), () => this.#sent.delete(number));
		return true;
	}

	close() {
		if (!this.#socket) return;
		this.#socket.onclose = null;
		this.#socket.close();
	}
}
