// One Node server of a mixed cluster: the official packages, driven by lines of JSON on stdin, answering on stdout.
// `crates/socketio-redis/examples/cluster_node.rs` understands the same lines.

import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { createAdapter as createPostgresAdapter } from "@socket.io/postgres-adapter";
import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { createAdapter as createStreamsAdapter } from "@socket.io/redis-streams-adapter";
import pg from "pg";
import { createClient } from "redis";
import { Server } from "socket.io";

const [adapter, url, name] = process.argv.slice(2);
/** The official adapter for this broker. */
const connect = async () => {
  if (adapter === "postgres") {
    const { host, searchParams } = new URL(url.replace("postgresql:///", "postgresql://x/"));
    // One connection listens and one writes: over several, what is sent later may arrive first.
    const where = { host: searchParams.get("host") ?? host, user: searchParams.get("user"), database: "postgres" };
    const pool = new pg.Pool({ ...where, max: 2 });
    pool.on("error", () => {});
    const table = "(id bigserial UNIQUE, created_at timestamptz DEFAULT NOW(), payload bytea)";
    // Two servers that make it at the same time: one of them fails, and it is there.
    await pool.query(`CREATE TABLE IF NOT EXISTS socket_io_attachments ${table}`).catch(() => {});
    return createPostgresAdapter(pool);
  }
  const pub = createClient({ url });
  const sub = pub.duplicate();
  for (const client of [pub, sub]) client.on("error", () => {});
  await Promise.all([pub.connect(), sub.connect()]);
  if (adapter === "streams" || adapter === "recovery") return createStreamsAdapter(pub);
  return adapter === "sharded" ? createShardedAdapter(pub, sub) : createAdapter(pub, sub);
};

const http = createServer();
// Streams, with clients that come back to any server.
const recovery = adapter === "recovery" ? { connectionStateRecovery: {} } : {};
const io = new Server(http, { adapter: await connect(), ...recovery });
io.on("connection", (socket) => {
  socket.on("shout", (text) => socket.broadcast.emit("shouted", text));
  if (socket.recovered) return;
  socket.data = { server: name };
  for (const room of [socket.handshake.query.rooms ?? []].flat()) {
    for (const one of room.split(",")) socket.join(one);
  }
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
  close: async () => await io.close(),
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
