// A mixed cluster on one broker: two Node servers with the official adapter and two of ours, a client on each, and every
// operation from each kind of server to each kind of server. One test per operation and direction.

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Client, Node, startPostgres, startRedis, until } from "./world.mjs";

for (const adapter of ["classic", "sharded", "streams", "postgres"]) {
  let broker;
  let nodes;
  let clients;
  let ends = 0;

  before(async () => {
    broker = await (adapter === "postgres" ? startPostgres() : startRedis());
    nodes = [
      new Node("node", "n1", adapter, broker.url),
      new Node("node", "n2", adapter, broker.url),
      new Node("rust", "r1", adapter, broker.url),
      new Node("rust", "r2", adapter, broker.url),
    ];
    await Promise.all(nodes.map((node) => node.ready));
    for (const node of nodes) await until("all know all", async () => (await node.tell("count")) === 4);
    clients = nodes.map((node) => new Client(node, `c-${node.name}`, `all,on-${node.kind},${node.name}`));
    await Promise.all(clients.map((client) => client.connected()));
    // Everybody is in its rooms, and the broker knows.
    for (const node of nodes) {
      await until("all are in their rooms", async () => {
        const sockets = await node.tell("fetch", { to: ["all"] });
        return sockets.length === 4;
      });
      await until("channels of rooms are heard", async () => {
        const heard = [];
        await node.tell("emit", { to: ["all"], event: ["warm"] });
        await sleep(50);
        for (const client of clients) heard.push(client.events.some(([event]) => event === "warm"));
        for (const client of clients) client.events = [];
        return heard.every(Boolean);
      });
    }
  });

  after(() => {
    for (const client of clients ?? []) client.socket.disconnect();
    for (const child of [...(nodes ?? []).map((node) => node.child), broker?.child]) child?.kill("SIGKILL");
  });

  /** What each of these has got, up to a last event that everybody gets, over the same way as what is checked. */
  const heard = async (from, group, what = clients) => {
    const end = `end-${++ends}`;
    await from.tell("emit", { event: [end] });
    await from.tell("emit", { to: ["all"], event: [`${end}-room`] });
    for (const client of clients) {
      await client.next(end);
      await client.next(`${end}-room`);
    }
    const names = what.map((client) => client.events.map(([event]) => event).filter((event) => group.includes(event)));
    for (const client of clients) client.events = [];
    return names.map((events) => events.join(" "));
  };

  /** One cell: from a server of one kind, looked at on servers of a kind. */
  const cell = (operation, run) => {
    for (const from of ["node", "rust"]) {
      for (const to of ["node", "rust"]) {
        test(`${adapter} ${operation} ${from}>${to}`, { timeout: 120_000 }, async () => {
          const source = nodes.find((node) => node.kind === from);
          const targets = clients.filter((client) => client.node.kind === to && client.node !== source);
          await run(source, targets, to);
          // What others got must not be taken for what comes next.
          await heard(source, [], []);
        });
      }
    }
  };

  cell("broadcast", async (source, targets) => {
    await source.tell("emit", { event: ["hi", { a: [1, 2.5, "é", null, true] }, "second"] });
    for (const client of targets) {
      assert.deepEqual(await client.next("hi"), ["hi", { a: [1, 2.5, "é", null, true] }, "second"]);
    }
    assert.deepEqual(await heard(source, ["hi"], targets), targets.map(() => ""));
  });

  cell("room", async (source, targets, kind) => {
    await source.tell("emit", { to: [`on-${kind}`], event: ["room", kind] });
    for (const client of targets) assert.deepEqual(await client.next("room"), ["room", kind]);
    const others = clients.filter((client) => client.node.kind !== kind);
    assert.deepEqual(await heard(source, ["room"], others), others.map(() => ""));
  });

  cell("rooms", async (source, targets, kind) => {
    // Somebody in both gets it once.
    await source.tell("emit", { to: [`on-${kind}`, "all"], event: ["rooms"] });
    assert.deepEqual(await heard(source, ["rooms"], targets), targets.map(() => "rooms"));
  });

  cell("except", async (source, targets) => {
    const [out, ...rest] = [...targets].reverse();
    await source.tell("emit", { except: [out.node.name], event: ["most"] });
    await source.tell("emit", { to: ["all"], except: [out.id], event: ["more"] });
    assert.deepEqual(await heard(source, ["most", "more"], [out, ...rest]), ["", ...rest.map(() => "most more")]);
  });

  cell("one-socket", async (source, targets) => {
    const [client] = targets;
    await source.tell("emit", { to: [client.id], event: ["you", 1] });
    assert.deepEqual(await client.next("you"), ["you", 1]);
  });

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
    assert.equal((await source.tell("ask", { flags: { timeout: 20_000 }, event: ["who"] })).length, 4);
  });

  cell("ack-binary", async (source, targets, kind) => {
    const answers = await source.tell("ask", { to: [`on-${kind}`], flags: { timeout: 20_000 }, event: ["bytes"] });
    assert.equal(answers.length, 2);
    for (const answer of answers) assert.equal(Buffer.from(answer.data ?? answer).toString("hex"), "010203");
  });

  cell("fetch", async (source, targets, kind) => {
    const sockets = await source.tell("fetch", { to: [`on-${kind}`] });
    const want = clients.filter((client) => client.node.kind === kind);
    assert.deepEqual(sockets.map((socket) => socket.id).sort(), want.map((client) => client.id).sort());
    for (const socket of sockets) {
      const client = want.find((client) => client.id === socket.id);
      const rooms = [client.id, "all", `on-${kind}`, client.node.name].sort();
      assert.deepEqual(socket, { id: client.id, rooms, server: client.node.name, as: client.name });
    }
    assert.equal((await source.tell("fetch")).length, 4);
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
    for (const client of clients) assert.ok(client.socket.connected);
  });

  cell("shout", async (source, targets) => {
    // What a client of the source sends to the others.
    const speaker = clients.find((client) => client.node === source);
    speaker.socket.emit("shout", "hey");
    for (const client of targets) assert.deepEqual(await client.next("shouted"), ["shouted", "hey"]);
    assert.deepEqual(await heard(source, ["shouted"], [speaker]), [""]);
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
}
