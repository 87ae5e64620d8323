// plotly.js, once for the page, from this server.

function loadPlotly(url) {
  const slot = Symbol.for(`eigenprune ${url}`);
  globalThis[slot] ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = url;
    script.onload = () => resolve(globalThis.Plotly);
    script.onerror = () => {
      delete globalThis[slot]; // try again at the next draw
      script.remove();
      reject(new Error("The plot library could not be loaded from the server. Reload the page."));
    };
    document.head.append(script);
  });
  return globalThis[slot];
}
