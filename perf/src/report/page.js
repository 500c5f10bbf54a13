// Builds the page from the data in it.

const { report, rows, units } = JSON.parse(document.getElementById("data").textContent);
const brokers = [...new Set(report.results.flatMap((result) => rows[result.scenario.name].map((row) => row.broker)))];
const FAULTS = [["lost", "lost"], ["duplicated", "duplicated"], ["reordered", "out of order"], ["foreign", "foreign"]];

const $ = (id) => document.getElementById(id);
const oneCore = (result) => rows[result.scenario.name].filter((row) => row.core_count === fewestCores(result));
const fewestCores = (result) => Math.min(...rows[result.scenario.name].map((row) => row.core_count));
const formatCost = (result) => (result.scenario.measure === "memory" ? bytes : duration);
const plural = (what) => (what.endsWith("message") ? "messages" : `${what}s`);
const spread = (medians) => (medians.cost > 0 ? (medians.cost_range[1] - medians.cost_range[0]) / medians.cost : 0);

// A mark behind a median on which no two rounds agree.
function noiseOf(row) {
  const title = "No two rounds lie within 5 % of each other near the median: take it with caution, or run more rounds.";
  return row.is_noisy && row.rounds > 1 ? element("small", { class: "noisy", title }, " noisy") : null;
}

function faultsOf(verdict) {
  const found = FAULTS.filter(([field]) => verdict[field] > 0);
  return found.map(([field, word]) => `${count(verdict[field])} ${word}`).join(", ");
}

function showHeader() {
  const minutes = trim(report.took_s / 60, 2);
  $("made").append(
    `${report.created}, ${report.host.cpu}, ${report.host.cores_online} cores, kernel ${report.host.kernel}; `,
    `took ${minutes} min: `, element("code", {}, report.command.join(" ")));
  const links = report.results.map((result) => element("a", { href: `#${result.scenario.name}` }, result.scenario.title));
  const parts = ["overview", "brokers", "machine", "reading"].map((id) => element("a", { href: `#${id}` }, id));
  $("contents").append(...parts, ...links);
}

function showFaults() {
  const lines = [];
  for (const result of report.results) {
    for (const row of rows[result.scenario.name]) {
      // A failure tells the notes of its run itself.
      const isTold = (note) => row.failures.some((failure) => failure.includes(note));
      const notes = row.verdict.passed ? [] : row.verdict.notes.filter((note) => !isTold(note));
      const what = [faultsOf(row.verdict), ...notes, ...row.failures].filter(Boolean).join("; ");
      if (what) lines.push(element("li", {}, `${result.scenario.title}: ${row.broker}: ${what}`));
    }
  }
  if (lines.length) {
    $("faults").append(element("div", { class: "card" }, element("h3", { class: "bad" }, "Faults and failures"), element("ul", {}, lines)));
  }
  if (report.remarks.length) {
    $("faults").append(element("ul", { class: "note" }, report.remarks.map((remark) => element("li", {}, remark))));
  }
}

function costCell(result, row) {
  if (!row) {
    const skipped = result.skipped.length ? "–" : "";
    return { text: skipped, attributes: {} };
  }
  if (!row.medians) return { text: "failed", attributes: { class: "bad" } };
  const faults = faultsOf(row.verdict);
  const ratio = row.ratios.floor === undefined ? "" : ` ${times(row.ratios.floor)}`;
  const target = result.scenario.target;
  const isMet = row.broker === "shardmq" && target ? (row.medians.cost <= target ? "good" : "") : "";
  return {
    text: element("span", {}, formatCost(result)(row.medians.cost), element("small", {}, ratio), noiseOf(row),
      faults ? element("div", { class: "bad" }, faults) : null),
    attributes: { class: isMet },
  };
}

function showOverview() {
  const body = [];
  let group = "";
  for (const result of report.results) {
    if (result.scenario.group !== group) {
      group = result.scenario.group;
      body.push([{ text: group, attributes: { class: "group", colspan: brokers.length + 3 } }]);
    }
    const own = oneCore(result);
    body.push([
      element("a", { href: `#${result.scenario.name}` }, result.scenario.title),
      { text: units[result.scenario.name], attributes: { class: "text" } },
      ...brokers.map((broker) => costCell(result, own.find((row) => row.broker === broker))),
      result.scenario.target ? formatCost(result)(result.scenario.target) : "",
    ]);
  }
  $("overview").append(
    element("p", { class: "about" }, "Median cost of each scenario; behind it the ratio to the floor, which is what the machine takes in any case."),
    table(["scenario", "unit", ...brokers.map(brokerName), "target"], body));
  showOverviewPlot();
}

function showOverviewPlot() {
  const grid = element("div", { class: "plots", style: "grid-template-columns: 1fr" });
  $("overview").append(grid);
  const drawn = report.results.filter((result) => oneCore(result).some((row) => row.broker === "floor" && row.medians));
  const curves = brokers.filter((broker) => broker !== "floor").map((broker) => ({
    label: broker,
    colour: colourOf(broker),
    points: drawn.map((result, place) => [place, oneCore(result).find((row) => row.broker === broker)?.ratios.floor])
      .filter(([, ratio]) => ratio > 0),
  }));
  const values = curves.flatMap((curve) => curve.points.map(([, ratio]) => ratio));
  if (values.length === 0) return;
  addLines(grid, "Cost as a multiple of the floor's", curves, {
    format: (value) => `× ${trim(value, 3)}`,
    height: 430,
    padding: [null, 110, null, null],
    y: logScale(values),
    x: { range: [-0.5, drawn.length - 0.5] },
    xAxis: {
      splits: () => drawn.map((_, place) => place),
      values: (_, places) => places.map((place) => drawn[place]?.scenario.title || ""),
      rotate: -35, size: 150,
    },
  });
}

function showScenario(result) {
  const { scenario } = result;
  const card = element("div", { class: "card", id: scenario.name }, element("h3", {}, scenario.title),
    element("p", { class: "about" }, scenario.about, " ", element("code", {}, scenario.load)));
  if (scenario.scaled) card.append(element("p", { class: "scaled" }, "Scaled: ", scenario.scaled));
  $("scenarios").append(card);
  card.append(figuresTable(result));
  if (scenario.published.length) card.append(publishedTable(result));
  for (const { broker, why } of result.skipped) card.append(element("p", { class: "note" }, `${broker}: not run, ${why}`));
  const grid = element("div", { class: "plots" });
  card.append(grid);
  showScenarioPlots(result, grid);
  showDetails(result, card);
}

function figuresTable(result) {
  const own = rows[result.scenario.name];
  const severalCores = new Set(own.map((row) => row.core_count)).size > 1;
  const head = ["broker", ...(severalCores ? ["cores"] : []), units[result.scenario.name], ...brokers.map((broker) => `÷ ${broker}`),
    "per second", "p50", "p95", "p99", "p99.9", "memory", "busy cores", "user time", "switches/msg", "calls/msg", "load", "deliveries"];
  return table(head, own.map((row) => {
    const start = [brokerName(row.broker), ...(severalCores ? [`${row.core_count}${row.shares_cores ? " (shared)" : ""}`] : [])];
    const { medians } = row;
    if (!medians) return [...start, { text: row.failures.join("; "), attributes: { class: "bad text", colspan: head.length - start.length } }];
    const latency = medians.latency || {};
    const faults = faultsOf(row.verdict) || (row.verdict.passed ? "" : row.verdict.notes.join("; "));
    const verdict = element("span", {}, faults ? element("span", { class: "bad" }, faults) : element("span", { class: "good" }, "all right"),
      row.verdict.load_limited ? element("small", { title: row.verdict.notes.join("; ") }, " load-limited") : null);
    return [...start,
      element("span", {}, formatCost(result)(medians.cost), element("small", {}, ` ± ${percent(spread(medians) / 2)}`), noiseOf(row)),
      ...brokers.map((broker) => (broker === row.broker ? "" : times(row.ratios[broker]))),
      number(medians.rate), duration(latency.p50), duration(latency.p95), duration(latency.p99), duration(latency.p999),
      bytes(medians.rss_bytes), number(medians.busy_cores), percent(medians.user_share), number(medians.switches_per_message),
      number(row.system_calls), medians.load_cost ? duration(medians.load_cost) : "–", { text: verdict, attributes: { class: "text" } }];
  }));
}

function publishedTable(result) {
  const ms = (value) => (value === null || value === undefined ? "–" : duration(value * 1e6));
  const perCore = (rate, cores) => (rate && cores ? number(rate / cores) : "–");
  const theirs = result.scenario.published.map((row) => [
    { text: row.who, attributes: { class: "text" } }, { text: row.machine, attributes: { class: "text" } },
    number(row.rate), number(row.busy_cores), perCore(row.rate, row.busy_cores), ms(row.latency_mean_ms), ms(row.latency_p50_ms),
    ms(row.latency_p95_ms), ms(row.latency_p99_ms), bytes(row.memory_mib ? row.memory_mib * 2 ** 20 : null),
    { text: [row.note, row.source].filter(Boolean).join("; "), attributes: { class: "text" } }]);
  const ours = rows[result.scenario.name].filter((row) => row.medians).map(({ broker, core_count, medians, verdict }) => {
    const latency = medians.latency || {};
    return [brokerName(broker), { text: `this machine, ${core_count} core${core_count > 1 ? "s" : ""}`, attributes: { class: "text" } },
      number(medians.rate), number(medians.busy_cores), perCore(medians.rate, medians.busy_cores), duration(latency.mean), duration(latency.p50),
      duration(latency.p95), duration(latency.p99), bytes(medians.rss_bytes), { text: faultsOf(verdict), attributes: { class: "text bad" } }];
  });
  return element("details", { open: "" }, element("summary", {}, "Published figures beside these"),
    table(["who", "machine", "per second", "busy cores", "per busy core", "mean", "p50", "p95", "p99", "memory", "source"], [...theirs, ...ours]));
}

function showScenarioPlots(result, grid) {
  const own = oneCore(result).filter((row) => row.medians);
  const entries = (value) => own.map((row) => ({ label: row.broker, colour: colourOf(row.broker), value: value(row.medians) }));
  addBars(grid, units[result.scenario.name], entries((medians) => medians.cost), formatCost(result));
  addBars(grid, "cost as a multiple of the floor's", own.filter((row) => row.ratios.floor)
    .map((row) => ({ label: row.broker, colour: colourOf(row.broker), value: row.ratios.floor })), times);
  addBars(grid, `${plural(result.scenario.per)} per second`, entries((medians) => medians.rate), number);
  addLatencyCurves(grid, "latency by share of the messages", own.filter((row) => row.medians.latency)
    .map((row) => ({ label: row.broker, colour: colourOf(row.broker), latency: row.medians.latency })));
  showSeries(result, grid);
  showSweep(result, grid);
}

function showSeries(result, grid) {
  const last = new Map();
  for (const run of result.runs) {
    if (run.figures && run.broker_core_count === fewestCores(result)) last.set(run.broker, run.figures.series);
  }
  const curves = (value) => [...last].map(([broker, series]) => ({
    label: broker, colour: colourOf(broker), points: series.map((second) => [second.at_s, value(second)]).filter(([, y]) => y > 0) }));
  addLines(grid, "messages in each second", curves((second) => second.received), { xLabel: "s", y: { range: (_, __, high) => [0, high * 1.1] } });
  const tails = curves((second) => second.p99_ns);
  const values = tails.flatMap((curve) => curve.points.map(([, y]) => y));
  if (values.length) addLines(grid, "p99 latency in each second", tails, { xLabel: "s", format: duration, y: logScale(values) });
}

function showSweep(result, grid) {
  const own = rows[result.scenario.name].filter((row) => row.medians);
  const counts = [...new Set(own.map((row) => row.core_count))];
  if (counts.length < 2) return;
  const curves = (value) => brokers.map((broker) => ({
    label: broker, colour: colourOf(broker),
    points: own.filter((row) => row.broker === broker).map((row) => [row.core_count, value(row.medians)]).filter(([, y]) => y > 0) }));
  const axis = { splits: () => counts, values: (_, values) => values.map((count) => `${count} cores`) };
  const options = { x: { range: [counts[0] - 0.3, counts[counts.length - 1] + 0.3] }, xAxis: axis };
  const fromZero = { range: (_, __, high) => [0, high * 1.1] };
  addLines(grid, "messages per second by cores", curves((medians) => medians.rate), { ...options, y: fromZero });
  addLines(grid, `${units[result.scenario.name]} by cores`, curves((medians) => medians.cost), { ...options, y: fromZero, format: formatCost(result) });
  addLines(grid, "p99 latency by cores", curves((medians) => medians.latency?.p99), { ...options, y: fromZero, format: duration });
}

function showDetails(result, card) {
  const shards = result.runs.filter((run) => run.figures?.shards.length);
  if (shards.length) {
    const names = [...new Set(shards.flatMap((run) => run.figures.shards.flatMap((shard) => Object.keys(shard.values))))];
    card.append(element("details", {}, element("summary", {}, "Figures of each shard"),
      table(["broker", "round", "shard", "busy", ...names], shards.flatMap((run) => run.figures.shards.map((shard) =>
        [run.broker, `${run.round + 1}`, `${shard.shard}`, percent(shard.utilization), ...names.map((name) => number(shard.values[name]))])))));
  }
  for (const [broker, root] of Object.entries(result.profiles)) {
    card.append(element("details", {}, element("summary", {}, `Where ${broker} spends its time`), flameGraph(root)));
  }
  card.append(element("details", {}, element("summary", {}, "Every run"),
    table(["broker", "round", "cost", "per second", "steal", "command of the broker", "command of the load"], result.runs.map((run) => [
      brokerName(run.broker), `${run.round + 1}`, run.figures ? formatCost(result)(run.figures.cost) : { text: run.failure, attributes: { class: "bad" } },
      number(run.figures?.rate), percent(run.figures?.steal_share),
      { text: element("code", {}, run.broker_command), attributes: { class: "text" } },
      { text: element("code", {}, run.load_command), attributes: { class: "text" } }]))));
}

function showBrokers() {
  for (const broker of report.brokers) {
    $("brokers").append(element("div", { class: "card" }, element("h3", {}, brokerName(broker.name)),
      element("p", { class: "about" }, `${broker.version}: ${broker.about}`), element("p", {}, element("code", {}, broker.command)),
      ...Object.entries(broker.files).map(([name, text]) =>
        element("details", {}, element("summary", {}, name), element("pre", {}, text.trim())))));
  }
}

function showMachine() {
  const { host } = report;
  const facts = [
    ["processor", host.cpu], ["cores", `${host.cores_online}, usable ${host.cores_allowed}`], ["threads per core", `${host.threads_per_core ?? "–"}`],
    ["virtualisation", host.hypervisor || "none seen"], ["governor", host.governor || "not told by the kernel"], ["memory", bytes(host.memory_bytes)],
    ["kernel", host.kernel], ["distribution", host.distribution], ["clock source", host.clock_source || "–"],
    ["transparent hugepages", host.transparent_hugepages || "–"], ["file limit", number(host.files_limit, 7)],
    ["locked memory limit", bytes(host.memlock_limit_bytes)], ["steal since boot", percent(host.steal_since_boot)],
    ["load average before", host.load_average], ["load generator", report.load_generator], ["shardmq-perf", report.version],
    ...Object.entries(host.tools), ...Object.entries(host.settings), ...Object.entries(host.cpu_vulnerabilities)];
  $("machine").append(table(["fact", "value"], facts.map(([name, value]) => [name, { text: value, attributes: { class: "text" } }])));
}

showHeader();
showFaults();
showOverview();
let group = "";
for (const result of report.results) {
  if (result.scenario.group !== group) {
    group = result.scenario.group;
    $("scenarios").append(element("h2", {}, group));
  }
  showScenario(result);
}
showBrokers();
showMachine();

// With "#check" behind the address the page tells what is drawn, for a test that cannot look.
if (location.hash === "#check") {
  requestAnimationFrame(() => requestAnimationFrame(() => {
    const checked = checkPlots();
    document.body.append(element("pre", { id: "plot-check" }, JSON.stringify({ plots: plots.length, series: checked })));
  }));
}
