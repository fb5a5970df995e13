// Call: the request for the frame in view, to copy.

import { by, chips, h, write } from "./dom.js";
import { addressOf, hasKey } from "./service.js";

const ENDPOINTS = {
	embed: "numbers that stand for the frame",
	predict: "such numbers, as expected some frames later",
	loss: "how surprising a later frame is",
	forecast: "what the heads say of the frame, or of later ones",
};
let page, endpoint = "embed", language = "curl";

export function enter(shared) {
	page = shared;
	const choice = (legend, values, chosen, choose) => chips(legend, "radio", values, (value) =>
		({ checked: value === chosen, onchange: () => (choose(value), update()) }));
	const endpoints = Object.keys(ENDPOINTS).filter((name) => name !== "forecast" || page.model.heads?.length);
	write("of", page.frame ? `Frame ${page.frame.at} of the recording.` : "The mean frame of training, until you watch one.");
	by("request").replaceChildren(
		h("div.columns",
			choice("Endpoint", endpoints, endpoint, (value) => (endpoint = value)),
			choice("Language", Object.keys(LANGUAGES), language, (value) => (language = value))),
		h("p#means"),
		h("pre#code", { tabindex: 0, "aria-label": "The request" }),
		h("p",
			h("button.main", { onclick: copy }, "Copy"), " ",
			h("span#copied", { role: "status" })),
		h("p.soft", "Try it, also as float32 bytes, in ", h("a", { href: "docs" }, "/docs"), "."));
	update();
}

function request() {
	const { model, frame } = page, horizon = model.horizons.at(-1);
	const row = Array.from(frame?.row ?? model.statistics.mean ?? Array(model.input_dim).fill(0), (value) => Number(value.toPrecision(6)));
	const body = { model: model.name, features: row };
	if (endpoint !== "loss" && frame?.hidden.length) body.hidden = frame.hidden;
	if (endpoint === "predict") body.horizon = horizon;
	if (endpoint === "loss") Object.assign(body, { target_features: row, horizon });
	if (endpoint === "forecast") body.heads = model.heads.slice(0, 3).map(({ name }) => name);
	return body;
}

/** `keyed(text)` is a part that only a service with keys wants. */
const LANGUAGES = {
	curl: (url, body, keyed) => `curl -s ${url} \\
  -H 'Content-Type: application/json' \\${keyed('\n  -H "Authorization: Bearer $JEPA_KEY" \\')}
  -d '${body}'`,

	Python: (url, body, keyed) => `${keyed("import os\n\n")}import httpx

body = ${body}
answer = httpx.post("${url}", json=body${keyed(', headers={"Authorization": f"Bearer {os.environ[\'JEPA_KEY\']}"}')})
print(answer.json())`,

	JavaScript: (url, body, keyed) => `const body = ${body};
const answer = await fetch("${url}", {
  method: "POST",
  headers: { "Content-Type": "application/json"${keyed(", Authorization: `Bearer ${process.env.JEPA_KEY}`")} },
  body: JSON.stringify(body),
});
console.log(await answer.json());`,
};

function update() {
	write("means", `The answer: ${ENDPOINTS[endpoint]}.`);
	write("code", LANGUAGES[language](addressOf(endpoint).href, JSON.stringify(request()), (text) => (hasKey() ? text : "")));
}

async function copy() {
	try {
		await navigator.clipboard.writeText(by("code").textContent);
		write("copied", "Copied.");
	} catch {
		getSelection().selectAllChildren(by("code"));
		write("copied", "Press Ctrl+C.");
	}
}
