"""One python-socketio server of a mixed cluster, driven by lines of JSON on stdin, as node.mjs is.

    node.py async|sync redis://… name

`async` is an AsyncServer in aiohttp with an AsyncRedisManager, `sync` a Server in threads with a RedisManager.
"""

import asyncio
import json
import pickle
import sys
import threading
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import redis
import socketio
from aiohttp import web

KIND, URL, NAME = sys.argv[1:4]


def say(value):
    print(json.dumps(value), flush=True)


def revive(value):
    """Binary arguments are written as {"$": "<hex>"}."""
    if isinstance(value, list):
        return [revive(item) for item in value]
    if isinstance(value, dict):
        if isinstance(value.get("$"), str):
            return bytes.fromhex(value["$"])
        return {key: revive(item) for key, item in value.items()}
    return value


def rooms_of(environ):
    query = environ.get("QUERY_STRING", "")
    found = [part[6:] for part in query.split("&") if part.startswith("rooms=")]
    return [room for part in found for room in part.replace("%2C", ",").split(",")]


def arguments(command):
    """The event, its data as python-socketio wants it, and whom it is for."""
    name, *args = revive(command["event"])
    data = args[0] if len(args) == 1 else tuple(args) if args else None
    to = command.get("to") or [None]
    room = to[0] if len(to) == 1 else to
    return name, data, {"room": room, "skip_sid": command.get("except") or None}


def outside(command):
    """What programs do that are no servers."""
    if command["op"] == "write-only":
        manager = socketio.RedisManager(URL, write_only=True)
        name, data, whom = arguments(command)
        manager.emit(name, data, namespace="/", **whom)
    if command["op"] == "pickled":
        # As a manager before 5.14 writes it.
        message = {"method": "emit", "event": "pickled", "data": 1, "namespace": "/", "room": None, "host_id": "x"}
        redis.Redis.from_url(URL).publish("socketio", pickle.dumps(message))


async def serve_async():
    io = socketio.AsyncServer(async_mode="aiohttp", client_manager=socketio.AsyncRedisManager(URL))

    @io.event
    async def connect(sid, environ):
        for room in rooms_of(environ):
            await io.enter_room(sid, room)

    @io.event
    async def shout(sid, text):
        await io.emit("shouted", text, skip_sid=sid)

    async def run(command):
        op, to = command["op"], command.get("to") or []
        if op == "emit":
            name, data, whom = arguments(command)
            await io.emit(name, data, **whom)
        elif op == "ask":
            name, data, whom = arguments(command)
            return await io.call(name, data, to=whom["room"], timeout=30)
        elif op == "rooms":
            return sorted(room for room in io.rooms(to[0]))
        elif op == "join":
            for room in command["rooms"]:
                await io.enter_room(to[0], room)
        elif op == "leave":
            for room in command["rooms"]:
                await io.leave_room(to[0], room)
        elif op == "close":
            await io.close_room(to[0])
        elif op == "disconnect":
            await io.disconnect(to[0])
        else:
            await asyncio.to_thread(outside, command)

    app = web.Application()
    io.attach(app)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    say({"port": site._server.sockets[0].getsockname()[1]})

    async def answer(command):
        try:
            result = await run(command)
            say({"id": command["id"], "result": list(result) if isinstance(result, tuple) else result})
        except Exception as error:
            say({"id": command["id"], "error": repr(error)})

    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        if command["op"] == "ask":
            asyncio.create_task(answer(command))
        else:
            await answer(command)


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


class Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = True


def serve_sync():
    io = socketio.Server(async_mode="threading", client_manager=socketio.RedisManager(URL))

    @io.event
    def connect(sid, environ):
        for room in rooms_of(environ):
            io.enter_room(sid, room)

    @io.event
    def shout(sid, text):
        io.emit("shouted", text, skip_sid=sid)

    def run(command):
        op, to = command["op"], command.get("to") or []
        if op == "emit":
            name, data, whom = arguments(command)
            io.emit(name, data, **whom)
        elif op == "ask":
            name, data, whom = arguments(command)
            return io.call(name, data, to=whom["room"], timeout=30)
        elif op == "rooms":
            return sorted(room for room in io.rooms(to[0]))
        elif op == "join":
            for room in command["rooms"]:
                io.enter_room(to[0], room)
        elif op == "leave":
            for room in command["rooms"]:
                io.leave_room(to[0], room)
        elif op == "close":
            io.close_room(to[0])
        elif op == "disconnect":
            io.disconnect(to[0])
        else:
            outside(command)

    server = Threads(("127.0.0.1", 0), Quiet)
    server.set_app(socketio.WSGIApp(io))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say({"port": server.server_port})

    def answer(command):
        try:
            result = run(command)
            say({"id": command["id"], "result": list(result) if isinstance(result, tuple) else result})
        except Exception as error:
            say({"id": command["id"], "error": repr(error)})

    for line in sys.stdin:
        command = json.loads(line)
        if command["op"] == "ask":
            threading.Thread(target=answer, args=(command,), daemon=True).start()
        else:
            answer(command)


if KIND == "async":
    asyncio.run(serve_async())
else:
    serve_sync()
