"""python-socketio over one transport against the interop server: every test is one feature.

    suite.py URL polling|websocket|upgrade [feature]

Works with python-socketio 5 (Engine.IO 4) and 4 (Engine.IO 3), whichever the interpreter has. Prints TAP. Nobody waits
for time to pass: that something did not arrive is shown by a later message that did.
"""

import asyncio
import os
import sys
import threading
import time
import traceback
from importlib.metadata import version
from urllib.parse import urlencode

import engineio
import socketio

URL, TRANSPORT = sys.argv[1:3]
TRANSPORTS = {"polling": ["polling"], "websocket": ["websocket"], "upgrade": None}[TRANSPORT]
OLD = version("python-socketio").startswith("4.")
LIMIT = 100_000  # what the driver gives the server as --max-payload
EVENTS = ["hello", "echo", "question", "silence", "number", "number-end", "gift", "news", "vote", "volatile", "volatile-end"]

# The client's own guard against long payloads, made for servers that face the internet.
engineio.payload.Payload.max_decode_packets = 100_000

FEATURES = []
CLIENTS = []


def feature(function):
    FEATURES.append(function)
    return function


def fnv(data):
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def gift(kind, n):
    if kind == "binary":
        return bytes((7 * i + 3) % 256 for i in range(n))
    return "".join(chr(97 + (7 * i + 3) % 26) for i in range(n))


EVERY = bytes(range(256))


def same(got, wanted, why=""):
    assert got == wanted, f"{why}: got {shorten(got)}, wanted {shorten(wanted)}"


def shorten(value):
    text = repr(value)
    return text if len(text) < 400 else text[:400] + "…"


class Client:
    """A client that keeps everything it receives, by namespace."""

    def __init__(self, reconnection=False):
        self.io = socketio.AsyncClient(
            reconnection=reconnection, reconnection_delay=0.05, reconnection_delay_max=0.1, randomization_factor=0
        )
        self.log = []
        self.answers = {}
        self.changed = asyncio.Condition()
        CLIENTS.append(self)

    def listen(self, namespace):
        for event in EVENTS:
            self.io.on(event, self.handler(namespace, event), namespace=namespace)
        for event in ["connect", "disconnect", "connect_error"]:
            self.io.on(event, self.notice(namespace, event), namespace=namespace)

    def handler(self, namespace, event):
        async def handle(*args):
            self.log.append((namespace, event, list(args)))
            await self.wake()
            answer = self.answers.get((namespace, event))
            if answer is None and event in ("silence", "vote", "question"):
                await asyncio.Event().wait()  # never answers
            return answer(*args) if answer else None

        return handle

    def notice(self, namespace, event):
        async def handle(*args):
            self.log.append((namespace, event, list(args)))
            await self.wake()

        return handle

    async def wake(self):
        async with self.changed:
            self.changed.notify_all()

    def got(self, event, namespace="/"):
        return [args for where, name, args in self.log if (where, name) == (namespace, event)]

    async def until(self, event, namespace="/", count=1):
        """Waits until `count` events of this name have come in all; returns the last one's arguments."""

        async def wait():
            async with self.changed:
                await self.changed.wait_for(lambda: len(self.got(event, namespace)) >= count)

        try:
            await asyncio.wait_for(wait(), 15)
        except asyncio.TimeoutError:
            raise AssertionError(f"no {event} in {namespace} within 15 s; got {shorten(self.log)}") from None
        return self.got(event, namespace)[count - 1]

    async def open(self, namespaces=("/",), auth=None, query=None):
        names = list(namespaces)
        for name in names:
            self.listen(name)
        url = f"{URL}?{urlencode(query)}" if query else URL
        if OLD:
            # Revision 4 has no auth payload: the namespace's query carries it.
            asked = [f"{n}?{urlencode(auth)}" if auth and n != "/" else n for n in names]
            await self.io.connect(url, transports=TRANSPORTS, namespaces=asked)
        else:
            await self.io.connect(url, transports=TRANSPORTS, namespaces=names, auth=auth, wait=False)

    async def emit(self, event, *args, namespace="/"):
        await self.io.emit(event, args, namespace=namespace)

    async def call(self, event, *args, namespace="/"):
        """What the server acknowledges, as a list."""
        done = asyncio.get_running_loop().create_future()
        await self.io.emit(event, args, namespace=namespace, callback=lambda *answer: done.done() or done.set_result(list(answer)))
        try:
            return await asyncio.wait_for(done, 15)
        except asyncio.TimeoutError:
            raise AssertionError(f"no ack of {event} within 15 s") from None

    @property
    def transport(self):
        return self.io.eio.transport()


async def connect(namespaces=("/",), auth=None, reconnection=False, query=None):
    client = Client(reconnection)
    await client.open(namespaces, auth, query)
    for name in namespaces:
        await client.until("connect", name)
        await client.until("hello", name)
    return client


async def eventually(ask, wanted):
    last = None
    for _ in range(300):
        last = await ask()
        if wanted(last):
            return last
        await asyncio.sleep(0.01)
    raise AssertionError(f"still {last!r}")


def still_connected(client):
    async def ask():
        return client.io.connected or client.io.eio.state != "disconnected"

    return ask


def writing(client):
    async def ask():
        task = client.io.eio.write_loop_task
        return task is not None and not task.done()

    return ask


async def reason_of(watcher, key):
    return (await eventually(lambda: watcher.call("reason-of", key), lambda answer: answer != [None]))[0]


@feature
async def emit():
    client = await connect()
    values = [
        None, True, False, 0, -1, 1.5, 2**31, 2**53 - 1, "", "text", '"quoted\\"\n', "ünï 漢字 😀 \u2028\u0000\u001e", [], {},
        [1, [2, [3, [None]]]], {"a": {"b": [False, {"": 0}]}}, '451-["x"]', "x" * 2000,
    ]
    for n, value in enumerate(values, 1):
        await client.emit("echo", value)
        same(await client.until("echo", count=n), [value])
    await client.emit("echo")
    same(await client.until("echo", count=len(values) + 1), [])
    await client.emit("echo", 1, "two", {"three": 3}, [4], None)
    same(await client.until("echo", count=len(values) + 2), [1, "two", {"three": 3}, [4], None])
    same(await client.call("kinds", None, True, 1, "s", [], {}), [["null", "bool", "number", "string", "array", "object"]])
    [who] = await client.call("whoami")
    same(client.got("hello"), [[who["id"]]], "exactly one hello")
    same((who["revision"], who["namespace"]), (3 if OLD else 4, "/"))
    if not OLD:
        same(client.io.get_sid(), who["id"])


@feature
async def order():
    client = await connect()
    for i in range(300):
        await client.emit("seq", i)
    same(await client.call("seq-report"), [300, 0])
    await client.emit("count", 500)
    await client.until("number-end")
    same(client.got("number"), [[i] for i in range(500)])
    for i in range(200):
        await client.emit("echo", i)
    await client.until("echo", count=200)
    same(client.got("echo"), [[i] for i in range(200)])


@feature
async def ack_client():
    client = await connect()
    same(await client.call("echo-ack"), [])
    same(await client.call("echo-ack", None), [None])
    same(await client.call("echo-ack", 1, "two", {"three": [3]}), [1, "two", {"three": [3]}])
    answers = await asyncio.gather(*[client.call("echo-ack", i) for i in range(100)])
    same(answers, [[i] for i in range(100)], "every answer reaches its own question")


@feature
async def ack_server():
    client = await connect()
    client.answers["/", "question"] = lambda *args: tuple(reversed(args))
    same(await client.call("ask"), [])
    same(await client.call("ask", "one"), ["one"])
    same(await client.call("ask", 1, "two", {"three": 3}), [{"three": 3}, "two", 1])
    client.answers["/", "question"] = lambda *args: None
    same(await client.call("ask", "None is an empty ack"), [])
    same(await client.call("ask-timeout", 50), ["timeout"])
    client.answers["/", "silence"] = lambda: "x"
    same(await client.call("ask-timeout", 5000), ["answered"])
    same(await client.call("echo-ack", "still here"), ["still here"])


@feature
async def mixed_binary():
    client = await connect()
    tricky = bytes([0x1E, 0x00, 0xFF, 0x62, 0x34, 0x1E])
    args = [{"list": [EVERY, {"deep": tricky}], "n": 1, "none": None}, "between", tricky, [[EVERY]]]
    await client.emit("echo", *args)
    same(await client.until("echo"), args)
    same(await client.call("echo-ack", *args), args)
    same(await client.call("kinds", EVERY, "s", {"a": EVERY}, [EVERY]), [["binary", "string", "object", "array"]])
    same(await client.call("measure", EVERY), ["binary", 256, fnv(EVERY)])
    client.answers["/", "question"] = lambda data: ({"back": data[::-1]}, "and text")
    same(await client.call("ask", EVERY), [{"back": EVERY[::-1]}, "and text"])


@feature
async def several_buffers():
    client = await connect()
    # This client's version 4 hands an empty buffer to its user as None.
    first = 1 if OLD else 0
    buffers = [gift("binary", n) for n in (first, 1, 2, 124, 125, 126, 127, 128, 255, 8000)]
    same(await client.call("echo-ack", *buffers), buffers)
    await client.emit("echo", *buffers)
    same(await client.until("echo"), buffers)
    events = []
    for i in range(first, 20):
        events += [[i, gift("binary", i), "text"], [f"plain {i}"], [gift("binary", 3), i, gift("binary", 130)]]
    for args in events:
        await client.emit("echo", *args)
    await client.until("echo", count=1 + len(events))
    same(client.got("echo")[1:], events)


@feature
async def namespace():
    client = await connect(["/", "/chat"])
    [who] = await client.call("whoami", namespace="/chat")
    same((who["namespace"], [who["id"]]), ("/chat", client.got("hello", "/chat")[0]))
    assert who["id"] != client.got("hello")[0][0]
    await client.emit("echo", "in chat", EVERY, namespace="/chat")
    await client.emit("echo", "in root")
    await client.call("echo-ack")
    await client.call("echo-ack", namespace="/chat")
    same((client.got("echo", "/chat"), client.got("echo")), ([["in chat", EVERY]], [["in root"]]))
    await client.call("join", "both")
    same(await client.call("members", "both", namespace="/chat"), [0])


@feature
async def auth_accepted():
    auth = {"token": "secret", "n": "5"}
    client = await connect(["/", "/admin"], auth=auth)
    [who] = await client.call("whoami", namespace="/admin")
    same((who["namespace"], who["auth"]), ("/admin", auth))
    same(client.got("hello", "/admin"), [[who["id"]]])


@feature
async def auth_refused():
    async def refused(where, auth=None):
        client = Client()
        await client.open(["/", where], auth)
        error = await client.until("connect_error", where)
        await client.until("hello")
        same(await client.call("echo-ack", "the connection stays"), ["the connection stays"])
        same((client.got("connect", where), client.got("hello", where)), ([], []))
        return error

    if OLD:
        same(await refused("/admin"), ["not authorized"])
        same(await refused("/admin", {"token": "expired"}), [{"code": 4001, "hint": "log in again"}])
    else:
        same(await refused("/admin"), [{"message": "not authorized"}])
        expired = [{"message": "token expired", "data": {"code": 4001, "hint": "log in again"}}]
        same(await refused("/admin", {"token": "expired"}), expired)
    same(await refused("/nope"), [{"message": "Invalid namespace"}])


@feature
async def rooms():
    a, b, c = [await connect() for _ in range(3)]
    ids = {name: client.got("hello")[0][0] for name, client in zip("abc", (a, b, c))}
    who = {"a": a, "b": b, "c": c}
    r1, r2 = f"one of {ids['a']}", f"two of {ids['a']}"
    same(await a.call("rooms"), [[], True])
    same(await a.call("join", r1), [[r1]])
    same(await b.call("join", r1), [[r1]])
    same(await b.call("join", r2), [sorted([r1, r2])])
    same(await c.call("join", r2), [[r2]])

    async def reaches(*args, **target):
        before = {name: len(client.got("news")) for name, client in who.items()}
        await a.emit("send-to", {"from": "socket", "to": [], "except": [], **target}, "news", *args)
        await a.call("echo-ack")
        names = ""
        for name, client in who.items():
            await client.call("echo-ack")
            for received in client.got("news")[before[name]:]:
                same(received, list(args))
                names += name
        return names

    same(await reaches(1, to=[r1]), "b")
    same(await reaches("twice", to=[r1, r2]), "bc")
    same(await reaches({"x": EVERY}, [EVERY], to=[r1, r2], **{"from": "server"}), "abc")
    same(await reaches(to=[r1, r2], **{"from": "server", "except": [r2]}), "a")
    same(await reaches(to=[ids["b"]]), "b")
    same(await reaches("all", **{"from": "server", "except": [ids["a"]]}), "bc")
    same(await b.call("leave", r1), [[r2]])
    same(await reaches(to=[r1], **{"from": "server"}), "a")
    b.answers["/", "vote"] = lambda: "b"
    c.answers["/", "vote"] = lambda: "c"
    same(await a.call("vote", r2, 10_000), ["complete", ["b", "c"]])
    await c.io.disconnect()
    del who["c"]
    await eventually(lambda: a.call("members", r2), lambda n: n == [1])
    same(await reaches(to=[r2]), "b")


@feature
async def volatile():
    client = await connect()
    ends = 0

    async def burst(n):
        nonlocal ends
        before = len(client.got("volatile"))
        await client.emit("volatile", n)
        ends += 1
        await client.until("volatile-end", count=ends)
        numbers = [i for [i] in client.got("volatile")[before:]]
        same(numbers, sorted(set(numbers)), "no copy, no inversion")
        return numbers

    arrived = 0
    for attempt in range(20):
        await client.call("echo-ack")
        # Over polling something can be taken at once only while a poll is open: give the client time to come back.
        await asyncio.sleep(0.02 * attempt)
        arrived = len(await burst(1))
        if arrived:
            break
    same(arrived, 1)
    numbers = await burst(20_000)
    assert len(numbers) < 20_000, "all arrived, nothing was volatile"
    same(await client.call("echo-ack", "after"), ["after"])


@feature
async def reconnect():
    watcher = await connect()
    client = await connect(["/", "/chat"], reconnection=True)
    [first] = client.got("hello")[0]
    await client.call("remember", first)
    await client.emit("kick")
    await client.until("disconnect")
    if TRANSPORT == "polling":
        # This client takes a close packet for the server's wish and stays away; it may come back by hand.
        await eventually(still_connected(client), lambda connected: not connected)
        client = await connect(["/", "/chat"])
    else:
        await client.until("hello", count=2)
        await client.until("hello", "/chat", count=2)
    assert client.got("hello")[-1] != [first]
    same(await client.call("echo-ack", "here again"), ["here again"])
    same(await client.call("echo-ack", EVERY, namespace="/chat"), [EVERY])
    same(await reason_of(watcher, first), "forced close")


@feature
async def disconnect():
    watcher = await connect()
    by_server = ["server namespace disconnect"]
    # This client closes the connection right behind its DISCONNECT packet: a server may notice either first.
    by_client = ["client namespace disconnect", "transport close"]
    if OLD and TRANSPORT == "polling":
        by_client.append("transport error")  # version 4 drops the request that is open
    for how, reasons in [("client", by_client), (False, by_server), (True, by_server)]:
        client = await connect()
        key = f"{how} {client.got('hello')[0][0]}"
        await client.call("remember", key)
        if how == "client":
            await client.io.disconnect()
        else:
            await client.emit("bye", how)
        if not (OLD and how == "client"):  # version 4 tells its user nothing about his own wish
            await client.until("disconnect")
        reason = await reason_of(watcher, key)
        assert reason in reasons, f"{how}: {reason}"
        assert not client.io.connected


@feature
async def big_payload():
    client = await connect()
    room = LIMIT - 200
    for n in (1, 125, 126, 65_500, 65_536, room):
        value = gift("string", n)
        same(await client.call("measure", value), ["string", n, fnv(value.encode())])
    data = gift("binary", room if TRANSPORT == "websocket" else int(room * 0.74))
    same(await client.call("measure", data), ["binary", len(data), fnv(data)])
    for count, kind in enumerate(("string", "binary"), 1):
        await client.emit("give", kind, 3 * LIMIT)
        same(await client.until("gift", count=count), [gift(kind, 3 * LIMIT)])


@feature
async def beyond_limit():
    watcher = await connect()
    for value in (gift("string", LIMIT + 1), gift("binary", LIMIT + 1)):
        client = await connect(reconnection=True)
        answered = []
        await client.io.emit("measure", value, callback=lambda *_: answered.append(1))
        if TRANSPORT == "polling":
            # After a refused POST this client stops writing and says nothing; it is given up.
            await eventually(writing(client), lambda writes: not writes)
            client = await connect()
        else:
            await client.until("disconnect")
            await client.until("hello", count=2)
        same(await client.call("echo-ack", "small"), ["small"])
        same(answered, [], "the server must not have seen it")
        same(await watcher.call("echo-ack", "untouched"), ["untouched"])


@feature
async def transport():
    client = await connect(query={"who": "me & you"})
    end = "websocket" if TRANSPORT == "upgrade" else TRANSPORT
    for i in range(200):
        await client.emit("seq", i)
        await client.emit("echo", i)
    same(await client.call("seq-report"), [200, 0])
    same(client.got("echo"), [[i] for i in range(200)])
    same(client.transport, end)
    [who] = await client.call("whoami")
    same((who["transport"], who["revision"], who["who"]), (end, 3 if OLD else 4, "me & you"))


@feature
async def threads():
    """The threaded client of the same package: another WebSocket and another HTTP library underneath."""

    def run():
        io = socketio.Client(reconnection=False)
        hello = threading.Event()
        io.on("hello", lambda id: hello.set())
        io.on("question", lambda *args: tuple(reversed(args)))
        io.connect(URL, transports=TRANSPORTS)
        try:
            assert hello.wait(15), "no hello"
            same(io.call("echo-ack", ("text", EVERY), timeout=15), ("text", EVERY))
            same(io.call("ask", (1, {"b": EVERY}), timeout=15), ({"b": EVERY}, 1))
            same(io.call("echo-ack", timeout=15), None)
        finally:
            io.disconnect()

    await asyncio.to_thread(run)


async def leave(client):
    try:
        await asyncio.wait_for(client.io.disconnect(), 2)
    except BaseException:  # it may be gone already, and has many ways to say so
        pass


async def main():
    failed = 0
    print(f"# python-socketio {version('python-socketio')}, python-engineio {version('python-engineio')}")
    features = [(function.__name__.replace("_", "-"), function) for function in FEATURES]
    features = [(name, function) for name, function in features if name == (sys.argv[3:] or [name])[0]]
    for number, (name, function) in enumerate(features, 1):
        begin = time.monotonic()
        try:
            await asyncio.wait_for(function(), 60)
            print(f"ok {number} - {name}", flush=True)
        except BaseException as error:  # an assertion, a time-out, whatever the library throws
            failed += 1
            print(f"not ok {number} - {name}")
            for line in "".join(traceback.format_exception(error)).splitlines():
                print(f"# {line}", flush=True)
        await asyncio.gather(*[leave(client) for client in CLIENTS])
        CLIENTS.clear()
        print(f"# {time.monotonic() - begin:.2f} s", flush=True)
    print(f"1..{len(features)}")
    sys.stdout.flush()
    # A task that never answers a question must not keep the interpreter.
    os._exit(1 if failed else 0)


asyncio.run(main())
