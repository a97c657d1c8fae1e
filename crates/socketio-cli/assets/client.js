/**
 * A small Socket.IO client: Socket.IO protocol 5 over Engine.IO 4, by HTTP long-polling and WebSocket, in one file of
 * plain modern JavaScript without dependencies. It runs in browsers as it is, and in Node 20 or newer (where there is no
 * global `WebSocket`, hand one over: `io(url, { WebSocket })`).
 *
 *     import { io } from "./client.js";
 *
 *     const socket = io("/chat", { auth: { name: "Ann" } });
 *     socket.on("said", (from, text) => console.log(from, text));
 *     const { id } = await socket.timeout(5000).emitWithAck("say", "hello");
 *
 * Names and meanings are those of the `socket.io-client` package, so code can move between the two. What is different:
 *
 * - the back-off uses full jitter: after an outage clients come back spread over the whole delay, not all at once;
 * - the offline buffer has a cap, and a packet that the server would refuse for its size is refused here: the ack gets
 *   the error, or the socket's `emit_error` event where there is no ack;
 * - a failed WebSocket probe always leaves a working polling session behind;
 * - leaving a namespace before it has answered is finished when the answer comes;
 * - binary data arrives as `ArrayBuffer`, in Node too; `retries`, WebTransport and other parsers are left out.
 *
 * Reading order: packets (the Socket.IO wire), links (one physical way to move Engine.IO packets), the engine (one
 * Engine.IO session), the manager (reconnection, namespaces on one engine), the socket (what the application holds).
 *
 * @module
 */

/** The revision of the Socket.IO protocol. */
export const protocol = 5;

/**
 * @typedef {object} Options
 * @property {string} [path="/socket.io/"] where the server listens
 * @property {("polling"|"websocket")[]} [transports=["polling","websocket"]] in the order in which they are tried
 * @property {boolean} [upgrade=true] whether a polling session moves to WebSocket
 * @property {boolean} [tryAllTransports=false] whether the next transport is tried when the first one cannot connect
 * @property {number} [upgradeTimeout=10000] ms until an unanswered WebSocket probe is given up
 * @property {number} [pollInterval=0] short polling: ms between polls that brought nothing; the server is asked not to
 *   hold them. 0 is long-polling
 * @property {Record<string, string>} [query] further query parameters
 * @property {Record<string, string>} [extraHeaders] headers for polling requests (browsers send none with WebSockets)
 * @property {boolean} [withCredentials=false] whether cookies go to other origins too
 * @property {typeof globalThis.fetch} [fetch] used for polling
 * @property {typeof globalThis.WebSocket} [WebSocket] used for WebSocket
 * @property {boolean} [autoConnect=true] whether `io()` and `manager.socket()` connect at once
 * @property {number|false} [timeout=20000] ms until an attempt to connect fails
 * @property {boolean} [reconnection=true]
 * @property {number} [reconnectionAttempts=Infinity]
 * @property {number} [reconnectionDelay=1000] ms; the upper bound of the first random delay, doubled per attempt
 * @property {number} [reconnectionDelayMax=5000] ms; the bound never grows beyond this
 * @property {number} [sendBufferPackets=1000] how many emits wait for the connection
 * @property {number} [sendBufferBytes=16777216] how many bytes wait for the connection, about
 * @property {number} [maxAttachments=10] how many binary attachments an incoming packet may have
 * @property {boolean} [forceNew=false] a manager of its own instead of the shared one. Also: `multiplex: false`
 * @property {boolean} [multiplex=true]
 * @property {Auth} [auth] sent whenever the namespace is joined
 * @property {number} [ackTimeout] ms; the default of `socket.timeout()`
 */

/**
 * A value, a function that returns one or a promise of one, or a function that takes a callback. Functions are asked
 * again at every reconnection.
 * @typedef {object | (() => object | Promise<object>) | ((done: (auth: object) => void) => void)} Auth
 */

// ---------------------------------------------------------------------------------------------------------- events

/** Calls code of the application: its exception is reported and disturbs nothing else. */
function guarded(fn, self, args) {
  try {
    fn.apply(self, args);
  } catch (error) {
    if (typeof reportError === "function") reportError(error);
    else queueMicrotask(() => { throw error; });
  }
}

/** The usual `on`, `once`, `off`. */
export class Emitter {
  /** @type {Map<unknown, {fn: Function, once: boolean}[]>} */
  #listeners = new Map();

  /** Calls `fn` for every `event`. */
  on(event, fn) {
    return this.#add(event, fn, false);
  }

  /** Calls `fn` for the next `event` only. */
  once(event, fn) {
    return this.#add(event, fn, true);
  }

  /** Removes one listener, all of an event, or all. */
  off(event, fn) {
    if (event === undefined) this.#listeners.clear();
    else if (fn === undefined) this.#listeners.delete(event);
    else this.#listeners.set(event, (this.#listeners.get(event) ?? []).filter((entry) => entry.fn !== fn));
    return this;
  }

  /** The listeners of `event`. */
  listeners(event) {
    return (this.#listeners.get(event) ?? []).map((entry) => entry.fn);
  }

  #add(event, fn, once) {
    this.#listeners.set(event, [...(this.#listeners.get(event) ?? []), { fn, once }]);
    return this;
  }

  /** @protected */
  _fire(event, ...args) {
    const entries = this.#listeners.get(event);
    if (!entries?.length) return false;
    if (entries.some((entry) => entry.once)) {
      this.#listeners.set(event, entries.filter((entry) => !entry.once));
    }
    for (const { fn } of entries) guarded(fn, this, args);
    return true;
  }
}

// --------------------------------------------------------------------------------------------------------- packets

const CONNECT = 0, DISCONNECT = 1, EVENT = 2, ACK = 3, CONNECT_ERROR = 4, BINARY = 3; // EVENT + BINARY = BINARY_EVENT
const RESERVED = new Set(["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"]);
const MAX_DEPTH = 128;

const isBlob = (value) => typeof Blob === "function" && value instanceof Blob;
const isBinary = (value) => value instanceof ArrayBuffer || ArrayBuffer.isView(value) || isBlob(value);
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** Replaces binary values by placeholders. What holds none comes back as it is, uncopied. */
function strip(value, found, depth = 0) {
  if (typeof value !== "object" || value === null) return value;
  if (depth > MAX_DEPTH) throw new TypeError(`cannot send a value nested deeper than ${MAX_DEPTH} levels`);
  if (isBinary(value)) return { _placeholder: true, num: found.push(value) - 1 };
  if (typeof value.toJSON === "function") return strip(value.toJSON(), found, depth + 1);
  const before = found.length;
  const entries = Object.entries(value).map(([key, item]) => [key, strip(item, found, depth + 1)]);
  if (found.length === before) return value;
  return Array.isArray(value) ? entries.map(([, item]) => item) : Object.fromEntries(entries);
}

/** Puts the attachments back in the place of their placeholders. */
function restore(value, attachments, depth = 0) {
  if (typeof value !== "object" || value === null) return value;
  if (depth > MAX_DEPTH) throw new Error("packet nested too deep");
  if (value._placeholder === true) {
    if (!Number.isInteger(value.num) || !(value.num in attachments)) throw new Error("placeholder without attachment");
    return attachments[value.num];
  }
  for (const key of Object.keys(value)) value[key] = restore(value[key], attachments, depth + 1);
  return value;
}

/**
 * Encodes one packet.
 * @returns {(string|ArrayBuffer|ArrayBufferView|Blob)[]} the header and its attachments
 */
export function encodePacket({ type, nsp = "/", id, data }) {
  const attachments = [];
  if (type === EVENT || type === ACK) data = strip(data, attachments);
  const head = attachments.length ? `${type + BINARY}${attachments.length}-` : `${type}`;
  const text = `${head}${nsp === "/" ? "" : `${nsp},`}${id ?? ""}${data === undefined ? "" : JSON.stringify(data)}`;
  return [text, ...attachments];
}

/** Decodes packets from Engine.IO messages; throws where the server left the protocol. */
export class Decoder {
  #waiting = null;

  constructor(maxAttachments = 10) {
    this.maxAttachments = maxAttachments;
  }

  /**
   * Takes one message, gives the packet that is complete with it.
   * @param {string|ArrayBuffer} message
   */
  add(message) {
    if (typeof message === "string") {
      if (this.#waiting) throw new Error("text while attachments are awaited");
      const packet = this.#header(message);
      if (!packet.missing) return packet;
      this.#waiting = packet;
      return null;
    }
    const packet = this.#waiting;
    if (!packet) throw new Error("attachment without packet");
    if (packet.attachments.push(message) < packet.missing) return null;
    this.#waiting = null;
    packet.data = restore(packet.data, packet.attachments);
    return packet;
  }

  #header(text) {
    const start = /^(?:([0-4])|([56])(\d{1,5})-)/.exec(text);
    if (!start) throw new Error("unknown packet type");
    const type = Number(start[1] ?? start[2] - BINARY);
    const missing = Number(start[3] ?? 0);
    if (start[2] && (missing < 1 || missing > this.maxAttachments)) throw new Error("illegal number of attachments");
    let at = start[0].length;
    let nsp = "/";
    if (text[at] === "/") {
      const comma = text.indexOf(",", at);
      const end = comma < 0 ? text.length : comma;
      nsp = text.slice(at, end);
      at = end + 1;
    }
    const digits = /^\d{1,15}/.exec(text.slice(at, at + 15))?.[0];
    const body = text.slice(at + (digits?.length ?? 0));
    const data = body === "" ? undefined : JSON.parse(body);
    const fits = {
      [CONNECT]: () => data === undefined || isObject(data),
      [DISCONNECT]: () => data === undefined,
      [EVENT]: () => Array.isArray(data)
        && (typeof data[0] === "number" || (typeof data[0] === "string" && !RESERVED.has(data[0]))),
      [ACK]: () => Array.isArray(data) && digits !== undefined,
      [CONNECT_ERROR]: () => typeof data === "string" || isObject(data),
    }[type];
    if (!fits()) throw new Error("invalid payload");
    return { type, nsp, id: digits === undefined ? undefined : Number(digits), data, missing, attachments: [] };
  }
}

// ----------------------------------------------------------------------------------------------------------- links
//
// A link moves encoded Engine.IO packets and knows no session. It tells its owner: `open()`, `packet(p)`, `ready()` (more
// may be sent) and `end(error | null)`, the latter at most once.

const EMPTY_POLL_PACE = 100; // ms between the starts of polls that bring nothing
const SEPARATOR = "\x1e";
const utf8 = new TextEncoder();
const byteLength = (text) => utf8.encode(text).length;

function toBase64(bytes) {
  if (bytes.toBase64) return bytes.toBase64();
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text).buffer;
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0)).buffer;
}

/** What went wrong on the way to the server. */
function transportError(message, details) {
  return Object.assign(new Error(message), { type: "TransportError" }, details);
}

/** HTTP long-polling: at most one GET and one POST at a time. */
class PollingLink {
  name = "polling";
  #dead = false;
  #polling = false;
  #posting = null; // promise of the POST under way
  #paused = null; // called when nothing is under way any more
  #abort = new AbortController();

  constructor(url, options, owner) {
    Object.assign(this, { url, options, owner });
  }

  get ready() {
    return !this.#dead && !this.#posting && !this.#paused;
  }

  get idle() {
    return this.ready;
  }

  encode(frame) {
    return typeof frame === "string" ? frame : `b${toBase64(frame)}`;
  }

  size(frame) {
    return typeof frame === "string" ? byteLength(frame) : 1 + 4 * Math.ceil(frame.byteLength / 3);
  }

  open() {
    this.#poll();
  }

  /** Sends packets in one request. Never rejects. */
  async send(frames, keepalive = false) {
    while (this.#posting) await this.#posting;
    this.#posting = this.#request("POST", frames.join(SEPARATOR), keepalive).then(
      () => { this.#posting = null; },
      (error) => { this.#posting = null; this.#end(error); },
    );
    await this.#posting;
    this.#settle();
    if (this.ready) this.owner.ready();
  }

  /** Resolves when no request is under way; none is started until `resume`. */
  pause() {
    return new Promise((done) => {
      this.#paused = done;
      this.#settle();
    });
  }

  resume() {
    this.#paused = null;
    this.#poll();
  }

  /** Ends the session on the server. */
  async close() {
    const known = !this.#dead && this.url.searchParams.has("sid");
    this.#dead = true;
    // The request may outlive the page. The poll is left alone until the server has seen why it ends.
    if (known) await this.send(["1"], true);
    this.#abort.abort();
  }

  /** Stops without a word: the session goes on elsewhere, or is gone. */
  drop() {
    this.#dead = true;
    this.#abort.abort();
  }

  async #poll() {
    if (this.#dead || this.#polling || this.#paused) return;
    this.#polling = true;
    const started = performance.now();
    let empty = true;
    let body;
    try {
      body = await this.#request("GET");
    } catch (error) {
      return this.#end(error);
    }
    for (const packet of body.split(SEPARATOR)) {
      if (this.#dead) return;
      empty &&= packet === "6";
      this.owner.packet(packet);
    }
    // A server that does not hold polls, or releases them for a probe, must not make us spin.
    const pause = !empty ? 0 : this.options.pollInterval || Math.max(0, started + EMPTY_POLL_PACE - performance.now());
    this.#polling = false;
    this.#settle();
    if (pause) setTimeout(() => this.#poll(), pause);
    else this.#poll();
  }

  async #request(method, body, keepalive) {
    const { fetch = globalThis.fetch, withCredentials, extraHeaders } = this.options;
    let response, text;
    try {
      response = await fetch(this.url, {
        method,
        body,
        keepalive,
        cache: "no-store",
        headers: extraHeaders,
        credentials: withCredentials ? "include" : "same-origin",
        signal: this.#abort.signal,
      });
      text = await response.text();
    } catch (cause) {
      throw transportError(`polling error: ${cause?.cause?.message ?? cause?.message ?? cause}`, { cause });
    }
    if (response.ok) return text;
    let reason = {};
    try { reason = JSON.parse(text); } catch { /* the status has to say it */ }
    const { status } = response;
    throw transportError(`polling error: ${reason?.message ?? `HTTP status ${status}`}`, { status, context: reason });
  }

  #settle() {
    if (this.#paused && !this.#polling && !this.#posting) this.#paused();
  }

  #end(error) {
    if (this.#dead) return;
    this.drop();
    this.owner.end(error);
  }
}

/** One WebSocket. */
class WebSocketLink {
  name = "websocket";
  #socket = null;
  #done = false;
  #failed = null;

  constructor(url, options, owner) {
    Object.assign(this, { url, options, owner });
  }

  get ready() {
    return !this.#done && this.#socket?.readyState === 1;
  }

  get idle() {
    return this.ready && this.#socket.bufferedAmount === 0;
  }

  encode(frame) {
    return frame;
  }

  size(frame) {
    return typeof frame === "string" ? byteLength(frame) : frame.byteLength;
  }

  open() {
    const { WebSocket = globalThis.WebSocket } = this.options;
    const url = new URL(this.url);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    try {
      this.#socket = new WebSocket(url.href);
    } catch (error) {
      this.#failed = error;
      queueMicrotask(() => this.#end());
      return;
    }
    let opened = false;
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onopen = () => { opened = true; if (!this.#done) this.owner.open?.(); };
    this.#socket.onmessage = ({ data }) => { if (!this.#done) this.owner.packet(data); };
    this.#socket.onerror = (event) => { this.#failed = event; };
    this.#socket.onclose = (event) => {
      if (!opened) this.#failed ??= event;
      this.#end(event);
    };
  }

  async send(frames) {
    for (const frame of frames) if (this.ready) this.#socket.send(frame);
  }

  async close() {
    this.#done = true;
    this.#socket?.close();
  }

  drop() {
    this.close();
  }

  #end(event) {
    if (this.#done) return;
    this.#done = true;
    const details = { cause: this.#failed, code: event?.code, reason: event?.reason };
    this.owner.end(this.#failed ? transportError("websocket error", details) : null);
  }
}

const LINKS = { polling: PollingLink, websocket: WebSocketLink };

// ---------------------------------------------------------------------------------------------------------- engine

/**
 * One Engine.IO session. Fires `open`, `message(string | ArrayBuffer)`, `ping`, `upgrade(name)`, `upgradeError(error)`
 * and, once, `close(reason, error)`.
 */
export class Engine extends Emitter {
  /** The session id. Whoever knows it may read and write this session: never show it. */
  sid = undefined;
  /** The largest message or polling body the server takes, in bytes. */
  maxPayload = Infinity;
  #state = "opening";
  #link = null;
  #probe = null;
  #switching = false; // polling is being paused, or is paused, for the upgrade
  #queue = []; // of groups: packets that are sent together or not at all
  #heartbeat = null;
  #patience = 0;
  #deadline = Infinity;

  /**
   * @param {URL} url the server's origin and path
   * @param {Options} options
   */
  constructor(url, options) {
    super();
    this.url = url;
    this.options = options;
    const { WebSocket = globalThis.WebSocket } = options;
    const names = options.transports.filter((name) => name in LINKS && (name !== "websocket" || WebSocket));
    queueMicrotask(() => this.#open(names));
  }

  /** The name of the transport in use. */
  get transport() {
    return this.#state === "open" ? this.#link.name : undefined;
  }

  /** Whether a packet would leave at once. */
  get idle() {
    return this.#state === "open" && this.#queue.length === 0 && this.#link.idle;
  }

  /**
   * Whether the server has been silent too long. Timers are late in sleeping tabs: whoever is about to send asks first.
   */
  get expired() {
    if (Date.now() <= this.#deadline) return false;
    queueMicrotask(() => this.#finish("ping timeout"));
    return true;
  }

  /**
   * Queues messages that belong together. Nothing comes between them; if one of them cannot be sent none is, and
   * `failed` is called.
   * @param {(string|ArrayBuffer|ArrayBufferView|Blob)[]} messages
   * @param {(error: Error) => void} [failed]
   */
  send(messages, failed = () => {}) {
    if (this.#state === "closed") return;
    const group = { frames: [], next: 0, failed, reading: null };
    group.frames = messages.map((message) => {
      if (typeof message === "string") return `4${message}`;
      if (message instanceof ArrayBuffer) return new Uint8Array(message);
      if (ArrayBuffer.isView(message)) return new Uint8Array(message.buffer, message.byteOffset, message.byteLength);
      return message;
    });
    if (group.frames.some(isBlob)) this.#read(group);
    this.#queue.push(group);
    this.#flush();
  }

  /** Sends what is queued, then ends the session. Fires `close` at once. */
  close(reason = "forced close", error = undefined) {
    if (this.#state === "closed") return;
    const link = this.#link;
    const drain = this.#state === "open";
    this.#finish(reason, error, false);
    if (drain) this.#drain(link, this.#queue);
    else link?.drop();
  }

  async #drain(link, queue) {
    while (queue.length) {
      await queue[0].reading;
      const batch = this.#take(link, queue);
      if (batch.length) await link.send(batch);
    }
    link.close();
  }

  #open(names, error) {
    if (this.#state === "closed") return;
    const [name, ...others] = names;
    if (!name) return this.#finish("transport error", error ?? new Error("No transports available"));
    this.#link = this.#create(name, {
      packet: (packet) => this.#packet(packet),
      ready: () => this.#flush(),
      end: (failure) => {
        if (this.#state === "opening" && this.options.tryAllTransports) this.#open(others, failure);
        else this.#finish(failure ? "transport error" : "transport close", failure);
      },
    });
    this.#link.open();
  }

  #create(name, owner) {
    const url = new URL(this.url);
    const { query, pollInterval } = this.options;
    const params = { ...query, EIO: 4, transport: name };
    if (this.sid) params.sid = this.sid;
    if (name === "polling" && pollInterval) params.hold = 0;
    for (const [key, value] of Object.entries(params)) url.searchParams.set(key, value);
    return new LINKS[name](url, this.options, owner);
  }

  #packet(packet) {
    if (this.#state === "closed") return;
    const type = typeof packet === "string" ? packet[0] : "4";
    try {
      if (this.#state === "opening") {
        if (type !== "0") throw new Error("the server did not begin with an open packet");
        return this.#handshake(JSON.parse(packet.slice(1)));
      }
      switch (type) {
        case "1": return this.#finish("transport close");
        case "2":
          this.#beat();
          this.#queue.unshift({ frames: ["3"], next: 0, failed: () => {} });
          this.#flush();
          return this._fire("ping");
        case "4": return this._fire("message", typeof packet === "string" ? packet.slice(1) : packet);
        case "b": return this._fire("message", fromBase64(packet.slice(1)));
        case "0": case "3": case "5": case "6": return;
        default: throw new Error("unknown packet");
      }
    } catch (error) {
      this.#finish("parse error", error);
    }
  }

  #handshake({ sid, upgrades, pingInterval, pingTimeout, maxPayload }) {
    if (typeof sid !== "string" || !(pingInterval > 0) || !(pingTimeout > 0)) throw new Error("illegal handshake");
    this.sid = sid;
    this.maxPayload = maxPayload > 0 ? maxPayload : Infinity;
    this.#patience = pingInterval + pingTimeout;
    this.#link.url.searchParams.set("sid", sid);
    this.#state = "open";
    this.#beat();
    this._fire("open");
    const { upgrade, transports, WebSocket = globalThis.WebSocket } = this.options;
    const wanted = upgrade && WebSocket && transports.includes("websocket") && upgrades?.includes?.("websocket");
    if (wanted && this.#state === "open" && this.#link.name === "polling") this.#upgrade();
    this.#flush();
  }

  #beat() {
    clearTimeout(this.#heartbeat);
    this.#deadline = Date.now() + this.#patience;
    this.#heartbeat = setTimeout(() => this.#finish("ping timeout"), this.#patience);
  }

  /** Moves the session to a WebSocket. Until the last step, whatever fails leaves polling as it was. */
  #upgrade() {
    const polling = this.#link;
    let over = false;
    const fail = (error) => {
      if (over) return;
      over = true;
      clearTimeout(timer);
      this.#probe = null;
      link.close();
      if (this.#switching) {
        this.#switching = false;
        polling.resume();
        this.#flush();
      }
      this._fire("upgradeError", error);
    };
    const link = this.#create("websocket", {
      open: () => link.send(["2probe"]),
      ready: () => {},
      end: (error) => fail(error ?? transportError("the server closed the probe")),
      packet: async (packet) => {
        if (packet !== "3probe" || this.#switching) return fail(transportError("unexpected answer to the probe"));
        this.#switching = true;
        await polling.pause();
        if (over) return;
        over = true;
        clearTimeout(timer);
        this.#probe = null;
        polling.drop();
        link.owner = polling.owner;
        this.#link = link;
        this.#switching = false;
        link.send(["5"]);
        this._fire("upgrade", link.name);
        this.#flush();
      },
    });
    const timer = setTimeout(() => fail(transportError("the probe was not answered")), this.options.upgradeTimeout);
    this.#probe = { fail };
    link.open();
  }

  async #read(group) {
    const reads = group.frames.map(async (frame) => (isBlob(frame) ? new Uint8Array(await frame.arrayBuffer()) : frame));
    const all = Promise.all(reads);
    group.reading = all.then(
      (frames) => { group.frames = frames; },
      (error) => { group.frames = []; group.failed(error); },
    );
    await group.reading;
    group.reading = null;
    this.#flush();
  }

  #flush() {
    if (this.#state !== "open" || !this.#link.ready) return; // not ready also: paused for the upgrade
    const batch = this.#take(this.#link, this.#queue);
    if (batch.length) this.#link.send(batch);
  }

  /** Takes as many packets as fit: into one polling body, or all there are. */
  #take(link, queue) {
    const limit = link.name === "polling" ? this.maxPayload : Infinity;
    const batch = [];
    let bytes = 0;
    let taken = 0;
    fill: for (const group of queue) {
      if (group.reading) break;
      if (group.next === 0) {
        const largest = Math.max(0, ...group.frames.map((frame) => link.size(frame)));
        if (largest > this.maxPayload) {
          group.frames = [];
          group.failed(new RangeError(`message of ${largest} bytes is over the server's limit of ${this.maxPayload}`));
        }
      }
      for (; group.next < group.frames.length; group.next++) {
        const frame = group.frames[group.next];
        const size = limit === Infinity ? 0 : link.size(frame) + 1; // with the separator
        if (batch.length && bytes + size - 1 > limit) break fill;
        batch.push(link.encode(frame));
        bytes += size;
      }
      taken++;
    }
    queue.splice(0, taken);
    return batch;
  }

  #finish(reason, error, drop = true) {
    if (this.#state === "closed") return;
    this.#state = "closed";
    clearTimeout(this.#heartbeat);
    this.#probe?.fail(new Error("the session was closed"));
    if (drop) {
      // A clear end tells the server at once; where the link itself broke there is nobody to tell.
      if (reason === "parse error" || reason === "ping timeout") this.#link?.close();
      else this.#link?.drop();
    }
    this._fire("close", reason, error);
  }
}

// --------------------------------------------------------------------------------------------------------- manager

const DEFAULTS = {
  path: "/socket.io/",
  transports: ["polling", "websocket"],
  upgrade: true,
  upgradeTimeout: 10_000,
  timeout: 20_000,
  autoConnect: true,
  reconnection: true,
  reconnectionAttempts: Infinity,
  reconnectionDelay: 1000,
  reconnectionDelayMax: 5000,
  sendBufferPackets: 1000,
  sendBufferBytes: 16 << 20,
  maxAttachments: 10,
};

/** How long to wait before attempt number `attempt` (from 0): anything up to the doubled, capped delay. */
export function backoff(attempt, { reconnectionDelay, reconnectionDelayMax }, random = Math.random) {
  return random() * Math.min(reconnectionDelayMax, reconnectionDelay * 2 ** attempt);
}

const inUse = new Set();
if (typeof window === "object") {
  for (const event of ["online", "offline"]) {
    addEventListener(event, () => { for (const manager of inUse) manager._network(event === "online"); });
  }
  // A page that goes says so: between two short polls the server would notice only by the missing pong.
  addEventListener("pagehide", ({ persisted }) => { if (!persisted) for (const manager of inUse) manager._leave(); });
}

/**
 * Keeps one connection to a server alive and shares it among the sockets of several namespaces.
 *
 * Fires `open`, `close(reason, error)`, `error(error)`, `ping`, `upgrade(name)`, `upgradeError(error)`,
 * `reconnect_scheduled(attempt, ms)`, `reconnect_attempt(attempt)`, `reconnect(attempt)`, `reconnect_error(error)` and
 * `reconnect_failed`.
 */
export class Manager extends Emitter {
  #sockets = new Map();
  #decoder;
  #state = "closed";
  #wanted = false; // whether a lost connection is to be made again
  #attempts = 0;
  #retry = null;

  /**
   * @param {string|URL} url the server; only its origin counts
   * @param {Options} [options]
   */
  constructor(url, options = {}) {
    super();
    this.options = { ...DEFAULTS, ...options };
    this.url = new URL(`${this.options.path.replace(/\/+$/, "")}/`, url);
    this.engine = null;
  }

  /** `polling`, `websocket`, or undefined while there is no connection. */
  get transport() {
    return this.engine?.transport;
  }

  /** The socket of a namespace, made if there is none. */
  socket(nsp, options = {}) {
    let socket = this.#sockets.get(nsp);
    if (!socket) {
      socket = new Socket(this, nsp, { ...this.options, ...options });
      this.#sockets.set(nsp, socket);
    }
    if (this.options.autoConnect) socket.connect();
    return socket;
  }

  /** Whether a socket of this namespace exists and wants to be connected. */
  serves(nsp) {
    return this.#sockets.get(nsp)?.active ?? false;
  }

  /** Connects, if there is no connection yet and none is on its way. */
  open() {
    this.#wanted = this.options.reconnection;
    inUse.add(this);
    if (this.#state === "closed" && !this.#retry) this.#dial();
    return this;
  }

  /** Closes the connection and stops reconnecting. */
  close() {
    this.#wanted = false;
    inUse.delete(this);
    this.#cancel();
    this.engine?.close();
    return this;
  }

  #dial() {
    this.#state = "opening";
    this.#decoder = new Decoder(this.options.maxAttachments);
    const engine = (this.engine = new Engine(this.url, this.options));
    const { timeout } = this.options;
    const timer = timeout && setTimeout(() => engine.close("timeout"), timeout);
    engine.on("open", () => {
      clearTimeout(timer);
      this.#state = "open";
      const attempts = this.#attempts;
      this.#attempts = 0;
      this._fire("open");
      if (attempts) this._fire("reconnect", attempts);
      for (const socket of this.#sockets.values()) socket._opened();
    });
    engine.on("message", (message) => this.#message(engine, message));
    engine.on("ping", () => this._fire("ping"));
    engine.on("upgrade", (name) => this._fire("upgrade", name));
    engine.on("upgradeError", (error) => this._fire("upgradeError", error));
    engine.on("close", (reason, error) => {
      clearTimeout(timer);
      const opened = this.#state === "open";
      this.#state = "closed";
      if (opened) this.#lost(reason, error);
      else if (reason !== "forced close") this.#failed(error ?? new Error(reason));
    });
  }

  #message(engine, message) {
    let packet;
    try {
      packet = this.#decoder.add(message);
    } catch (error) {
      return engine.close("parse error", error);
    }
    if (packet) this.#sockets.get(packet.nsp)?._packet(packet);
  }

  #lost(reason, error) {
    this._fire("close", reason, error);
    for (const socket of this.#sockets.values()) socket._closed(reason, error);
    this.#schedule();
  }

  #failed(error) {
    this._fire("error", error);
    for (const socket of this.#sockets.values()) socket._failed(error);
    if (this.#attempts) this._fire("reconnect_error", error);
    this.#schedule();
  }

  #schedule() {
    if (!this.#wanted || this.#retry || this.#state !== "closed") return;
    if (this.#attempts >= this.options.reconnectionAttempts) {
      this.#attempts = 0;
      this._fire("reconnect_failed");
      return;
    }
    const delay = backoff(this.#attempts++, this.options);
    this.#retry = setTimeout(() => this.#try(), delay);
    this._fire("reconnect_scheduled", this.#attempts, delay);
  }

  #try() {
    this.#cancel();
    this._fire("reconnect_attempt", this.#attempts);
    if (this.#wanted && this.#state === "closed") this.#dial();
  }

  #cancel() {
    clearTimeout(this.#retry);
    this.#retry = null;
  }

  /** The browser says that the network is gone, or back. @protected */
  _network(online) {
    if (!online) {
      if (!/^(localhost|127\.|\[::1\])/.test(this.url.hostname)) this.engine?.close("transport close");
    } else if (this.#retry) {
      this.#cancel();
      this.#attempts = 0;
      this.#schedule();
    }
  }

  /** The page is going away. @protected */
  _leave() {
    this.#wanted = false;
    this.engine?.close("transport close");
  }

  /** @protected */
  _send(packet, failed) {
    if (this.#state === "open") this.engine.send(Array.isArray(packet) ? packet : encodePacket(packet), failed);
  }

  /** @protected */
  get _open() {
    return this.#state === "open";
  }

  /** A socket does not want the connection any more. @protected */
  _released() {
    if (![...this.#sockets.values()].some((socket) => socket.active)) this.close();
  }
}

// ---------------------------------------------------------------------------------------------------------- socket

/**
 * A namespace as the application sees it.
 *
 * Besides the server's events it fires `connect` (at every connection), `connect_error(error)`, `disconnect(reason,
 * details)` and `emit_error(error, args)` for an emit without ack that could not be sent. Reasons: `io server
 * disconnect`, `io client disconnect`, `ping timeout`, `transport close`, `transport error`, `parse error`.
 */
export class Socket extends Emitter {
  /** The id that the server knows this socket by, while it is connected. */
  id = undefined;
  connected = false;
  /** Whether the last connection continued the one before: rooms are kept, missed events have been delivered. */
  recovered = false;
  /** Whether it is connected or will be as soon as the server can be reached. */
  active = false;
  #pending = false; // CONNECT was sent and is not answered
  #leaving = false; // disconnect() came before that answer
  #pid = undefined;
  #offset = undefined;
  #ids = 0;
  #acks = new Map();
  #sendBuffer = [];
  #sendBufferBytes = 0;
  #receiveBuffer = [];
  #any = [];
  #anyOutgoing = [];

  /** Use {@link io} or {@link Manager#socket}. */
  constructor(manager, nsp, options) {
    super();
    this.io = manager;
    this.nsp = nsp;
    this.options = options;
    /** @type {Auth} */
    this.auth = options.auth;
  }

  get disconnected() {
    return !this.connected;
  }

  /** How many emits wait for the connection. */
  get buffered() {
    return this.#sendBuffer.length;
  }

  /** Connects; needed after a refusal, after `disconnect()` and after the server's `disconnect()`. */
  connect() {
    if (this.connected) return this;
    this.active = true;
    this.io.open();
    if (this.io._open) this._opened();
    return this;
  }

  /** Leaves the namespace. The connection is closed when no namespace needs it. */
  disconnect() {
    if (!this.active) return this;
    this.active = false;
    if (this.connected) {
      this.io._send({ type: DISCONNECT, nsp: this.nsp });
      this._closed("io client disconnect");
    } else {
      this.#leaving = this.#pending;
    }
    this.io._released();
    return this;
  }

  /**
   * Sends an event. Arguments are anything JSON can hold, and `ArrayBuffer`s, typed arrays and `Blob`s at any depth; a
   * function as last argument receives the server's acknowledgement. Before the connection is made emits are kept.
   */
  emit(event, ...args) {
    return this.#emit({}, event, args);
  }

  /** Sends an event and waits for the acknowledgement. Rejects when the socket is disconnected meanwhile. */
  emitWithAck(event, ...args) {
    return this.#emitWithAck({}, event, args);
  }

  /** Sends a `message` event. */
  send(...args) {
    return this.emit("message", ...args);
  }

  /** The next emit's ack gets `(error, ...answer)`, with an error after `ms`. */
  timeout(ms) {
    return this.#flagged({ timeout: ms });
  }

  /** The next emit is dropped if it cannot leave at once. */
  get volatile() {
    return this.#flagged({ volatile: true });
  }

  /** Calls `fn(event, ...args)` for every event of the server. */
  onAny(fn) {
    this.#any.push(fn);
    return this;
  }

  /** Removes one such listener, or all. */
  offAny(fn) {
    this.#any = fn ? this.#any.filter((other) => other !== fn) : [];
    return this;
  }

  /** Calls `fn(event, ...args)` for every event that is sent. */
  onAnyOutgoing(fn) {
    this.#anyOutgoing.push(fn);
    return this;
  }

  /** Removes one such listener, or all. */
  offAnyOutgoing(fn) {
    this.#anyOutgoing = fn ? this.#anyOutgoing.filter((other) => other !== fn) : [];
    return this;
  }

  #flagged(flags) {
    return {
      emit: (event, ...args) => this.#emit(flags, event, args),
      emitWithAck: (event, ...args) => this.#emitWithAck(flags, event, args),
      timeout: (ms) => this.#flagged({ ...flags, timeout: ms }),
      get volatile() { return this.with({ volatile: true }); },
      with: (more) => this.#flagged({ ...flags, ...more }),
    };
  }

  #emitWithAck(flags, event, args) {
    return new Promise((resolve, reject) => {
      const settle = (error, answer) => (error ? reject(error) : resolve(answer));
      this.#emit({ ...flags, withError: true }, event, [...args, settle]);
    });
  }

  #emit(flags, event, args) {
    if (RESERVED.has(event)) throw new Error(`"${event}" is a reserved event name`);
    const timeout = flags.timeout ?? this.options.ackTimeout;
    const fn = typeof args.at(-1) === "function" ? args.at(-1) : null;
    const data = [event, ...(fn ? args.slice(0, -1) : args)];
    const id = fn ? this.#ids++ : undefined;
    const frames = encodePacket({ type: EVENT, nsp: this.nsp, id, data });
    const ack = fn && { fn, withError: flags.withError || timeout !== undefined, timer: null };
    const failed = (error) => {
      if (ack?.withError) this.#acks.delete(id) && this.#settle(ack, error);
      else this._fire("emit_error", error, data);
    };
    if (ack) {
      this.#acks.set(id, ack);
      if (timeout !== undefined) {
        ack.timer = setTimeout(() => {
          this.#unbuffer((entry) => entry.id === id);
          failed(new Error("operation has timed out"));
        }, timeout);
      }
    }
    const connected = this.connected && !this.io.engine.expired;
    if (flags.volatile && !(connected && this.io.engine.idle)) {
      if (ack) queueMicrotask(() => ack.withError && failed(new Error("the volatile event was dropped")));
    } else if (connected) {
      this.#write({ frames, data, failed });
    } else {
      this.#buffer({ frames, data, failed, id });
    }
    return this;
  }

  #write({ frames, data, failed }) {
    for (const fn of [...this.#anyOutgoing]) guarded(fn, this, data);
    this.io._send(frames, failed);
  }

  #buffer(entry) {
    entry.bytes = entry.frames.reduce((sum, frame) => sum + (frame.length ?? frame.byteLength ?? frame.size), 0);
    const { sendBufferPackets, sendBufferBytes } = this.options;
    if (this.#sendBuffer.length >= sendBufferPackets || this.#sendBufferBytes + entry.bytes > sendBufferBytes) {
      queueMicrotask(() => entry.failed(new Error("the offline buffer is full")));
      return;
    }
    this.#sendBufferBytes += entry.bytes;
    this.#sendBuffer.push(entry);
  }

  #unbuffer(matches) {
    this.#sendBuffer = this.#sendBuffer.filter((entry) => !matches(entry));
    this.#sendBufferBytes = this.#sendBuffer.reduce((sum, entry) => sum + entry.bytes, 0);
  }

  #settle(ack, error, answer = []) {
    clearTimeout(ack.timer);
    if (!ack.withError) {
      if (!error) guarded(ack.fn, this, answer);
    } else {
      guarded(ack.fn, this, error ? [error] : [null, ...answer]);
    }
  }

  /** The connection is open: ask to join. @protected */
  async _opened() {
    if (!this.active) return;
    if (this.#pending) {
      this.#leaving = false; // left and came back before the answer: the answer will do
      return;
    }
    this.#pending = true;
    const { engine } = this.io;
    let auth;
    try {
      auth = await this.#credentials();
    } catch (error) {
      if (engine !== this.io.engine || !this.io._open) return;
      this.#pending = false;
      this.#refused(error);
      return;
    }
    if (engine !== this.io.engine || !this.io._open) return;
    if (this.#leaving) {
      this.#pending = this.#leaving = false;
      return;
    }
    const data = this.#pid ? { pid: this.#pid, offset: this.#offset, ...auth } : auth ?? undefined;
    this.io._send({ type: CONNECT, nsp: this.nsp, data });
  }

  #credentials() {
    if (typeof this.auth !== "function") return this.auth;
    return this.auth.length ? new Promise((done) => this.auth(done)) : this.auth();
  }

  #refused(error) {
    this.active = false;
    this._fire("connect_error", error);
    if (!this.active) this.io._released();
  }

  /** @protected */
  _packet({ type, id, data }) {
    switch (type) {
      case CONNECT: return this.#joined(data);
      case DISCONNECT:
        if (!this.connected) return;
        this.active = false;
        this._closed("io server disconnect");
        if (!this.active) this.io._released();
        return;
      case EVENT: return this.#event(data, id);
      case ACK: {
        const ack = this.#acks.get(id);
        if (ack && this.#acks.delete(id)) this.#settle(ack, null, data);
        return;
      }
      default: {
        this.#pending = this.#leaving = false;
        const { message = data, data: details } = isObject(data) ? data : {};
        if (this.active) this.#refused(Object.assign(new Error(message), { data: details }));
      }
    }
  }

  #joined(data) {
    if (!this.#pending) return;
    this.#pending = false;
    if (this.#leaving) {
      this.#leaving = false;
      this.io._send({ type: DISCONNECT, nsp: this.nsp });
      return;
    }
    if (typeof data?.sid !== "string") {
      return this.#refused(new Error("the server speaks an older revision of Socket.IO (no id in its answer)"));
    }
    this.id = data.sid;
    this.recovered = data.pid !== undefined && data.pid === this.#pid;
    if (!this.recovered) this.#offset = undefined;
    this.#pid = data.pid;
    this.connected = true;
    const [received, sent] = [this.#receiveBuffer, this.#sendBuffer];
    this.#receiveBuffer = [];
    this.#sendBuffer = [];
    this.#sendBufferBytes = 0;
    for (const args of received) this.#dispatch(args);
    for (const entry of sent) this.connected ? this.#write(entry) : this.#buffer(entry);
    if (this.connected) this._fire("connect");
  }

  #event(args, id) {
    if (id !== undefined) {
      let answered = false;
      args.push((...answer) => {
        if (answered) return;
        answered = true;
        this.io._send({ type: ACK, nsp: this.nsp, id, data: answer });
      });
    }
    if (this.connected) this.#dispatch(args);
    else if (this.#pending && this.#receiveBuffer.length < 10_000) this.#receiveBuffer.push(args);
  }

  #dispatch(args) {
    for (const fn of [...this.#any]) guarded(fn, this, args);
    this._fire(...args);
    if (this.#pid && typeof args.at(-1) === "string") this.#offset = args.at(-1);
  }

  /** @protected */
  _failed(error) {
    if (this.active && !this.connected) this._fire("connect_error", error);
  }

  /** @protected */
  _closed(reason, error) {
    this.#pending = this.#leaving = false;
    this.#receiveBuffer = [];
    if (!this.connected) return;
    this.connected = false;
    this.id = undefined;
    const waiting = new Set(this.#sendBuffer.map((entry) => entry.id));
    const lost = [...this.#acks].filter(([id]) => !waiting.has(id));
    for (const [id] of lost) this.#acks.delete(id);
    this._fire("disconnect", reason, error && { description: error.message, context: error });
    for (const [, ack] of lost) this.#settle(ack, new Error("socket has been disconnected"));
  }
}

// ---------------------------------------------------------------------------------------------------------- lookup

const managers = new Map();

/**
 * Connects to a namespace. The path of the URL names it; sockets of one server share a connection.
 * @param {string|URL|Options} [url] default: the page's origin and the namespace `/`
 * @param {Options} [options]
 * @returns {Socket}
 */
export function io(url, options) {
  if (isObject(url) && !(url instanceof URL)) [url, options] = [undefined, url];
  const base = typeof location === "object" ? location.href : undefined;
  const bare = typeof url === "string" && !/^([a-z]+:)?\/\/|^\//i.test(url);
  const target = new URL(bare ? `http://${url}` : url ?? "/", base);
  target.protocol = target.protocol.replace(/^ws/, "http");
  if (bare && base && new URL(base).protocol === "https:") target.protocol = "https:";
  const nsp = target.pathname;
  const query = target.search ? Object.fromEntries(target.searchParams) : undefined;
  options = { ...options, query: options?.query ?? query };
  const key = `${target.origin} ${options.path ?? DEFAULTS.path}`;
  const alone = options.forceNew || options.multiplex === false || managers.get(key)?.serves(nsp);
  const manager = (!alone && managers.get(key)) || new Manager(target.origin, options);
  if (!alone) managers.set(key, manager);
  return manager.socket(nsp, options);
}

export { io as connect };
export default io;
