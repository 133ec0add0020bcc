import { createRequire, Module } from "node:module";

/** What Pulumi's SDK loads at its start for serializing functions, which few programs do and ours does not: half of its load time. */
const FOR_SERIALIZING = ["@npmcli/arborist", "./typescript-shim"];

/** Has them loaded when something of them is first used. Call it before the SDK is loaded. */
export function serializeOnDemand(): void {
  const require = createRequire(createRequire(__filename).resolve("@pulumi/pulumi"));
  for (const name of FOR_SERIALIZING) {
    let path: string;
    try {
      path = require.resolve(name);
    } catch {
      continue; // An SDK without it needs nothing here.
    }
    if (require.cache[path] === undefined) require.cache[path] = loadedWhenUsed(path, require);
  }
}

function loadedWhenUsed(path: string, require: NodeJS.Require): Module {
  let loaded: Record<PropertyKey, unknown> | undefined;
  const load = () => {
    if (loaded === undefined) {
      Reflect.deleteProperty(require.cache, path);
      loaded = require(path) as Record<PropertyKey, unknown>;
    }
    return loaded;
  };
  // Compiled modules copy what they import, which would load it, unless it says that it was compiled as they were.
  const exports = new Proxy({}, { get: (_, name) => (name === "__esModule" ? true : load()[name]) });
  return Object.assign(new Module(path), { exports, loaded: true, filename: path });
}
