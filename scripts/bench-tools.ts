import { execFile, execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import * as path from "node:path";
import { stripVTControlCharacters } from "node:util";
import type { TestHost } from "../test/fixtures/hosts/test-host";
import { Deployment, SUPPLIES_ON_HOST, type Document } from "../test/hosts/deployment";

const root = path.resolve(__dirname, "..");
/** The newest on PyPI when this was written. */
const ANSIBLE_VERSION = "2.21.5";
const PYINFRA_VERSION = "3.10.0";
const RUN_LIMIT_MS = 230_000;

/** What one run of a tool did. */
export interface ToolRun {
  readonly seconds: number;
  /** How many things it says that it changed, on all hosts. */
  readonly changed: number;
  /** What the tool itself says of its time, one line; for people. */
  readonly remark?: string;
}

/** One of the tools that are compared, set up for the hosts of one fleet. */
export interface Tool {
  readonly name: string;
  /** The systemd unit that it installs. */
  readonly unit: string;
  /** The port on which its service listens. */
  readonly port: number;
  /** Folder of this machine that the hosts see at `SUPPLIES_ON_HOST`. */
  readonly supplies: string;
  /** Writes what the tool has to know of the hosts. */
  configure(hosts: readonly TestHost[]): void;
  /** The run that a user repeats. */
  run(): Promise<ToolRun>;
  remove(): void;
}

/** @returns constructors, since each tool has a fleet and supplies of its own */
export function tools(): readonly { readonly name: string; readonly open: () => Tool }[] {
  return [
    { name: "tandem", open: openTandem },
    { name: `ansible-core ${ANSIBLE_VERSION}`, open: openAnsible },
    { name: `pyinfra ${PYINFRA_VERSION}`, open: openPyinfra },
  ];
}

function openTandem(): Tool {
  const deployment = new Deployment("bench");
  return {
    name: "tandem",
    unit: "tandem-bench-serving.service",
    port: 8000,
    supplies: deployment.supplies,
    // The others install no gateway.
    configure: (hosts) =>
      deployment.configure(
        hosts.map((host) => host.access()),
        { gateway: { enabled: false } },
      ),
    run: async () => {
      const { status, stdout, stderr, seconds } = await deployment.tandem(["up", "--json", "--yes"]);
      if (status !== 0) throw new Error(`tandem up ended with ${status}:\n${stderr}\n${stdout}`);
      const { changes } = JSON.parse(stdout) as Document;
      return { seconds, changed: changes.length, remark: stepTimes(stderr) };
    },
    remove: () => deployment.remove(),
  };
}

/** How long each step took, the mean of the hosts. */
function stepTimes(progress: string): string | undefined {
  const times = new Map<string, number[]>();
  for (const [, step = "", seconds] of progress.matchAll(/-([a-z]+): done in ([\d.]+) s$/gm)) {
    times.set(step, [...(times.get(step) ?? []), Number(seconds)]);
  }
  const means = [...times].map(([step, each]) => `${step} ${(sum(each) / each.length).toFixed(1)} s`);
  return means.length === 0 ? undefined : `steps, mean of the hosts: ${means.join(", ")}`;
}

function openAnsible(): Tool {
  const { folder, supplies, remove } = openSupplies();
  const inventory = path.join(folder, "inventory.json");
  const variables = path.join(folder, "variables.json");
  let forks = "5";
  return {
    ...FOREIGN,
    name: "ansible",
    supplies,
    configure: (hosts) => {
      forks = String(hosts.length);
      const entries = hosts.map((host) => [
        host.name,
        {
          ansible_host: host.address,
          ansible_user: "root",
          ansible_ssh_private_key_file: host.identityFile,
          ansible_ssh_common_args: `-o UserKnownHostsFile=${host.knownHostsFile}`,
        },
      ]);
      writeFileSync(inventory, JSON.stringify({ all: { hosts: Object.fromEntries(entries) as object } }));
      writeFileSync(variables, JSON.stringify(desiredState(supplies)), { mode: 0o600 });
    },
    run: async () => {
      const play = path.join(root, "bench/ansible/playbook.yml");
      const { seconds, output } = await timedRun(
        inEnvironment("ansible-playbook"),
        ["-i", inventory, "--forks", forks, "--extra-vars", `@${variables}`, play],
        {
          ANSIBLE_CONFIG: path.join(root, "bench/ansible/ansible.cfg"),
          ANSIBLE_HOME: path.join(folder, "ansible"),
          ANSIBLE_SSH_CONTROL_PATH_DIR: path.join(folder, "cp"),
        },
      );
      return { seconds, changed: sum([...output.matchAll(/ changed=(\d+) /g)].map(([, count]) => Number(count))) };
    },
    remove,
  };
}

function openPyinfra(): Tool {
  const { folder, supplies, remove } = openSupplies();
  const inventory = path.join(folder, "inventory.py");
  return {
    ...FOREIGN,
    name: "pyinfra",
    supplies,
    configure: (hosts) => {
      const entries = hosts.map((host) => [
        host.address,
        {
          ssh_user: "root",
          ssh_key: host.identityFile,
          ssh_known_hosts_file: host.knownHostsFile,
          ssh_strict_host_key_checking: "yes",
        },
      ]);
      const said = JSON.stringify({ hosts: entries, data: desiredState(supplies) });
      const lines = [
        "import json as _json",
        `_said = _json.loads(${JSON.stringify(said)})`,
        'machines = ([(name, data) for name, data in _said["hosts"]], _said["data"])',
      ];
      writeFileSync(inventory, `${lines.join("\n")}\n`, { mode: 0o600 });
    },
    run: async () => {
      const deploy = path.join(root, "bench/pyinfra/deploy.py");
      const { seconds, output } = await timedRun(inEnvironment("pyinfra"), ["--yes", inventory, deploy], {});
      return { seconds, changed: changesOfPyinfra(output) };
    },
    remove,
  };
}

const FOREIGN = { unit: "bench-vllm.service", port: 8100 };

/** Hosts that changed, over all operations. Its look at weights and health always counts as a change, one a host. */
function changesOfPyinfra(output: string): number {
  const total = /Grand total +\d+ +(\d+|-) /.exec(stripVTControlCharacters(output))?.[1];
  if (total === undefined) throw new Error(`pyinfra printed no results:\n${output}`);
  return total === "-" ? 0 : Number(total);
}

/** A fleet's supplies, made by the deployment that Tandem is tested with. */
function openSupplies(): { folder: string; supplies: string; remove: () => void } {
  const deployment = new Deployment("bench");
  const folder = mkdtempSync(path.join(tmpdir(), "tandem-bench-"));
  return {
    folder,
    supplies: deployment.supplies,
    remove: () => {
      deployment.remove();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** What Ansible and pyinfra are to bring about: the state that `tandem up` leaves, by its own unit file's measure. */
function desiredState(supplies: string): Record<string, string | number> {
  const folder = "/opt/bench";
  const model = `${SUPPLIES_ON_HOST}/model`;
  const { port } = FOREIGN;
  const serve = [
    `${folder}/environment/bin/python -m vllm.entrypoints.openai.api_server --model ${model} --served-model-name ${model}`,
    `--host 127.0.0.1 --port ${port} --tensor-parallel-size 1 --dtype bfloat16 --max-model-len 8192 --enforce-eager`,
    "--kv-cache-memory-bytes 1509949440 --enable-lora --max-loras 8 --max-lora-rank 64",
  ].join(" ");
  const sums = readdirSync(path.join(supplies, "model")).map(
    (name) => `${sha256(path.join(supplies, "model", name))}  ${name}\n`,
  );
  return {
    folder,
    port,
    model,
    archive: `${SUPPLIES_ON_HOST}/vllm.tar`,
    sums: sums.join(""),
    api_key: "bench-key-of-no-value",
    settings: "HF_HUB_OFFLINE=1\nVLLM_NO_USAGE_STATS=1\nDO_NOT_TRACK=1\nPYTHONUNBUFFERED=1\n",
    unit: readFileSync(path.join(root, "bench/vllm.service"), "utf8")
      .replaceAll("FOLDER", folder)
      .replace("SERVE", serve),
  };
}

/** The path of a program of the two tools, which PyPI has; their environment stays in the user's cache. */
function inEnvironment(program: string): string {
  const cache = path.join(process.env["XDG_CACHE_HOME"] ?? path.join(homedir(), ".cache"), "tandem/tools");
  const environment = path.join(cache, `bench-${ANSIBLE_VERSION}-${PYINFRA_VERSION}`);
  const python = path.join(environment, "bin/python");
  const stamp = path.join(environment, ".complete");
  if (!existsSync(stamp)) {
    console.log("Installing Ansible and pyinfra, once");
    mkdirSync(cache, { recursive: true });
    rmSync(environment, { recursive: true, force: true });
    // The newest Ansible wants Python 3.12.
    execFileSync(newestPython(), ["-m", "venv", environment], { stdio: "inherit" });
    const packages = [`ansible-core==${ANSIBLE_VERSION}`, `pyinfra==${PYINFRA_VERSION}`];
    execFileSync(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", ...packages], {
      stdio: "inherit",
    });
    writeFileSync(stamp, "");
  }
  return path.join(environment, "bin", program);
}

function newestPython(): string {
  const pyenv = path.join(process.env["PYENV_ROOT"] ?? path.join(homedir(), ".pyenv"), "versions");
  const managed = existsSync(pyenv) ? readdirSync(pyenv).map((version) => path.join(pyenv, version, "bin/python")) : [];
  for (const python of ["python3.13", "python3.12", "python3", ...managed]) {
    try {
      execFileSync(python, ["-c", "import sys, venv; sys.exit(sys.version_info < (3, 12))"], { stdio: "ignore" });
      return python;
    } catch {
      continue; // Not there, or too old.
    }
  }
  throw new Error("no Python 3.12 or newer on this machine, which Ansible wants — fix: install one");
}

function timedRun(
  program: string,
  argv: readonly string[],
  variables: Readonly<Record<string, string>>,
): Promise<{ seconds: number; output: string }> {
  const startedAt = performance.now();
  const options = { env: { ...process.env, ...variables }, timeout: RUN_LIMIT_MS, maxBuffer: 32 << 20 };
  return new Promise((resolve, reject) => {
    execFile(program, argv, options, (error, stdout, stderr) => {
      const output = `${stdout}\n${stderr}`;
      if (error === null) resolve({ seconds: (performance.now() - startedAt) / 1000, output });
      else reject(new Error(`${path.basename(program)} failed:\n${output}`));
    });
  });
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

function sha256(file: string): string {
  return createHash("sha256").update(readFileSync(file)).digest("hex");
}
