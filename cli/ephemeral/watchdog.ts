import { spawn } from "node:child_process";
import { openSync, closeSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { startTicksOf } from "../processes";
import type { EphemeralRun } from "./run";

/** All that a run starts has this variable; its value is the run's name. */
export const MARK_VARIABLE = "TANDEM_EPHEMERAL";

/**
 * A process of its own that takes the environment away when this one dies, however it dies: the end of a pipe tells it. Lines on
 * the pipe: `child ID` for what it has to end first, `gone ID` when that has ended by itself, `done` when there is nothing to do any more.
 */
const SCRIPT = `
trap '' INT TERM HUP
children=
while read -r word value; do
  case $word in
    child) children="$children $value " ;;
    gone) case $children in *" $value "*) children="\${children%%" $value "*} \${children#*" $value "}" ;; esac ;;
    done) exit 0 ;;
  esac
done
folder=$1 settings=$2 workspace=$3
shift 3
echo "the run was killed: taking its environment away"
for child in $children; do kill -TERM "-$child" 2>/dev/null || kill -TERM "$child" 2>/dev/null; done
# A child that began in the moment of death was not told of any more; where there is /proc its mark shows it.
marked=$(grep -lzxF "${MARK_VARIABLE}=\${folder##*/}" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3)
for child in $marked; do kill -TERM "$child" 2>/dev/null; done
for try in 1 2 3 4 5 6 7 8; do
  if "$@" destroy --env "$settings" --yes; then
    rm -rf "$workspace" "$folder"
    exit 0
  fi
  echo "try $try failed"
  sleep 5
done
exit 1
`;

/** The way to speak to the watchdog. */
export interface Watchdog {
  /** What has to end before the environment can go. @returns to be called when it has: its number may be another process's then */
  note(childId: number | undefined): () => void;
  /** Everything is gone, or it can't be helped: nothing is to be done. */
  release(): void;
}

/**
 * Starts the watchdog of a run.
 * @param command how `tandem` is started
 * @param abandoned true for a run whose process is dead already: it is taken away at once
 */
export function startWatchdog(run: EphemeralRun, command: readonly string[], abandoned = false): Watchdog {
  const log = openSync(join(run.folder, "watchdog.log"), "a", 0o600);
  const parameters = [run.folder, run.settings, run.workspace, ...command];
  const child = spawn("sh", ["-c", SCRIPT, "tandem-watchdog", ...parameters], {
    detached: true,
    stdio: ["pipe", log, log],
    cwd: "/",
    env: Object.fromEntries(Object.entries(process.env).filter(([name]) => name !== MARK_VARIABLE)),
  });
  closeSync(log);
  const { pid = 0, stdin } = child;
  if (stdin === null) throw new Error("a child without the pipe that it was given");
  writeFileSync(join(run.folder, "watchdog"), JSON.stringify({ processId: pid, startTicks: startTicksOf(pid) ?? "" }));
  child.unref();
  (stdin as unknown as { unref(): void }).unref(); // A pipe is a socket; its type does not say so.
  stdin.on("error", () => undefined);
  if (abandoned) stdin.end();
  return {
    note: (childId) => {
      const tell = (word: string) => {
        if (childId !== undefined) stdin.write(`${word} ${childId}\n`);
      };
      tell("child");
      return () => {
        tell("gone");
      };
    },
    release: () => {
      stdin.end("done\n");
    },
  };
}
