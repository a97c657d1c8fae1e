// Must not compile: it shows that the compiler reads the printed interfaces at all.

import { io, type Socket } from "socket.io-client";
import type { ClientToServerEvents, ServerToClientEvents } from "./protocol.js";

const socket: Socket<ServerToClientEvents, ClientToServerEvents> = io();
socket.emit("move", "left");
