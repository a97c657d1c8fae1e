// What the printed interfaces allow, and what they refuse: a line under `@ts-expect-error` that compiles is an error.

import { io, type Socket } from "socket.io-client";
import type {
  AdminClientToServerEvents,
  AdminServerToClientEvents,
  ClientToServerEvents,
  ErrorAnswer,
  Heard,
  Mood,
  Said,
  ServerToClientEvents,
} from "./protocol.js";

const socket: Socket<ServerToClientEvents, ClientToServerEvents> = io("http://127.0.0.1:3000");
const admin: Socket<AdminServerToClientEvents, AdminClientToServerEvents> = io("http://127.0.0.1:3000/admin");

// --- what is right compiles --------------------------------------------------------------------------------------------

socket.emit("say", { room: "lobby", text: "hi" }, (answer: Said | ErrorAnswer) => {
  if ("error" in answer) {
    console.log(answer.error.code, answer.error.message);
  } else {
    const id: number = answer.id;
    console.log(id);
  }
});
socket.emit("say", { room: "lobby", text: "hi", mood: "loud" }, () => {});
socket.emit("move", 1, 2.5);
socket.emit("leave");
socket.emit("upload file", { name: "a.png", data: new Uint8Array(3) }, (...answer) => {
  if (answer.length === 2) {
    const [name, size]: [string, number] = answer;
    console.log(name, size);
  }
});
const said: Promise<Said | ErrorAnswer> = socket.emitWithAck("say", { room: "lobby", text: "hi" });
socket.timeout(1000).emitWithAck("say", { room: "lobby", text: "hi" }).then((answer: Said | ErrorAnswer) => answer);

socket.on("heard", (heard: Heard) => {
  const mood: Mood = heard.mood;
  console.log(heard.from.length, mood);
});
socket.on("move", (x: number, y: number) => console.log(x + y));
socket.on("who are you", (answer) => answer("ann"));
socket.on("who are you", (answer) => answer(null));
socket.on("who are you", (answer) => answer({ error: { code: "secret", message: "I do not say" } }));
socket.on("connect_error", (error) => console.log(error.message));
admin.emit("leave");
console.log(said);

// --- what is wrong does not --------------------------------------------------------------------------------------------

// @ts-expect-error there is no such event
socket.emit("shout", "hi");
// @ts-expect-error an argument is missing
socket.emit("move", 1);
// @ts-expect-error an argument is of the wrong type
socket.emit("move", 1, "2");
// @ts-expect-error a field is missing
socket.emit("say", { room: "lobby" }, () => {});
// @ts-expect-error a field is of the wrong type
socket.emit("say", { room: "lobby", text: 5 }, () => {});
// @ts-expect-error no mood is called so
socket.emit("say", { room: "lobby", text: "hi", mood: "sad" }, () => {});
// @ts-expect-error a field that nobody reads
socket.emit("say", { room: "lobby", text: "hi", size: 5 }, () => {});
// @ts-expect-error the answer may be an error
socket.emit("say", { room: "lobby", text: "hi" }, (answer: Said) => answer.id);
// @ts-expect-error binary data is not a string
socket.emit("upload file", { name: "a.png", data: "text" }, () => {});
// @ts-expect-error the server does not send this
socket.on("say", () => {});
// @ts-expect-error an argument of another type
socket.on("move", (x: string, y: number) => console.log(x, y));
// @ts-expect-error the answer is a string or null
socket.on("who are you", (answer) => answer(5));
// @ts-expect-error the mood is no number
socket.on("heard", (heard: Heard) => heard.mood + 1 - 1);
