// Connects clients one after the other, half of them by WebSocket only; prints how many got through and how.
// node connects.mjs <url> <count>
import { io } from "socket.io-client";

const [url, count] = process.argv.slice(2);
const told = { connected: 0, websocket: 0, problems: [] };
for (let number = 0; number < Number(count); number++) {
  const only = number % 2 ? { transports: ["websocket"] } : {};
  const socket = io(url, { ...only, forceNew: true, reconnection: false, timeout: 10_000 });
  await new Promise((done) => {
    socket.on("connect_error", (problem) => {
      told.problems.push(String(problem));
      done();
    });
    socket.on("connect", () => {
      told.connected++;
      const engine = socket.io.engine;
      const count = () => {
        told.websocket++;
        done();
      };
      if (engine.transport.name === "websocket") count();
      else engine.once("upgrade", count);
      setTimeout(done, 10_000).unref();
    });
  });
  socket.close();
}
console.log(JSON.stringify(told));
