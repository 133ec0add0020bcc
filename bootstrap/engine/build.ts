import { execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statfsSync } from "node:fs";
import { setPriority } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { engineCache, EngineError, packageFolder } from "./cache";

const CLI_PACKAGE = "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi";
const VERSION_VARIABLE = "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version";
/** Module cache 1.6 GB, build cache 1.7 GB, the linker's own files; measured with 3.274.1 on linux/amd64 in November 2026. */
const DISK_GIB = 4;
const BYTES_PER_GIB = 2 ** 30;
const PROGRESS_MILLISECONDS = 15_000;
/** Below whatever else the machine does; alone on it the build is as fast as ever. */
const NICE = 5;
/** What is shown of a failed build: the compiler's or the module loader's own words come last. */
const ERROR_LINES = 12;

/** Where the built CLI belongs: its name says everything that the build depends on. */
export function builtCliFolder(): string {
  const hash = createHash("sha256");
  for (const name of ["go.mod", "go.sum"]) hash.update(readFileSync(join(sourceFolder(), name)));
  return join(engineCache(), hash.digest("hex").slice(0, 16));
}

/**
 * Builds the Pulumi CLI from Go modules: 4 to 8 minutes on two cores, 122 MB. Every module is checked against our go.sum.
 * Go's caches for it live in a folder of their own that a killed build leaves for the next one and a finished build removes:
 * the binary is what is cached here, and 3.3 GB in the user's home would serve nothing but the same build again. Only a
 * module cache that the user has already is used and kept.
 * @param version goes into the binary, without `v`
 * @returns the folder with `bin/pulumi`
 * @throws EngineError with Go's own last words
 */
export async function buildCli(go: string, version: string, log: (line: string) => void): Promise<string> {
  const target = builtCliFolder();
  const scratch = `${target}.build`;
  const temporary = join(scratch, "tmp");
  mkdirSync(temporary, { recursive: true });
  refuseFullDisk(scratch);
  log(`building the Pulumi engine ${version} from Go modules, once: 4 to 8 minutes on two cores`);
  const output = join(scratch, `pulumi-${process.pid}`);
  const ldflags = `-s -w -X ${VERSION_VARIABLE}=v${version}`;
  const isOwnModuleCache = !existsSync(await goVariable(go, "GOMODCACHE"));
  const args = ["build", "-v", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o", output];
  await runGo(go, [...args, ...(isOwnModuleCache ? ["-modcacherw"] : []), CLI_PACKAGE], {
    log,
    environment: {
      ...process.env,
      GOCACHE: join(scratch, "build-cache"),
      // The default /tmp is often a small file system in memory.
      GOTMPDIR: temporary,
      GOWORK: "off",
      CGO_ENABLED: "0",
      ...(isOwnModuleCache ? { GOMODCACHE: join(scratch, "module-cache") } : {}),
    },
  });
  mkdirSync(join(target, "bin"), { recursive: true });
  renameSync(output, join(target, "bin", "pulumi"));
  rmSync(scratch, { recursive: true, force: true, maxRetries: 3 });
  return target;
}

function sourceFolder(): string {
  return join(packageFolder(), "bootstrap", "engine", "cli");
}

async function goVariable(go: string, name: string): Promise<string> {
  return (await promisify(execFile)(go, ["env", name], { cwd: sourceFolder() })).stdout.trim();
}

function refuseFullDisk(folder: string): void {
  const { bavail, bsize } = statfsSync(folder);
  const freeGiB = (bavail * bsize) / BYTES_PER_GIB;
  if (freeGiB >= DISK_GIB) return;
  throw new EngineError(
    `the disk has no room to build the Pulumi engine — got ${freeGiB.toFixed(1)} GiB free in ${folder} — allowed: ${DISK_GIB} GiB or more — fix: make room, set XDG_CACHE_HOME to another disk, or install pulumi`,
  );
}

interface GoRun {
  readonly log: (line: string) => void;
  readonly environment: NodeJS.ProcessEnv;
}

async function runGo(go: string, args: readonly string[], { log, environment }: GoRun): Promise<void> {
  const child = spawn(go, args, { cwd: sourceFolder(), env: environment, stdio: ["ignore", "ignore", "pipe"] });
  if (child.pid !== undefined) setPriority(child.pid, NICE);
  const lines: string[] = [];
  let modules = 0;
  let packages = 0;
  createInterface({ input: child.stderr }).on("line", (line) => {
    lines.push(line);
    if (line.startsWith("go: downloading ")) modules++;
    // With -v Go names each package as it compiles it, one path a line.
    else if (/^[\w.~/-]+$/.test(line)) packages++;
  });
  const timer = setInterval(() => {
    log(packages === 0 ? `  fetching Go modules: ${modules}` : `  compiling: ${packages} packages`);
  }, PROGRESS_MILLISECONDS);
  try {
    const status = await new Promise<number | NodeJS.Signals | null>((resolve, reject) => {
      child.once("error", reject).once("close", (code, signal) => resolve(code ?? signal));
    });
    if (status === 0) return;
    const tail = lines
      .filter((line) => !line.startsWith("go: downloading ") && !/^[\w.~/-]+$/.test(line))
      .slice(-ERROR_LINES);
    throw new EngineError(
      `the Pulumi engine could not be built (go ended with ${status}) — fix: see below, or install pulumi (pulumi.com/docs/install)\n${tail.map((line) => `  ${line}`).join("\n")}`,
    );
  } finally {
    clearInterval(timer);
  }
}
