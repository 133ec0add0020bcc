import { readdirSync, readFileSync } from "node:fs";
import * as path from "node:path";
import { describe, expect, it } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { coerceConfig, parseSettings } from "../../plan";
import { MODEL_OF, unknownFields } from "./fields";

const folder = path.resolve(__dirname, "../../examples/kubernetes");
const files = (where: string) => readdirSync(path.join(folder, where)).filter((name) => name.endsWith(".yaml"));

describe("the examples for clusters", () => {
  it.each(files(""))("%s has settings without a problem", (name) => {
    const { config } = parse(readFileSync(path.join(folder, name), "utf8")) as { config: Record<string, unknown> };
    const raw = Object.entries(config).map(([key, value]) => [
      key.replace(/^tandem:/, ""),
      typeof value === "string" ? value : JSON.stringify(value),
    ]);
    const { settings, problems } = parseSettings(coerceConfig(Object.fromEntries(raw) as Record<string, string>));
    expect(problems).toEqual([]);
    expect(settings?.target).toBe("kubernetes");
  });

  it.each(files("many-nodes"))(
    "many-nodes/%s has only fields that Kubernetes knows, where they are its own",
    (name) => {
      const documents = parseAllDocuments(readFileSync(path.join(folder, "many-nodes", name), "utf8"));
      expect(documents.length).toBeGreaterThan(0);
      for (const document of documents) {
        expect(document.errors).toEqual([]);
        const object = document.toJS() as { kind: string; metadata: { name: string } };
        expect(object.metadata.name).not.toBe("");
        const model = MODEL_OF[object.kind];
        if (model !== undefined) expect(unknownFields(object, model, object.kind)).toEqual([]);
      }
    },
  );
});
