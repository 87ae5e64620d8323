// The marks of chosen (removed or scaled) values, on top of their points.
//
// Plotly draws a changed trace anew as a whole: with 2,000 points a third of a second. A shape is drawn alone, in
// milliseconds. So a trace of marks holds the chosen values, and those that changed since are shapes.

const MAX_SHAPES = 100; // more of them are slower than the trace of marks

// Corners of plotly's own symbols of radius 1, in the order of SYMBOLS.
const OUTLINES = [
  Array.from({ length: 24 }, (_, k) => [Math.cos((k * Math.PI) / 12), Math.sin((k * Math.PI) / 12)]), // a circle
  [[1, 1], [-1, 1], [-1, -1], [1, -1]],
  [[1.3, 0], [0, 1.3], [-1.3, 0], [0, -1.3]],
  [[-1.155, 0.5], [1.155, 0.5], [0, -1]],
  [[0.951, -0.309], [0.588, 0.809], [-0.588, 0.809], [-0.951, -0.309], [0, -1]],
  [[-1.155, -0.5], [1.155, -0.5], [0, 1]],
  [[0.315, -0.433], [1.331, -0.433], [0.508, 0.165], [0.823, 1.133], [0, 0.535], [-0.823, 1.133], [-0.508, 0.165], [-1.331, -0.433], [-0.315, -0.433], [0, -1.4]],
  [[0.866, -0.5], [0.866, 0.5], [0, 1], [-0.866, 0.5], [-0.866, -0.5], [0, -1]],
];

// The smallest points have no room for a hole.
function markSizeOf(position, style) {
  return Math.max(7, sizeOf(position, style));
}

// The colour that plotly gives a score, for what is not a point of a trace.
function colourOf(score, { limit, style: { theme } }) {
  if (!Number.isFinite(score)) return theme.neutral;
  const scale = theme.dark ? SCALES.dark : SCALES.light;
  const at = (Math.max(-limit, Math.min(limit, score)) / limit + 1) / 2;
  const next = Math.max(1, scale.findIndex(([stop]) => at <= stop));
  const [[from, low], [to, high]] = [scale[next - 1], scale[next]];
  const channels = [1, 3, 5].map((k) => {
    const [a, b] = [low, high].map((hex) => parseInt(hex.slice(k, k + 2), 16));
    return Math.round(a + ((at - from) / (to - from)) * (b - a));
  });
  return `rgb(${channels.join(",")})`;
}

function outline(position, radius, dotted) {
  const path = (corners, r) => `M${corners.map(([x, y]) => `${x * r},${y * r}`).join("L")}Z`;
  const dot = dotted ? path(OUTLINES[0], 0.3) : "";
  return path(OUTLINES[position % OUTLINES.length], radius) + dot;
}

function shapeOf(series, position, index, model) {
  const { style } = model;
  const radius = markSizeOf(position, style) / 2;
  const colour = series.score ? colourOf(series.score[index], model) : style.theme.neutral;
  const chosen = Boolean(series.shown[index]);
  const look = chosen
    ? { fillcolor: style.theme.background, line: { color: colour, width: RING } }
    : { fillcolor: colour, line: style.dense ? { color: colour, width: RING } : { color: style.theme.background, width: RIM } };
  return {
    type: "path", path: outline(position, radius, chosen && isSoft(model.data)), ...look, name: `${series.matrix} ${index}`,
    xref: "x", yref: "y", xsizemode: "pixel", ysizemode: "pixel", xanchor: index, yanchor: series.ys[index],
  };
}

// What differs from the traces of marks, for the series in `visible`.
function changedMarks(model, visible) {
  const shapes = [];
  model.series.forEach((series, position) => {
    if (!visible.includes(series)) return;
    series.shown.forEach((bit, i) => { if (bit !== series.marked[i]) shapes.push([series, position, i]); });
  });
  return shapes;
}

// The chosen values as they are now, for a trace of marks.
function marksOf(series, position, model) {
  series.marked = series.shown.slice();
  const at = [...series.shown.keys()].filter((i) => series.shown[i]);
  return {
    x: at.length ? at : [null], y: at.length ? at.map((i) => series.ys[i]) : [null], // empty traces would be taken away
    symbol: SYMBOLS[position % SYMBOLS.length] + (isSoft(model.data) ? DOTTED : 0),
    colour: series.score ? at.map((i) => series.score[i]) : model.style.theme.neutral,
  };
}

function marksTrace(series, position, model) {
  const { style } = model;
  const { x, y, symbol, colour } = marksOf(series, position, model);
  return {
    type: style.type, mode: "markers", x, y, meta: { marks: series.matrix },
    marker: {
      symbol, size: markSizeOf(position, style), color: style.theme.background,
      line: { width: RING, color: colour, ...(series.score ? { coloraxis: "coloraxis" } : {}) },
    },
    unselected: { marker: { opacity: 1 } }, showlegend: false, legendgroup: series.matrix, hoverinfo: "none",
    zorder: model.series.length + 1,
  };
}

// The update that brings all traces of marks to what is chosen now, and the traces' numbers.
function marksUpdate(model) {
  const all = model.series.map((one, k) => marksOf(one, k, model));
  const each = (name) => all.map((one) => one[name]);
  return [
    { x: each("x"), y: each("y"), "marker.symbol": each("symbol"), "marker.line.color": each("colour") },
    model.series.map((_, k) => FIRST_SERIES + model.series.length + k),
  ];
}
