// Shows the views, and whether the service is there.

import * as call from "./call.js";
import { recolor } from "./chart.js";
import { by, h, write } from "./dom.js";
import * as model from "./model.js";
import * as monitor from "./monitor.js";
import { events, giveKey, json } from "./service.js";
import * as watch from "./watch.js";

const VIEWS = { model, watch, call, service: monitor };
/** What the views share. */
const page = { models: [], refused: [], model: null, frame: null };
let shown = null, wantsKey = false;

async function load() {
	Object.assign(page, await json("models"));
	const names = page.models.map(({ name }) => name), wanted = names.find((name) => name === page.model?.name) ?? names[0];
	by("which").replaceChildren(...names.map((name) => h("option", { selected: name === wanted }, name)));
	by("which").parentElement.hidden = names.length < 2;
	if (wanted) await choose(wanted);
}

async function choose(name) {
	page.model = await json(`models/${name}`);
	page.frame = null;
	for (const view of Object.values(VIEWS)) view.renew?.(page);
}

function show() {
	if (wantsKey) by("ask").showModal();
	const asked = location.hash.slice(2), before = shown;
	shown = asked in VIEWS ? asked : (shown ?? "model");
	if (before !== shown) VIEWS[before]?.leave?.();
	for (const link of document.querySelectorAll("nav a")) {
		const isShown = link.hash === `#/${shown}`;
		by(link.hash.slice(2)).hidden = !isShown;
		link.ariaCurrent = isShown ? "page" : null;
		if (isShown) document.title = `${link.text} · jepa-serve`;
	}
	if (!page.model) return;
	VIEWS[shown].enter(page);
	if (before !== shown) window.scrollTo(0, 0);
}

const state = (textContent, className) => Object.assign(by("state"), { textContent, className });
const sayServed = () => state(`serving ${page.models.map(({ name, version }) => `${name} ${version}`).join(", ")}`, "up");

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
	const before = page.model, now = before && (await json(`models/${before.name}`).catch(() => null));
	// Another may be served.
	if (now && now.version === before.version && now.created === before.created) sayServed();
	else await start();
});
events.addEventListener("key", ({ detail: isWrong }) => {
	write("ask-title", isWrong ? "That is not one of this service's keys" : "This service wants a key");
	state("waiting for a key", "down");
	wantsKey = true;
	by("ask").showModal();
});
by("ask").onclose = () => {
	wantsKey = !by("key").value.trim();
	if (!wantsKey) giveKey(by("key").value);
	by("key").value = "";
};
by("which").onchange = ({ target }) => choose(target.value).then(show);
const draw = () => (recolor(), VIEWS[shown]?.draw?.());
window.onhashchange = show;
window.onresize = draw;
for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", draw);

recolor();
show();
start();
