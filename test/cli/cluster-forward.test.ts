import { once } from "node:events";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { allOpen, openForward } from "../../bootstrap/runner/tunnel";
import { freePort } from "../fixtures/free-port";

let folder: string;
let kubectl: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), "tandem-forward-"));
  kubectl = path.join(folder, "kubectl");
  // It stands for `kubectl port-forward`, which listens here and ends when it is told to; with a cluster it was not compared.
  const listen =
    "import socket,sys,time;s=socket.create_server(('127.0.0.1',int(sys.argv[-1].split(':')[0])));time.sleep(60)";
  writeFileSync(
    kubectl,
    `#!/bin/sh\ncase "$*" in *absent*) echo 'services "absent" not found' >&2; exit 1 ;; esac\nexec python3 -c "${listen}" "$@"\n`,
  );
  chmodSync(kubectl, 0o755);
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

const answers = (port: number) =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(socket.destroy() && true)).once("error", () => resolve(false));
  });

describe("the way from an ephemeral run's command to a cluster", () => {
  it("is open until it is closed", async () => {
    const port = await freePort();
    const forward = await openForward(`${kubectl} -n ns port-forward service/s ${port}:${port}`, port);
    expect(await answers(port)).toBe(true);
    await forward.close();
    expect(await answers(port)).toBe(false);
  });

  it("says in kubectl's words why it does not open", async () => {
    const port = await freePort();
    const opening = openForward(`${kubectl} -n ns port-forward service/absent ${port}:${port}`, port);
    await expect(opening).rejects.toThrow('no way to the cluster: services "absent" not found');
  });

  it("is never another program that listens there already", async () => {
    const port = await freePort();
    const other = createServer().listen(port, "127.0.0.1");
    await once(other, "listening");
    const opening = openForward(`${kubectl} -n ns port-forward service/s ${port}:${port}`, port);
    await expect(opening).rejects.toThrow(
      `no way to the cluster: another program listens on port ${port} of this machine — fix: `,
    );
    other.close();
  });

  it("is closed again when another that is needed as well does not open", async () => {
    const port = await freePort();
    const opened = openForward(`${kubectl} -n ns port-forward service/s ${port}:${port}`, port);
    await opened;
    const failed = Promise.reject(new Error("no tunnel to h2"));
    await expect(allOpen([failed, opened])).rejects.toThrow("no tunnel to h2");
    expect(await answers(port)).toBe(false);
  });
});
