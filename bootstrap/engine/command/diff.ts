import { INPUT_NAMES, REPLACING_INPUT } from "./inputs";
import { isList, isPlainObject, isSame, type Properties, type Value } from "./values";

export interface Change {
  /** Pulumi's property path: `environment.A`, `triggers[0]`, `environment["a-b"]`. */
  readonly path: string;
  readonly input: string;
  readonly kind: "add" | "delete" | "update";
  readonly replaces: boolean;
}

/**
 * What differs between a command's old state and its new inputs, as deep as both sides are objects or lists.
 * @param ignored inputs of `ignoreChanges`: their old value stays
 */
export function diffInputs(state: Properties, news: Properties, ignored: readonly string[] = []): Change[] {
  return INPUT_NAMES.filter((name) => !ignored.includes(name)).flatMap((input) =>
    compare(input, state[input], news[input]).map(({ path, kind }) => ({
      path,
      input,
      kind,
      replaces: input === REPLACING_INPUT,
    })),
  );
}

function compare(path: string, old: Value | undefined, now: Value | undefined): Pick<Change, "path" | "kind">[] {
  const hadValue = old !== undefined && old !== null;
  const hasValue = now !== undefined && now !== null;
  if (!hadValue) return hasValue ? [{ path, kind: "add" }] : [];
  if (!hasValue) return [{ path, kind: "delete" }];
  if (isList(old) && isList(now)) {
    const length = Math.max(old.length, now.length);
    return Array.from({ length }, (_, index) => compare(`${path}[${index}]`, old[index], now[index])).flat();
  }
  if (isPlainObject(old) && isPlainObject(now)) {
    const keys = [...new Set([...Object.keys(old), ...Object.keys(now)])];
    return keys.flatMap((key) => compare(path + pathStep(key), old[key], now[key]));
  }
  return isSame(old, now) ? [] : [{ path, kind: "update" }];
}

function pathStep(key: string): string {
  return /^\w+$/.test(key) ? `.${key}` : `["${key.replaceAll('"', '\\"')}"]`;
}
