// Plays a recording at its rate: each frame goes to the service when it is due, and its answer is drawn when it comes.

import { Stream } from "./service.js";

/** How long an answer is drawn as a part of the trail. */
const TRAIL_S = 1;

export class Player {
	#stream = null;
	#due = 0;
	#last = null;
	#options = {};
	#latencies = [];
	at = 0;
	speed = 1;
	isPlaying = false;
	late = new Set();
	/** [frame, embedding] of the frames that were answered last, from old to new. */
	answered = [];

	constructor(recording, options, onChange) {
		this.recording = recording;
		this.onChange = onChange;
		this.ask(options);
	}

	/** Opens a stream with other options, such as hidden groups. */
	ask(options) {
		this.#options = options;
		this.close();
		this.#stream = new Stream(options, (number, embedding, ms) => this.#take(number, embedding, ms));
	}

	reopen() {
		this.ask(this.#options);
	}

	get frameMs() {
		return 1000 / this.recording.rate;
	}

	#take(number, embedding, ms) {
		this.#latencies.push(ms);
		if (this.#latencies.length > 600) this.#latencies.shift();
		if (ms > this.frameMs || !embedding) this.late.add(number);
		const keep = Math.ceil(TRAIL_S * this.recording.rate);
		if (embedding) {
			const isNext = this.answered.length && Math.abs(number - this.answered.at(-1)[0]) <= 4 * this.speed + 1;
			this.answered = [...(isNext ? this.answered : []), [number, embedding]].slice(-keep);
		}
		if (!this.isPlaying) this.onChange(false);
	}

	/** Milliseconds from a frame to its answer: half of them took less, and all but one in a hundred. */
	get latency() {
		const sorted = [...this.#latencies].sort((a, b) => a - b);
		return [0.5, 0.99].map((share) => sorted[Math.floor(sorted.length * share)]);
	}

	#send(at) {
		if (this.#stream.send(at, this.recording.row(at))) return;
		if (this.isPlaying && this.answered.length) this.late.add(at);
	}

	play() {
		if (this.isPlaying) return;
		if (this.at >= this.recording.rows - 1) this.at = 0;
		this.isPlaying = true;
		this.#last = null;
		requestAnimationFrame((now) => this.#tick(now));
	}

	pause() {
		this.isPlaying = false;
	}

	#tick(now) {
		if (!this.isPlaying) return;
		this.#due += this.#last === null ? 0 : ((now - this.#last) / this.frameMs) * this.speed;
		this.#last = now;
		// A tab that was in the background does not send all that it missed.
		let steps = Math.min(Math.floor(this.#due), 12);
		this.#due -= Math.floor(this.#due);
		for (; steps > 0; steps -= 1) {
			if (this.at >= this.recording.rows - 1) {
				this.pause();
				break;
			}
			this.at += 1;
			this.#send(this.at);
		}
		this.onChange(!this.isPlaying);
		requestAnimationFrame((later) => this.#tick(later));
	}

	/** Shows one frame. */
	seek(at) {
		this.at = Math.min(this.recording.rows - 1, Math.max(0, at));
		this.#send(this.at);
		this.onChange(true);
	}

	close() {
		this.#stream?.close();
	}
}
