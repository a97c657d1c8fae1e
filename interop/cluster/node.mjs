// One Node server of a mixed cluster: the official packages, driven by lines of JSON on stdin, answering on stdout.
// `crates/socketio-redis/examples/cluster_node.rs` understands the same lines.

import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const [adapter, url, name] = process.argv.slice(2);
const pub = createClient({ url });
const sub = pub.duplicate();
for (const client of [pub, sub]) client.on("error", () => {});
await Promise.all([pub.connect(), sub.connect()]);

const http = createServer();
const io = new Server(http, {
  adapter: adapter === "sharded" ? createShardedAdapter(pub, sub) : createAdapter(pub, sub),
});
io.on("connection", (socket) => {
  socket.data = { server: name };
  for (const room of [socket.handshake.query.rooms ?? []].flat()) {
    for (const one of room.split(",")) socket.join(one);
  }
  socket.on("shout", (text) => socket.broadcast.emit("shouted", text));
});
io.on("tell", (text) => io.local.emit("told", text, name));
io.on("ask", (text, answer) => answer({ from: name, text }));

// Binary arguments are written as {"$": "<hex>"}.
const revive = (value) => {
  if (Array.isArray(value)) return value.map(revive);
  if (value && typeof value === "object") {
    if (typeof value.$ === "string") return Buffer.from(value.$, "hex");
    return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, revive(entry)]));
  }
  return value;
};

const group = ({ to = [], except = [], flags = {} }) => {
  let operator = io.except(except);
  if (to.length) operator = operator.to(to);
  if (flags.volatile) operator = operator.volatile;
  if (flags.local) operator = operator.local;
  if (flags.timeout) operator = operator.timeout(flags.timeout);
  return operator;
};
const seen = (socket) => ({
  id: socket.id,
  rooms: [...socket.rooms].sort(),
  server: socket.data.server,
  as: socket.handshake.query.as,
});

const operations = {
  count: async () => await io.of("/").adapter.serverCount(),
  emit: async (command) => void group(command).emit(...revive(command.event)),
  ask: async (command) => await group(command).emitWithAck(...revive(command.event)),
  fetch: async (command) => (await group(command).fetchSockets()).map(seen),
  join: async (command) => void group(command).socketsJoin(command.rooms),
  leave: async (command) => void group(command).socketsLeave(command.rooms),
  disconnect: async (command) => void group(command).disconnectSockets(command.close),
  tell: async (command) => void io.serverSideEmit("tell", command.text),
  askServers: async (command) => await io.serverSideEmitWithAck("ask", command.text),
  remote: async (command) => {
    const [socket] = await group(command).fetchSockets();
    socket.emit(...revive(command.event));
    if (command.join) socket.join(command.join);
  },
};

http.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: http.address().port })));
createInterface({ input: process.stdin })
  .on("line", async (line) => {
    const command = JSON.parse(line);
    try {
      const result = await operations[command.op](command);
      console.log(JSON.stringify({ id: command.id, result: result ?? null }));
    } catch (error) {
      console.log(JSON.stringify({ id: command.id, error: String(error) }));
    }
  })
  .on("close", () => process.exit(0));
