import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import { builtInShape } from "../../plan/built-in-shapes";
import type { ModelShape } from "../../plan/model-shape";
import { ProblemsError, type Problem } from "../../plan/problem";
import type { Settings } from "../../plan/settings";
import { shapeFromConfig } from "../../plan/shape-from-config";
import { describeTarget } from "./host";
import { askHub, type HubAnswer } from "./hub";
import type { HostTarget } from "./request";
import { callTarget } from "./transport";

/** The one model whose weights a package index carries, for machines that reach no hub. */
export const PACKAGED_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct";

/** Where a model's weights come from. */
export interface ModelSource {
  readonly kind: "hub" | "directory" | "archive";
  /** Hub id, or absolute path. */
  readonly location: string;
}

/**
 * A hub id is `owner/name`; whatever starts like a path, or is there, is a path.
 * @param target where the model is served: a path is a path there
 */
export function modelSource(model: string, target: HostTarget = { kind: "local" }): ModelSource {
  if (target.kind !== "local") return modelSourceElsewhere(model);
  const path = model.startsWith("~/") ? join(homedir(), model.slice(2)) : model;
  const looksLikeHubId = !isAbsolute(path) && !/^\.{1,2}\//.test(path);
  if (looksLikeHubId && !existsSync(path)) return { kind: "hub", location: model };
  const location = resolve(path);
  const isFile = existsSync(location) && statSync(location).isFile();
  return { kind: isFile ? "archive" : "directory", location };
}

/** What can't be looked at from here goes by its name. */
function modelSourceElsewhere(model: string): ModelSource {
  if (!/^(\/|\.{1,2}\/|~\/)/.test(model)) return { kind: "hub", location: model };
  return { kind: /\.tar(\.\w+)?$|\.tgz$/.test(model) ? "archive" : "directory", location: model };
}

/** A host that may have the model. */
export interface ModelHost {
  readonly target: HostTarget;
  readonly cacheDirectory: string;
}

/**
 * The model's shape: from its directory or archive (on the host, if it is not this machine), built in, from the cache of
 * weights, or from the hub, in this order.
 * @throws ProblemsError when it can't be had; says why
 */
export async function findShape(settings: Settings, host?: ModelHost): Promise<ModelShape> {
  const cacheDirectory = host?.target.kind === "local" ? host.cacheDirectory : undefined;
  const source = modelSource(settings.model, host?.target);
  if (source.kind !== "hub" && host !== undefined && host.target.kind !== "local") {
    return shapeOnHost(source.location, host.target);
  }
  if (source.kind === "directory") return shapeOfDirectory(source.location);
  if (source.kind === "archive") return shapeOfArchive(source.location);
  const builtIn = builtInShape(settings.model);
  if (builtIn !== undefined) return builtIn;
  const cached = cachedConfig(settings, cacheDirectory);
  if (cached !== undefined) return requireShape(shapeFromConfig(cached, settings.model));
  const answer = await askHub(settings.model, settings.revision, settings.hubToken);
  if (answer.kind !== "ok") throw new ProblemsError([hubProblem(settings, answer)]);
  return requireShape(shapeFromConfig(answer.config, settings.model));
}

/**
 * Says before anything starts what would fail much later: a gated model, a wrong name, no network.
 * @throws ProblemsError
 */
export async function requireWeights(settings: Settings, target?: HostTarget): Promise<void> {
  if (modelSource(settings.model, target).kind !== "hub") return;
  const answer = await askHub(settings.model, settings.revision, settings.hubToken, 5);
  const packaged = settings.model === PACKAGED_MODEL && answer.kind === "unreachable";
  if (answer.kind !== "ok" && !packaged) throw new ProblemsError([hubProblem(settings, answer)]);
}

/** A path means the host's own: large files are not sent from here. */
async function shapeOnHost(path: string, target: HostTarget): Promise<ModelShape> {
  const call = { script: "model-config.sh", argv: [path], environment: {}, timeoutSeconds: 120 } as const;
  const { code, stdout, stderr } = await callTarget(target, call);
  if (code === 0) return requireShape(shapeFromConfig(JSON.parse(stdout), path));
  const what = `${stderr.trim().split("\n").at(-1) ?? "it can't be read"} (on ${describeTarget(target)})`;
  const allowed = "a hub id (owner/name), or the absolute path of a model directory or an archive of one on the host";
  throw new ProblemsError([{ setting: "model", what, value: path, allowed }]);
}

function shapeOfDirectory(directory: string): ModelShape {
  const config = join(directory, "config.json");
  if (existsSync(config)) return requireShape(shapeFromConfig(JSON.parse(readFileSync(config, "utf8")), directory));
  const what = existsSync(directory)
    ? "the directory is not a model: it has no config.json"
    : "the path does not exist";
  const allowed = "a hub id (owner/name), a model directory or an archive of one";
  throw new ProblemsError([{ setting: "model", what, value: directory, allowed }]);
}

/** Reads `config.json` out of the archive without unpacking it. */
function shapeOfArchive(archive: string): ModelShape {
  try {
    const list = execFileSync("tar", ["-tf", archive], { encoding: "utf8", stdio: "pipe", timeout: 120_000 });
    const config = list.split("\n").find((entry) => /^(\.\/)?([^/]+\/)?config\.json$/.test(entry));
    if (config === undefined) throw new Error("it holds no config.json");
    const text = execFileSync("tar", ["-xOf", archive, config], { encoding: "utf8", stdio: "pipe", timeout: 120_000 });
    return requireShape(shapeFromConfig(JSON.parse(text), archive));
  } catch (error) {
    if (error instanceof ProblemsError) throw error;
    const what = `the archive can't be read as a model (${error instanceof Error ? error.message.split("\n")[0] : ""})`;
    throw new ProblemsError([
      { setting: "model", what, value: archive, allowed: "a tar archive, plain or compressed, of a model directory" },
    ]);
  }
}

/** `config.json` of weights that are in the cache already: an installed model needs no hub to be planned again. */
function cachedConfig({ model, revision }: Settings, cacheDirectory: string | undefined): unknown {
  if (cacheDirectory === undefined) return undefined;
  const config = join(
    cacheDirectory,
    "models",
    model.replaceAll("/", "--"),
    revision.replaceAll("/", "--"),
    "config.json",
  );
  return existsSync(config) ? JSON.parse(readFileSync(config, "utf8")) : undefined;
}

function requireShape(shape: ModelShape | Problem): ModelShape {
  if ("setting" in shape) throw new ProblemsError([shape]);
  return shape;
}

function hubProblem({ model, revision }: Settings, answer: Exclude<HubAnswer, { kind: "ok" }>): Problem {
  switch (answer.kind) {
    case "gated":
      return {
        setting: "hubToken",
        what: `the model ${model} is gated and this account has no access`,
        fix: "accept its licence on the hub, then: tandem up --hub-token @FILE",
      };
    case "missing":
      return {
        setting: answer.what === "revision" ? "revision" : "model",
        what:
          answer.what === "config.json"
            ? "the hub has it, but without a config.json"
            : `the hub knows no such ${answer.what}`,
        value: answer.what === "revision" ? revision : model,
        fix: "check the spelling; a private model needs hubToken",
      };
    case "unreachable":
      return {
        setting: "model",
        what: `the model hub can't be reached (${answer.reason}) and the weights are not in the cache`,
        value: model,
        fix: `set model to a directory, or use ${PACKAGED_MODEL}, which comes from the package index`,
      };
    default:
      throw new Error(`unknown answer ${JSON.stringify(answer satisfies never)}`);
  }
}
