import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterAll, expect, it } from "vitest";
import { HOST_SCRIPTS } from "./host";

const folder = mkdtempSync(path.join(tmpdir(), "tandem-count-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Names as vLLM 0.26.0 logged them on 2 H100 on 25 November 2026, where no process had a title of vLLM's. */
const LOGGED_TP2 = `(APIServer pid=1987) INFO 11-25 08:13:22
(EngineCore pid=2212) INFO 11-25 08:13:53
(Worker pid=2324) INFO 11-25 08:14:07
(Worker pid=2323) INFO 11-25 08:14:08
(Worker_TP0 pid=2323) INFO 11-25 08:14:20
(Worker_TP1 pid=2324) INFO 11-25 08:14:20
(Worker_TP7 pid=999) a worker of an earlier run, no longer alive
`;
const LOGGED_DP2 = `(APIServer pid=5838) INFO
(EngineCore_DP0 pid=6059) INFO
(EngineCore_DP1 pid=6060) INFO
(Worker pid=6265) INFO
(Worker pid=6270) INFO
`;
const PYTHON = "/opt/vllm/bin/python -c from multiprocessing.spawn import spawn_main";

interface Counted {
  readonly tensorParallel: number | null;
  readonly replicas: number | null;
  readonly workers: readonly { readonly pid: number; readonly rank: number }[];
}

function count(log: string, processes: Readonly<Record<number, readonly [parent: number, title: string]>>): Counted {
  const file = path.join(folder, "log");
  writeFileSync(file, log);
  const program = `
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from prove_processes import count_workers, with_logged_names
processes = {int(pid): tuple(entry) for pid, entry in json.loads(sys.argv[3]).items()}
print(json.dumps(count_workers(with_logged_names(processes, Path(sys.argv[2])))))`;
  const argv = ["-c", program, HOST_SCRIPTS, file, JSON.stringify(processes)];
  return JSON.parse(execFileSync("python3", argv, { encoding: "utf8", timeout: 20_000 })) as Counted;
}

it("counts by titles where vLLM set them, whatever the log says", () => {
  const titled = { 10: [1, "python"], 11: [10, "VLLM::EngineCore"], 12: [11, "VLLM::Worker"] } as const;
  expect(count("(Worker_TP1 pid=10) x\n", titled)).toMatchObject({ tensorParallel: 1, replicas: 1 });
});

it("counts two ranks of one engine by the names that they log", () => {
  const counted = count(LOGGED_TP2, {
    1987: [1, PYTHON],
    2212: [1987, PYTHON],
    2323: [2212, PYTHON],
    2324: [2212, PYTHON],
  });
  expect(counted).toEqual({
    tensorParallel: 2,
    replicas: 1,
    workers: [
      { pid: 2323, rank: 0 },
      { pid: 2324, rank: 1 },
    ],
  });
});

it("counts two engines with a worker each as two replicas", () => {
  const counted = count(LOGGED_DP2, {
    5838: [1, PYTHON],
    6059: [5838, PYTHON],
    6060: [5838, PYTHON],
    6265: [6059, PYTHON],
    6270: [6060, PYTHON],
  });
  expect(counted).toMatchObject({ tensorParallel: 1, replicas: 2 });
  expect(counted.workers.map(({ pid }) => pid)).toEqual([6265, 6270]);
});

it("does not count a process that is only in the log", () => {
  const counted = count(LOGGED_TP2, { 1987: [1, PYTHON], 2212: [1987, PYTHON], 2323: [2212, PYTHON] });
  expect(counted.tensorParallel).toBe(1);
});

it("says that it can't count rather than guess", () => {
  expect(count("", { 1987: [1, PYTHON], 2212: [1987, PYTHON] })).toMatchObject({
    tensorParallel: null,
    replicas: null,
  });
});
