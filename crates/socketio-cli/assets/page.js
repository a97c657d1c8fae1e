/**
 * The page of `sio serve`: a chat that shows namespaces, rooms, acknowledgements, binary data and reconnection at work.
 *
 * The events of the demo (implemented by `src/demo.rs`). A *member* is `{ id, name }`. An ack marked `*` is either what
 * is written here or `{ error: { code, message } }`.
 *
 * Namespace `/` (no auth):
 *
 *     server → client  server   ({ name, instance })         once per connection; `instance` changes with a restart
 *     server → client  count    (clients)                    when it changes
 *     client → server  latency  ()           ack (ms)        the server's clock; the page measures the round trip
 *
 * Namespaces `/lobby` (auth `{ name, rooms }`) and `/backstage` (auth `{ name, rooms, password }`, the password is
 * `sesame`). Refusals: message for people, `data.code` one of `invalid_name`, `wrong_password`. `rooms` are joined before
 * anything else is handled, so what was written offline arrives in its room.
 *
 *     server → client  welcome  ({ me: member, rooms: [{ room, members }] })
 *     client → server  join     (room)       ack* ({ room, members })
 *     client → server  leave    (room)       ack* ({ room })
 *     server → client  joined   ({ room, member })           to the others in the room
 *     server → client  left     ({ room, member })           also when a member disconnects
 *     client → server  say      ({ room, text, key })        ack* ({ id, at })
 *     server → client  said     ({ id, room, from: member, text, key, at })                   to the others
 *     client → server  file     ({ room, name, type, key }, bytes)   ack* ({ id, at, size })
 *     server → client  file     ({ id, room, from, name, type, size, key, at }, bytes)        to the others
 *     client → server  typing   (room)                       volatile; passed on as
 *     server → client  typing   ({ room, from })             volatile
 *     client → server  poke     (id)         ack* ({ answer })   the server asks that socket, which must share a room:
 *     server → client  poked    ({ from })   ack (answer)        and hands its answer on, or the error `gone`
 *
 * Rules: a name has 1 to 32 characters, a room 1 to 32 letters, digits, `-` or `_`, a text 1 to 2000 characters, a file
 * up to 512 KiB; 16 rooms per socket. On the server rooms are kept apart from socket ids (which are rooms too) by the
 * prefix `room:`. `key` is chosen by the sender: after a broken connection the same message may come twice with one key.
 */

const FILE_LIMIT = 512 * 1024;
const IMAGES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]); // shown; everything else is offered
const LOG_LIMIT = 300;

const $ = (id) => document.getElementById(id);
const params = new URLSearchParams(location.search);
const config = await fetch("config.json").then((answer) => answer.json()).catch(() => ({}));
const path = config.path ?? "/socket.io/";
// `?client=official` drives the page by the official bundle, if the server was told where it is.
const official = params.get("client") === "official";
const { Manager } = await import(official ? `${path}socket.io.esm.min.js` : "./client.js");

const MODES = {
  auto: { transports: ["polling", "websocket"], pollInterval: 0 },
  websocket: { transports: ["websocket"], pollInterval: 0 },
  polling: { transports: ["polling"], pollInterval: 0 },
  short: { transports: ["polling"], pollInterval: 1000 },
};

// ------------------------------------------------------------------------------------------------------- small things

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const initials = (name) => name.split(/\s+/).map((word) => [...word][0]).slice(0, 2).join("").toUpperCase();
const clock = (at) => new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const size = (bytes) => (bytes < 1024 ? `${bytes} B` : `${(bytes / 1024).toFixed(1)} KiB`);

function avatar(made, name) {
  let hue = 0;
  for (const char of name) hue = (hue * 31 + char.codePointAt(0)) % 360;
  made.style.setProperty("--hue", hue);
  made.textContent = initials(name);
  return made;
}

function pick(list) {
  return list[crypto.getRandomValues(new Uint32Array(1))[0] % list.length];
}

function invent() {
  const first = ["Amber", "Brisk", "Calm", "Dusty", "Eager", "Fuzzy", "Golden", "Happy", "Lucky", "Mellow", "Quiet", "Sunny"];
  const second = ["Otter", "Heron", "Lynx", "Badger", "Finch", "Marten", "Robin", "Seal", "Swift", "Tapir", "Vole", "Wren"];
  return `${pick(first)} ${pick(second)}`;
}

function remember(key, value) {
  try {
    if (value !== undefined) sessionStorage.setItem(key, value);
    return sessionStorage.getItem(key);
  } catch {
    return value ?? null; // storage may be forbidden
  }
}

// --------------------------------------------------------------------------------------------------------- the state

const me = { name: params.get("name")?.slice(0, 32) || remember("name") || invent() };
const seen = new Set(); // keys of messages, so that one that came twice is shown once
const spaces = new Map();
let current; // the room on show
let mode = MODES[params.get("transport")] ? params.get("transport") : "auto";
let reconnects = 0;
let instance;

const manager = new Manager(location.origin, { path, autoConnect: false, ...MODES[mode] });
const root = manager.socket("/");
for (const [nsp, note] of [["/lobby", "open"], ["/backstage", "password"]]) {
  const space = { nsp, note, rooms: new Map(), entered: nsp === "/lobby", password: "", socket: manager.socket(nsp) };
  space.socket.auth = (done) => done({ name: me.name, rooms: [...space.rooms.keys()], password: space.password });
  spaces.set(nsp, space);
}
for (const name of ["general", "random"]) addRoom(spaces.get("/lobby"), name);
addRoom(spaces.get("/backstage"), "crew");
current = spaces.get("/lobby").rooms.get("general");

function addRoom(space, name) {
  const room = { space, name, members: new Map(), unread: 0, typing: new Map(), list: element("ol") };
  room.list.append(element("li", { className: "event empty", textContent: `This is the beginning of #${name}.` }));
  space.rooms.set(name, room);
  return room;
}

// ------------------------------------------------------------------------------------------------------- the messages

function append(room, item) {
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  room.list.querySelector(".empty")?.remove();
  room.list.append(item);
  while (room.list.childElementCount > LOG_LIMIT) {
    for (const link of room.list.firstElementChild.querySelectorAll("a[download]")) URL.revokeObjectURL(link.href);
    room.list.firstElementChild.remove();
  }
  if (room === current && atEnd) log.scrollTop = log.scrollHeight;
}

function note(room, text, kind = "") {
  const item = element("li", { className: "event", textContent: text });
  item.dataset.kind = kind;
  append(room, item);
}

function message(room, { from, at, own, text, file }) {
  const item = $("message").content.firstElementChild.cloneNode(true);
  item.classList.toggle("own", Boolean(own));
  avatar(item.querySelector(".avatar"), from.name);
  item.querySelector(".from").textContent = own ? `${from.name} (you)` : from.name;
  const time = item.querySelector("time");
  time.dateTime = new Date(at).toISOString();
  time.textContent = clock(at);
  const body = item.querySelector(".body");
  if (file) body.append(...attachment(file));
  else body.textContent = text;
  append(room, item);
  return (state, words) => {
    const mark = item.querySelector(".mark");
    mark.dataset.mark = state;
    mark.textContent = words;
  };
}

function attachment({ name, type, bytes, blob = new Blob([bytes], { type: IMAGES.has(type) ? type : "" }) }) {
  const href = URL.createObjectURL(blob);
  const link = element("a", { href, download: name, textContent: `${name} (${size(blob.size)})` });
  if (!IMAGES.has(type)) return [link];
  const image = element("img", { src: href, alt: name });
  image.addEventListener("load", () => { $("log").scrollTop = $("log").scrollHeight; });
  return [image, link];
}

/** Sends until the server has answered. A broken connection puts the message back into the client's offline buffer. */
async function deliver(room, event, args, mark) {
  const { socket } = room.space;
  for (;;) {
    if (socket.connected) mark("sending", "sending…");
    else mark("queued", "waiting for the connection");
    const started = performance.now();
    const online = socket.connected;
    refresh();
    try {
      const answer = await socket.emitWithAck(event, ...args);
      if (answer?.error) mark("failed", `not delivered: ${answer.error.message}`);
      else mark("done", online ? `✓ ${(performance.now() - started).toFixed(1)} ms` : "✓ sent later");
      return;
    } catch (error) {
      if (error.message !== "socket has been disconnected") return mark("failed", `not delivered: ${error.message}`);
    } finally {
      refresh();
    }
  }
}

function say(text) {
  const room = current;
  const key = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
  const mark = message(room, { from: me, at: Date.now(), own: true, text });
  deliver(room, "say", [{ room: room.name, text, key }], mark);
}

function share(file) {
  const room = current;
  if (file.size > FILE_LIMIT) return note(room, `${file.name} is larger than ${size(FILE_LIMIT)}`);
  const key = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
  const details = { room: room.name, name: file.name.slice(-200), type: file.type, key };
  const mark = message(room, { from: me, at: Date.now(), own: true, file: { ...details, blob: file } });
  deliver(room, "file", [details, file], mark);
}

function arrived(space, details, bytes) {
  const room = space.rooms.get(details.room);
  if (!room || seen.has(details.key)) return;
  seen.add(details.key);
  if (seen.size > 2000) seen.delete(seen.values().next().value);
  message(room, { ...details, file: bytes && { ...details, bytes } });
  room.typing.delete(details.from.id);
  if (room !== current) room.unread++;
  refresh();
}

// --------------------------------------------------------------------------------------------------------- the events

for (const space of spaces.values()) {
  const { socket } = space;
  socket.on("connect", refresh);
  socket.on("disconnect", () => {
    for (const room of space.rooms.values()) room.members.clear();
    refresh();
  });
  socket.on("connect_error", (error) => {
    if (!error.data?.code) return; // the server cannot be reached: the bar tells that
    space.entered = false;
    if ($("gate").open) {
      $("gate-error").textContent = error.message;
      $("password").select();
    } else {
      tell(`${space.nsp} refused: ${error.message}`);
    }
    refresh();
  });
  socket.on("welcome", ({ rooms }) => {
    for (const { room, members } of rooms) setMembers(space.rooms.get(room), members);
    if ($("gate").open && space.nsp === "/backstage") {
      $("gate").close();
      show(space.rooms.values().next().value);
    }
    refresh();
  });
  socket.on("joined", ({ room: name, member }) => {
    const room = space.rooms.get(name);
    if (!room) return;
    room.members.set(member.id, member.name);
    note(room, `${member.name} came in`);
    refresh();
  });
  socket.on("left", ({ room: name, member }) => {
    const room = space.rooms.get(name);
    if (!room?.members.delete(member.id)) return;
    note(room, `${member.name} left`);
    refresh();
  });
  socket.on("said", (details) => arrived(space, details));
  socket.on("file", (details, bytes) => arrived(space, details, bytes));
  socket.on("typing", ({ room: name, from }) => {
    const room = space.rooms.get(name);
    if (!room) return;
    clearTimeout(room.typing.get(from.id)?.timer);
    const timer = setTimeout(() => { room.typing.delete(from.id); typing(); }, 3000);
    room.typing.set(from.id, { name: from.name, timer });
    typing();
  });
  socket.on("poked", ({ from }, answer) => {
    note(current, `${from.name} poked you`, "poke");
    document.querySelector(".chat").classList.add("shake");
    setTimeout(() => document.querySelector(".chat").classList.remove("shake"), 500);
    answer(`Ouch! says ${me.name}`);
  });
}

function setMembers(room, members) {
  if (room) room.members = new Map(members.map(({ id, name }) => [id, name]));
}

async function poke(space, id) {
  const started = performance.now();
  const room = current;
  const answer = await space.socket.timeout(8000).emitWithAck("poke", id).catch((error) => ({ error }));
  if (answer.error) return note(room, `no answer: ${answer.error.message}`, "poke");
  note(room, `“${answer.answer}” – after ${(performance.now() - started).toFixed(1)} ms, through the server and back`, "poke");
}

root.on("server", (server) => {
  $("server-name").textContent = server.name;
  $("server-instance").textContent = server.instance;
  if (instance && instance !== server.instance) tell("The server was restarted. Everything is where it was.", "good");
  instance = server.instance;
});
root.on("count", (count) => { $("server-count").textContent = count; });

for (const socket of [root, ...[...spaces.values()].map((space) => space.socket)]) {
  socket.onAny((event, ...args) => trace("in", socket.nsp, event, args));
  socket.onAnyOutgoing((event, ...args) => trace("out", socket.nsp, event, args));
}

function trace(direction, nsp, event, args) {
  if (event === "latency" || event === "typing") return;
  const words = JSON.stringify(args.filter((arg) => typeof arg !== "function"), (_, value) =>
    value instanceof ArrayBuffer ? `<${value.byteLength} bytes>` : value instanceof Blob ? `<${value.size} bytes>` : value);
  const item = element("li", { className: direction, title: words.slice(0, 500) },
    `${nsp} `, element("b", { textContent: event }), ` ${words.slice(1, -1).slice(0, 120)}`);
  $("wire").prepend(item);
  while ($("wire").childElementCount > 80) $("wire").lastElementChild.remove();
}

// ----------------------------------------------------------------------------------------------------- the connection

let wanted = true;
let noticeTimer;
let nextTry;

/** Shows a line under the bar; a good one goes by itself. */
function tell(words, kind = "") {
  clearTimeout(noticeTimer);
  $("notice").hidden = !words;
  $("notice").textContent = words ?? "";
  $("notice").dataset.kind = kind;
  if (words && kind === "good") noticeTimer = setTimeout(() => tell(), 6000);
}

function connection() {
  const transport = manager.transport ?? manager.engine?.transport?.name;
  const state = !wanted ? "offline" : root.connected ? "connected" : reconnects || nextTry ? "reconnecting" : "connecting";
  $("state").textContent = state;
  $("state").dataset.state = state === "reconnecting" ? "connecting" : state;
  $("transport").textContent = root.connected ? transport ?? "–" : "–";
  $("reconnects").textContent = reconnects;
  $("toggle").textContent = wanted ? "Disconnect" : "Connect";
  if (!root.connected) $("latency").textContent = $("server-count").textContent = "–";
}

function offlineNotice() {
  const waiting = document.querySelectorAll('.mark[data-mark="queued"]').length
    + [...spaces.values()].flatMap((space) => [...space.rooms.values()])
      .filter((room) => room !== current)
      .reduce((sum, room) => sum + room.list.querySelectorAll('.mark[data-mark="queued"]').length, 0);
  const kept = waiting ? ` ${waiting} message${waiting > 1 ? "s wait" : " waits"} for it.` : " What you write is kept.";
  if (!wanted) tell(`Disconnected.${kept}`);
  else if (nextTry) tell(`No connection to the server; trying again.${kept}`);
}

manager.on("open", () => {
  if (nextTry) reconnects++;
  nextTry = undefined;
  tell();
  refresh();
});
manager.on("upgrade", refresh);
manager.on("close", () => { nextTry = wanted; refresh(); });
manager.on("error", () => { nextTry = wanted; refresh(); });
root.on("connect", refresh);
root.on("connect", () => manager.engine?.on?.("upgrade", connection));
root.on("disconnect", refresh);

function connect() {
  wanted = true;
  root.connect();
  for (const space of spaces.values()) if (space.entered) space.socket.connect();
}

const samples = [];
async function measure() {
  if (root.connected) {
    const started = performance.now();
    try {
      await root.timeout(4000).emitWithAck("latency");
      const ms = performance.now() - started;
      samples.push(ms);
      if (samples.length > 40) samples.shift();
      $("latency").textContent = `${ms.toFixed(1)} ms`;
      const top = Math.max(5, ...samples);
      const points = samples.map((sample, i) => `${2 * i},${(19 - (18 * sample) / top).toFixed(1)}`);
      $("spark").firstElementChild.setAttribute("points", points.join(" "));
    } catch {
      // not connected any more, or slower than the whole scale
    }
  }
  setTimeout(measure, 1500);
}

// ---------------------------------------------------------------------------------------------------------- the view

function show(room) {
  current = room;
  room.unread = 0;
  $("log").replaceChildren(room.list);
  $("log").scrollTop = $("log").scrollHeight;
  refresh();
}

function typing() {
  const names = [...current.typing.values()].map(({ name }) => name);
  $("typing").textContent = names.length ? `${names.join(", ")} ${names.length > 1 ? "are" : "is"} typing…` : "";
}

function refresh() {
  connection();
  offlineNotice();
  typing();
  $("title").textContent = `#${current.name}`;
  const inside = current.space.socket.connected;
  $("subtitle").textContent = `${current.space.nsp} · ${inside ? `${current.members.size} here` : "not connected"}`;
  document.title = `#${current.name} · Socket.IO playground`;

  const focused = document.activeElement?.dataset?.key;
  $("spaces").replaceChildren(...[...spaces.values()].map((space) => {
    const inside = space.socket.connected;
    const status = inside ? "" : space.entered ? "…" : space.note;
    const heading = element("h2", {}, space.nsp, element("small", { textContent: status }));
    const rooms = [...space.rooms.values()].map((room) => {
      const button = element("button", { type: "button" }, element("span", { textContent: `# ${room.name}` }));
      button.dataset.key = `${space.nsp}#${room.name}`;
      if (room === current) button.setAttribute("aria-current", "true");
      if (room.unread) {
        button.append(element("span", { className: "badge", textContent: room.unread, ariaLabel: `${room.unread} unread` }));
      }
      button.addEventListener("click", () => (space.entered ? show(room) : knock(space)));
      const leave = element("button", { type: "button", className: "leave", textContent: "×", ariaLabel: `Leave ${room.name}` });
      leave.addEventListener("click", () => leaveRoom(room));
      return element("li", {}, button, ...(space.rooms.size > 1 && inside ? [leave] : []));
    });
    return element("section", { className: "space" }, heading, element("ul", {}, ...rooms));
  }));
  if (focused) document.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();

  const { socket } = current.space;
  $("people").replaceChildren(...[...current.members].map(([id, name]) => {
    const own = id === socket.id;
    const who = element("span", { className: "who", textContent: own ? `${name} (you)` : name });
    const item = element("li", {}, avatar(element("span", { className: "avatar", ariaHidden: "true" }), name), who);
    if (!own) {
      const button = element("button", { type: "button", textContent: "Poke", ariaLabel: `Poke ${name}` });
      button.addEventListener("click", () => poke(current.space, id));
      item.append(button);
    }
    return item;
  }));
}

function knock(space) {
  $("gate-error").textContent = "";
  $("password").value = "";
  $("gate").showModal();
  $("gate-form").onsubmit = (event) => {
    event.preventDefault();
    space.password = $("password").value;
    space.entered = true;
    space.socket.connect();
  };
}

async function joinRoom(space, name) {
  const answer = await space.socket.timeout(5000).emitWithAck("join", name).catch((error) => ({ error }));
  if (answer.error) return tell(`cannot join ${name}: ${answer.error.message}`);
  const room = space.rooms.get(name) ?? addRoom(space, name);
  setMembers(room, answer.members);
  show(room);
}

async function leaveRoom(room) {
  const { space } = room;
  const answer = await space.socket.timeout(5000).emitWithAck("leave", room.name).catch((error) => ({ error }));
  if (answer.error) return tell(`cannot leave ${room.name}: ${answer.error.message}`);
  space.rooms.delete(room.name);
  if (current === room) show(space.rooms.values().next().value);
  refresh();
}

// --------------------------------------------------------------------------------------------------------- the inputs

$("name").value = me.name;
$("name-form").addEventListener("submit", (event) => { event.preventDefault(); $("name").blur(); });
$("name").addEventListener("change", () => {
  me.name = $("name").value.trim() || invent();
  $("name").value = remember("name", me.name) ?? me.name;
  // The name is part of the credentials: the chat namespaces are joined anew.
  for (const space of spaces.values()) if (space.entered) space.socket.disconnect().connect();
});
remember("name", me.name);

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (text) say(text);
  $("text").value = "";
  typed = 0;
});
let typed = 0; // when the others were last told
$("text").addEventListener("input", () => {
  if (Date.now() - typed < 1500) return;
  typed = Date.now();
  current.space.socket.volatile.emit("typing", current.name);
});
$("file").addEventListener("change", () => {
  for (const file of $("file").files) share(file);
  $("file").value = "";
});
$("room-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = $("room").value.trim();
  $("room").value = "";
  if (name) joinRoom(current.space, name);
});
$("gate-cancel").addEventListener("click", () => $("gate").close());
$("gate").addEventListener("close", () => $("text").focus());

let dragging = 0;
addEventListener("dragenter", () => { dragging++; $("drop").hidden = false; });
addEventListener("dragleave", () => { if (--dragging <= 0) { dragging = 0; $("drop").hidden = true; } });
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  dragging = 0;
  $("drop").hidden = true;
  for (const file of event.dataTransfer.files) share(file);
});
addEventListener("paste", (event) => { for (const file of event.clipboardData?.files ?? []) share(file); });

$("mode").value = mode;
$("mode").disabled = official;
$("mode").addEventListener("change", () => {
  mode = $("mode").value;
  manager.close();
  Object.assign(manager.options, MODES[mode]);
  connect();
});
$("toggle").addEventListener("click", () => {
  if (wanted) {
    wanted = false;
    for (const socket of [root, ...[...spaces.values()].map((space) => space.socket)]) socket.disconnect();
  } else {
    connect();
  }
  refresh();
});

show(current);
connect();
measure();
