import { describe, expect, it } from "vitest";
import { builtInShape } from "../../plan/built-in-shapes";
import { gatewayDocument, gatewayOf } from "../../plan/gateway-plan";
import { gatewayRoutes, routePattern } from "../../plan/gateway-routes";
import { hypotheticalHost } from "../../plan/gpu-types";
import { launchTraining } from "../../plan/launch-training";
import { makePlan } from "../../plan/make-plan";
import { parseSettings } from "../../plan/settings";

const MODEL = "Qwen/Qwen3-0.6B";

function planned(raw: Record<string, unknown>) {
  const { settings, problems } = parseSettings({ model: MODEL, gpus: 2, ...raw });
  expect(problems).toEqual([]);
  const hosts = [hypotheticalHost({ gpus: 2, gpuType: "h100-80gb" })];
  const { plan } = makePlan({ settings: settings!, shape: builtInShape(MODEL)!, hosts });
  return { settings: settings!, plan: plan! };
}

function problemsOf(raw: Record<string, unknown>): string[] {
  return parseSettings({ model: MODEL, ...raw }).problems.map(({ setting }) => setting);
}

const on = { enabled: true };

describe("the gateway of a plan", () => {
  it("takes the port of the API, with the trainer and vLLM behind it on loopback", () => {
    const { settings, plan } = planned({ port: 9000, training: { backend: "huggingface" }, gateway: on });
    expect(plan).toMatchObject({ port: 9000, servingPort: 9002, training: { port: 9001 } });
    expect(gatewayOf(settings, plan)).toMatchObject({
      address: "127.0.0.1",
      port: 9000,
      serving: ["127.0.0.1:9002"],
      training: "127.0.0.1:9001",
      tls: false,
    });
    const options = {
      python: "p",
      modelPath: "/m",
      servedModelName: MODEL,
      settings,
      facts: hypotheticalHost({ gpus: 2, gpuType: "h100-80gb" }),
    };
    expect(launchTraining(plan, options).argv).toContain("http://127.0.0.1:9002");
  });

  it("is none where it is switched off, and vLLM has the port itself", () => {
    const { settings, plan } = planned({ port: 9000, gateway: { enabled: false } });
    expect(plan.servingPort).toBe(9000);
    expect(gatewayDocument(settings, plan, { address: "127.0.0.1" })).toBeUndefined();
  });

  it("listens beyond loopback only with an address range, and with TLS", () => {
    const { settings, plan } = planned({ target: "ssh", ssh: { hosts: ["h"] }, exposure: "private", gateway: on });
    const gateway = gatewayOf(settings, plan);
    expect(gateway).toMatchObject({ address: "0.0.0.0", tls: true });
    expect(gateway?.allowedCidrs).toContain("10.0.0.0/8");
    const { configuration, name, nginx } = gatewayDocument(settings, plan, { address: "192.0.2.7" })!;
    expect({ name, nginx }).toEqual({ name: "192.0.2.7", nginx: "package" });
    expect(configuration).toMatch(/geo \$tandem_is_stranger \{\s+default 1;/);
    expect(configuration).toContain("listen 0.0.0.0:8000 ssl");
  });

  it("knows no route of the trainer's where nothing trains", () => {
    const { settings, plan } = planned({ gateway: on });
    expect(gatewayDocument(settings, plan, { address: "127.0.0.1" })?.configuration).not.toMatch(
      /fine_tuning|\/v1\/files/,
    );
  });

  it("holds no key", () => {
    const { settings, plan } = planned({ gateway: on });
    expect(JSON.stringify(gatewayDocument(settings, plan, { address: "127.0.0.1" }))).not.toMatch(/Bearer tdm/);
  });
});

describe("settings of the gateway", () => {
  const publicly = { target: "ssh", ssh: { hosts: ["h"] }, exposure: "public" };

  it("refuse the internet without a gateway, an address range and a trusted certificate", () => {
    expect(problemsOf({ ...publicly, gateway: { enabled: false } })).toEqual([
      "gateway.enabled",
      "gateway.allowedCidrs",
      "gateway.tls.mode",
    ]);
    expect(
      problemsOf({ ...publicly, gateway: { ...on, allowedCidrs: ["anywhere"], tls: { mode: "self-signed" } } }),
    ).toEqual(["gateway.tls.mode"]);
    const tls = { mode: "acme", domain: "llm.example.com" };
    expect(problemsOf({ ...publicly, gateway: { ...on, allowedCidrs: ["203.0.113.0/24"], tls } })).toEqual([]);
  });

  it("refuse the whole internet as a range and offer the word for it", () => {
    const { problems } = parseSettings({ model: MODEL, gateway: { ...on, allowedCidrs: ["0.0.0.0/0"] } });
    expect(problems).toMatchObject([
      { setting: "gateway.allowedCidrs[0]", what: expect.stringContaining("`anywhere`") },
    ]);
  });

  it("say what a certificate needs", () => {
    expect(problemsOf({ gateway: { ...on, tls: { mode: "files", certificate: "/c" } } })).toEqual(["gateway.tls.key"]);
    expect(problemsOf({ gateway: { ...on, tls: { mode: "acme" } } })).toEqual(["gateway.tls.domain"]);
    const tls = { mode: "acme", domain: "llm.example.com" };
    const two = { ...publicly, ssh: { hosts: ["a", "b"] }, gateway: { ...on, allowedCidrs: ["203.0.113.0/24"], tls } };
    expect(problemsOf(two)).toEqual(["gateway.tls.mode"]);
  });

  it("want a key called default, and a port for each service", () => {
    expect(problemsOf({ gateway: { ...on, keys: { alice: 1 } } })).toEqual(["gateway.keys"]);
    expect(problemsOf({ gateway: { ...on, servingPort: 8000 } })).toEqual(["gateway.servingPort"]);
  });
});

describe("the pattern of a route", () => {
  const routes = gatewayRoutes({ trains: true });
  // JavaScript has no \z; without the flag `m` its $ means the same.
  const matches = (text: string) =>
    routes.some((route) => new RegExp(routePattern(route).replace(String.raw`\z`, "$")).test(text));

  it.each(["a/b", "Qwen/Qwen3-0.6B", "ft:org/model:suffix:id", "ft%3Aorg%2Fmodel", "model@main"])(
    "takes the model name %s",
    (name) => {
      expect(matches(`GET /v1/models/${name}`)).toBe(true);
    },
  );

  it.each(["..", "a/../b", "a//b", "%2e%2e", "a%2F%2Fb", "a%2F..", ".hidden", "a/.b", "", "a b", "a?b c"])(
    "refuses %j as a model name",
    (name) => {
      expect(matches(`GET /v1/models/${name}`)).toBe(false);
    },
  );
});
