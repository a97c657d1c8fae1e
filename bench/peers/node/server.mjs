// The reference server on ws with the events of the benchmark.
import { createServer } from "node:http";
import { Server } from "socket.io";

const port = Number(process.argv[process.argv.indexOf("--port") + 1]) || 0;
const http = createServer();
const io = new Server(http);

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
