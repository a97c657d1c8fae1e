// The interop server (EVENTS.md) on older generations of the npm package: `--library sio2` is 2.5, `--library sio3` is 3.1.
//
// It has what the suite of our client needs. What these generations lack is left out: `except` and `local` of `send-to`.

import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { fnv, gift } from "../node/bytes.mjs";

const text = (value) => ({ type: "string", default: value });
const { values: options } = parseArgs({
  options: {
    library: text("sio2"),
    port: text("0"),
    "exit-with-stdin": { type: "boolean", default: false },
    "ping-interval": text("25000"),
    "ping-timeout": text("20000"),
    "max-payload": text("1000000"),
    transports: text("polling,websocket"),
  },
});
const old = options.library === "sio2";
const library = await import(options.library);
const Server = library.Server ?? library.default;

const http = createServer((_, response) => {
  response.writeHead(404);
  response.end();
});
const io = new Server(http, {
  pingInterval: Number(options["ping-interval"]),
  pingTimeout: Number(options["ping-timeout"]),
  maxHttpBufferSize: Number(options["max-payload"]),
  transports: options.transports.split(","),
  perMessageDeflate: true,
});

const reasons = new Map();

for (const name of ["/", "/chat", "/admin", ...Array.from({ length: 10 }, (_, i) => `/n${i}`)]) {
  const namespace = io.of(name);
  if (name === "/admin") namespace.use(authorize);
  namespace.on("connection", (socket) => serve(namespace, socket));
}

const authOf = (socket) => (old ? socket.handshake.query : socket.handshake.auth);

function authorize(socket, next) {
  const { token } = authOf(socket);
  if (token === "secret") return next();
  if (token !== "expired") return next(new Error("not authorized"));
  const error = new Error("token expired");
  error.data = { code: 4001, hint: "log in again" };
  next(error);
}

function serve(namespace, socket) {
  if (!authOf(socket).quiet) socket.emit("hello", socket.id);

  let key;
  let sequence = [];
  const later = [];
  const roomsOf = () =>
    (old ? Object.keys(socket.rooms) : [...socket.rooms]).filter((room) => room !== socket.id).sort();
  socket.on("disconnect", (reason) => key !== undefined && reasons.set(key, reason));

  /** Registers a handler; what it returns (an array) is the acknowledgement, if one is wanted. */
  const on = (event, handler) =>
    socket.on(event, (...args) => {
      const ack = typeof args.at(-1) === "function" ? args.pop() : () => {};
      const answer = handler(...args);
      if (answer instanceof Promise) answer.then((values) => ack(...values));
      else if (answer) ack(...answer);
    });

  on("echo", (...args) => void socket.emit("echo", ...args));
  on("echo-ack", (...args) => args);
  on("kinds", (...args) => [args.map(kind)]);
  on("measure", (value) => {
    const bytes = Buffer.from(value);
    return [kind(value), bytes.length, fnv(bytes)];
  });
  on("give", (what, n) => void socket.emit("gift", gift(what, n)));
  on("ask", (...args) => new Promise((done) => void socket.emit("question", ...args, (...answer) => done(answer))));
  on("count", (n) => {
    for (let i = 0; i < n; i++) socket.emit("number", i);
    socket.emit("number-end", n);
  });
  on("seq", (i) => void sequence.push(i));
  on("seq-report", () => {
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
  on("join", (room) => new Promise((done) => {
    if (old) return socket.join(room, () => done([roomsOf()]));
    socket.join(room);
    done([roomsOf()]);
  }));
  on("leave", (room) => new Promise((done) => {
    if (old) return socket.leave(room, () => done([roomsOf()]));
    socket.leave(room);
    done([roomsOf()]);
  }));
  on("members", (room) => {
    const members = old ? namespace.adapter.rooms[room]?.length : namespace.adapter.rooms.get(room)?.size;
    return [members ?? 0];
  });
  on("send-to", (target, event, ...args) => {
    let to = target.from === "socket" ? socket.broadcast : namespace;
    for (const room of target.to) to = to.to(room);
    to.emit(event, ...args);
  });
  on("volatile", (n) => {
    for (let i = 0; i < n; i++) socket.volatile.emit("volatile", i);
    socket.emit("volatile-end", n);
  });
  on("kick", () => void socket.conn.close());
  on("bye", (close) => void socket.disconnect(close));
  on("remember", (name) => {
    key = name;
    return [];
  });
  on("reason-of", (name) => [reasons.get(name) ?? null]);
  on("whoami", () => [
    {
      id: socket.id,
      namespace: namespace.name,
      auth: authOf(socket),
      who: socket.handshake.query.who ?? null,
      transport: socket.conn.transport.name,
      revision: old ? 3 : 4,
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
