// Writes TestDollar.json from TestDollar.sol: node compile.mjs, where `solc` 0.8.30 can be imported. Nobody who runs the
// tests needs it.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const solc = createRequire(join(process.cwd(), "x.js"))("solc");
const source = new URL("TestDollar.sol", import.meta.url);
const output = JSON.parse(
  solc.compile(
    JSON.stringify({
      language: "Solidity",
      sources: { "TestDollar.sol": { content: readFileSync(source, "utf8") } },
      settings: {
        optimizer: { enabled: true, runs: 200 },
        evmVersion: "cancun",
        metadata: { appendCBOR: false, bytecodeHash: "none" },
        outputSelection: { "*": { "*": ["abi", "evm.deployedBytecode.object"] } },
      },
    }),
  ),
);
const broken = (output.errors ?? []).filter((error) => error.severity === "error");
if (broken.length > 0) throw new Error(broken.map((error) => error.formattedMessage).join("\n"));
const { abi, evm } = output.contracts["TestDollar.sol"].TestDollar;
const text = JSON.stringify({ solc: solc.version(), code: `0x${evm.deployedBytecode.object}`, abi }, null, 1);
writeFileSync(new URL("TestDollar.json", import.meta.url), `${text}\n`);
