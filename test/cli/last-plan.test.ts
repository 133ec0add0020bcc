import { expect, it } from "vitest";
import { outdated } from "../../cli/last-plan";
import type { Plan } from "../../plan/plan";

it("a plan of an older version says that one `up` is needed, one of this version nothing", () => {
  expect(outdated({ port: 8000 } as Plan, "box")).toMatch(/older Tandem.* — fix: tandem up --env box$/);
  expect(outdated({ port: 8000, servingPort: 8002 } as Plan, "box")).toBeUndefined();
});
