// What the suites share: brokers, servers that are told what to do by lines of JSON, and clients.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chownSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { io } from "socket.io-client";

const rust = process.env.CLUSTER_NODE;
export const PATIENCE = 30_000;
const children = [];
export const folders = [];

/** Ends with this process, whatever happens. */
export const start = (program, args, stdio = ["pipe", "pipe", "inherit"]) => {
  const child = spawn(program, args, { stdio });
  children.push(child);
  return child;
};
process.on("exit", () => {
  children.forEach((child) => child.kill("SIGKILL"));
  folders.forEach((dir) => rmSync(dir, { recursive: true, force: true }));
});

export const freePort = async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
};

/** Somebody else may take the port in between: then another one is tried. */
export const startRedis = async () => {
  for (let attempt = 0; attempt < 20; attempt++) {
    const port = await freePort();
    const args = ["--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "/tmp"];
    const child = start("redis-server", args.map(String), ["ignore", "pipe", "inherit"]);
    for await (const line of createInterface({ input: child.stdout })) {
      if (line.includes("Ready to accept connections")) {
        child.stdout.resume();
        return { url: `redis://127.0.0.1:${port}`, child };
      }
    }
  }
  throw new Error("redis-server does not start");
};

/** A database in a folder of its own, reached by a socket in it. It refuses to run as root. */
export const startPostgres = async () => {
  const versions = readdirSync("/usr/lib/postgresql").sort();
  const programs = join("/usr/lib/postgresql", versions.at(-1), "bin");
  const dir = mkdtempSync(join(tmpdir(), "sio-cluster-"));
  folders.push(dir);
  let as = {};
  if (process.getuid() === 0) {
    const [, , uid, gid] = readFileSync("/etc/passwd", "utf8").match(/^postgres:.*$/m)[0].split(":");
    as = { uid: Number(uid), gid: Number(gid) };
    chownSync(dir, as.uid, as.gid);
  }
  const data = join(dir, "data");
  const options = { cwd: dir, stdio: "ignore", ...as };
  const init = ["--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-D", data];
  assert.equal(spawnSync(join(programs, "initdb"), init, options).status, 0, "initdb");
  const child = spawn(join(programs, "postgres"), ["-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off"], options);
  children.push(child);
  await until("the database answers", () => {
    const asked = spawnSync(join(programs, "pg_isready"), ["-q", "-h", dir, "-U", "postgres"]);
    return asked.status === 0;
  });
  return { url: `postgresql:///postgres?host=${dir}&user=postgres`, child };
};

export class Node {
  #pending = new Map();
  #id = 0;

  constructor(kind, name, adapter, url) {
    this.kind = kind;
    this.name = name;
    const programs = {
      node: [process.execPath, "node.mjs"],
      python: [process.env.PYTHON, "node.py"],
      rust: [adapter === "postgres" ? process.env.POSTGRES_NODE : rust],
    };
    const [program, ...script] = programs[kind];
    this.child = start(program, [...script, adapter, url, name]);
    this.ready = new Promise((resolve) => {
      createInterface({ input: this.child.stdout }).on("line", (line) => {
        const said = JSON.parse(line);
        if ("port" in said) return resolve((this.port = said.port));
        const { resolve: done, reject } = this.#pending.get(said.id);
        this.#pending.delete(said.id);
        "error" in said ? reject(new Error(said.error)) : done(said.result);
      });
    });
  }

  /** Tells the server to do something. */
  tell(op, command = {}) {
    const id = ++this.#id;
    this.child.stdin.write(`${JSON.stringify({ id, op, ...command })}\n`);
    return new Promise((resolve, reject) => this.#pending.set(id, { resolve, reject }));
  }
}

export class Client {
  events = [];

  /** For each connection, whether the server knew it. */
  connections = [];

  constructor(node, name, rooms, transports = ["websocket"], options = { reconnection: false }) {
    this.node = node;
    this.name = name;
    this.socket = io(`http://127.0.0.1:${node.port}`, {
      forceNew: true,
      transports,
      query: { as: name, rooms },
      ...options,
    });
    this.socket.on("connect", () => this.connections.push(this.socket.recovered));
    this.socket.onAny((event, ...args) => {
      const answer = args.at(-1);
      if (typeof answer === "function") {
        if (event === "who") answer(this.name);
        if (event === "bytes") answer(Buffer.from([1, 2, 3]));
        return;
      }
      this.events.push([event, ...args]);
    });
  }

  get id() {
    return this.socket.id;
  }

  get isConnected() {
    return this.socket.connected;
  }

  connected() {
    return this.socket.connected ? undefined : once(this.socket, "connect");
  }

  leave() {
    this.socket.disconnect();
  }

  /** The next event of this name. */
  async next(name) {
    return await until(`${this.name} gets ${name}`, () => {
      const at = this.events.findIndex(([event]) => event === name);
      return at < 0 ? undefined : this.events.splice(at, 1)[0];
    });
  }
}

/** Binary values are written as {"$": "<hex>"}. */
export const revive = (value) => {
  if (Array.isArray(value)) return value.map(revive);
  if (value && typeof value === "object") {
    if (typeof value.$ === "string") return Buffer.from(value.$, "hex");
    return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, revive(entry)]));
  }
  return value;
};

/** Our client, in a process of its own. */
export class RustClient {
  events = [];
  connections = [];

  constructor(node, name, rooms) {
    this.node = node;
    this.name = name;
    this.child = start(process.env.CLUSTER_CLIENT, [`http://127.0.0.1:${node.port}`, name, rooms]);
    createInterface({ input: this.child.stdout }).on("line", (line) => {
      const said = JSON.parse(line);
      if (said.event) this.events.push(revive(said.event));
      if (said.connected) this.connections.push(said.recovered);
      if (said.connected) this.id = said.connected;
      if (said.connected || said.disconnected) this.isConnected = Boolean(said.connected);
    });
  }

  async connected() {
    await until(`${this.name} is connected`, () => this.isConnected);
  }

  next(name) {
    return Client.prototype.next.call(this, name);
  }

  leave() {
    this.child.kill("SIGKILL");
  }
}

export const until = async (what, ask) => {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== false) return answer;
    if (Date.now() > end) throw new Error(`timeout: ${what}`);
    await sleep(5);
  }
};
