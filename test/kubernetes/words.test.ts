/* eslint-disable @typescript-eslint/no-unsafe-class-instance-assignment, @typescript-eslint/no-misused-spread -- the client calls its plain data classes */
import type { CoreV1Event, V1ContainerStatus, V1Pod } from "@kubernetes/client-node";
import { describe, expect, it } from "vitest";
import { quantity } from "../../bootstrap/kubernetes/quantity";
import { isRolledOut } from "../../bootstrap/kubernetes/wait";
import { findTroubles, type Snapshot } from "../../bootstrap/kubernetes/words";
import { reasonsOf } from "../../bootstrap/kubernetes/words-scheduling";
import { gpuNode } from "./clusters";
// What scheduler and controllers of Kubernetes 1.36 really say (said.slow.test.ts).
import said from "./said.json";

const pod = (change: Partial<V1Pod> = {}): V1Pod => ({
  metadata: { name: "demo-0" },
  spec: {
    nodeName: "gpu-0",
    containers: [
      {
        name: "serving",
        resources: { limits: { "nvidia.com/gpu": "4", memory: "20Gi" }, requests: { memory: "20Gi" } },
      },
    ],
  },
  ...change,
});
const withContainer = (status: Partial<V1ContainerStatus>): V1Pod =>
  pod({
    status: {
      phase: "Running",
      containerStatuses: [
        {
          name: "serving",
          image: "registry.example.com/vllm:1",
          imageID: "",
          ready: false,
          restartCount: 0,
          ...status,
        },
      ],
    },
  });
const pending = (message: string): V1Pod =>
  pod({
    spec: { ...pod().spec!, nodeName: undefined },
    status: { conditions: [{ type: "PodScheduled", status: "False", reason: "Unschedulable", message }] },
  });
const event = (reason: string, message: string, change: Partial<CoreV1Event> = {}): CoreV1Event => ({
  metadata: {},
  involvedObject: { kind: "Pod", name: "demo-0" },
  lastTimestamp: new Date("2026-11-25T22:00:00Z"),
  reason,
  message,
  ...change,
});
const troubles = (change: Partial<Snapshot>) =>
  findTroubles({ pods: [], events: [], nodes: [gpuNode("gpu-0")], ...change });

describe("a pod that no node takes", () => {
  const MESSAGE = said["too-many-gpus"];

  it("says which resource is missing and which nodes nearly fit", () => {
    const used = (gpus: number) => ({ gpus, cpuCores: 0, memoryGiB: 0, diskGiB: 0 });
    const nodes = [
      gpuNode("gpu-0", { requested: used(7) }),
      gpuNode("gpu-1", { requested: used(5) }),
      gpuNode("gpu-2", { requested: used(8), isReady: false }),
      gpuNode("control", { taints: [{ key: "node-role.kubernetes.io/control-plane", effect: "NoSchedule" }] }),
    ];
    const waiting = pending(MESSAGE);
    const tolerations = [{ key: "nvidia.com/gpu", operator: "Exists" }];
    const [trouble] = troubles({ pods: [{ ...waiting, spec: { ...waiting.spec!, tolerations } }], nodes });
    expect(trouble).toMatchObject({ code: "unschedulable", pod: "demo-0", hopelessAfterSeconds: 120 });
    expect(trouble!.text).toBe(
      "no node takes it: 1 node without the labels that are asked for; 1 node with a taint: node-role.kubernetes.io/control-plane; " +
        "1 node cordoned; 2 nodes with too little nvidia.com/gpu. " +
        "nearest: gpu-1 has 3 of 4 GPUs free (8 in all); gpu-0 has 1 of 4 GPUs free (8 in all)",
    );
  });

  it("waits on while an autoscaler adds a node", () => {
    const [trouble] = troubles({
      pods: [pending(MESSAGE)],
      events: [event("TriggeredScaleUp", "pod triggered scale-up")],
    });
    expect(trouble!.hopelessAfterSeconds).toBeUndefined();
    expect(trouble!.text).toContain("the autoscaler is adding a node");
  });

  it("tells GPUs that can't be claimed", () => {
    expect(troubles({ pods: [pending(said["claim-too-large"])] })[0]!.text).toMatch(
      /^no node has the GPUs that its claim asks for: .*2 nodes with too few of them free$/,
    );
  });

  it.each(["volume-of-no-class", "volume-not-there", "no-claim"] as const)(
    "tells a volume that nobody makes: %s",
    (name) => {
      const [trouble] = troubles({ pods: [pending(said[name])] });
      expect(trouble).toMatchObject({ code: "volume", text: "its volume is not there yet" });
    },
  );

  it("says why its volume is not made, and nothing of another's", () => {
    const waiting = pending(said["volume-of-no-class"]);
    const volumes = [{ name: "cache", persistentVolumeClaim: { claimName: "cache-demo-0" } }];
    const failed = (claim: string, message: string) =>
      event("ProvisioningFailed", message, { involvedObject: { kind: "PersistentVolumeClaim", name: claim } });
    const events = [failed("of-another", "no room"), failed("cache-demo-0", said["no-class: ProvisioningFailed"])];
    const [trouble] = troubles({ pods: [{ ...waiting, spec: { ...waiting.spec!, volumes } }], events });
    expect(trouble!.text).toBe('its volume is not there yet: storageclass.storage.k8s.io "fast" not found');
  });

  it.each([
    ["too-much-memory", "2 nodes with too little memory"],
    ["too-much-of-both", "2 nodes with too little nvidia.com/gpu"],
    ["no-such-label", "3 nodes without the labels that are asked for"],
    ["not-tolerated", "4 nodes with a taint: see kubectl describe nodes"],
    ["volume-elsewhere", "2 nodes that can't reach the pod's volume"],
  ] as const)("reads each reason of the scheduler: %s", (name, reason) => {
    expect(reasonsOf(said[name])).toContain(reason);
    expect(reasonsOf(said[name]).join()).not.toMatch(/node\(s\)|preemption/);
  });

  it("reads the taints that schedulers used to name, and what names no node", () => {
    expect(reasonsOf("0/1 nodes are available: 1 node(s) had untolerated taint {a: b}. preemption: 0/1")).toEqual([
      "1 node with a taint: a",
    ]);
    expect(reasonsOf(said["no-nodes"])).toEqual([]);
    expect(troubles({ pods: [pending(said["no-nodes"])] })[0]!.text).toContain("no nodes available to schedule pods");
  });
});

/** As the kubelet 1.36 and containerd 1.6 of a real node say it (node.slow.test.ts) of an image of a registry of that name. */
const pulling = (registry: string, why: string, rpc = "") =>
  `${rpc}failed to pull and unpack image "${registry}/vllm:1": failed to resolve reference "${registry}/vllm:1": ${why}`;
const backOff = (message: string) => `Back-off pulling image "registry.example.com/vllm:1": ErrImagePull: ${message}`;
const MISSING = pulling("localhost:5000", "localhost:5000/vllm:1: not found", "rpc error: code = NotFound desc = ");
const HEAD = 'failed to do request: Head "https://registry.invalid/v2/vllm/manifests/1": dial tcp';
const HEX = "sha256:0404042904040429040404290404042904040429040404290404042904040429";

describe("an image that does not come", () => {
  it.each([
    [MISSING, "has no such image", 45],
    [backOff(MISSING), "has no such image", 45],
    [
      pulling(
        "localhost:5001",
        "pulling from host localhost:5001 failed with status code [manifests 1]: 401 Unauthorized",
      ),
      "wants a login",
      45,
    ],
    [
      pulling("registry.invalid", `${HEAD}: lookup registry.invalid on 10.96.0.10:53: no such host`),
      "does not reach",
      undefined,
    ],
    [pulling("localhost:5002", `${HEAD} 127.0.0.1:5002: connect: connection refused`), "does not reach", undefined],
    [`${HEX}: ${HEAD}: i/o timeout`, "does not reach", undefined],
    // From the sources: nobody said these here.
    ["toomanyrequests: You have reached your pull rate limit", "counts the pulls", undefined],
    ["tls: failed to verify certificate: x509: certificate signed by unknown authority", "does not trust", 45],
    ["write /var/lib/containerd/tmp: no space left on device", "disk is full", undefined],
  ])("%s: %s", (message, says, hopelessAfterSeconds) => {
    const [trouble] = troubles({ pods: [withContainer({ state: { waiting: { reason: "ErrImagePull", message } } })] });
    expect(trouble).toMatchObject({ code: "image-pull", text: expect.stringContaining(says) });
    expect(trouble!.hopelessAfterSeconds).toBe(hopelessAfterSeconds);
  });

  it("has a name that can't be right", () => {
    expect(
      troubles({ pods: [withContainer({ state: { waiting: { reason: "InvalidImageName" } } })] })[0],
    ).toMatchObject({ code: "image-name", hopelessAfterSeconds: 0 });
  });
});

describe("a container that does not stay", () => {
  it("was killed for its memory", () => {
    const [trouble] = troubles({
      pods: [
        withContainer({
          restartCount: 1,
          state: { waiting: { reason: "CrashLoopBackOff" } },
          lastState: { terminated: { exitCode: 137, reason: "OOMKilled" } },
        }),
      ],
    });
    expect(trouble).toMatchObject({
      code: "out-of-memory",
      text: expect.stringContaining("its limit of 20Gi"),
      hopelessAfterSeconds: 0,
    });
  });

  it("crashed, with the line that says most of its last words", () => {
    const message =
      "INFO starting\nValueError: Total number of attention heads (9) must be divisible by tensor parallel size (2).\nINFO bye";
    const [trouble] = troubles({
      pods: [
        withContainer({
          restartCount: 3,
          state: { waiting: { reason: "CrashLoopBackOff" } },
          lastState: { terminated: { exitCode: 1, reason: "Error", message } },
        }),
      ],
    });
    expect(trouble).toMatchObject({
      code: "crashed",
      hopelessAfterSeconds: 0,
      cure: "kubectl logs demo-0 -c serving --previous",
    });
    expect(trouble!.text).toContain("ended with 1, 3 restart(s) so far: ValueError: Total number of attention heads");
  });

  it("crashed once, and is given its time to load again", () => {
    const lastState = { terminated: { exitCode: 1, reason: "Error", message: "RuntimeError: CUDA error" } };
    const [trouble] = troubles({ pods: [withContainer({ restartCount: 1, state: { running: {} }, lastState })] });
    expect(trouble!.hopelessAfterSeconds).toBeUndefined();
    const serves = withContainer({ restartCount: 1, ready: true, state: { running: {} }, lastState });
    expect(troubles({ pods: [serves] })).toEqual([]);
  });

  it("misses a Secret", () => {
    const state = { waiting: { reason: "CreateContainerConfigError", message: 'secret "demo-keys" not found' } };
    expect(troubles({ pods: [withContainer({ state })] })[0]).toMatchObject({
      code: "container-config",
      text: expect.stringContaining('"demo-keys" not found'),
    });
  });
});

describe("a container that is still loading", () => {
  const running = withContainer({ state: { running: {} } });
  const field = { involvedObject: { kind: "Pod", name: "demo-0", fieldPath: "spec.containers{serving}" } };

  it("is told with what its probe says, and is no failure", () => {
    const [trouble] = troubles({
      pods: [running],
      events: [
        event(
          "Unhealthy",
          "Startup probe failed: port 8002/health gives no answer within 5 s: [Errno 111] Connection refused",
          field,
        ),
      ],
    });
    expect(trouble).toMatchObject({
      code: "loading",
      text: "serving runs and does not answer yet: port 8002/health gives no answer within 5 s: [Errno 111] Connection refused",
    });
    expect(trouble!.hopelessAfterSeconds).toBeUndefined();
  });

  it("is told without a word of a probe that came too late to be run", () => {
    const late =
      "Startup probe errored and resulted in unknown state: rpc error: code = NotFound desc = failed to exec";
    const events = [event("Unhealthy", late, field), event("Unhealthy", "Startup probe failed: ", field)];
    expect(troubles({ pods: [running], events }).map(({ text }) => text)).toEqual([
      "serving runs and does not answer yet",
    ]);
  });

  it("hung before", () => {
    const events = [
      event("Unhealthy", "Liveness probe failed: 1 requests and no token for 189 s: the engine hangs\n", field),
      event("Killing", "Container serving failed liveness probe, will be restarted", field),
    ];
    expect(troubles({ pods: [running], events })).toMatchObject([
      {
        code: "hung",
        text: expect.stringMatching(/^serving was started again: .*no token for 189 s: the engine hangs$/),
      },
    ]);
  });

  it("is a failure when its budget is used up", () => {
    const events = [
      event("Unhealthy", "Startup probe failed", field),
      event("Killing", "Container serving failed startup probe, will be restarted", field),
    ];
    expect(troubles({ pods: [running], events })).toMatchObject([
      { code: "startup-too-slow", hopelessAfterSeconds: 0 },
    ]);
  });

  it("has nothing to do with the pod of the same name before it", () => {
    const other = { involvedObject: { ...field.involvedObject, uid: "the one before" } };
    const events = [event("Killing", "Container serving failed startup probe, will be restarted", other)];
    expect(troubles({ pods: [running], events })).toEqual([]);
  });

  it("is nobody's trouble when it is ready", () => {
    expect(
      troubles({
        pods: [withContainer({ ready: true, state: { running: {} } })],
        events: [event("Unhealthy", "Startup probe failed", field)],
      }),
    ).toEqual([]);
  });
});

describe("what is beyond the pod", () => {
  it("is a node that went away or does not answer", () => {
    expect(troubles({ pods: [pod()], nodes: [] })[0]!.text).toBe("its node gpu-0 is no longer in the cluster");
    expect(troubles({ pods: [pod()], nodes: [gpuNode("gpu-0", { isReady: false })] })[0]).toMatchObject({
      code: "node-gone",
    });
  });

  it("is an eviction", () => {
    const status = { phase: "Failed", reason: "Evicted", message: "The node was low on resource: ephemeral-storage." };
    expect(troubles({ pods: [pod({ status })] })[0]).toMatchObject({
      code: "evicted",
      text: expect.stringContaining("ephemeral-storage"),
    });
  });

  it("is a quota, or a standard that refuses the pod", () => {
    const set = { involvedObject: { kind: "StatefulSet", name: "demo" } };
    expect(troubles({ events: [event("FailedCreate", said["full: FailedCreate"], set)] })[0]!.text).toBe(
      "the namespace's quota gpus leaves no room: asked for requests.nvidia.com/gpu=4, used requests.nvidia.com/gpu=0, allowed requests.nvidia.com/gpu=2",
    );
    expect(troubles({ events: [event("FailedCreate", said["strict: FailedCreate"], set)] })[0]).toMatchObject({
      code: "not-created",
      cure: expect.stringContaining("stricter than restricted"),
      hopelessAfterSeconds: 20,
    });
  });

  it("is a volume that can't be attached", () => {
    const waiting = withContainer({ state: { waiting: { reason: "ContainerCreating" } } });
    const events = [event("FailedAttachVolume", "Multi-Attach error for volume pvc-1")];
    expect(troubles({ pods: [waiting], events })[0]).toMatchObject({
      code: "volume",
      text: expect.stringContaining("Multi-Attach"),
    });
  });
});

it("tells the worst first", () => {
  const pods = [
    pending("0/1 nodes are available: 1 Insufficient cpu."),
    withContainer({ state: { waiting: { reason: "InvalidImageName" } } }),
  ];
  expect(troubles({ pods }).map(({ code }) => code)).toEqual(["image-name", "unschedulable"]);
});

describe("a roll-out", () => {
  const set = (status: object) => ({
    metadata: { generation: 2 },
    spec: { replicas: 2 } as never,
    status: { replicas: 2, observedGeneration: 2, updatedReplicas: 2, readyReplicas: 2, ...status },
  });
  it.each([
    [{}, true],
    [{ observedGeneration: 1 }, false],
    [{ updatedReplicas: 1 }, false],
    [{ readyReplicas: 1 }, false],
  ])("with %j is over: %s", (status, over) => {
    expect(isRolledOut(set(status))).toBe(over);
  });
});

it.each([
  ["500m", 0.5],
  ["16Gi", 16 * 2 ** 30],
  ["24684092Ki", 24684092 * 2 ** 10],
  ["81559Mi", 81559 * 2 ** 20],
  ["2k", 2000],
  ["1e3", 1000],
  ["8", 8],
  [undefined, 0],
  ["a lot", 0],
])("reads the quantity %s", (text, value) => {
  expect(quantity(text)).toBe(value);
});
