
// The chart in a notebook: messages come from the widget's model instead of from Streamlit.

const LIBRARY = Symbol.for("eigenprune plotly.js");

// plotly.js as Python has it, asked for once per page, so that it is not part of the saved notebook.
function libraryUrl(model) {
  globalThis[LIBRARY] ??= new Promise((resolve) => {
    const take = (message, buffers) => {
      if (!message.plotly) return;
      model.off("msg:custom", take);
      resolve(URL.createObjectURL(new Blob([buffers[0]], { type: "text/javascript" })));
    };
    model.on("msg:custom", take);
    model.send({ wants: "plotly" });
  });
  return globalThis[LIBRARY];
}

function drawFigures(table, rows) {
  table.replaceChildren();
  table.hidden = rows.length === 0;
  rows.forEach((row, k) => {
    const line = table.insertRow();
    row.forEach((text, column) => {
      const cell = document.createElement(k && column ? "td" : "th");
      cell.scope = k ? "row" : "col";
      cell.textContent = text;
      line.append(cell);
    });
  });
}

function render({ model, el }) {
  const host = document.createElement("div");
  host.className = "eigenprune-widget";
  host.dataset.lmSuppressShortcuts = "true"; // JupyterLab's keys are not for the plot
  const chart = document.createElement("div");
  const table = document.createElement("table");
  table.setAttribute("aria-live", "polite");
  host.append(chart, table);
  el.append(host);
  let destroy = () => {};
  const send = (name, value) => { model.set("log_sent", value); model.save_changes(); };
  const update = async () => {
    const plotly = await libraryUrl(model);
    destroy = mountChart({ parentElement: chart, data: { ...model.get("data"), plotly }, setStateValue: send });
  };
  const measured = () => drawFigures(table, model.get("figures"));
  model.on("change:data", update);
  model.on("change:figures", measured);
  update();
  measured();
  return () => {
    model.off("change:data", update);
    model.off("change:figures", measured);
    destroy();
  };
}

export default { render };
