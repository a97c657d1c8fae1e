// One client library over one transport against the interop server: every test is one feature.
//
// CLIENT (sio2, sio3, sio4, msgpack), TRANSPORT (polling, websocket, upgrade) and URL come from the environment. Nobody
// waits for time to pass: that something did not arrive is shown by a later message that did.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { fnv, gift } from "./bytes.mjs";

const { CLIENT, TRANSPORT, URL: SERVER } = process.env;
const old = CLIENT === "sio2";
const json = CLIENT !== "msgpack";
const library = await import({ sio2: "sio2", sio3: "sio3", sio4: "sio4", msgpack: "sio4" }[CLIENT]);
const Manager = library.Manager ?? library.default.Manager;
const parser = json ? {} : { parser: (await import("socket.io-msgpack-parser")).default };
const transports = { polling: ["polling"], websocket: ["websocket"], upgrade: ["polling", "websocket"] }[TRANSPORT];
const LIMIT = 100_000; // what the driver gives the server as --max-payload

const feature = (name, body) => test(name, { timeout: 30_000 }, body);
const managers = new Set();
afterEach(() => {
  for (const manager of managers) {
    manager.reconnection(false);
    manager.engine?.close();
  }
  managers.clear();
});

// --- helpers -----------------------------------------------------------------------------------------------------------

function manage(options = {}) {
  const manager = new Manager(SERVER, {
    transports,
    autoConnect: false,
    reconnection: false,
    reconnectionDelay: 20,
    reconnectionDelayMax: 50,
    timeout: 10_000,
    ...parser,
    ...options,
  });
  managers.add(manager);
  return manager;
}

/** A connected socket that keeps everything it receives. */
async function connect(namespace = "/", { auth, manager = manage() } = {}) {
  const socket = attach(manager, namespace, auth);
  await new Promise((done, fail) => {
    socket.once("connect", done);
    socket.once(old ? "error" : "connect_error", (e) => fail(new Error(`refused: ${e.message ?? JSON.stringify(e)}`)));
  });
  return socket;
}

function attach(manager, namespace, auth) {
  const query = old && auth ? { query: new URLSearchParams(auth).toString() } : {};
  const socket = manager.socket(namespace, old ? query : { auth });
  socket.log = [];
  const onevent = socket.onevent;
  socket.onevent = (packet) => {
    socket.log.push(packet.data);
    onevent.call(socket, packet);
  };
  socket.connect();
  return socket;
}

/** What the server acknowledges, as an array. */
function call(socket, ...args) {
  return new Promise((done, fail) => {
    const timer = setTimeout(() => fail(new Error(`no ack of ${args[0]} within 15 s`)), 15_000);
    socket.emit(...args, (...answer) => {
      clearTimeout(timer);
      done(answer);
    });
  });
}

/** The arguments of the next event of this name. */
const next = (socket, event) => new Promise((done) => socket.once(event, (...args) => done(args)));

/** Everything that this socket got under this name, each as an array of arguments. */
const got = (socket, event) => socket.log.filter(([name]) => name === event).map(([, ...args]) => args);

/** After this, whatever the server sent to these sockets before has arrived. */
const settle = (...sockets) => Promise.all(sockets.map((socket) => call(socket, "echo-ack")));

/** Asks until the answer is there; the server notices a disconnection a little later than the client. */
async function eventually(ask, wanted) {
  let last;
  for (let i = 0; i < 300; i++) {
    last = await ask();
    if (wanted(last)) return last;
    await new Promise((done) => setTimeout(done, 10));
  }
  assert.fail(`still ${JSON.stringify(last)}`);
}

const reasonOf = (socket, key) =>
  eventually(() => call(socket, "reason-of", key).then(([reason]) => reason), (reason) => reason !== null);

const every = Buffer.from(Array.from({ length: 256 }, (_, i) => i));

/** Node clients give Buffers, the browser build ArrayBuffers, notepack views: bytes are bytes. */
function plain(value) {
  if (value instanceof ArrayBuffer) return Buffer.from(value);
  if (ArrayBuffer.isView(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (Array.isArray(value)) return value.map(plain);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
  return value;
}
const same = (actual, expected, message) => assert.deepEqual(plain(actual), plain(expected), message);

// --- features ----------------------------------------------------------------------------------------------------------

feature("emit", async () => {
  const socket = await connect();
  const values = [
    null, true, false, 0, -1, 1.5, -2.25e-7, 2 ** 31, -(2 ** 31) - 1, 2 ** 53 - 1, "", "text", '"quoted\\"\n\t', "ünï 漢字 😀 \u2028\u0000\u001e", [], {},
    [1, [2, [3, [null]]]], { a: { b: [false, { "": 0 }] }, "ключ": "значение" }, '451-["x"]', "x".repeat(2000),
  ];
  for (const value of values) {
    socket.emit("echo", value);
    same(await next(socket, "echo"), [value]);
  }
  socket.emit("echo");
  same(await next(socket, "echo"), []);
  socket.emit("echo", 1, "two", { three: 3 }, [4], null);
  same(await next(socket, "echo"), [1, "two", { three: 3 }, [4], null]);
  same(await call(socket, "kinds", null, true, 1, "s", [], {}), [["null", "bool", "number", "string", "array", "object"]]);
  same(got(socket, "hello"), [[socket.id]], "exactly one hello, with the socket's id");
});

feature("order", async () => {
  const socket = await connect();
  for (let i = 0; i < 500; i++) socket.emit("seq", i);
  same(await call(socket, "seq-report"), [500, 0]);
  socket.emit("count", 500);
  await next(socket, "number-end");
  same(got(socket, "number"), Array.from({ length: 500 }, (_, i) => [i]));
  // Both directions at once.
  const echoes = Array.from({ length: 200 }, (_, i) => [i]);
  socket.log.length = 0;
  for (const [i] of echoes) socket.emit("echo", i);
  await settle(socket);
  same(got(socket, "echo"), echoes);
});

feature("ack-client", async () => {
  const socket = await connect();
  same(await call(socket, "echo-ack"), []);
  same(await call(socket, "echo-ack", null), [null]);
  same(await call(socket, "echo-ack", 1, "two", { three: [3] }), [1, "two", { three: [3] }]);
  const answers = await Promise.all(Array.from({ length: 100 }, (_, i) => call(socket, "echo-ack", i)));
  same(answers, Array.from({ length: 100 }, (_, i) => [i]), "every answer reaches its own question");
});

feature("ack-server", async () => {
  const socket = await connect();
  socket.on("question", (...args) => args.pop()(...args.reverse()));
  same(await call(socket, "ask"), []);
  same(await call(socket, "ask", "one"), ["one"]);
  same(await call(socket, "ask", 1, "two", { three: 3 }), [{ three: 3 }, "two", 1]);
  const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => call(socket, "ask", i, "x")));
  same(answers, Array.from({ length: 50 }, (_, i) => ["x", i]));
  same(await call(socket, "ask-timeout", 50), ["timeout"]);
  socket.on("silence", (ack) => ack());
  same(await call(socket, "ask-timeout", 5000), ["answered"]);
  // Answering twice counts once.
  socket.off("question");
  socket.on("question", (ack) => (ack("first"), ack("second")));
  same(await call(socket, "ask"), ["first"]);
  same(await call(socket, "echo-ack", "still here"), ["still here"]);
});

feature("mixed-binary", async () => {
  const socket = await connect();
  const tricky = Buffer.from([0x1e, 0x00, 0xff, 0x62, 0x34, 0x1e]);
  const args = [{ list: [every, { deep: tricky }], n: 1, none: null }, "between", tricky, [[every]]];
  socket.emit("echo", ...args);
  same(await next(socket, "echo"), args);
  same(await call(socket, "echo-ack", ...args), args);
  same(await call(socket, "kinds", every, "s", { a: every }, [every]), [["binary", "string", "object", "array"]]);
  same(await call(socket, "measure", every), ["binary", 256, fnv(every)]);
  socket.on("question", (buffer, ack) => ack({ back: Buffer.from(buffer).reverse() }, "and text"));
  same(await call(socket, "ask", every), [{ back: Buffer.from(every).reverse() }, "and text"]);
  // A user's object that looks like a placeholder stays an object where no attachment is.
  const impostor = { _placeholder: true, num: 0 };
  same(await call(socket, "echo-ack", impostor), [impostor]);
});

feature("several-buffers", async () => {
  const socket = await connect();
  const buffers = [0, 1, 2, 124, 125, 126, 127, 128, 255, 8000].map((n) => gift("binary", n));
  same(await call(socket, "echo-ack", ...buffers), buffers);
  socket.emit("echo", ...buffers);
  same(await next(socket, "echo"), buffers);
  // Text and attachments keep their order, also of several events in flight.
  socket.log.length = 0;
  const events = [];
  for (let i = 0; i < 30; i++) events.push([i, gift("binary", i), "text"], [`plain ${i}`], [gift("binary", 3), i, gift("binary", 130)]);
  for (const args of events) socket.emit("echo", ...args);
  await settle(socket);
  same(got(socket, "echo"), events);
  if (json) {
    // One more than the server takes.
    const gone = next(socket, "disconnect");
    socket.emit("echo", ...Array(11).fill(every));
    await gone;
    const other = await connect();
    same(await call(other, "echo-ack", every), [every], "and the server goes on");
  }
});

feature("namespace", async () => {
  const manager = manage();
  const root = await connect("/", { manager });
  const chat = await connect("/chat", { manager });
  assert.notEqual(chat.id, root.id);
  const [who] = await call(chat, "whoami");
  same(got(chat, "hello"), [[chat.id]]);
  same([who.namespace, who.id], ["/chat", chat.id]);
  chat.emit("echo", "in chat", every);
  root.emit("echo", "in root");
  await settle(root, chat);
  same(got(chat, "echo"), [["in chat", every]]);
  same(got(root, "echo"), [["in root"]]);
  // Rooms belong to a namespace.
  await call(root, "join", "both");
  same(await call(chat, "members", "both"), [0]);
  // Leaving one namespace leaves the connection.
  await call(chat, "remember", `chat of ${chat.id}`);
  const key = `chat of ${chat.id}`;
  chat.disconnect();
  assert.equal(await reasonOf(root, key), "client namespace disconnect");
  same(await call(root, "echo-ack", "alive"), ["alive"]);
  // And one can come back.
  const back = next(chat, "connect");
  chat.connect();
  await back;
  same(await call(chat, "echo-ack", "back"), ["back"]);
});

feature("auth-accepted", async () => {
  const admin = await connect("/admin", { auth: { token: "secret", n: "5" } });
  const [who] = await call(admin, "whoami");
  same([who.namespace, who.auth.token, who.auth.n], ["/admin", "secret", "5"]);
  same(got(admin, "hello"), [[admin.id]]);
  if (!old) {
    const auth = { token: "secret", deep: { list: [1, null] }, text: "ü" };
    const [{ auth: seen }] = await call(await connect("/admin", { auth }), "whoami");
    same(seen, auth);
    // A function is asked at every connection.
    let asked = 0;
    const lazy = await connect("/admin", { auth: (give) => give({ token: "secret", asked: ++asked }) });
    same((await call(lazy, "whoami"))[0].auth, { token: "secret", asked: 1 });
  }
});

feature("auth-refused", async () => {
  const refused = async (namespace, auth) => {
    const manager = manage();
    const root = await connect("/", { manager });
    const socket = attach(manager, namespace, auth);
    const outcome = await new Promise((done) => {
      socket.once(old ? "error" : "connect_error", (error) => done(error));
      socket.once("connect", () => done("connected"));
    });
    assert.notEqual(outcome, "connected");
    same(await call(root, "echo-ack", "the connection stays"), ["the connection stays"]);
    assert.equal(socket.connected, false);
    same(got(socket, "hello"), []);
    return outcome;
  };
  const none = await refused("/admin");
  const expired = await refused("/admin", { token: "expired" });
  const unknown = await refused("/nope");
  if (old) {
    const data = { code: 4001, hint: "log in again" };
    same([none, expired, unknown], ["not authorized", data, { message: "Invalid namespace" }]);
  } else {
    same([none.message, none.data], ["not authorized", undefined]);
    same([expired.message, expired.data], ["token expired", { code: 4001, hint: "log in again" }]);
    same([unknown.message, unknown.data], ["Invalid namespace", undefined]);
  }
});

feature("rooms", async () => {
  const [a, b, c] = await Promise.all([connect(), connect(), connect()]);
  const room = (name) => `${name} of ${a.id}`;
  const [r1, r2] = [room("one"), room("two")];
  same(await call(a, "rooms"), [[], true]);
  same(await call(a, "join", r1), [[r1]]);
  same(await call(b, "join", r1), [[r1]]);
  same(await call(b, "join", r2), [[r1, r2].sort()]);
  same(await call(c, "join", r2), [[r2]]);
  same(await call(a, "members", r1), [2]);

  /** Broadcasts from a and tells who got what. */
  const who = { a, b, c };
  const reaches = async (target, ...args) => {
    for (const socket of Object.values(who)) socket.log.length = 0;
    a.emit("send-to", { from: "socket", to: [], except: [], ...target }, "news", ...args);
    await settle(a);
    await settle(...Object.values(who));
    return Object.entries(who).flatMap(([name, socket]) =>
      got(socket, "news").map((received) => (same(received, args), name)),
    ).join("");
  };
  assert.equal(await reaches({ to: [r1] }, 1), "b", "the sender is left out");
  assert.equal(await reaches({ to: [r1, r2] }, "twice"), "bc", "a member of two rooms gets one copy");
  assert.equal(await reaches({ from: "server", to: [r1] }, { x: 1 }), "ab");
  assert.equal(await reaches({ from: "server", to: [r1, r2] }, every, { list: [every] }), "abc");
  assert.equal(await reaches({ from: "server", to: [r1, r2], except: [r2] }), "a");
  assert.equal(await reaches({ to: [r2], except: [c.id] }), "b");
  assert.equal(await reaches({ to: [b.id] }), "b", "everybody is in the room of their own id");
  assert.equal(await reaches({ from: "server", to: [a.id] }), "a");
  assert.equal(await reaches({ to: ["nobody's room"] }), "");
  assert.equal(await reaches({ from: "server", to: [], except: [a.id] }, "all"), "bc");
  assert.equal(await reaches({ local: true }, "all"), "bc");
  same(await call(b, "leave", r1), [[r2]]);
  assert.equal(await reaches({ from: "server", to: [r1] }), "a");

  // Many broadcasts keep their order for every member.
  b.log.length = 0;
  for (let i = 0; i < 100; i++) a.emit("send-to", { from: "socket", to: [r2], except: [] }, "news", i);
  await settle(a);
  await settle(b);
  same(got(b, "news"), Array.from({ length: 100 }, (_, i) => [i]));

  // Acks of a whole room.
  for (const [name, socket] of Object.entries({ b, c })) socket.on("vote", (ack) => ack(name));
  same(await call(a, "vote", r2, 10_000), ["complete", ["b", "c"]]);
  c.off("vote");
  same(await call(a, "vote", r2, 200), ["timeout", ["b"]]);

  // Who leaves the server leaves the rooms.
  c.disconnect();
  delete who.c;
  await eventually(() => call(a, "members", r2).then(([n]) => n), (n) => n === 1);
  assert.equal(await reaches({ to: [r2] }), "b");
});

feature("volatile", async () => {
  const socket = await connect();
  const burst = async (n) => {
    socket.log.length = 0;
    socket.emit("volatile", n);
    await next(socket, "volatile-end");
    const numbers = got(socket, "volatile").map(([i]) => i);
    same(numbers, [...new Set(numbers)].sort((x, y) => x - y), "no copy, no inversion");
    return numbers;
  };
  // An idle connection takes a volatile event. (A poll may just be on its way back: then it is lost, rightly.)
  let arrived = 0;
  for (let i = 0; i < 20 && arrived === 0; i++) {
    await settle(socket);
    await new Promise((resolve) => setTimeout(resolve, 20 * i)); // time for the next poll to be on its way
    arrived = (await burst(1)).length;
  }
  assert.equal(arrived, 1);
  // More than a transport takes at once is dropped, and what is not volatile still arrives behind it.
  const numbers = await burst(20_000);
  assert.ok(numbers.length < 20_000, `all of ${numbers.length} arrived, nothing was volatile`);
  same(await call(socket, "echo-ack", "after"), ["after"]);
});

feature("reconnect", async () => {
  const watcher = await connect();
  const manager = manage({ reconnection: true });
  const socket = await connect("/", { manager });
  const chat = await connect("/chat", { manager });
  const first = socket.id;

  // The server closes the connection.
  await call(socket, "remember", first);
  const down = next(socket, "disconnect");
  const up = next(socket, "connect");
  const chatUp = next(chat, "connect");
  socket.emit("kick");
  same((await down)[0], "transport close");
  socket.emit("echo", "buffered while away", every);
  await Promise.all([up, chatUp]);
  assert.notEqual(socket.id, first);
  await settle(socket);
  same(got(socket, "echo"), [["buffered while away", every]], "exactly once");
  same(got(socket, "hello").length, 2);
  same(await call(chat, "echo-ack", 1), [1]);
  assert.equal(await reasonOf(watcher, first), "forced close");

  // The client's link goes away.
  const second = socket.id;
  await call(socket, "remember", second);
  const again = next(socket, "connect");
  manager.engine.close();
  await again;
  assert.notEqual(socket.id, second);
  same(await call(socket, "echo-ack", "here again"), ["here again"]);
  assert.equal(await reasonOf(watcher, second), "transport close");
});

feature("disconnect", async () => {
  const watcher = await connect();
  const leave = async (how, expected) => {
    const manager = manage({ reconnection: true });
    const socket = await connect("/", { manager });
    const key = `${how} ${socket.id}`;
    await call(socket, "remember", key);
    const gone = next(socket, "disconnect");
    if (how === "client") socket.disconnect();
    else socket.emit("bye", how === "server, all of it");
    same([(await gone)[0], await reasonOf(watcher, key)], expected);
    assert.equal(socket.connected, false);
  };
  await leave("client", ["io client disconnect", "client namespace disconnect"]);
  await leave("server", ["io server disconnect", "server namespace disconnect"]);
  await leave("server, all of it", ["io server disconnect", "server namespace disconnect"]);
});

feature("big-payload", async () => {
  const socket = await connect();
  // The packet around the value; and over polling base64 costs a third, for this parser also of text.
  const based = Math.floor((LIMIT - 200) * 0.74);
  const room = !json && TRANSPORT !== "websocket" ? based : LIMIT - 200;
  for (const n of [1, 125, 126, 65_500, 65_536, room - 1, room]) {
    const value = gift("string", n);
    same(await call(socket, "measure", value), ["string", n, fnv(Buffer.from(value))]);
  }
  const bytes = gift("binary", TRANSPORT === "websocket" ? room : based);
  same(await call(socket, "measure", bytes), ["binary", bytes.length, fnv(bytes)]);
  const wide = "漢".repeat(Math.floor(room / 3));
  same(await call(socket, "measure", wide), ["string", Buffer.byteLength(wide), fnv(Buffer.from(wide))]);
  // The limit is the server's own, clients take more.
  for (const kind of ["string", "binary"]) {
    socket.emit("give", kind, 3 * LIMIT);
    const [value] = await next(socket, "gift");
    assert.ok(Buffer.from(value).equals(Buffer.from(gift(kind, 3 * LIMIT))), `${kind} of ${3 * LIMIT} bytes`);
  }
  if (CLIENT === "sio4" || CLIENT === "msgpack") {
    // These clients read maxPayload and cut what they post.
    const part = gift("string", 30_000);
    const answers = await Promise.all(Array.from({ length: 20 }, () => call(socket, "measure", part)));
    same(answers, Array(20).fill(["string", 30_000, fnv(Buffer.from(part))]));
  }
});

feature("beyond-limit", async () => {
  const watcher = await connect();
  for (const value of [gift("string", LIMIT + 1), gift("binary", LIMIT + 1), gift("string", 20 * LIMIT)]) {
    const manager = manage({ reconnection: true });
    const socket = await connect("/", { manager });
    let answered = false;
    const gone = next(socket, "disconnect");
    const back = next(socket, "connect");
    socket.emit("measure", value, () => (answered = true));
    assert.ok(["transport close", "transport error"].includes((await gone)[0]));
    await back;
    same(await call(socket, "echo-ack", "small"), ["small"]);
    assert.equal(answered, false, "the server must not have seen it");
    same(await call(watcher, "echo-ack", "untouched"), ["untouched"]);
  }
});

feature("transport", async () => {
  const manager = manage({ query: { who: "me & you" } });
  // The client passes no auth: over revision 4 the server sees the query of the namespace, which is empty too.
  const socket = await connect("/", { manager });
  const upgraded = TRANSPORT === "upgrade";
  const end = upgraded ? "websocket" : TRANSPORT;
  // Traffic both ways while the transport changes.
  let sent = 0;
  let echoed = 0;
  const step = async () => {
    for (let i = 0; i < 5; i++) socket.emit("seq", sent++);
    socket.emit("echo", echoed++);
    await new Promise((done) => setImmediate(done));
  };
  for (let i = 0; i < 5000 && (manager.engine.transport.name !== end || sent < 300); i++) {
    await step();
    if (i > 100) await new Promise((done) => setTimeout(done, 1));
  }
  assert.equal(manager.engine.transport.name, end);
  for (let i = 0; i < 20; i++) await step();
  same(await call(socket, "seq-report"), [sent, 0]);
  same(got(socket, "echo"), Array.from({ length: echoed }, (_, i) => [i]));
  const [who] = await call(socket, "whoami");
  same([who.transport, who.revision, who.who], [end, old ? 3 : 4, "me & you"]);
});
