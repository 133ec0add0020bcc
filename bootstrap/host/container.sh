# shellcheck shell=sh
# Sourced: docker and podman. Every container of a stack bears the label tandem.stack-dir with the stack's folder, so that what a
# killed supervisor left running is found and ended, by the engines listed in $TANDEM_STACK_DIR/engines.
# Reads: TANDEM_CONTAINER_ENGINE   docker or podman: the only one that is tried
#        TANDEM_SYSTEM_ROOT        stands before /etc and /run, for tests

# Seconds that an engine gets for an answer; a daemon that hangs must not hang a step.
ENGINE_SECONDS=30

# Chooses the engine that can do what the device needs: choose_engine cpu|cuda
# Sets: engine (its path), engine_kind (docker or podman), engine_version, engine_rootless (true or false), engine_runtime,
# engine_storage (where images lie), gpu_option (how it hands out GPUs; empty on cpu)
choose_engine() {
  refusals='' found=''
  for candidate in ${TANDEM_CONTAINER_ENGINE:-docker podman}; do
    engine="$(command -v "$candidate" 2>/dev/null)" || continue
    # Debian's podman-docker is podman under docker's name.
    engine_kind="$candidate"
    case "$(timeout "$ENGINE_SECONDS" "$engine" --version 2>/dev/null)" in podman*) engine_kind=podman ;; esac
    found=1
    if why="$(engine_refuses "$1")"; then
      describe_engine "$1"
      return
    fi
    refusals="$refusals; $candidate: $why"
  done
  [ -n "$found" ] || die 29 "runtime: container — this host has neither docker nor podman — fix: install one (Debian and Ubuntu: sudo apt-get install podman), or set runtime to venv"
  die 29 "runtime: container — no container engine can be used: ${refusals#; } — fix: cure one of them, or set runtime to venv"
}

# Prints why this engine won't do, with status 1; nothing with status 0.
engine_refuses() {
  if ! said="$(timeout "$ENGINE_SECONDS" "$engine" info 2>&1)"; then
    printf 'it does not answer (%s)' "$(printf '%s' "$said" | grep -v '^[[:space:]]*$' | tail -n 1 | cut -c 1-200)"
    return 1
  fi
  if [ "$1" != cuda ] || [ -n "$(gpu_option_of_engine)" ]; then return 0; fi
  case "$engine_kind" in
    docker) echo "GPUs can't be handed to containers: the NVIDIA Container Toolkit is missing (apt-get install nvidia-container-toolkit && nvidia-ctk runtime configure --runtime=docker && systemctl restart docker)" ;;
    *) echo "GPUs can't be handed to containers: no CDI description names nvidia.com/gpu (apt-get install nvidia-container-toolkit && nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml)" ;;
  esac
  return 1
}

# docker has had --gpus since 19.03 and reads CDI by default since 28; podman has read CDI since 4.1 and has no --gpus of its own
# before 5.
gpu_option_of_engine() {
  if [ "$engine_kind" = docker ]; then
    if command -v nvidia-container-runtime-hook >/dev/null 2>&1 || engine_says '{{json .Runtimes}}' | grep -q '"nvidia"'; then
      echo --gpus=all
      return
    fi
    engine_says '{{json .CDISpecDirs}}' | grep -q / || return 0
  fi
  if cdi_names_gpus; then echo --device=nvidia.com/gpu=all; fi
}

cdi_names_gpus() {
  cat "${TANDEM_SYSTEM_ROOT:-}"/etc/cdi/*.yaml "${TANDEM_SYSTEM_ROOT:-}"/etc/cdi/*.json \
    "${TANDEM_SYSTEM_ROOT:-}"/run/cdi/*.yaml "${TANDEM_SYSTEM_ROOT:-}"/run/cdi/*.json 2>/dev/null | grep -q 'nvidia\.com/gpu'
}

# shellcheck disable=SC2034 # Read by container-runtime.sh.
describe_engine() {
  gpu_option=''
  if [ "$1" = cuda ]; then gpu_option="$(gpu_option_of_engine)"; fi
  engine_rootless=false engine_runtime=''
  case "$engine_kind" in
    docker)
      engine_version="$(timeout "$ENGINE_SECONDS" "$engine" version -f '{{.Server.Version}}')"
      engine_storage="$(engine_says '{{.DockerRootDir}}')"
      case "$(engine_says '{{json .SecurityOptions}}')" in *rootless*) engine_rootless=true ;; esac
      ;;
    *)
      engine_version="$(timeout "$ENGINE_SECONDS" "$engine" version -f '{{.Client.Version}}')"
      engine_storage="$(engine_says '{{.Store.GraphRoot}}')"
      engine_rootless="$(engine_says '{{.Host.Security.Rootless}}')"
      engine_runtime="$(engine_says '{{.Host.OCIRuntime.Name}}')"
      ;;
  esac
}

engine_says() { timeout "$ENGINE_SECONDS" "$engine" info -f "$1" 2>/dev/null || :; }

# The id of an image that the engine has; status 1 without: image_id ENGINE REFERENCE
image_id() { timeout "$ENGINE_SECONDS" "$1" image inspect -f '{{.Id}}' "$2" 2>/dev/null; }

# Ids of this stack's containers, running or not: containers_of ENGINE [UNIT]
containers_of() {
  timeout "$ENGINE_SECONDS" "$1" ps -aq --filter "label=tandem.stack-dir=$TANDEM_STACK_DIR" \
    ${2:+--filter "label=tandem.unit=$2"} 2>/dev/null
}

# From now on what this engine runs for the stack is looked for: container_remember ENGINE
container_remember() {
  if grep -qxF -e "$1" "$TANDEM_STACK_DIR/engines" 2>/dev/null; then return 0; fi
  printf '%s\n' "$1" >>"$TANDEM_STACK_DIR/engines"
}

# Ends and removes what is left of the stack's containers, or of one unit's; status 1 when something survives: container_end [UNIT]
container_end() {
  [ -f "$TANDEM_STACK_DIR/engines" ] || return 0
  container_status=0
  while read -r ended_by; do
    [ -x "$ended_by" ] || continue
    left="$(containers_of "$ended_by" ${1:+"$1"})" || continue
    for container in $left; do
      say "removing the container $container, which was left"
      timeout "$ENGINE_SECONDS" "$ended_by" stop -t 5 "$container" >/dev/null 2>&1 || :
      timeout "$ENGINE_SECONDS" "$ended_by" rm -f "$container" >/dev/null 2>&1 || :
    done
    left="$(containers_of "$ended_by" ${1:+"$1"})" || left='?'
    [ -z "$left" ] || container_status=1
  done <"$TANDEM_STACK_DIR/engines"
  return "$container_status"
}

# Removes the image of a runtime that a stack brought: container_forget RUNTIME_FOLDER
container_forget() {
  [ -f "$1/brought" ] && [ -f "$1/engine" ] || return 0
  forgotten="$(cat "$1/image")" forgetting="$(cat "$1/engine")"
  image_id "$forgetting" "$forgotten" >/dev/null || return 0
  say "removing the image $forgotten"
  timeout 120 "$forgetting" image rm -f "$forgotten" >/dev/null 2>&1 || say "note: $forgetting keeps the image $forgotten: something uses it"
}
