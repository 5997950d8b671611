// Many clients: each connects, is echoed, and leaves. Prints one JSON object: how many got through, and what failed.
// Argument: {"url", "count", "at_once", "options": what io() takes}
import { io } from "socket.io-client";

const { url, count, at_once: atOnce, options } = JSON.parse(process.argv[2]);
const TEXT = "안녕하세요 /\"\\ \u{1F600}";
const told = { ok: 0, websocket: 0, pids: {}, problems: {} };

function one(number) {
  return new Promise((resolve) => {
    const socket = io(url + "/echo", { forceNew: true, reconnection: false, ...options });
    const echoed = new Set();
    const finish = (problem) => {
      clearTimeout(timer);
      if (problem) told.problems[problem] = (told.problems[problem] ?? 0) + 1;
      socket.disconnect();
      resolve();
    };
    const timer = setTimeout(() => finish("timeout"), 60000);
    const done = (what) => {
      echoed.add(what);
      if (echoed.size < 2) return;
      told.ok += 1;
      const transport = socket.io.engine.transport;
      if (transport.name === "websocket") return finish();
      // The default client is to end as a WebSocket, unless it is told to poll.
      if (options.transports) return finish();
      socket.io.engine.once("upgrade", () => finish());
    };
    socket.on("connect_error", (error) => finish(error.message));
    socket.on("disconnect", (reason) => reason !== "io client disconnect" && finish(reason));
    socket.on("echo", (data) => (data.text === TEXT && data.number === number ? done("event") : finish("wrong echo")));
    socket.on("connect", () => {
      socket.emit("echo", { number, text: TEXT }, (answer) => {
        told.pids[answer.pid] = (told.pids[answer.pid] ?? 0) + 1;
        done("acknowledgement");
      });
    });
    socket.io.engine.on("upgrade", () => (told.websocket += 1));
  });
}

let next = 0;
async function lane() {
  while (next < count) await one(next++);
}
await Promise.all(Array.from({ length: atOnce }, lane));
console.log(JSON.stringify(told));
process.exit(0);
