import { readFileSync } from "node:fs";
import { isCollection, isMap, parseDocument, type Document } from "yaml";
import { writeWhole } from "../bootstrap/runner/write-whole";
import { CommandError, EXIT } from "./exit";

/** Pulumi's configuration keys of ours start with this. */
const NAMESPACE = "tandem:";
/** Fields beside `config` by which Pulumi encrypts. */
const ENCRYPTION_FIELDS = ["secretsprovider", "encryptedkey", "encryptionsalt"] as const;
/** All that Pulumi reads of a stack's settings file. */
const STACK_FIELDS = new Set<string>(["config", "environment", ...ENCRYPTION_FIELDS]);

/** A stack's settings file, `Pulumi.<env>.yaml`: read without Pulumi, changed without losing comments or order. */
export class SettingsFile {
  private constructor(
    private readonly document: Document,
    readonly path: string,
  ) {}

  /** @throws CommandError when it can't be read or is not a settings file */
  static read(path: string): SettingsFile {
    const document = parseDocument(readText(path));
    const [error] = document.errors;
    if (error !== undefined) throw notSettings(path, error.message);
    const contents: unknown = document.toJS();
    if (contents !== null && (typeof contents !== "object" || Array.isArray(contents))) {
      throw notSettings(path, "it holds no `config:` section");
    }
    if (document.has("config") && !isMap(document.get("config")) && document.get("config") !== null) {
      throw notSettings(path, "`config` is not a list of `tandem:name: value` lines");
    }
    const stray = strayKey(contents);
    if (stray !== undefined) throw notSettings(path, stray);
    return new SettingsFile(document, path);
  }

  /** The configuration as Pulumi's program sees it: full key → text, objects as JSON. Without what only Pulumi can decrypt. */
  config(): Record<string, string> {
    const open = Object.entries(this.rawConfig()).filter(([, value]) => !isCiphertext(value));
    return Object.fromEntries(open.map(([key, value]) => [key, toConfigText(withoutCiphertext(value))]));
  }

  /** Whether it holds values that only Pulumi can decrypt. */
  get hasSecrets(): boolean {
    return JSON.stringify(withoutCiphertext(this.rawConfig())) !== JSON.stringify(this.rawConfig());
  }

  /** Sets `tandem:<path[0]>` or a field below it. A value that was no object makes room for one. */
  set(path: readonly string[], value: unknown): void {
    const [name, ...fields] = path;
    const keys = ["config", `${NAMESPACE}${String(name)}`, ...fields];
    for (let depth = 1; depth < keys.length; depth++) {
      const parent = keys.slice(0, depth);
      if (!isCollection(this.document.getIn(parent))) this.document.setIn(parent, this.document.createNode({}));
    }
    // A plain value goes into the node that is there, with its comment.
    const isPlain = typeof value !== "object" || value === null;
    this.document.setIn(keys, isPlain ? value : this.document.createNode(value));
  }

  /** Takes the encryption and the encrypted settings of the file that this one replaces. */
  adoptSecrets(previous: SettingsFile): void {
    for (const field of ENCRYPTION_FIELDS) {
      const value = previous.document.get(field);
      if (value !== undefined) this.document.set(field, value);
    }
    for (const [key, value] of Object.entries(previous.rawConfig())) {
      if (isCiphertext(value) && !this.document.hasIn(["config", key])) {
        this.document.setIn(["config", key], this.document.createNode(value));
      }
    }
  }

  /** Drops what is encrypted and how, for a passphrase that is lost. @returns the names of the settings that are gone */
  forgetSecrets(): string[] {
    for (const field of ENCRYPTION_FIELDS) this.document.delete(field);
    const gone = Object.entries(this.rawConfig()).filter(([, value]) => isCiphertext(value));
    for (const [key] of gone) this.document.deleteIn(["config", key]);
    return gone.map(([key]) => key.slice(key.indexOf(":") + 1));
  }

  private rawConfig(): Record<string, unknown> {
    return (this.document.toJS() as { config?: Record<string, unknown> } | null)?.config ?? {};
  }

  write(path = this.path): void {
    writeWhole(path, this.document.toString());
  }
}

/** A setting at a place where nobody would read it. */
function strayKey(contents: object | null): string | undefined {
  const outside = Object.keys(contents ?? {}).find((key) => !STACK_FIELDS.has(key));
  if (outside !== undefined) return `\`${outside}\` stands outside of \`config:\``;
  const config = (contents as { config?: object | null } | null)?.config ?? {};
  const bare = Object.keys(config).find((key) => !key.includes(":"));
  return bare === undefined ? undefined : `\`${bare}\` lacks its \`${NAMESPACE}\``;
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw notSettings(path, `it can't be read (${String((error as NodeJS.ErrnoException).code)})`);
  }
}

function notSettings(path: string, why: string): CommandError {
  return new CommandError(
    `${path}: not a settings file — ${why} — allowed: YAML with \`config:\` and \`tandem:name: value\` below it`,
    EXIT.usage,
  );
}

function toConfigText(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

function withoutCiphertext(value: unknown): unknown {
  if (Array.isArray(value)) return value.filter((item) => !isCiphertext(item)).map(withoutCiphertext);
  if (typeof value !== "object" || value === null) return value;
  const open = Object.entries(value).filter(([, field]) => !isCiphertext(field));
  return Object.fromEntries(open.map(([key, field]) => [key, withoutCiphertext(field)]));
}

/** Pulumi writes an encrypted value as an object with the one field `secure`. */
function isCiphertext(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.keys(value).join() === "secure";
}
