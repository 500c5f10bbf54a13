// The plots. Each is a uPlot in a box of its own; all are kept, so that they can be checked.

const plots = [];
const PLOT_HEIGHT = 210;

function addPlot(parent, title, series, data, options = {}) {
  const box = element("div", { class: "plot" }, element("p", {}, title));
  parent.append(box);
  const plot = new uPlot({
    width: Math.max(340, box.clientWidth - 14),
    height: options.height || PLOT_HEIGHT,
    padding: options.padding || [null, null, null, null],
    cursor: { points: { size: 7 } },
    legend: { live: false },
    scales: { x: { time: false, ...options.x }, y: options.y || {} },
    axes: [
      { grid: { show: false }, ...options.xAxis },
      { size: 64, ...(options.y?.distr === 3 ? { splits: () => decades(options.y.range) } : {}), values: (_, values) => values.map((value) => (value === null ? "" : (options.format || number)(value))), ...options.yAxis },
    ],
    series: [{ label: options.xLabel || "" }, ...series],
    hooks: options.hooks || {},
  }, data, box);
  plots.push({ title, plot });
}

function lineSeries(label, colour, dash) {
  return { label, stroke: colour, width: 2, dash, spanGaps: true, points: { show: true, size: 6, fill: colour } };
}

// One bar for each entry { label, value, colour }, with its value above.
function addBars(parent, title, entries, format) {
  entries = entries.filter((entry) => Number.isFinite(entry.value));
  if (entries.length === 0) return;
  const places = entries.map((_, index) => index);
  const labels = { values: (_, values) => values.map((value) => entries[value]?.label || ""), splits: () => places };
  const series = entries.map((entry) => ({
    label: entry.label, stroke: entry.colour, fill: entry.colour,
    paths: uPlot.paths.bars({ size: [0.6, 90] }), points: { show: false },
  }));
  const data = [places, ...entries.map((entry, own) => places.map((place) => (place === own ? entry.value : null)))];
  const highest = Math.max(...entries.map((entry) => entry.value)) || 1;
  const drawValues = (plot) => {
    plot.ctx.save();
    plot.ctx.fillStyle = "#1c2530";
    plot.ctx.textAlign = "center";
    plot.ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
    entries.forEach((entry, place) => {
      const x = plot.valToPos(place, "x", true);
      plot.ctx.fillText(format(entry.value), x, plot.valToPos(entry.value, "y", true) - 5 * devicePixelRatio);
    });
    plot.ctx.restore();
  };
  addPlot(parent, title, series, data, {
    format,
    x: { range: [-0.6, entries.length - 0.4] },
    y: { range: [0, highest * 1.15] },
    xAxis: labels,
    hooks: { draw: [drawValues] },
  });
}

// Lines over a common x: curves are { label, colour, points: [[x, y], ...], dash }.
function addLines(parent, title, curves, options) {
  curves = curves.filter((curve) => curve.points.length > 0);
  if (curves.length === 0) return;
  const tables = curves.map((curve) => [curve.points.map(([x]) => x), curve.points.map(([, y]) => y)]);
  const data = uPlot.join(tables);
  addPlot(parent, title, curves.map((curve) => lineSeries(curve.label, curve.colour, curve.dash)), data, options);
}

// A logarithmic scale that holds all values, from power to power.
function logScale(values) {
  const positive = values.filter((value) => value > 0);
  const low = 10 ** Math.floor(Math.log10(Math.min(...positive)));
  const high = 10 ** Math.ceil(Math.log10(Math.max(...positive) * 1.01));
  return { distr: 3, range: [low, high] };
}

function decades([low, high]) {
  const found = [];
  for (let value = low; value <= high * 1.001; value *= 10) found.push(value);
  return found;
}

const PERCENTILES = [["p50", 0.3], ["p90", 1], ["p95", 1.3], ["p99", 2], ["p99.9", 3], ["p99.99", 4], ["max", 5]];
const LATENCY_FIELDS = ["p50", "p90", "p95", "p99", "p999", "p9999", "max"];

// Shares on a scale where each further nine takes the same room.
function addLatencyCurves(parent, title, curves) {
  const drawn = curves.map(({ label, colour, latency, dash }) => ({
    label, colour, dash,
    points: LATENCY_FIELDS.map((field, index) => [PERCENTILES[index][1], latency[field]]).filter(([, ns]) => ns > 0),
  }));
  const values = drawn.flatMap((curve) => curve.points.map(([, ns]) => ns));
  if (values.length === 0) return;
  const place = new Map(PERCENTILES.map(([name, at]) => [at, name]));
  addLines(parent, title, drawn, {
    format: duration,
    y: logScale(values),
    x: { range: [0.1, 5.2] },
    xAxis: { splits: () => [0.3, 1, 2, 3, 4, 5], values: (_, at) => at.map((value) => place.get(value) || "") },
  });
}

// For each series of each plot: how many pixels have its colour. Nothing drawn means none.
function checkPlots() {
  return plots.flatMap(({ title, plot }) => {
    const { data } = plot.ctx.getImageData(0, 0, plot.ctx.canvas.width, plot.ctx.canvas.height);
    return plot.series.slice(1).map((series) => {
      const [red, green, blue] = series.stroke().match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16));
      let pixels = 0;
      for (let at = 0; at < data.length; at += 4) {
        const distance = Math.abs(data[at] - red) + Math.abs(data[at + 1] - green) + Math.abs(data[at + 2] - blue);
        if (distance < 12 && data[at + 3] > 200) pixels += 1;
      }
      return { title, series: series.label, pixels };
    });
  });
}
