// Starts the page: which view is shown, of which model, and whether the service is there.

import * as call from "./call.js";
import { recolor } from "./chart.js";
import { by, h } from "./dom.js";
import * as model from "./model.js";
import * as monitor from "./monitor.js";
import { events, giveKey, json } from "./service.js";
import * as watch from "./watch.js";

const VIEWS = { model, watch, call, service: monitor };
const TITLES = { model: "Model", watch: "Watch", call: "Call", service: "Service" };
/** What the views share: the models, and the one that is looked at. */
const page = { models: [], refused: [], model: null, frame: null };
let shown = null, wantsKey = false;

async function load() {
	const { models, refused } = await json("models");
	page.models = models;
	page.refused = refused;
	const which = by("which"), wanted = page.model?.name ?? models[0]?.name;
	which.replaceChildren(...models.map(({ name }) => h("option", { value: name, selected: name === wanted }, name)));
	which.parentElement.hidden = models.length < 2;
	if (models.length) await choose(models.some(({ name }) => name === wanted) ? wanted : models[0].name);
}

async function choose(name) {
	page.model = await json(`models/${name}`);
	page.frame = null;
	for (const view of Object.values(VIEWS)) view.renew?.(page);
}

function show() {
	if (wantsKey) by("ask").showModal();
	const name = location.hash.slice(2) in VIEWS ? location.hash.slice(2) : (shown ?? "model");
	const isNew = name !== shown;
	if (isNew && shown) VIEWS[shown].leave?.();
	shown = name;
	for (const view of Object.keys(VIEWS)) by(view).hidden = view !== name;
	for (const link of document.querySelectorAll("nav a")) {
		if (link.hash === `#/${name}`) link.setAttribute("aria-current", "page");
		else link.removeAttribute("aria-current");
	}
	document.title = `${TITLES[name]} · ${page.model ? `${page.model.name} · ` : ""}jepa-serve`;
	if (!page.model) return;
	VIEWS[name].enter(page);
	if (isNew) window.scrollTo(0, 0);
}

function state(text, kind) {
	by("state").textContent = text;
	by("state").className = kind;
}

function sayServed() {
	const [first] = page.models;
	state(page.models.length === 1 ? `serving ${first.name} ${first.version}` : `serving ${page.models.length} models`, "up");
}

async function start() {
	try {
		await load();
		sayServed();
	} catch (error) {
		state(error.status ? error.message : "no service answers; waiting for it", "down");
	}
	show();
}

events.addEventListener("down", ({ detail }) => state(`the service is away (${detail}); waiting for it`, "down"));
events.addEventListener("up", async () => {
	if (!page.model) return start();
	const before = page.model;
	// What is served may have changed meanwhile.
	const { models } = await json("models");
	const now = models.find(({ name }) => name === before.name);
	if (now?.version !== before.version || now?.created !== before.created) await start();
	else sayServed();
});
events.addEventListener("key", ({ detail: isWrong }) => {
	by("ask-title").textContent = isWrong ? "That is not one of this service's keys" : "This service wants a key";
	state("waiting for a key", "down");
	wantsKey = true;
	by("ask").showModal();
});
by("ask").addEventListener("close", () => {
	wantsKey = !by("key").value.trim();
	if (!wantsKey) giveKey(by("key").value);
	by("key").value = "";
});
by("which").addEventListener("change", async ({ target }) => {
	await choose(target.value);
	show();
});
window.addEventListener("hashchange", show);
function draw() {
	recolor();
	VIEWS[shown]?.draw?.();
}
window.addEventListener("resize", draw);
window.addEventListener("beforeprint", draw);
for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", draw);

recolor();
show();
start();
