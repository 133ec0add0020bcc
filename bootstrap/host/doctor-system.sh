# shellcheck shell=sh
# Sourced by doctor.sh: the machine and its operating system.
# shellcheck source=port.sh
. "$TANDEM_SCRIPTS_DIR/port.sh"
# shellcheck source=python.sh
. "$TANDEM_SCRIPTS_DIR/python.sh"

# What the steps were made for; a good driver is accepted on others, but none can be installed there.
KNOWN_SYSTEMS='debian 12, debian 13, ubuntu 22.04, ubuntu 24.04'

check_system() {
  system="$(. /etc/os-release 2>/dev/null && printf '%s %s' "${ID:-unknown}" "${VERSION_ID:-}")"
  text="${system:-unknown system} on $(uname -m), kernel $(uname -r), $(nproc) cores"
  case "$(uname -m)" in
    x86_64 | aarch64) ;;
    *) verdict system fail "$text: vLLM has no build for this CPU" "use a machine with x86_64 or aarch64" && return ;;
  esac
  if ! getconf GNU_LIBC_VERSION >/dev/null 2>&1; then
    verdict system fail "$text: without glibc neither PyTorch nor the NVIDIA driver run" "use one of $KNOWN_SYSTEMS" && return
  fi
  case ", $KNOWN_SYSTEMS," in
    *", $system,"*) verdict system ok "$text" ;;
    *) verdict system warn "$text: not one of those that Tandem knows, so it can't install a driver or packages here" \
      "install what is missing by hand, or use one of $KNOWN_SYSTEMS" ;;
  esac
}

check_privileges() {
  user="$(id -un 2>/dev/null || id -u)"
  if [ "$(id -u)" -eq 0 ]; then
    verdict privileges ok "works as root"
  elif timeout 4 sudo -n true >/dev/null 2>&1; then
    verdict privileges ok "works as $user, and sudo asks for no password"
  elif [ "${TANDEM_TARGET:-local}" = local ]; then
    verdict privileges ok "works as $user without root: a driver or packages can't be installed"
  else
    verdict privileges warn "works as $user, and sudo asks for a password or is not there: a driver or packages can't be installed" \
      "log in as root, or allow it: echo '$user ALL=(ALL) NOPASSWD: ALL' | sudo tee /etc/sudoers.d/$user"
  fi
}

# The nearest folder above that exists.
existing() {
  place="$1"
  until [ -d "$place" ] || [ "$place" = / ]; do place="$(dirname "$place")"; done
  printf '%s' "$place"
}

check_disk() {
  for folder in "$TANDEM_CACHE_DIR" "$TANDEM_HOST_DIR" /tmp; do
    row="$(df -Pk "$(existing "$folder")" 2>/dev/null | awk 'NR == 2 { print $4, $6 }')"
    free_gib=$((${row%% *} / 1048576)) mount="${row#* }"
    options="$(awk -v mount="$mount" '$2 == mount { found = $4 } END { print found }' /proc/mounts)"
    inodes="$(df -Pi "$mount" 2>/dev/null | awk 'NR == 2 && $2 > 0 { print $4 }')"
    case ",$options," in
      *,ro,*)
        verdict disk fail "$mount is read-only ($folder lies there)" \
          "see why in the kernel's log, mend it, then: mount -o remount,rw $mount"
        continue
        ;;
    esac
    if [ "$free_gib" -lt 1 ]; then
      verdict disk fail "$mount is full ($folder lies there)" "free some space there, or mount a larger disk"
    elif [ "${inodes:-1000000}" -lt 10000 ]; then
      verdict disk fail "$mount has only $inodes inodes left, however much space is free" "remove many small files there: df -i $mount"
    elif [ "$free_gib" -lt 20 ] && [ "$folder" = "$TANDEM_CACHE_DIR" ]; then
      verdict disk warn "$mount has $free_gib GiB free: little for a runtime and weights ($folder)" "free some space there"
    elif [ "$folder" = "$TANDEM_CACHE_DIR" ]; then
      verdict disk ok "$free_gib GiB free for $folder"
    fi
  done
}

check_memory() {
  memory="$(awk '/^MemTotal:/ { total = $2 } /^MemAvailable:/ { available = $2 }
    END { printf "%d %d", total / 1048576, available / 1048576 }' /proc/meminfo)"
  total="${memory%% *}" available="${memory#* }"
  if [ "$available" -lt 2 ]; then
    verdict memory fail "$available of $total GiB of memory are free" "see who holds it: ps aux --sort=-rss | head"
  elif [ "$total" -lt 8 ]; then
    verdict memory warn "$total GiB of memory: little for loading weights" "use a machine with more, or a small model"
  else
    verdict memory ok "$available of $total GiB of memory are free"
  fi
  shared="$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print int($2 / 1024) }')"
  if [ "${shared:-0}" -lt 1024 ]; then
    verdict shm warn "/dev/shm holds ${shared:-0} MiB: GPUs that work together exchange data through it" \
      "mount -o remount,size=16G /dev/shm; in a container: --shm-size 16g"
  fi
}

check_port() {
  [ -n "${TANDEM_PORT:-}" ] || return 0
  holder="$(port_holder "$TANDEM_PORT")"
  case "$holder" in
    '') verdict port ok "port $TANDEM_PORT is free" ;;
    unknown) verdict port fail "port $TANDEM_PORT is held by another user's process" \
      "choose another: --port, or ask root who it is: sudo ss -ltnp" ;;
    *)
      if is_ours "${holder%% *}"; then
        verdict port ok "port $TANDEM_PORT is held by this stack's own service (process ${holder%% *})"
      else
        verdict port fail "port $TANDEM_PORT is held by process $holder" "stop it: kill ${holder%% *}, or choose another port: --port"
      fi
      ;;
  esac
}

# Whether a process belongs to a unit of this stack, or of any where none is named.
is_ours() { tr '\000' '\n' <"/proc/$1/environ" 2>/dev/null | grep -q "^TANDEM_OWNER=${TANDEM_STACK:+$TANDEM_STACK/}"; }

check_python() {
  found="$(find_pythons | head -n 1)"
  python="${found%% *}"
  if [ -z "$found" ]; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
      verdict python warn "no Python from 3.10 to 3.13; the runtime step installs one"
    else
      verdict python fail "no Python from 3.10 to 3.13" "sudo apt-get install python3 python3-venv"
    fi
  elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null && ! command -v uv >/dev/null 2>&1; then
    verdict python warn "Python ${found#* } at $python can't make environments" "sudo apt-get install python3-venv"
  else
    verdict python ok "Python ${found#* } at $python"
  fi
  headers="$("${python:-false}" -c 'import sysconfig; print(sysconfig.get_path("include"))' 2>/dev/null)"
  if ! command -v cc >/dev/null 2>&1 && ! command -v gcc >/dev/null 2>&1 && ! command -v clang >/dev/null 2>&1; then
    verdict compiler warn "no C compiler, which vLLM needs on GPUs" "sudo apt-get install gcc python3-dev"
  elif [ -n "$python" ] && [ ! -f "$headers/Python.h" ]; then
    verdict compiler warn "no headers of Python ${found#* }, which vLLM needs on GPUs" "sudo apt-get install python3-dev"
  else
    verdict compiler ok "a C compiler is there"
  fi
}

# Asked the way pip is set up on this host: its variables, its configuration, its proxy.
check_index() {
  python="$(find_pythons | head -n 1 | cut -d' ' -f1)"
  if [ -z "$python" ] || ! "$python" -c 'import pip' 2>/dev/null; then
    verdict index ok "not asked: this host has no pip"
    return
  fi
  # Asks for a list of versions, which writes nothing.
  if answer="$(timeout 10 "$python" -m pip --disable-pip-version-check --no-input --no-cache-dir --timeout 4 --retries 0 \
    index versions six 2>&1)"; then
    verdict index ok "the Python package index answers"
  else
    reason="$(printf '%s\n' "$answer" | grep -iE 'error|refused|resol|certificate|timed out' | tail -n 1)"
    verdict index warn "the Python package index can't be reached: ${reason:-no answer within 10 s}" \
      "check network and proxy (HTTPS_PROXY, PIP_INDEX_URL), or bring the runtime as an archive"
  fi
}
