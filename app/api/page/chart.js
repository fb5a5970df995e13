// Draws on canvases, in the style sheet's colours: lines over time, and maps.

const LEFT = 34, RIGHT = 8, TOP = 8, BELOW = 18;
const colors = {};
/** Of a canvas, what stays from frame to frame: a copy is cheaper. */
let kept = new WeakMap();

export function recolor() {
	const style = getComputedStyle(document.documentElement);
	for (const name of ["ink", "soft", "line", "blue", "orange", "card"]) colors[name] = style.getPropertyValue(`--${name}`);
	kept = new WeakMap();
}

const sizeOf = ({ clientWidth, clientHeight }) => [clientWidth, clientHeight];

/** A cleared context in CSS pixels. */
function fresh(canvas, [width, height]) {
	const scale = window.devicePixelRatio, size = { width: Math.round(width * scale), height: Math.round(height * scale) };
	const context = canvas.getContext("2d");
	if (canvas.width !== size.width || canvas.height !== size.height) Object.assign(canvas, size);
	context.setTransform(scale, 0, 0, scale, 0, 0);
	context.clearRect(0, 0, width, height);
	context.font = "12px system-ui, sans-serif";
	context.lineJoin = context.lineCap = "round";
	return context;
}

/** A context of the canvas with what `draw` drew, anew where its size or one of `key` is another. */
function layered(canvas, key, draw) {
	const size = sizeOf(canvas), wanted = [...size, ...key];
	let { layer, key: had } = kept.get(canvas) ?? {};
	if (wanted.some((each, i) => each !== had?.[i])) {
		layer = new OffscreenCanvas(1, 1);
		draw(fresh(layer, size), ...size);
		kept.set(canvas, { layer, key: wanted });
	}
	const context = fresh(canvas, size);
	// A view that is hidden has no size.
	if (size[0]) context.drawImage(layer, 0, 0, ...size);
	return context;
}

/** A point that is not finite leaves a gap. */
function line(context, color, points, width = 1, alpha = 1) {
	Object.assign(context, { strokeStyle: colors[color], lineWidth: width, globalAlpha: alpha });
	context.beginPath();
	let isGap = true;
	for (const [x, y] of points) {
		if (isGap) context.moveTo(x, y);
		else context.lineTo(x, y);
		isGap = !Number.isFinite(y);
	}
	context.stroke();
	context.globalAlpha = 1;
}

function dot(context, [x, y], radius, fill, edge) {
	context.beginPath();
	context.arc(x, y, radius, 0, 7);
	Object.assign(context, { fillStyle: colors[fill], strokeStyle: colors[edge], lineWidth: 2 });
	context.fill();
	context.stroke();
}

function write(context, text, x, y, textAlign, color = "soft") {
	Object.assign(context, { fillStyle: colors[color], textAlign, textBaseline: "middle" });
	context.fillText(text, x, y);
}

/** Lines over time. `lines`: `{values, color}`, faint after the `cursor`. `marks`: frames with a tick. `dots`: `{at, value,
 * color, hollow}`. `ticks`: values with a label. `rule`: a value. */
export function timeline(canvas, { count, low = 0, high = 100, lines, cursor = count - 1, marks = [], dots = [], ticks = [], labels, rule }) {
	const [width, height] = sizeOf(canvas), right = width - RIGHT, bottom = height - BELOW;
	const x = (at) => LEFT + ((right - LEFT) * at) / Math.max(1, count - 1);
	const y = (value) => bottom - ((bottom - TOP) * (value - low)) / (high - low || 1);
	const context = layered(canvas, lines.map(({ values }) => values), (paper) => {
		const across = (value, color) => line(paper, color, [[LEFT, y(value)], [right, y(value)]]);
		for (const [value, label] of ticks) {
			across(value, "line");
			write(paper, label, LEFT - 6, y(value), "right");
		}
		write(paper, labels[0], LEFT, height - 8, "left");
		write(paper, labels[1], right, height - 8, "right");
		if (rule) across(rule, "soft");
		for (const { values, color = "blue" } of lines) line(paper, color, Array.from(values, (value, at) => [x(at), y(value)]), 1.75);
	});
	if (cursor < count - 1) {
		Object.assign(context, { fillStyle: colors.card, globalAlpha: 0.65 });
		context.fillRect(x(cursor), 0, width, bottom + 2);
		line(context, "ink", [[x(cursor), 4], [x(cursor), bottom]]);
	}
	for (const at of marks) line(context, "orange", [[x(at), bottom - 6], [x(at), bottom]], 2);
	for (const { at, value, color = "orange", hollow } of dots) {
		if (Number.isFinite(value)) dot(context, [x(at), y(value)], 4.5, hollow ? "card" : color, color);
	}
}

/** [[least x, most x], [least y, most y]] of tracks. */
export const extent = (tracks) => [0, 1].map((odd) => {
	const values = tracks.flatMap(({ points }) => [...points].filter((_, i) => i % 2 === odd));
	return [Math.min(...values), Math.max(...values)];
});

/** A map of `tracks`: `{points: [n × 2], trail, color, label}`, of which all points are faint, within an `extent`; frames
 * of the first are `numbered`. */
export function map(canvas, tracks, [[x0, x1], [y0, y1]], numbered = []) {
	const [width, height] = sizeOf(canvas), points = tracks.map((track) => track.points);
	const scale = Math.min((width - 60) / (x1 - x0 || 1), (height - 60) / (y1 - y0 || 1));
	const onto = ([x, y]) => [width / 2 + (x - (x0 + x1) / 2) * scale, height / 2 - (y - (y0 + y1) / 2) * scale];
	const context = layered(canvas, points, (all) => {
		Object.assign(all, { fillStyle: colors.soft, globalAlpha: 0.4 });
		for (const each of points) {
			for (let i = 0; i < each.length; i += 2) {
				const [x, y] = onto(each.subarray(i, i + 2));
				all.fillRect(x - 1.25, y - 1.25, 2.5, 2.5);
			}
		}
	});
	numbered.forEach((frame, i) => {
		const [x, y] = onto(points[0].subarray(2 * frame, 2 * frame + 2));
		dot(context, [x, y], 8.5, "card", "orange");
		write(context, i + 1, x, y + 0.5, "center", "ink");
	});
	for (const [i, { trail, color = "blue", label }] of tracks.entries()) {
		const path = trail.map(onto), end = path.at(-1);
		for (let k = 1; k < path.length; k += 1) line(context, color, path.slice(k - 1, k + 1), 1 + (3 * k) / path.length, k / path.length);
		if (end) dot(context, end, 6.5, color, "card");
		if (label) write(context, label, end[0], end[1] + (i % 2 ? 17 : -16), "center", "ink");
	}
}
