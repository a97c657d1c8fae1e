// One Node server and one of ours whose namespaces share four streams of one Redis: what is said on one is heard on the other, over
// the stream that both compute, and clients come back to the other one.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createAdapter } from "@socket.io/redis-streams-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";
import { io } from "socket.io-client";
import { Node, startRedis, until } from "./world.mjs";

// The hash of the last one is negative: Node writes to a stream that it does not read.
const STREAMS = { "/": "socket.io-3", "/a": "socket.io-2", "/b": "socket.io-3", "/my-namespace": "socket.io--3" };

let redis;
let client;
let rust;
let node;
const ports = {};

before(async () => {
  redis = await startRedis();
  client = createClient({ url: redis.url });
  client.on("error", () => {});
  await client.connect();
  rust = new Node("rust", "r", "several-streams", redis.url);
  await rust.ready;
  const http = createServer();
  node = new Server(http, { adapter: createAdapter(client, { streamCount: 4 }), connectionStateRecovery: {} });
  for (const name of Object.keys(STREAMS)) {
    node.of(name).on("connection", (socket) => socket.on("say", (text) => socket.broadcast.emit("said", text)));
  }
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  ports.node = http.address().port;
  ports.rust = rust.port;
});

after(() => {
  for (const child of [rust?.child, redis?.child]) child?.kill("SIGKILL");
});

/** A client that remembers what it has heard. */
const join = async (kind, namespace, before) => {
  const options = { transports: ["websocket"], forceNew: true, reconnection: false, autoConnect: false };
  const socket = io(`http://127.0.0.1:${ports[kind]}${namespace}`, options);
  socket.heard = before?.heard ?? [];
  // What a client keeps when it comes back by itself.
  if (before) Object.assign(socket, { _pid: before._pid, _lastOffset: before._lastOffset });
  socket.on("said", (text) => socket.heard.push(text));
  socket.connect();
  await once(socket, "connect");
  return socket;
};

/** Says it again until it is heard: the other server may not read the stream yet. */
const reach = async (from, to, text) =>
  until(`"${text}" is heard`, async () => {
    from.emit("say", text);
    await sleep(50);
    return to.heard.includes(text);
  });

for (const [namespace, stream] of Object.entries(STREAMS)) {
  const isRead = !stream.includes("--");

  test(`streams ${namespace}: both servers write to ${stream}`, { timeout: 120_000 }, async () => {
    const clients = { node: await join("node", namespace), rust: await join("rust", namespace) };
    await reach(clients.node, clients.rust, "from node");
    if (isRead) await reach(clients.rust, clients.node, "from rust");
    else clients.rust.emit("say", "from rust");
    await until("both have written", async () => {
      const entries = await client.xRange(stream, "-", "+");
      const uids = entries.map(({ message }) => message).filter(({ nsp }) => nsp === namespace).map(({ uid }) => uid);
      return new Set(uids).size === 2;
    });
    for (const socket of Object.values(clients)) socket.disconnect();
  });

  const directions = isRead ? [["node", "rust"], ["rust", "node"]] : [["rust", "rust"]];
  for (const [from, to] of directions) {
    test(`streams ${namespace}: a client of ${from} comes back to ${to}`, { timeout: 120_000 }, async () => {
      const speaker = await join(isRead ? to : "node", namespace);
      const first = await join(from, namespace);
      await reach(speaker, first, "seen");
      first.io.engine.close();
      await until("its session is kept", async () => (await client.exists(`sio:session:${first._pid}`)) === 1);
      const missed = async () => {
        const entries = await client.xRange(stream, "-", "+");
        return entries.filter(({ message }) => message.nsp === namespace && message.data.includes("missed")).length;
      };
      const many = await missed();
      speaker.emit("say", "missed");
      await until("it is in the stream", async () => (await missed()) === many + 1);
      const second = await join(to, namespace, first);
      assert.equal(second.recovered, true);
      assert.equal(second._pid, first._pid);
      await until("it has what it missed", () => second.heard.includes("missed"));
      await reach(speaker, second, "live");
      assert.equal(second.heard.filter((text) => text === "missed").length, 1);
      for (const socket of [speaker, second]) socket.disconnect();
    });
  }
}
