// From pixels to points and back, through plotly's own axes.

const CLICK_SLOP = 4; // pixels that a click may move, along each axis
const REACH = 8; // pixels from the pointer to the nearest point

// The pointer relative to the plot area.
function relative(plot, event) {
  const { left, top } = plot.getBoundingClientRect();
  const { xaxis, yaxis } = plot._fullLayout;
  return { px: event.clientX - left - xaxis._offset, py: event.clientY - top - yaxis._offset, xaxis, yaxis };
}

function insidePlot(plot, event) {
  if (event.target.closest?.(".modebar, .legend, .colorbar")) return false;
  const { px, py, xaxis, yaxis } = relative(plot, event);
  return px >= -REACH && py >= -REACH && px <= xaxis._length + REACH && py <= yaxis._length + REACH;
}

// The abscissa is the index, so only the few indices under the pointer are measured.
function nearestPoint(plot, visible, event) {
  const { px, py, xaxis, yaxis } = relative(plot, event);
  const reach = event.pointerType === "touch" ? 2 * REACH : REACH;
  let best = null;
  let bestDistance = reach;
  for (const series of visible) {
    const first = Math.max(0, Math.ceil(xaxis.p2d(px - reach)));
    const last = Math.min(series.n - 1, Math.floor(xaxis.p2d(px + reach)));
    for (let index = first; index <= last; index++) {
      const distance = Math.hypot(xaxis.d2p(index) - px, yaxis.d2p(series.ys[index]) - py);
      if (distance <= bestDistance) { best = { series, index }; bestDistance = distance; }
    }
  }
  return best;
}

function isTiny(plot, { x, y }) {
  const { xaxis, yaxis } = plot._fullLayout;
  const extent = (values, axis) => {
    const pixels = values.map((value) => axis.d2p(value));
    return Math.max(...pixels) - Math.min(...pixels);
  };
  return extent(x, xaxis) <= CLICK_SLOP && extent(y, yaxis) <= CLICK_SLOP;
}

// Put ring and tip at a point; false if it has no place on the axes.
function placeTip(root, plot, ring, tip, { series, index }, data) {
  const { xaxis, yaxis } = plot._fullLayout;
  const left = plot.offsetLeft + xaxis._offset + xaxis.d2p(index);
  const top = plot.offsetTop + yaxis._offset + yaxis.d2p(series.ys[index]);
  if (!Number.isFinite(left + top)) return false;
  tip.replaceChildren(...describePoint(series, index, data).map((text) => {
    const line = document.createElement("div");
    line.textContent = text;
    return line;
  }));
  ring.hidden = tip.hidden = false; // a hidden tip has no size
  const { offsetWidth: width, offsetHeight: height } = tip;
  const x = left + 16 + width < root.clientWidth ? left + 16 : Math.max(0, left - 16 - width);
  const y = top - 16 - height >= 0 ? top - 16 - height : Math.min(top + 16, root.clientHeight - height);
  ring.style.transform = `translate(${left}px, ${top}px)`;
  tip.style.transform = `translate(${x}px, ${y}px)`;
  return true;
}

// Where an arrow key leads from `at` (null = nothing focused yet); null if the key is not ours.
function stepPoint(key, at, visible) {
  const move = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity }[key];
  const turn = { ArrowUp: visible.length - 1, ArrowDown: 1 }[key];
  if (move === undefined && turn === undefined) return null;
  if (!at) return { series: visible[0], index: key === "End" ? visible[0].n - 1 : 0 };
  const series = turn === undefined ? at.series : visible[(visible.indexOf(at.series) + turn) % visible.length];
  return { series, index: Math.max(0, Math.min(series.n - 1, at.index + (move ?? 0))) };
}
