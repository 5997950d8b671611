// One client that stays: prints a JSON line for each thing that happens to it, until its input ends.
// Argument: {"url", "options": what io() takes}. Each line of the input is a JSON event to emit: ["echo", ...].
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const { url, options } = JSON.parse(process.argv[2]);
const tell = (what, more) => console.log(JSON.stringify({ what, ...more }));

const socket = io(url, { reconnectionDelay: 50, reconnectionDelayMax: 500, randomizationFactor: 0, ...options });
socket.on("connect", () => tell("connect", { id: socket.io.engine.id }));
socket.on("disconnect", (reason) => tell("disconnect", { reason }));
socket.on("connect_error", (error) => tell("connect_error", { message: error.message }));
socket.io.engine.on("upgrade", () => tell("upgrade", {}));
socket.onAny((event, data) => tell("event", { event, data }));

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => socket.emit(...JSON.parse(line), (answer) => tell("acknowledged", { answer })));
lines.on("close", () => process.exit(0));
