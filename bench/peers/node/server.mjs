// The reference server on ws with the events of the benchmark.
import { createServer } from "node:http";
import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { createAdapter as createStreamsAdapter } from "@socket.io/redis-streams-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const option = (name) => (process.argv.includes(name) ? process.argv[process.argv.indexOf(name) + 1] : undefined);
const port = Number(option("--port")) || 0;

const connectAdapter = async (adapter, url) => {
  const pub = createClient({ url });
  const sub = pub.duplicate();
  await Promise.all([pub.connect(), sub.connect()]);
  if (adapter === "streams") return createStreamsAdapter(pub);
  return adapter === "sharded" ? createShardedAdapter(pub, sub) : createAdapter(pub, sub);
};

const http = createServer();
const broker = option("--broker");
const io = new Server(http, broker ? { adapter: await connectAdapter(option("--adapter"), broker) } : {});

const connected = (socket) => {
  socket.on("echo", (text, ack) => ack(text));
  socket.on("bin", (bytes, ack) => ack(bytes));
  socket.on("obj", (order, ack) => ack(order));
  socket.on("join", (room, ack) => {
    socket.join(room);
    ack();
  });
  socket.on("leave", (room, ack) => {
    socket.leave(room);
    ack();
  });
  socket.on("cast", (count, size) => {
    const text = "x".repeat(size);
    for (let index = 0; index < count; index++) io.emit("tick", index, text);
  });
  socket.on("say", (room, count, size) => {
    const text = "x".repeat(size);
    for (let index = 0; index < count; index++) io.to(room).emit("tick", index, text);
  });
};
io.on("connection", connected);
for (let number = 0; number < 32; number++) io.of(`/n${number}`).on("connection", connected);

http.listen(port, "127.0.0.1", () => console.log(`listening on ${http.address().port}`));
