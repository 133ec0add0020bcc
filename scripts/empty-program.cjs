// What bench.ts compares with: one `up` of a program without resources, through the same engine and the same door, in a
// process of its own. Argument: a folder for its state, made on the first call.
const { mkdirSync } = require("node:fs");
const { pathToFileURL } = require("node:url");
const { LocalWorkspace, PulumiCommand } = require("@pulumi/pulumi/automation");
const { ensureEngine } = require("../dist/bootstrap/engine");

const [folder] = process.argv.slice(2);

async function main() {
  mkdirSync(folder, { recursive: true });
  const engine = await ensureEngine({ log: (line) => console.error(line) });
  const stack = await LocalWorkspace.createOrSelectStack(
    { projectName: "empty", stackName: "empty", program: async () => undefined },
    {
      pulumiCommand: await PulumiCommand.get({ root: engine.root }),
      envVars: { ...engine.env, PULUMI_BACKEND_URL: pathToFileURL(folder).href, PULUMI_CONFIG_PASSPHRASE: "empty" },
    },
  );
  await stack.up({ color: "never", suppressProgress: true });
}

main().then(
  () => process.exit(),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
