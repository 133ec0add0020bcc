#!/bin/sh
# shellcheck disable=SC2016 # Lines of the package's own scripts are written, not run.
# driver-package.sh OUT.deb: a real Debian package that behaves as a part of NVIDIA's driver does on a host with stand-in GPUs:
# files appear, a reboot is needed, the module is "loaded" at boot. What is in it, from the environment:
#   NAME        package name                           nvidia-driver
#   VERSION     package version                        580.95.05-1
#   DRIVER      driver version                         VERSION without its epoch and revision
#   PARTS       of: smi library module fabric          smi library module
#   MODULE      open|proprietary                       open
#   DEPENDS, PROVIDES, CONFLICTS, ARCHITECTURE         as in a control file; none, none, none, all
#   FAILS       yes: its configuration fails, as a module that does not build does
# Needs dpkg-deb, and a C compiler for the part `library`.
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
out="$1"
name="${NAME:-nvidia-driver}" version="${VERSION:-580.95.05-1}"
without_epoch="${version#*:}"
driver="${DRIVER:-${without_epoch%%-*}}"
parts=" ${PARTS:-smi library module} "
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
root="$work/root"
mkdir -p "$root/DEBIAN" "$root/usr/lib/fakegpu"
chmod -R 755 "$root"

has() { case "$parts" in *" $1 "*) true ;; *) false ;; esac }

field() { if [ -n "$2" ]; then printf '%s: %s\n' "$1" "$2"; fi; }

# unit NAME WANTED-BY LINES
unit() {
  mkdir -p "$root/usr/lib/systemd/system"
  printf '%s\n[Install]\nWantedBy=%s\n' "$3" "$2" >"$root/usr/lib/systemd/system/$1"
}

put_smi() {
  mkdir -p "$root/usr/bin"
  install -m 755 "$here/nvidia_smi.py" "$root/usr/bin/nvidia-smi"
}

put_library() {
  folder="$root/usr/lib/$(uname -m)-linux-gnu"
  mkdir -p "$folder"
  cc -shared -fPIC -O1 -Wl,-soname,libcuda.so.1 -o "$folder/libcuda.so.$driver" "$here/libcuda.c"
  echo 'int nvmlInit_v2(void) { return 0; }' | cc -shared -fPIC -Wl,-soname,libnvidia-ml.so.1 -x c -o "$folder/libnvidia-ml.so.$driver" -
  for library in libcuda libnvidia-ml; do ln -s "$library.so.$driver" "$folder/$library.so.1"; done
  echo "$driver" >"$root/usr/lib/fakegpu/library-version"
}

put_module() {
  echo "$driver ${MODULE:-open}" >"$root/usr/lib/fakegpu/module"
  install -m 755 "$here/load-module.sh" "$root/usr/lib/fakegpu/load-module"
  unit fakegpu-module.service sysinit.target '[Unit]
Description=Load the stand-in NVIDIA module
DefaultDependencies=no
After=local-fs.target fakegpu-bus.service
Before=sysinit.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/lib/fakegpu/load-module'
}

put_fabric() {
  mkdir -p "$root/usr/bin"
  echo "$driver" >"$root/usr/lib/fakegpu/fabric-version"
  install -m 755 "$here/fabric-manager.sh" "$root/usr/bin/nv-fabricmanager"
  unit nvidia-fabricmanager.service multi-user.target '[Unit]
Description=NVIDIA fabric manager service (stand-in)
[Service]
ExecStart=/usr/bin/nv-fabricmanager'
}

for part in smi library module fabric; do if has "$part"; then "put_$part"; fi; done

{
  field Package "$name"
  field Version "$version"
  field Architecture "${ARCHITECTURE:-all}"
  field Maintainer 'test <test@localhost>'
  field Depends "${DEPENDS:-}"
  field Provides "${PROVIDES:-}"
  field Conflicts "${CONFLICTS:-}"
  field Description "stand-in for NVIDIA's package of this name"
} >"$root/DEBIAN/control"

# The unit is enabled and not started: a module that is not in the running kernel comes with the next boot.
{
  cat <<'POSTINST'
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
POSTINST
  if [ "${FAILS:-}" = yes ]; then
    echo 'echo "Error! Bad return status for module build on kernel: $(uname -r) (x86_64)" >&2'
    echo 'exit 10'
  fi
  if has library; then echo 'ldconfig'; fi
  if has module; then
    echo 'systemctl -q enable fakegpu-module.service'
    echo 'touch /run/reboot-required'
    echo 'echo "$DPKG_MAINTSCRIPT_PACKAGE" >>/run/reboot-required.pkgs'
  fi
} >"$root/DEBIAN/postinst"
{
  cat <<'PRERM'
#!/bin/sh
set -e
[ "$1" = remove ] || exit 0
PRERM
  if has module; then echo 'systemctl -q disable fakegpu-module.service || :'; fi
  if has fabric; then echo 'systemctl -q disable --now nvidia-fabricmanager.service || :'; fi
} >"$root/DEBIAN/prerm"
chmod 755 "$root/DEBIAN/postinst" "$root/DEBIAN/prerm"
dpkg-deb --root-owner-group -b "$root" "$out" >/dev/null
