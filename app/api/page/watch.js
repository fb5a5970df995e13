// Watch: a recording plays, beside what the model makes of it.

import { extent, map, timeline } from "./chart.js";
import { by, canvas, chips, clock, h, number, panel, plural, write } from "./dom.js";
import { Heads } from "./heads.js";
import { Player } from "./player.js";
import { changes, embeddings, forecasts, part, peaks, places, sample, dropped, surprise, things } from "./recording.js";
import { events } from "./service.js";

const MAX_MOMENTS = 6;
const MAX_HEADS = 6;
/** Nobody reads faster, and each word costs a layout. */
const SAY_EVERY_MS = 100;
// What the model said: of whole frames, and of what it sees.
let page, model, recording, player, full, whole, seen, heads, moments, points, game, extents, horizon;
let hidden = [], saidAt = 0, asked = new AbortController();

export function renew(shared) {
	asked.abort();
	player?.close();
	page = shared;
	model = page.model;
	recording = player = null;
	hidden = [];
	horizon = nearest(30);
	by("player").replaceChildren();
	write("source", "");
}

const nearest = (frames) => model.horizons.reduce((a, b) => (Math.abs(b - frames) < Math.abs(a - frames) ? b : a));

export function enter() {
	if (!by("deck")) build();
	if (recording) update(true);
	else if (chosen()) return;
	else if (model.sample) open(sample(model));
	else say("Open or drop a recording: a row a frame, columns in the model's order or with names.");
}

export const leave = () => player?.pause();

function build() {
	const button = (id, text, name, onclick) => h(`button#${id}`, { "aria-label": name, onclick }, text);
	const speeds = [0.1, 0.5, 1, 2].map((value) => h("option", { value, selected: value === 1 }, `${value} ×`));
	by("file").onchange = chosen;
	by("player").append(
		h("p.notice#said", { role: "status", hidden: true }),
		h("div.deck#deck", { hidden: true },
			button("back", "◂", "One frame back", () => seek(player.at - 1)),
			button("play", "▶", "Play", () => (player.isPlaying ? seek(player.at) : player.play())),
			button("on", "▸", "One frame on", () => seek(player.at + 1)),
			h("input#scrub", { type: "range", min: 0, value: 0, "aria-label": "Frame", oninput: ({ target }) => seek(Number(target.value)) }),
			h("output#clock", { for: "scrub" }),
			h("label", "Speed ", h("select", { onchange: ({ target }) => (player.speed = Number(target.value)) }, speeds)),
			h("p#time-now")),
		h("p.unseen#live", { role: "status" }),
		h("div.panels#panels", { hidden: true },
			h("div",
				panel("game", "The game", canvas("game", "Where things are in the game")),
				panel("map", "Map of moments", canvas("map", "Map of the embeddings"), h("p.soft#map-note")),
				panel("novelty", "How far it is from training", canvas("novelty", "Novelty over time"), h("p#novelty-now"))),
			h("div",
				panel("surprise", "How surprising it was", canvas("surprise", "Surprise over time"), h("p#surprise-now")),
				panel("heads", "What it expects", h("div#heads"))),
			h("div",
				panel("moments", "Most surprising moments", h("ol#moments")),
				panel("hide", "Hide from the model", h("p.soft#cost", { role: "status" }), chips("Groups of columns", "checkbox", model.groups.map(({ name }) => name), () => ({ onchange: hide }))))));
	by("watch").ondragover = by("watch").ondrop = (event) => {
		event.preventDefault();
		if (event.type === "drop") drop(event.dataTransfer.files[0]);
	};
}

const say = (textContent, kind = "") => Object.assign(by("said"), { textContent, hidden: !textContent, className: `notice ${kind}` });

const drop = (file) => file && open(dropped(file, model));

const chosen = () => drop(by("file").files[0]);

async function open(reading) {
	leave();
	say("reading …");
	recording = await reading.catch(fail);
	if (!recording) return;
	player?.close();
	player = new Player(recording, update);
	full = whole = null;
	await analyse();
	if (recording && !by("watch").hidden && !matchMedia("(prefers-reduced-motion: reduce)").matches) player.play();
}

function fail(error) {
	if (error.name === "AbortError") return;
	by("deck").hidden = by("panels").hidden = true;
	recording = null;
	say(error.status ? `The service refused: ${error.message}` : error.message, "wrong");
}

/** Asks for all that is drawn. */
async function analyse() {
	asked.abort();
	asked = new AbortController();
	const { signal } = asked, names = hidden.join(","), far = nearest(recording.rate), horizons = [0, nearest(far / 2), far];
	try {
		full ??= await embeddings(recording, model, signal);
		const surprised = (hidden) => surprise(recording, model, hidden, horizon, full, signal);
		whole ??= await surprised([]);
		seen = hidden.length ? await surprised(hidden) : whole;
		const drawn = model.heads?.slice(0, MAX_HEADS) ?? [];
		heads = drawn.length ? new Heads(drawn, await forecasts(recording, model, drawn, names, horizons, signal), horizons) : null;
	} catch (error) {
		return fail(error);
	}
	moments = peaks(whole.losses, MAX_MOMENTS, recording.rate / 2);
	points = model.map ? places(full, model.map) : [];
	game = things(recording, model);
	extents = [game, [{ points }]].map(extent);
	player.ask({ model: model.name, hidden: names });
	present();
}

function present() {
	const { name, note, source, rows, rate } = recording;
	write("source", `${name}${note ? ` (${note})` : ""}: ${source}. ${plural(rows, "frame")}, ${rate} a second.`);
	say("");
	const isShown = { deck: true, panels: true, "p-game": game.length, "p-map": points.length, "p-heads": heads, "p-novelty": heads?.novelty };
	for (const [id, has] of Object.entries(isShown)) by(id).hidden = !has;
	by("scrub").max = rows - 1;
	by("heads").replaceChildren(...(heads?.elements() ?? []));
	if (points.length) write("map-note", `Alike moments lie close. Two principal components, ${number(100 * (model.map.explained[0] + model.map.explained[1]), 2)} % of the variance of ${model.map.source}.`);
	by("moments").replaceChildren(...moments.map((at) =>
		h("li", h("button", { onclick: () => seek(at) }, h("b", clock(at / rate)), ` more surprising than ${Math.round(whole.percents[at])} %`,
			h("span.soft", [...changes(recording, model, at, horizon), ...(heads?.worst(at) ?? [])].join(", "))))));
	write("cost", hidden.length
		? `Without ${hidden.join(", ")}, what it expects ${plural(horizon, "frame")} ahead is off by ${number(mean(seen.losses))} rather than ${number(mean(whole.losses))}.`
		: "See what the model loses without a group.");
	update(true);
}

const mean = (values) => values.subarray(horizon).reduce((sum, value, _, { length }) => sum + value / length, 0);

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

/** `isRest`: not playing, so that a screen reader hears of it. */
function update(isRest) {
	page.frame = { row: part(recording, player.at), at: player.at, hidden };
	if (!player.isPlaying || performance.now() - saidAt > SAY_EVERY_MS) describe(isRest);
	draw();
}

function describe(isRest) {
	const { at, frameMs, late, latency: [p50, p99] } = player, percent = seen.percents[at], time = clock(at / recording.rate);
	const [textContent, ariaLabel] = player.isPlaying ? ["❚❚", "Pause"] : ["▶", "Play"];
	saidAt = performance.now();
	Object.assign(by("play"), { textContent, ariaLabel });
	Object.assign(by("scrub"), { value: at, ariaValueText: `frame ${at}, ${time}` });
	write("clock", `${time} · frame ${at}`);
	write("surprise-now", Number.isNaN(percent)
		? `Nothing was expected of the first ${plural(horizon, "frame")}.`
		: `It was more surprising than ${Math.round(percent)} % of held-out frames.`);
	write("time-now", p50 === undefined ? "No answer yet."
		: `${number(p50, 2)} ms to an answer, 99 % within ${number(p99, 2)} ms; a frame lasts ${number(frameMs)} ms. ${late.size ? plural(late.size, "frame") : "No frame"} late.`);
	if (heads?.novelty) write("novelty-now", `Farther from training than ${Math.round(heads.novelty[at])} % of those held out.`);
	heads?.say(at);
	if (isRest) write("live", `Frame ${at}. ${by("surprise-now").textContent}`);
}

export function draw() {
	if (!player || by("panels").hidden) return;
	const { at, answered, late } = player, { rows: count, rate } = recording;
	const over = { count, cursor: at, labels: ["0:00", clock(count / rate)], ticks: [[0, 0], [50, 50], [100, 100]] };
	const color = hidden.length ? "orange" : "blue", lines = [{ values: seen.percents, color }];
	if (hidden.length) lines.unshift({ values: whole.percents, color: "soft" });
	timeline(by("surprise"), { ...over, lines, marks: late, dots: [{ at, value: seen.percents[at], color }] });
	if (points.length) map(by("map"), [{ points, trail: answered.map((one) => (one.place ??= places(one.embedding, model.map))) }], extents[1], moments.slice(0, 3));
	if (game.length) map(by("game"), game.map((thing, i) => ({ ...thing, color: i ? "orange" : "blue", trail: [thing.points.subarray(2 * at)] })), extents[0]);
	if (heads?.novelty) timeline(by("novelty"), { ...over, lines: [{ values: heads.novelty }] });
	heads?.draw(at, over);
}

events.addEventListener("up", () => player?.ask());
