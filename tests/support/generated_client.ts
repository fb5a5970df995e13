// Sends every example of an endpoint through the client that `openapi-generator` made, which is in ./made beside it.
//
// node generated_client.js URL      prints {"/embed": [[status, version of the model], …], …}

import {
	Configuration,
	EmbedRequestFromJSON,
	ForecastRequestFromJSON,
	InferenceApi,
	LossRequestFromJSON,
	ModelsApi,
	PredictRequestFromJSON,
} from "./made";

declare const process: { argv: string[] };

interface Answered<Answer> {
	raw: Response;
	value(): Promise<Answer>;
}

const basePath = process.argv[2]!, configuration = new Configuration({ basePath });
const inference = new InferenceApi(configuration), models = new ModelsApi(configuration);

const told = async <Answer>(answer: Answered<Answer>, of: (answer: Answer) => number) => [answer.raw.status, of(await answer.value())];

async function main() {
	const { paths } = await (await fetch(`${basePath}/openapi.json`)).json();
	const bodies = (path: string): unknown[] =>
		Object.values<{ value: unknown }>(paths[path].post.requestBody.content["application/json"].examples).map(({ value }) => value);
	const version = (answer: { version: number }) => answer.version;
	const each = async (path: string, call: (body: unknown) => Promise<Answered<{ version: number }>>) =>
		[path, await Promise.all(bodies(path).map(async (body) => told(await call(body), version)))];
	console.log(JSON.stringify(Object.fromEntries([
		["/models", [await told(await models.modelsRaw(), (answer) => answer.models[0]!.version)]],
		await each("/embed", (body) => inference.embedRaw({ embedRequest: EmbedRequestFromJSON(body) })),
		await each("/predict", (body) => inference.predictRaw({ predictRequest: PredictRequestFromJSON(body) })),
		await each("/loss", (body) => inference.lossRaw({ lossRequest: LossRequestFromJSON(body) })),
		await each("/forecast", (body) => inference.forecastRaw({ forecastRequest: ForecastRequestFromJSON(body) })),
	])));
}

main();
