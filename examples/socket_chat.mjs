// Streams an answer over Socket.IO, and resumes it when the link is lost.
//
//   npm install && node socket_chat.mjs [--url http://localhost:3200] [--model ID] [--drop] [question]
//
// --drop cuts the link after the first few chunks, to show that nothing is missing.

import { randomUUID } from 'node:crypto';
import { parseArgs } from 'node:util';
import { Wallet } from 'ethers';
import { io } from 'socket.io-client';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    url: { type: 'string', default: 'http://localhost:3200' },
    model: { type: 'string', default: 'HuggingFaceTB/SmolLM2-135M-Instruct' },
    drop: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

if (values.help) {
  console.log('Usage: node socket_chat.mjs [--url http://localhost:3200] [--model ID] [--drop] [question]');
  process.exit(0);
}

async function post(path, body) {
  const response = await fetch(values.url + path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return response.json();
}

async function signIn(wallet) {
  const { message } = await post('/api/v1/auth/nonce', { address: wallet.address });
  const signature = await wallet.signMessage(message);
  const { token } = await post('/api/v1/auth/verify', { address: wallet.address, signature });
  return token;
}

const requestId = randomUUID();
let lastSeq = 0;
let begun = false;

const token = await signIn(Wallet.createRandom());
const socket = io(`${values.url}/ws/inference`, { auth: { token } });

socket.on('connect', () => {
  if (begun) {
    socket.emit('inference_resume', { request_id: requestId, after_seq: lastSeq });
    return;
  }
  begun = true;
  socket.emit('inference_stream', {
    request_id: requestId,
    model: values.model,
    messages: [{ role: 'user', content: positionals[0] ?? 'What is a wallet?' }],
    max_tokens: 128,
  });
});

socket.on('inference_chunk', ({ data, seq }) => {
  lastSeq = seq;
  process.stdout.write(data);
  if (values.drop && seq === 5) socket.io.engine.close(); // as a lost link would
});

socket.on('inference_complete', ({ usage }) => {
  console.log(`\n${JSON.stringify(usage)}`);
  socket.disconnect();
});

socket.on('inference_error', ({ message, statusCode }) => {
  console.error(`\n${statusCode ?? ''} ${message}`);
  process.exitCode = 1;
  socket.disconnect();
});
