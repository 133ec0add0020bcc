import {
  DescribeKeyPairsCommand,
  DescribeLaunchTemplatesCommand,
  DescribeSecurityGroupsCommand,
  DescribeVolumesCommand,
  DescribeVpcsCommand,
  type SecurityGroup,
} from "@aws-sdk/client-ec2";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { livingMachines } from "../../bootstrap/cloud/machines";
import { expectConforms } from "../conformance/conforms";
import { startAws, type Aws } from "../fixtures/aws/aws";
import { MachineRoom } from "../fixtures/ec2/machine-room";
import { configureEc2, PRODUCT, variablesFor } from "../fixtures/ec2/stack-on-ec2";
import { describeOnHosts, Fleet } from "../fixtures/hosts/hosts";
import { Deployment } from "../hosts/deployment";
import { notAllowed } from "./policy";
import { withAws } from "./workbench";

/** A test on two cores must not wait for nginx to be brought to each machine; the gateway has hosts of its own, test/gateway. */
const NO_GATEWAY = { gateway: { enabled: false } };
/** Who may connect to the gateway. */
const FROM = { gateway: { allowedCidrs: ["198.51.100.0/24"] } };
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
    const hosts = await fleet.add(["e1", "e2", "e3", "e4"], { diskGiB: 8, mounts, start: false });
    room = await MachineRoom.open(aws, hosts);
    variables = variablesFor(aws, deployment.folder);
    await aws.settings({ terminationSeconds: 1 });
    await aws.noCapacity([{ market: "on-demand" }]);
    configure();
  });
  afterAll(async () => {
    await room?.close();
    await fleet?.close();
    await aws?.close();
    deployment.remove();
  });

  const configure = (ec2: object = {}, more: object = {}) =>
    configureEc2(
      deployment,
      { ladder: LADDER, zones: undefined, ...ec2 },
      { ttl: "30d", maxPricePerHourUsd: 3, ...more },
    );
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
      .poll(() => host?.tryExec(`cat ${folder}/notice.json`), { timeout: 60_000 })
      .toMatchObject({ status: 0 });
    const { stdout } = await deployment.tandem(["status"], variables);
    expect(stdout).toContain("EC2 takes this spot machine back: terminate at 2026-11-25T23:10:00Z");
  });

  it("has other machines serve before the old one ends, and opens the gateway's port for who was named", async () => {
    const [old] = await living();
    const from = (await aws.calls()).length;
    configure({ rootVolumeGiB: 100, machines: 2 }, { exposure: "private", ...FROM });
    const { outputs, seconds } = await deployment.ask(["up"], 0, variables);
    console.log(`up with two machines in place of one: ${seconds.toFixed(1)} s`);
    const machines = await living();
    expect(machines.map(({ name }) => name)).toEqual(["ec2-1", "ec2-2"]);
    expect(machines.map(({ instanceId }) => instanceId)).not.toContain(old?.instanceId);
    expect(outputs.hosts.map(({ health }) => health)).toEqual(["healthy", "healthy"]);
    expect(Date.parse(outputs.health.provenAt)).toBeLessThan(room.endOf(old?.instanceId ?? "") ?? 0);
    const actions = (await aws.calls()).slice(from).map(({ action }) => action);
    expect(actions.indexOf("TerminateInstances")).toBeGreaterThan(actions.lastIndexOf("CreateFleet"));
    const [group] = await groups();
    expect(group?.IpPermissions).toEqual([
      expect.objectContaining({ FromPort: 22, IpRanges: [expect.objectContaining({ CidrIp: "203.0.113.7/32" })] }),
      expect.objectContaining({ FromPort: 8000, IpRanges: [expect.objectContaining({ CidrIp: "198.51.100.0/24" })] }),
    ]);
  });

  it("ends the machine that is too many, leaves the other as it is, and closes what was opened", async () => {
    const [stays, goes] = await living();
    configure({ rootVolumeGiB: 100 });
    const { outputs } = await deployment.ask(["up"], 0, variables);
    expect((await living()).map(({ instanceId }) => instanceId)).toEqual([stays?.instanceId]);
    expect(room.endOf(goes?.instanceId ?? "")).toBeGreaterThan(0);
    expect(outputs.hosts.map(({ name }) => name)).toEqual(["ec2-1"]);
    expect((await groups())[0]?.IpPermissions?.map(({ FromPort }) => FromPort)).toEqual([22]);
  });

  it("has a machine end itself by its own timer, and shows that it is gone, with the reason", async () => {
    const [machine] = await living();
    const host = room.hostOf(machine?.instanceId ?? "");
    await host?.exec("date +%s >/var/lib/tandem-expiry/expires");
    await expect.poll(living, { timeout: 150_000 }).toEqual([]);
    const terminated = (await calls(/^TerminateInstances$/)).filter(({ key }) => key === PRODUCT).length;
    expect(terminated).toBe(2);
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
    expect(await left()).toEqual([]);
  });

  it("gives a command machines of its own with `ephemeral`, ends with its status, and proves that nothing is left", async () => {
    configure({}, NO_GATEWAY);
    const summary = path.join(deployment.folder, "summary.json");
    const ask =
      'curl -sf "$TANDEM_BASE_URL/models" -H "Authorization: Bearer $TANDEM_API_KEY" && test -s "$TANDEM_OUTPUTS" && exit 7';
    const argv = ["ephemeral", "--ttl", "1h", "--json", summary, "--", "sh", "-c", ask];
    const run = await deployment.tandem(argv, variables);
    console.log(`ephemeral on EC2: ${run.seconds.toFixed(1)} s`);
    expect(run, run.stderr).toMatchObject({ status: 7 });
    expect(run.stdout).toContain('"object": "list"');
    expect(JSON.parse(readFileSync(summary, "utf8"))).toMatchObject({ exitStatus: 7, isGone: true });
    expect(await left()).toEqual([]);
    const made = (await aws.calls()).filter(({ key }) => key === PRODUCT).map(({ action }) => action);
    const lastDeletion = made.findLastIndex((action) => /^(Delete|Terminate)/.test(action));
    expect(made.slice(lastDeletion)).toEqual(expect.arrayContaining(["DescribeTags", "GetResources"]));
  });

  it("needs of AWS what the example policy allows, and no more", async () => {
    const made = (await aws.calls()).filter(({ key }) => key === PRODUCT);
    expect(made.length).toBeGreaterThan(100);
    expect(notAllowed("policy.json", made)).toEqual([]);
    expect(room.failures).toEqual([]);
  });

  const groups = async (): Promise<SecurityGroup[]> => {
    const { SecurityGroups = [] } = await withAws(aws, ({ ec2 }) => ec2.send(new DescribeSecurityGroupsCommand({})));
    return SecurityGroups.filter(({ GroupName }) => GroupName !== "default");
  };
  /** What is left in the cloud, of machines' keys on this machine too. */
  const left = () =>
    withAws(aws, async ({ ec2 }) => {
      const { KeyPairs = [] } = await ec2.send(new DescribeKeyPairsCommand({}));
      const { LaunchTemplates = [] } = await ec2.send(new DescribeLaunchTemplatesCommand({}));
      const { Vpcs = [] } = await ec2.send(new DescribeVpcsCommand({}));
      const { Volumes = [] } = await ec2.send(new DescribeVolumesCommand({}));
      const vpcs = Vpcs.filter(({ IsDefault }) => IsDefault !== true);
      const keys = path.join(deployment.home, "keys");
      const files = existsSync(keys) ? readdirSync(keys) : [];
      return [...KeyPairs, ...LaunchTemplates, ...vpcs, ...Volumes, ...(await groups()), ...files, ...(await living())];
    });
});
