type Path = readonly PropertyKey[];

/** A rule asked for a setting that is wrong. */
class UnknownSetting extends Error {}

/** Raw settings without what stands at some paths. */
export function withoutPaths(raw: unknown, paths: readonly Path[]): unknown {
  return paths.reduce(withoutPath, raw);
}

function withoutPath(raw: unknown, [key, ...rest]: Path): unknown {
  if (key === undefined || typeof raw !== "object" || raw === null || !Object.hasOwn(raw, key)) return raw;
  const { [key]: value, ...others } = raw as Readonly<Record<PropertyKey, unknown>>;
  return rest.length === 0 ? others : { ...others, [key]: withoutPath(value, rest) };
}

/** Settings that throw when one of these paths, or a block that one is in, is read to its end. */
export function unreadable<Value extends object>(settings: Value, paths: readonly Path[]): Value {
  return new Proxy(settings, {
    get(target, key, receiver) {
      const below = paths.filter(([first]) => first === key).map(([, ...rest]) => rest);
      const value: unknown = Reflect.get(target, key, receiver);
      if (below.length === 0) return value;
      if (typeof value !== "object" || value === null || below.some((rest) => rest.length === 0))
        throw new UnknownSetting();
      return unreadable(value, below);
    },
  });
}

/** What a rule says, nothing when it hangs on a setting that is `unreadable`. */
export function whereReadable<Said>(rule: () => Said): Said | undefined {
  try {
    return rule();
  } catch (error) {
    if (error instanceof UnknownSetting) return undefined;
    throw error;
  }
}
