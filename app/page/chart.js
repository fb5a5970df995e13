// Draws on canvases: lines over time, and the map. Colours are the style sheet's, in every scheme and in print.

const THICK = 1.75, LEFT = 34, RIGHT = 8;

const colors = {};

/** Takes the colours of the page as they are now. */
export function recolor() {
	const style = getComputedStyle(document.documentElement);
	for (const name of ["ink", "soft", "line", "blue", "orange", "card"]) colors[name] = style.getPropertyValue(`--${name}`);
}

/** A context of the canvas in CSS pixels, cleared. */
function fresh(canvas) {
	const scale = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
	if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
		[canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
	}
	const context = canvas.getContext("2d");
	context.setTransform(scale, 0, 0, scale, 0, 0);
	context.clearRect(0, 0, width, height);
	context.font = "12px system-ui, sans-serif";
	context.lineJoin = context.lineCap = "round";
	return { context, width, height };
}

/** The stretches of `values` that are known, as points. */
function stretches(values, x, y, from, to) {
	const found = [[]];
	for (let at = from; at < Math.min(to, values.length); at += 1) {
		if (values[at] == null || Number.isNaN(values[at])) found.push([]);
		else found.at(-1).push([x(at), y(values[at])]);
	}
	return found;
}

/** Lines over time. `lines`: `{values, color, dash, ahead}`, of which `ahead` says to draw what follows the cursor
 * faintly. `marks`: frames with a tick. `dots`: `{at, value, color, hollow}`. `ticks`: values with a label. */
export function timeline(canvas, { count, low = 0, high = 100, lines, cursor = null, marks = [], dots = [], ticks = [], labels = [], rule = null }) {
	const { context, width, height } = fresh(canvas), right = width - RIGHT, bottom = height - 18;
	const x = (at) => LEFT + ((right - LEFT) * at) / Math.max(1, count - 1);
	const y = (value) => bottom - ((bottom - 8) * (value - low)) / (high - low || 1);
	context.fillStyle = colors.soft;
	context.textBaseline = "middle";
	context.textAlign = "right";
	for (const [value, label] of ticks) {
		line(context, colors.line, [[LEFT, y(value)], [right, y(value)]]);
		context.fillText(label, LEFT - 6, y(value));
	}
	context.textBaseline = "alphabetic";
	labels.forEach((label, i) => {
		context.textAlign = i ? "right" : "left";
		context.fillText(label, i ? right : LEFT, height - 3);
	});
	if (rule !== null) line(context, colors.soft, [[LEFT, y(rule)], [right, y(rule)]], 1, [2, 4]);
	for (const { values, color = "blue", dash = [], ahead = false } of lines) {
		const end = ahead ? cursor + 1 : values.length;
		for (const points of stretches(values, x, y, 0, end)) line(context, colors[color], points, THICK, dash);
		context.globalAlpha = 0.3;
		for (const points of stretches(values, x, y, end - 1, values.length)) line(context, colors[color], points, THICK, dash);
		context.globalAlpha = 1;
	}
	for (const at of marks) line(context, colors.orange, [[x(at), bottom - 6], [x(at), bottom]], 2);
	if (cursor !== null) line(context, colors.ink, [[x(cursor), 4], [x(cursor), bottom]]);
	for (const { at, value, color = "orange", hollow = false } of dots) {
		if (value != null && !Number.isNaN(value)) dot(context, x(at), y(value), 4.5, hollow ? colors.card : colors[color], colors[color]);
	}
}

/** The frame of a timeline that lies under a pointer. */
export function frameAt(canvas, event, count) {
	const box = canvas.getBoundingClientRect(), share = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
	return Math.round(Math.min(1, Math.max(0, share)) * (count - 1));
}

/** Where points [n × 2] are drawn, so that all are seen, with the same scale along both. */
function plane(points, width, height) {
	let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
	for (let i = 0; i < points.length; i += 2) {
		[x0, x1] = [Math.min(x0, points[i]), Math.max(x1, points[i])];
		[y0, y1] = [Math.min(y0, points[i + 1]), Math.max(y1, points[i + 1])];
	}
	const scale = Math.min(width / (x1 - x0 || 1), height / (y1 - y0 || 1)) * 0.86;
	return { x: (value) => width / 2 + (value - (x0 + x1) / 2) * scale, y: (value) => height / 2 - (value - (y0 + y1) / 2) * scale };
}

function line(context, color, points, width = 1, dash = []) {
	context.strokeStyle = color;
	context.lineWidth = width;
	context.setLineDash(dash);
	context.beginPath();
	for (const [x, y] of points) context.lineTo(x, y);
	context.stroke();
	context.setLineDash([]);
}

function dot(context, x, y, radius, fill, edge = null, isSquare = false) {
	context.beginPath();
	if (isSquare) context.rect(x - radius, y - radius, 2 * radius, 2 * radius);
	else context.arc(x, y, radius, 0, 7);
	context.fillStyle = fill;
	context.fill();
	if (!edge) return;
	context.strokeStyle = edge;
	context.lineWidth = 2;
	context.stroke();
}

/** The map: every place faintly, the `trail` of frames from old to new, and the frames `numbered`. */
export function map(canvas, points, trail, numbered) {
	const { context, width, height } = fresh(canvas), { x, y } = plane(points, width, height);
	const path = trail.map(([px, py]) => [x(px), y(py)]);
	context.globalAlpha = 0.4;
	context.fillStyle = colors.soft;
	for (let i = 0; i < points.length; i += 2) context.fillRect(x(points[i]) - 1.25, y(points[i + 1]) - 1.25, 2.5, 2.5);
	for (let i = 1; i < path.length; i += 1) {
		context.globalAlpha = i / path.length;
		line(context, colors.blue, [path[i - 1], path[i]], 1 + (3 * i) / path.length);
	}
	context.globalAlpha = 1;
	context.textAlign = "center";
	context.textBaseline = "middle";
	numbered.forEach((at, i) => {
		const [px, py] = [x(points[2 * at]), y(points[2 * at + 1])];
		dot(context, px, py, 8.5, colors.card, colors.orange);
		context.fillStyle = colors.ink;
		context.fillText(i + 1, px, py + 0.5);
	});
	if (path.length) dot(context, ...path.at(-1), 6.5, colors.blue, colors.card);
}

/** Where a frame says that `things` are, such as players, with their ways since frame `from`. */
export function stage(canvas, things, at, from) {
	const { context, width, height } = fresh(canvas), { x, y } = plane(things.flatMap(({ points }) => [...points]), width, height);
	line(context, colors.line, [[8, y(0)], [width - 8, y(0)]]);
	line(context, colors.line, [[x(0), 8], [x(0), height - 8]]);
	context.textAlign = "center";
	things.forEach(({ name, points }, i) => {
		const color = [colors.blue, colors.orange][i] ?? colors.soft, place = (t) => [x(points[2 * t]), y(points[2 * t + 1])];
		for (let t = from; t < at; t += 1) {
			context.globalAlpha = (0.5 * (t - from)) / (at - from);
			dot(context, ...place(t), 2.5, color);
		}
		context.globalAlpha = 1;
		const [px, py] = place(at);
		dot(context, px, py, 6, color, null, i === 1);
		context.fillStyle = colors.ink;
		context.fillText(name, Math.min(width - 20, Math.max(20, px)), py - 12);
	});
}
