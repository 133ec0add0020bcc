import { readdirSync, readFileSync } from "node:fs";
import * as path from "node:path";
import { parseAllDocuments } from "yaml";
import type { Manifest } from "../../plan/kubernetes-names";

const folder = path.resolve(__dirname, "../../examples/kubernetes/many-nodes");

/** Every object of the examples for many nodes. */
export function exampleManifests(): Manifest[] {
  return readdirSync(folder).flatMap((name) =>
    parseAllDocuments(readFileSync(path.join(folder, name), "utf8")).map((document) => document.toJS() as Manifest),
  );
}
