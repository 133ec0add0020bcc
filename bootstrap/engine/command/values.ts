/**
 * Property values as they travel between engine and plugin: JSON, in which an object with the signature key stands for a
 * secret, an asset or a resource, and one fixed text for a value that is not known before `up`.
 */
export type Value = null | boolean | number | string | readonly Value[] | { readonly [key: string]: Value };
export type Properties = Readonly<Record<string, Value>>;

/** Fixed by Pulumi's protocol; the SDK has them in `runtime/rpc`, which takes 0.3 s to load. A test compares the two. */
export const SIGNATURE_KEY = "4dabf18193072939515e22adb298388d";
export const SECRET_SIGNATURE = "1b47061264138c4ac30d75fd1eb44270";
export const ASSET_SIGNATURE = "c44067f5952c0a294b673a41bacd8c17";
export const ARCHIVE_SIGNATURE = "0def7320c3a5731c473e5ecbe6d01bc7";
export const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";

/** The value without the marks that say that it is secret, at any depth. */
export function reveal(value: Value | undefined): Value | undefined {
  if (isList(value)) return value.map((item) => reveal(item) ?? null);
  if (!isObject(value)) return value;
  if (value[SIGNATURE_KEY] === SECRET_SIGNATURE) return reveal(value["value"]);
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, reveal(field) ?? null]));
}

/** Whether two values are the same for Pulumi: a missing field is as good as `null`, a secret never equals an open value. */
export function isSame(one: Value | undefined, other: Value | undefined): boolean {
  if (isList(one) && isList(other)) {
    return one.length === other.length && one.every((item, index) => isSame(item, other[index]));
  }
  if (isObject(one) && isObject(other)) {
    const keys = new Set([...Object.keys(one), ...Object.keys(other)]);
    return [...keys].every((key) => isSame(one[key], other[key]));
  }
  return (one ?? null) === (other ?? null);
}

export function isList(value: Value | undefined): value is readonly Value[] {
  return Array.isArray(value);
}

export function isObject(value: Value | undefined): value is { readonly [key: string]: Value } {
  return typeof value === "object" && value !== null && !isList(value);
}

/** An object as such, not one that stands for a secret, an asset or a resource. */
export function isPlainObject(value: Value | undefined): value is { readonly [key: string]: Value } {
  return isObject(value) && !(SIGNATURE_KEY in value);
}
