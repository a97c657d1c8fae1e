// The events of the demo, with our client and the official one, against `sio serve` (SIO_BIN) or the reference server.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { io as officialIo } from "socket.io-client";
import { WebSocket } from "ws";

import { io as ownIo } from "../../crates/socketio-cli/assets/client.js";
import { freePort, start } from "./serve.mjs";

const LIMIT = { timeout: 20_000 };
const next = (emitter, event) => new Promise((done) => emitter.once(event, (...args) => done(args)));
const bytes = (value) => [...new Uint8Array(value)];

let server;
before(async () => { server = await start(await freePort()); });
after(async () => { await server.stop(); });

for (const [library, dial] of [
  ["our client", (url, options) => ownIo(url, { WebSocket, forceNew: true, ...options })],
  ["the official client", (url, options) => officialIo(url, { forceNew: true, ...options })],
]) {
  for (const transports of [["polling"], ["websocket"], ["polling", "websocket"]]) {
    describe(`${library} over ${transports.join(", then ")}`, () => {
      const sockets = [];
      after(() => { for (const socket of sockets) socket.disconnect(); });
      const open = (nsp, auth) => {
        const socket = dial(server.url + nsp, { transports, auth });
        sockets.push(socket);
        return socket;
      };
      const enter = async (name, rooms = ["general"], nsp = "/lobby", more = {}) => {
        const socket = open(nsp, { name, rooms, ...more });
        const [welcome] = await next(socket, "welcome");
        return { socket, welcome };
      };

      test("the_server_names_itself_counts_and_answers", LIMIT, async () => {
        const socket = open("/");
        const [[server], [count]] = await Promise.all([next(socket, "server"), next(socket, "count")]);
        assert.equal(typeof server.name, "string");
        assert.match(server.instance, /^[\w-]+$/);
        assert.ok(count >= 1);
        const at = await socket.emitWithAck("latency");
        assert.ok(Math.abs(at - Date.now()) < 60_000);
        const more = next(socket, "count");
        open("/");
        assert.ok((await more)[0] >= 2);
      });

      test("credentials_are_checked", LIMIT, async () => {
        for (const [nsp, auth, message, code] of [
          ["/lobby", {}, "a name of 1 to 32 characters is required", "invalid_name"],
          ["/lobby", { name: "  " }, "a name of 1 to 32 characters is required", "invalid_name"],
          ["/lobby", { name: "x".repeat(33) }, "a name of 1 to 32 characters is required", "invalid_name"],
          ["/lobby", { name: 7 }, "a name of 1 to 32 characters is required", "invalid_name"],
          ["/backstage", { name: "Ann" }, "wrong password", "wrong_password"],
          ["/backstage", { name: "Ann", password: "open" }, "wrong password", "wrong_password"],
          ["/nowhere", { name: "Ann" }, "Invalid namespace", undefined],
        ]) {
          const [error] = await next(open(nsp, auth), "connect_error");
          assert.deepEqual([error.message, error.data?.code], [message, code], JSON.stringify([nsp, auth]));
        }
        const { welcome } = await enter("Ann", ["crew"], "/backstage", { password: "sesame" });
        assert.deepEqual(welcome.rooms.map(({ room }) => room), ["crew"]);
      });

      test("people_meet_in_rooms_and_talk", LIMIT, async () => {
        const room = `r${Math.random().toString(36).slice(2, 10)}`;
        const ann = await enter("Ann", [room]);
        assert.deepEqual(ann.welcome.me, { id: ann.socket.id, name: "Ann" });
        assert.deepEqual(ann.welcome.rooms, [{ room, members: [ann.welcome.me] }]);
        const joined = next(ann.socket, "joined");
        const bob = await enter(" Bob ", [room, "bad room", 5, room]);
        assert.deepEqual(await joined, [{ room, member: { id: bob.socket.id, name: "Bob" } }]);
        const byId = (a, b) => (a.id < b.id ? -1 : 1);
        assert.deepEqual(bob.welcome.rooms.length, 1);
        assert.deepEqual(bob.welcome.rooms[0].members.sort(byId), [ann.welcome.me, bob.welcome.me].sort(byId));

        const heard = next(bob.socket, "said");
        const said = await ann.socket.emitWithAck("say", { room, text: "hällo 😀", key: "k1" });
        const [message] = await heard;
        assert.deepEqual(message, { id: said.id, room, from: ann.welcome.me, text: "hällo 😀", key: "k1", at: said.at });

        const dropped = next(ann.socket, "file");
        const all = Uint8Array.from({ length: 70_000 }, (_, i) => i);
        const file = await bob.socket.emitWithAck("file", { room, name: "a.bin", type: "", key: "k2" }, all);
        const [details, data] = await dropped;
        assert.deepEqual(details, { id: file.id, room, from: bob.welcome.me, name: "a.bin", type: "", size: 70_000, key: "k2", at: file.at });
        assert.deepEqual(bytes(data), [...all]);
        assert.equal(file.size, 70_000);

        const poked = next(bob.socket, "poked");
        const answer = ann.socket.emitWithAck("poke", bob.socket.id);
        const [from, reply] = await poked;
        assert.deepEqual(from, { from: ann.welcome.me });
        reply("ouch");
        assert.deepEqual(await answer, { answer: "ouch" });

        const typing = next(ann.socket, "typing");
        // Volatile both ways: it may be dropped between two polls, so it is said until it is heard.
        const typist = setInterval(() => bob.socket.volatile.emit("typing", room), 50);
        assert.deepEqual(await typing, [{ room, from: bob.welcome.me }]);
        clearInterval(typist);

        const left = next(ann.socket, "left");
        assert.deepEqual(await bob.socket.emitWithAck("leave", room), { room });
        assert.deepEqual(await left, [{ room, member: bob.welcome.me }]);
        const back = next(ann.socket, "joined");
        const again = await bob.socket.emitWithAck("join", room);
        assert.deepEqual(again.members.sort(byId), [ann.welcome.me, bob.welcome.me].sort(byId));
        await back;
        const gone = next(ann.socket, "left");
        bob.socket.disconnect();
        assert.deepEqual(await gone, [{ room, member: bob.welcome.me }]);
      });

      test("a_burst_keeps_its_order_from_the_first_message_on", LIMIT, async () => {
        const room = `b${Math.random().toString(36).slice(2, 10)}`;
        const bob = open("/lobby", { name: "Bob", rooms: [room] });
        const heard = [];
        bob.on("said", ({ text }) => heard.push(text));
        bob.on("file", (details, data) => heard.push(`${details.name} ${data.byteLength}`));
        await next(bob, "welcome");
        // Ann's are written before she is connected, and go out while both connections are being upgraded.
        const ann = open("/lobby", { name: "Ann", rooms: [room] });
        const answers = [], want = [];
        for (let i = 0; i < 300; i++) {
          const file = i % 17 === 0;
          want.push(file ? `${i} ${1 + i}` : `${i}`);
          answers.push(file
            ? ann.emitWithAck("file", { room, name: `${i}`, type: "", key: `k${i}` }, new Uint8Array(1 + i))
            : ann.emitWithAck("say", { room, text: `${i}`, key: `k${i}` }));
          if (i % 10 === 0) await new Promise((done) => setTimeout(done, 1));
        }
        const ids = (await Promise.all(answers)).map(({ id }) => id);
        assert.equal(new Set(ids).size, 300);
        // What is said last is heard last.
        const last = new Promise((done) => bob.on("said", ({ text }) => { if (text === "end") done(); }));
        ann.emit("say", { room, text: "end", key: "end" }, () => {});
        await last;
        assert.deepEqual(heard, [...want, "end"]);
      });

      test("what_makes_no_sense_is_refused_in_the_ack", LIMIT, async () => {
        const { socket } = await enter("Ann");
        const other = await enter("Eve", ["elsewhere"]);
        await check("invalid", "join", "no spaces");
        await check("invalid", "join", "");
        await check("invalid", "join", "x".repeat(33));
        await check("not_in_room", "leave", "nowhere");
        await check("not_in_room", "say", { room: "nowhere", text: "x", key: "k" });
        // A room is never a socket's own one: nobody can listen to, or speak into, what is meant for one socket.
        await check("not_in_room", "say", { room: other.socket.id, text: "x", key: "k" });
        await check("invalid", "say", { room: "general", text: "", key: "k" });
        await check("invalid", "say", { room: "general", text: "x".repeat(2001), key: "k" });
        await check("invalid", "file", { room: "general", name: "n", type: "", key: "k" }, "no bytes");
        await check("too_large", "file", { room: "general", name: "n", type: "", key: "k" }, new Uint8Array(512 * 1024 + 1));
        await check("gone", "poke", "nobody");
        await check("gone", "poke", other.socket.id);
        for (let i = 0; i < 15; i++) assert.equal((await socket.emitWithAck("join", `room${i}`)).room, `room${i}`);
        await check("too_many_rooms", "join", "one-more");
        assert.equal((await socket.emitWithAck("join", "room3")).room, "room3");

        async function check(code, event, ...args) {
          const answer = await socket.emitWithAck(event, ...args);
          assert.equal(answer.error?.code, code, JSON.stringify([event, args[0], answer]));
          assert.equal(typeof answer.error.message, "string");
        }
      });
    });
  }
}
