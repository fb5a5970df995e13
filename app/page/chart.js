// Draws on canvases: lines over time, and the map. Colours are the style sheet's, in every scheme and in print.

const LEFT = 34, RIGHT = 8, TOP = 8, BELOW = 18;
const colors = {};

/** Takes the colours of the page as they are now. */
export function recolor() {
	const style = getComputedStyle(document.documentElement);
	for (const name of ["ink", "soft", "line", "blue", "orange", "card"]) colors[name] = style.getPropertyValue(`--${name}`);
}

/** A context of the canvas in CSS pixels, cleared. */
function fresh(canvas) {
	const scale = window.devicePixelRatio, { clientWidth: width, clientHeight: height } = canvas;
	const size = { width: Math.round(width * scale), height: Math.round(height * scale) };
	if (canvas.width !== size.width || canvas.height !== size.height) Object.assign(canvas, size);
	const context = canvas.getContext("2d");
	context.setTransform(scale, 0, 0, scale, 0, 0);
	context.clearRect(0, 0, width, height);
	context.font = "12px system-ui, sans-serif";
	context.lineJoin = context.lineCap = "round";
	return { context, width, height };
}

/** A line through points; one that is not finite leaves a gap. */
function line(context, color, points, width = 1, alpha = 1) {
	context.strokeStyle = colors[color];
	context.lineWidth = width;
	context.globalAlpha = alpha;
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
	context.fillStyle = colors[fill];
	context.strokeStyle = colors[edge];
	context.lineWidth = 2;
	context.fill();
	context.stroke();
}

function write(context, text, x, y, align, color = "soft", baseline = "middle") {
	Object.assign(context, { fillStyle: colors[color], textAlign: align, textBaseline: baseline });
	context.fillText(text, x, y);
}

/** Lines over time. `lines`: `{values, color, ahead}`, of which `ahead` says to draw what follows the cursor faintly.
 * `marks`: frames with a tick. `dots`: `{at, value, color, hollow}`. `ticks`: values with a label. `rule`: a value. */
export function timeline(canvas, { count, low = 0, high = 100, lines, cursor = null, marks = [], dots = [], ticks = [], labels, rule = null }) {
	const { context, width, height } = fresh(canvas), right = width - RIGHT, bottom = height - BELOW;
	const x = (at) => LEFT + ((right - LEFT) * at) / Math.max(1, count - 1);
	const y = (value) => bottom - ((bottom - TOP) * (value - low)) / (high - low || 1);
	const across = (value, color) => line(context, color, [[LEFT, y(value)], [right, y(value)]]);
	for (const [value, label] of ticks) {
		across(value, "line");
		write(context, label, LEFT - 6, y(value), "right");
	}
	write(context, labels[0], LEFT, height - 3, "left", "soft", "alphabetic");
	write(context, labels[1], right, height - 3, "right", "soft", "alphabetic");
	if (rule !== null) across(rule, "soft");
	for (const { values, color = "blue", ahead = false } of lines) {
		const points = Array.from(values, (value, at) => [x(at), y(value)]), end = ahead ? cursor : points.length;
		line(context, color, points.slice(0, end + 1), 1.75);
		line(context, color, points.slice(end), 1.75, 0.3);
	}
	for (const at of marks) line(context, "orange", [[x(at), bottom - 6], [x(at), bottom]], 2);
	if (cursor !== null) line(context, "ink", [[x(cursor), 4], [x(cursor), bottom]]);
	for (const { at, value, color = "orange", hollow } of dots) {
		if (Number.isFinite(value)) dot(context, [x(at), y(value)], 4.5, hollow ? "card" : color, color);
	}
}

/** A map: all `points` [n × 2] faintly, a `trail` from old to new, and the frames `numbered`. */
export function map(canvas, points, trail, numbered) {
	const { context, width, height } = fresh(canvas);
	const [[x0, x1], [y0, y1]] = [0, 1].map((odd) => {
		const values = points.filter((_, i) => i % 2 === odd);
		return [Math.min(...values), Math.max(...values)];
	});
	const scale = 0.86 * Math.min(width / (x1 - x0 || 1), height / (y1 - y0 || 1));
	const onto = ([x, y]) => [width / 2 + (x - (x0 + x1) / 2) * scale, height / 2 - (y - (y0 + y1) / 2) * scale];
	const placeOf = (frame) => onto(points.subarray(2 * frame, 2 * frame + 2));
	context.fillStyle = colors.soft;
	context.globalAlpha = 0.4;
	for (let frame = 0; frame < points.length / 2; frame += 1) {
		const [x, y] = placeOf(frame);
		context.fillRect(x - 1.25, y - 1.25, 2.5, 2.5);
	}
	context.globalAlpha = 1;
	const path = trail.map(onto);
	for (let i = 1; i < path.length; i += 1) line(context, "blue", path.slice(i - 1, i + 1), 1 + (3 * i) / path.length, i / path.length);
	numbered.forEach((frame, i) => {
		const [x, y] = placeOf(frame);
		dot(context, [x, y], 8.5, "card", "orange");
		write(context, i + 1, x, y + 0.5, "center", "ink");
	});
	if (path.length) dot(context, path.at(-1), 6.5, "blue", "card");
}
