import type { EngineEvent, StepEventMetadata } from "@pulumi/pulumi/automation";

/** What the engine does to a resource, in words. */
export type Action = "create" | "update" | "replace" | "delete" | "unchanged";

/** What a reader wants to know of a run; made from the engine's events. */
export type RunEvent =
  | { readonly kind: "started"; readonly step: string; readonly action: Action; readonly reason?: string }
  | { readonly kind: "line"; readonly step: string; readonly text: string }
  | { readonly kind: "finished"; readonly step: string; readonly action: Action }
  | { readonly kind: "failed"; readonly step: string }
  | { readonly kind: "error"; readonly step?: string; readonly text: string }
  | { readonly kind: "note"; readonly text: string };

/** Pulumi's colour marks, `<{%fg 1%}>`. */
const COLOUR_MARK = /<\{%[^%]*%\}>/g;

/**
 * Translates one event of the engine; events that tell a reader nothing give none.
 * @param stackName the steps' names start with it, which says nothing within one environment
 */
export function translateEvent(event: EngineEvent, stackName: string): RunEvent[] {
  if (event.resourcePreEvent !== undefined) {
    const { metadata } = event.resourcePreEvent;
    return isStep(metadata)
      ? [{ kind: "started", ...describeStep(metadata, stackName), reason: reasonOf(metadata) }]
      : [];
  }
  if (event.resOutputsEvent !== undefined) {
    const { metadata } = event.resOutputsEvent;
    return isStep(metadata) ? [{ kind: "finished", ...describeStep(metadata, stackName) }] : [];
  }
  if (event.resOpFailedEvent !== undefined) {
    const { metadata } = event.resOpFailedEvent;
    return isStep(metadata) ? [{ kind: "failed", step: stepName(metadata.urn, stackName) }] : [];
  }
  return event.diagnosticEvent === undefined ? [] : translateDiagnostic(event.diagnosticEvent, stackName);
}

function translateDiagnostic(event: NonNullable<EngineEvent["diagnosticEvent"]>, stackName: string): RunEvent[] {
  const text = event.message.replaceAll(COLOUR_MARK, "").trimEnd();
  const urn = event.urn ?? "";
  const step = urn === "" || /::pulumi:pulumi:Stack::/.test(urn) ? undefined : stepName(urn, stackName);
  if (text === "" || /^(update|preview|destroy|deletion|deployment) failed$/.test(text)) return [];
  switch (event.severity) {
    case "error":
      return [{ kind: "error", step, text }];
    case "warning":
      return [{ kind: "note", text: step === undefined ? text : `${step}: ${text}` }];
    case "info":
    case "info#err":
      if (step === undefined) return event.ephemeral === true ? [] : [{ kind: "note", text }];
      return text.split("\n").map((line) => ({ kind: "line", step, text: line }) as const);
    default:
      // The engine also sends `debug`, which the SDK's type leaves out.
      return [];
  }
}

/** The last part of a URN without the stack's name before it: `serving` for `…::local-serving`. */
function stepName(urn: string, stackName: string): string {
  const name = urn.split("::").at(-1) ?? urn;
  return name.startsWith(`${stackName}-`) ? name.slice(stackName.length + 1) : name;
}

/** Whether the event is about something that does work: no component, no provider, no stack. */
function isStep({ type, new: next, old }: StepEventMetadata): boolean {
  return !type.startsWith("pulumi:") && (next ?? old)?.custom === true;
}

function describeStep(metadata: StepEventMetadata, stackName: string): { step: string; action: Action } {
  return { step: stepName(metadata.urn, stackName), action: actionOf(metadata.op) };
}

function actionOf(op: StepEventMetadata["op"]): Action {
  switch (op) {
    case "same":
    case "read":
    case "refresh":
      return "unchanged";
    case "create":
    case "import":
      return "create";
    case "update":
      return "update";
    case "delete":
    case "discard":
    case "delete-replaced":
    case "discard-replaced":
    case "remove-pending-replace":
      return "delete";
    case "replace":
    case "create-replacement":
    case "import-replacement":
    case "read-replacement":
      return "replace";
    default:
      throw new Error(`unknown operation ${JSON.stringify(op satisfies never)}`);
  }
}

/** Why a step is done again: the repair token names it where the host lost something, else the inputs that changed. */
function reasonOf({ op, diffs, old, new: next }: StepEventMetadata): string | undefined {
  if (op !== "update") return undefined;
  const token = repairToken(next);
  const reason = token?.replace(/ ?#[0-9a-f]+$/, "") ?? "";
  if (token !== repairToken(old) && reason !== "") return reason;
  return diffs === undefined || diffs.length === 0 ? undefined : "its settings changed";
}

function repairToken(state: StepEventMetadata["new"]): string | undefined {
  const environment = state?.inputs["environment"] as Record<string, unknown> | undefined;
  const token = environment?.["TANDEM_REPAIR"];
  return typeof token === "string" ? token : undefined;
}
