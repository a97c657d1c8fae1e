// Our browser client against the npm server, in Node: every feature over polling only, WebSocket only and with the upgrade
// between them, and against peers that misbehave. Where the official client shows the same thing, both must log the same.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, describe, test } from "node:test";

import { Server } from "socket.io";
import { io as officialIo } from "socket.io-client";
import { WebSocket } from "ws";

import { Decoder, Engine, Manager, backoff, encodePacket, io } from "../../crates/socketio-cli/assets/client.js";

const MODES = {
  polling: { transports: ["polling"] },
  websocket: { transports: ["websocket"] },
  upgrade: { transports: ["polling", "websocket"] },
};
const LIMIT = { timeout: 20_000 };

const cleanups = [];
after(() => { for (const cleanup of cleanups) cleanup(); });

/** A server on a free port, or on `port`, and a way to stop it without leaving anything behind. */
async function serve(setup = () => {}, options = {}, port = 0) {
  const server = new Server(options);
  const http = createServer();
  server.attach(http);
  setup(server);
  await new Promise((done) => http.listen(port, "127.0.0.1", done));
  const stop = async () => {
    server.close();
    http.closeAllConnections();
    if (http.listening) await new Promise((done) => http.close(done));
  };
  cleanups.push(stop);
  return { io: server, http, stop, port: http.address().port, url: `http://127.0.0.1:${http.address().port}` };
}

function dial(server, nsp = "/", options = {}) {
  const socket = io(server.url + nsp, { WebSocket, forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 40, ...options });
  cleanups.push(() => socket.io.close());
  return socket;
}

const next = (emitter, event) => new Promise((done) => emitter.once(event, (...args) => done(args)));

async function connected(socket) {
  if (!socket.connected) await next(socket, "connect");
  return socket;
}

const upgraded = (socket) => (socket.io.transport === "websocket" ? Promise.resolve() : next(socket.io, "upgrade"));
const bytes = (buffer) => [...new Uint8Array(buffer.buffer ? buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength) : buffer)];

// ---------------------------------------------------------------------------------------------------------- packets

test("packets_have_the_bytes_of_the_specification", () => {
  const one = new Uint8Array([1]), two = new Uint8Array([2]).buffer;
  check({ type: 0 }, ["0"]);
  check({ type: 0, nsp: "/admin", data: { token: "x" } }, ['0/admin,{"token":"x"}']);
  check({ type: 1, nsp: "/admin" }, ["1/admin,"]);
  check({ type: 2, data: ["foo"] }, ['2["foo"]']);
  check({ type: 2, id: 12, data: ["foo", { a: [1, null] }] }, ['212["foo",{"a":[1,null]}]']);
  check({ type: 3, nsp: "/admin", id: 13, data: ["bar"] }, ['3/admin,13["bar"]']);
  check({ type: 2, data: ["baz", one] }, ['51-["baz",{"_placeholder":true,"num":0}]', one]);
  check({ type: 3, id: 15, data: [{ a: [two], b: one, c: "x" }] }, [
    '62-15[{"a":[{"_placeholder":true,"num":0}],"b":{"_placeholder":true,"num":1},"c":"x"}]', two, one]);
  check({ type: 2, data: ["d", new Date(0), { toJSON: () => ({ b: one }) }] }, [
    '51-["d","1970-01-01T00:00:00.000Z",{"b":{"_placeholder":true,"num":0}}]', one]);

  function check(packet, want) {
    assert.deepEqual(encodePacket(packet), want);
  }
});

test("packets_are_decoded_and_bad_ones_refused", () => {
  const binary = new Uint8Array([7]).buffer;
  check(['0{"sid":"x"}'], { type: 0, nsp: "/", data: { sid: "x" } });
  check(["0/random"], { type: 0, nsp: "/random", data: undefined });
  check(["1/admin,"], { type: 1, nsp: "/admin", data: undefined });
  check(['2/a,12["foo",{"x":1}]'], { type: 2, nsp: "/a", id: 12, data: ["foo", { x: 1 }] });
  check(["2[5]"], { type: 2, nsp: "/", data: [5] });
  check(["37[]"], { type: 3, nsp: "/", id: 7, data: [] });
  check(['4{"message":"no"}'], { type: 4, nsp: "/", data: { message: "no" } });
  check(['51-["b",{"_placeholder":true,"num":0}]', binary], { type: 2, nsp: "/", data: ["b", binary] });
  check(['51-["__proto__",{"__proto__":{"_placeholder":true,"num":0}}]', binary],
    { type: 2, nsp: "/", data: ["__proto__", JSON.parse('{"__proto__":1}')] }, (data) => {
      assert.deepEqual(Object.keys(data[1]), ["__proto__"]);
      assert.equal(Object.getPrototypeOf(data[1]), Object.prototype);
    });
  for (const bad of ["", "7", "x", "2", "2{}", "2[]", '2["connect"]', '2["newListener"]', "2[null]", '2["a"', "3[]", "3{}",
    "1{}", "0[]", "0 1", "4[]", "4", '50-["a"]', '511-["a"]', '5["a"]', '5-["a"]', '51e0-["a"]', '2/a["x"]',
    `2${"9".repeat(20)}["x"]`, '2-1["x"]']) check([bad], "throws");
  check([binary], "throws");
  check(['51-["a",{"_placeholder":true,"num":0}]', '2["x"]'], "throws");
  for (const num of ["1", "-1", '"0"', "0.5", "null"]) check([`51-["a",{"_placeholder":true,"num":${num}}]`, binary], "throws");
  check([`51-["a",${"[".repeat(200)}${"]".repeat(200)}]`, binary], "throws");

  function check(messages, want, also) {
    const decoder = new Decoder();
    const decode = () => messages.map((message) => decoder.add(message)).at(-1);
    if (typeof want === "string") return assert.throws(decode, undefined, JSON.stringify(messages));
    const { type, nsp, id, data } = decode();
    if (also) return also(data);
    assert.deepEqual({ type, nsp, id, data }, { id: undefined, ...want }, messages[0]);
  }
});

test("the_back_off_has_full_jitter_under_a_growing_capped_bound", () => {
  const options = { reconnectionDelay: 1000, reconnectionDelayMax: 5000 };
  check(0, 0, 0);
  check(0, 0.999, 999);
  check(1, 0.5, 1000);
  check(2, 1, 4000);
  check(3, 1, 5000);
  check(3, 0.1, 500);
  check(5000, 0.5, 2500);

  function check(attempt, random, want) {
    assert.equal(backoff(attempt, options, () => random), want);
  }
});

// ------------------------------------------------------------------------------------------------- every transport

for (const [mode, options] of Object.entries(MODES)) {
  describe(`over ${mode}`, () => {
    test("events_and_acks_go_both_ways", LIMIT, async () => {
      const acks = [];
      const server = await serve((io) => io.on("connection", (socket) => {
        socket.conn.on("data", (data) => { if (String(data).startsWith("3")) acks.push(data); });
        socket.on("sum", (a, b, ack) => ack(a + b));
        socket.on("ask me", async (question, ack) => ack(await socket.emitWithAck("question", question)));
        socket.on("echo", (...args) => socket.emit("echo", ...args));
      }));
      const socket = await connected(dial(server, "/", options));
      if (mode === "upgrade") await upgraded(socket);
      assert.equal(socket.io.transport, mode === "upgrade" ? "websocket" : mode);
      assert.equal(await socket.emitWithAck("sum", 2, 3), 5);
      assert.equal(await socket.timeout(5000).emitWithAck("sum", 4, 5), 9);
      assert.equal(await new Promise((done) => socket.emit("sum", 1, 1, done)), 2);
      assert.deepEqual(await new Promise((done) => socket.timeout(5000).emit("sum", 1, 2, (...args) => done(args))), [null, 3]);
      socket.on("question", (question, answer) => { answer(`${question}? yes`); answer("only the first counts"); });
      assert.equal(await socket.emitWithAck("ask me", "well"), "well? yes");
      assert.equal(await socket.emitWithAck("sum", 1, 0), 1);
      assert.deepEqual(acks, ['30["well? yes"]']);
      const echo = next(socket, "echo");
      socket.emit("echo", 1, "ü\u2028😀", null, [{ deep: [true] }], 1.5);
      assert.deepEqual(await echo, [1, "ü\u2028😀", null, [{ deep: [true] }], 1.5]);
    });

    test("binary_goes_both_ways_at_any_depth", LIMIT, async () => {
      const server = await serve((io) => io.on("connection", (socket) => {
        socket.on("lengths", (args, ack) => ack(args.map((arg) => arg.length)));
        socket.on("back", (value, ack) => { socket.emit("back", value); ack(value); });
      }));
      const socket = await connected(dial(server, "/", options));
      if (mode === "upgrade") await upgraded(socket);
      const all = Uint8Array.from({ length: 256 }, (_, i) => i);
      const view = new Uint16Array(all.buffer, 2, 3);
      const blob = new Blob([all, "tail"]);
      assert.deepEqual(await socket.emitWithAck("lengths", [all, all.buffer, view, blob, new Uint8Array(0)]), [256, 256, 6, 260, 0]);
      const pushed = next(socket, "back");
      const value = { list: [all, { view }], blob, text: "x" };
      const answer = await socket.emitWithAck("back", value);
      for (const got of [answer, (await pushed)[0]]) {
        assert.ok(got.list[0] instanceof ArrayBuffer);
        assert.deepEqual(bytes(got.list[0]), [...all]);
        assert.deepEqual(bytes(got.list[1].view), [2, 3, 4, 5, 6, 7]);
        assert.equal(got.blob.byteLength, 260);
        assert.equal(got.text, "x");
      }
    });

    test("order_is_kept_in_both_directions_from_the_first_event_on", LIMIT, async () => {
      const count = 600;
      const server = await serve((io) => io.on("connection", (socket) => {
        const got = [];
        for (let i = 0; i < 100; i++) socket.emit("n", i, i % 50 ? null : Buffer.alloc(3, i));
        socket.on("n", (i) => {
          got.push(i);
          socket.emit("n", 100 + i, i % 7 ? null : Buffer.alloc(2));
        });
        socket.on("list", (ack) => ack(got));
      }));
      const socket = dial(server, "/", options);
      const got = [];
      socket.on("n", (i) => got.push(i));
      // The emits are spread over the handshake, the probe and the switch, binary and Blobs among them.
      for (let i = 0; i < count; i++) {
        socket.emit("n", i, i % 11 === 0 ? new Uint8Array(5) : i % 13 === 0 ? new Blob(["blob"]) : "text");
        if (i % 10 === 0) await new Promise((done) => setImmediate(done));
      }
      assert.deepEqual(await socket.emitWithAck("list"), Array.from({ length: count }, (_, i) => i));
      await socket.emitWithAck("list");
      assert.deepEqual(got, Array.from({ length: 100 + count }, (_, i) => i));
    });

    test("namespaces_share_one_connection_and_check_credentials", LIMIT, async () => {
      const server = await serve((io) => {
        io.of("/admin").use((socket, go) => {
          if (socket.handshake.auth.token === "good") return go();
          go(Object.assign(new Error("not you"), { data: { code: 7 } }));
        });
        io.of("/admin").on("connection", (socket) => socket.on("who", (ack) => ack(socket.handshake.auth)));
        io.of("/plain").on("connection", (socket) => socket.on("who", (ack) => ack(socket.handshake.auth)));
      });
      const manager = new Manager(server.url, { WebSocket, ...options });
      cleanups.push(() => manager.close());
      const root = manager.socket("/");
      let calls = 0;
      const admin = manager.socket("/admin", { auth: async () => ({ token: ++calls > 1 ? "good" : "bad" }) });
      const plain = manager.socket("/plain", { auth: (done) => setImmediate(done, { by: "callback" }) });
      const unknown = manager.socket("/unknown");
      const [[refused], [missing]] = await Promise.all([next(admin, "connect_error"), next(unknown, "connect_error")]);
      assert.equal(refused.message, "not you");
      assert.deepEqual(refused.data, { code: 7 });
      assert.equal(missing.message, "Invalid namespace");
      assert.deepEqual([admin.active, admin.connected], [false, false]);
      admin.connect();
      await Promise.all([connected(root), connected(admin), connected(plain)]);
      assert.deepEqual(await admin.emitWithAck("who"), { token: "good" });
      assert.deepEqual(await plain.emitWithAck("who"), { by: "callback" });
      assert.equal(server.io.engine.clientsCount, 1);
      assert.notEqual(root.id, plain.id);

      const left = next(plain, "disconnect");
      plain.disconnect();
      assert.deepEqual(await left, ["io client disconnect", undefined]);
      assert.equal(await root.timeout(500).emitWithAck("nobody answers").catch((error) => error.message), "operation has timed out");
      assert.ok(admin.connected);
      plain.connect();
      await connected(plain);
      assert.deepEqual(await plain.emitWithAck("who"), { by: "callback" });
    });

    test("a_restarted_server_is_found_again_and_gets_what_was_written_meanwhile", LIMIT, async () => {
      const setup = (got) => (io) => io.of("/chat").on("connection", (socket) => socket.on("say", (text, ack) => { got.push(text); ack(got.length); }));
      const [before, later] = [[], []];
      const server = await serve(setup(before));
      const socket = await connected(dial(server, "/chat", options));
      assert.equal(await socket.emitWithAck("say", "one"), 1);
      const gone = next(socket, "disconnect");
      await server.stop();
      const [reason] = await gone;
      assert.match(reason, /^transport (close|error)$/);
      const answers = Promise.all(["two", "three", new Blob(["four"])].map((text) => socket.emitWithAck("say", text)));
      socket.volatile.emit("say", "dropped");
      assert.equal(socket.buffered, 3);
      const again = next(socket.io, "reconnect");
      await serve(setup(later), {}, server.port);
      assert.deepEqual(await answers, [1, 2, 3]);
      assert.ok((await again)[0] >= 1);
      assert.deepEqual(later.map(String), ["two", "three", "four"]);
      assert.deepEqual(before, ["one"]);
      assert.equal(socket.buffered, 0);
    });

    test("the_log_of_a_life_is_the_same_as_the_official_client_writes", LIMIT, async () => {
      const server = await serve((io) => {
        io.use((socket, go) => go(socket.handshake.auth.token === "x" ? undefined : Object.assign(new Error("no"), { data: 1 })));
        io.on("connection", (socket) => {
          socket.on("kick", () => socket.disconnect());
          socket.on("kick all", () => socket.disconnect(true));
          socket.on("cut", () => socket.conn.close());
          socket.on("hello", (ack) => ack("hi", 2));
          socket.on("silence", () => {});
        });
      });
      const life = async (dialed) => {
        const log = [];
        const socket = dialed;
        for (const event of ["connect", "connect_error", "disconnect"]) {
          socket.on(event, (what) => log.push([event, what?.message ?? what, what?.data, socket.connected, socket.active, typeof socket.id]));
        }
        socket.onAnyOutgoing((...args) => log.push(["out", ...args]));
        const step = async (event, act) => { const happened = next(socket, event); act(); await happened; };
        socket.auth = {};
        await step("connect_error", () => socket.connect());
        socket.auth = { token: "x" };
        await step("connect", () => socket.connect());
        log.push(await new Promise((done) => socket.emit("hello", (...args) => done(args))));
        socket.emit("silence", () => log.push("never"));
        socket.emitWithAck("silence").catch((error) => log.push(error.message));
        await step("disconnect", () => socket.emit("kick"));
        socket.emit("hello", (...args) => log.push(["buffered", ...args]));
        await step("connect", () => socket.connect());
        await socket.emitWithAck("hello");
        await step("connect", () => socket.emit("cut"));
        await step("disconnect", () => socket.emit("kick all"));
        await step("connect", () => socket.connect());
        await step("disconnect", () => socket.disconnect());
        log.push([socket.connected, socket.active]);
        assert.throws(() => socket.emit("connect"), /"connect" is a reserved event name/);
        return log;
      };
      const shared = { ...options, autoConnect: false, forceNew: true, reconnectionDelay: 10, reconnectionDelayMax: 20 };
      const official = await life(officialIo(server.url, { ...shared }));
      const ours = await life(dial(server, "/", shared));
      assert.deepEqual(ours, official);
      assert.ok(ours.length > 15);
    });

    test("a_session_is_recovered_with_what_was_missed", LIMIT, async () => {
      let cut;
      const server = await serve((io) => io.on("connection", (socket) => {
        if (!socket.recovered) socket.join("room");
        cut = () => socket.conn.transport.close();
      }), { connectionStateRecovery: { maxDisconnectionDuration: 60_000 } });
      const socket = await connected(dial(server, "/", options));
      if (mode === "upgrade") await upgraded(socket);
      assert.equal(socket.recovered, false);
      const { id } = socket;
      const got = [];
      socket.on("news", (n) => got.push(n));
      const first = next(socket, "news");
      server.io.to("room").emit("news", 1);
      await first;
      const gone = next(socket, "disconnect");
      const back = next(socket, "connect");
      cut();
      await gone;
      server.io.to("room").emit("news", 2);
      server.io.to("room").emit("news", Buffer.from("three"));
      await back;
      assert.deepEqual([socket.recovered, socket.id], [true, id]);
      assert.deepEqual(got.map((n) => (typeof n === "number" ? n : Buffer.from(n).toString())), [1, 2, "three"]);
    });

    test("a_message_over_the_servers_limit_fails_alone", LIMIT, async () => {
      const server = await serve((io) => io.on("connection", (socket) => socket.on("size", (value, ack) => ack?.(value.length))), { maxHttpBufferSize: 10_000 });
      const socket = await connected(dial(server, "/", options));
      if (mode === "upgrade") await upgraded(socket);
      const { id } = socket;
      const big = "ü".repeat(5000);
      await assert.rejects(socket.emitWithAck("size", big), /over the server's limit of 10000/);
      await assert.rejects(socket.emitWithAck("size", new Uint8Array(20_000)), RangeError);
      await assert.rejects(socket.emitWithAck("size", new Blob([new Uint8Array(20_000)])), RangeError);
      const told = next(socket, "emit_error");
      socket.emit("size", big);
      assert.deepEqual((await told)[1], ["size", big]);
      assert.equal(await socket.emitWithAck("size", "x".repeat(9000)), 9000);
      assert.equal(socket.id, id);
    });

    test("an_exception_in_a_handler_disturbs_nothing", LIMIT, async (t) => {
      const errors = [];
      const caught = (error) => errors.push(error.message);
      process.on("uncaughtException", caught);
      t.after(() => process.off("uncaughtException", caught));
      // The runner listens too, and would count a thrown exception as a failure of this test.
      const others = process.listeners("uncaughtException").filter((fn) => fn !== caught);
      for (const fn of others) process.off("uncaughtException", fn);
      t.after(() => { for (const fn of others) process.on("uncaughtException", fn); });
      const server = await serve((io) => io.on("connection", (socket) => {
        socket.emit("a");
        socket.emit("b");
        socket.on("hi", (ack) => ack());
      }));
      const socket = dial(server, "/", options);
      let reached = 0;
      socket.on("a", () => { throw new Error("oops a"); });
      socket.on("a", () => reached++);
      const b = next(socket, "b");
      socket.on("connect", () => { throw new Error("oops connect"); });
      await b;
      await socket.emitWithAck("hi");
      assert.equal(reached, 1);
      assert.deepEqual(errors.sort(), ["oops a", "oops connect"]);
    });
  });
}

// --------------------------------------------------------------------------------------------------- single features

test("polling_batches_stay_under_the_announced_limit", LIMIT, async () => {
  const bodies = [];
  const server = await serve((io) => {
    io.on("connection", (socket) => socket.on("n", (i, _, ack) => ack?.(i)));
  }, { maxHttpBufferSize: 1000 });
  server.http.prependListener("request", (request) => {
    if (request.method === "POST") bodies.push(Number(request.headers["content-length"]));
  });
  const socket = dial(server, "/", { transports: ["polling"] });
  const count = 120;
  for (let i = 0; i < count; i++) socket.emit("n", i, i % 3 ? "ü".repeat(i) : new Uint8Array(i));
  assert.equal(await socket.emitWithAck("n", count, ""), count);
  assert.ok(Math.max(...bodies) <= 1000, `${Math.max(...bodies)}`);
  assert.ok(Math.max(...bodies) > 850, "batches are used");
  assert.ok(bodies.length < count);
});

test("the_offline_buffer_is_bounded_in_packets_and_bytes", LIMIT, async () => {
  const server = await serve((io) => io.on("connection", (socket) => socket.on("n", (i, ack) => ack?.(i))));
  const socket = dial(server, "/", { autoConnect: false, sendBufferPackets: 3, sendBufferBytes: 1000 });
  const kept = [socket.emitWithAck("n", 1), socket.emitWithAck("n", 2)];
  await assert.rejects(socket.emitWithAck("n", "x".repeat(1000)), /offline buffer is full/);
  const given_up = socket.timeout(1).emitWithAck("n", "late");
  await assert.rejects(given_up, /operation has timed out/);
  kept.push(socket.emitWithAck("n", 3));
  const told = next(socket, "emit_error");
  socket.emit("n", 4);
  assert.equal((await told)[0].message, "the offline buffer is full");
  await assert.rejects(socket.volatile.emitWithAck("n", 5), /dropped/);
  socket.connect();
  assert.deepEqual(await Promise.all(kept), [1, 2, 3]);
});

test("volatile_emits_arrive_when_the_way_is_free_and_are_dropped_when_it_is_not", LIMIT, async () => {
  const server = await serve((io) => io.on("connection", (socket) => {
    const got = [];
    socket.on("v", (i) => got.push(i));
    socket.on("list", (ack) => ack(got));
  }));
  for (const options of [MODES.polling, MODES.websocket]) {
    const socket = await connected(dial(server, "/", options));
    await socket.emitWithAck("list");
    await new Promise((done) => setImmediate(done));
    socket.volatile.emit("v", 1);
    if (options === MODES.polling) socket.volatile.emit("v", 2); // a POST is under way
    assert.deepEqual(await socket.emitWithAck("list"), [1]);
  }
});

test("a_silent_server_is_given_up_after_its_own_ping_interval_and_timeout", LIMIT, async () => {
  const open = '0{"sid":"s","upgrades":[],"pingInterval":30,"pingTimeout":20,"maxPayload":1000}';
  const http = createServer((request, response) => {
    if (!request.url.includes("sid=")) response.end(open);
    else if (request.method === "POST") response.end("ok");
    else if (!http.answered) { http.answered = true; response.end('40{"sid":"x"}'); }
  });
  await new Promise((done) => http.listen(0, "127.0.0.1", done));
  cleanups.push(() => { http.closeAllConnections(); http.close(); });
  const socket = dial({ url: `http://127.0.0.1:${http.address().port}` }, "/", { reconnection: false });
  assert.equal((await next(socket.io, "close"))[0], "ping timeout");
  assert.equal(socket.connected, false);
});

test("pings_are_answered_on_every_transport", LIMIT, async () => {
  const server = await serve(() => {}, { pingInterval: 100, pingTimeout: 500 });
  // Eight pings take longer than one side's patience: both must have counted each of them.
  await Promise.all(Object.values(MODES).map(async (options) => {
    const socket = await connected(dial(server, "/", options));
    const lost = [];
    socket.on("disconnect", (reason) => lost.push(reason));
    for (let i = 0; i < 8; i++) await next(socket.io, "ping");
    assert.deepEqual(lost, []);
    assert.ok(socket.connected);
  }));
});

test("a_probe_that_fails_leaves_polling_working", LIMIT, async () => {
  const server = await serve((io) => io.on("connection", (socket) => socket.on("hi", (ack) => ack("there"))));
  /** A WebSocket that does what it is told instead of connecting. */
  const fake = (script) => class {
    readyState = 0;
    bufferedAmount = 0;
    sent = [];
    constructor() { setImmediate(() => script(this)); }
    open() { this.readyState = 1; this.onopen({}); }
    say(data) { this.onmessage({ data }); }
    send(data) { this.sent.push(data); }
    close() { this.readyState = 3; this.closed = true; }
    end() { this.readyState = 3; this.onerror({ message: "broken" }); this.onclose({ code: 1006, reason: "" }); }
  };
  await check("refused", fake((ws) => ws.end()));
  await check("never opens", fake(() => {}), { upgradeTimeout: 20 });
  await check("opens and is silent", fake((ws) => ws.open()), { upgradeTimeout: 20 });
  await check("closes after the probe", fake((ws) => { ws.open(); ws.end(); }));
  await check("answers nonsense", fake((ws) => { ws.open(); ws.say("3nonsense"); }));
  await check("answers with a message", fake((ws) => { ws.open(); ws.say('42["hi"]'); }));
  // Here the answer is right, polling is being paused, and then the WebSocket dies.
  await check("dies during the switch", fake((ws) => { ws.open(); ws.say("3probe"); ws.end(); }));
  await check("talks too early", fake((ws) => { ws.open(); ws.say("3probe"); ws.say('42["hi"]'); }));
  await check("cannot be made", class { constructor() { throw new Error("blocked"); } });

  async function check(what, Fake, options = {}) {
    const socket = dial(server, "/", { WebSocket: Fake, ...options });
    const failed = next(socket.io, "upgradeError");
    const early = socket.emitWithAck("hi");
    await failed;
    assert.equal(socket.io.transport, "polling", what);
    assert.equal(await early, "there", what);
    assert.equal(await socket.emitWithAck("hi"), "there", what);
    assert.equal(await socket.emitWithAck("hi"), "there", what);
    socket.disconnect();
  }
});

test("the_next_transport_is_tried_where_that_is_wanted", LIMIT, async () => {
  const server = await serve();
  class Blocked { constructor() { throw new Error("blocked"); } }
  const options = { WebSocket: Blocked, transports: ["websocket", "polling"], upgrade: false };
  const stubborn = dial(server, "/", { ...options, reconnection: false });
  const [error] = await next(stubborn, "connect_error");
  assert.deepEqual([error.message, error.type], ["websocket error", "TransportError"]);
  const socket = await connected(dial(server, "/", { ...options, tryAllTransports: true }));
  assert.equal(socket.io.transport, "polling");
});

test("what_the_server_says_about_a_refused_handshake_is_passed_on", LIMIT, async () => {
  const server = await serve(() => {}, { allowRequest: (_, done) => done("go away", false) });
  const socket = dial(server, "/", { transports: ["polling"], reconnectionAttempts: 2 });
  const [error] = await next(socket, "connect_error");
  assert.deepEqual([error.message, error.status, error.context.code], ["polling error: go away", 403, 4]);
  await next(socket.io, "reconnect_failed");
});

test("leaving_before_the_answer_is_finished_when_the_answer_comes", LIMIT, async () => {
  const entered = [], left = [];
  const server = await serve((io) => {
    io.of("/slow").use((_, go) => setTimeout(go, 30));
    io.of("/slow").on("connection", (socket) => {
      entered.push(socket.id);
      socket.on("disconnect", (reason) => left.push(reason));
      socket.on("hi", (ack) => ack(1));
    });
    io.on("connection", (socket) => socket.on("hi", (ack) => ack(1)));
  });
  const manager = new Manager(server.url, { WebSocket, transports: ["websocket"] });
  cleanups.push(() => manager.close());
  const root = await connected(manager.socket("/"));
  const slow = manager.socket("/slow");
  await root.emitWithAck("hi"); // the CONNECT is out
  slow.disconnect();
  const gone = new Promise((done) => server.io.of("/slow").once("connection", (socket) => socket.on("disconnect", done)));
  assert.equal(await gone, "client namespace disconnect");
  assert.equal(slow.connected, false);
  slow.connect();
  await root.emitWithAck("hi");
  slow.disconnect().connect(); // left and came back in one breath: one CONNECT is enough
  await connected(slow);
  assert.equal(await slow.emitWithAck("hi"), 1);
  assert.equal(await root.emitWithAck("hi"), 1);
  assert.equal(entered.length, 2);
  assert.deepEqual(left, ["client namespace disconnect"]);
});

test("what_was_emitted_before_a_disconnect_is_still_sent", LIMIT, async () => {
  for (const options of Object.values(MODES)) {
    // What arrives is looked at below Socket.IO: Node drops events that come in one read with the DISCONNECT after them.
    const got = [];
    let farewell;
    const closed = new Promise((done) => { farewell = done; });
    const server = await serve((io) => io.engine.on("connection", (session) => {
      session.on("data", (data) => got.push(String(data)));
      session.on("close", farewell);
    }));
    const socket = await connected(dial(server, "/", options));
    const [peer] = server.io.of("/").sockets.values();
    const ended = next(peer, "disconnect");
    socket.emit("n", "a");
    socket.emit("n", new Blob(["b"]));
    socket.emit("n", "c");
    socket.disconnect();
    assert.equal((await ended)[0], "client namespace disconnect");
    assert.equal(await closed, "transport close"); // said, not found out
    assert.deepEqual(got, ["0", '2["n","a"]', '51-["n",{"_placeholder":true,"num":0}]', "b", '2["n","c"]', "1"]);
    assert.equal(socket.io.transport, undefined);
  }
});

test("a_server_that_leaves_the_protocol_is_left_with_parse_error", LIMIT, async () => {
  const server = await serve((io) => io.on("connection", (socket) => socket.on("go", (text) => socket.conn.write(text))));
  for (const nonsense of ["9", '2["connect"]', "2[", '51-["x"]', "44"]) {
    const socket = await connected(dial(server, "/", { ...MODES.websocket, reconnection: false }));
    const gone = next(socket, "disconnect");
    socket.emit("go", nonsense);
    if (nonsense.startsWith("51")) socket.emit("go", '2["text instead of the attachment"]');
    assert.equal((await gone)[0], "parse error", nonsense);
  }
});

test("sockets_of_one_server_share_a_manager_unless_told_otherwise", LIMIT, async () => {
  const server = await serve((io) => io.of("/a"));
  const [a, b, again, alone] = [["/"], ["/a"], ["/"], ["/a", { forceNew: true }]].map(([nsp, options]) => io(server.url + nsp, { WebSocket, ...options }));
  cleanups.push(() => [a, b, again, alone].forEach((socket) => socket.io.close()));
  await Promise.all([a, b, again, alone].map(connected));
  assert.equal(a.io, b.io);
  assert.notEqual(a.io, again.io);
  assert.notEqual(a.io, alone.io);
  assert.equal(server.io.engine.clientsCount, 3);
  const query = io(`${server.url}?x=1`, { WebSocket, forceNew: true });
  cleanups.push(() => query.io.close());
  assert.equal(query.nsp, "/");
  const [peer] = await next(server.io, "connection");
  assert.equal(peer.handshake.query.x, "1");
});

test("a_server_that_does_not_hold_polls_is_not_hammered", LIMIT, async () => {
  let polls = 0;
  const times = [];
  const timed = (url, request) => {
    if (request.method === "GET") times.push(performance.now());
    return fetch(url, request);
  };
  const http = createServer((request, response) => {
    if (!request.url.includes("sid=")) return response.end('0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000}');
    if (request.method === "POST") return response.end("ok");
    polls++;
    response.end(polls === 1 ? '40{"sid":"x"}' : polls === 6 ? '42["done"]' : "6");
  });
  await new Promise((done) => http.listen(0, "127.0.0.1", done));
  cleanups.push(() => { http.closeAllConnections(); http.close(); });
  const socket = dial({ url: `http://127.0.0.1:${http.address().port}` }, "/", { fetch: timed });
  await next(socket, "done");
  // The handshake, the answer to CONNECT, four empty answers, the event; perhaps one more poll behind it.
  const pauses = times.slice(2, 7).map((at, i) => at - times[i + 1]).slice(1);
  assert.equal(pauses.length, 4);
  assert.ok(pauses.every((pause) => pause >= 98), pauses.join(" "));
});

test("short_polling_asks_the_server_not_to_hold", LIMIT, async () => {
  const server = await serve((io) => io.on("connection", (socket) => socket.on("hi", (ack) => ack(1))));
  const urls = [];
  server.http.prependListener("request", (request) => urls.push(request.url));
  const socket = await connected(dial(server, "/", { ...MODES.polling, pollInterval: 10 }));
  assert.equal(await socket.emitWithAck("hi"), 1);
  assert.ok(urls.length > 2 && urls.every((url) => new URL(url, "http://x").searchParams.get("hold") === "0"), urls[0]);
});

test("an_engine_can_be_used_alone", LIMIT, async () => {
  const server = await serve();
  const engine = new Engine(new URL("/socket.io/", server.url), { transports: ["polling"] });
  await next(engine, "open");
  engine.send(["0"]);
  const [message] = await next(engine, "message");
  assert.match(message, /^0\{"sid":"/);
  const closed = next(engine, "close");
  engine.close();
  assert.deepEqual(await closed, ["forced close", undefined]);
});
