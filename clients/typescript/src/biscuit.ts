// The official biscuit library, loaded so that no runtime needs a flag for WebAssembly modules: its own entry imports
// the `.wasm` file as a module, which Node 20 does only with one.
import { readFile } from "node:fs/promises";

export type Biscuit = typeof import("@biscuit-auth/biscuit-wasm");

let loaded: Promise<Biscuit> | undefined;

/** The library; read once. */
export function biscuit(): Promise<Biscuit> {
  loaded ??= load();
  return loaded;
}

async function load(): Promise<Biscuit> {
  const entry = import.meta.resolve("@biscuit-auth/biscuit-wasm");
  const near = (name: string): string => new URL(name, entry).href;
  const module = await WebAssembly.compile(await readFile(new URL(near("./biscuit_bg.wasm"))));
  const imports: WebAssembly.Imports = {};
  for (const { module: name } of WebAssembly.Module.imports(module)) {
    imports[name] ??= quiet((await import(near(name))) as WebAssembly.ModuleImports);
  }
  const glue = (await import(near("./biscuit_bg.js"))) as Biscuit & { __wbg_set_wasm: (exports: object) => void };
  const { exports } = await WebAssembly.instantiate(module, imports);
  glue.__wbg_set_wasm(exports);
  (exports.__wbindgen_start as () => void)();
  return glue;
}

/** The library greets on the console when it is loaded; that is not for the output of somebody's program. */
function quiet(module: WebAssembly.ModuleImports): WebAssembly.ModuleImports {
  const kept = Object.entries(module).map(([name, value]) => [name, /^__wbg_log_/.test(name) ? () => {} : value]);
  return Object.fromEntries(kept) as WebAssembly.ModuleImports;
}
