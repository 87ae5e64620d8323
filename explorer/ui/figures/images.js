// PNG and SVG of a plot that Streamlit drew, as it stands on the screen: zoomed, and in its theme.

const FILL = { png: 2, svg: 1 }; // pixels of the file per pixel of the screen

async function save(data, format) {
  const drawn = document.querySelector(`.st-key-figure-${data.plot} .js-plotly-plot`);
  const Plotly = await loadPlotly(data.plotly);
  const { width, height, paper_bgcolor: paper } = drawn._fullLayout;
  const page = getComputedStyle(document.querySelector("[data-testid=stApp]")).backgroundColor;
  const clear = /^(transparent|rgba\(.*,\s*0\))$/.test(paper);
  const layout = { ...drawn.layout, ...(clear ? { paper_bgcolor: page } : {}) };
  await Plotly.downloadImage({ data: drawn.data, layout }, { format, width, height, scale: FILL[format], filename: data.name });
}

export default function ({ data, parentElement }) {
  for (const button of parentElement.querySelectorAll("button")) {
    button.setAttribute("aria-label", `Download as ${button.dataset.format.toUpperCase()}`);
    button.onclick = () => save(data, button.dataset.format);
  }
}
