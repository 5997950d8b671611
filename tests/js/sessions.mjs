// Plays sessions side by side, and prints what happened to each: {name: [["connect"], [event, data], ["disconnect", reason]]}.
// Argument: {"url", "sessions": [{"name", "namespace", "options": what io() takes, "emit": [[event, data]], "at_once"}]}
import { io } from "socket.io-client";

const { url, sessions } = JSON.parse(process.argv[2]);
const ENDS = ["inference_response", "inference_complete", "inference_error"];
const QUIET_MS = 400; // after its last answer, a session is watched for events that should not come

function play({ namespace, options, emit, at_once: atOnce }) {
  return new Promise((resolve) => {
    const told = [];
    const socket = io(url + namespace, { forceNew: true, reconnection: false, ...options });
    let open = emit.filter(([event]) => event !== "nonsense").length;
    const limit = setTimeout(() => finish("timeout"), 30000);
    let quiet;
    const finish = (problem) => {
      clearTimeout(limit);
      if (problem) told.push([problem]);
      socket.disconnect();
      resolve(told);
    };
    const settle = () => {
      clearTimeout(quiet);
      if (open <= 0) quiet = setTimeout(finish, QUIET_MS);
    };
    const ask = () => emit.forEach((event) => socket.emit(...event));
    if (atOnce) ask();
    socket.on("connect", () => {
      told.push(["connect"]);
      if (!atOnce) ask();
      settle();
    });
    socket.on("connect_error", (error) => {
      told.push(["connect_error", error.message]);
      finish();
    });
    socket.on("disconnect", (reason) => {
      told.push(["disconnect", reason]);
      if (reason !== "io client disconnect") finish();
    });
    socket.onAny((event, data) => {
      told.push([event, data]);
      if (ENDS.includes(event)) open -= 1;
      settle();
    });
  });
}

const played = await Promise.all(sessions.map(async (session) => [session.name, await play(session)]));
console.log(JSON.stringify(Object.fromEntries(played)));
process.exit(0);
