// A Pulumi program of your own that serves a model on this machine, beside whatever else it manages.
//   npm pack                                        in Tandem's repository, since the package is in no registry
//   npm install ./tandem-pulumi-0.1.0.tgz && pulumi up
import * as pulumi from "@pulumi/pulumi";
import { parseSettings, prepare, ServingPair } from "@tandem/pulumi";

export = async () => {
  const { settings, problems } = parseSettings({
    model: "HuggingFaceTB/SmolLM2-135M-Instruct",
    split: "balanced",
    port: new pulumi.Config().getNumber("port") ?? 8000,
  });
  if (!settings) throw new pulumi.RunError(problems.map(({ setting, what }) => `${setting}: ${what}`).join("\n"));

  // Looks at the machine and plans; changes nothing, and throws with everything that is in the way.
  const prepared = await prepare(settings, pulumi.getStack());
  const pair = new ServingPair("chat", prepared);

  return {
    baseUrl: pair.baseUrl,
    apiKey: pair.apiKey,
    model: pair.servedModelName,
    kvCacheTokens: prepared.hosts[0]?.plan.kvCacheTokens,
  };
};
