// Reads an AsyncAPI document as AsyncAPI's own parser does, and prints TAP.

import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const source = readFileSync(process.argv[2], "utf8");
const parser = new Parser();
const faults = (found) => found.filter(({ severity }) => severity === 0).map(({ message, path }) => `${path.join(".")}: ${message}`);

const { document, diagnostics } = await parser.parse(source);
const errors = faults(diagnostics);
console.log(errors.length === 0 && document ? "ok 1 - the document is AsyncAPI 3" : "not ok 1 - the document is AsyncAPI 3");
errors.forEach((error) => console.log(`  ${error}`));

const said = document?.operations().get("root.receive.say");
const read = {
  version: document?.version(),
  channels: document?.channels().all().map((channel) => channel.address()).sort(),
  action: said?.action(),
  payload: said?.messages().all()[0].payload().items()?.[0]?.properties()?.text?.type(),
  reply: said?.reply()?.messages().all().length,
};
const want = { version: "3.0.0", channels: ["/", "/admin"], action: "receive", payload: "string", reply: 1 };
const same = JSON.stringify(read) === JSON.stringify(want);
console.log(`${same ? "ok" : "not ok"} 2 - a reader finds channels, operations, payloads and replies`);
if (!same) console.log(`  ${JSON.stringify(read)}`);

// A parser that takes everything would prove nothing.
const broken = source.replace('"action": "receive"', '"action": "listen"').replace('"asyncapi": "3.0.0"', '"asyncapi": "3.0.0"');
const noticed = faults((await parser.parse(broken)).diagnostics).length > 0;
console.log(`${noticed ? "ok" : "not ok"} 3 - a wrong document is noticed`);
console.log("1..3");
