// plotly, loaded when a figure is first wanted; one look for all; a zoom survives new data.

const CONFIG = { displayModeBar: false, responsive: true, showSendToCloud: false, plotlyServerURL: "", doubleClick: "reset" };
let loading = null;

function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "static/plotly.min.js";
    script.onload = () => resolve(globalThis.Plotly);
    script.onerror = () => { loading = null; reject(new Error("plotly could not be loaded")); };
    document.head.append(script);
  });
  return loading;
}

/** Draw into `node`, or change what is drawn there. Colours may be names of CSS variables.
 * `on`: event -> listener, set once; `config`: plotly's, where it is another than for all. Nothing
 * is done where nothing changed. */
export async function draw(node, traces, layout, { on = {}, config = {}, seen = false } = {}) {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const stamp = JSON.stringify([traces, layout, dark]);
  if (node.stamp === stamp) return;
  if (!seen && !isNear(node)) {
    whenNear(node, () => draw(node, traces, layout, { on, config, seen: true }));
    return;
  }
  node.stamp = stamp;
  node.later = null;
  let library;
  try {
    library = await plotly();
  } catch (error) {
    node.stamp = null;
    node.textContent = error.message;
    return;
  }
  if (node.stamp !== stamp || !node.isConnected) return;
  await library.react(node, inColour(traces), inColour(themed(layout)), { ...CONFIG, ...config });
  if (!node.listens) {
    node.listens = true;
    for (const [name, listener] of Object.entries(on)) node.on(name, listener);
  }
}

// A figure that is far below is drawn when it comes near.
const MARGIN_PX = 400;
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting && target.later) {
      watcher.unobserve(target);
      target.later();
    }
  }
}, { rootMargin: `${MARGIN_PX}px` });

function isNear(node) {
  const box = node.getBoundingClientRect();
  return box.width > 0 && box.top < innerHeight + MARGIN_PX && box.bottom > -MARGIN_PX;
}

function whenNear(node, then) {
  node.later = then;
  watcher.observe(node);
}

function themed(layout) {
  const axis = { gridcolor: "--grid-line", zerolinecolor: "--grid-line", linecolor: "--border-strong", tickfont: { size: 11 }, ticks: "", automargin: true };
  const axes = Object.keys(layout).filter((name) => /^[xy]axis/.test(name));
  return {
    uirevision: "kept",
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    showlegend: true,
    hoverlabel: { bgcolor: "--surface-raised", bordercolor: "--border-strong", font: { color: "--text", size: 12 } },
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: "--muted" },
    ...layout,
    ...Object.fromEntries(axes.map((name) => [name, { ...axis, ...layout[name] }])),
  };
}

/** CSS variables as the colours that they are now. */
function inColour(value) {
  if (typeof value === "string") return value.startsWith("--") ? getComputedStyle(document.documentElement).getPropertyValue(value).trim() : value;
  if (Array.isArray(value)) return value.map(inColour);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, inColour(one)]));
  return value;
}
