// Answers whose links drop at random places and are resumed by new connections, each of which finds any worker.
// Argument: {"url", "token", "model", "from", "to", "at_once"}; prints one JSON line for each answer.
import { io } from "socket.io-client";

const { url, token, model, from, to, at_once: atOnce } = JSON.parse(process.argv[2]);
const WAYS = [{ transports: ["websocket"] }, {}];

function connect() {
  return new Promise((resolve, reject) => {
    const way = WAYS[Math.floor(Math.random() * WAYS.length)];
    const socket = io(url + "/ws/inference", { auth: { token }, forceNew: true, reconnection: false, ...way });
    socket.on("connect", () => resolve(socket));
    socket.on("connect_error", reject);
  });
}

// As a cable that is pulled. There is none while the client polls: the server does not know yet that it is gone.
function drop(socket) {
  socket.io.engine.transport.ws?.terminate();
}

// One link: from the chunk behind `seen.last` on until the end, or until `most` chunks have come.
function listen(socket, event, seen, most) {
  return new Promise((resolve, reject) => {
    const since = performance.now();
    let count = 0, first = true;
    const waits = setTimeout(() => reject(new Error(`nothing more behind ${seen.last}`)), 30000);
    const finish = (outcome) => {
      clearTimeout(waits);
      socket.off();
      resolve(outcome);
    };
    socket.on("inference_chunk", (chunk) => {
      if (first && event[0] === "inference_resume") seen.resumes.push(performance.now() - since);
      first = false;
      if (chunk.seq !== seen.last + 1) return finish({ problem: `${chunk.seq} behind ${seen.last}` });
      seen.last = chunk.seq;
      seen.text += chunk.data;
      count += 1;
      if (count >= most) finish({ dropped: true });
    });
    socket.on("inference_complete", (complete) => finish({ complete }));
    socket.on("inference_error", (error) => finish({ problem: error.message }));
    socket.on("disconnect", (reason) => finish({ problem: reason }));
    socket.emit(...event);
  });
}

async function one(number) {
  const seen = { last: 0, text: "", resumes: [] };
  const request_id = `answer-${number}`;
  const abandoned = [];
  let event = ["inference_stream", { model, prompt: `${number}`, max_tokens: 512, request_id }];
  for (;;) {
    const socket = await connect();
    const most = Math.random() < 0.15 ? Infinity : 1 + Math.floor(Math.random() * 40);
    const outcome = await listen(socket, event, seen, most);
    if (!outcome.dropped) {
      socket.disconnect();
      abandoned.forEach((former) => former.disconnect());
      return { number, ...seen, ...outcome };
    }
    if (Math.random() < 0.7) drop(socket);
    abandoned.push(socket);
    event = ["inference_resume", { request_id, after_seq: seen.last }];
  }
}

let next = from;
await Promise.all(Array.from({ length: atOnce }, async () => {
  while (next < to) {
    const number = next++;
    const told = await one(number).catch((error) => ({ number, problem: error.message }));
    console.log(JSON.stringify(told));
  }
}));
process.exit(0);
