// Watch: a recording plays; one sees where the model takes each frame to be, what surprised it and what it expects.

import { frameAt, map, stage, timeline } from "./chart.js";
import { by, clock, h, number, ordinal, plural } from "./dom.js";
import { Heads } from "./heads.js";
import { Player } from "./player.js";
import { changes, embeddings, forecasts, peaks, places, Recording, surprise, tracks } from "./recording.js";
import { events } from "./service.js";

const MOMENTS = 6;
// A model may have hundreds.
const MAX_HEADS = 6;
// What is watched, what is hidden in it, and what the model said: of whole frames, and as it sees them.
let page, model, recording, player, whole, seen, heads, moments, points, things, horizon;
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
	else if (model.sample) open(() => Recording.sample(model), !matchMedia("(prefers-reduced-motion: reduce)").matches);
	else say("This model has no sample. Open a recording, or drop it here: a row a frame, its columns in the model's order or with their names.");
}

export const leave = () => pause();

function build() {
	const canvas = (id, label) => h("canvas", { id, role: "img", "aria-label": label });
	const button = (id, label, text, onclick) => h("button", { id, "aria-label": label, title: label, onclick }, text);
	const choice = (id, values, chosen, text, onchange) => h("select", { id, onchange: ({ target }) => onchange(Number(target.value)) },
		values.map((value) => h("option", { value, selected: value === chosen }, text(value))));
	const panel = (name, title, ...content) => h("section", { id: `p-${name}`, class: "panel", "aria-labelledby": `t-${name}` }, h("h2", { id: `t-${name}` }, title), content);
	by("watch").append(
		h("div", { class: "head" }, h("h1", { id: "watch-title" }, "Watch it play"), h("p", { id: "source", class: "soft" }),
			h("label", { class: "button" }, "Open a recording …",
				h("input", { id: "file", type: "file", accept: ".csv,.npy,.npz", class: "unseen", onchange: ({ target }) => drop(target.files[0]) }))),
		h("p", { id: "said", role: "status", class: "notice", hidden: true }),
		h("div", { id: "deck", class: "deck", hidden: true },
			button("back", "One frame back", "◂", () => seek(player.at - 1)),
			button("play", "Play", "▶", () => (player.isPlaying ? pause() : (player.play(), named()))),
			button("on", "One frame on", "▸", () => seek(player.at + 1)),
			h("input", { id: "scrub", type: "range", min: 0, value: 0, "aria-label": "Frame", oninput: ({ target }) => seek(Number(target.value)) }),
			h("output", { id: "clock", for: "scrub" }),
			h("label", {}, "Speed ", choice("speed", [0.1, 0.25, 0.5, 1, 2], 1, (speed) => `${speed} ×`, (speed) => (player.speed = speed)))),
		h("p", { id: "live", role: "status", class: "unseen" }),
		h("div", { id: "panels", class: "panels", hidden: true },
			h("div", {},
				panel("map", "Where the model takes it to be", canvas("map", "Map of the embeddings"), h("p", { id: "map-note", class: "soft" })),
				panel("hide", "Hide from the model", h("p", { id: "cost", class: "soft", role: "status" }),
					h("fieldset", { class: "chips" }, h("legend", { class: "unseen" }, "Groups of columns to hide"),
						model.groups.map(({ name }) => h("label", {}, h("input", { type: "checkbox", value: name, onchange: hide }), name))))),
			h("div", {},
				panel("surprise", "How surprising it was", canvas("surprise", "Surprise over time, in percentiles"), h("p", { id: "surprise-now" }),
					h("label", {}, "Expected ", choice("ahead", model.horizons, horizon, (frames) => plural(frames, "frame"), (frames) => ((horizon = frames), again())), " before")),
				panel("heads", "What it expects", h("div", { id: "heads" })),
				panel("novelty", "How far it is from training", canvas("novelty", "Novelty over time, in percentiles"), h("p", { id: "novelty-now" })),
				panel("time", "Whether it keeps up", h("p", { id: "time-now" }))),
			h("div", {},
				panel("stage", "Where the frame says they are", canvas("stage", "Places in the frame")),
				panel("moments", "Most surprising moments", h("ol", { id: "moments" })))),
	);
	for (const id of ["surprise", "novelty"]) by(id).onpointerdown = (event) => seek(frameAt(event.target, event, recording.rows));
	by("watch").ondragover = (event) => event.preventDefault();
	by("watch").ondrop = (event) => {
		event.preventDefault();
		drop(event.dataTransfer.files[0]);
	};
}

function say(text, isWrong = false) {
	by("said").hidden = !text;
	by("said").classList.toggle("wrong", isWrong);
	by("said").textContent = text;
}

const drop = (file) => file && open(() => Recording.dropped(file, model), false);

async function open(make, plays) {
	pause();
	say("reading …");
	try {
		recording = await make();
		whole = null;
		await analyse();
		if (plays && !by("watch").hidden) player.play();
		named();
	} catch (error) {
		fail(error);
	}
}

const again = () => analyse().catch(fail);

function fail(error) {
	if (error.name === "AbortError") return;
	by("deck").hidden = by("panels").hidden = true;
	recording = null;
	say(error.status ? `The service refused: ${error.message}` : error.message, true);
}

/** Asks for all that is drawn; again when a group is hidden or another horizon chosen. */
async function analyse() {
	asked.abort();
	asked = new AbortController();
	const { signal } = asked, names = hidden.join(",");
	const full = whole?.full ?? (await embeddings(recording, model, signal));
	if (whole?.horizon !== horizon) whole = { full, horizon, ...(await surprise(recording, model, [], horizon, full, signal)) };
	seen = hidden.length ? await surprise(recording, model, hidden, horizon, full, signal) : whole;
	const horizons = [0, nearest(recording.rate / 2), nearest(recording.rate)];
	const drawn = model.heads?.slice(0, MAX_HEADS);
	heads = drawn?.length ? new Heads(drawn, await forecasts(recording, model, drawn, names, horizons, signal), horizons) : null;
	moments = peaks(whole.losses, MOMENTS, recording.rate / 2);
	points = model.map ? places(full, model.map) : null;
	things = tracks(recording, model);
	const options = { model: model.name, hidden: names };
	if (player?.recording === recording) player.ask(options);
	else {
		player?.close();
		player = new Player(recording, options, update);
	}
	present();
}

function present() {
	const { name, note, source, rows, rate } = recording;
	by("source").textContent = `${name}${note ? ` (${note})` : ""}: ${source}. ${plural(rows, "frame")}, ${rate} a second.`;
	say("");
	by("deck").hidden = by("panels").hidden = false;
	by("scrub").max = rows - 1;
	by("p-map").hidden = !points;
	by("p-stage").hidden = !things.length;
	by("p-heads").hidden = !heads;
	by("p-novelty").hidden = !heads?.novelty;
	if (heads) by("heads").replaceChildren(...heads.elements());
	if (points) {
		const [a, b] = model.map.explained.map((share) => number(100 * share, 2));
		by("map-note").textContent = `Two of ${model.embed_dim} dimensions, the first two principal components: ${a} % and ${b} % of the variance of ${model.map.source}.`;
	}
	by("moments").replaceChildren(...moments.map((at) =>
		h("li", {}, h("button", { onclick: () => seek(at) }, h("b", {}, clock(at / rate)),
			` ${changes(recording, model, Math.max(0, at - horizon), at).join(", ") || "nothing large changed"} `,
			h("span", { class: "soft" }, `${ordinal(whole.percents[at])} percentile`)))));
	by("cost").textContent = hidden.length
		? `Without ${hidden.join(", ")}, what it expects ${plural(horizon, "frame")} ahead is off by ${number(mean(seen.losses))} rather than ${number(mean(whole.losses))}.`
		: "Switch a group off, and see what the model loses without it.";
	update(true);
}

function mean(values) {
	const known = values.filter((value) => !Number.isNaN(value));
	return known.reduce((sum, value) => sum + value, 0) / known.length;
}

function hide() {
	const boxes = [...document.querySelectorAll("#p-hide input")];
	hidden = boxes.filter(({ checked }) => checked).map(({ value }) => value);
	for (const box of boxes) box.disabled = !box.checked && hidden.length === boxes.length - 1;
	again();
}

function pause() {
	player?.pause();
	named();
}

function seek(at) {
	pause();
	player.seek(at);
}

function named() {
	if (!by("play")) return;
	by("play").textContent = player?.isPlaying ? "❚❚" : "▶";
	by("play").ariaLabel = by("play").title = player?.isPlaying ? "Pause" : "Play";
}

/** `isRest`: not in the middle of playing, so that a screen reader hears of it. */
function update(isRest) {
	const { at, frameMs, late, latency: [p50, p99] } = player, percent = seen.percents[at], time = clock(at / recording.rate);
	by("scrub").value = at;
	by("scrub").ariaValueText = `frame ${at}, ${time}`;
	by("clock").textContent = `${time} · frame ${at}`;
	by("surprise-now").textContent = Number.isNaN(percent)
		? `Nothing was expected of the first ${plural(horizon, "frame")}.`
		: `${ordinal(percent)} percentile: more surprising than ${Math.round(percent)} % of held-out frames.`;
	by("time-now").textContent = p50 === undefined ? "No frame was sent yet."
		: `${number(p50, 2)} ms to an answer, 99 % within ${number(p99, 2)} ms; a frame lasts ${number(frameMs)} ms. ${late.size ? plural(late.size, "frame") : "No frame"} late.`;
	if (heads?.novelty) by("novelty-now").textContent = `Farther from the training frames than ${Math.round(heads.novelty[at])} % of those held out.`;
	page.frame = { row: recording.row(at), at, hidden };
	if (isRest) {
		named();
		by("live").textContent = `Frame ${at}. ${by("surprise-now").textContent}`;
	}
	draw();
}

export function draw() {
	if (!player || by("panels").hidden) return;
	const { at, answered, late } = player, count = recording.rows;
	const over = { count, cursor: at, labels: ["0:00", clock(count / recording.rate)], ticks: [[0, "0"], [50, "50"], [100, "100"]] };
	const color = hidden.length ? "orange" : "blue", line = { values: seen.percents, color, ahead: true };
	const before = hidden.length ? [{ values: whole.percents, color: "soft" }] : [];
	timeline(by("surprise"), { ...over, lines: [...before, line], marks: late, dots: [{ at, value: seen.percents[at], color }] });
	if (points) map(by("map"), points, answered.map(([, embedding]) => places(embedding, model.map)), moments.slice(0, 3));
	if (things.length) stage(by("stage"), things, at, Math.max(0, at - Math.round(recording.rate / 2)));
	if (heads?.novelty) timeline(by("novelty"), { ...over, lines: [{ values: heads.novelty, ahead: true }] });
	heads?.draw(at, over);
}

events.addEventListener("up", () => player?.reopen());
