// One mounted chart: draws, listens to the pointer and the keyboard, talks to Python.

const DOUBLE_CLICK_MS = 400;
const RETRY_MS = 500; // twice as long after each failure
const MAX_FAILURES = 6;
const CHARTS = new WeakMap();

function element(parent, name, tag = "div") {
  const child = document.createElement(tag);
  child.className = `spectrum-chart${name ? `__${name}` : ""}`;
  parent.append(child);
  return child;
}

class SpectrumChart {
  constructor(parent) {
    this.root = element(parent, "");
    this.root.dataset.testid = "spectrum-chart";
    this.key = element(this.root, "key");
    this.plot = element(this.root, "plot");
    this.ring = element(this.root, "ring");
    this.tip = element(this.root, "tip");
    this.live = element(this.root, "live");
    this.live.setAttribute("aria-live", "polite");
    this.ring.hidden = this.tip.hidden = true;
    this.root.tabIndex = 0;
    this.root.setAttribute("role", "application");
    this.stop = new AbortController();
    this.drawing = Promise.resolve();
    this.failures = 0;
    this.listen();
  }

  // ---- from Python

  update(component) {
    this.component = component;
    clearTimeout(this.retry);
    this.drawing = this.drawing.then(() => this.draw(component)).then(() => { this.failures = 0; }).catch((error) => {
      this.key.textContent = error.message;
      if (component === this.component) this.failed(component, error);
    });
  }

  // What failed may succeed soon: a server that is busy, or that starts again.
  failed(component, error) {
    const again = this.failures < MAX_FAILURES && !this.stop.signal.aborted;
    console[again ? "warn" : "error"](error);
    if (again) this.retry = setTimeout(() => this.update(component), RETRY_MS * 2 ** this.failures++);
  }

  async draw(component) {
    this.Plotly = await loadPlotly(component.data.plotly);
    if (component !== this.component || this.stop.signal.aborted) return; // a newer message follows
    const { data } = component;
    const used = storeArrays(data);
    this.log = logFor(data);
    this.have = used.filter((digest) => ARRAYS.has(digest));
    if (this.have.length < used.length) { this.askForArrays(data); return; }
    const theme = readTheme(this.root);
    const shape = JSON.stringify([
      data.series.map((one) => [one.matrix, one.s, one.score, one.blocks, one.null_from, one.edge]),
      data.y, data.log_y, data.height, data.around, data.interactive, theme,
    ]);
    if (shape !== this.shape) this.model = buildModel(data);
    this.model.data = data;
    this.byMatrix = new Map(this.model.series.map((one) => [one.matrix, one]));
    const changed = this.replay();
    if (shape !== this.shape) await this.redraw(shape, theme);
    else if (changed || this.state !== data.state) this.recolour();
    if (this.state !== data.state) this.name(data.state);
  }

  askForArrays(data) {
    if (this.asked === data.epoch) return;
    this.asked = data.epoch;
    this.component.setStateValue("log", logMessage(data, this.log, []));
  }

  // Python's state, with the picks that Python has not seen on top.
  replay() {
    const before = this.model.series.map((one) => one.shown);
    this.model.data.series.forEach((one, k) => { this.model.series[k].shown = unpackBits(one.removed, one.n); });
    for (const pick of this.log.picks) applyPick(this.byMatrix, pick, this.model.data.by_block);
    return this.model.series.some((one, k) => one.shown.some((bit, i) => bit !== before[k][i]));
  }

  async redraw(shape, theme) {
    const { data, series } = this.model;
    this.asked = null;
    this.hide();
    this.root.dataset.chartKey = data.key;
    this.plot.style.height = `${heightOf(data)}px`;
    this.name(data.state);
    const traces = buildTraces(this.model, theme);
    this.marked = data.state;
    const { model } = this;
    await this.Plotly.react(this.plot, traces, buildLayout(model, theme), plotConfig(model, this.Plotly, this.plot));
    this.drawn = model;
    this.shape = shape;
    if (this.late) this.recolour();
    if (!this.wired) this.wire();
    this.root.dataset.ready = String(series.length);
  }

  // The window has another height.
  resized() {
    const height = this.drawn && heightOf(this.drawn.data);
    if (!this.drawn || this.plot.layout.height === height) return;
    this.plot.style.height = `${height}px`;
    this.Plotly.relayout(this.plot, { height });
  }

  // The words outside of the plot, which know what chosen values are.
  name(state) {
    this.state = state;
    this.root.setAttribute("aria-label", this.label());
    this.drawKey();
  }

  label() {
    const { data, series } = this.model;
    const what = data.y === "score" ? "Scores of the singular values" : "Singular values";
    const how = data.interactive ? `, Enter or Space ${isSoft(data) ? "scales" : "removes"} or restores one` : "";
    const card = data.interactive ? ", with Shift its card opens" : data.cards ? ", Enter opens a card" : "";
    return `${what} of ${series.map((one) => one.matrix).join(", ")}. Arrow keys move between points${how}${card}.`;
  }

  drawKey() {
    this.key.replaceChildren();
    const entry = (name, text) => {
      const item = element(this.key, "item", "span");
      element(item, name, "i");
      item.append(text);
    };
    entry("kept", "kept");
    entry(isSoft(this.model.data) ? "scaled" : "removed", this.model.data.state);
    if (this.model.series.some((one) => one.members.size)) entry("block", "degenerate block");
    if (this.model.series.some((one) => one.uncertain.size)) entry("uncertain", "sign in doubt");
    if (this.model.series.some((one) => one.nullFrom < one.n)) entry("null", "null");
    if (this.model.data.y !== "score" && this.model.series.some((one) => one.edge)) entry("edge", "bulk edge");
  }

  recolour() {
    this.late = this.drawn !== this.model; // the new traces are still being drawn
    if (this.late) return;
    const changed = changedMarks(this.model, this.visible());
    if (changed.length > MAX_SHAPES || this.marked !== this.model.data.state) {
      const [update, traces] = marksUpdate(this.model);
      this.marked = this.model.data.state;
      this.Plotly.update(this.plot, update, { shapes: [] }, traces);
    } else if (changed.length || this.plot.layout.shapes?.length) {
      this.Plotly.relayout(this.plot, { shapes: changed.map((one) => shapeOf(...one, this.model)) });
    }
    if (this.at && !this.tip.hidden) this.show(this.at);
  }

  // ---- to Python

  pick(kind, points) {
    const { data } = this.model;
    if (!(kind === "card" ? data.cards : data.interactive) || points.length === 0) return;
    const pick = { seq: ++this.log.seq, kind, points };
    this.log.picks.push(pick);
    this.component.setStateValue("log", logMessage(this.model.data, this.log, this.have));
    applyPick(this.byMatrix, pick, this.model.data.by_block);
    this.recolour();
  }

  // ---- events

  // The pointer is read here: plotly drops a click whose move came less than 50 ms before the press.
  listen() {
    const on = (target, name, handler, capture = false) => target.addEventListener(name, handler, { signal: this.stop.signal, capture });
    on(this.plot, "pointerdown", (event) => this.press(event), true);
    on(window, "pointermove", (event) => this.drag(event), true);
    on(window, "pointerup", (event) => this.release(event), true);
    on(window, "pointercancel", () => { this.pressed = null; }, true);
    on(this.plot, "pointermove", (event) => this.move(event));
    on(this.plot, "pointerleave", () => this.hide());
    on(this.root, "keydown", (event) => this.keydown(event));
    on(this.root, "focus", () => this.focused());
    on(this.root, "blur", () => this.hide());
    on(window, "resize", () => this.resized());
    this.observer = new ResizeObserver(() => {
      if (this.shape && this.root.clientWidth && this.root.clientWidth !== this.plot._fullLayout?.width) {
        this.hide();
        this.Plotly.Plots.resize(this.plot);
      }
    });
    this.observer.observe(this.root);
  }

  wire() {
    this.wired = true;
    this.plot.on("plotly_relayout", (change) => { if (!change.shapes) this.hide(); });
    this.plot.on("plotly_restyle", () => this.recolour()); // the legend shows and hides series
    this.plot.on("plotly_selected", (event) => this.selected(event));
  }

  selected(event) {
    if (!event?.points) return;
    // Plotly is still inside its own mouse handler. What it greyed outside of the box gets its colours back.
    setTimeout(() => {
      if (!this.stop.signal.aborted) this.Plotly.update(this.plot, { selectedpoints: [null] }, { selections: [] });
    });
    if (event.lassoPoints && isTiny(this.plot, event.lassoPoints)) return; // plotly begins a lasso after one pixel
    const chosen = new Map();
    for (const { curveNumber, pointNumber } of event.points) {
      const series = this.drawn.series[curveNumber - FIRST_SERIES];
      if (!series) continue;
      if (!chosen.has(series.matrix)) chosen.set(series.matrix, []);
      chosen.get(series.matrix).push(pointNumber);
    }
    for (const indices of chosen.values()) indices.sort((a, b) => a - b);
    this.pick(event.lassoPoints ? "lasso" : "box", [...chosen]);
  }

  press(event) {
    this.pressed = null;
    if (event.button !== 0 || !event.isPrimary || !this.inside(event)) return;
    this.pressed = { id: event.pointerId, x: event.clientX, y: event.clientY, at: this.nearest(event) };
  }

  // A drag stays a drag when it comes back to where it began.
  drag(event) {
    if (this.pressed?.id !== event.pointerId) return;
    const way = Math.max(Math.abs(event.clientX - this.pressed.x), Math.abs(event.clientY - this.pressed.y));
    if (way > CLICK_SLOP) this.pressed = null;
  }

  release(event) {
    this.drag(event);
    const { pressed } = this;
    if (pressed?.id !== event.pointerId) return;
    this.pressed = null;
    if (pressed.at) this.pick(this.kindOf(event), [[pressed.at.series.matrix, [pressed.at.index]]]);
    else this.emptyClick(event);
  }

  // With Shift, or where there is nothing to remove, a point's card is asked for.
  kindOf(event) {
    return event.shiftKey || !this.model.data.interactive ? "card" : "click";
  }

  // A double click on a point is two toggles, on an empty place it resets the axes. The browser's own dblclick
  // never comes: plotly lays a cover over the page at each press.
  emptyClick(event) {
    const last = this.lastEmpty;
    const again = last && event.timeStamp - last.time < DOUBLE_CLICK_MS && Math.hypot(event.clientX - last.x, event.clientY - last.y) <= REACH;
    this.lastEmpty = again ? null : { time: event.timeStamp, x: event.clientX, y: event.clientY };
    if (again) this.Plotly.relayout(this.plot, { "xaxis.autorange": true, "yaxis.autorange": true });
  }

  move(event) {
    this.pointer = event;
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      if (!this.shape || this.stop.signal.aborted) return;
      const at = this.pointer.buttons || !this.inside(this.pointer) ? null : this.nearest(this.pointer);
      this.plot.classList.toggle("spectrum-chart__plot--over", Boolean(at && this.model.data.cards));
      if (at) this.show(at);
      else this.hide();
    });
  }

  keydown(event) {
    if (!this.shape || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") { this.hide(); return; }
    const visible = this.visible();
    if (visible.length === 0) return;
    const at = this.cursor(visible);
    if (event.key === "Enter" || event.key === " ") {
      if (!at) return;
      this.show(at);
      this.pick(this.kindOf(event), [[at.series.matrix, [at.index]]]);
    } else {
      const next = stepPoint(event.key, at, visible);
      if (!next) return;
      this.show(next);
    }
    event.preventDefault();
    event.stopPropagation();
    this.announce();
  }

  // Who comes by the Tab key sees at once where the cursor is.
  focused() {
    if (!this.shape || !this.root.matches(":focus-visible")) return;
    const visible = this.visible();
    if (visible.length === 0) return;
    this.show(this.cursor(visible) ?? stepPoint("Home", null, visible));
    this.announce();
  }

  // Where the cursor is among the series as they are drawn now; null if its matrix is not there any more.
  cursor(visible) {
    const series = visible.find((one) => one.matrix === this.at?.series.matrix);
    return series && this.at.index < series.n ? { series, index: this.at.index } : null;
  }

  announce() {
    this.live.textContent = describePoint(this.at.series, this.at.index, this.model.data).join(", ");
  }

  // ---- what is under the pointer or the focus

  visible() {
    return this.drawn.series.filter((_, k) => this.plot._fullData[k + FIRST_SERIES]?.visible === true);
  }

  inside(event) {
    return Boolean(this.shape) && insidePlot(this.plot, event);
  }

  nearest(event) {
    return nearestPoint(this.plot, this.visible(), event);
  }

  show(at) {
    this.at = at;
    this.ring.hidden = this.tip.hidden = !placeTip(this.root, this.plot, this.ring, this.tip, at, this.model.data);
  }

  hide() {
    this.ring.hidden = this.tip.hidden = true;
  }

  destroy() {
    this.stop.abort();
    clearTimeout(this.retry);
    this.observer.disconnect();
    if (this.Plotly) this.Plotly.purge(this.plot);
    this.root.remove();
  }
}

export default function (component) {
  const { parentElement } = component;
  if (!CHARTS.has(parentElement)) CHARTS.set(parentElement, new SpectrumChart(parentElement));
  const chart = CHARTS.get(parentElement);
  chart.update(component);
  return () => {
    if (CHARTS.get(parentElement) === chart) CHARTS.delete(parentElement);
    chart.destroy();
  };
}
