// The page of `sio serve` in headless Chromium: two tabs chat, join rooms, poke each other, drop files, and survive a
// restart of the server. SIO_BIN names the program; without it the npm reference server serves the same page.
// Screenshots go to SCREENSHOTS, if that names a folder.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { chromium } from "playwright-core";

import { freePort, program, start } from "./serve.mjs";

const LIMIT = { timeout: 60_000 };
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];

let browser, context, server, port;
const complaints = [];

before(async () => {
  port = await freePort();
  server = await start(port);
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
  context = await browser.newContext({ viewport: { width: 1280, height: 800 }, reducedMotion: "reduce" });
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

async function open(name, query = "") {
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  page.on("pageerror", (error) => complaints.push(`${name}: ${error}`));
  page.on("console", (message) => {
    // While the server is down the browser itself reports every failed request.
    if (message.type() === "error" && !/ERR_CONNECTION|WebSocket connection to/.test(message.text())) complaints.push(`${name}: ${message.text()}`);
  });
  await page.goto(`${server.url}/?name=${encodeURIComponent(name)}${query}`);
  await page.locator("#state[data-state=connected]").waitFor();
  return page;
}

const say = async (page, text) => {
  await page.locator("#text").fill(text);
  await page.locator("#text").press("Enter");
};
const hears = (page, text) => page.locator(".message:not(.own) .body", { hasText: text }).waitFor();
const shoot = async (page, name) => {
  if (process.env.SCREENSHOTS) await page.screenshot({ path: join(process.env.SCREENSHOTS, `${name}.png`) });
};

/** A real picture: drawn, not read from a file. */
const picture = (page) => page.evaluate(async () => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 180 });
  const pen = canvas.getContext("2d");
  const ground = pen.createLinearGradient(0, 0, 320, 180);
  ground.addColorStop(0, "#4f46e5");
  ground.addColorStop(1, "#f59e0b");
  pen.fillStyle = ground;
  pen.fillRect(0, 0, 320, 180);
  pen.fillStyle = "#fff";
  pen.beginPath();
  pen.arc(250, 60, 30, 0, 7);
  pen.fill();
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  return [...new Uint8Array(await blob.arrayBuffer())];
});

/** Drops a file onto the page, as a hand would. */
const drop = (page, name, type, data) => page.evaluate(([name, type, data]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(data)], name, { type }));
  for (const event of ["dragenter", "dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(event, { dataTransfer: transfer, bubbles: true, cancelable: true }));
  }
}, [name, type, data]);


test("two_tabs_chat_and_survive_a_restart", LIMIT, async () => {
  const ann = await open("Ann Archer");
  const bob = await open("Bob");

  // Transport and latency are shown.
  await ann.locator("#transport", { hasText: "websocket" }).waitFor();
  await ann.locator("#latency", { hasText: "ms" }).waitFor();
  await ann.locator("#people li", { hasText: "Bob" }).waitFor();
  await bob.locator("#people li", { hasText: "Ann Archer" }).waitFor();

  // A message, acknowledged.
  await say(ann, "Hello Bob, can you hear me?");
  await hears(bob, "Hello Bob, can you hear me?");
  await ann.locator('.own .mark[data-mark="done"]').waitFor();
  await say(bob, "Loud and clear! <b>not bold</b>");
  await hears(ann, "Loud and clear! <b>not bold</b>");

  // Typing is shown and goes away.
  await bob.locator("#text").pressSequentially("hm");
  await ann.locator("#typing", { hasText: "Bob is typing" }).waitFor();
  await bob.locator("#text").fill("");

  // A poke: an ack through the server to the other tab and back.
  await ann.getByRole("button", { name: "Poke Bob" }).click();
  await bob.locator(".event", { hasText: "Ann Archer poked you" }).waitFor();
  await ann.locator(".event", { hasText: "Ouch! says Bob" }).waitFor();

  // A file, dropped. Ann chose the picture; Bob must have its bytes.
  const png = await picture(ann);
  await drop(ann, "sunset.png", "image/png", png);
  const image = bob.locator('.message:not(.own) img[alt="sunset.png"]');
  await image.waitFor();
  await bob.waitForFunction(() => document.querySelector('.message:not(.own) img[alt="sunset.png"]').naturalWidth === 320);
  await bob.locator(".message:not(.own) a", { hasText: `sunset.png (${(png.length / 1024).toFixed(1)} KiB)` }).waitFor();
  const odd = Array.from({ length: 5000 }, (_, i) => (i * 7) % 256);
  await drop(bob, "data.bin", "application/octet-stream", odd);
  const [download] = await Promise.all([
    ann.waitForEvent("download"),
    ann.locator('.message:not(.own) a[download="data.bin"]').click(),
  ]);
  const chunks = [];
  for await (const chunk of await download.createReadStream()) chunks.push(chunk);
  assert.deepEqual([...Buffer.concat(chunks)], odd);

  // Rooms: who is not in it hears nothing, who is elsewhere sees a count.
  await ann.locator("#room").fill("secret");
  await ann.locator("#room").press("Enter");
  await ann.locator("#title", { hasText: "#secret" }).waitFor();
  await say(ann, "nobody hears this");
  await ann.locator('.own .mark[data-mark="done"]').waitFor();
  await bob.locator("#room").fill("secret");
  await bob.locator("#room").press("Enter");
  await ann.locator(".event", { hasText: "Bob came in" }).waitFor();
  await say(bob, "now I am here");
  await hears(ann, "now I am here");
  assert.equal(await bob.locator(".body", { hasText: "nobody hears this" }).count(), 0);
  await bob.locator(".space button", { hasText: "general" }).click();
  await say(bob, "meanwhile in general");
  await ann.locator(".space li", { hasText: "general" }).locator(".badge", { hasText: "1" }).waitFor();

  // Namespaces: one asks for a password.
  await ann.locator(".space button", { hasText: "crew" }).click();
  await ann.locator("#password").fill("wrong");
  await ann.getByRole("button", { name: "Enter" }).click();
  await ann.locator("#gate-error", { hasText: "wrong password" }).waitFor();
  await shoot(ann, "refused");
  await ann.locator("#password").fill("sesame");
  await ann.getByRole("button", { name: "Enter" }).click();
  await ann.locator("#title", { hasText: "#crew" }).waitFor();
  await ann.locator("#subtitle", { hasText: "/backstage · 1 here" }).waitFor();
  await say(ann, "backstage at last");
  await ann.locator('.own .mark[data-mark="done"]').waitFor();
  await ann.locator(".space button", { hasText: "general" }).click();
  await hears(ann, "meanwhile in general");
  await shoot(ann, "chat");

  // The server is killed; what is written meanwhile is kept, and arrives in its room when another one has started.
  await server.kill();
  await ann.locator("#state[data-state=connecting]").waitFor();
  await bob.locator("#state[data-state=connecting]").waitFor();
  await say(ann, "written while you were away (1)");
  await say(ann, "written while you were away (2)");
  await ann.locator("#notice", { hasText: "2 messages wait for it" }).waitFor();
  await shoot(ann, "offline");
  server = await start(port);
  for (const page of [ann, bob]) {
    await page.locator("#state[data-state=connected]").waitFor();
    await page.locator("#notice", { hasText: "The server was restarted" }).waitFor();
    assert.equal(await page.locator("#reconnects").textContent(), "1");
  }
  await ann.locator('.own .mark', { hasText: "sent later" }).first().waitFor();
  // Bob may have come back after Ann's messages went out: then nobody was there to hear them. What is said now is heard.
  await ann.locator("#people li", { hasText: "Bob" }).waitFor();
  await say(ann, "are you back?");
  await hears(bob, "are you back?");
  await say(bob, "yes, in the same room");
  await hears(ann, "yes, in the same room");
  assert.equal(await ann.locator('.own .mark[data-mark="queued"], .own .mark[data-mark="failed"]').count(), 0);
  await ann.locator("#transport", { hasText: "websocket" }).waitFor();
  await shoot(ann, "restarted");
  assert.deepEqual(complaints, []);
  await ann.close();
  await bob.close();
});

test("the_page_works_over_each_transport_alone", LIMIT, async () => {
  const pages = [];
  for (const mode of ["polling", "websocket", "short"]) {
    const page = await open(`Tab ${mode}`, `&transport=${mode}`);
    await page.locator("#transport", { hasText: mode === "websocket" ? "websocket" : "polling" }).waitFor();
    await page.locator("#latency", { hasText: "ms" }).waitFor();
    pages.push(page);
  }
  for (const [i, page] of pages.entries()) {
    await say(page, `message ${i}`);
    await Promise.all(pages.filter((other) => other !== page).map((other) => hears(other, `message ${i}`)));
    await drop(page, `file${i}.bin`, "", [i, 1, 2, 255]);
    await Promise.all(pages.filter((other) => other !== page).map((other) => other.locator(`.message:not(.own) a[download="file${i}.bin"]`).waitFor()));
  }
  // The transport can be changed while the page runs, and the connection cut by hand.
  const [page] = pages;
  await page.locator(".settings summary").click();
  await page.locator("#mode").selectOption("auto");
  await page.locator("#transport", { hasText: "websocket" }).waitFor();
  await page.getByRole("button", { name: "Disconnect" }).click();
  await page.locator("#state[data-state=offline]").waitFor();
  await say(page, "typed while disconnected");
  await page.getByRole("button", { name: "Connect" }).click();
  await hears(pages[1], "typed while disconnected");
  // A tab that goes says so, over every transport: nobody waits for its missing pong.
  const witness = await open("Witness");
  for (const [i, page] of pages.entries()) {
    const person = witness.locator("#people li", { hasText: ["Tab polling", "Tab websocket", "Tab short"][i] });
    await person.waitFor();
    await page.goto("about:blank");
    await person.waitFor({ state: "detached" });
  }
  for (const page of [...pages, witness]) await page.close();
  assert.deepEqual(complaints, []);
});

test("a_new_name_is_a_new_credential", LIMIT, async () => {
  const [one, two] = [await open("First"), await open("Watcher")];
  await two.locator("#people li", { hasText: "First" }).waitFor();
  await one.locator("#name").fill("Second");
  await one.locator("#name").press("Enter");
  await two.locator("#people li", { hasText: "Second" }).waitFor();
  assert.equal(await two.locator("#people li", { hasText: "First" }).count(), 0);
  await one.close();
  await two.close();
});

test("nothing_on_the_page_leaves_its_policy_and_other_pages_cannot_frame_it", LIMIT, async () => {
  const answer = await fetch(server.url);
  for (const [name, want] of [
    ["content-security-policy", /default-src 'self'.*frame-ancestors 'none'/],
    ["x-content-type-options", /^nosniff$/],
    ["x-frame-options", /^DENY$/],
    ["referrer-policy", /^no-referrer$/],
  ]) assert.match(answer.headers.get(name), want);
  const page = await open("Policy");
  const blocked = await page.evaluate(() => new Promise((done) => {
    document.addEventListener("securitypolicyviolation", (event) => done(event.violatedDirective));
    const script = document.createElement("script");
    script.textContent = "window.inline = true";
    document.head.append(script);
  }));
  assert.match(blocked, /script-src/);
  assert.equal(await page.evaluate(() => window.inline), undefined);
  await page.close();
  complaints.length = 0; // the violation above was meant
});

test("the_layout_holds_on_a_phone_and_in_the_dark", LIMIT, async () => {
  const page = await open("Small Screen");
  await page.setViewportSize({ width: 390, height: 780 });
  await say(page, "a long word: " + "x".repeat(200));
  await page.locator('.own .mark[data-mark="done"]').waitFor();
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "no sideways scrolling");
  await shoot(page, "phone");
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.emulateMedia({ colorScheme: "dark" });
  await shoot(page, "dark");
  await page.close();
});

test("the_official_bundle_drives_the_same_page", { ...LIMIT, skip: !program }, async () => {
  const own = await start(await freePort(), ["--serve-client", new URL("node_modules/socket.io-client", import.meta.url).pathname]);
  const page = await context.newPage();
  await page.goto(`${own.url}/?name=Official&client=official`);
  await page.locator("#state[data-state=connected]").waitFor();
  await page.locator("#transport", { hasText: "websocket" }).waitFor();
  await say(page, "hello from the official client");
  await page.locator('.own .mark[data-mark="done"]').waitFor();
  await page.close();
  await own.stop();
});
