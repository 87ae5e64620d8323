// The plotly figure, the theme, and the words of the tip.

const SYMBOLS = [0, 1, 2, 5, 13, 6, 17, 14]; // circle, square, diamond, ...
const DOTTED = 200; // added to a symbol: with a dot
const RIM = 1.8; // pixels between points that touch
const RING = 1.6; // line of a hollow mark
const DASHES = ["solid", "dot", "dash", "dashdot", "longdash", "longdashdot"];
const WEBGL_FROM = 3000; // points
const MOST_IN_LEGEND = 12;
const FIRST_SERIES = 1; // trace 0 draws the blocks

const SCALES = { // vermilion - grey - blue, told apart in every common form of colour blindness
  light: [[0, "#a63603"], [0.25, "#e8703a"], [0.5, "#a3a3a3"], [0.75, "#4a9fd8"], [1, "#08519c"]],
  dark: [[0, "#ff7a33"], [0.25, "#d98a5f"], [0.5, "#80848c"], [0.75, "#5aa2dc"], [1, "#38b6ff"]],
};

function readTheme(host) {
  const css = getComputedStyle(host);
  const read = (name, otherwise) => css.getPropertyValue(name).trim() || otherwise;
  const background = read("--st-background-color", "#ffffff");
  const probe = document.createElement("canvas").getContext("2d");
  probe.fillStyle = background;
  probe.fillRect(0, 0, 1, 1);
  const [r, g, b] = probe.getImageData(0, 0, 1, 1).data;
  const dark = 0.299 * r + 0.587 * g + 0.114 * b < 128;
  return {
    background, dark, neutral: dark ? "#9a9ea6" : "#808080", text: read("--st-text-color", "#31333f"),
    grid: read("--st-border-color-light", "#e6e6ea"), font: read("--st-font", "sans-serif"),
    accent: read("--st-primary-color", "#ff4b4b"),
  };
}

function hasWebGL() {
  const canvas = document.createElement("canvas");
  return Boolean(canvas.getContext("webgl2") ?? canvas.getContext("webgl"));
}

function isSoft(data) {
  return data.state !== "removed";
}

function markerSize(total) {
  return total <= 150 ? 10 : total <= 800 ? 8 : total <= WEBGL_FROM ? 6 : 5;
}

// Of the points of the `position`-th series; angular symbols look smaller than circles.
function sizeOf(position, { size, dense }) {
  return size + (position && !dense ? 3 : 0);
}

function seriesTrace(series, position, model) {
  const { style } = model;
  const several = model.series.length > 1;
  const colour = series.score ? { color: series.score, coloraxis: "coloraxis" } : { color: style.theme.neutral };
  const marker = {
    symbol: SYMBOLS[position % SYMBOLS.length], size: sizeOf(position, style),
    ...colour, line: { width: style.dense ? 0 : RIM, color: style.theme.background }, // rims would hide a dense cloud
  };
  if (series.nullFrom < series.n) {
    marker.opacity = Array.from({ length: series.n }, (_, i) => (i < series.nullFrom ? 1 : 0.35));
  }
  return {
    type: style.type, mode: several ? "lines+markers" : "markers", meta: { matrix: series.matrix },
    x: Float64Array.from({ length: series.n }, (_, i) => i), y: series.ys, marker,
    line: { width: 1, color: style.theme.dark ? "#6b6f78" : "#b8b8be", dash: DASHES[position % DASHES.length] },
    unselected: { marker: { opacity: 1 } }, // a box means "toggle", so nothing stays selected
    showlegend: false, legendgroup: series.matrix, hoverinfo: "none",
    zorder: model.series.length - position, // the first one on top
  };
}

function blockTrace(model) {
  const { style } = model;
  const x = [];
  const y = [];
  for (const series of model.series) {
    for (const members of series.members.values()) {
      for (const i of members) { x.push(i); y.push(series.ys[i]); }
      x.push(null); y.push(null);
    }
  }
  return {
    type: style.type, mode: "lines", x, y, visible: x.length > 0, showlegend: false, hoverinfo: "skip",
    line: { width: style.size + 8, color: style.theme.dark ? "rgba(160,160,175,0.32)" : "rgba(120,120,140,0.22)" },
  };
}

// Plotly reads some HTML in a name.
function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

// The legend has traces of its own: plotly would copy the first point's colour and hollowness.
function legendTrace(series, position, style) {
  return {
    type: "scatter", mode: "lines+markers", x: [null], y: [null], name: escaped(series.matrix), legendgroup: series.matrix,
    marker: { symbol: SYMBOLS[position % SYMBOLS.length], size: 9, color: style.theme.neutral },
    line: { width: 1, color: style.theme.neutral, dash: DASHES[position % DASHES.length] },
    showlegend: true, hoverinfo: "skip",
  };
}

// A level across the plot, as long as its series; it goes with the series in the legend.
function edgeTrace(series, style) {
  return {
    type: "scatter", mode: "lines", x: [0, series.n - 1], y: [series.edge, series.edge],
    line: { width: 1.2, color: style.theme.neutral, dash: "dash" },
    showlegend: false, legendgroup: series.matrix, hoverinfo: "skip",
  };
}

// A question mark above each value the sign of whose score is in doubt.
function uncertainTrace(series, position, model) {
  const { style } = model;
  const at = [...series.uncertain];
  return {
    type: "scatter", mode: "markers+text", x: at, y: at.map((i) => series.ys[i]), text: at.map(() => "<b>?</b>"),
    marker: { size: sizeOf(position, style), opacity: 0 }, // keeps the text clear of the point
    textposition: "top center", textfont: { size: 12, color: style.theme.text }, meta: "uncertain",
    unselected: { marker: { opacity: 0 } }, showlegend: false, legendgroup: series.matrix, hoverinfo: "skip",
    zorder: model.series.length + 2,
  };
}

// As high as was asked for, or as the window has room for beside what stands around the plot.
function heightOf({ height, around }) {
  return around ? Math.max(height, window.innerHeight - around) : height;
}

// A legend of more matrices would take the plot's place; pointing at a value names its matrix.
function hasLegend({ series }) {
  return series.length > 1 && series.length <= MOST_IN_LEGEND;
}

// What people call a value, beside it where the curve leaves room; plotly reads text as HTML.
function labelTrace(series, position, model) {
  const { style } = model;
  const at = [...series.labels.keys()];
  const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  return {
    type: "scatter", mode: "markers+text", x: at, y: at.map((i) => series.ys[i]),
    text: at.map((i) => plain(series.labels.get(i))), marker: { size: sizeOf(position, style), opacity: 0 },
    textposition: at.map((i) => (i < 0.7 * series.n ? "top right" : "top left")), textfont: { size: 11, color: style.theme.text }, meta: "label", cliponaxis: false,
    unselected: { marker: { opacity: 0 } }, showlegend: false, legendgroup: series.matrix, hoverinfo: "skip",
    zorder: model.series.length + 2,
  };
}

function buildTraces(model, theme) {
  const total = model.series.reduce((sum, one) => sum + one.n, 0);
  const type = total > WEBGL_FROM && hasWebGL() ? "scattergl" : "scatter";
  const style = { type, size: markerSize(total), dense: total > 150, theme };
  model.style = style;
  const each = (build) => model.series.map((one, k) => build(one, k, model));
  const traces = [blockTrace(model), ...each(seriesTrace), ...each(marksTrace)];
  if (hasLegend(model)) traces.push(...model.series.map((one, k) => legendTrace(one, k, style)));
  if (model.data.y !== "score") {
    traces.push(...model.series.filter((one) => one.edge).map((one) => edgeTrace(one, style)));
  }
  traces.push(...each(uncertainTrace).filter((trace) => trace.x.length));
  traces.push(...each(labelTrace).filter((trace) => trace.x.length));
  return traces;
}

function buildLayout(model, theme) {
  const { data } = model;
  const axis = {
    gridcolor: theme.grid, zerolinecolor: theme.grid, linecolor: theme.grid, automargin: true,
    tickfont: { size: 12 }, title: { font: { size: 13 }, standoff: 8 },
  };
  const yTitle = data.y === "score" ? "score (nats)" : "singular value";
  return {
    autosize: true, height: heightOf(data), margin: { l: 64, r: 16, t: 36, b: hasLegend(model) ? 64 : 48 },
    paper_bgcolor: theme.background, plot_bgcolor: theme.background,
    font: { family: theme.font, color: theme.text, size: 13 },
    uirevision: JSON.stringify([model.series.map((one) => one.matrix), data.y, data.log_y]),
    modebar: {
      uirevision: "tool", orientation: "h", bgcolor: "rgba(0,0,0,0)",
      color: theme.dark ? "#8b8f98" : "#9599a3", activecolor: theme.accent,
    },
    dragmode: data.interactive ? "select" : "zoom", hovermode: false,
    newselection: { line: { color: theme.text, width: 1, dash: "dot" } },
    xaxis: { ...axis, title: { ...axis.title, text: "index" }, zeroline: false },
    yaxis: {
      ...axis, title: { ...axis.title, text: yTitle }, type: data.log_y ? "log" : "linear",
      zeroline: data.y === "score", zerolinewidth: 2, tickformat: data.log_y ? "~g" : "",
      nticks: data.log_y ? 4 : 0, // more would label 0.8, 0.9 and 1 on top of each other
    },
    legend: { orientation: "h", x: 0, y: 0, yref: "container", yanchor: "bottom", font: { size: 12 } },
    coloraxis: {
      colorscale: theme.dark ? SCALES.dark : SCALES.light, cmin: -model.limit, cmax: model.limit,
      showscale: model.series.some((one) => one.score),
      colorbar: { title: { text: "score (nats)", side: "right", font: { size: 12 } }, thickness: 10, outlinewidth: 0, tickfont: { size: 11 }, nticks: 7 },
    },
  };
}

function plotConfig({ data, series }, Plotly, gd) {
  const name = `spectrum-${data.series.map((one) => one.matrix).join("-")}`.slice(0, 80).replace(/[^\w.-]/g, "_");
  const svg = {
    name: "svg", title: "Download as SVG", icon: Plotly.Icons.disk,
    click: () => Plotly.downloadImage(gd, { format: "svg", filename: name }),
  };
  const csv = { name: "csv", title: "Download as CSV", icon: Plotly.Icons.table ?? CSV_ICON, click: () => saveText(`${name}.csv`, tableOf(series)) };
  const picking = data.interactive ? ["select2d", "lasso2d"] : [];
  return {
    displaylogo: false, showSendToCloud: false, plotlyServerURL: "", displayModeBar: true, scrollZoom: false,
    doubleClick: false, doubleClickDelay: 0, // a second quick click would draw every point anew
    showTips: false, showAxisRangeEntryBoxes: false,
    modeBarButtons: [[...picking, "zoom2d", "pan2d"], ["resetScale2d"], ["toImage", svg, csv]],
    toImageButtonOptions: { format: "png", scale: 2, filename: name },
  };
}

function number(value, digits) {
  if (!Number.isFinite(value)) return "none";
  if (value === 0) return "0";
  const small = Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5;
  const text = small ? value.toExponential(digits - 1) : value.toPrecision(digits);
  return text.replace("-", "\u2212").replace("e-", "e\u2212");
}

const CARD = /^L\d+\.(Q|K|V|O|IN|GATE|OUT)(\.H\d+)?$/; // what has a card: no product, no matrix of a second model

function describePoint(series, index, data) {
  const label = series.labels.get(index);
  const lines = [`${series.matrix}, index ${index}`, ...(label ? [label] : []), `singular value ${number(series.s[index], 5)}`];
  if (series.score) {
    const score = series.score[index];
    const sign = score > 0 ? "+" : "";
    const meaning = score < 0 ? " (removing helps)" : score > 0 ? " (the task needs it)" : "";
    lines.push(`score ${sign}${number(score, 3)}${Number.isFinite(score) ? " nats" : ""}${meaning}`);
    if (series.uncertain.has(index)) lines.push("the sign of its score is in doubt: measure it");
  }
  lines.push(series.shown[index] ? data.state : "kept");
  const members = blockOf(series, index);
  if (members.length > 1) {
    const ranges = toRanges(members);
    const parts = [];
    for (let k = 0; k < ranges.length; k += 2) {
      parts.push(ranges[k + 1] - ranges[k] > 1 ? `${ranges[k]}\u2013${ranges[k + 1] - 1}` : `${ranges[k]}`);
    }
    lines.push(`degenerate block: ${parts.join(", ")}`);
  }
  if (index >= series.nullFrom) lines.push("numerically null");
  if (data.cards && CARD.test(series.matrix)) lines.push(`${data.interactive ? "Shift-click" : "click"} for its card`);
  return lines;
}
