import { execFile } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import * as path from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Calls one verb of the test hosts' script; see its head. */
export const HOST_SCRIPT = path.join(__dirname, "../fixtures/hosts/host.sh");
const FLEETS = "/run/tandem-test-hosts";
const CLOSE_TIMEOUT_SECONDS = 60;

/** Test hosts that share a bridge, as `host.sh fleet` left them in `/run`: they are no child of anybody. */
export interface FleetOnDisk {
  readonly folder: string;
  /** Value of `TANDEM_TEST_RUN` of the run that opened it. */
  readonly run: string;
  /** Whether the process that owns the run is still there. */
  readonly owned: boolean;
}

/** The fleets of this machine, whoever opened them. */
export function fleets(): FleetOnDisk[] {
  if (!existsSync(FLEETS)) return [];
  return readdirSync(FLEETS)
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => readFleet(path.join(FLEETS, name)) ?? []);
}

/** Takes the fleets away, whatever state they are in; what another process is closing at the same time is no error. */
export async function closeFleets(closing: readonly FleetOnDisk[]): Promise<void> {
  await Promise.all(
    closing.map(({ folder }) =>
      run(HOST_SCRIPT, ["close"], {
        env: { ...process.env, TANDEM_TEST_FLEET: folder },
        timeout: CLOSE_TIMEOUT_SECONDS * 1000,
      }),
    ),
  );
}

function readFleet(folder: string): FleetOnDisk | undefined {
  try {
    const [run = "", processId = "", startTime] = readFileSync(path.join(folder, "owner"), "utf8").trim().split("\n");
    return { folder, run, owned: startTimeOf(Number(processId)) === startTime };
  } catch {
    return undefined; // It was closed while we looked.
  }
}

/** Field 22 of `/proc/<id>/stat`; the command's name in parentheses may hold spaces. */
function startTimeOf(processId: number): string | undefined {
  try {
    return readFileSync(`/proc/${processId}/stat`, "utf8").split(") ").at(-1)?.split(" ")[19];
  } catch {
    return undefined;
  }
}
