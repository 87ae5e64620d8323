// What is shown: decoded arrays, the displayed state of each value, and the log of picks.

// Arrays by digest, shared by all charts of the page. Python leaves out what the browser says it holds.
const ARRAYS = new Map();
const MAX_ARRAYS = 512;

// Picks by epoch (one per chart and session), so that a remounted chart goes on counting.
const LOGS = new Map();

function decode(text, Type) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return Type === Uint8Array ? bytes : new Type(bytes.buffer);
}

function storeArrays(data) {
  const kinds = new Map();
  for (const one of data.series) {
    kinds.set(one.s, Float32Array);
    if (one.score) kinds.set(one.score, Float32Array);
    if (one.blocks) kinds.set(one.blocks, Int32Array);
  }
  for (const [digest, text] of Object.entries(data.arrays)) ARRAYS.set(digest, decode(text, kinds.get(digest)));
  const used = [...kinds.keys()];
  for (const digest of used.filter((d) => ARRAYS.has(d))) {
    const array = ARRAYS.get(digest);
    ARRAYS.delete(digest);
    ARRAYS.set(digest, array); // most recently used last
  }
  for (const digest of ARRAYS.keys()) {
    if (ARRAYS.size <= MAX_ARRAYS) break;
    if (!kinds.has(digest)) ARRAYS.delete(digest);
  }
  return used;
}

function unpackBits(text, n) {
  const bytes = decode(text, Uint8Array);
  return Uint8Array.from({ length: n }, (_, i) => (bytes[i >> 3] >> (i & 7)) & 1);
}

function membersOf(blocks) {
  const members = new Map();
  blocks?.forEach((number, i) => {
    if (!number) return;
    if (!members.has(number)) members.set(number, []);
    members.get(number).push(i);
  });
  return members;
}

// Null values would stretch a logarithmic axis over ten empty decades, and zero has no place on it: both are
// drawn just below the smallest other value. The tip tells the truth.
function heights(s, score, nullFrom, data) {
  if (data.y === "score") return score ?? new Float32Array(s.length).fill(NaN);
  if (!data.log_y) return s;
  const real = s.subarray(0, nullFrom).filter((value) => value > 0);
  const floor = real.length ? real[real.length - 1] / 2 : 1;
  return s.map((value, i) => (i < nullFrom && value > 0 ? value : floor));
}

function buildSeries(one, data) {
  const s = ARRAYS.get(one.s);
  const score = one.score ? ARRAYS.get(one.score) : null;
  const blocks = one.blocks ? ARRAYS.get(one.blocks) : null;
  const nullFrom = one.null_from ?? one.n;
  return {
    matrix: one.matrix, n: one.n, s, score, blocks, members: membersOf(blocks), nullFrom, edge: one.edge,
    uncertain: new Set(one.uncertain), labels: new Map(Object.entries(one.labels).map(([i, text]) => [Number(i), text])),
    ys: heights(s, score, nullFrom, data), shown: new Uint8Array(one.n), marked: null,
  };
}

// Where the colours end: one outlier must not grey the rest.
function scoreLimit(series) {
  const sizes = series.flatMap((one) => (one.score ? Array.from(one.score, Math.abs).filter(Number.isFinite) : []));
  sizes.sort((a, b) => a - b);
  return sizes[Math.floor(0.99 * (sizes.length - 1))] || sizes[sizes.length - 1] || 1;
}

function buildModel(data) {
  const series = data.series.map((one) => buildSeries(one, data));
  return { data, series, limit: scoreLimit(series) };
}

function blockOf(series, index) {
  const number = series.blocks?.[index];
  return number ? series.members.get(number) : [index];
}

// The same rule as apply_picks in picks.py: a click toggles; a box removes, or restores if all was removed.
function applyPick(seriesByMatrix, pick, byBlock) {
  if (pick.kind === "card") return;
  const points = pick.points.filter(([matrix, indices]) => {
    const series = seriesByMatrix.get(matrix);
    return series && indices.every((i) => i < series.n);
  }).map(([matrix, indices]) => [seriesByMatrix.get(matrix), indices]);
  const restore = points.every(([series, indices]) => indices.every((i) => series.shown[i]));
  for (const [series, indices] of points) {
    for (const i of indices) {
      for (const j of byBlock ? blockOf(series, i) : [i]) series.shown[j] = restore ? 0 : 1;
    }
  }
}

function toRanges(indices) {
  const ranges = [];
  for (const i of indices) {
    if (ranges.length && ranges[ranges.length - 1] === i) ranges[ranges.length - 1] = i + 1;
    else ranges.push(i, i + 1);
  }
  return ranges;
}

function logFor(data) {
  if (!LOGS.has(data.epoch)) LOGS.set(data.epoch, { seq: 0, picks: [] });
  const log = LOGS.get(data.epoch);
  log.seq = Math.max(log.seq, data.handled);
  log.picks = log.picks.filter((pick) => pick.seq > data.handled);
  return log;
}

function logMessage(data, log, have) {
  const picks = log.picks.map(({ seq, kind, points }) => (
    { seq, kind, points: points.map(([matrix, indices]) => [matrix, toRanges(indices)]) }));
  return { epoch: data.epoch, have, picks };
}
