import { createRequire, Module } from "node:module";

/**
 * Loads npm's arborist when it is first used: Pulumi's SDK loads it at its start, for serializing functions, which few programs do
 * and ours does not. It is 250 modules, half of the time that the SDK takes. Call it before the SDK is loaded.
 */
export function serializeOnDemand(): void {
  const require = createRequire(createRequire(__filename).resolve("@pulumi/pulumi"));
  try {
    const path = require.resolve("@npmcli/arborist");
    if (require.cache[path] !== undefined) return;
    const whenUsed = new Proxy(Object, {
      construct: (_, argv) => {
        Reflect.deleteProperty(require.cache, path);
        return new (require(path) as new (...argv: unknown[]) => object)(...(argv as unknown[]));
      },
    });
    require.cache[path] = Object.assign(new Module(path), { exports: whenUsed, loaded: true, filename: path });
  } catch {
    // An SDK that has no arborist needs nothing here.
  }
}
