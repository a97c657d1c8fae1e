// A client made of bytes: raw TCP, just enough HTTP and WebSocket to send what real libraries would never send.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import net from "node:net";

const { hostname: HOST, port: PORT } = new URL(process.env.URL);
const PATIENCE = 10_000;

/** One TCP connection and what came out of it. */
export class Wire {
  static async open() {
    const socket = net.connect(Number(PORT), HOST);
    await new Promise((done, fail) => socket.once("connect", done).once("error", fail));
    return new Wire(socket);
  }

  constructor(socket) {
    this.socket = socket;
    this.buffer = Buffer.alloc(0);
    this.ended = false;
    this.wake = () => {};
    socket.setNoDelay(true);
    socket.on("data", (data) => ((this.buffer = Buffer.concat([this.buffer, data])), this.wake()));
    const over = () => ((this.ended = true), this.wake());
    socket.on("end", over).on("close", over).on("error", over);
  }

  write(...parts) {
    this.socket.write(Buffer.concat(parts.map((part) => Buffer.from(part))));
    return this;
  }

  close() {
    this.socket.destroy();
  }

  /** Waits until `take(buffer)` returns something, or the connection ended (then null). */
  async until(take, what) {
    const limit = Date.now() + PATIENCE;
    for (;;) {
      const taken = take(this.buffer);
      if (taken) {
        this.buffer = this.buffer.subarray(taken.used);
        return taken.value;
      }
      if (this.ended) return null;
      const left = limit - Date.now();
      assert.ok(left > 0, `waited ${PATIENCE} ms for ${what}; got ${JSON.stringify(this.buffer.toString("latin1"))}`);
      await new Promise((done) => {
        const timer = setTimeout(done, left);
        this.wake = () => (clearTimeout(timer), done());
      });
    }
  }

  /** The next HTTP response: status, headers (lower case), body. */
  async response() {
    return this.until((buffer) => {
      const end = buffer.indexOf("\r\n\r\n");
      if (end < 0) return;
      const [line, ...rest] = buffer.subarray(0, end).toString("latin1").split("\r\n");
      const headers = Object.fromEntries(rest.map((h) => [h.slice(0, h.indexOf(":")).toLowerCase(), h.slice(h.indexOf(":") + 1).trim()]));
      const status = Number(line.split(" ")[1]);
      const from = end + 4;
      if (status === 101) return { used: from, value: { status, headers, body: Buffer.alloc(0) } };
      if (headers["transfer-encoding"] === "chunked") return unchunk(buffer, from, { status, headers });
      const length = Number(headers["content-length"] ?? 0);
      if (buffer.length < from + length) return;
      return { used: from + length, value: { status, headers, body: buffer.subarray(from, from + length) } };
    }, "an HTTP response");
  }

  /** The next WebSocket frame: opcode and payload; null when TCP ended without one. */
  async frame() {
    return this.until((buffer) => {
      if (buffer.length < 2) return;
      let length = buffer[1] & 0x7f;
      let from = 2;
      if (length === 126) {
        if (buffer.length < 4) return;
        length = buffer.readUInt16BE(2);
        from = 4;
      } else if (length === 127) {
        if (buffer.length < 10) return;
        length = Number(buffer.readBigUInt64BE(2));
        from = 10;
      }
      assert.equal(buffer[1] & 0x80, 0, "a server never masks");
      if (buffer.length < from + length) return;
      return { used: from + length, value: { opcode: buffer[0] & 0x0f, fin: buffer[0] >> 7, payload: buffer.subarray(from, from + length) } };
    }, "a frame");
  }

  /** The next text frame, as a string. Engine.IO 4 pings are answered. */
  async text() {
    for (;;) {
      const frame = await this.frame();
      assert.ok(frame, "the connection ended instead of a text frame");
      assert.equal(frame.opcode, 1, `opcode ${frame.opcode} instead of text: ${frame.payload.toString("latin1")}`);
      if (frame.payload.toString() !== "2") return frame.payload.toString();
      this.send("3");
    }
  }

  /** Sends one masked frame. */
  send(data, { opcode = typeof data === "string" ? 1 : 2, fin = true } = {}) {
    const payload = Buffer.from(data);
    const mask = randomBytes(4);
    const size =
      payload.length < 126
        ? Buffer.from([0x80 | payload.length])
        : payload.length < 65536
          ? Buffer.from([0xfe, payload.length >> 8, payload.length & 255])
          : Buffer.concat([Buffer.from([0xff, 0, 0, 0, 0]), Buffer.from(Uint32Array.of(payload.length).buffer).reverse()]);
    return this.write(Buffer.from([(fin ? 0x80 : 0) | opcode]), size, mask, payload.map((byte, i) => byte ^ mask[i % 4]));
  }

  /** Whatever comes, the server ends this connection; text frames on the way are returned. */
  async ends() {
    const texts = [];
    for (let frame; (frame = await this.frame()); ) {
      if (frame.opcode === 1) texts.push(frame.payload.toString());
      if (frame.opcode === 8) this.send(frame.payload.subarray(0, 2), { opcode: 8 });
    }
    return texts;
  }
}

function unchunk(buffer, from, head) {
  const parts = [];
  for (let at = from; ; ) {
    const end = buffer.indexOf("\r\n", at);
    if (end < 0) return;
    const size = parseInt(buffer.subarray(at, end).toString(), 16);
    if (buffer.length < end + 2 + size + 2) return;
    parts.push(buffer.subarray(end + 2, end + 2 + size));
    at = end + 2 + size + 2;
    if (size === 0) return { used: at, value: { ...head, body: Buffer.concat(parts) } };
  }
}

/** The bytes of a request. */
export function request(method, target, { headers = [], body } = {}) {
  const all = [`Host: ${HOST}:${PORT}`, ...headers];
  if (body !== undefined) all.push(`Content-Length: ${Buffer.byteLength(body)}`);
  return Buffer.concat([Buffer.from(`${method} ${target} HTTP/1.1\r\n${all.join("\r\n")}\r\n\r\n`), Buffer.from(body ?? "")]);
}

/** One request on a connection of its own. */
export async function http(method, target, options) {
  const wire = await Wire.open();
  const response = await wire.write(request(method, target, options)).response();
  wire.close();
  return response && { ...response, text: response.body.toString() };
}

export const KEY = "dGhlIHNhbXBsZSBub25jZQ==";

/** Upgrades a connection to WebSocket; returns the wire behind the 101. */
export async function websocket(target, { headers = [], wire } = {}) {
  const on = wire ?? (await Wire.open());
  const upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", `Sec-WebSocket-Key: ${KEY}`];
  on.write(request("GET", target, { headers: [...upgrade, ...headers] }));
  const response = await on.response();
  if (response?.status === 101) {
    const accept = createHash("sha1").update(`${KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
    assert.equal(response.headers["sec-websocket-accept"], accept);
  }
  on.handshake = response;
  return on;
}
