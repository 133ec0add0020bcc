import type { Console } from "../console";
import { runOperation, type OperationResult } from "../operation";
import { plansOf, prepareHosts, renderPlans } from "../planning";
import { success, type Report } from "../report";
import { decryptSettings, openForChange, removeStack, withSession } from "../session";
import { merge, resolveSettings } from "../settings";
import { toRawSettings } from "../setting-flags";
import { CommandError } from "../exit";
import type { ChangeOptions } from "./options";

/** `tandem preview`: what `up` would change. */
export async function preview(options: ChangeOptions, console: Console): Promise<Report> {
  return withSession("preview", options, console, async (session) => {
    const { environment, interruption } = session;
    const { settings, changes, fromVariables } = resolveSettings(
      environment,
      options,
      console.say,
      await decryptSettings(session),
    );
    const prepared = await interruption.guard(prepareHosts(settings, environment.name));
    // What is rented costs money: what and how much is read before anything else.
    if (prepared.cloud !== undefined) {
      console.say(renderPlans(plansOf(prepared), process.stderr));
    }
    const plans = Object.fromEntries(plansOf(prepared).map(({ name, plan }) => [name, plan]));
    const { default: program } = await import("../../stacks/index.js");
    const overrides = merge(fromVariables, toRawSettings(changes));
    const opened = await openForChange(session, {
      command: "preview",
      program: () => program(overrides, prepared),
      create: true,
    });
    if (opened === undefined) throw new CommandError("the stack could not be opened");
    const wasThere = (await opened.stack.info()) !== undefined;
    const result = await runOperation("preview", { ...opened, interruption, console });
    // The engine can't preview without a stack: one that was made for that goes again.
    if (!wasThere) await removeStack(opened, environment.name);
    return success(
      {
        plan: plansOf(prepared)[0]?.plan,
        plans,
        changes: result.changes,
        unchanged: result.unchanged,
        log: opened.log.path,
      },
      describeChanges(result),
    );
  });
}

const SIGNS = { create: "+", update: "~", replace: "±", delete: "-", unchanged: " " } as const;

function describeChanges({ changes, unchanged }: OperationResult): string {
  if (changes.length === 0) return `nothing would change (${unchanged} steps)`;
  const lines = changes.map(
    ({ step, action, reason }) => `  ${SIGNS[action]} ${step}: ${action}${reason === undefined ? "" : ` — ${reason}`}`,
  );
  return ["up would:", ...lines, `${unchanged} unchanged`].join("\n");
}
