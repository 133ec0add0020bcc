import { describe, expect, it } from "vitest";
import type { SettingsInput } from "../../plan";
import { cluster, dra, gpuNode, manifestsIn } from "./clusters";
import { MODEL_OF, unknownFields } from "./fields";

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
      expect(unknownFields(JSON.parse(JSON.stringify(object)), MODEL_OF[object.kind]!, object.kind)).toEqual([]);
  });

  it("is looked at: a wrong one is found", () => {
    const [, config] = manifestsIn(plain).objects;
    expect(unknownFields({ ...config, dataa: {} }, "V1ConfigMap", "ConfigMap")).toEqual([
      "ConfigMap.dataa is not known",
    ]);
    expect(unknownFields({ spec: { replicas: "1" } }, "V1StatefulSet", "StatefulSet")).toEqual([
      "StatefulSet.spec.replicas is string, not number",
    ]);
  });
});
