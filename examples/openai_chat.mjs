// The official OpenAI SDK against the gateway: a wallet signs in, its token is the API key.
//
//   npm install && node openai_chat.mjs [--url http://localhost:3200] [--model ID] [question]

import { parseArgs } from 'node:util';
import { Wallet } from 'ethers';
import OpenAI from 'openai';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    url: { type: 'string', default: 'http://localhost:3200' },
    model: { type: 'string', default: 'HuggingFaceTB/SmolLM2-135M-Instruct' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

if (values.help) {
  console.log('Usage: node openai_chat.mjs [--url http://localhost:3200] [--model ID] [question]');
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

const client = new OpenAI({ baseURL: `${values.url}/v1`, apiKey: await signIn(Wallet.createRandom()) });
const stream = await client.chat.completions.create({
  model: values.model,
  messages: [{ role: 'user', content: positionals[0] ?? 'What is a wallet?' }],
  max_tokens: 128,
  stream: true,
});

for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta?.content ?? '');
}
console.log();
