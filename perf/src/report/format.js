// Numbers and elements, as the page shows them.

const COLOURS = { floor: "#8a94a0", shardmq: "#0b7f8c", mosquitto: "#d9822b", rumqttd: "#7a4fb5" };
const MORE_COLOURS = ["#b3261e", "#2f6fd0", "#5f8f1f", "#c2459a", "#6b4f2a"];

function colourOf(broker) {
  if (!COLOURS[broker]) {
    COLOURS[broker] = MORE_COLOURS[Object.keys(COLOURS).length % MORE_COLOURS.length];
  }
  return COLOURS[broker];
}

function number(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  for (const [limit, unit] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (Math.abs(value) >= limit) return trim(value / (limit === 1e4 ? 1e3 : limit), digits) + " " + unit;
  }
  return trim(value, digits);
}

// A whole number.
const count = (value) => (value < 1e4 ? String(value) : number(value));

function trim(value, digits) {
  if (value === 0) return "0";
  const before = Math.floor(Math.log10(Math.abs(value))) + 1;
  return value.toFixed(Math.max(0, Math.min(digits - before, 4)));
}

function duration(ns) {
  if (ns === null || ns === undefined) return "–";
  for (const [limit, unit] of [[1e9, "s"], [1e6, "ms"], [1e3, "µs"]]) {
    if (ns >= limit) return trim(ns / limit, 3) + " " + unit;
  }
  return trim(ns, 3) + " ns";
}

function bytes(value) {
  if (value === null || value === undefined) return "–";
  for (const [limit, unit] of [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) {
    if (value >= limit) return trim(value / limit, 3) + " " + unit;
  }
  return trim(value, 3) + " B";
}

const percent = (share) => (share === null || share === undefined ? "–" : trim(100 * share, 2) + " %");
const times = (ratio) => (ratio === undefined ? "–" : "× " + trim(ratio, 3));

// An element; strings among the children become text, never markup.
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

// Cells are strings, elements, or { text, attributes }.
function table(head, rows) {
  const cell = (name) => (content) =>
    content !== null && typeof content === "object" && !(content instanceof Node)
      ? element(name, content.attributes || {}, content.text)
      : element(name, {}, content);
  return element("div", { class: "wide" },
    element("table", {},
      element("thead", {}, element("tr", {}, head.map(cell("th")))),
      element("tbody", {}, rows.map((row) => element("tr", {}, row.map(cell("td")))))));
}

function brokerName(broker) {
  return element("span", {}, element("span", { class: "swatch", style: `background:${colourOf(broker)}` }), broker);
}
