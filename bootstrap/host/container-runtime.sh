# shellcheck shell=sh
# Sourced by runtime.sh: vLLM in a container image. As in runtime-install.sh prepare_container sets $runtime from the document's
# $doc_ variables and make_container brings the image; finish_container writes the stamp. In a runtime's folder
#   engine   path of docker or podman      image    the image's id: a tag may move, an id can't
#   brought  there when the image was not on this host before
# Further status of a failed apply: 30 the image can't be had
# shellcheck source=container.sh
. "$TANDEM_SCRIPTS_DIR/container.sh"

# Unpacked, with what is kept of the packed layers while it is pulled: twice the image. Estimated, not measured.
IMAGE_GIB=25
PULL_SECONDS=3300

# shellcheck disable=SC2154 # Read from the document.
prepare_container() {
  choose_engine "$doc_device"
  python="$(host_python)"
  # shellcheck disable=SC2154 # Set by choose_engine.
  say "containers: $engine_kind $engine_version, $(if [ "$engine_rootless" = true ]; then echo rootless; else echo as root; fi)"
  reference="${doc_image:-$(default_image)}"
  case "$reference" in
    /*)
      [ -f "$reference" ] || die 29 "runtimeImage is not a file — got '$reference' — fix: give the path of an image archive on the host (docker save), or a reference such as registry/name:tag"
      key="$(sha256sum "$reference" | cut -c 1-16)"
      ;;
    *) key="$(printf '%s' "$reference" | sha256sum | cut -c 1-16)" ;;
  esac
  runtime="$TANDEM_CACHE_DIR/runtimes/container-$engine_kind-$doc_device-$key"
  private_dir "$TANDEM_STACK_DIR"
  container_remember "$engine"
}

# shellcheck disable=SC2154 # Read from the document.
default_image() {
  case "$doc_device" in
    cuda) printf 'docker.io/vllm/vllm-openai:v%s' "$doc_vllmVersion" ;;
    *) die 29 "runtimeImage — is missing, and there is no usual image of vLLM for the CPU — fix: set it to an image that has vLLM for the CPU, or set runtime to venv" ;;
  esac
}

# The Python of the host that watches over the container; its own is in the image. Any from 3.9 on will do.
host_python() {
  found="$(find_pythons | head -n 1 | cut -d' ' -f1)"
  if [ -z "$found" ] && python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
    found="$(python3 -c 'import sys; print(sys.executable)')"
  fi
  printf '%s' "${found:-$(best_python)}"
}

# Whether the runtime's image is on this host.
container_is_there() {
  [ -f "$1/image" ] && image_id "$(cat "$1/engine")" "$(cat "$1/image")" >/dev/null
}

make_container() {
  mkdir -p "$runtime"
  printf '%s\n' "$engine" >"$runtime/engine"
  case "$reference" in
    /*) load_image ;;
    *) pull_image ;;
  esac
  printf '%s\n' "$image" >"$runtime/image"
}

load_image() {
  require_storage $(($(wc -c <"$reference") * 2 / 1048576 + 1))
  say "loading the image archive $reference"
  before="$(all_images)"
  answer="$(timeout "$PULL_SECONDS" "$engine" load -i "$reference" 2>&1)" ||
    die 30 "the image archive can't be loaded — got $reference — $(printf '%s' "$answer" | tail -n 1 | cut -c 1-300) — fix: make it with docker save or podman save"
  # docker: "Loaded image: NAME" or "Loaded image ID: sha256:..."; podman: "Loaded image: NAME", several with commas between.
  loaded="$(printf '%s\n' "$answer" | sed -n 's/^Loaded image[^:]*: *//p' | tail -n 1 | cut -d, -f1)"
  image="$(image_id "$engine" "$loaded")" || die 30 "the image archive was loaded, but no image came of it — got $reference"
  remember_brought
}

pull_image() {
  before="$(all_images)"
  if image="$(image_id "$engine" "$reference")"; then
    say "the image is there: $reference"
    return
  fi
  require_storage $((IMAGE_GIB * 2 * 1024))
  say "pulling $reference"
  fifo="$runtime/progress"
  rm -f "$fifo"
  mkfifo "$fifo"
  # One line a layer and state; what redraws itself says nothing in a log.
  tr '\r' '\n' <"$fifo" | sed -u -e '/Waiting$/d; /Verifying Checksum$/d; /^[[:space:]]*$/d' >&2 &
  code=0
  timeout "$PULL_SECONDS" "$engine" pull "$reference" >"$fifo" 2>&1 || code=$?
  wait "$!" || :
  rm -f "$fifo"
  [ "$code" -ne 124 ] || die 30 "the image was not pulled within $PULL_SECONDS s — got $reference — fix: run it again, what came is kept; or bring an archive and set runtimeImage to its path"
  [ "$code" -eq 0 ] || die 30 "the image can't be pulled, see the lines above — got $reference — fix: make its registry reachable, or bring an archive (docker save) and set runtimeImage to its path"
  image="$(image_id "$engine" "$reference")" || die 30 "the image was pulled and is not there — got $reference"
  remember_brought
}

all_images() { timeout "$ENGINE_SECONDS" "$engine" images -aq --no-trunc 2>/dev/null || :; }

# Only what was not there before may go with the stack.
remember_brought() {
  case "$before" in
    *"${image#sha256:}"*) ;;
    *) : >"$runtime/brought" ;;
  esac
}

# require_storage MIB: free space where the engine keeps images
require_storage() {
  place="$engine_storage"
  while [ ! -d "$place" ]; do place="$(dirname "$place")"; done
  free_mib=$(($(df -Pk "$place" | awk 'NR == 2 { print $4 }') / 1024))
  [ "$free_mib" -ge "$1" ] || die 24 "too little disk for the image in $engine_storage — got $free_mib MiB free — allowed: at least $1 MiB — fix: free some space, or move the storage of $engine_kind to a larger disk"
}

# Runs the image's Python once, without network: in_container ARGUMENT...
in_container() {
  # shellcheck disable=SC2046,SC2086 # Options are meant to be split.
  timeout 300 "$engine" run --rm --pull=never --network=none --log-driver=none --label "tandem.stack-dir=$TANDEM_STACK_DIR" \
    $(cgroup_option) $gpu_option --env VLLM_NO_USAGE_STATS=1 --env HF_HUB_OFFLINE=1 \
    --mount "type=bind,source=$TANDEM_SCRIPTS_DIR,target=/tandem,readonly" --entrypoint python3 "$image" "$@" </dev/null
}

# podman's own control groups would take the processes out of the unit's; only crun can do without any.
cgroup_option() {
  # shellcheck disable=SC2154 # Set by choose_engine.
  case "$engine_kind/$engine_runtime" in
    docker/*) ;;
    podman/crun) echo --cgroups=disabled ;;
    *) echo --cgroups=no-conmon ;;
  esac
}

# Looks once at what the image's vLLM can do and that it gets at the GPUs, and writes the stamp.
finish_container() {
  version="$(in_container -c "$FIND_VLLM" 2>"$runtime/probe.err")" ||
    die 29 "the image has no vLLM that its python3 finds — got $reference — $(tail -n 1 "$runtime/probe.err" | cut -c 1-300)"
  require_gpus_inside
  say "asking vLLM $version for its options"
  flags="$(probe_container_flags)"
  [ -n "$flags" ] || die 29 "vLLM does not start in the image: $(tail -n 1 "$runtime/probe.err")"
  bytes="$(timeout "$ENGINE_SECONDS" "$engine" image inspect -f '{{.Size}}' "$image")"
  digest="$(timeout "$ENGINE_SECONDS" "$engine" image inspect -f '{{range .RepoDigests}}{{.}} {{end}}' "$image" | cut -d' ' -f1)"
  {
    printf '{"python":%s,"vllmVersion":%s,"device":%s,"flags":[%s],"path":%s,"bytes":%s,' "$(json_string "$python")" \
      "$(json_string "${version%+*}")" "$(json_string "$doc_device")" "$flags" "$(json_string "$runtime")" "$bytes"
    printf '"container":{"engine":%s,"kind":%s,"version":%s,"rootless":%s,"image":%s,"reference":%s,"digest":%s,"options":%s,"python":"python3"}}\n' \
      "$(json_string "$engine")" "$(json_string "$engine_kind")" "$(json_string "$engine_version")" "$engine_rootless" \
      "$(json_string "$image")" "$(json_string "$reference")" "$(json_string "$digest")" \
      "$(printf '%s\n%s\n' "$(cgroup_option)" "$gpu_option" | sed '/^$/d; s/.*/"&"/' | paste -sd, - | sed 's/.*/[&]/')"
  } | write_file "$runtime/tandem-runtime.json"
  say "runtime is ready: vLLM $version in $image, $((bytes / 1048576)) MiB"
}

# What the engine promises is one thing, CUDA starting in the container another.
require_gpus_inside() {
  [ "$doc_device" = cuda ] || return 0
  seen="$(in_container /tandem/driver_cuda.py 2>"$runtime/probe.err")" || seen="error ($(tail -n 1 "$runtime/probe.err" | cut -c 1-300))"
  case "$seen" in
    'ok 0' | 'missing 0') die 27 "no GPU is seen in the container ($engine_kind $gpu_option) — fix: sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml, or install nvidia-container-toolkit again" ;;
    'ok '*) say "GPUs in the container: ${seen#ok }" ;;
    *) die 27 "CUDA does not start in the container: $seen — fix: see whether it starts on the host (tandem doctor), then sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml" ;;
  esac
}

probe_container_flags() {
  for help in --help=all --help; do
    in_container -m vllm.entrypoints.openai.api_server "$help" >"$runtime/probe.out" 2>"$runtime/probe.err" || continue
    grep -oE -e '--[a-z][a-z0-9-]+' "$runtime/probe.out" | sort -u | sed 's/.*/"&"/' | paste -sd, -
    return
  done
}
