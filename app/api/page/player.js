// Plays a recording at its rate: each frame goes to the service when it is due.

import { part } from "./recording.js";
import { Stream } from "./service.js";

const TRAIL_S = 1;
const MAX_TIMES = 600;
/** A tab in the background does not send all it missed. */
const MAX_STEPS = 12;

export class Player {
	#stream = null;
	#due = 0;
	#last = 0;
	#options;
	#times = [];
	at = 0;
	speed = 1;
	isPlaying = false;
	late = new Set();
	/** `{number, embedding}` of the last frames, from old to new. */
	answered = [];

	constructor(recording, onChange) {
		Object.assign(this, { recording, onChange });
	}

	ask(options = this.#options) {
		this.#options = options;
		this.close();
		this.#stream = new Stream(options, (number, embedding, ms) => this.#take(number, embedding, ms), () => this.#go(this.at));
	}

	get frameMs() {
		return 1000 / this.recording.rate;
	}

	#take(number, embedding, ms) {
		this.#times = [...this.#times.slice(1 - MAX_TIMES), ms];
		if (this.isPlaying && (ms > this.frameMs || !embedding)) this.late.add(number);
		if (embedding) {
			const isNext = Math.abs(number - this.answered.at(-1)?.number) <= 4 * this.speed + 1;
			this.answered = [...(isNext ? this.answered : []), { number, embedding }].slice(-TRAIL_S * this.recording.rate);
		}
		if (!this.isPlaying) this.onChange(false);
	}

	/** Milliseconds to an answer: p50 and p99. */
	get latency() {
		const sorted = this.#times.toSorted((a, b) => a - b);
		return [0.5, 0.99].map((share) => sorted[Math.floor(sorted.length * share)]);
	}

	#go(at) {
		this.at = Math.min(this.recording.rows - 1, Math.max(0, at));
		const isSent = this.#stream.send(this.at, part(this.recording, this.at));
		if (!isSent && this.isPlaying && this.answered.length) this.late.add(this.at);
	}

	play() {
		if (this.at >= this.recording.rows - 1) this.at = 0;
		this.isPlaying = true;
		this.#last = performance.now();
		requestAnimationFrame((now) => this.#tick(now));
	}

	pause() {
		this.isPlaying = false;
	}

	#tick(now) {
		if (!this.isPlaying) return;
		this.#due += ((now - this.#last) / this.frameMs) * this.speed;
		this.#last = now;
		for (let left = Math.min(Math.floor(this.#due), MAX_STEPS); left > 0 && this.isPlaying; left -= 1) {
			this.#go(this.at + 1);
			this.isPlaying = this.at < this.recording.rows - 1;
		}
		this.#due %= 1;
		this.onChange(!this.isPlaying);
		requestAnimationFrame((later) => this.#tick(later));
	}

	seek(at) {
		this.#go(at);
		this.onChange(true);
	}

	close() {
		this.#stream?.close();
	}
}
