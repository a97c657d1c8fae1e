// The reference server: EVENTS.md on the npm package. The suites are checked against it.

import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { Server } from "socket.io";
import * as msgpack from "socket.io-msgpack-parser";
import { fnv, gift } from "./bytes.mjs";

const text = (value) => ({ type: "string", default: value });
const flag = { type: "boolean", default: false };
const { values: options } = parseArgs({
  options: {
    port: text("0"),
    "exit-with-stdin": flag,
    parser: text("json"),
    path: text("/socket.io"),
    "ping-interval": text("25000"),
    "ping-timeout": text("20000"),
    "upgrade-timeout": text("10000"),
    "connect-timeout": text("45000"),
    "max-payload": text("1000000"),
    "no-eio3": flag,
    transports: text("polling,websocket"),
    "no-upgrades": flag,
    cors: { type: "string" },
    cookie: { type: "string" },
    gate: flag,
    "loopback-hosts": flag, // ours alone: the npm server has no such check
    compress: flag,
    recovery: { type: "string" },
    // Spoils one feature, so that the suites can show that they notice. The reference server alone has this.
    break: text(""),
  },
});
const broken = (feature) => options.break === feature;

const http = createServer((_, response) => {
  response.writeHead(404);
  response.end();
});
const io = new Server(http, {
  path: options.path,
  pingInterval: Number(options["ping-interval"]),
  pingTimeout: Number(options["ping-timeout"]),
  upgradeTimeout: Number(options["upgrade-timeout"]),
  connectTimeout: Number(options["connect-timeout"]),
  maxHttpBufferSize: Number(options["max-payload"]) * (broken("beyond-limit") ? 100 : 1),
  allowEIO3: !options["no-eio3"],
  transports: options.transports.split(","),
  allowUpgrades: !options["no-upgrades"],
  perMessageDeflate: options.compress,
  ...(options.parser === "msgpack" ? { parser: msgpack } : {}),
  ...(options.cors ? { cors: { origin: options.cors, credentials: true } } : {}),
  ...(options.recovery ? { connectionStateRecovery: { maxDisconnectionDuration: Number(options.recovery) } } : {}),
  ...(options.cookie ? { cookie: options.cookie } : {}),
  ...(options.gate
    ? { allowRequest: (request, callback) => (request._query.gate === "closed" ? callback("no way", false) : callback(null, true)) }
    : {}),
});

const reasons = new Map();

for (const name of ["/", "/chat", "/admin", ...Array.from({ length: 10 }, (_, i) => `/n${i}`)]) {
  const namespace = io.of(name);
  if (name === "/admin") namespace.use(authorize);
  namespace.on("connection", (socket) => serve(namespace, socket));
}

function authorize(socket, next) {
  const token = socket.handshake.auth?.token;
  if (token === "secret" || broken("auth-refused")) return next();
  if (token !== "expired") return next(new Error("not authorized"));
  const error = new Error("token expired");
  error.data = { code: 4001, hint: "log in again" };
  next(error);
}

function serve(namespace, socket) {
  if (!socket.handshake.auth?.quiet) socket.emit("hello", socket.id);

  let key;
  let sequence = [];
  const later = [];
  const roomsOf = () => [...socket.rooms].filter((room) => room !== socket.id).sort();
  socket.on("disconnect", (reason) => key !== undefined && reasons.set(key, broken("disconnect") ? "transport close" : reason));

  /** Registers a handler; what it returns (an array) is the acknowledgement, if one is wanted. */
  const on = (event, handler) =>
    socket.on(event, async (...args) => {
      const ack = typeof args.at(-1) === "function" ? args.pop() : () => {};
      const answer = await handler(...args);
      if (answer) ack(...answer);
    });
  /** The same without a turn of the event loop in between: for what has to keep its order. */
  const now = (event, handler) =>
    socket.on(event, (...args) => {
      const ack = typeof args.at(-1) === "function" ? args.pop() : () => {};
      const answer = handler(...args);
      if (answer) ack(...answer);
    });

  now("echo", (...args) => {
    if (broken("emit")) args.pop();
    if (broken("several-buffers")) args.reverse();
    if (broken("namespace")) io.of("/").emit("echo", ...args);
    socket.emit("echo", ...args);
  });
  now("echo-ack", (...args) => (broken("ack-client") ? args.slice(1) : args));
  now("kinds", (...args) => [args.map(kind)]);
  now("measure", (value) => {
    const bytes = typeof value === "string" ? Buffer.from(value) : Buffer.from(value);
    return [kind(value), bytes.length, broken("mixed-binary") ? 0 : fnv(bytes)];
  });
  now("give", (what, n) => void socket.emit("gift", gift(what, broken("big-payload") ? n - 1 : n)));
  on("ask", (...args) => new Promise((done) => {
    if (broken("ack-server")) return done(args);
    socket.timeout(5000).emit("question", ...args, (error, ...answer) => done(error ? ["timeout"] : answer));
  }));
  on("ask-timeout", (ms) => new Promise((done) => {
    socket.timeout(ms).emit("silence", (error) => done([error ? "timeout" : "answered"]));
  }));
  now("count", (n) => {
    for (let i = 0; i < n; i++) socket.emit("number", broken("order") ? i ^ 1 : i);
    socket.emit("number-end", n);
  });
  now("seq", (i) => void sequence.push(i));
  now("seq-report", () => {
    const inversions = sequence.filter((value, at) => value !== (at === 0 ? 0 : sequence[at - 1] + 1)).length;
    const answer = [sequence.length, inversions];
    sequence = [];
    return answer;
  });
  on("later", (i, n) => new Promise((done) => {
    later.push(() => done([i]));
    if (later.length < n) return;
    for (const answer of later.splice(0).reverse()) answer();
  }));
  now("join", (room) => (socket.join(room), [roomsOf()]));
  now("leave", (room) => (socket.leave(room), [roomsOf()]));
  now("rooms", () => [roomsOf(), socket.rooms.has(socket.id)]);
  now("members", (room) => [namespace.adapter.rooms.get(room)?.size ?? 0]);
  now("send-to", (target, event, ...args) => {
    let to = target.from === "socket" ? socket.broadcast : namespace.except([]);
    if (target.to.length > 0) to = to.to(target.to);
    if (target.except.length > 0 && !broken("rooms")) to = to.except(target.except);
    if (target.local) to = to.local;
    to.emit(event, ...args);
  });
  on("vote", (room, ms) => new Promise((done) => {
    namespace.to(room).timeout(ms).emit("vote", (error, answers) => done([error ? "timeout" : "complete", answers.sort()]));
  }));
  now("volatile", (n) => {
    for (let i = 0; i < n; i++) (broken("volatile") ? socket : socket.volatile).emit("volatile", i);
    socket.emit("volatile-end", n);
  });
  now("volatile-text", (text) => void socket.volatile.emit("status", text));
  now("keep", (value) => ((socket.data.kept = value), []));
  now("kept", () => [socket.data.kept ?? null, socket.recovered]);
  now("kick", () => void (broken("reconnect") ? socket.disconnect(true) : socket.conn.close()));
  now("bye", (close) => void socket.disconnect(close));
  now("remember", (name) => {
    key = name;
    return [];
  });
  now("reason-of", (name) => [reasons.get(name) ?? null]);
  now("whoami", () => [
    {
      id: socket.id,
      namespace: namespace.name,
      auth: broken("auth-accepted") ? {} : socket.handshake.auth,
      who: socket.handshake.query.who ?? null,
      transport: broken("transport") ? "carrier pigeon" : socket.conn.transport.name,
      revision: socket.conn.protocol,
    },
  ]);
}

function kind(value) {
  if (value === null) return "null";
  if (Buffer.isBuffer(value) || value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return "binary";
  if (Array.isArray(value)) return "array";
  return typeof value === "boolean" ? "bool" : typeof value;
}

if (options["exit-with-stdin"]) {
  process.stdin.resume();
  process.stdin.on("end", () => process.exit(0));
}
http.listen(Number(options.port), "127.0.0.1", () => console.log(`listening on ${http.address().port}`));
