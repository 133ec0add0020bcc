# shellcheck shell=sh disable=SC2034,SC2154
# Sourced by driver-install.sh: NVIDIA's package repositories, each by its own key, and what is taken from them for containers.
# Reads: doc_repository          a mirror of NVIDIA's repositories for CUDA; https: or file:
#        doc_toolkitRepository   a mirror of the repository of the NVIDIA Container Toolkit

NVIDIA_REPOSITORY=https://developer.download.nvidia.com/compute/cuda/repos
TOOLKIT_REPOSITORY=https://nvidia.github.io/libnvidia-container
CDI_FILE="${TANDEM_SYSTEM_ROOT:-}/etc/cdi/nvidia.yaml"

# NVIDIA's repository for this system, by its own key, for the driver's packages only.
add_nvidia_repository() {
  case "$(uname -m)" in
    x86_64) machine=x86_64 ;;
    aarch64) machine=sbsa ;;
    *) die 64 "NVIDIA's repository has nothing for $(uname -m)" ;;
  esac
  # shellcheck disable=SC2154 # Read from the document.
  url="${doc_repository:-$NVIDIA_REPOSITORY}/$os_id$(printf '%s' "$os_version" | tr -d .)/$machine"
  if ! apt-cache policy 2>/dev/null | grep -qF " $url"; then
    key="${TANDEM_SYSTEM_ROOT:-}/usr/share/keyrings/tandem-nvidia.gpg"
    fetch_nvidia_key "$url"
    write_repository "$etc/apt/sources.list.d/tandem-nvidia.list" "deb [signed-by=$key] $url/ /"
    # The repository holds much more than drivers; nothing else of it is taken unless it is asked for.
    write_repository "$etc/apt/preferences.d/tandem-nvidia" "Package: *
Pin: release o=NVIDIA
Pin-Priority: 100

Package: nvidia-* libnvidia-* libcuda1 libcudadebugger1 libnvcuvid1 libnv* cuda-drivers* firmware-nvidia-* libgl1-nvidia-* libegl-nvidia* libgles-nvidia* libglx-nvidia* xserver-xorg-video-nvidia* libxnvctrl* nvlsm
Pin: release o=NVIDIA
Pin-Priority: 600"
    quiet_apt update >/dev/null || die 63 "the package lists of $url can't be read — fix: make it reachable, or set driver.repository to a mirror"
  fi
  # It makes apt stay in the branch, whatever else the repository offers, and must come before the driver.
  if [ -n "$(candidate "nvidia-driver-pinning-$want_branch")" ]; then
    journal_installation "nvidia-driver-pinning-$want_branch"
    quiet_apt install -y --no-install-recommends "nvidia-driver-pinning-$want_branch" >/dev/null ||
      die 63 "nvidia-driver-pinning-$want_branch can't be installed — fix: apt-get install nvidia-driver-pinning-$want_branch says why"
    extra_holds="nvidia-driver-pinning-$want_branch"
  fi
}

# write_repository FILE CONTENT
write_repository() {
  journal_add repository "$1"
  mkdir -p "$(dirname "$1")"
  printf '%s\n' "$2" | write_file "$1"
  chmod 644 "$1"
}

# The key is in NVIDIA's keyring package. Only the key is taken: the package brings a list of its own, which a mirror is not in.
fetch_nvidia_key() {
  say "adding $1"
  scratch="$(mktemp -d "$TANDEM_STEP_DIR/keyring.XXXXXX")"
  fetch "$1/cuda-keyring_1.1-1_all.deb" "$scratch/keyring.deb" ||
    die 63 "$1/cuda-keyring_1.1-1_all.deb can't be fetched — fix: make it reachable, or set driver.repository to a mirror"
  dpkg-deb -x "$scratch/keyring.deb" "$scratch/content"
  found="$(find "$scratch/content/usr/share/keyrings" -name '*.gpg' | head -n 1)"
  [ -n "$found" ] || die 63 "there is no key in $1/cuda-keyring_1.1-1_all.deb"
  journal_add repository "$key"
  mkdir -p "$(dirname "$key")"
  write_file "$key" <"$found"
  chmod 644 "$key"
  rm -rf "$scratch"
}

# fetch URL FILE; a file: address is a mirror on the host itself.
fetch() {
  case "$1" in
    file:*) cp "${1#file://}" "$2" ;;
    *)
      if command -v curl >/dev/null 2>&1; then
        curl -fsSL --proto '=https' --retry 3 --max-time 120 -o "$2" "$1"
      elif command -v wget >/dev/null 2>&1; then
        wget -q --https-only -O "$2" "$1"
      else
        # apt's own: every host that gets here has it.
        /usr/lib/apt/apt-helper download-file "$1" "$2" >/dev/null
      fi
      ;;
  esac
}

# For containers: the toolkit, and the description of the GPUs that podman and docker hand them over by.
install_container_toolkit() {
  if ! command -v nvidia-ctk >/dev/null 2>&1; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
      die 64 "containers need the NVIDIA Container Toolkit, which Tandem can't install here — fix: install nvidia-container-toolkit by hand"
    fi
    wait_for_dpkg
    require_whole_dpkg
    if [ -z "$(candidate nvidia-container-toolkit)" ]; then add_toolkit_repository; fi
    packages=nvidia-container-toolkit
    install_packages
  fi
  if nvidia-ctk cdi list 2>/dev/null | grep -q 'nvidia.com/gpu='; then return 0; fi
  journal_add file "$CDI_FILE"
  mkdir -p "$etc/cdi"
  nvidia-ctk cdi generate --output="$CDI_FILE" >/dev/null 2>&1 || die 65 "nvidia-ctk cdi generate failed — fix: run it by hand, it says why"
  say "described the GPUs for containers in $CDI_FILE"
}

add_toolkit_repository() {
  key="${TANDEM_SYSTEM_ROOT:-}/usr/share/keyrings/tandem-nvidia-container-toolkit.asc"
  journal_add repository "$key"
  # shellcheck disable=SC2154 # Read from the document.
  base="${doc_toolkitRepository:-$TOOLKIT_REPOSITORY}"
  fetch "$base/gpgkey" "$key" || die 63 "$base/gpgkey can't be fetched — fix: make it reachable, or install nvidia-container-toolkit by hand"
  chmod 644 "$key"
  write_repository "$etc/apt/sources.list.d/tandem-nvidia-container-toolkit.list" "deb [signed-by=$key] $base/stable/deb/$(dpkg --print-architecture) /"
  quiet_apt update >/dev/null || die 63 "the package lists of $base can't be read"
}
