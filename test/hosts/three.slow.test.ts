import { afterAll, beforeAll, expect, it } from "vitest";
import { describeOnHosts, startHosts, type Fleet } from "../fixtures/hosts/hosts";
import { Deployment, SUPPLIES_ON_HOST } from "./deployment";

describeOnHosts("three hosts, of which one fails", () => {
  const deployment = new Deployment("three");
  let fleet: Fleet;

  beforeAll(async () => {
    fleet = await startHosts(["t1", "t2", "t3"], { diskGiB: 8, mounts: { [SUPPLIES_ON_HOST]: deployment.supplies } });
    deployment.configure(
      ["t1", "t2", "t3"].map((name) => fleet.host(name).access()),
      { serving: { extraEnv: { FAKE_VLLM_START_SECONDS: "6" } } },
    );
  });
  afterAll(async () => {
    await fleet?.close();
    deployment.remove();
  });

  it("brings the other two to a proven service, and says of the one what is wrong", async () => {
    await fleet.host("t2").exec("echo 'ValueError: this host is different' > /run/fake-vllm-fail");
    const run = await deployment.tandem(["up", "--yes"]);
    expect(run.status).toBe(1);
    expect(run.stderr).toContain("serving failed on t2");
    expect(run.stderr).toContain("ValueError: this host is different");
    expect(run.stderr).not.toMatch(/Unhandled|failed to register|serializing/);
    for (const name of ["t1", "t3"]) expect(run.stderr).toContain(`${name}-proof: done`);
  });

  it("goes on with the one alone when it is mended", async () => {
    await fleet.host("t2").exec("rm /run/fake-vllm-fail");
    const { changes } = await deployment.ask(["up"]);
    expect(changes.map(({ step }) => step)).toEqual(["t2-serving", "t2-proof"]);
    expect((await deployment.tandem(["destroy", "--yes"])).status).toBe(0);
  });
});
