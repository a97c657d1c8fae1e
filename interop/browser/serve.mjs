// Starts the server under test: `sio serve` if SIO_BIN names the program, else the reference server.

import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const running = new Set();
process.on("exit", () => { for (const child of running) child.kill("SIGKILL"); });

export const program = process.env.SIO_BIN;

/** A port that was free a moment ago. */
export async function freePort() {
  const probe = createServer();
  await new Promise((done) => probe.listen(0, "127.0.0.1", done));
  const { port } = probe.address();
  await new Promise((done) => probe.close(done));
  return port;
}

/** Starts the server, resolves when it listens: `{ url, pid, stop(), kill() }`. */
export async function start(port, args = []) {
  const listen = ["--listen", `127.0.0.1:${port}`, "--json"];
  const child = program
    ? spawn(program, ["serve", ...listen, ...args], { stdio: ["ignore", "pipe", "inherit"] })
    : spawn(process.execPath, [fileURLToPath(new URL("reference.mjs", import.meta.url)), ...listen], { stdio: ["ignore", "pipe", "inherit"] });
  running.add(child);
  const ended = new Promise((done) => child.once("exit", (code, signal) => { running.delete(child); done({ code, signal }); }));
  const lines = createInterface({ input: child.stdout });
  const listening = await Promise.race([
    new Promise((done) => lines.once("line", (line) => done(JSON.parse(line)))),
    ended.then(({ code }) => { throw new Error(`the server ended with ${code} before it listened`); }),
  ]);
  const end = (signal) => () => { child.kill(signal); return ended; };
  return { ...listening, pid: child.pid, stop: end("SIGTERM"), kill: end("SIGKILL") };
}
