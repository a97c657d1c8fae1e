// Connection state recovery: the official client against the interop server with --recovery 10000.
//
// CLIENT (recovery, recovery-msgpack), TRANSPORT (polling, websocket, upgrade), URL and PEER (ours, node) come from the
// environment. What the npm server is known not to do is not asked of it.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { Manager } from "sio4";

const { CLIENT, TRANSPORT, URL: SERVER, PEER } = process.env;
const parser = CLIENT === "recovery-msgpack" ? { parser: (await import("socket.io-msgpack-parser")).default } : {};
const transports = { polling: ["polling"], websocket: ["websocket"], upgrade: ["polling", "websocket"] }[TRANSPORT];
const AWAY = 10_000;

const feature = (name, body) => test(name, { timeout: 60_000 }, body);
/** What the npm server does not do. */
const ours = (name, body) => test(name, { timeout: 60_000, skip: PEER === "node" && "not on the npm server" }, body);

const managers = new Set();
afterEach(() => {
  for (const manager of managers) manager.engine?.close();
  managers.clear();
});

/** A connected socket that keeps what it receives, without offsets. */
async function connect(auth = {}) {
  const manager = new Manager(SERVER, { transports, autoConnect: false, reconnection: false, timeout: 10_000, ...parser });
  managers.add(manager);
  const socket = manager.socket("/", { auth });
  socket.log = [];
  socket.onAny((...args) => socket.log.push(args));
  await reconnect(socket);
  return socket;
}

function reconnect(socket) {
  const connected = new Promise((done, fail) => {
    socket.once("connect", done);
    socket.once("connect_error", fail);
  });
  socket.connect();
  return connected;
}

/** What the server acknowledges. */
const call = (socket, ...args) => socket.timeout(15_000).emitWithAck(...args);
/** After this, whatever the server sent before has arrived. */
const settle = (...sockets) => Promise.all(sockets.map((socket) => call(socket, "rooms")));
const next = (socket, event) => new Promise((done) => socket.once(event, (...args) => done(args)));
/** Everything that this socket got under this name, each as an array of arguments without the offset. */
const got = (socket, event) =>
  socket.log.filter(([name]) => name === event).map(([, ...args]) => args.slice(0, -1).map(plain));
const plain = (value) =>
  value instanceof ArrayBuffer || ArrayBuffer.isView(value) ? Buffer.from(value).toString("hex") : value;

let keys = 0;
/** Breaks the connection below the namespace and waits until the server has noticed. */
async function cut(socket, watcher) {
  const key = `key ${process.pid} ${keys++}`;
  await call(socket, "remember", key);
  const gone = next(socket, "disconnect");
  socket.io.engine.close();
  await gone;
  for (let i = 0; (await call(watcher, "reason-of", key)) === null; i++) {
    assert.ok(i < 500, "the server does not notice");
    await new Promise((done) => setTimeout(done, 10));
  }
}

const everybody = { from: "server", to: [], except: [] };
const room = (...to) => ({ ...everybody, to });

feature("recovered", async () => {
  const watcher = await connect();
  const socket = await connect();
  const { id } = socket;
  const mine = `room of ${id}`;
  assert.equal(socket.recovered, false);
  await call(socket, "join", mine);
  await call(socket, "keep", { name: "Ann", list: [1, null] });
  await cut(socket, watcher);
  socket.log.length = 0;
  watcher.emit("send-to", everybody, "news", 1);
  watcher.emit("send-to", room(mine), "news", 2, "text");
  watcher.emit("send-to", room("another room"), "news", "not for it");
  watcher.emit("send-to", { ...everybody, except: [mine] }, "news", "nor this");
  watcher.emit("send-to", room(id, mine), "news", 3);
  watcher.emit("send-to", room(id), "news");
  await settle(watcher);
  await reconnect(socket);
  assert.equal(socket.recovered, true);
  assert.equal(socket.id, id);
  await settle(socket);
  assert.deepEqual(got(socket, "news"), [[1], [2, "text"], [3], []]);
  assert.deepEqual(await call(socket, "rooms"), [mine]);
  assert.deepEqual(await call(socket, "kept"), { name: "Ann", list: [1, null] });
  // And it goes on.
  watcher.emit("send-to", room(mine), "news", 4);
  await settle(watcher);
  await settle(socket);
  assert.deepEqual(got(socket, "news").at(-1), [4]);
});

feature("again-and-again", async () => {
  const watcher = await connect();
  const socket = await connect();
  const { id } = socket;
  for (let round = 0; round < 5; round++) {
    await cut(socket, watcher);
    watcher.emit("send-to", room(id), "round", round, 0);
    watcher.emit("send-to", room(id), "round", round, 1);
    await settle(watcher);
    await reconnect(socket);
    assert.deepEqual([socket.recovered, socket.id], [true, id]);
    await settle(socket);
  }
  assert.deepEqual(got(socket, "round"), [0, 1, 2, 3, 4].flatMap((round) => [[round, 0], [round, 1]]));
});

feature("cut-in-a-burst", async () => {
  const watcher = await connect();
  const socket = await connect();
  const { id } = socket;
  const gone = new Promise((done) => socket.once("disconnect", done));
  let seen = 0;
  // Not from within: the library keeps what it was just reading, and would have it twice.
  socket.on("number", () => ++seen === 100 && setImmediate(() => socket.io.engine.close()));
  for (let i = 0; i < 500; i++) watcher.emit("send-to", room(id), "number", i);
  await gone;
  await settle(watcher);
  // The server may not have noticed: it may take the client for a second one of its kind.
  if (PEER === "node") await new Promise((done) => setTimeout(done, 500));
  await reconnect(socket);
  assert.deepEqual([socket.recovered, socket.id], [true, id]);
  await settle(socket);
  assert.deepEqual(got(socket, "number"), Array.from({ length: 500 }, (_, i) => [i]));
});

feature("binary", async () => {
  const watcher = await connect();
  const socket = await connect();
  await cut(socket, watcher);
  const bytes = [Buffer.from([1, 2, 3]), Buffer.from("second"), Buffer.alloc(300, 7)];
  watcher.emit("send-to", room(socket.id ?? "none"), "nobody", 0);
  watcher.emit("send-to", everybody, "bytes", bytes[0], "between", bytes[1]);
  watcher.emit("send-to", everybody, "bytes", bytes[2]);
  watcher.emit("send-to", everybody, "after", 1);
  await settle(watcher);
  await reconnect(socket);
  assert.equal(socket.recovered, true);
  await settle(socket);
  assert.deepEqual(got(socket, "bytes"), [[plain(bytes[0]), "between", plain(bytes[1])], [plain(bytes[2])]]);
  assert.deepEqual(got(socket, "after"), [[1]]);
});

feature("questions", async () => {
  const watcher = await connect();
  const socket = await connect();
  const { id } = socket;
  socket.on("question", (text, answer) => answer(`${text}!`));
  assert.equal(await call(socket, "ask", "well"), "well!");
  await cut(socket, watcher);
  watcher.emit("send-to", room(id), "news", 1);
  await settle(watcher);
  await reconnect(socket);
  assert.deepEqual([socket.recovered, socket.id], [true, id]);
  assert.equal(await call(socket, "ask", "again"), "again!");
  assert.deepEqual(got(socket, "news"), [[1]]);
});

feature("left-for-good", async () => {
  const watcher = await connect();
  for (const how of ["client", "server"]) {
    const socket = await connect();
    const { id } = socket;
    const gone = next(socket, "disconnect");
    if (how === "client") socket.disconnect();
    else socket.emit("bye", false);
    await gone;
    await settle(watcher);
    await reconnect(socket);
    assert.equal(socket.recovered, false);
    assert.notEqual(socket.id, id);
  }
});

feature("too-late", async (t) => {
  // The one test that has to wait; once is enough.
  if (TRANSPORT !== "websocket" || CLIENT !== "recovery") return t.skip("asked elsewhere");
  const watcher = await connect();
  const socket = await connect();
  const { id } = socket;
  await cut(socket, watcher);
  watcher.emit("send-to", room(id), "news", 1);
  await new Promise((done) => setTimeout(done, AWAY + 500));
  await reconnect(socket);
  assert.equal(socket.recovered, false);
  assert.notEqual(socket.id, id);
  await settle(socket);
  assert.deepEqual(got(socket, "news"), []);
});

ours("before-the-first-event", async () => {
  const watcher = await connect();
  const socket = await connect({ quiet: true });
  const { id } = socket;
  await call(socket, "join", `room of ${id}`);
  assert.deepEqual(socket.log, []);
  await cut(socket, watcher);
  watcher.emit("send-to", room(`room of ${id}`), "news", 1);
  await settle(watcher);
  await reconnect(socket);
  assert.deepEqual([socket.recovered, socket.id], [true, id]);
  await settle(socket);
  assert.deepEqual(got(socket, "news"), [[1]]);
});

ours("volatile", async () => {
  const watcher = await connect();
  const socket = await connect();
  const { id } = socket;
  // Until one arrives: a poll may be on its way back.
  for (let i = 0; i < 100 && got(socket, "status").length === 0; i++) {
    socket.emit("volatile-text", "online");
    await settle(socket);
    await new Promise((done) => setTimeout(done, 10));
  }
  assert.deepEqual(got(socket, "status")[0], ["online"]);
  await cut(socket, watcher);
  watcher.emit("send-to", room(id), "news", 1);
  await settle(watcher);
  await reconnect(socket);
  assert.deepEqual([socket.recovered, socket.id], [true, id]);
  await settle(socket);
  assert.deepEqual(got(socket, "news"), [[1]]);
});

ours("replaced", async () => {
  const watcher = await connect();
  const old = await connect();
  const { id } = old;
  await call(old, "join", `room of ${id}`);
  // The same client over another network, the server still believing in the old connection.
  const fresh = new Manager(SERVER, { transports, autoConnect: false, reconnection: false, ...parser });
  managers.add(fresh);
  const socket = fresh.socket("/");
  socket.log = [];
  socket.onAny((...args) => socket.log.push(args));
  Object.assign(socket, { _pid: old._pid, _lastOffset: old._lastOffset });
  const gone = next(old, "disconnect");
  await reconnect(socket);
  assert.deepEqual([socket.recovered, socket.id], [true, id]);
  await gone;
  watcher.emit("send-to", room(`room of ${id}`), "news", 1);
  await settle(watcher);
  await settle(socket);
  assert.deepEqual(got(socket, "news"), [[1]]);
  assert.deepEqual(got(old, "news"), []);
  assert.deepEqual(await call(socket, "members", `room of ${id}`), 1);
});

ours("at-least-once", async () => {
  const watcher = await connect();
  const socket = await connect();
  const seen = [];
  let calls = 0;
  let deaf = true;
  socket.on("sure", (value, id, confirm) => {
    calls++;
    if (deaf) return;
    // The recipe: whoever must not handle an event twice remembers the ids.
    if (!seen.some(([, known]) => known === id)) seen.push([value, id]);
    confirm();
  });
  const confirmed = async (n) => {
    for (let i = 0; seen.length < n; i++) {
      assert.ok(i < 1000, `only ${seen.length} of ${n}`);
      await new Promise((done) => setTimeout(done, 10));
    }
    await settle(socket);
    return seen.map(([value]) => value);
  };
  // Heard and not confirmed: it comes again.
  for (const value of [1, 2, 3]) socket.emit("sure", value, 1000, 20);
  for (let i = 0; calls < 3; i++) {
    assert.ok(i < 1000, "it is not repeated");
    await new Promise((done) => setTimeout(done, 10));
  }
  deaf = false;
  assert.deepEqual(await confirmed(3), [1, 2, 3]);
  // Lost with the connection: it comes again on the next.
  deaf = true;
  for (const value of [4, 5]) socket.emit("sure", value, 1000, 60_000);
  await settle(socket);
  await cut(socket, watcher);
  deaf = false;
  await reconnect(socket);
  assert.equal(socket.recovered, true);
  assert.deepEqual(await confirmed(5), [1, 2, 3, 4, 5]);
  assert.deepEqual(new Set(seen.map(([, id]) => id)).size, 5);
});
