// The npm server that counts what arrives through a bad network: `node chaos.mjs` prints its port and ends with its
// standard input.
//
// `tally(client, n)`, acknowledged: the events of one client, whatever connection they come on, have to be 0, 1, 2 … with
// repetitions and no gap. `tallies() -> { client: [next, repeated, gaps] }`. `seen() -> connections so far`.

import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http, { pingInterval: 4000, pingTimeout: 10_000 });
const tallies = {};
let seen = 0;

io.on("connection", (socket) => {
  seen++;
  socket.on("tally", (client, n, ack) => {
    const tally = (tallies[client] ??= [0, 0, 0]);
    if (n === tally[0]) tally[0]++;
    else if (n < tally[0]) tally[1]++;
    else tally[2]++;
    ack();
  });
  socket.on("tallies", (ack) => ack(tallies));
  socket.on("seen", (ack) => ack(seen));
});

http.listen(0, "127.0.0.1", () => console.log(`listening on ${http.address().port}`));
process.stdin.resume().on("end", () => process.exit(0));
