// Replayed bytes of clients that cannot be installed here: devices, games, old phones, other languages.
//
// Every test is one habit of theirs, or one corner of the protocol that a library would never reach. PEER says whether
// the server is ours or the reference, for the few rows where we are stricter or more exact on purpose.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Wire, http, request, websocket } from "./wire.mjs";

const ours = process.env.PEER === "ours";
const fixture = (name, body) => test(name, { timeout: 30_000 }, body);

const RS = "\x1e";
const P4 = "/socket.io/?EIO=4&transport=polling";
const W4 = "/socket.io/?EIO=4&transport=websocket";
const P3 = "/socket.io/?EIO=3&transport=polling";
const W3 = "/socket.io/?EIO=3&transport=websocket";

// --- sessions ------------------------------------------------------------------------------------------------------------

/** A polling session; `get` and `post` are one request each. */
async function polling(target = P4) {
  const open = await http("GET", target);
  assert.equal(open.status, 200, open.text);
  const info = JSON.parse(open.text.slice(open.text.indexOf("{"), open.text.lastIndexOf("}") + 1));
  const url = `${target}&sid=${info.sid}`;
  return {
    open,
    info,
    url,
    get: () => http("GET", url),
    post: (body, headers = ["Content-Type: text/plain;charset=UTF-8"]) => http("POST", url, { headers, body }),
    /** Polls until `wanted` is among the packets; returns all of them. (EIO4) */
    async packets(wanted) {
      const all = [];
      while (!all.some((packet) => packet.startsWith(wanted))) {
        const { status, text } = await http("GET", url);
        assert.equal(status, 200, text);
        for (const packet of text.split(RS)) packet === "2" ? await this.post("3") : all.push(packet);
      }
      return all;
    },
  };
}

/** A polling session that is connected to the main namespace, past its first event. (EIO4) */
async function connected() {
  const session = await polling();
  assert.equal((await session.post("40")).text, "ok");
  await session.packets('42["hello"');
  return session;
}

/** A WebSocket session that is connected to the main namespace, past its first event. */
async function socket(target = W4) {
  const wire = await websocket(target);
  wire.info = JSON.parse((await wire.text()).slice(1));
  if (!target.includes("EIO=3")) wire.send("40");
  wire.connect = await wire.text();
  wire.hello = await wire.text();
  return wire;
}

/** The server still serves this connection. */
async function lives(wire, id = 77) {
  wire.send(`42${id}["echo-ack","alive"]`);
  assert.equal(await wire.text(), `43${id}["alive"]`);
}

/** What the server says to one packet on a fresh WebSocket session. */
async function says(packet, answer) {
  const wire = await socket();
  wire.send(packet);
  assert.equal(await wire.text(), answer, packet);
  await lives(wire);
  wire.close();
}

/** This packet ends the connection; a bystander notices nothing. */
async function ends(...packets) {
  const bystander = await socket();
  const wire = await socket();
  for (const packet of packets) wire.send(packet);
  assert.deepEqual(await wire.ends(), [], `${packets} was answered`);
  await lives(bystander);
  bystander.close();
}

/** EIO3 text payload: lengths count UTF-16 code units. */
const framed = (...packets) => packets.map((packet) => `${packet.length}:${packet}`).join("");

// --- handshake and HTTP --------------------------------------------------------------------------------------------------

fixture("H1: a missing EIO, 1, 2 or 3 speaks revision 3", async () => {
  for (const query of ["", "&EIO=1", "&EIO=2", "&EIO=3"]) {
    const target = `/socket.io/?transport=polling${query}`;
    const session = await polling(target);
    const [, length, packet] = /^(\d+):(0\{.*\})/s.exec(session.open.text);
    assert.equal(Number(length), packet.length);
    const rest = session.open.text.slice(length.length + 1 + packet.length);
    assert.ok((rest + (rest ? "" : (await session.get()).text)).startsWith("2:40"), "the main namespace connects by itself");
  }
});

fixture("H3: queries in any order and with noise", async () => {
  for (const query of [
    "EIO=4&transport=polling&t=Oqd8a1z",
    "?key=val&EIO=4&transport=polling".slice(1),
    "transport=polling&b64=1&EIO=4",
    "key=a%20b+c&x=%zz&=&&y=1=2&EIO=4&transport=polling&t=1700000000",
    "EIO=3&EIO=4&transport=websocket&transport=polling",
    "%45IO=4&transport=pollin%67",
  ]) {
    const open = await http("GET", `/socket.io/?${query}`);
    assert.equal(open.status, 200, query);
    assert.ok(open.text.startsWith('0{"sid":"'), `${query}: ${open.text}`);
  }
});

fixture("H4: the path is the path", async () => {
  for (const path of ["/socket.iox/", "/socket", "/", "//socket.io/", "/x/socket.io/", "/SOCKET.IO/"]) {
    assert.equal((await http("GET", `${path}?EIO=4&transport=polling`)).status, 404, path);
  }
});

fixture("H5: odd namespaces are refused without harm", async () => {
  for (const namespace of ["//foo", "/ ", "/%2f", "/chat/", "/Chat", "/nope?token=1"]) {
    await says(`40${namespace},`, `44${namespace},{"message":"Invalid namespace"}`);
  }
});

fixture("H7: a POST needs no content type, and binary is refused in revision 4", async () => {
  const session = await polling();
  const response = await session.post("40", []);
  assert.deepEqual([response.status, response.text], [200, "ok"]);
  await session.packets("40{");
  const refused = await session.post(Buffer.from("42[\"a\"]"), ["Content-Type: application/octet-stream"]);
  assert.equal(refused.status, 400);
  assert.equal((await session.get()).status, 400);
});

fixture("H8: the headers of polls and posts", async () => {
  const session = await polling();
  const names = (response) => [response.headers["content-type"]?.toLowerCase(), response.headers["cache-control"]];
  assert.deepEqual(names(session.open), ["text/plain; charset=utf-8", "no-store"]);
  const post = await session.post("40");
  assert.deepEqual([post.status, post.text, post.headers["content-length"]], [200, "ok", "2"]);
  assert.deepEqual(names(post), ["text/html", "no-store"]);
  assert.deepEqual(names(await session.get()), ["text/plain; charset=utf-8", "no-store"]);
});

fixture("H9: the handshake is short, measured, and the connection stays", async () => {
  const wire = await Wire.open();
  const open = await wire.write(request("GET", P4)).response();
  assert.ok(open.body.length <= 256 && open.body.toString().startsWith('0{"sid":"'), open.body.toString());
  assert.equal(Number(open.headers["content-length"]), open.body.length);
  assert.notEqual(open.headers.connection?.toLowerCase(), "close");
  assert.deepEqual(Object.keys(JSON.parse(open.body.toString().slice(1))), ["sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"]);
  // The same TCP connection turns into the WebSocket of the same session.
  const { sid } = JSON.parse(open.body.toString().slice(1));
  await websocket(`${W4}&sid=${sid}`, { wire });
  assert.equal(wire.handshake.status, 101);
  wire.send("2probe");
  assert.equal(await wire.text(), "3probe");
  wire.send("5").send("40");
  assert.match(await wire.text(), /^40\{"sid":"/);
  assert.match(await wire.text(), /^42\["hello",/);
  await lives(wire);
  wire.close();
});

fixture("H9: a second poll closes the session", async () => {
  const session = await connected();
  const first = await Wire.open();
  first.write(request("GET", session.url));
  // Whichever request is read first parks; the other one is refused.
  const second = await Wire.open();
  second.write(request("GET", session.url));
  const answers = await Promise.all([first.response(), second.response()]);
  const [parked, refused] = answers.sort((a, b) => a.status - b.status);
  assert.deepEqual([parked.status, parked.body.toString(), refused.status, refused.body.toString()], [200, "1", 400, ""]);
  const gone = await session.get();
  assert.deepEqual([gone.status, gone.text], [400, '{"code":1,"message":"Session ID unknown"}']);
});

fixture("H10: the first offered subprotocol is echoed", async () => {
  for (const [offer, chosen] of [["arduino", "arduino"], ["one, two", "one"]]) {
    const wire = await websocket(W4, { headers: [`Sec-WebSocket-Protocol: ${offer}`] });
    assert.deepEqual([wire.handshake.status, wire.handshake.headers["sec-websocket-protocol"]], [101, chosen]);
    wire.close();
  }
  const none = await websocket(W4);
  assert.equal(none.handshake.headers["sec-websocket-protocol"], undefined);
  none.close();
});

fixture("H11: JSONP in revision 3", async () => {
  const open = await http("GET", `${P3}&j=7`);
  const [, payload] = /^(?:\/\*\*\/)?___eio\[7\]\((".*")\);$/s.exec(open.text);
  const { sid } = JSON.parse(JSON.parse(payload).slice(JSON.parse(payload).indexOf("{")).split("}")[0] + "}");
  const url = `${P3}&j=7&sid=${sid}`;
  const poll = async (wanted) => {
    for (let seen = ""; ; ) {
      const { text } = await http("GET", url);
      assert.ok(!/[\u2028\u2029]/.test(text), "line separators must be escaped in a script");
      seen += JSON.parse(/^(?:\/\*\*\/)?___eio\[7\]\((".*")\);$/s.exec(text)[1]);
      if (seen.includes(wanted)) return seen;
    }
  };
  // A form field; a backslash and an n stand for a new line, two backslashes and an n for a backslash and an n.
  const packet = '420["echo-ack","a\\nb\u2028 &=+"]';
  const body = `d=${encodeURIComponent(framed(packet).replace(/\\n/g, "\\\\n"))}`;
  const post = await http("POST", url, { headers: ["Content-Type: application/x-www-form-urlencoded"], body });
  assert.deepEqual([post.status, post.text], [200, "ok"]);
  assert.ok((await poll("430[")).includes('430["a\\nb\u2028 &=+"]'));
});

// --- Engine.IO -----------------------------------------------------------------------------------------------------------

fixture("E1: in revision 3 the client pings", async () => {
  const wire = await socket(W3);
  wire.send("2");
  assert.equal(await wire.text(), "3");
  wire.send("2hello");
  assert.match(await wire.text(), /^3/);
  await lives(wire);
  wire.send("3");
  assert.deepEqual(await wire.ends(), []);
});

fixture("E1: in revision 4 a client's ping ends the session", async () => {
  await ends("2");
  await ends("2probe");
  const session = await connected();
  await session.post("2");
  assert.equal((await session.get()).status, 400);
});

fixture("E2: an unsolicited pong is harmless", async () => {
  const wire = await websocket(W4);
  await wire.text();
  for (let i = 0; i < 10; i++) wire.send("3");
  wire.send("40");
  assert.match(await wire.text(), /^40\{/);
  await wire.text();
  wire.send("3x");
  await lives(wire);
  wire.close();
  const session = await connected();
  assert.equal((await session.post("3")).text, "ok");
  assert.equal((await session.post('420["echo-ack"]')).text, "ok");
  assert.deepEqual(await session.packets("430"), ["430[]"]);
});

fixture("E3: an upgrade needs a probe", async () => {
  const session = await connected();
  const wire = await websocket(`${W4}&sid=${session.info.sid}`);
  wire.send("5");
  if (!ours) return wire.close(); // the reference takes it
  assert.deepEqual(await wire.ends(), []);
  await session.post('421["echo-ack","polling lives"]');
  assert.deepEqual(await session.packets("431"), ['431["polling lives"]']);
});

fixture("E3: any other first packet closes the candidate only", async () => {
  const session = await connected();
  for (const first of ["4hello", "2", "2prob", "3probe", "1", "6", '42["echo"]', "7", Buffer.from("2probe")]) {
    const wire = await websocket(`${W4}&sid=${session.info.sid}`);
    wire.send(first);
    assert.deepEqual(await wire.ends(), [], `${first}`);
  }
  await session.post('421["echo-ack","polling lives"]');
  assert.deepEqual(await session.packets("431"), ['431["polling lives"]']);
});

fixture("E4: an upgrade packet may carry data", async () => {
  const session = await connected();
  const wire = await websocket(`${W4}&sid=${session.info.sid}`);
  wire.send("2probe");
  assert.equal(await wire.text(), "3probe");
  wire.send("52").send('422["echo-ack","over"]');
  assert.equal(await wire.text(), '432["over"]');
  const old = await session.get();
  assert.deepEqual([old.status, old.text], [400, '{"code":3,"message":"Bad request"}']);
  wire.close();
});

fixture("E5: a session that was only asked for is no burden to the next", async () => {
  const orphan = await polling();
  const wire = await socket();
  assert.notEqual(wire.info.sid, orphan.info.sid);
  await lives(wire);
  wire.close();
});

fixture("E6: over WebSocket the first frame is the open packet", async () => {
  const wire = await websocket(W4);
  const open = await wire.text();
  const info = JSON.parse(open.slice(1));
  assert.equal(open[0], "0");
  assert.deepEqual(Object.keys(info), ["sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"]);
  assert.deepEqual(info.upgrades, []);
  assert.match(info.sid, /^[\w-]{20}$/);
  wire.close();
});

fixture("E7: binary for clients that cannot take it", async () => {
  const header = '451-["echo",{"_placeholder":true,"num":0}]';
  // Revision 3, polling, b64: the type stands behind the b.
  const three = await polling(`${P3}&b64=1`);
  const posted = await three.post(framed(header, "b4AQIDBA=="));
  assert.equal(posted.text, "ok");
  let seen = "";
  while (!seen.includes("b4")) seen += (await three.get()).text;
  assert.ok(seen.endsWith(framed(header, "b4AQIDBA==")), seen);
  // Revision 4, polling: no type.
  const four = await connected();
  await four.post(`${header}${RS}bAQIDBA==`);
  assert.deepEqual(await four.packets("b"), [header, "bAQIDBA=="]);
  // Revision 3, WebSocket: one byte of type in the frame, or text if b64 was asked for.
  const wire = await socket(W3);
  wire.send(header).send(Buffer.from([4, 1, 2, 3, 4]));
  assert.equal(await wire.text(), header);
  const frame = await wire.frame();
  assert.deepEqual([frame.opcode, [...frame.payload]], [2, [4, 1, 2, 3, 4]]);
  wire.close();
  const text = await socket(`${W3}&b64=1`);
  text.send(header).send("b4AQIDBA==");
  assert.deepEqual([await text.text(), await text.text()], [header, "b4AQIDBA=="]);
  text.close();
  // Revision 4, WebSocket: raw, or text if b64 was asked for.
  const raw = await socket();
  raw.send(header).send(Buffer.from([1, 2, 3, 4]));
  assert.equal(await raw.text(), header);
  assert.deepEqual([...(await raw.frame()).payload], [1, 2, 3, 4]);
  raw.close();
  const b64 = await socket(`${W4}&b64=1`);
  b64.send(header).send("bAQIDBA==");
  assert.deepEqual([await b64.text(), await b64.text()], [header, "bAQIDBA=="]);
  b64.close();
});

fixture("E8: revision 3 counts UTF-16 units and has binary payloads", async () => {
  const session = await polling(`${P3}&b64=1`);
  const packet = '420["echo-ack","😀é"]';
  assert.equal(framed(packet).split(":")[0], "21");
  assert.equal((await session.post(framed(packet))).text, "ok");
  let seen = "";
  while (!seen.includes("430")) seen += (await session.get()).text;
  assert.ok(seen.endsWith('10:430["😀é"]'), seen);

  // Without b64 a payload with binary is binary: kind, digits, 255, data.
  const binary = await polling(P3);
  await binary.get();
  const item = (kind, data) => Buffer.concat([Buffer.from([kind, ...[...String(data.length)].map(Number), 255]), data]);
  const header = Buffer.from('451-["echo",{"_placeholder":true,"num":0}]');
  const body = Buffer.concat([item(0, header), item(1, Buffer.from([4, 9, 8, 7]))]);
  const post = await binary.post(body, ["Content-Type: application/octet-stream"]);
  assert.deepEqual([post.status, post.text], [200, "ok"]);
  let answer;
  do answer = await binary.get();
  while (!answer.headers["content-type"].startsWith("application/octet-stream"));
  assert.ok(answer.body.includes(item(1, Buffer.from([4, 9, 8, 7]))), answer.body.toString("hex"));
  assert.ok(answer.body.includes(item(0, header)), answer.body.toString("hex"));
});

fixture("E9: a probe releases the poll", async () => {
  const session = await connected();
  const parked = await Wire.open();
  parked.write(request("GET", session.url));
  const wire = await websocket(`${W4}&sid=${session.info.sid}`);
  wire.send("2probe");
  assert.equal(await wire.text(), "3probe");
  assert.equal((await parked.response()).body.toString(), "6");
  // What is posted during the probe is delivered once; its answer may take either way.
  assert.equal((await session.post('425["echo-ack","posted"]')).text, "ok");
  const polled = (await session.get()).text;
  wire.send("5");
  const over = polled.includes("435") ? polled : await wire.text();
  assert.equal(over, '435["posted"]');
  await lives(wire);
  wire.close();
});

fixture("E10: the limit is exact", async () => {
  const max = (await polling()).info.maxPayload;
  const packet = (size) => `420["echo-ack","${"x".repeat(size - '420["echo-ack",""]'.length)}"]`;
  const session = await connected();
  assert.deepEqual((await session.post(packet(max))).text, "ok");
  assert.equal((await session.packets("430"))[0].length, max - '"echo-ack",'.length);
  const refused = await session.post(packet(max + 1));
  assert.deepEqual([refused.status, refused.text], [413, ""]);
  await session.post('421["echo-ack","lives"]');
  assert.deepEqual(await session.packets("431"), ['431["lives"]']);

  const wire = await socket();
  wire.send(packet(max));
  assert.equal((await wire.text()).length, max - '"echo-ack",'.length);
  wire.send(packet(max + 1));
  const close = await wire.frame();
  assert.deepEqual([close.opcode, close.payload.readUInt16BE(0)], [8, 1009]);
  wire.close();
});

fixture("E11: WebSocket pings and fragments", async () => {
  const wire = await socket();
  wire.send("are you there", { opcode: 9 });
  const pong = await wire.frame();
  assert.deepEqual([pong.opcode, pong.payload.toString()], [10, "are you there"]);
  wire.send('420["echo-', { fin: false }).send("", { opcode: 9 }).send('ack","ü'.slice(0, 4), { opcode: 0, fin: false });
  const u = Buffer.from("ü");
  wire.send(Buffer.concat([Buffer.from(',"'), u.subarray(0, 1)]), { opcode: 0, fin: false });
  wire.send(Buffer.concat([u.subarray(1), Buffer.from('"]')]), { opcode: 0 });
  assert.equal((await wire.frame()).opcode, 10);
  assert.equal(await wire.text(), '430["ü"]');
  wire.send(Buffer.from([3, 0xe8]), { opcode: 8 });
  const close = await wire.frame();
  assert.deepEqual([close.opcode, close.payload.readUInt16BE(0)], [8, 1000]);
  assert.equal(await wire.frame(), null);
});

fixture("E12: an offer of compression never fails", async () => {
  for (const offer of ["permessage-deflate", "permessage-deflate; client_max_window_bits", "x-webkit-deflate-frame", "permessage-deflate; server_no_context_takeover; client_no_context_takeover, permessage-deflate"]) {
    const wire = await websocket(W4, { headers: [`Sec-WebSocket-Extensions: ${offer}`] });
    assert.deepEqual([wire.handshake.status, wire.handshake.headers["sec-websocket-extensions"]], [101, undefined]);
    assert.match(await wire.text(), /^0\{/);
    wire.close();
  }
});

// --- Socket.IO -----------------------------------------------------------------------------------------------------------

fixture("S1: every form of CONNECT", async () => {
  for (const [packet, answer] of [
    ["40", /^40\{"sid":"[\w-]{20}"\}$/],
    ["40{}", /^40\{"sid":"[\w-]{20}"\}$/],
    ["40/,", /^40\{"sid":"[\w-]{20}"\}$/],
    ['40{"token":"x","n":[1]}', /^40\{"sid":/],
    ["40/chat,", /^40\/chat,\{"sid":"[\w-]{20}"\}$/],
    ["40/chat", /^40\/chat,\{"sid":/],
    ["40/chat,{}", /^40\/chat,\{"sid":/],
    ['40/admin,{"token":"secret"}', /^40\/admin,\{"sid":/],
    ["40/admin,", /^44\/admin,\{"message":"not authorized"\}$/],
    ['40/admin,{"token":"expired"}', /^44\/admin,\{"message":"token expired","data":\{"code":4001,"hint":"log in again"\}\}$/],
  ]) {
    const wire = await websocket(W4);
    const { sid } = JSON.parse((await wire.text()).slice(1));
    wire.send(packet);
    const text = await wire.text();
    assert.match(text, answer, packet);
    assert.ok(!text.includes(sid), "the session's id is a secret");
    wire.close();
  }
  for (const packet of ["40[]", "40null", '40"a"', "40{", '40{"token":1']) {
    const wire = await websocket(W4);
    await wire.text();
    wire.send(packet);
    assert.deepEqual(await wire.ends(), [], packet);
  }
});

fixture("S2: revision 4 of Socket.IO over Engine.IO 3", async () => {
  const wire = await socket(W3);
  assert.equal(wire.connect, "40", "CONNECT comes by itself, without data");
  assert.equal(wire.hello, `42["hello","${wire.info.sid}"]`);
  wire.send("40/chat,");
  assert.match(await wire.text(), /^40\/chat,?$/);
  assert.equal(await wire.text(), `42/chat,["hello","/chat#${wire.info.sid}"]`);
  wire.send("40/admin?token=secret&n=1,");
  assert.match(await wire.text(), /^40\/admin,?$/);
  await wire.text();
  wire.send('42/admin,3["whoami"]');
  const who = JSON.parse((await wire.text()).slice("43/admin,3".length))[0];
  assert.deepEqual([who.auth, who.revision], [{ token: "secret", n: "1" }, 3]);
  wire.close();
  const other = await socket(W3);
  other.send("40/admin,");
  assert.equal(await other.text(), '44/admin,"not authorized"');
  other.send("40/admin?token=expired,");
  assert.equal(await other.text(), '44/admin,{"code":4001,"hint":"log in again"}');
  await lives(other);
  other.close();
});

fixture("S3: a namespace without a slash is no namespace", async () => {
  await ends("40foo,");
  await ends("40foo");
});

fixture("S4: what closes the whole connection", async () => {
  await ends("40");
  await ends('42/chat,["echo"]');
  await ends("43/chat,1[]");
  await ends("41/chat,");
  await ends('44{"message":"x"}');
  await ends("44/chat,{}");
});

fixture("S5: ids of acknowledgements", async () => {
  for (const id of ["0", "1", "999", "4294967296", "9007199254740991"]) {
    await says(`42${id}["echo-ack",1]`, `43${id}[1]`);
  }
  await ends('42-1["echo-ack"]');
  // The reference answers these with another id than it was given.
  if (ours) for (const id of ["9007199254740992", "99999999999999999999", "9".repeat(101)]) await ends(`42${id}["echo-ack",1]`);
});

fixture("S6: names of events", async () => {
  const wire = await socket();
  for (const packet of ['42["echo-ack","no id, no answer"]', '42[1]', '42[""]', '42["message","x"]', '42["error"]', '42["__proto__",1]', '42["constructor"]', '42["toString"]']) wire.send(packet);
  await lives(wire);
  wire.close();
  for (const name of ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"]) await ends(`42["${name}"]`);
  for (const packet of ["42[]", "42{}", "42[null]", "42[{}]", '42[["echo"]]', '42["a"', '42["a"]x']) await ends(packet);
});

fixture("S7: placeholders are JSON, whatever their order and spaces", async () => {
  const wire = await socket();
  const bin = (text) => Buffer.from(text);
  const echoes = async (packet, buffers, header, back) => {
    wire.send(packet);
    for (const buffer of buffers) wire.send(buffer);
    assert.equal(await wire.text(), header, packet);
    for (const buffer of back) {
      const frame = await wire.frame();
      assert.deepEqual([frame.opcode, frame.payload.toString()], [2, buffer.toString()]);
    }
  };
  const one = '461-1[{"_placeholder":true,"num":0}]';
  await echoes('451-1["echo-ack",{"num":0,"_placeholder":true}]', [bin("a")], one, [bin("a")]);
  await echoes('451-1[ "echo-ack" , { "_placeholder" : true , "num" : 0 } ]', [bin("b")], one, [bin("b")]);
  const two = '462-1[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]';
  const swapped = '452-1["echo-ack",{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]';
  await echoes(swapped, [bin("a"), bin("b")], two, [bin("b"), bin("a")]);
  const twice = '451-1["echo-ack",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]';
  await echoes(twice, [bin("c")], two, [bin("c"), bin("c")]);
  await echoes('451-1["echo-ack",{"a":[{"_placeholder":true,"num":0}]}]', [bin("")], '461-1[{"a":[{"_placeholder":true,"num":0}]}]', [bin("")]);
  await echoes('451-1["echo-ack","unused"]', [bin("d")], '431["unused"]', []);
  await lives(wire);
  wire.close();
  await ends('450-["echo"]');
  await ends('451-["echo",{"_placeholder":true,"num":0}]', '42["echo"]');
  await ends('451-["echo",{"_placeholder":true,"num":1}]', bin("x"));
  await ends('451-["echo",{"_placeholder":true,"num":"splice"}]', bin("x"));
  await ends('4511-["echo"]');
  await ends(bin("x"));
});

fixture("S8: numbers stay what they were", async () => {
  await says('420["echo-ack",1.5,-0.25,0,-1,123456789012]', "430[1.5,-0.25,0,-1,123456789012]");
  // A float with nothing behind the point is a number like the others, however it is written back.
  const wire = await socket();
  wire.send('420["echo-ack",1.0,1e3,-2.0]');
  assert.deepEqual(JSON.parse((await wire.text()).slice(3)), [1, 1000, -2]);
  wire.close();
  // Beyond 2^53 JavaScript rounds; a server of integers must not.
  if (ours) await says('420["echo-ack",9007199254740993,-9007199254740993,18446744073709551615]', "430[9007199254740993,-9007199254740993,18446744073709551615]");
});

fixture("S11: late, unknown and empty acknowledgements are ignored", async () => {
  const wire = await socket();
  for (const packet of ["430[]", "43999[null]", '4312["x",null]', "430[]"]) wire.send(packet);
  await lives(wire);
  wire.send('428["ask","q"]');
  const question = await wire.text();
  const [, id] = /^42(\d+)\["question","q"\]$/.exec(question);
  wire.send(`43${id}[null]`);
  assert.equal(await wire.text(), "438[null]");
  wire.send(`43${id}["again"]`);
  await lives(wire);
  wire.close();
});

fixture("S12: CONNECT comes before any event", async () => {
  const session = await polling();
  await session.post(`40${RS}40/chat,`);
  const packets = await session.packets("42/chat");
  const at = (start) => packets.findIndex((packet) => packet.startsWith(start));
  assert.ok(at("40{") < at('42["hello"') && at("40/chat,{") < at("42/chat,"), packets.join(" "));
});
