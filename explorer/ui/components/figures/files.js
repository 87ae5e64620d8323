// A plot that Streamlit drew as PNG and SVG, as it stands on the screen: zoomed, and in its theme; its data as CSV.

const FILL = { png: 2, svg: 1 }; // pixels of the file per pixel of the screen

async function saveImage(data, format) {
  const drawn = document.querySelector(`.st-key-figure-${data.name} .js-plotly-plot`);
  const Plotly = await loadPlotly(data.plotly);
  const { width, height, paper_bgcolor: paper } = drawn._fullLayout;
  const page = getComputedStyle(document.querySelector("[data-testid=stApp]")).backgroundColor;
  const clear = /^(transparent|rgba\(.*,\s*0\))$/.test(paper);
  const layout = { ...drawn.layout, ...(clear ? { paper_bgcolor: page } : {}) };
  await Plotly.downloadImage({ data: drawn.data, layout }, { format, width, height, scale: FILL[format], filename: data.name });
}

export default function ({ data, parentElement }) {
  for (const button of parentElement.querySelectorAll("button")) {
    const { format } = button.dataset;
    button.setAttribute("aria-label", `Download as ${format.toUpperCase()}`);
    button.onclick = () => format === "csv" ? saveText(`${data.name}.csv`, data.csv) : saveImage(data, format);
  }
}
