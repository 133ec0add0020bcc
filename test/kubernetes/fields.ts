import * as client from "@kubernetes/client-node";

interface Field {
  readonly baseName: string;
  readonly type: string;
}
type Model = { getAttributeTypeMap?: () => Field[] };
const models = client as unknown as Record<string, Model | undefined>;

/** The models that the official client was generated with from Kubernetes' own OpenAPI description, by kind. */
export const MODEL_OF: Readonly<Record<string, string>> = {
  Namespace: "V1Namespace",
  ConfigMap: "V1ConfigMap",
  Service: "V1Service",
  NetworkPolicy: "V1NetworkPolicy",
  PodDisruptionBudget: "V1PodDisruptionBudget",
  StatefulSet: "V1StatefulSet",
  Ingress: "V1Ingress",
  ResourceClaimTemplate: "V1ResourceClaimTemplate",
  ServiceAccount: "V1ServiceAccount",
  Role: "V1Role",
  RoleBinding: "V1RoleBinding",
  Deployment: "V1Deployment",
  Job: "V1Job",
};

/** Paths in a value that its type does not know, or whose kind of value is another one. */
export function unknownFields(value: unknown, type: string, path: string): string[] {
  const list = /^Array<(.+)>$/.exec(type)?.[1];
  if (list !== undefined) {
    if (!Array.isArray(value)) return [`${path} is no list`];
    return value.flatMap((entry, index) => unknownFields(entry, list, `${path}[${index}]`));
  }
  const map = /^\{ \[key: string\]: (.+); \}$/.exec(type)?.[1];
  if (map !== undefined)
    return Object.entries(value as object).flatMap(([key, entry]) => unknownFields(entry, map, `${path}.${key}`));
  const fields = models[type]?.getAttributeTypeMap?.();
  if (fields !== undefined) {
    if (typeof value !== "object" || value === null) return [`${path} is no object`];
    return Object.entries(value).flatMap(([key, entry]) => {
      const field = fields.find(({ baseName }) => baseName === key);
      return field === undefined ? [`${path}.${key} is not known`] : unknownFields(entry, field.type, `${path}.${key}`);
    });
  }
  if (type === "string" || type === "number" || type === "boolean") {
    return typeof value === type ? [] : [`${path} is ${typeof value}, not ${type}`];
  }
  return [];
}
