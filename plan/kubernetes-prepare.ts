import type { ClusterFacts } from "./kubernetes-facts";
import { settingsForCluster } from "./kubernetes-manifests";
import { hostOfNode, type Candidate } from "./kubernetes-nodes";
import { chooseSharing, type GpuSharing } from "./kubernetes-sharing";
import { clusterProblems, judgeCluster, type Verdict } from "./kubernetes-verdicts";
import { makePlan } from "./make-plan";
import type { ModelShape } from "./model-shape";
import type { Alternative, Plan } from "./plan";
import type { Problem } from "./problem";
import type { Settings } from "./settings";

/** What is going to be done in a cluster, or every problem at once. */
export type ClusterPlan =
  | {
      readonly plan: Plan;
      readonly settings: Settings;
      readonly chosen: Candidate;
      readonly sharing: GpuSharing;
      readonly installsOperator: boolean;
      readonly verdicts: readonly Verdict[];
      readonly problems: readonly [];
    }
  | {
      readonly plan?: undefined;
      readonly verdicts: readonly Verdict[];
      readonly problems: readonly Problem[];
      readonly alternatives: readonly Alternative[];
    };

/**
 * Plans one pod on the kind of node that was chosen, exactly as a machine of that kind would be planned; all pods are alike.
 * @param settings of `target: kubernetes`
 */
export function planCluster(facts: ClusterFacts, shape: ModelShape, settings: Settings): ClusterPlan {
  const forCluster = settingsForCluster(settings);
  const choice = judgeCluster(facts, forCluster);
  const { verdicts, chosen, gpus } = choice;
  const early = clusterProblems(verdicts);
  if (chosen === undefined) return { verdicts, problems: early, alternatives: [] };
  const { sharing, problem } = chooseSharing(forCluster, choice, facts);
  const result = makePlan({ settings: { ...forCluster, gpus }, shape, hosts: [hostOfNode(chosen, gpus)] });
  const problems = [...early, ...(problem === undefined ? [] : [problem]), ...result.problems];
  if (problems.length > 0 || result.plan === undefined || sharing === undefined) {
    return { verdicts, problems, alternatives: result.plan === undefined ? result.alternatives : [] };
  }
  const plan: Plan = {
    ...result.plan,
    reasons: [`GPU sharing: ${sharing.reason}`, ...result.plan.reasons],
    warnings: [...verdicts.filter(({ level }) => level === "warn").map(({ text }) => text), ...result.plan.warnings],
  };
  const installsOperator = choice.installsOperator === true;
  return { plan, settings: forCluster, chosen, sharing, installsOperator, verdicts, problems: [] };
}
