// Compiles the contracts: `node build.mjs` writes the artefacts, `node build.mjs --print` prints them instead.
// An artefact has the ABI and the creation code. The code ends without solc's metadata, so that comments and paths
// change nothing in it.
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import solc from "solc";

const here = dirname(fileURLToPath(import.meta.url));
const artefacts = {
  "InferencePayment.sol": "../core/chain/InferencePayment.json",
  "SignatureCheck.sol": "../core/chain/SignatureCheck.json",
  "test/TestWallet.sol": "../tests/chain/contracts.json",
};
const settings = {
  evmVersion: "paris", // the chain may know no newer instructions
  optimizer: { enabled: true, runs: 200 },
  metadata: { appendCBOR: false, bytecodeHash: "none" },
  outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } },
};

function compile(file) {
  const sources = { [file]: { content: readFileSync(join(here, file), "utf8") } };
  const output = JSON.parse(solc.compile(JSON.stringify({ language: "Solidity", sources, settings })));
  const problems = (output.errors ?? []).map((problem) => problem.formattedMessage);
  if (problems.length > 0) throw new Error(problems.join("\n"));
  const contracts = Object.entries(output.contracts[file]).map(([name, { abi, evm }]) => [
    name,
    { abi, bytecode: "0x" + evm.bytecode.object },
  ]);
  return contracts.length === 1 ? contracts[0][1] : Object.fromEntries(contracts);
}

const compiled = Object.entries(artefacts).map(([file, artefact]) => [artefact, compile(file)]);
if (process.argv.includes("--print")) {
  console.log(JSON.stringify(Object.fromEntries(compiled)));
} else {
  for (const [artefact, content] of compiled) writeFileSync(join(here, artefact), JSON.stringify(content, null, 1) + "\n");
}
