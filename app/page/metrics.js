// Reads Prometheus' text format, and takes rates and quantiles of what happened between two readings.

const SERIES = /^(\w+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** [{name, labels, value}] */
export const parse = (text) =>
	text.split("\n").flatMap((line) => {
		const [, name, labels, value] = SERIES.exec(line) ?? [];
		if (!name) return [];
		return [{ name, labels: Object.fromEntries([...(labels ?? "").matchAll(LABEL)].map(([, key, text]) => [key, text])), value: Number(value) }];
	});

/** The sum of a metric over the series that `which` keeps. */
export const sum = (series, name, which = () => true) =>
	series.reduce((total, each) => (each.name === name && which(each.labels) ? total + each.value : total), 0);

/** {value of `label`: sum} */
export function byLabel(series, name, label) {
	const sums = {};
	for (const each of series) if (each.name === name) sums[each.labels[label]] = (sums[each.labels[label]] ?? 0) + each.value;
	return sums;
}

/** The quantile of what a histogram counted between two readings, within its bucket in proportion; NaN of nothing. */
export function quantile(before, now, name, share, which) {
	const counts = (series) => series.filter((each) => each.name === `${name}_bucket` && which(each.labels)).reduce((found, { labels, value }) => found.set(Number(labels.le.replace("+Inf", "Infinity")), (found.get(Number(labels.le.replace("+Inf", "Infinity"))) ?? 0) + value), new Map());
	const earlier = counts(before), buckets = [...counts(now)].map(([le, value]) => [le, value - (earlier.get(le) ?? 0)]).sort(([a], [b]) => a - b);
	const wanted = share * (buckets.at(-1)?.[1] ?? 0);
	let [low, below] = [0, 0];
	for (const [le, count] of buckets) {
		if (wanted > 0 && count >= wanted) return le === Infinity ? low : low + ((le - low) * (wanted - below)) / (count - below);
		[low, below] = [le, count];
	}
	return NaN;
}
