// The npm server for the tests of our client: `node serve.mjs` prints its port and runs until standard input ends.
//
// `/` echoes and answers, `/admin` wants a token, connection state recovery is on. `cut` breaks the connection as a fault would.
import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http, { allowEIO3: true, pingInterval: 1000, pingTimeout: 1000, connectionStateRecovery: {} });

function events(socket) {
  socket.emit("first", "hello");
  socket.on("echo", (...args) => socket.emit("echo", ...args));
  socket.on("give back", (...args) => args.pop()(...args));
  socket.on("add", (a, b, answer) => answer(a + b));
  socket.on("ask me", async (question, answer) => answer(await socket.emitWithAck("question", question)));
  socket.on("tell all", (n) => io.emit("n", n));
  socket.on("put me out", () => socket.disconnect());
  socket.on("cut", (ns, answer) => {
    socket.conn.close();
    for (const n of ns) io.emit("n", n);
  });
}

io.on("connection", events);
io.of("/admin").use((socket, next) => {
  if (socket.handshake.auth.token === "secret") return next();
  next(Object.assign(new Error("not authorized"), { data: { code: 4001 } }));
});
io.of("/admin").on("connection", events);

http.listen(0, "127.0.0.1", () => console.log(http.address().port));
process.stdin.resume().on("end", () => process.exit(0));
