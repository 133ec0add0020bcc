// Runs in the empty project of library.slow.test.ts: previews its program on the real engine and prints what the engine
// would do, one JSON line. Arguments: folder of the state, port of the model.
const { pathToFileURL } = require("node:url");
const { LocalWorkspace, PulumiCommand } = require("@pulumi/pulumi/automation");
const { ensureEngine } = require("@tandem/pulumi/dist/bootstrap/engine");

const [stateFolder, port] = process.argv.slice(2);

async function main() {
  const engine = await ensureEngine({ log: (line) => console.error(line) });
  const stack = await LocalWorkspace.createOrSelectStack(
    { projectName: "my-serving", stackName: "library-test", program: require("./bin/index.js") },
    {
      pulumiCommand: await PulumiCommand.get({ root: engine.root }),
      envVars: {
        ...engine.env,
        PULUMI_BACKEND_URL: pathToFileURL(stateFolder).href,
        PULUMI_CONFIG_PASSPHRASE: "only for this test",
        PULUMI_SKIP_UPDATE_CHECK: "true",
      },
    },
  );
  await stack.setConfig("my-serving:port", { value: port });
  const planned = [];
  await stack.preview({
    onOutput: (text) => process.stderr.write(text),
    onEvent: ({ resourcePreEvent }) => {
      if (!resourcePreEvent) return;
      const { op, type, urn } = resourcePreEvent.metadata;
      planned.push({ op, type, name: urn.split("::").at(-1) });
    },
  });
  console.log(JSON.stringify(planned));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
