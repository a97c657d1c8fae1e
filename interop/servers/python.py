"""The interop server (EVENTS.md) on python-socketio, with what the suite of our client needs.

It has no volatile events (it sends them like others) and no way to close a connection beneath its sockets but the one of
its Engine.IO server.
"""

import argparse
import asyncio
import sys
import threading
from urllib.parse import parse_qsl

import socketio
from aiohttp import web
from engineio.payload import Payload

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--exit-with-stdin", action="store_true")
parser.add_argument("--parser", default="json")
parser.add_argument("--ping-interval", type=int, default=25000)
parser.add_argument("--ping-timeout", type=int, default=20000)
parser.add_argument("--max-payload", type=int, default=1000000)
parser.add_argument("--transports", default="polling,websocket")
options = parser.parse_args()

# A POST of more than 16 packets is an error to it unless it is told otherwise, and clients send what they have.
Payload.max_decode_packets = 10_000

sio = socketio.AsyncServer(
    async_mode="aiohttp",
    ping_interval=options.ping_interval / 1000,
    ping_timeout=options.ping_timeout / 1000,
    max_http_buffer_size=options.max_payload,
    transports=options.transports.split(","),
    serializer="msgpack" if options.parser == "msgpack" else "default",
)
app = web.Application(client_max_size=options.max_payload + 1000)
sio.attach(app)

auths = {}
keys = {}
reasons = {}
sequences = {}
later = {}


def fnv(data):
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def gift(kind, n):
    if kind == "binary":
        return bytes((7 * i + 3) % 256 for i in range(n))
    return "".join(chr(97 + (7 * i + 3) % 26) for i in range(n))


def kind(value):
    kinds = {bool: "bool", int: "number", float: "number", str: "string", bytes: "binary", list: "array", dict: "object"}
    return "null" if value is None else kinds[type(value)]


def serve(namespace):
    def on(function):
        """A handler under its name, with dashes. What it returns is the acknowledgement."""
        sio.on(function.__name__.replace("_", "-"), function, namespace=namespace)
        return function

    def emit(event, args, **to):
        # A tuple is several arguments.
        return sio.emit(event, tuple(args), namespace=namespace, **to)

    def rooms_of(sid):
        return sorted(room for room in sio.rooms(sid, namespace=namespace) if room != sid)

    async def connect(sid, environ, auth):
        auth = auth or {}
        if namespace == "/admin" and auth.get("token") != "secret":
            if auth.get("token") == "expired":
                raise socketio.exceptions.ConnectionRefusedError(
                    "token expired", {"code": 4001, "hint": "log in again"})
            raise socketio.exceptions.ConnectionRefusedError("not authorized")
        auths[sid] = (auth, environ)
        if not auth.get("quiet"):
            await emit("hello", [sid], to=sid)

    async def disconnect(sid, reason):
        auths.pop(sid, None)
        sequences.pop(sid, None)
        if sid in keys:
            reasons[keys.pop(sid)] = reason

    sio.on("connect", connect, namespace=namespace)
    sio.on("disconnect", disconnect, namespace=namespace)

    @on
    async def echo(sid, *args):
        await emit("echo", args, to=sid)

    @on
    async def echo_ack(sid, *args):
        return args

    @on
    async def kinds(sid, *args):
        return [kind(arg) for arg in args]

    @on
    async def measure(sid, value):
        data = value.encode() if isinstance(value, str) else value
        return kind(value), len(data), fnv(data)

    @on
    async def give(sid, what, n):
        await emit("gift", [gift(what, n)], to=sid)

    @on
    async def ask(sid, *args):
        answer = await sio.call("question", tuple(args), to=sid, namespace=namespace, timeout=5)
        return answer if isinstance(answer, tuple) else (() if answer is None else (answer,))

    @on
    async def count(sid, n):
        for i in range(n):
            await emit("number", [i], to=sid)
        await emit("number-end", [n], to=sid)

    @on
    async def seq(sid, i):
        sequences.setdefault(sid, []).append(i)

    @on
    async def seq_report(sid):
        numbers = sequences.pop(sid, [])
        expected = [0, *(number + 1 for number in numbers)]
        return len(numbers), sum(number != want for number, want in zip(numbers, expected))

    sio.handlers[namespace]["later"] = answer_later

    @on
    async def join(sid, room):
        await sio.enter_room(sid, room, namespace=namespace)
        return rooms_of(sid)

    @on
    async def leave(sid, room):
        await sio.leave_room(sid, room, namespace=namespace)
        return rooms_of(sid)

    @on
    async def members(sid, room):
        return len(list(sio.manager.get_participants(namespace, room)))

    @on
    async def send_to(sid, target, event, *args):
        skip = {"skip_sid": sid} if target["from"] == "socket" else {}
        await emit(event, args, **({"to": target["to"]} if target["to"] else {}), **skip)

    @on
    async def volatile(sid, n):
        for i in range(n):
            await emit("volatile", [i], to=sid)
        await emit("volatile-end", [n], to=sid)

    @on
    async def kick(sid):
        await sio.eio.disconnect(sio.manager.eio_sid_from_sid(sid, namespace))

    @on
    async def bye(sid, close):
        connection = sio.manager.eio_sid_from_sid(sid, namespace)
        await sio.disconnect(sid, namespace=namespace)
        if close:
            await sio.eio.disconnect(connection)

    @on
    async def remember(sid, key):
        keys[sid] = key
        return ()

    @on
    async def reason_of(sid, key):
        return (reasons.get(key),)

    @on
    async def whoami(sid):
        auth, environ = auths[sid]
        query = dict(parse_qsl(environ.get("QUERY_STRING", "")))
        return {
            "id": sid,
            "namespace": namespace,
            "auth": auth,
            "who": query.get("who"),
            "transport": sio.transport(sid, namespace=namespace),
            "revision": 4,
        }


async def answer_later(sid, i, n):
    waiting = later.setdefault(sid, [])
    turn = asyncio.get_running_loop().create_future()
    waiting.append(turn)
    if len(waiting) == n:
        for other in reversed(later.pop(sid)):
            other.set_result(None)
            # The others' answers leave in this order.
            await asyncio.sleep(0)
    await turn
    return i


for name in ["/", "/chat", "/admin", *(f"/n{i}" for i in range(10))]:
    serve(name)


async def main():
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", options.port)
    await site.start()
    print(f"listening on {site._server.sockets[0].getsockname()[1]}", flush=True)
    if options.exit_with_stdin:
        end = asyncio.Event()
        loop = asyncio.get_running_loop()
        threading.Thread(
            target=lambda: (sys.stdin.buffer.read(), loop.call_soon_threadsafe(end.set)), daemon=True).start()
        await end.wait()
    else:
        await asyncio.Event().wait()


asyncio.run(main())
