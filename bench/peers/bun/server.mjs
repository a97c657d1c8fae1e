// The reference server on the engine made for Bun, with the events of the benchmark.
import { Server as Engine } from "@socket.io/bun-engine";
import { Server } from "socket.io";

const port = Number(process.argv[process.argv.indexOf("--port") + 1]) || 0;
const io = new Server();
const engine = new Engine({ path: "/socket.io/" });
io.bind(engine);

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

const server = Bun.serve({ port, hostname: "127.0.0.1", ...engine.handler() });
console.log(`listening on ${server.port}`);
