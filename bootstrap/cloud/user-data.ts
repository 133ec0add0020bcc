import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { RunMark } from "../../plan/run-tags";
import { packageRoot } from "../runner/package-root";

/** Where a rented machine keeps the time of its end; `expiry-extend.sh` moves it. */
const FOLDER = "/var/lib/tandem-expiry";
const LOOK_SECONDS = 15;
/** A system that does not shut down in order gets this long before it is switched off. */
const ORDERLY_SECONDS = 120;

/**
 * What a machine runs first at its first boot, before anybody can reach it: it arms the timer that ends it, whatever becomes of
 * whoever launched it. Shutting down means being terminated, by the launch template. The timer is a unit of the machine's own, so it
 * survives restarts; it goes by the clock and by the time that has passed (see expiry-tick.sh).
 * @returns a POSIX shell script without secrets, far below EC2's limit of 16 KiB
 */
export function userData({ createdAt, expiresAt }: Pick<RunMark, "createdAt" | "expiresAt">): string {
  if (expiresAt === undefined) return "#!/bin/sh\n";
  const tick = readFileSync(join(packageRoot(), "bootstrap/host/expiry-tick.sh"), "utf8");
  const epoch = (time: Date) => Math.floor(time.getTime() / 1000);
  return `#!/bin/sh
# Tandem: this machine ends itself at ${expiresAt.toISOString()}. Nothing here may stop the rest, so there is no set -e.
set -u
umask 077
folder=${FOLDER}
mkdir -p "$folder"
# A second first boot, e.g. of an image made of this machine, starts anew.
rm -f "$folder"/*
echo ${epoch(expiresAt)} >"$folder/expires"
echo ${epoch(expiresAt) - epoch(createdAt)} >"$folder/lifetime"
cat >"$folder/end" <<'TANDEM_END'
systemctl --no-block poweroff || shutdown -h now
sleep ${ORDERLY_SECONDS}
poweroff -f || systemctl --force --force poweroff
TANDEM_END
cat >"$folder/tick" <<'TANDEM_TICK'
${tick}TANDEM_TICK
cat >/etc/systemd/system/tandem-expiry.service <<'TANDEM_SERVICE'
[Unit]
Description=Tandem: ends this machine when its time is over

[Service]
Type=oneshot
ExecStart=/bin/sh ${FOLDER}/tick ${FOLDER}
TANDEM_SERVICE
cat >/etc/systemd/system/tandem-expiry.timer <<'TANDEM_TIMER'
[Unit]
Description=Tandem: looks whether this machine's time is over

[Timer]
OnActiveSec=1s
OnBootSec=1s
OnUnitInactiveSec=${LOOK_SECONDS}s
AccuracySec=1s

[Install]
WantedBy=timers.target
TANDEM_TIMER
systemctl daemon-reload
if ! systemctl enable --now --no-block tandem-expiry.timer; then
  setsid sh "$folder/tick" "$folder" loop </dev/null >/dev/null 2>&1 &
fi
`;
}
