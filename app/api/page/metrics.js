// Reads Prometheus' text format, and what happened between two readings.

const SERIES = /^(\w+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** [{name, labels, value}] */
export const parse = (text) =>
	text.split("\n").flatMap((line) => {
		const [, name, labels = "", value] = SERIES.exec(line) ?? [];
		return name ? { name, labels: Object.fromEntries([...labels.matchAll(LABEL)].map(([, key, text]) => [key, text])), value: Number(value) } : [];
	});

/** Map of a `label`'s values to the sum of a metric's series that have them and that `which` keeps. */
export function sums(series, metric, label, which = () => true) {
	const found = new Map();
	for (const { name, labels, value } of series) {
		if (name === metric && which(labels)) found.set(labels[label], (found.get(labels[label]) ?? 0) + value);
	}
	return found;
}

export const sum = (series, metric, which) => sums(series, metric, "", which).get(undefined) ?? 0;

/** The quantile of what a histogram counted between two readings, or NaN. */
export function quantile(before, now, metric, share, which) {
	const counts = (series) => sums(series, `${metric}_bucket`, "le", which), earlier = counts(before);
	const buckets = [...counts(now)]
		.map(([le, count]) => [Number(le.replace("+Inf", "Infinity")), count - (earlier.get(le) ?? 0)])
		.sort(([a], [b]) => a - b);
	const wanted = share * (buckets.at(-1)?.[1] ?? 0);
	let [low, below] = [0, 0];
	for (const [le, count] of buckets) {
		if (wanted > 0 && count >= wanted) return le === Infinity ? low : low + ((le - low) * (wanted - below)) / (count - below);
		[low, below] = [le, count];
	}
	return NaN;
}
