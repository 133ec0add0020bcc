import {
  DescribeKeyPairsCommand,
  DescribeLaunchTemplatesCommand,
  DescribeSecurityGroupsCommand,
  DescribeVolumesCommand,
  DescribeVpcsCommand,
  TerminateInstancesCommand,
} from "@aws-sdk/client-ec2";
import { readFileSync } from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { livingMachines } from "../../bootstrap/cloud/machines";
import { expectConforms } from "../conformance/conforms";
import { startAws, type Aws } from "../fixtures/aws/aws";
import { MachineRoom } from "../fixtures/ec2/machine-room";
import { configureEc2, variablesFor } from "../fixtures/ec2/stack-on-ec2";
import { describeOnHosts, Fleet } from "../fixtures/hosts/hosts";
import { Deployment } from "../hosts/deployment";
import { withAws } from "./workbench";

const LADDER = [
  { instanceType: "g6.xlarge", market: "on-demand" },
  { instanceType: "g5.xlarge", market: "on-demand" },
  { instanceType: "g6.xlarge", market: "spot", zone: "us-east-1b" },
];

describeOnHosts("one `up` on EC2, emulated, with real machines", () => {
  const deployment = new Deployment("rented");
  let aws: Aws;
  let fleet: Fleet;
  let room: MachineRoom;
  let variables: Record<string, string>;

  beforeAll(async () => {
    [aws, fleet] = await Promise.all([startAws(), Fleet.open()]);
    // Settings name paths on the machine; the plan is made before there is one, so the same path must be here.
    const mounts = { [deployment.supplies]: deployment.supplies };
    const hosts = await fleet.add(["e1"], { diskGiB: 8, mounts, start: false });
    room = await MachineRoom.open(aws, hosts);
    variables = variablesFor(aws, deployment.folder);
    await aws.settings({ terminationSeconds: 1 });
    await aws.noCapacity([{ market: "on-demand" }]);
    configureEc2(
      deployment,
      { ladder: LADDER, zones: undefined }, // Test hosts have this machine's uptime, which counts as time that has passed.
      { ttl: "30d", maxPricePerHourUsd: 2 },
    );
  });
  afterAll(async () => {
    await room?.close();
    await fleet?.close();
    await aws?.close();
    deployment.remove();
  });

  const living = () => withAws(aws, (clients) => livingMachines(clients, "rented"));
  const calls = async (pattern: RegExp) => (await aws.calls()).filter(({ action }) => pattern.test(action));

  it("shows ladder and cost before anything is made", async () => {
    const run = await deployment.tandem(["preview", "--json"], variables);
    expect(run, run.stderr).toMatchObject({ status: 0 });
    expect(run.stderr).toMatch(
      /g6\.xlarge,\s+on-demand;\s+g5\.xlarge,\s+on-demand;\s+g6\.xlarge\s+in\s+us-east-1b,\s+spot/,
    );
    expect(run.stderr).toMatch(/cost +1\.006 US dollars an hour, 724\.32 at most/);
    const { changes } = JSON.parse(run.stdout) as { changes: { step: string; action: string }[] };
    expect(changes.map(({ step }) => step)).toEqual(expect.arrayContaining(["launch", "template", "ec2-1-serving"]));
    expect(await calls(/^(Create|Run|Import|Authorize)/)).toEqual([]);
  });

  it("takes the third choice, waits for the machine and serves on it", async () => {
    const { outputs, changes, seconds } = await deployment.ask(["up"], 0, variables);
    console.log(`up on EC2: ${seconds.toFixed(1)} s, ${changes.length} changes`);
    const [machine] = await living();
    expect(machine).toMatchObject({
      instanceType: "g6.xlarge",
      market: "spot",
      zone: "us-east-1b",
      name: "ec2-1",
    });
    expect(outputs.hosts).toEqual([
      expect.objectContaining({ name: "ec2-1", target: "ec2", address: machine?.publicAddress, health: "healthy" }),
    ]);
    expectConforms(outputs, {
      target: "ec2",
      model: path.join(deployment.supplies, "model"),
      tensorParallel: 1,
      hosts: 1,
    });
    expect(outputs.cost).toMatchObject({ pricePerHourUsd: 0.805, capUsd: 579.6, expiresAt: expect.any(String) });
    expect(outputs.endpoints.connect).toContain(`ops@${machine?.publicAddress}`);
    const host = room.hostOf(machine?.instanceId ?? "");
    expect(await host?.exec("systemctl is-enabled tandem-expiry.timer")).toContain("enabled");
  });

  it("touches nothing the next time", async () => {
    const before = (await calls(/^(Create|Run|Modify|Terminate|Delete)/)).length;
    const { changes, seconds } = await deployment.ask(["up"], 0, variables);
    console.log(`second up on EC2: ${seconds.toFixed(1)} s`);
    expect(changes).toEqual([]);
    expect(await calls(/^(Create|Run|Modify|Terminate|Delete)/)).toHaveLength(before);
  });

  it("marks the stack when EC2 gives notice that it takes the spot machine back", async () => {
    const [machine] = await living();
    const host = room.hostOf(machine?.instanceId ?? "");
    const imds = readFileSync(path.resolve(__dirname, "../fakes/imds.py"), "utf8");
    await host?.exec(`cat >/srv/imds.py <<'END'\n${imds}\nEND`);
    await host?.exec(`systemd-run --quiet --unit=imds python3 /srv/imds.py 8169 /srv/notice`);
    const folder = "/var/lib/tandem/stacks/rented/spot";
    await host?.exec(`echo AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:8169 >${folder}/environment`);
    await host?.exec("systemctl restart tandem-rented-spot.service");
    await host?.exec(`echo '{"action":"terminate","time":"2026-11-25T23:10:00Z"}' >/srv/notice`);
    await expect
      .poll(() => host?.tryExec(`cat ${folder}/notice.json`), { timeout: 20_000 })
      .toMatchObject({ status: 0 });
    const { stdout } = await deployment.tandem(["status"], variables);
    expect(stdout).toContain("EC2 takes this spot machine back: terminate at 2026-11-25T23:10:00Z");
  });

  it("shows a machine that is gone, with the reason", async () => {
    const [machine] = await living();
    const id = machine?.instanceId ?? "";
    await withAws(aws, ({ ec2 }) => ec2.send(new TerminateInstancesCommand({ InstanceIds: [id] })));
    await expect.poll(living, { timeout: 10_000 }).toEqual([]);
    const { changes } = await deployment.ask(["preview"], 0, variables);
    expect(changes).toEqual(
      expect.arrayContaining([
        expect.objectContaining({
          step: "launch",
          action: "update",
          reason: expect.stringContaining("there is no machine"),
        }),
      ]),
    );
  });

  it("takes everything away", async () => {
    const run = await deployment.tandem(["destroy", "--yes"], variables);
    expect(run, run.stderr).toMatchObject({ status: 0 });
    const left = await withAws(aws, async ({ ec2 }) => {
      const { KeyPairs = [] } = await ec2.send(new DescribeKeyPairsCommand({}));
      const { LaunchTemplates = [] } = await ec2.send(new DescribeLaunchTemplatesCommand({}));
      const { SecurityGroups = [] } = await ec2.send(new DescribeSecurityGroupsCommand({}));
      const { Vpcs = [] } = await ec2.send(new DescribeVpcsCommand({}));
      const { Volumes = [] } = await ec2.send(new DescribeVolumesCommand({}));
      const groups = SecurityGroups.filter(({ GroupName }) => GroupName !== "default");
      const vpcs = Vpcs.filter(({ IsDefault }) => IsDefault !== true);
      return [...KeyPairs, ...LaunchTemplates, ...groups, ...vpcs, ...Volumes];
    });
    expect(left).toEqual([]);
    expect(room.failures).toEqual([]);
  });
});
