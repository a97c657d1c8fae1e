// A mixed cluster: servers of two kinds on one broker, clients on each, and what every adapter does alike, from each kind of
// server to each kind of server.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { until } from "./world.mjs";

export class Mixed {
  nodes = [];
  clients = [];
  #ends = 0;

  /** `everySource`: each server of a kind does each operation, not the first of the kind for all. */
  constructor(label, kinds, { everySource = false } = {}) {
    this.label = label;
    this.kinds = kinds;
    this.everySource = everySource;
  }

  /** Waits until everybody hears every server, over the channel of the room of all. */
  async warm() {
    for (const node of this.nodes) {
      await until("everybody hears everybody", async () => {
        await node.tell("emit", { to: ["all"], event: ["warm"] });
        await sleep(50);
        const heard = this.clients.map((client) => client.events.some(([event]) => event === "warm"));
        for (const client of this.clients) client.events = [];
        return heard.every(Boolean);
      });
    }
  }

  stop(broker) {
    for (const client of this.clients) client.leave();
    for (const child of [...this.nodes.map((node) => node.child), broker?.child]) child?.kill("SIGKILL");
  }

  /**
   * Which events of the group each of these has got, up to a last event from the same server that everybody gets, over the
   * same ways as what is checked.
   */
  async heard(from, group, what = this.clients) {
    const end = `end-${++this.#ends}`;
    await from.tell("emit", { event: [end] });
    await from.tell("emit", { to: ["all"], event: [`${end}-room`] });
    for (const client of this.clients) {
      await client.next(end);
      await client.next(`${end}-room`);
    }
    const names = what.map((client) => client.events.map(([event]) => event).filter((event) => group.includes(event)));
    for (const client of this.clients) client.events = [];
    return names.map((events) => events.join(" "));
  }

  /** One cell: from servers of one kind, looked at on the other servers of a kind. */
  cell(operation, run) {
    for (const from of this.kinds) {
      for (const to of this.kinds) {
        test(`${this.label} ${operation} ${from}>${to}`, { timeout: 120_000 }, async () => {
          const sources = this.nodes.filter((node) => node.kind === from);
          for (const source of this.everySource ? sources : sources.slice(0, 1)) {
            const targets = this.clients.filter((client) => client.node.kind === to && client.node !== source);
            await run(source, targets, to);
            // What others got must not be taken for what comes next.
            await this.heard(source, [], []);
          }
        });
      }
    }
  }

  /** What every adapter can. `room` names a client's own room for an exception: not every channel knows more than ids. */
  commonCells(room) {
    const silence = (who) => who.map(() => "");

    this.cell("broadcast", async (source, targets) => {
      await source.tell("emit", { event: ["hi", { a: [1, 2.5, "é", null, true] }, "second"] });
      for (const client of targets) {
        assert.deepEqual(await client.next("hi"), ["hi", { a: [1, 2.5, "é", null, true] }, "second"]);
      }
      assert.deepEqual(await this.heard(source, ["hi"], targets), silence(targets));
    });

    this.cell("room", async (source, targets, kind) => {
      await source.tell("emit", { to: [`on-${kind}`], event: ["room", kind] });
      for (const client of targets) assert.deepEqual(await client.next("room"), ["room", kind]);
      const others = this.clients.filter((client) => client.node.kind !== kind);
      assert.deepEqual(await this.heard(source, ["room"], others), silence(others));
    });

    this.cell("rooms", async (source, targets, kind) => {
      // Somebody in both gets it once.
      await source.tell("emit", { to: [`on-${kind}`, "all"], event: ["rooms"] });
      assert.deepEqual(await this.heard(source, ["rooms"], targets), targets.map(() => "rooms"));
    });

    this.cell("except", async (source, targets) => {
      const [out, ...rest] = [...targets].reverse();
      await source.tell("emit", { except: [room(out)], event: ["most"] });
      await source.tell("emit", { to: ["all"], except: [out.id], event: ["more"] });
      const got = await this.heard(source, ["most", "more"], [out, ...rest]);
      assert.deepEqual(got, ["", ...rest.map(() => "most more")]);
    });

    this.cell("one-socket", async (source, targets) => {
      const [client] = targets;
      await source.tell("emit", { to: [client.id], event: ["you", 1] });
      assert.deepEqual(await client.next("you"), ["you", 1]);
    });

    this.cell("shout", async (source, targets) => {
      // What a client of the source sends to the others.
      const speaker = this.clients.find((client) => client.node === source);
      speaker.socket.emit("shout", "hey");
      for (const client of targets) assert.deepEqual(await client.next("shouted"), ["shouted", "hey"]);
      assert.deepEqual(await this.heard(source, ["shouted"], [speaker]), [""]);
    });
  }
}
