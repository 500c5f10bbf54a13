// The interoperability table with MQTT.js.
//
//     NODE_PATH=.../node_modules node table.js PORT VERSION [ROW]...
//
// Each row is one line on standard output: `ROW<TAB>ok` or `ROW<TAB>failed<TAB>why`.
"use strict";

const assert = require("node:assert/strict");
const mqtt = require("mqtt");

const [PORT, VERSION, ...WANTED] = process.argv.slice(2).map((text, at) => (at < 2 ? Number(text) : text));
const LEVELS = { 31: 3, 311: 4, 5: 5 };
const PATIENCE_MS = 5000;
const DOUBT_MS = 200;
const KEPT_S = 3600;

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** What comes, in order, for whoever waits for it. */
class Inbox {
  items = [];
  waiting = [];

  put(item) {
    const waiting = this.waiting.shift();
    if (waiting) waiting(item);
    else this.items.push(item);
  }

  async take(what) {
    if (this.items.length > 0) return this.items.shift();
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no ${what}`)), PATIENCE_MS);
    });
    try {
      return await Promise.race([new Promise((resolve) => this.waiting.push(resolve)), late]);
    } finally {
      clearTimeout(timer);
    }
  }
}

class Peer {
  messages = new Inbox();
  disconnects = new Inbox();
  ends = new Inbox();

  static async connect(version, clientId, { clean = true, properties = {}, ...options } = {}) {
    const peer = new Peer();
    peer.version = version;
    peer.client = mqtt.connect({
      host: "127.0.0.1",
      port: PORT,
      protocolVersion: LEVELS[version],
      protocolId: version === 31 ? "MQIsdp" : "MQTT",
      clientId,
      clean,
      reconnectPeriod: 0,
      ...(version === 5 && { properties: { ...(!clean && { sessionExpiryInterval: KEPT_S }), ...properties } }),
      ...options,
    });
    const connected = new Inbox();
    peer.client.on("connect", (connack) => connected.put(connack));
    peer.client.on("error", (error) => connected.put(error));
    peer.client.on("message", (topic, payload, packet) => peer.messages.put({ ...packet, topic, text: payload.toString() }));
    peer.client.on("disconnect", (packet) => peer.disconnects.put(packet));
    peer.client.on("close", () => peer.ends.put(true));
    peer.connack = await connected.take("CONNACK");
    if (peer.connack instanceof Error) throw peer.connack;
    return peer;
  }

  async subscribe(filter, qos = 0, options = {}) {
    const granted = await this.client.subscribeAsync(filter, { qos, ...options });
    assert.equal(granted[0].qos, qos, "granted QoS");
  }

  publish(topic, payload, qos = 1, options = {}) {
    return this.client.publishAsync(topic, payload, { qos, ...options });
  }

  async take(count) {
    const taken = [];
    while (taken.length < count) taken.push(await this.messages.take("message"));
    return taken;
  }

  async expectNothing() {
    await wait(DOUBT_MS);
    assert.deepEqual(this.messages.items.map((message) => message.text), [], "further messages");
  }

  async expect(...texts) {
    assert.deepEqual((await this.take(texts.length)).map((message) => message.text), texts);
    await this.expectNothing();
  }

  disconnect() {
    return this.client.endAsync();
  }

  /** The connection ends without DISCONNECT. */
  async cut() {
    this.client.stream.destroy();
    await this.ends.take("end");
  }
}

async function pair(version, name) {
  return [await Peer.connect(version, `${name}-sub`), await Peer.connect(version, `${name}-pub`)];
}

const range = (count) => [...Array(count).keys()];
const texts = (count) => range(count).map(String);
const ROWS = [];
const row = (name, run) => ROWS.push({ name, run, versions: [31, 311, 5] });
const row5 = (name, run) => ROWS.push({ name, run, versions: [5] });

for (const published of range(3)) {
  for (const subscribed of range(3)) {
    row(`qos_${published}_${subscribed}`, async (version) => {
      const topic = `qos${published}${subscribed}`;
      const [subscriber, publisher] = await pair(version, topic);
      await subscriber.subscribe(topic, subscribed);
      await Promise.all(texts(20).map((text) => publisher.publish(topic, text, published)));
      const received = await subscriber.take(20);
      assert.deepEqual(received.map((m) => m.text), texts(20));
      for (const m of received) assert.deepEqual([m.qos, m.retain, m.dup], [Math.min(published, subscribed), false, false]);
      await subscriber.expectNothing();
    });
  }
}

row("wildcards", async (version) => {
  const [subscriber, publisher] = await pair(version, "wild");
  await subscriber.subscribe("wild/+/x", 1);
  await subscriber.subscribe("wild/deep/#", 1);
  for (const topic of ["wild/a/x", "wild/a/b/x", "wild/x", "wild/deep", "wild/deep/a/b", "wild//x"]) {
    await publisher.publish(topic, topic);
  }
  await subscriber.expect("wild/a/x", "wild/deep", "wild/deep/a/b", "wild//x");
});

row("dollar_topics", async (version) => {
  const [subscriber, publisher] = await pair(version, "dollar");
  await subscriber.subscribe("#", 1);
  await subscriber.subscribe("+/dollar/t", 1);
  const named = await Peer.connect(version, "dollar-named");
  await named.subscribe("$dollar/#", 1);
  await publisher.publish("$dollar/dollar/t", "special");
  await publisher.publish("dollar/dollar/t", "plain");
  await named.expect("special");
  // Other rows publish too.
  const own = [];
  while (own.at(-1) !== "plain") {
    const [message] = await subscriber.take(1);
    if (message.topic.includes("dollar")) own.push(message.text);
  }
  assert.deepEqual(own, ["plain"]);
});

row("overlapping", async (version) => {
  const [subscriber, publisher] = await pair(version, "over");
  for (const [filter, qos] of [["over/#", 0], ["over/+", 2], ["over/t", 1]]) await subscriber.subscribe(filter, qos);
  await publisher.publish("over/t", "x", 2);
  const [message] = await subscriber.take(1);
  assert.deepEqual([message.text, message.qos], ["x", 2]);
  await subscriber.expectNothing();
});

row("retained", async (version) => {
  const [live, publisher] = await pair(version, "ret");
  await live.subscribe("ret/#", 1);
  await publisher.publish("ret/a", "first", 1, { retain: true });
  await publisher.publish("ret/a", "last", 1, { retain: true });
  assert.deepEqual((await live.take(2)).map((m) => [m.text, m.retain]), [["first", false], ["last", false]]);
  const late = await Peer.connect(version, "ret-late");
  await late.subscribe("ret/a", 1);
  const [message] = await late.take(1);
  assert.deepEqual([message.text, message.retain, message.qos], ["last", true, 1]);
});

row("retained_clear", async (version) => {
  const [subscriber, publisher] = await pair(version, "clear");
  await publisher.publish("clear/a", "x", 1, { retain: true });
  await publisher.publish("clear/a", "", 1, { retain: true });
  await subscriber.subscribe("clear/a", 1);
  await subscriber.expectNothing();
});

row("retained_wildcard", async (version) => {
  const [subscriber, publisher] = await pair(version, "many");
  await Promise.all(texts(200).map((n) => publisher.publish(`many/${n % 7}/${n}`, n, 1, { retain: true })));
  await subscriber.subscribe("many/#", 1);
  assert.deepEqual((await subscriber.take(200)).map((m) => Number(m.text)).sort((a, b) => a - b), range(200));
  await subscriber.expectNothing();
});

row("will", async (version) => {
  for (const qos of range(3)) {
    const topic = `will/${qos}`;
    const watcher = await Peer.connect(version, `will-watch${qos}`);
    await watcher.subscribe(topic, 2);
    await (await Peer.connect(version, `will-gone${qos}`, { will: { topic, payload: "gone", qos, retain: true } })).cut();
    const [message] = await watcher.take(1);
    assert.deepEqual([message.text, message.qos, message.retain], ["gone", qos, false]);
    const late = await Peer.connect(version, `will-late${qos}`);
    await late.subscribe(topic, 2);
    assert.equal((await late.take(1))[0].retain, true);
  }
});

row("no_will_after_disconnect", async (version) => {
  const watcher = await Peer.connect(version, "calm-watch");
  await watcher.subscribe("calm/t", 1);
  await (await Peer.connect(version, "calm-gone", { will: { topic: "calm/t", payload: "gone", qos: 1 } })).disconnect();
  await watcher.expectNothing();
});

row5("will_delay", async (version) => {
  const watcher = await Peer.connect(version, "delay-watch");
  await watcher.subscribe("delay/#", 1);
  const connect = (name, willDelayInterval) => {
    const properties = { willDelayInterval, contentType: "text", userProperties: { k: "v" } };
    const will = { topic: `delay/${name}`, payload: "late", qos: 1, properties };
    return Peer.connect(version, `delay-${name}`, { will, properties: { sessionExpiryInterval: 100 } });
  };
  await (await connect("back", 2)).cut();
  await Peer.connect(version, "delay-back", { clean: false });
  const leaving = await connect("gone", 1);
  const cutAt = Date.now();
  await leaving.cut();
  const [message] = await watcher.take(1);
  const waited = Date.now() - cutAt;
  assert(waited > 900 && waited < 2500, `the will came after ${waited} ms`);
  assert.deepEqual([message.topic, message.properties.contentType, message.properties.userProperties.k], ["delay/gone", "text", "v"]);
  // By the time of this one, that of the client that is back would have come.
  await (await connect("last", 2)).cut();
  assert.equal((await watcher.take(1))[0].topic, "delay/last");
});

row("shared", async (version) => {
  const members = await Promise.all(range(3).map((n) => Peer.connect(version, `share-${n}`)));
  for (const member of members) await member.subscribe("$share/group/share/t", 1);
  const publisher = await Peer.connect(version, "share-pub");
  await Promise.all(texts(90).map((text) => publisher.publish("share/t", text)));
  const all = () => members.flatMap((member) => member.messages.items.map((m) => Number(m.text)));
  for (const until = Date.now() + PATIENCE_MS; all().length < 90 && Date.now() < until; ) await wait(5);
  await wait(DOUBT_MS);
  assert.deepEqual(all().sort((a, b) => a - b), range(90));
  const counts = members.map((member) => member.messages.items.length);
  assert(Math.min(...counts) >= 25, `uneven: ${counts}`);
});

row("resume_queued", async (version) => {
  const publisher = await Peer.connect(version, "queue-pub");
  let subscriber = await Peer.connect(version, "queue-sub", { clean: false });
  assert.equal(subscriber.connack.sessionPresent, false);
  await subscriber.subscribe("queue/t", 2);
  await subscriber.disconnect();
  for (const text of texts(50)) await publisher.publish("queue/t", text, (text % 2) + 1);
  await publisher.publish("queue/t", "lost", 0);
  await publisher.publish("queue/other", "", 1);
  subscriber = await Peer.connect(version, "queue-sub", { clean: false });
  if (version !== 31) assert.equal(subscriber.connack.sessionPresent, true);
  const received = (await subscriber.take(50)).map((m) => Number(m.text));
  // MQTT.js hands QoS 2 over at PUBREL, behind QoS 1 of the same time: each in its own order.
  const ofKind = (kind) => received.filter((n) => n % 2 === kind);
  assert.deepEqual([...ofKind(0), ...ofKind(1)], [...range(50).filter((n) => n % 2 === 0), ...range(50).filter((n) => n % 2 === 1)]);
  await subscriber.expectNothing();
});

row("clean_start_forgets", async (version) => {
  const first = await Peer.connect(version, "fresh", { clean: false });
  await first.subscribe("fresh/t", 1);
  await first.disconnect();
  const again = await Peer.connect(version, "fresh");
  assert.equal(again.connack.sessionPresent, false);
  await (await Peer.connect(version, "fresh-pub")).publish("fresh/t", "x");
  await again.expectNothing();
});

row("resume_inflight", async (version) => {
  const publisher = await Peer.connect(version, "flight-pub");
  const unacknowledged = new Inbox();
  const customHandleAcks = (topic, payload, packet) => unacknowledged.put(packet);
  let subscriber = await Peer.connect(version, "flight-sub", { clean: false, customHandleAcks });
  await subscriber.subscribe("flight/t", 1);
  for (const text of texts(5)) await publisher.publish("flight/t", text);
  const first = await unacknowledged.take("message");
  await subscriber.cut();
  subscriber = await Peer.connect(version, "flight-sub", { clean: false });
  const again = await subscriber.take(5);
  assert.deepEqual(again.map((m) => m.text), texts(5));
  assert.deepEqual([again[0].messageId, again[0].dup], [first.messageId, true]);
  await subscriber.expectNothing();
});

row("takeover", async (version) => {
  const first = await Peer.connect(version, "taken", { clean: false });
  await first.subscribe("taken/t", 1);
  const second = await Peer.connect(version, "taken", { clean: false });
  if (version === 5) assert.equal((await first.disconnects.take("DISCONNECT")).reasonCode, 0x8e);
  await first.ends.take("end");
  await (await Peer.connect(version, "taken-pub")).publish("taken/t", "x");
  await second.expect("x");
});

row("large_payload", async (version) => {
  const [subscriber, publisher] = await pair(version, "large");
  await subscriber.subscribe("large/t", 2);
  const payload = Buffer.alloc(900 * 1024, "0123456789abcdef");
  for (const qos of range(3)) {
    await publisher.publish("large/t", payload, qos);
    assert(payload.equals((await subscriber.take(1))[0].payload), "the payload is another one");
  }
});

row5("user_properties", async (version) => {
  const [subscriber, publisher] = await pair(version, "props");
  await subscriber.subscribe("props/t", 1);
  await publisher.publish("props/t", "x", 1, { properties: { userProperties: { b: ["1", "3"], a: "ü" } } });
  const [message] = await subscriber.take(1);
  assert.deepEqual({ ...message.properties.userProperties }, { b: ["1", "3"], a: "ü" });
});

row5("request_response", async (version) => {
  const [responder, requester] = await pair(version, "rr");
  await responder.subscribe("rr/ask", 1);
  await requester.subscribe("rr/answer", 1);
  const correlationData = Buffer.from([0, 255, 7]);
  const question = { responseTopic: "rr/answer", correlationData, contentType: "text/plain" };
  await requester.publish("rr/ask", "?", 1, { properties: { ...question, payloadFormatIndicator: true, messageExpiryInterval: 60 } });
  const { properties } = (await responder.take(1))[0];
  assert.deepEqual([properties.contentType, properties.payloadFormatIndicator], ["text/plain", true]);
  assert([58, 59, 60].includes(properties.messageExpiryInterval));
  await responder.publish(properties.responseTopic, "!", 1, { properties: { correlationData: properties.correlationData } });
  assert.deepEqual((await requester.take(1))[0].properties.correlationData, correlationData);
});

row5("message_expiry", async (version) => {
  const subscriber = await Peer.connect(version, "old-sub", { clean: false });
  await subscriber.subscribe("old/t", 1);
  await subscriber.disconnect();
  const publisher = await Peer.connect(version, "old-pub");
  await publisher.publish("old/t", "short", 1, { properties: { messageExpiryInterval: 1 } });
  await publisher.publish("old/t", "long", 1, { properties: { messageExpiryInterval: 100 } });
  await wait(1100);
  const again = await Peer.connect(version, "old-sub", { clean: false });
  const [message] = await again.take(1);
  assert.equal(message.text, "long");
  assert([96, 97, 98].includes(message.properties.messageExpiryInterval), `${message.properties.messageExpiryInterval}`);
  await again.expectNothing();
});

row5("topic_alias", async (version) => {
  const [subscriber, publisher] = await pair(version, "alias");
  await subscriber.subscribe("alias/#", 1);
  assert(publisher.connack.properties.topicAliasMaximum >= 2);
  const aliased = (topic, text) => publisher.publish(topic, text, 1, { properties: { topicAlias: 2 } });
  for (const [text, topic] of ["alias/long/topic", "", "alias/other", ""].entries()) await aliased(topic, `${text}`);
  const topics = (await subscriber.take(4)).map((m) => m.topic);
  assert.deepEqual(topics, ["alias/long/topic", "alias/long/topic", "alias/other", "alias/other"]);
});

row5("topic_alias_received", async (version) => {
  const subscriber = await Peer.connect(version, "aliased-sub", { properties: { topicAliasMaximum: 1 } });
  const sent = [];
  subscriber.client.on("packetreceive", (packet) => {
    if (packet.cmd === "publish") sent.push([packet.topic, packet.properties?.topicAlias]);
  });
  await subscriber.subscribe("aliased/#", 1);
  const publisher = await Peer.connect(version, "aliased-pub");
  for (const n of range(6)) await publisher.publish(`aliased/${Math.floor(n / 3)}`, `${n}`);
  const topics = (await subscriber.take(6)).map((m) => m.topic);
  assert.deepEqual(topics, range(6).map((n) => `aliased/${Math.floor(n / 3)}`));
  assert(sent.every(([, alias]) => alias === undefined || alias === 1), `${sent}`);
  assert(sent.filter(([, alias]) => alias === 1).length >= 3, `${sent}`);
});

row5("maximum_packet_size", async (version) => {
  const subscriber = await Peer.connect(version, "small-sub", { properties: { maximumPacketSize: 100 } });
  await subscriber.subscribe("small/t", 1);
  const publisher = await Peer.connect(version, "small-pub");
  await publisher.publish("small/t", "x".repeat(500));
  await publisher.publish("small/t", "fits");
  await subscriber.expect("fits");
});

row5("no_local", async (version) => {
  const [own, other] = await pair(version, "local");
  await own.subscribe("local/off", 1, { nl: true });
  await own.subscribe("local/on", 1);
  await own.publish("local/off", "own");
  await own.publish("local/on", "own");
  await other.publish("local/off", "other");
  assert.deepEqual((await own.take(2)).map((m) => m.text).sort(), ["other", "own"]);
  await own.expectNothing();
});

row5("retain_as_published", async (version) => {
  const [subscriber, publisher] = await pair(version, "rap");
  await subscriber.subscribe("rap/kept", 1, { rap: true });
  await subscriber.subscribe("rap/cleared", 1);
  await publisher.publish("rap/kept", "x", 1, { retain: true });
  await publisher.publish("rap/cleared", "x", 1, { retain: true });
  const found = Object.fromEntries((await subscriber.take(2)).map((m) => [m.topic, m.retain]));
  assert.deepEqual(found, { "rap/kept": true, "rap/cleared": false });
});

row5("retain_handling", async (version) => {
  const [subscriber, publisher] = await pair(version, "rh");
  await publisher.publish("rh/t", "x", 1, { retain: true });
  await subscriber.subscribe("rh/t", 1, { rh: 2 });
  await subscriber.expectNothing();
  await subscriber.subscribe("rh/t", 1, { rh: 1 });
  await subscriber.expectNothing();
  await subscriber.subscribe("rh/t", 1, { rh: 0 });
  await subscriber.expect("x");
  await subscriber.client.unsubscribeAsync("rh/t");
  await subscriber.subscribe("rh/t", 1, { rh: 1 });
  await subscriber.expect("x");
});

row5("subscription_ids", async (version) => {
  const [subscriber, publisher] = await pair(version, "ids");
  await subscriber.subscribe("ids/+", 0, { properties: { subscriptionIdentifier: 1 } });
  await subscriber.subscribe("ids/t", 1, { properties: { subscriptionIdentifier: 268435455 } });
  await subscriber.subscribe("ids/#", 0);
  await publisher.publish("ids/t", "x", 2);
  const [message] = await subscriber.take(1);
  assert.equal(message.qos, 1);
  assert.deepEqual([...message.properties.subscriptionIdentifier].sort((a, b) => a - b), [1, 268435455]);
  await subscriber.expectNothing();
});

row("unsubscribe", async (version) => {
  const [subscriber, publisher] = await pair(version, "un");
  await subscriber.subscribe("un/a", 1);
  await subscriber.subscribe("un/b", 1);
  const answered = new Inbox();
  subscriber.client.on("packetreceive", (packet) => packet.cmd === "unsuback" && answered.put(packet));
  // An unknown filter is an error to MQTT.js: the packet is looked at instead.
  subscriber.client.unsubscribe(["un/a", "un/unknown"], () => {});
  const { granted } = await answered.take("UNSUBACK");
  if (version === 5) assert.deepEqual(granted, [0, 0x11]);
  await publisher.publish("un/a", "gone");
  await publisher.publish("un/b", "there");
  await subscriber.expect("there");
});

row("keep_alive", async (version) => {
  const idle = await Peer.connect(version, "alive", { keepalive: 2 });
  await idle.subscribe("alive/t", 1);
  await wait(4500);
  await (await Peer.connect(version, "alive-pub")).publish("alive/t", "x");
  await idle.expect("x");
});

row5("keep_alive_of_server", async (version) => {
  const patient = await Peer.connect(version, "patient", { keepalive: 1200 });
  assert.equal(patient.connack.properties.serverKeepAlive, 600);
});

ROWS.push({
  name: "empty_client_id",
  versions: [311],
  run: async (version) => {
    const [nameless, other] = [await Peer.connect(version, ""), await Peer.connect(version, "")];
    await nameless.subscribe("nameless/t", 1);
    await other.publish("nameless/t", "x");
    await nameless.expect("x");
  },
});

row5("assigned_client_id", async (version) => {
  const ids = [];
  for (const _ of range(3)) {
    const peer = await Peer.connect(version, "");
    ids.push(peer.connack.properties.assignedClientIdentifier);
  }
  assert.equal(new Set(ids).size, 3);
  assert(ids.every(Boolean), `${ids}`);
});

row5("session_expiry", async (version) => {
  const watcher = await Peer.connect(version, "brief-watch");
  await watcher.subscribe("brief/t", 1);
  await (await Peer.connect(version, "brief", { clean: false })).disconnect();
  const will = { topic: "brief/t", payload: "over", qos: 1, properties: { willDelayInterval: 100 } };
  const brief = await Peer.connect(version, "brief", { clean: false, will, properties: { sessionExpiryInterval: 1 } });
  assert.equal(brief.connack.sessionPresent, true);
  const cutAt = Date.now();
  await brief.cut();
  assert.equal((await watcher.take(1))[0].text, "over");
  const waited = Date.now() - cutAt;
  assert(waited > 900, `over after ${waited} ms`);
  assert.equal((await Peer.connect(version, "brief", { clean: false })).connack.sessionPresent, false);
});

row("mixed_versions", async (version) => {
  const others = await Promise.all(Object.keys(LEVELS).map((other) => Peer.connect(Number(other), `mixed-${other}`)));
  for (const other of others) await other.subscribe("mixed/t", 2);
  const properties = version === 5 ? { userProperties: { k: "v" }, contentType: "text" } : undefined;
  await (await Peer.connect(version, "mixed-pub")).publish("mixed/t", "x", 2, { properties });
  for (const other of others) await other.expect("x");
});

async function report({ name, run }) {
  try {
    await run(VERSION);
    console.log(`${name}\tok`);
  } catch (error) {
    console.log(`${name}\tfailed\t${String(error.message).replace(/[\n\t]+/g, " | ")}`);
  }
}

const chosen = ROWS.filter((row) => row.versions.includes(VERSION) && (WANTED.length === 0 || WANTED.includes(row.name)));
Promise.all(chosen.map(report)).then(() => process.exit(0));
