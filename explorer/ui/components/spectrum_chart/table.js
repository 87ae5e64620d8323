// The plot's data as CSV: one row per singular value, as it is now.

const CSV_ICON = { width: 24, height: 24, path: "M3 4h18v16H3V4zm2 6v3h4v-3H5zm6 0v3h8v-3h-8zm-6 5v3h4v-3H5zm6 0v3h8v-3h-8z" };

function tableOf(series) {
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const rows = series.flatMap((one) => Array.from(one.s, (s, i) => [
    quoted(one.matrix), i, s, Number.isFinite(one.score?.[i]) ? one.score[i] : "", one.shown[i] ? "removed" : "kept",
    one.blocks?.[i] || "", i >= one.nullFrom ? 1 : 0, quoted(one.labels.get(i) ?? ""),
  ]));
  return [["matrix", "index", "singular value", "score (nats)", "state", "block", "null", "label"], ...rows].map((row) => row.join(",")).join("\n") + "\n";
}
