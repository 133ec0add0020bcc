# shellcheck shell=sh disable=SC2034,SC2154
# Sourced: which packages make the driver, from what apt knows. Names and versions as published in November 2026, see docs/driver.md.
# Only what computing needs: no X11, no OpenGL.
# Reads: want_branch   e.g. 580          want_module   open or proprietary
#        want_fabric   true with NVSwitches; want_subnet   true where they need NVLSM too (Blackwell)
# Sets:  packages      to install, as name=version where versions must match; driver_version   e.g. 580.173.02
#        extra_holds   more packages to hold
#        choice        why these, or why there are none

# The version that apt would install; nothing when it knows none: candidate PACKAGE
candidate() {
  LC_ALL=C apt-cache policy "$1" 2>/dev/null | LC_ALL=C sed -n 's/^  Candidate: //p' | grep -v '^(none)$' || :
}

# "580.173.02" of "580.173.02-0ubuntu0.24.04.1" or "1:580.173.02-1"
upstream() { printf '%s' "${1#*:}" | LC_ALL=C sed 's/-.*//'; }

# The newest version of a package that is of the driver's version: version_of PACKAGE UPSTREAM
version_of() {
  LC_ALL=C apt-cache madison "$1" 2>/dev/null | LC_ALL=C awk -F ' *\\| *' -v wanted="$2" '
    { version = $2; sub(/^[0-9]*:/, "", version); sub(/-.*/, "", version); if (version == wanted) { print $2; exit } }'
}

# The first of several packages that apt can install: first_candidate PACKAGE...
first_candidate() {
  for name in "$@"; do
    if [ -n "$(candidate "$name")" ]; then
      printf '%s' "$name"
      return
    fi
  done
}

# The distribution's own packages, where they reach the branch. Status 1 when they don't.
choose_from_distribution() {
  case "$os_id" in
    ubuntu) choose_ubuntu ;;
    debian) choose_debian ;;
    *) return 1 ;;
  esac
  [ -n "$packages" ] && add_fabric_manager "nvidia-fabricmanager-$want_branch"
}

# Ubuntu's server branch: built for data centres, kept for the life of the branch, and signed.
choose_ubuntu() {
  packages='' open=''
  if [ "$want_module" = open ]; then open=-open; fi
  utils="nvidia-utils-$want_branch-server" prebuilt="linux-modules-nvidia-$want_branch-server$open-$(uname -r)"
  version="$(candidate "$utils")"
  if [ -z "$version" ] || [ "$(branch_of "$version")" -lt "$want_branch" ]; then
    choice="Ubuntu's archive has ${version:-no} $utils"
    return
  fi
  driver_version="$(upstream "$version")"
  if secure_boot_is_on; then
    # A module built here is signed by nobody that the firmware knows.
    if [ -z "$(candidate "$prebuilt")" ]; then
      choice="Secure Boot is on and Ubuntu has no signed module for the running kernel ($prebuilt)"
      return
    fi
    packages="$prebuilt nvidia-headless-no-dkms-$want_branch-server$open=$version $utils=$version"
    # A new kernel without its module would come up without a driver.
    extra_holds="$(kernel_metapackages)"
  else
    packages="nvidia-headless-$want_branch-server$open=$version $utils=$version"
  fi
  choice="Ubuntu's packages reach branch $want_branch: $version"
}

choose_debian() {
  packages=''
  if [ "$want_module" = open ]; then dkms=nvidia-open-kernel-dkms; else dkms=nvidia-kernel-dkms; fi
  version="$(candidate "$dkms")"
  if [ -z "$version" ] || [ "$(branch_of "$version")" -lt "$want_branch" ]; then
    choice="Debian has ${version:-no} $dkms"
    return
  fi
  driver_version="$(upstream "$version")"
  packages="$dkms=$version nvidia-smi libcuda1"
  choice="Debian's packages reach branch $want_branch: $version"
}

# NVIDIA's repository for CUDA, after it was added and its pinning package installed. Status 1 when it lacks the branch.
choose_from_nvidia() {
  packages='' open=''
  if [ "$want_module" = open ]; then open=-open; fi
  case "$os_id" in
    ubuntu)
      # Names carry the branch up to 580.
      dkms="$(first_candidate "nvidia-dkms-$want_branch$open" "nvidia-dkms$open")"
      compute="$(first_candidate "libnvidia-compute-$want_branch" libnvidia-compute)"
      utils="$(first_candidate "nvidia-utils-$want_branch" nvidia-utils)"
      ;;
    *)
      if [ "$want_module" = open ]; then dkms=nvidia-kernel-open-dkms; else dkms=nvidia-kernel-dkms; fi
      compute=nvidia-driver-cuda utils=''
      ;;
  esac
  version="$(candidate "${dkms:-none}")"
  if [ -z "$version" ] || [ "$(branch_of "$version")" -ne "$want_branch" ]; then
    choice="NVIDIA's repository offers ${version:-nothing} for branch $want_branch (${dkms:-nvidia-dkms})"
    return 1
  fi
  driver_version="$(upstream "$version")"
  for name in $dkms $compute $utils; do
    matching="$(version_of "$name" "$driver_version")"
    if [ -z "$matching" ]; then
      choice="NVIDIA's repository has no $name $driver_version to go with $dkms"
      packages=''
      return 1
    fi
    packages="$packages $name=$matching"
  done
  choice="NVIDIA's repository: $version"
  add_fabric_manager nvidia-fabricmanager "nvidia-fabricmanager-$want_branch"
}

# Fabric manager and driver must be of one version; it refuses to start otherwise. add_fabric_manager NAME...
add_fabric_manager() {
  [ "$want_fabric" = true ] || return 0
  for name in "$@"; do
    matching="$(version_of "$name" "$driver_version")"
    [ -n "$matching" ] || continue
    packages="$packages $name=$matching"
    if [ "$want_subnet" = true ]; then
      if [ -z "$(candidate nvlsm)" ]; then break; fi
      packages="$packages nvlsm"
    fi
    return 0
  done
  choice="$choice, but no fabric manager of version $driver_version, which the NVSwitches need"
  packages=''
  return 1
}

branch_of() {
  upstream "$1" | cut -d. -f1
}

# What the running kernel is kept up to date by: linux-image-generic, linux-aws, linux-image-cloud-amd64 ...
kernel_metapackages() {
  flavour="$(uname -r | LC_ALL=C sed 's/^[0-9.]*-[0-9]*-//')"
  for name in "linux-$flavour" "linux-image-$flavour" "linux-headers-$flavour"; do
    if dpkg-query -W "$name" >/dev/null 2>&1; then printf '%s ' "$name"; fi
  done
}

# The headers that a module is built with: those of the running kernel, and the package that brings those of the next one.
# Prints nothing when they are there. Status 1 when there are none to be had.
kernel_header_packages() {
  running="$(uname -r)"
  if ! kernel_headers_are_there; then
    [ -n "$(candidate "linux-headers-$running")" ] || return 1
    printf 'linux-headers-%s ' "$running"
  fi
  case "$os_id:$running" in
    ubuntu:*) next="linux-headers-$(printf '%s' "$running" | LC_ALL=C sed 's/^[0-9.]*-[0-9]*-//')" ;;
    *-cloud-*) next="linux-headers-cloud-$(dpkg --print-architecture)" ;;
    *) next="linux-headers-$(dpkg --print-architecture)" ;;
  esac
  # Only beside a kernel of the distribution's: with one of the user's own they would be of no use.
  if dpkg-query -W "linux-image-$running" >/dev/null 2>&1 && [ -n "$(candidate "$next")" ]; then printf '%s' "$next"; fi
}
