// A mixed cluster on one broker: two Node servers with the official adapter and two of ours, two clients on each (one of
// them ours), and every operation from each kind of server to each kind of server. One test per operation and direction.
// Then emitters of both makes, and clients that come back to another server.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect as connectTo, createServer } from "node:net";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Emitter as PostgresEmitter } from "@socket.io/postgres-emitter";
import { Emitter as RedisEmitter } from "@socket.io/redis-emitter";
import pg from "pg";
import { createClient } from "redis";
import { Mixed } from "./mixed.mjs";
import { Client, Node, RustClient, revive, startPostgres, startRedis, until } from "./world.mjs";

for (const adapter of ["classic", "sharded", "streams", "postgres"]) {
  let broker;
  const mixed = new Mixed(adapter, ["node", "rust"]);
  const { nodes, clients } = mixed;
  const heard = (...args) => mixed.heard(...args);
  const cell = (...args) => mixed.cell(...args);

  before(async () => {
    broker = await (adapter === "postgres" ? startPostgres() : startRedis());
    nodes.push(
      new Node("node", "n1", adapter, broker.url),
      new Node("node", "n2", adapter, broker.url),
      new Node("rust", "r1", adapter, broker.url),
      new Node("rust", "r2", adapter, broker.url),
    );
    await Promise.all(nodes.map((node) => node.ready));
    for (const node of nodes) await until("all know all", async () => (await node.tell("count")) === 4);
    const client = (Kind, prefix) => (node) => {
      const name = `${prefix}-${node.name}`;
      return new Kind(node, name, `all,on-${node.kind},${node.name},${name}`);
    };
    clients.push(...nodes.map(client(Client, "js")), ...nodes.map(client(RustClient, "rs")));
    await Promise.all(clients.map((client) => client.connected()));
    // Everybody is in its rooms, and the broker knows.
    for (const node of nodes) {
      await until("all are in their rooms", async () => {
        const sockets = await node.tell("fetch", { to: ["all"] });
        return sockets.length === clients.length;
      });
    }
    await mixed.warm();
  });

  after(() => mixed.stop(broker));

  mixed.commonCells((client) => client.name);

  cell("volatile", async (source, targets) => {
    for (const client of targets) {
      await until("a volatile event arrives", async () => {
        await source.tell("emit", { flags: { volatile: true }, event: ["volatile"] });
        await sleep(10);
        return client.events.some(([event]) => event === "volatile");
      });
    }
    await heard(source, []);
  });

  cell("local", async (source, targets) => {
    await source.tell("emit", { flags: { local: true }, event: ["local"] });
    assert.deepEqual(await heard(source, ["local"], targets), targets.map(() => ""));
  });

  // Node's PostgreSQL adapter sends over any of its connections and fetches rows as they come: only ours keeps an order.
  const inOrder = (source, client) => adapter !== "postgres" || (source.kind === "rust" && client.node.kind === "rust");

  cell("binary", async (source, targets) => {
    const bytes = "00ff10".repeat(1000);
    await source.tell("emit", { event: ["binary", { $: bytes }, [{ deep: { $: "01" } }]] });
    await source.tell("emit", { to: ["all"], event: ["binary", { $: bytes }, [{ deep: { $: "" } }]] });
    for (const client of targets) {
      const deep = [];
      for (let n = 0; n < 2; n++) {
        const [, first, second] = await client.next("binary");
        assert.equal(Buffer.from(first).toString("hex"), bytes);
        deep.push(Buffer.from(second[0].deep).toString("hex"));
      }
      assert.deepEqual(inOrder(source, client) ? deep : deep.sort().reverse(), ["01", ""]);
    }
  });

  cell("order", async (source, targets) => {
    for (let n = 0; n < 100; n++) await source.tell("emit", { to: ["all"], event: ["n", n] });
    for (const client of targets) {
      const numbers = [];
      for (let n = 0; n < 100; n++) numbers.push((await client.next("n"))[1]);
      if (!inOrder(source, client)) numbers.sort((a, b) => a - b);
      assert.deepEqual(numbers, Array.from({ length: 100 }, (_, n) => n));
    }
  });

  cell("ack", async (source, targets, kind) => {
    const names = clients.filter((client) => client.node.kind === kind).map((client) => client.name);
    const answers = await source.tell("ask", { to: [`on-${kind}`], flags: { timeout: 20_000 }, event: ["who"] });
    assert.deepEqual(answers.sort(), names.sort());
    const all = await source.tell("ask", { flags: { timeout: 20_000 }, event: ["who"] });
    assert.equal(all.length, clients.length);
  });

  cell("ack-binary", async (source, targets, kind) => {
    const answers = await source.tell("ask", { to: [`on-${kind}`], flags: { timeout: 20_000 }, event: ["bytes"] });
    assert.equal(answers.length, 4);
    for (const answer of answers) assert.equal(Buffer.from(answer.data ?? answer).toString("hex"), "010203");
  });

  cell("fetch", async (source, targets, kind) => {
    const sockets = await source.tell("fetch", { to: [`on-${kind}`] });
    const want = clients.filter((client) => client.node.kind === kind);
    assert.deepEqual(sockets.map((socket) => socket.id).sort(), want.map((client) => client.id).sort());
    for (const socket of sockets) {
      const client = want.find((client) => client.id === socket.id);
      const rooms = [client.id, "all", `on-${kind}`, client.node.name, client.name].sort();
      assert.deepEqual(socket, { id: client.id, rooms, server: client.node.name, as: client.name });
    }
    assert.equal((await source.tell("fetch")).length, clients.length);
  });

  cell("join-leave", async (source, targets) => {
    const [client] = targets;
    const inRoom = async () => (await client.node.tell("fetch", { to: ["new"], flags: { local: true } })).length;
    await source.tell("join", { to: [client.id], rooms: ["new", "newer"] });
    await until("it has joined", async () => (await inRoom()) === 1);
    await until("the room is heard", async () => {
      await source.tell("emit", { to: ["new"], event: ["in-new"] });
      await sleep(10);
      return client.events.some(([event]) => event === "in-new");
    });
    await source.tell("leave", { to: ["newer"], rooms: ["new"] });
    await until("it has left", async () => (await inRoom()) === 0);
    await heard(source, []);
    await source.tell("emit", { to: ["new"], event: ["in-new"] });
    assert.deepEqual(await heard(source, ["in-new"], [client]), [""]);
    await source.tell("leave", { to: [client.id], rooms: ["newer"] });
    await until("it has left", async () => {
      return (await client.node.tell("fetch", { to: ["newer"], flags: { local: true } })).length === 0;
    });
  });

  cell("disconnect", async (source, targets) => {
    const { node } = targets[0];
    const victim = new Client(node, "victim", "victims");
    await victim.connected();
    const gone = once(victim.socket, "disconnect");
    await source.tell("disconnect", { to: [victim.id], close: true });
    const [reason] = await gone;
    assert.match(reason, /io server disconnect|transport close/);
    for (const client of clients) assert.ok(client.isConnected);
  });

  cell("server-side-emit", async (source, targets) => {
    await source.tell("tell", { text: { a: 1 } });
    for (const client of targets) {
      assert.deepEqual(await client.next("told"), ["told", { a: 1 }, client.node.name]);
    }
    const own = clients.find((client) => client.node === source);
    assert.deepEqual(await heard(source, ["told"], [own]), [""]);
  });

  cell("server-side-ack", async (source, targets, kind) => {
    const answers = await source.tell("askServers", { text: "t" });
    assert.equal(answers.length, 3);
    const from = answers.map((answer) => answer.from);
    for (const client of targets) assert.ok(from.includes(client.node.name), `${from} of ${kind}`);
    assert.ok(answers.every((answer) => answer.text === "t") && !from.includes(source.name));
  });

  cell("remote-socket", async (source, targets) => {
    const [client] = targets;
    await source.tell("remote", { to: [client.id], event: ["direct", 7], join: "by-remote" });
    assert.deepEqual(await client.next("direct"), ["direct", 7]);
    await until("it has joined", async () => {
      return (await client.node.tell("fetch", { to: ["by-remote"], flags: { local: true } })).length === 1;
    });
    await source.tell("leave", { to: [client.id], rooms: ["by-remote"] });
  });

  // Programs that are no servers: Node's emitters and ours, of which each can do everything but ask.
  for (const from of adapter === "sharded" ? [] : adapter === "streams" ? ["rust"] : ["node", "rust"]) {
    for (const to of ["node", "rust"]) {
      test(`${adapter} emitters ${from} > servers ${to}`, { timeout: 120_000 }, async () => {
        const emitter = await (from === "node" ? npmEmitter(adapter, broker.url) : ourEmitter(nodes[2]));
        // Node's emitter for PostgreSQL does not name the namespace, and Node's adapter from 0.4 on wants to know it.
        if (adapter === "postgres" && from === "node" && to === "node") {
          await emitter.say("emit", { to: ["on-node"], event: ["nobody hears this"] });
          await emitter.say("emit", { to: ["on-rust"], event: ["others do"] });
          await clients.find((client) => client.node.kind === "rust").next("others do");
          assert.deepEqual(await heard(nodes[0], ["nobody hears this"]), clients.map(() => ""));
          return await emitter.end();
        }
        const targets = clients.filter((client) => client.node.kind === to);
        const others = clients.filter((client) => client.node.kind !== to);
        const event = ["outside", { a: [1, "é"] }, { $: "00ff" }];
        await emitter.say("emit", { to: [`on-${to}`], except: [targets[0].name], event });
        for (const client of targets.slice(1)) {
          const [, first, second] = await client.next("outside");
          assert.deepEqual([first, Buffer.from(second).toString("hex")], [{ a: [1, "é"] }, "00ff"]);
        }
        const not = [targets[0], ...others];
        assert.deepEqual(await heard(nodes[0], ["outside"], not), not.map(() => ""));
        const [client] = targets;
        const inRoom = async () => (await client.node.tell("fetch", { to: ["picked"], flags: { local: true } })).length;
        await emitter.say("join", { to: [client.id], rooms: ["picked"] });
        await until("it has joined", async () => (await inRoom()) === 1);
        await emitter.say("leave", { to: [client.id], rooms: ["picked"] });
        await until("it has left", async () => (await inRoom()) === 0);
        await emitter.say("tell", { text: "from outside" });
        for (const client of targets) {
          assert.deepEqual(await client.next("told"), ["told", "from outside", client.node.name]);
        }
        const victim = new Client(client.node, "victim", "victims");
        await victim.connected();
        const gone = once(victim.socket, "disconnect");
        await emitter.say("disconnect", { to: [victim.id], close: true });
        await gone;
        await emitter.end();
        await heard(nodes[0], [], []);
      });
    }
  }

  if (adapter === "sharded") {
    test("sharded emitters node: it speaks the classic protocol, and nobody hears it", { timeout: 120_000 }, async () => {
      const emitter = await npmEmitter("classic", broker.url);
      await emitter.say("emit", { event: ["outside"] });
      await emitter.end();
      assert.deepEqual(await heard(nodes[0], ["outside"]), clients.map(() => ""));
    });
  }
}

/** Node's emitter, with the words of the servers. */
const npmEmitter = async (adapter, url) => {
  let emitter;
  let end;
  if (adapter === "postgres") {
    const { searchParams } = new URL(url.replace("postgresql:///", "postgresql://x/"));
    const where = { host: searchParams.get("host"), user: searchParams.get("user"), database: "postgres" };
    const pool = new pg.Pool({ ...where, max: 1 });
    emitter = new PostgresEmitter(pool);
    end = () => pool.end();
  } else {
    const client = createClient({ url });
    await client.connect();
    emitter = new RedisEmitter(client);
    end = () => client.close();
  }
  const say = async (what, { to = [], except = [], event, rooms, close, text }) => {
    let group = emitter.except(except);
    if (to.length) group = group.to(to);
    if (what === "emit") await group.emit(...revive(event));
    if (what === "join") await group.socketsJoin(rooms);
    if (what === "leave") await group.socketsLeave(rooms);
    if (what === "disconnect") await group.disconnectSockets(close);
    if (what === "tell") await emitter.serverSideEmit("tell", text);
  };
  return { say, end };
};

/** Ours, in the process of one of our servers. */
const ourEmitter = async (node) => ({
  say: (what, command) => node.tell("emitter", { what, ...command }),
  end: async () => {},
});

// Clients that come back, over Redis streams.
{
  let broker;
  let nodes;

  before(async () => {
    broker = await startRedis();
    nodes = ["node", "node", "rust", "rust"].map((kind, at) => new Node(kind, `s${at}`, "recovery", broker.url));
    await Promise.all(nodes.map((node) => node.ready));
    for (const node of nodes) await until("all know all", async () => (await node.tell("count")) === 4);
  });

  after(() => [...(nodes ?? []).map((node) => node.child), broker?.child].forEach((child) => child?.kill("SIGKILL")));

  /** What stands between a client and whichever server it shall reach. */
  class Proxy {
    #sockets = new Set();
    node;

    async listen() {
      this.server = createServer((near) => {
        if (!this.node) return near.destroy();
        const far = connectTo(this.node.port, "127.0.0.1");
        for (const [socket, other] of [[near, far], [far, near]]) {
          this.#sockets.add(socket);
          socket.on("error", () => {});
          socket.on("close", () => {
            this.#sockets.delete(socket);
            other.destroy();
          });
          socket.pipe(other);
        }
      }).listen(0, "127.0.0.1");
      await once(this.server, "listening");
      this.port = this.server.address().port;
    }

    cut() {
      this.node = undefined;
      for (const socket of this.#sockets) socket.destroy();
    }
  }

  /** What was heard, without offsets, in order. */
  const names = (client) => client.events.splice(0).map(([event]) => event);

  const comeBack = async (make, from, to, leave) => {
    const proxy = new Proxy();
    await proxy.listen();
    proxy.node = from;
    const name = `guest-${Math.random()}`;
    const client = make(proxy, name, `moved,${name}`);
    await client.connected();
    const other = nodes.findLast((node) => node.kind === to.kind && node !== from);
    await other.tell("emit", { to: ["moved"], event: ["first", 1] });
    await client.next("first");
    await from.tell("emit", { to: [client.id], event: ["second", 2] });
    await client.next("second");
    const { id } = client;
    proxy.node = undefined;
    await leave(proxy, async () => (await other.tell("fetch", { to: [name] })).length === 0);
    await until("it is away", () => !client.isConnected);
    await other.tell("emit", { to: ["moved"], event: ["room", 1] });
    await other.tell("emit", { to: ["elsewhere"], event: ["not for it"] });
    await other.tell("emit", { to: [id], event: ["itself", { $: "0102" }] });
    await other.tell("emit", { to: ["moved"], except: [name], event: ["left out"] });
    await other.tell("emit", { event: ["everybody", "text"] });
    await other.tell("emit", { flags: { volatile: true }, to: ["nobody"], event: ["volatile"] });
    proxy.node = to;
    await client.connected();
    await other.tell("emit", { to: [name], event: ["end"] });
    await until("it has heard the end", () => client.events.some(([event]) => event === "end"));
    const sockets = await other.tell("fetch", { to: [name] });
    const outcome = { connections: client.connections, before: id, id: client.id, sockets, heard: names(client), name };
    client.leave();
    proxy.cut();
    proxy.server.close();
    return outcome;
  };

  const makers = {
    js: (proxy, name, rooms) => new Client(proxy, name, rooms, ["websocket"], { reconnectionDelay: 50, reconnectionDelayMax: 200 }),
    rust: (proxy, name, rooms) => new RustClient(proxy, name, rooms),
  };

  /** It has its socket back, and everything that was for it, once and in order. */
  const isBack = ({ connections, before, id, sockets, heard, name }, from) => {
    assert.deepEqual(connections, [false, true]);
    assert.equal(id, before);
    assert.deepEqual(heard, ["room", "itself", "everybody", "end"]);
    assert.deepEqual(sockets.map((socket) => socket.rooms), [[id, "moved", name].sort()]);
    assert.deepEqual(sockets.map((socket) => socket.server), [from.name]);
  };

  /** The link breaks, and its server has noticed. */
  const cut = async (proxy, noticed) => {
    proxy.cut();
    await until("its server has noticed", noticed);
  };

  const mortal = async (kind) => {
    const node = new Node(kind, "mortal", "recovery", broker.url);
    await node.ready;
    // It may not have found the broker yet.
    await until("all know it", async () => (await node.tell("count").catch(() => 0)) === 5);
    return node;
  };

  const kill = async (node) => {
    node.child.kill("SIGKILL");
    await until("it is gone", async () => (await nodes[0].tell("count")) === 4);
  };

  for (const make of ["js", "rust"]) {
    for (const from of ["node", "rust"]) {
      for (const to of ["node", "rust"]) {
        const cell = (what, run) => test(`recovery of a ${make} client ${what} ${from} > ${to}`, { timeout: 120_000 }, run);

        cell("that loses its link", async () => {
          const source = nodes.find((node) => node.kind === from);
          const target = nodes.find((node) => node.kind === to && node !== source);
          isBack(await comeBack(makers[make], source, target, cut), source);
        });

        cell("whose server is closed", async () => {
          const source = await mortal(from);
          const target = nodes.find((node) => node.kind === to);
          const outcome = await comeBack(makers[make], source, target, async () => {
            await source.tell("close");
            await kill(source);
          });
          isBack(outcome, source);
        });

        cell("whose server is killed while it is away", async () => {
          const source = await mortal(from);
          const target = nodes.find((node) => node.kind === to);
          const outcome = await comeBack(makers[make], source, target, async (proxy, noticed) => {
            await cut(proxy, noticed);
            await kill(source);
          });
          isBack(outcome, source);
        });
      }
    }
  }

  // A server that is killed keeps nothing: its clients are new ones, and are told nothing of before.
  for (const to of ["node", "rust"]) {
    test(`recovery is not pretended when the server was killed > ${to}`, { timeout: 120_000 }, async () => {
      const source = await mortal("rust");
      const target = nodes.find((node) => node.kind === to);
      const { connections, before, id, heard } = await comeBack(makers.js, source, target, () => kill(source));
      assert.deepEqual(connections, [false, false]);
      assert.notEqual(id, before);
      assert.deepEqual(heard, ["end"]);
    });
  }
}
