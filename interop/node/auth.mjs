// Authentication with the official client against the example `secure_chat`, whose program is in PROGRAM: tokens that Node has
// signed, refusals, fresh tokens, expiry, rotation of keys, the policy, field errors and rates. TRANSPORT is as in the suite.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHmac, generateKeyPairSync, sign } from "node:crypto";
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, afterEach, test } from "node:test";
import { io } from "sio4";

const { PROGRAM, TRANSPORT } = process.env;
const transports = { polling: ["polling"], websocket: ["websocket"], upgrade: ["polling", "websocket"] }[TRANSPORT];
const feature = (name, body) => test(name, { timeout: 60_000 }, body);

const folder = mkdtempSync(join(tmpdir(), "auth-"));
const file = join(folder, "keys.json");

function newKey(kid) {
  const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const jwk = { ...publicKey.export({ format: "jwk" }), kid, alg: "RS256", use: "sig" };
  return { kid, jwk, privateKey, pem: publicKey.export({ format: "pem", type: "spki" }) };
}

let age = 1_000;
function publish(...keys) {
  writeFileSync(file, JSON.stringify({ keys: keys.map((key) => key.jwk) }));
  utimesSync(file, age, (age += 1_000));
}

const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const now = () => Date.now() / 1000;

/** A token of ann, a member, for a minute. */
function token(claims = {}, key = first, header = {}) {
  const body = { sub: "ann", roles: ["member"], aud: "chat", exp: now() + 60, ...claims };
  const signed = `${encode({ alg: "RS256", kid: key.kid, ...header })}.${encode(body)}`;
  return `${signed}.${sign("sha256", Buffer.from(signed), key.privateKey).toString("base64url")}`;
}

const first = newKey("first");
publish(first);

const child = spawn(PROGRAM, [file, "0"], { stdio: ["ignore", "pipe", "inherit"] });
process.on("exit", () => child.kill("SIGKILL"));
const said = [];
const url = await new Promise((done, fail) => {
  child.once("exit", () => fail(new Error("the server ended")));
  createInterface({ input: child.stdout }).on("line", (line) => {
    said.push(line);
    if (line.startsWith("listening on ")) done(`http://${line.slice("listening on ".length)}`);
  });
});

const sockets = new Set();
afterEach(() => {
  for (const socket of sockets) socket.disconnect();
  sockets.clear();
});
after(() => {
  child.kill("SIGKILL");
  rmSync(folder, { recursive: true });
});

function open(auth) {
  const socket = io(url, { transports, auth, forceNew: true, reconnection: false, timeout: 20_000 });
  sockets.add(socket);
  return socket;
}

const connected = (socket) =>
  new Promise((done, fail) => {
    socket.once("connect", () => done(socket));
    socket.once("connect_error", fail);
  });
const refused = (socket) =>
  new Promise((done, fail) => {
    socket.once("connect_error", done);
    socket.once("connect", () => fail(new Error("it was let in")));
  });
const call = (socket, ...args) => socket.timeout(20_000).emitWithAck(...args);

feature("a signed token lets in", async () => {
  const socket = await connected(open({ token: token() }));
  assert.equal(await call(socket, "whoami"), "ann");
});

feature("every bad token is refused in the same words", async () => {
  const forged = `${encode({ alg: "HS256", kid: "first" })}.${encode({ sub: "ann", aud: "chat", exp: now() + 60 })}`;
  const confused = `${forged}.${createHmac("sha256", first.pem).update(forged).digest("base64url")}`;
  const none = `${encode({ alg: "none" })}.${encode({ sub: "ann", aud: "chat", exp: now() + 60 })}.`;
  const bad = [
    {},
    { token: "x" },
    { token: none },
    { token: confused },
    { token: token({ exp: now() - 1 }) },
    { token: token({ aud: "mail" }) },
    { token: token({}, newKey("first")) },
    { token: token({}, newKey("stranger")) },
  ];
  for (const auth of bad) {
    const error = await refused(open(auth));
    assert.equal(error.message, "not authorized");
    assert.deepEqual(error.data, { code: "unauthorized" });
  }
});

feature("a client is disconnected when its token expires and comes back with another", async () => {
  const socket = await connected(open((done) => done({ token: token({ exp: now() + 3 }) })));
  const reason = await new Promise((done) => socket.once("disconnect", done));
  assert.equal(reason, "io server disconnect");
  socket.auth = { token: token() };
  socket.connect();
  await connected(socket);
  assert.equal(await call(socket, "whoami"), "ann");
});

feature("a fresh token in time keeps the client", async () => {
  const socket = await connected(open({ token: token({ exp: now() + 5 }) }));
  const refusal = await call(socket, "authenticate", "x");
  assert.deepEqual(refusal, { error: { code: "unauthorized", message: "not authorized" } });
  const other = await call(socket, "authenticate", token({ sub: "bob" }));
  assert.equal(other.error.code, "unauthorized");
  assert.deepEqual(await call(socket, "authenticate", { token: token() }), { ok: true });
  // One that was not refreshed tells when the time was up.
  const witness = await connected(open({ token: token({ exp: now() + 5 }) }));
  await new Promise((done) => witness.once("disconnect", done));
  assert.equal(socket.connected, true);
  assert.equal(await call(socket, "whoami"), "ann");
});

feature("the policy, the fields and the rate have one shape of error", async () => {
  const guest = await connected(open({ token: token({ roles: [] }) }));
  const forbidden = { error: { code: "forbidden", message: "not allowed" } };
  assert.deepEqual(await call(guest, "say", { text: "hi" }), forbidden);
  assert.deepEqual(await call(guest, "anything"), forbidden);
  const member = await connected(open({ token: token() }));
  const { error } = await call(member, "say", { text: "" });
  assert.equal(error.code, "invalid");
  assert.deepEqual(Object.keys(error.details.fields), ["text"]);
  const answers = await Promise.all(Array.from({ length: 20 }, () => call(member, "say", { text: "hi" })));
  const limited = answers.filter((answer) => answer?.error);
  assert.ok(limited.length > 5, `${limited.length}`);
  for (const { error } of limited) {
    assert.equal(error.code, "rate_limited");
    assert.ok(error.details.retry_after_ms > 0 && error.details.retry_after_ms <= 1_001);
  }
});

feature("keys are rotated while the server runs", async () => {
  const second = newKey("second");
  publish(second);
  // The file is looked at when a token names a key that is new, every five seconds at most.
  for (;;) {
    const socket = open({ token: token({}, second) });
    const came = await Promise.race([connected(socket).then(() => true, () => false)]);
    if (came) break;
    await new Promise((done) => setTimeout(done, 500));
  }
  await refused(open({ token: token() }));
});

feature("the server has told of it without secrets", async () => {
  for (const reason of ["no credentials", "malformed", "algorithm", "expired", "audience", "signature", "unknown key"]) {
    assert.ok(said.some((line) => line.startsWith("auth_refused") && line.includes(`"${reason}"`)), reason);
  }
  for (const word of ["auth_expired", "policy_denied", "invalid", "rate_limited"]) {
    assert.ok(said.some((line) => line.startsWith(`${word} `)), word);
  }
  assert.ok(!said.some((line) => line.includes("eyJ")), "a token was printed");
});
