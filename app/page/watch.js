// Watch: a recording plays; one sees where the model takes each frame to be, what surprised it and what it expects.

import { map, timeline } from "./chart.js";
import { by, canvas, chips, clock, h, head, number, panel, plural, write } from "./dom.js";
import { Heads } from "./heads.js";
import { Player } from "./player.js";
import { embeddings, forecasts, peaks, places, Recording, surprise } from "./recording.js";
import { events } from "./service.js";

const MAX_MOMENTS = 6;
const MAX_HEADS = 6;
// What is watched, what is hidden in it, and what the model said: of whole frames, and as it sees them.
let page, model, recording, player, full, whole, seen, heads, moments, points, horizon;
let hidden = [], asked = new AbortController();

export function renew(shared) {
	asked.abort();
	player?.close();
	page = shared;
	model = page.model;
	recording = player = null;
	hidden = [];
	horizon = nearest(30);
	by("watch").replaceChildren();
}

const nearest = (frames) => model.horizons.reduce((a, b) => (Math.abs(b - frames) < Math.abs(a - frames) ? b : a));

export function enter() {
	if (!by("watch").childElementCount) build();
	if (recording) draw();
	else if (model.sample) open(Recording.sample(model));
	else say("Open a recording, or drop it here: a row a frame, its columns in the model's order or with their names.");
}

export function leave() {
	player?.pause();
	named();
}

function build() {
	const button = (id, text, name, onclick) => h(`button#${id}`, { "aria-label": name, onclick }, text);
	const speeds = [0.1, 0.25, 0.5, 1, 2].map((value) => h("option", { value, selected: value === 1 }, `${value} ×`));
	by("watch").append(
		head("Watch it play", h("p.soft#source"),
			h("label.button", "Open a recording …", h("input.unseen#file", { type: "file", accept: ".csv,.npy,.npz", onchange: ({ target }) => drop(target.files[0]) }))),
		h("p.notice#said", { role: "status", hidden: true }),
		h("div.deck#deck", { hidden: true },
			button("back", "◂", "One frame back", () => seek(player.at - 1)),
			button("play", "▶", "Play", () => (player.isPlaying ? player.pause() : player.play(), named())),
			button("on", "▸", "One frame on", () => seek(player.at + 1)),
			h("input#scrub", { type: "range", min: 0, value: 0, "aria-label": "Frame", oninput: ({ target }) => seek(Number(target.value)) }),
			h("output#clock", { for: "scrub" }),
			h("label", "Speed ", h("select", { onchange: ({ target }) => (player.speed = Number(target.value)) }, speeds))),
		h("p.unseen#live", { role: "status" }),
		h("div.panels#panels", { hidden: true },
			h("div",
				panel("map", "Where the model takes it to be", canvas("map", "Map of the embeddings"), h("p.soft#map-note")),
				panel("moments", "Most surprising moments", h("ol#moments"))),
			h("div",
				panel("surprise", "How surprising it was", canvas("surprise", "Surprise over time, in percentiles"), h("p#surprise-now")),
				panel("heads", "What it expects", h("div#heads")),
				panel("novelty", "How far it is from training", canvas("novelty", "Novelty over time, in percentiles"), h("p#novelty-now")),
				panel("time", "Whether it keeps up", h("p#time-now"))),
			h("div",
				panel("hide", "Hide from the model", h("p.soft#cost", { role: "status" }), chips("Groups of columns", "checkbox", model.groups.map(({ name }) => name), () => ({ onchange: hide }))))));
	by("watch").ondragover = (event) => event.preventDefault();
	by("watch").ondrop = (event) => {
		event.preventDefault();
		drop(event.dataTransfer.files[0]);
	};
}

function say(text, isWrong = false) {
	by("said").hidden = !text;
	by("said").classList.toggle("wrong", isWrong);
	write("said", text);
}

const drop = (file) => file && open(Recording.dropped(file, model));

async function open(reading) {
	leave();
	say("reading …");
	recording = await reading.catch(fail);
	if (!recording) return;
	player?.close();
	player = new Player(recording, update);
	full = whole = null;
	await analyse();
	const isStill = by("watch").hidden || matchMedia("(prefers-reduced-motion: reduce)").matches;
	if (recording && !isStill) player.play();
	named();
}

function fail(error) {
	if (error.name === "AbortError") return;
	by("deck").hidden = by("panels").hidden = true;
	recording = null;
	say(error.status ? `The service refused: ${error.message}` : error.message, true);
}

/** Asks for all that is drawn; again when a group is hidden. */
async function analyse() {
	asked.abort();
	asked = new AbortController();
	const { signal } = asked, names = hidden.join(","), horizons = [0, nearest(recording.rate / 2), nearest(recording.rate)];
	try {
		full ??= await embeddings(recording, model, signal);
		whole ??= await surprise(recording, model, [], horizon, full, signal);
		seen = hidden.length ? await surprise(recording, model, hidden, horizon, full, signal) : whole;
		const drawn = model.heads?.slice(0, MAX_HEADS) ?? [];
		heads = drawn.length ? new Heads(drawn, await forecasts(recording, model, drawn, names, horizons, signal), horizons) : null;
	} catch (error) {
		return fail(error);
	}
	moments = peaks(whole.losses, MAX_MOMENTS, recording.rate / 2);
	points = model.map ? places(full, model.map) : null;
	player.ask({ model: model.name, hidden: names });
	present();
}

function present() {
	const { name, note, source, rows, rate } = recording;
	write("source", `${name}${note ? ` (${note})` : ""}: ${source}. ${plural(rows, "frame")}, ${rate} a second.`);
	say("");
	const isShown = { deck: true, panels: true, "p-map": points, "p-heads": heads, "p-novelty": heads?.novelty };
	for (const [id, has] of Object.entries(isShown)) by(id).hidden = !has;
	by("scrub").max = rows - 1;
	by("heads").replaceChildren(...(heads?.elements() ?? []));
	if (points) {
		const [a, b] = model.map.explained;
		write("map-note", `Two principal components, ${number(100 * (a + b), 2)} % of the variance of ${model.map.source}.`);
	}
	by("moments").replaceChildren(...moments.map((at) =>
		h("li", h("button", { onclick: () => seek(at) }, h("b", clock(at / rate)), ` more surprising than ${Math.round(whole.percents[at])} %`))));
	write("cost", hidden.length
		? `Without ${hidden.join(", ")}, what it expects ${plural(horizon, "frame")} ahead is off by ${number(mean(seen.losses))} rather than ${number(mean(whole.losses))}.`
		: "Switch a group off, and see what the model loses without it.");
	update(true);
}

function mean(values) {
	const known = values.subarray(horizon);
	return known.reduce((sum, value) => sum + value, 0) / known.length;
}

function hide() {
	const boxes = [...document.querySelectorAll("#p-hide input")];
	hidden = boxes.filter(({ checked }) => checked).map(({ value }) => value);
	for (const box of boxes) box.disabled = !box.checked && hidden.length === boxes.length - 1;
	analyse();
}

function seek(at) {
	player.pause();
	player.seek(at);
}

function named() {
	const [text, name] = player?.isPlaying ? ["❚❚", "Pause"] : ["▶", "Play"];
	if (by("play")) Object.assign(by("play"), { textContent: text, ariaLabel: name });
}

/** `isRest`: not in the middle of playing, so that a screen reader hears of it. */
function update(isRest) {
	const { at, frameMs, late, latency: [p50, p99] } = player, percent = seen.percents[at], time = clock(at / recording.rate);
	Object.assign(by("scrub"), { value: at, ariaValueText: `frame ${at}, ${time}` });
	write("clock", `${time} · frame ${at}`);
	write("surprise-now", Number.isNaN(percent)
		? `Nothing was expected of the first ${plural(horizon, "frame")}.`
		: `It was more surprising than ${Math.round(percent)} % of held-out frames.`);
	write("time-now", p50 === undefined ? "No frame was sent yet."
		: `${number(p50, 2)} ms to an answer, 99 % within ${number(p99, 2)} ms; a frame lasts ${number(frameMs)} ms. ${late.size ? plural(late.size, "frame") : "No frame"} late.`);
	if (heads?.novelty) write("novelty-now", `Farther from the training frames than ${Math.round(heads.novelty[at])} % of those held out.`);
	page.frame = { row: recording.row(at), at, hidden };
	if (isRest) {
		named();
		write("live", `Frame ${at}. ${by("surprise-now").textContent}`);
	}
	draw();
}

export function draw() {
	if (!player || by("panels").hidden) return;
	const { at, answered, late } = player, { rows: count, rate } = recording;
	const over = { count, cursor: at, labels: ["0:00", clock(count / rate)], ticks: [0, 50, 100].map((value) => [value, value]) };
	const color = hidden.length ? "orange" : "blue", lines = [{ values: seen.percents, color, ahead: true }];
	if (hidden.length) lines.unshift({ values: whole.percents, color: "soft" });
	timeline(by("surprise"), { ...over, lines, marks: late, dots: [{ at, value: seen.percents[at], color }] });
	if (points) map(by("map"), points, answered.map(([, embedding]) => places(embedding, model.map)), moments.slice(0, 3));
	if (heads?.novelty) timeline(by("novelty"), { ...over, lines: [{ values: heads.novelty, ahead: true }] });
	heads?.draw(at, over);
}

events.addEventListener("up", () => player?.ask());
