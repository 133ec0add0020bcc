/** The policy pack: `pulumi up --policy-pack policy`. What it forbids is in rules.ts. */
import { PolicyPack } from "@pulumi/policy";
import { RULES } from "./rules";

new PolicyPack("tandem", {
  enforcementLevel: "mandatory",
  policies: RULES.map(({ name, description, check }) => ({
    name,
    description,
    validateResource: ({ type, name: resource, props }, reportViolation) => {
      for (const problem of check({ type, name: resource, props: props as Record<string, unknown> }))
        reportViolation(problem);
    },
  })),
});
