import * as client from "@kubernetes/client-node";
import { describe, expect, it } from "vitest";
import type { SettingsInput } from "../../plan";
import { cluster, dra, gpuNode, manifestsIn } from "./clusters";

interface Field {
  readonly baseName: string;
  readonly type: string;
}
type Model = { getAttributeTypeMap?: () => Field[] };
const models = client as unknown as Record<string, Model | undefined>;

/** The models that the official client was generated with from Kubernetes' own OpenAPI description, by kind. */
const MODEL_OF: Readonly<Record<string, string>> = {
  Namespace: "V1Namespace",
  ConfigMap: "V1ConfigMap",
  Service: "V1Service",
  NetworkPolicy: "V1NetworkPolicy",
  PodDisruptionBudget: "V1PodDisruptionBudget",
  StatefulSet: "V1StatefulSet",
  Ingress: "V1Ingress",
  ResourceClaimTemplate: "V1ResourceClaimTemplate",
};

/** Paths in a value that its type does not know, or whose kind of value is another one. */
function unknown(value: unknown, type: string, path: string): string[] {
  const list = /^Array<(.+)>$/.exec(type)?.[1];
  if (list !== undefined) {
    if (!Array.isArray(value)) return [`${path} is no list`];
    return value.flatMap((entry, index) => unknown(entry, list, `${path}[${index}]`));
  }
  const map = /^\{ \[key: string\]: (.+); \}$/.exec(type)?.[1];
  if (map !== undefined)
    return Object.entries(value as object).flatMap(([key, entry]) => unknown(entry, map, `${path}.${key}`));
  const fields = models[type]?.getAttributeTypeMap?.();
  if (fields !== undefined) {
    if (typeof value !== "object" || value === null) return [`${path} is no object`];
    return Object.entries(value).flatMap(([key, entry]) => {
      const field = fields.find(({ baseName }) => baseName === key);
      return field === undefined ? [`${path}.${key} is not known`] : unknown(entry, field.type, `${path}.${key}`);
    });
  }
  if (type === "string" || type === "number" || type === "boolean") {
    return typeof value === type ? [] : [`${path} is ${typeof value}, not ${type}`];
  }
  return [];
}

describe("every field of every object", () => {
  const plain = cluster([gpuNode("b")], {
    ingressClasses: [{ name: "nginx", isDefault: true }],
    runtimeClasses: ["nvidia"],
  });
  const claims = cluster([gpuNode("b")], { dra: dra(["b"]) });
  it.each([
    ["plain", plain, {}],
    ["with one container for both", plain, { training: { backend: "megatron-bridge" } }],
    ["with claims", claims, { training: { backend: "megatron-bridge" } }],
    [
      "with everything",
      plain,
      {
        kubernetes: {
          pods: 2,
          expose: "ingress",
          host: "llm.example.com",
          tlsSecret: "llm",
          ingressClass: "nginx",
          allowNamespaces: ["edge"],
          priorityClass: "system-cluster-critical",
          runtimeClass: "nvidia",
          tolerations: [{ key: "a", operator: "Equal", value: "b", effect: "NoSchedule" }],
          images: { pullSecrets: ["registry"] },
        },
      },
    ],
  ] as [string, typeof plain, SettingsInput][])("is one that Kubernetes knows: %s", (_what, facts, raw) => {
    const { objects } = manifestsIn(facts, { model: "meta-llama/Llama-3.1-8B", gpus: 2, tensorParallel: 2, ...raw });
    for (const object of objects)
      expect(unknown(JSON.parse(JSON.stringify(object)), MODEL_OF[object.kind]!, object.kind)).toEqual([]);
  });

  it("is looked at: a wrong one is found", () => {
    const [, config] = manifestsIn(plain).objects;
    expect(unknown({ ...config, dataa: {} }, "V1ConfigMap", "ConfigMap")).toEqual(["ConfigMap.dataa is not known"]);
    expect(unknown({ spec: { replicas: "1" } }, "V1StatefulSet", "StatefulSet")).toEqual([
      "StatefulSet.spec.replicas is string, not number",
    ]);
  });
});
