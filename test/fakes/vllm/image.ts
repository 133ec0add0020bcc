import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import * as path from "node:path";
import { STAND_IN_VERSION } from "./runtime";

/**
 * Writes an image archive as `docker save` does, without any engine: one layer with this machine's Debian Python, `sh` and the
 * stand-in for vLLM. It stands for `vllm/vllm-openai`, which can't be pulled here, and has its entry point.
 * @returns the reference that the archive carries
 */
export function writeStandInImage(file: string): string {
  const work = mkdtempSync(`${file}.making-`);
  const root = path.join(work, "root");
  putStandIn(root);
  const reference = `localhost/vllm/vllm-openai:v${STAND_IN_VERSION}`;
  pack(work, root, reference, { Entrypoint: ["vllm", "serve"] }, file);
  rmSync(work, { recursive: true });
  return reference;
}

/** The root folder of an image with this machine's Debian Python, `sh` and the stand-in. */
export function putStandIn(root: string): void {
  const python = execFileSync("/usr/bin/python3", ["-c", "import sys; print('%d.%d' % sys.version_info[:2])"], {
    encoding: "utf8",
  }).trim();
  putPython(root, python);
  putVllm(path.join(root, `usr/local/lib/python${python}/dist-packages`));
  mkdirSync(path.join(root, "etc"));
  writeFileSync(path.join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");
  for (const folder of ["tmp", "root", "proc", "sys", "dev"]) mkdirSync(path.join(root, folder));
}

function putPython(root: string, version: string): void {
  const library = `usr/lib/python${version}`;
  cpSync(path.join("/", library), path.join(root, library), {
    recursive: true,
    filter: (from) => !/\/(__pycache__|test|idlelib|config-[^/]*)$/.test(from),
  });
  mkdirSync(path.join(root, "usr/bin"), { recursive: true });
  mkdirSync(path.join(root, "bin"));
  copyFileSync(`/usr/bin/python${version}`, path.join(root, `usr/bin/python${version}`));
  symlinkSync(`python${version}`, path.join(root, "usr/bin/python3"));
  copyFileSync("/bin/sh", path.join(root, "bin/sh"));
  const modules = path.join("/", library, "lib-dynload");
  const parts = readdirSync(modules).filter((name) => name.endsWith(".so"));
  putLibraries(root, ["/bin/sh", `/usr/bin/python${version}`, ...parts.map((name) => path.join(modules, name))]);
}

/** The libraries of this machine that the programs of an image are linked with. */
export function putLibraries(root: string, programs: readonly string[]): void {
  const { stdout } = spawnSync("ldd", programs, { encoding: "utf8" });
  for (const library of new Set(stdout.match(/(?<=\s)\/\S*\.so\S*(?= \()/g))) {
    mkdirSync(path.join(root, path.dirname(library)), { recursive: true });
    copyFileSync(library, path.join(root, library));
  }
}

function putVllm(site: string): void {
  const info = path.join(site, `vllm-${STAND_IN_VERSION}.dist-info`);
  mkdirSync(info, { recursive: true });
  writeFileSync(path.join(info, "METADATA"), `Metadata-Version: 2.1\nName: vllm\nVersion: ${STAND_IN_VERSION}\n`);
  cpSync(path.join(__dirname, "vllm"), path.join(site, "vllm"), { recursive: true });
}

/** Docker's archive of a root folder: layers and configuration by their SHA-256, and a manifest that names them. */
export function pack(work: string, root: string, reference: string, starts: object, file: string): void {
  const archive = path.join(work, "archive");
  mkdirSync(archive);
  const layer = path.join(work, "layer.tar");
  execFileSync("tar", ["-C", root, "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "-cf", layer, "."]);
  const layerSum = sum(layer);
  renameSync(layer, path.join(archive, `${layerSum}.tar`));
  const config = path.join(work, "config.json");
  writeFileSync(
    config,
    JSON.stringify({
      architecture: process.arch === "x64" ? "amd64" : process.arch,
      os: "linux",
      config: { Env: ["PATH=/usr/local/bin:/usr/bin:/bin"], ...starts },
      rootfs: { type: "layers", diff_ids: [`sha256:${layerSum}`] },
    }),
  );
  const configName = `${sum(config)}.json`;
  renameSync(config, path.join(archive, configName));
  const manifest = [{ Config: configName, RepoTags: [reference], Layers: [`${layerSum}.tar`] }];
  writeFileSync(path.join(archive, "manifest.json"), JSON.stringify(manifest));
  execFileSync("tar", ["-C", archive, "-cf", file, "."]);
}

const sum = (file: string) => createHash("sha256").update(readFileSync(file)).digest("hex");
