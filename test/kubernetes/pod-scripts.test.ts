import { execFile, execFileSync, spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { freePort } from "../fixtures/free-port";

const SCRIPTS = path.resolve(__dirname, "../../bootstrap/kubernetes/pod");
const PYTHON = { PYTHONDONTWRITEBYTECODE: "1" };

/** Answers as vLLM's API does as far as the probes ask; the texts of /metrics are those of vLLM 0.32.0. */
class Engine {
  made = 0;
  running = 0;
  hangs = false;
  asked: string[] = [];
  readonly server: Server = createServer((request, response) => {
    this.asked.push(`${request.method} ${request.url}`);
    request.resume();
    if (request.url === "/metrics") {
      response.end(
        `vllm:generation_tokens_total{engine="0",model_name="m"} ${this.made.toFixed(1)}\n` +
          `vllm:prompt_tokens_total{engine="0",model_name="m"} 0.0\n` +
          `vllm:num_requests_running{engine="0",model_name="m"} ${this.running.toFixed(1)}\n` +
          `vllm:num_requests_waiting{engine="0",model_name="m"} 0.0\n`,
      );
    } else if (request.url === "/v1/models") response.end('{"data":[{"id":"m"}]}');
    else if (request.url === "/v1/completions") {
      if (this.hangs) return;
      this.made += 1;
      response.end('{"choices":[{"text":"1"}],"usage":{"completion_tokens":1}}');
    } else response.end("");
  });
  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }
}

let folder: string;
const engine = { current: new Engine() };
const children: ChildProcess[] = [];

beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "tandem-pod-"));
  engine.current = new Engine();
  engine.current.server.listen(0, "127.0.0.1");
  await once(engine.current.server, "listening");
});
afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  engine.current.server.closeAllConnections();
  engine.current.server.close();
  rmSync(folder, { recursive: true, force: true });
});

function probe(what: string, seconds: number): Promise<{ code: number; text: string }> {
  const argv = [path.join(SCRIPTS, "probe.py"), what, String(engine.current.port), String(seconds)];
  return new Promise((resolve) => {
    const env = { ...process.env, ...PYTHON, TANDEM_PROBE_MEMORY: path.join(folder, "memory") };
    execFile("python3", argv, { env, timeout: 20_000 }, (error, stdout) => {
      resolve({ code: error === null ? 0 : 1, text: stdout.trim() });
    });
  });
}

describe("the probes of vLLM", () => {
  it("ask for a token, and are content with tokens made for others", async () => {
    expect(await probe("token", 5)).toEqual({ code: 0, text: "" });
    expect(engine.current.asked).toContain("POST /v1/completions");
    engine.current.asked = [];
    engine.current.made += 500;
    engine.current.hangs = true;
    expect(await probe("token", 1)).toEqual({ code: 0, text: "" });
    expect(engine.current.asked).not.toContain("POST /v1/completions");
  });

  it("notice an engine that says that it is healthy and makes no token", async () => {
    engine.current.hangs = true;
    expect(await probe("token", 1)).toMatchObject({ code: 1, text: expect.stringContaining("no answer within 1 s") });
  });

  it("notice requests that wait without a token, and only those", async () => {
    expect(await probe("alive", 0)).toEqual({ code: 0, text: "" });
    engine.current.running = 3;
    expect(await probe("alive", 60)).toEqual({ code: 0, text: "" });
    expect(await probe("alive", 0)).toMatchObject({
      code: 1,
      text: expect.stringContaining("3 requests and no token"),
    });
    engine.current.made += 1;
    expect(await probe("alive", 0)).toEqual({ code: 0, text: "" });
    engine.current.running = 0;
    expect(await probe("alive", 0)).toEqual({ code: 0, text: "" });
  });

  it("fail when nothing listens", () => {
    const { port } = engine.current;
    engine.current.server.close();
    engine.current.server.closeAllConnections();
    const argv = [path.join(SCRIPTS, "probe.py"), "health", String(port)];
    expect(spawnSync("python3", argv, { encoding: "utf8", env: { ...process.env, ...PYTHON } })).toMatchObject({
      status: 1,
      stdout: expect.stringContaining("gives no answer"),
    });
  });
});

/** A service that writes what happens to it into a file, and ends as it is told. */
const SERVICE = `
import http.server, os, signal, sys, threading
name, port, log = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def say(text):
    with open(log, "a") as file: file.write(f"{name} {text}\\n")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.send_response(200); self.end_headers()
    def log_message(self, *a): pass
server = http.server.HTTPServer(("127.0.0.1", port), Handler)
def stop(n, f):
    say(f"stops on {n}"); threading.Thread(target=server.shutdown).start()
signal.signal(signal.SIGTERM, stop)
say("starts")
if name == "training" and os.environ.get("FAILS") and not os.path.exists(log + ".failed"):
    open(log + ".failed", "w").close(); sys.exit(3)
server.serve_forever()
sys.exit(int(os.environ.get("CODE", "0")))
`;

describe("vLLM and the trainer in one container", () => {
  async function pair(env: Record<string, string>) {
    const service = path.join(folder, "service.py");
    const log = path.join(folder, "log");
    writeFileSync(service, SERVICE);
    writeFileSync(log, "");
    const part = async (name: string) => {
      const port = await freePort();
      return { argv: ["python3", service, name, String(port), log], env, port };
    };
    const request = { serving: await part("serving"), training: await part("training") };
    const child = spawn("python3", [path.join(SCRIPTS, "pair.py")], {
      env: { ...process.env, ...PYTHON, TANDEM_PAIR: JSON.stringify(request) },
      stdio: "ignore",
    });
    children.push(child);
    const lines = () => readFileSync(log, "utf8").trim().split("\n");
    return {
      child,
      lines,
      until: (text: string, count = 1) =>
        expect.poll(() => lines().filter((line) => line === text).length, { timeout: 15_000 }).toBe(count),
    };
  }

  it("start one after the other, stop the other way round, and end with vLLM's exit status", async () => {
    const { child, lines, until } = await pair({ CODE: "5" });
    await until("training starts");
    child.kill("SIGTERM");
    const [code] = (await once(child, "exit")) as [number];
    expect(code).toBe(5);
    expect(lines()).toEqual(["serving starts", "training starts", "training stops on 15", "serving stops on 15"]);
  });

  it("survive the trainer's end, which is started again", async () => {
    const { child, lines, until } = await pair({ FAILS: "1" });
    await until("training starts", 2);
    expect(lines().filter((line) => line.startsWith("serving"))).toEqual(["serving starts"]);
    child.kill("SIGTERM");
    await once(child, "exit");
  });
});

/** What happens when the pod is stopped while the trainer is started. */
const STOPPED = {
  "between its fork and its first instruction": `
fork = os.fork
def slow_fork():
    pid = fork()
    if pid == 0: time.sleep(1)
    return pid
os.fork = slow_fork
trainer = pair.Child("the trainer", {"argv": ["sleep", "5"], "env": {}})
trainer.start()
trainer.stop(signal.SIGTERM)
print("ended by", os.WTERMSIG(os.waitpid(trainer.pid, 0)[1]))
`,
  "while vLLM is asked whether it answers": `
def answers(port):
    os.kill(os.getpid(), signal.SIGTERM)
    return True
pair.answers = answers
both = pair.Pair({name: {"argv": ["sleep", "5"], "env": {}, "port": 1} for name in ("serving", "training")})
signal.signal(signal.SIGTERM, both.stop)
both._next()
print("ended by", 15 if both.training.pid is None else "nobody")
`,
};

it.each(Object.entries(STOPPED))("tells the trainer to stop, or starts none, %s", (_when, script) => {
  const code = `import os, signal, time, pair\n${script}`;
  const env = { ...process.env, ...PYTHON, PYTHONPATH: SCRIPTS };
  expect(execFileSync("python3", ["-c", code], { encoding: "utf8", env })).toContain("ended by 15\n");
});

it("brings a model that is in the image into its place, and says what is no model", () => {
  const model = path.join(folder, "model-in-image");
  const cache = path.join(folder, "cache");
  execFileSync("sh", [
    "-c",
    `mkdir -p '${model}' && cd '${model}' && echo '{}' > config.json && echo x > a.safetensors`,
  ]);
  // As in a pod, where all files of the ConfigMap lie in one folder.
  const scripts = path.join(folder, "bin");
  const host = path.resolve(__dirname, "../../bootstrap/host");
  execFileSync("sh", [
    "-c",
    `mkdir '${scripts}' && cp '${host}'/weights*.py '${SCRIPTS}'/* '${scripts}' 2>/dev/null || true`,
  ]);
  const bring = () =>
    spawnSync("sh", [path.join(scripts, "weights-in-pod.sh")], {
      encoding: "utf8",
      env: {
        ...process.env,
        HOME: path.join(cache, "home"),
        TANDEM_CACHE_DIR: cache,
        TANDEM_WEIGHTS: JSON.stringify({ source: "directory", model }),
      },
    });
  const refused = bring();
  expect(refused.status).not.toBe(0);
  expect(refused.stderr).toContain("it lacks a tokenizer");
  writeFileSync(path.join(model, "tokenizer.json"), "{}");
  expect(bring()).toMatchObject({ status: 0, stdout: `the model is at ${model}\n` });
  expect(readFileSync(path.join(cache, "model", "config.json"), "utf8")).toBe("{}\n");
  expect(bring().status).toBe(0);
});
