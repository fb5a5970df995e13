// Call: the request for the frame in view, to copy into a bot, and to try.

import { by, h } from "./dom.js";
import { hasKey, post } from "./service.js";

const ENDPOINTS = {
	embed: "numbers that stand for the frame",
	predict: "what the model expects some frames later, as such numbers",
	loss: "how surprising a later frame is",
	forecast: "what the heads say of the frame, or of later ones",
};
const LANGUAGES = ["curl", "Python", "JavaScript"];
let page, endpoint = "embed", language = "curl";

export function renew(shared) {
	page = shared;
	by("call").replaceChildren();
}

export function enter(shared) {
	page = shared;
	const choices = (name, values, chosen, choose) => h("fieldset", { class: "chips" }, h("legend", {}, name),
		values.map((value) => h("label", {}, h("input", { type: "radio", name, checked: value === chosen, onchange: () => (choose(value), write()) }), value)));
	const endpoints = Object.keys(ENDPOINTS).filter((name) => name !== "forecast" || page.model.heads?.length);
	by("call").replaceChildren(
		h("div", { class: "head" }, h("h1", { id: "call-title" }, "Call it"), h("p", { id: "of", class: "soft" })),
		h("div", { class: "columns" },
			choices("Endpoint", endpoints, endpoint, (value) => (endpoint = value)),
			choices("Language", LANGUAGES, language, (value) => (language = value))),
		h("p", { id: "means" }),
		h("pre", { id: "code", tabindex: 0, "aria-label": "The request" }),
		h("p", { class: "buttons" },
			h("button", { type: "button", class: "main", onclick: copy }, "Copy"),
			h("button", { type: "button", onclick: attempt }, "Try it"),
			h("span", { id: "copied", role: "status" })),
		h("p", { class: "soft" }, "A frame as float32 bytes is smaller and faster than as JSON: ", h("a", { href: "docs" }, "/docs"), " has both."),
		h("pre", { id: "answer", role: "status", hidden: true }));
	write();
}

function request() {
	const { model, frame } = page, row = Array.from(frame?.row ?? model.statistics.mean ?? new Float32Array(model.input_dim), (value) => Number(value.toPrecision(6)));
	const body = { model: model.name, features: row }, horizon = model.horizons.at(-1);
	if (endpoint !== "loss" && frame?.hidden.length) body.hidden = frame.hidden;
	if (endpoint === "predict") body.horizon = horizon;
	if (endpoint === "loss") Object.assign(body, { target_features: row, horizon });
	if (endpoint === "forecast") body.heads = model.heads.slice(0, 3).map(({ name }) => name);
	return body;
}

function snippet(body) {
	const url = new URL(endpoint, document.baseURI).href, text = JSON.stringify(body);
	if (language === "curl") {
		return [`curl -s ${url}`, "-H 'Content-Type: application/json'", ...(hasKey() ? ['-H "Authorization: Bearer $JEPA_KEY"'] : []), `-d '${text}'`].join(" \\\n  ");
	}
	if (language === "Python") {
		const key = hasKey() ? ', headers={"Authorization": f"Bearer {os.environ[\'JEPA_KEY\']}"}' : "";
		return `${hasKey() ? "import os\n\n" : ""}import httpx\n\nbody = ${text}\nanswer = httpx.post("${url}", json=body${key})\nprint(answer.json())`;
	}
	const key = hasKey() ? ", Authorization: `Bearer ${process.env.JEPA_KEY}`" : "";
	return `const body = ${text};\nconst answer = await fetch("${url}", {\n  method: "POST",\n  headers: { "Content-Type": "application/json"${key} },\n  body: JSON.stringify(body),\n});\nconsole.log(await answer.json());`;
}

function write() {
	const { frame } = page;
	by("of").textContent = frame ? `Frame ${frame.at} of the recording that you watched.` : "With the mean of the training frames; watch a recording, and it is the frame in view.";
	by("means").textContent = `The answer: ${ENDPOINTS[endpoint]}.`;
	by("code").textContent = snippet(request());
	by("answer").hidden = true;
}

async function copy() {
	try {
		await navigator.clipboard.writeText(by("code").textContent);
		by("copied").textContent = "Copied.";
	} catch {
		getSelection().selectAllChildren(by("code"));
		by("copied").textContent = "Press Ctrl+C: the browser lets pages copy over HTTPS or on localhost alone.";
	}
}

async function attempt() {
	const box = by("answer");
	box.hidden = false;
	try {
		box.textContent = JSON.stringify(await post(endpoint, request()), (_, value) => (Array.isArray(value) && value.length > 12 ? [...value.slice(0, 12), `… ${value.length} in all`] : value));
	} catch (error) {
		box.textContent = error.status ? `${error.status} ${error.message}` : "nothing answers";
	}
}
