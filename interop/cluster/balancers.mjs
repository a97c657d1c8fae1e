// Three of our servers on one Redis behind real balancers, and the stock client. Without stickiness every request may reach
// another server: nginx in turn. With it: nginx and HAProxy by a cookie of
// their own, HAProxy by that of the session. The configurations
// are the ones that docs/load-balancers.md shows.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { io } from "socket.io-client";
import { Node, folders, freePort, start, startRedis, until } from "./world.mjs";

const docs = readFileSync(new URL("../../docs/load-balancers.md", import.meta.url), "utf8");

/** The block of the documentation with this name in its first line, for our servers and ports. */
const configuration = (name, port, nodes) => {
  const block = [...docs.matchAll(/```\w+\n(# (\S+)[^]*?)```/g)].find((match) => match[2] === `${name}:`);
  assert.ok(block, `docs/load-balancers.md has no ${name}`);
  let text = block[1];
  ["10.0.0.1:3000", "10.0.0.2:3000", "10.0.0.3:3000"].forEach((server, at) => {
    assert.ok(text.includes(server), `${name} has no ${server}`);
    text = text.replaceAll(server, `127.0.0.1:${nodes[at].port}`);
  });
  // The port that clients come to.
  assert.match(text, /(listen|bind) \S*\b80\b/, name);
  return text.replace(/listen 80;/, `listen 127.0.0.1:${port};`).replace(/bind :80\b/, `bind 127.0.0.1:${port}`);
};

const answers = (port) =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });

/** Starts a balancer; somebody else may take the port in between, then another one is tried. */
const balance = async (name, nodes) => {
  for (let attempt = 0; attempt < 20; attempt++) {
    const port = await freePort();
    const dir = mkdtempSync(join(tmpdir(), "sio-balancer-"));
    folders.push(dir);
    const text = configuration(name, port, nodes);
    let child;
    if (name.startsWith("nginx")) {
      const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((what) => `${what}_temp_path ${dir}/${what};`);
      writeFileSync(
        join(dir, "nginx.conf"),
        // One process, so that nothing is left when it is killed; it has to write where we may.
        `${process.getuid() === 0 ? "user root;" : ""} daemon off; master_process off; pid ${dir}/pid; error_log stderr crit;
         events {} http { access_log off; ${temp.join(" ")} ${text} }`,
      );
      child = start("/usr/sbin/nginx", ["-p", dir, "-e", "stderr", "-c", join(dir, "nginx.conf")], ["ignore", "ignore", "inherit"]);
    } else {
      const path = join(dir, "haproxy.cfg");
      writeFileSync(path, text);
      child = start("/usr/sbin/haproxy", ["-db", "-q", "-f", path], ["ignore", "ignore", "inherit"]);
    }
    child.once("exit", () => (child.gone = true));
    const up = await until(`${name} listens`, async () => child.gone || (await answers(port)));
    if (up && !child.gone) return { port, child };
    child.kill("SIGKILL");
  }
  throw new Error(`${name} does not start`);
};

/** Keeps the cookies of one client, as a browser does. */
const client = (port, options = {}) => {
  const socket = io(`http://127.0.0.1:${port}`, { forceNew: true, withCredentials: true, reconnection: false, ...options });
  socket.got = [];
  socket.onAny((event, ...args) => socket.got.push([event, ...args]));
  return socket;
};

const connected = async (socket) => {
  await until("the client is connected", () => socket.connected || socket.failed);
  assert.equal(socket.failed, undefined);
};

const moved = async (sockets) => {
  for (const socket of sockets) {
    await until("it has moved to a WebSocket", () => socket.io.engine.transport.name === "websocket");
  }
};

const next = (socket, name) =>
  until(`the client gets ${name}`, () => {
    const at = socket.got.findIndex(([event]) => event === name);
    return at < 0 ? undefined : socket.got.splice(at, 1)[0];
  });

for (const [name, adapter] of [
  ["nginx-in-turn.conf", "classic"],
  ["nginx-in-turn.conf", "sharded"],
  // Redis streams, with connection state recovery.
  ["nginx-in-turn.conf", "recovery"],
  ["nginx-sticky.conf", "classic"],
  ["haproxy-sticky.cfg", "classic"],
  ["haproxy-session.cfg", "classic"],
]) {
  const inTurn = name.includes("in-turn");
  const title = `${name} ${adapter}`;
  let broker;
  let nodes;
  let balancer;

  before(async () => {
    broker = await startRedis();
    nodes = ["r1", "r2", "r3"].map((which) => new Node("rust", which, adapter, broker.url));
    await Promise.all(nodes.map((node) => node.ready));
    for (const node of nodes) {
      await until("all know all", async () => {
        return (await node.tell("count")) === 3 && (await node.tell("forwarding")).servers === 2;
      });
    }
    balancer = await balance(name, nodes);
  });

  after(() => {
    for (const child of [...(nodes ?? []).map((node) => node.child), broker?.child, balancer?.child]) child?.kill("SIGKILL");
  });

  const forwarded = async () => {
    const stats = await Promise.all(nodes.map((node) => node.tell("forwarding")));
    return stats.reduce((sum, each) => ({ requests: sum.requests + each.requests, tunnels: sum.tunnels + each.tunnels }), {
      requests: 0,
      tunnels: 0,
    });
  };

  /** How many sockets there are on all servers. */
  const people = async () => {
    const local = await Promise.all(nodes.map((node) => node.tell("fetch", { flags: { local: true } })));
    return local.flat().length;
  };

  const use = async (sockets) => {
    await Promise.all(sockets.map(connected));
    // From each client to all others, text and binary, in order.
    for (const [at, socket] of sockets.entries()) {
      for (let n = 0; n < 5; n++) socket.emit("shout", `${at}-${n}`);
      const others = sockets.filter((other) => other !== socket);
      for (const other of others) {
        for (let n = 0; n < 5; n++) assert.equal((await next(other, "shouted"))[1], `${at}-${n}`);
      }
    }
    const bytes = Buffer.alloc(200_000, "é");
    for (const socket of sockets) {
      assert.ok(bytes.equals(Buffer.from(await socket.timeout(30_000).emitWithAck("echo", bytes))));
    }
  };

  for (const [way, transports] of [
    ["polling", ["polling"]],
    ["websocket", ["websocket"]],
    ["upgrade", ["polling", "websocket"]],
  ]) {
    test(`${title} ${way}`, { timeout: 120_000 }, async (context) => {
      await until("those before have gone", async () => (await people()) === 0);
      const before = await forwarded();
      const sockets = Array.from({ length: 6 }, () => client(balancer.port, { transports }));
      context.after(() => sockets.forEach((socket) => socket.disconnect()));
      for (const socket of sockets) socket.once("connect_error", (error) => (socket.failed = error));
      await use(sockets);
      if (way === "upgrade") {
        await moved(sockets);
        await use(sockets);
      }
      assert.ok(sockets.every((socket) => socket.connected));
      const now = await forwarded();
      const [requests, tunnels] = [now.requests - before.requests, now.tunnels - before.tunnels];
      if (!inTurn) assert.deepEqual([requests, tunnels], [0, 0]);
      else if (way === "websocket") assert.equal(tunnels, 0);
      else assert.ok(requests > 0, `${requests} requests were forwarded`);
      if (inTurn && way === "upgrade") assert.ok(tunnels > 0, `${tunnels} WebSockets went through another server`);
      for (const socket of sockets) socket.disconnect();
      await until("all are gone", async () => (await people()) === 0);
    });
  }

  /**
   * Clients that are there: four that have moved to a WebSocket, four that poll. A client whose candidate breaks at the wrong
   * moment polls no more until its ping timeout, whatever the server: what comes next waits for the move.
   */
  const eight = async (context, options) => {
    const upgraded = Array.from({ length: 4 }, () => client(balancer.port, options));
    const polling = Array.from({ length: 4 }, () => client(balancer.port, { ...options, transports: ["polling"] }));
    const sockets = [...upgraded, ...polling];
    context.after(() => sockets.forEach((socket) => socket.disconnect()));
    await Promise.all(sockets.map(connected));
    await moved(upgraded);
    return sockets;
  };

  if (adapter === "recovery") {
    test(`${title} clients come back`, { timeout: 120_000 }, async (context) => {
      const options = { reconnection: true, reconnectionDelay: 500, randomizationFactor: 0 };
      const sockets = await eight(context, options);
      await nodes[0].tell("emit", { event: ["first"] });
      for (const socket of sockets) await next(socket, "first");
      const ids = sockets.map((socket) => socket.id);
      for (const socket of sockets) socket.io.engine.close();
      await until("all are away", async () => (await people()) === 0);
      for (let n = 0; n < 5; n++) await nodes[0].tell("emit", { event: ["missed", n] });
      for (const [at, socket] of sockets.entries()) {
        for (let n = 0; n < 5; n++) assert.equal((await next(socket, "missed"))[1], n);
        assert.deepEqual([socket.id, socket.recovered], [ids[at], true]);
        assert.equal(await socket.timeout(30_000).emitWithAck("echo", at), at);
      }
    });
  }

  if (inTurn && adapter === "classic") {
    test(`${title} a server that dies`, { timeout: 120_000 }, async (context) => {
      const options = { reconnection: true, reconnectionDelayMax: 500 };
      const sockets = await eight(context, options);
      const victim = nodes.pop();
      victim.child.kill("SIGKILL");
      await once(victim.child, "exit");
      // Whoever was on it, or went through it, comes back to one of the others.
      for (const socket of sockets) {
        await until("everybody is answered", () => socket.timeout(500).emitWithAck("echo", 1).catch(() => undefined));
      }
    });
  }
}
