// A mixed cluster on one Redis: two python-socketio servers (asyncio with aiohttp, and threads) and two of ours, a client on
// each, and everything that python-socketio's channel can say, from each kind of server to each kind of server.

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { Mixed } from "./mixed.mjs";
import { Client, Node, startRedis, until } from "./world.mjs";

let broker;
const mixed = new Mixed("python", ["python", "rust"], { everySource: true });
const { nodes, clients } = mixed;
const heard = (...args) => mixed.heard(...args);
const cell = (...args) => mixed.cell(...args);

before(async () => {
  broker = await startRedis();
  nodes.push(
    new Node("python", "p1", "async", broker.url),
    new Node("python", "p2", "sync", broker.url),
    new Node("rust", "r1", "python", broker.url),
    new Node("rust", "r2", "python", broker.url),
  );
  await Promise.all(nodes.map((node) => node.ready));
  for (const node of nodes) {
    const transports = node.name === "p2" ? ["polling"] : ["websocket"];
    const client = new Client(node, `c-${node.name}`, `all,on-${node.kind},${node.name}`, transports);
    client.socket.on("two", (answer) => answer(client.name, [2]));
    client.socket.on("nothing", (answer) => answer());
    clients.push(client);
  }
  await Promise.all(clients.map((client) => client.connected()));
  // A server in Python listens when it has had its first request.
  for (const node of nodes.filter((node) => node.kind === "rust")) {
    await until("all are counted", async () => (await node.tell("count")) === 4);
  }
  await mixed.warm();
  await heard(nodes[0], []);
});

after(() => mixed.stop(broker));

// Its channel knows exceptions by id only.
mixed.commonCells((client) => client.id);

cell("arguments", async (source, targets) => {
  for (const event of [["none"], ["list", [1, 2]], ["text", "t"], ["many", 1, [], {}], ["empty", []]]) {
    await source.tell("emit", { event });
    for (const client of targets) assert.deepEqual(await client.next(event[0]), event);
  }
});

cell("binary", async (source, targets) => {
  const bytes = "00ff10".repeat(1000);
  await source.tell("emit", { event: ["binary", { $: bytes }, [{ deep: { $: "01" } }]] });
  await source.tell("emit", { to: ["all"], event: ["alone", { $: "" }] });
  for (const client of targets) {
    const [, first, second] = await client.next("binary");
    assert.equal(Buffer.from(first).toString("hex"), bytes);
    assert.equal(Buffer.from(second[0].deep).toString("hex"), "01");
    assert.equal((await client.next("alone"))[1].byteLength ?? -1, 0);
  }
});

cell("order", async (source, targets) => {
  for (let n = 0; n < 100; n++) await source.tell("emit", { to: ["all"], event: ["n", n] });
  for (const client of targets) {
    for (let n = 0; n < 100; n++) assert.equal((await client.next("n"))[1], n);
  }
});

cell("ack", async (source, targets) => {
  for (const client of targets) {
    const to = { to: [client.id], flags: { timeout: 20_000 }, count: 1 };
    // Python gives the one answer that it asks for, ours a list of all.
    const one = async (event) => {
      const answer = await source.tell("ask", { ...to, event: [event] });
      return source.kind === "rust" ? answer[0] : answer;
    };
    assert.equal(await one("who"), client.name);
    assert.deepEqual(await one("two"), [client.name, [2]]);
    assert.equal(await one("nothing"), null);
  }
});

cell("join-leave", async (source, targets) => {
  for (const client of targets) {
    await source.tell("join", { to: [client.id], rooms: ["new"] });
    await source.tell("emit", { to: ["new"], event: ["in-new"] });
    await client.next("in-new");
    await source.tell("leave", { to: [client.id], rooms: ["new"] });
    await source.tell("emit", { to: ["new"], event: ["in-new"] });
    assert.deepEqual(await heard(source, ["in-new"]), clients.map(() => ""));
  }
});

cell("close-room", async (source, targets) => {
  for (const client of targets) await source.tell("join", { to: [client.id], rooms: ["short"] });
  await source.tell("emit", { to: ["short"], event: ["still"] });
  for (const client of targets) await client.next("still");
  if (source.kind === "rust") await source.tell("leave", { to: ["short"], rooms: ["short"] });
  else await source.tell("close", { to: ["short"] });
  await source.tell("emit", { to: ["short"], event: ["no-more"] });
  assert.deepEqual(await heard(source, ["no-more"]), clients.map(() => ""));
});

cell("disconnect", async (source, targets) => {
  const { node } = targets[0];
  const victim = new Client(node, "victim", "victims", targets[0].socket.io.opts.transports);
  await victim.connected();
  const gone = once(victim.socket, "disconnect");
  await source.tell("disconnect", { to: [victim.id] });
  const [reason] = await gone;
  assert.match(reason, /io server disconnect|transport close/);
  victim.socket.io.engine?.close();
  for (const client of clients) assert.ok(client.socket.connected);
});

const rust = () => nodes.find((node) => node.kind === "rust");
const ids = (kind) => clients.filter((client) => client.node.kind === kind).map((client) => client.id);

test("python what only ours can tell says who is missing", { timeout: 120_000 }, async () => {
  const found = await rust().tell("fetch", { partial: true });
  assert.deepEqual([found.ids.sort(), found.missing], [ids("rust").sort(), 2]);
  const answers = await rust().tell("askServers", { text: "t", partial: true });
  assert.deepEqual([answers.answers.map((answer) => answer.from), answers.missing], [["r2"], 2]);
  await rust().tell("tell", { text: { a: 1 } });
  const other = clients.find((client) => client.node.name === "r2");
  assert.deepEqual(await other.next("told"), ["told", { a: 1 }, "r2"]);
  // A question to everybody gets the answers of all, whichever server they are on.
  const all = await rust().tell("ask", { to: ["all"], flags: { timeout: 20_000 }, event: ["who"], count: 4 });
  assert.deepEqual(all.sort(), clients.map((client) => client.name).sort());
});

test("python what cannot be told is an error and reaches nobody wrong", { timeout: 120_000 }, async () => {
  await assert.rejects(rust().tell("emit", { except: ["p1"], event: ["not-p1"] }), /cannot be told/);
  await rust().tell("join", { to: ["all"], rooms: ["more"] });
  assert.equal((await rust().tell("stats")).refused, 2);
  const got = await heard(rust(), ["not-p1"]);
  assert.deepEqual(got, clients.map((client) => (client.node.kind === "rust" ? "not-p1" : "")));
});

test("python emitters of both languages reach everybody", { timeout: 120_000 }, async () => {
  const python = nodes[0];
  const emitter = new Node("rust", "e", "python-emitter", broker.url);
  await emitter.ready;
  for (const [source, op] of [[python, "write-only"], [emitter, "emit"]]) {
    await source.tell(op, { event: ["all-of-you", { $: "00ff" }, 1] });
    await source.tell(op, { to: ["on-rust"], except: [ids("rust")[1]], event: ["one-of-you"] });
    for (const client of clients) {
      const [, bytes, one] = await client.next("all-of-you");
      assert.deepEqual([Buffer.from(bytes).toString("hex"), one], ["00ff", 1]);
    }
    await clients.find((client) => client.id === ids("rust")[0]).next("one-of-you");
    await source.tell(op, { event: ["behind"] });
    for (const client of clients) await client.next("behind");
    assert.deepEqual(await heard(rust(), ["one-of-you"]), clients.map(() => ""));
  }
  for (const client of clients) await emitter.tell("join", { to: [client.id], rooms: ["by-emitter"] });
  await emitter.tell("emit", { to: ["by-emitter"], event: ["joined"] });
  for (const client of clients) await client.next("joined");
  await emitter.tell("leave", { to: ["by-emitter"], rooms: ["by-emitter"] });
  await emitter.tell("emit", { to: ["by-emitter"], event: ["joined"] });
  await emitter.tell("emit", { event: ["behind"] });
  for (const client of clients) await client.next("behind");
  assert.deepEqual(await heard(rust(), ["joined"]), clients.map(() => ""));
  emitter.child.kill("SIGKILL");
});

test("python pickled messages of old managers stop nobody", { timeout: 120_000 }, async () => {
  const before = (await rust().tell("stats")).foreign;
  await nodes[0].tell("pickled");
  for (const source of nodes) {
    await source.tell("emit", { event: ["after"] });
    for (const client of clients) await client.next("after");
  }
  assert.deepEqual(await heard(rust(), ["pickled"]), clients.map(() => ""));
  assert.equal((await rust().tell("stats")).foreign, before + 1);
});
