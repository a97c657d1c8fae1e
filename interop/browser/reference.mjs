// The demo of `sio serve` written against the npm server: what our own server must behave like. Run it by hand to look at
// the page (`node reference.mjs --listen 127.0.0.1:3000`); the tests start it as they start `sio serve`.
//
// The events are described at the head of crates/socketio-cli/assets/page.js.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { randomBytes } from "node:crypto";

import { Server } from "socket.io";

const { values: flags } = parseArgs({
  options: { listen: { type: "string", default: "127.0.0.1:3000" }, json: { type: "boolean" } },
});
const [, host, port] = /^(.*):(\d+)$/.exec(flags.listen);

const ASSETS = new URL("../../crates/socketio-cli/assets/", import.meta.url);
const FILES = {
  "/": ["index.html", "text/html; charset=utf-8"],
  "/page.js": ["page.js", "text/javascript; charset=utf-8"],
  "/client.js": ["client.js", "text/javascript; charset=utf-8"],
  "/style.css": ["style.css", "text/css; charset=utf-8"],
  "/icon.svg": ["icon.svg", "image/svg+xml"],
};
const HEADERS = {
  "Content-Security-Policy": "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' blob:; object-src 'none'; "
    + "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
  "X-Content-Type-Options": "nosniff",
  "X-Frame-Options": "DENY",
  "Referrer-Policy": "no-referrer",
};

const http = createServer(async (request, response) => {
  const path = request.url.split("?")[0];
  if (path === "/config.json") {
    response.writeHead(200, { ...HEADERS, "Content-Type": "application/json" });
    return response.end(JSON.stringify({ path: "/socket.io/" }));
  }
  const [file, type] = FILES[path] ?? [];
  if (!file) return response.writeHead(404, HEADERS).end();
  response.writeHead(200, { ...HEADERS, "Content-Type": type });
  response.end(await readFile(new URL(file, ASSETS)));
});
const io = new Server(http, { path: "/socket.io/" });

// --------------------------------------------------------------------------------------------------------- the demo

const instance = randomBytes(3).toString("hex");
const FILE_LIMIT = 512 * 1024;
const ROOMS = 16;

const isText = (value, most) => typeof value === "string" && value.trim() !== "" && [...value].length <= most;
const isRoom = (value) => typeof value === "string" && /^[\p{L}\p{N}_-]{1,32}$/u.test(value);
const fail = (code, message) => ({ error: { code, message } });
const invalid = (what) => fail("invalid", `${what} is not valid`);
const newId = () => randomBytes(6).toString("base64url");

io.on("connection", (socket) => {
  socket.emit("server", { name: "Node reference", instance });
  io.emit("count", io.sockets.sockets.size);
  socket.on("disconnect", () => io.emit("count", io.sockets.sockets.size));
  socket.on("latency", (ack) => ack(Date.now()));
});

for (const [name, password] of [["/lobby", null], ["/backstage", "sesame"]]) {
  const space = io.of(name);
  const refuse = (message, code) => Object.assign(new Error(message), { data: { code } });
  space.use((socket, go) => {
    const { auth } = socket.handshake;
    if (!isText(auth.name, 32)) return go(refuse("a name of 1 to 32 characters is required", "invalid_name"));
    if (password && auth.password !== password) return go(refuse("wrong password", "wrong_password"));
    go();
  });

  const members = (room) => [...(space.adapter.rooms.get(`room:${room}`) ?? [])]
    .map((id) => space.sockets.get(id)?.data.me).filter(Boolean);

  space.on("connection", (socket) => {
    const me = { id: socket.id, name: socket.handshake.auth.name.trim() };
    const rooms = new Set();
    socket.data.me = me;
    const enter = (room) => {
      if (rooms.has(room)) return;
      rooms.add(room);
      socket.join(`room:${room}`);
      socket.to(`room:${room}`).emit("joined", { room, member: me });
    };
    const wanted = Array.isArray(socket.handshake.auth.rooms) ? socket.handshake.auth.rooms : [];
    for (const room of wanted.filter(isRoom).slice(0, ROOMS)) enter(room);
    socket.emit("welcome", { me, rooms: [...rooms].map((room) => ({ room, members: members(room) })) });

    socket.on("join", (room, ack) => {
      if (!isRoom(room)) return ack(invalid("the name of the room"));
      if (rooms.size >= ROOMS && !rooms.has(room)) return ack(fail("too_many_rooms", `at most ${ROOMS} rooms`));
      enter(room);
      ack({ room, members: members(room) });
    });
    socket.on("leave", (room, ack) => {
      if (!rooms.delete(room)) return ack(fail("not_in_room", "you are not in this room"));
      socket.leave(`room:${room}`);
      space.to(`room:${room}`).emit("left", { room, member: me });
      ack({ room });
    });
    socket.on("disconnecting", () => {
      for (const room of rooms) socket.to(`room:${room}`).emit("left", { room, member: me });
    });
    socket.on("say", ({ room, text, key }, ack) => {
      if (!isText(text, 2000) || !isText(key, 64)) return ack(invalid("the message"));
      if (!rooms.has(room)) return ack(fail("not_in_room", "you are not in this room"));
      const said = { id: newId(), room, from: me, text, key, at: Date.now() };
      socket.to(`room:${room}`).emit("said", said);
      ack({ id: said.id, at: said.at });
    });
    socket.on("file", ({ room, name, type, key }, bytes, ack) => {
      if (!isText(name, 200) || !isText(key, 64) || typeof type !== "string" || type.length > 100) return ack(invalid("the file"));
      if (!Buffer.isBuffer(bytes)) return ack(invalid("the file"));
      if (bytes.length > FILE_LIMIT) return ack(fail("too_large", `a file has at most ${FILE_LIMIT} bytes`));
      if (!rooms.has(room)) return ack(fail("not_in_room", "you are not in this room"));
      const file = { id: newId(), room, from: me, name, type, size: bytes.length, key, at: Date.now() };
      socket.to(`room:${room}`).emit("file", file, bytes);
      ack({ id: file.id, at: file.at, size: bytes.length });
    });
    socket.on("typing", (room) => {
      if (rooms.has(room)) socket.to(`room:${room}`).volatile.emit("typing", { room, from: me });
    });
    socket.on("poke", async (id, ack) => {
      const target = space.sockets.get(id);
      if (![...rooms].some((room) => target?.rooms.has(`room:${room}`))) return ack(fail("gone", "nobody of that id is here"));
      try {
        const answer = await target.timeout(5000).emitWithAck("poked", { from: me });
        ack({ answer: isText(answer, 200) ? answer : "…" });
      } catch {
        ack(fail("no_answer", "there was no answer in time"));
      }
    });
  });
}

http.listen(Number(port), host, () => {
  const url = `http://${host}:${http.address().port}`;
  if (flags.json) console.log(JSON.stringify({ event: "listening", url, address: `${host}:${http.address().port}`, path: "/socket.io/" }));
  else console.error(`listening on ${url}`);
});
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => { io.close(); http.closeAllConnections(); process.exit(0); });
