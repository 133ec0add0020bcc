#!/bin/sh
# Stands for the docker command with its daemon, which can't be had here: it answers what Tandem asks docker, and runs "containers"
# as processes that are no children of the command, as the daemon does. The same steps run with the real docker of Debian 12 (20.10)
# in container-docker.slow.test.ts; its answers on GPUs, pulls and a missing daemon are after docker's reference, not compared. Its daemon's state is the folder docker beside the folder that it is in. Every command
# line goes to the file argv there. Faults: files down (no daemon), no-pull; file toolkit: its daemon knows NVIDIA's runtime.
set -u
state="$(dirname "$0")/../docker"
printf '%s\n' "$*" >>"$state/argv"
id=sha256:1111111111111111111111111111111111111111111111111111111111111111

fail() {
  echo "$1" >&2
  exit "${2:-1}"
}

run() {
  name='' scripts='' label='' program='' allowed='PATH HOME'
  while [ $# -gt 0 ]; do
    case "$1" in
      --name) name="$2" && shift ;;
      --label) label="$label $2" && shift ;;
      --entrypoint) program="$2" && shift ;;
      --env) allowed="$allowed ${2%%=*}" && shift ;;
      --mount)
        case "$2" in *,target=/tandem,*) scripts="${2#*source=}" && scripts="${scripts%%,*}" ;; esac
        shift
        ;;
      --user) shift ;;
      -*) ;;
      *) break ;;
    esac
    shift
  done
  [ "$1" = "$id" ] || fail "Unable to find image '$1' locally" 125
  shift
  # Of mounts only the scripts' is at another path inside.
  if [ "${1#/tandem/}" != "$1" ]; then
    first="$scripts/${1#/tandem/}"
    shift
    set -- "$first" "$@"
  fi
  name="${name:-anonymous-$$}"
  [ ! -d "$state/containers/$name" ] || fail "Conflict. The container name \"/$name\" is already in use" 125
  mkdir -p "$state/containers/$name"
  echo "$label" >"$state/containers/$name/labels"
  # Only what was handed over is in the container's environment.
  for variable in $(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'); do
    case " $allowed " in *" $variable "*) ;; *) unset "$variable" ;; esac
  done
  # The daemon's child, not ours.
  PYTHONPATH="$state/site" setsid "$program" "$@" &
  pid=$!
  echo "$pid" >"$state/containers/$name/pid"
  trap 'kill -TERM "$pid"' TERM INT
  wait "$pid"
  code=$?
  while kill -0 "$pid" 2>/dev/null; do wait "$pid"; code=$?; done
  rm -rf "$state/containers/$name"
  exit "$code"
}

pid_of() { cat "$state/containers/$1/pid" 2>/dev/null; }

if [ -f "$state/down" ] && [ "$1" != --version ]; then fail "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"; fi
verb="$1"
shift
case "$verb" in
  --version) echo "Docker version 28.0.4, build b8034c0" ;;
  version) echo 28.0.4 ;;
  info)
    case "${2:-}" in
      *Runtimes*) if [ -f "$state/toolkit" ]; then echo '{"nvidia":{"path":"nvidia-container-runtime"},"runc":{}}'; else echo '{"runc":{}}'; fi ;;
      *DockerRootDir*) echo "$state" ;;
      *SecurityOptions*) echo '["name=seccomp,profile=builtin"]' ;;
      *) echo ;;
    esac
    ;;
  load) touch "$state/loaded" && echo "Loaded image: vllm/vllm-openai:v0.32.0" ;;
  pull)
    if [ -f "$state/no-pull" ]; then fail "Error response from daemon: Get \"https://registry.example/v2/\": dial tcp: lookup registry.example: no such host"; fi
    printf 'v0.32.0: Pulling from vllm/vllm-openai\n0123456789ab: Pulling fs layer\n0123456789ab: Waiting\n0123456789ab: Pull complete\n'
    touch "$state/loaded"
    ;;
  images) if [ -f "$state/loaded" ]; then echo "$id"; fi ;;
  image)
    [ "$1" != rm ] || { rm -f "$state/loaded" && exit; }
    [ -f "$state/loaded" ] || fail "Error: No such image: $4"
    case "$3" in *Size*) echo 25000000 ;; *Digests*) echo "vllm/vllm-openai@sha256:2222 " ;; *) echo "$id" ;; esac
    ;;
  run) run "$@" ;;
  ps) for folder in "$state"/containers/*/; do if grep -qF " ${3#label=}" "$folder/labels" 2>/dev/null; then basename "$folder"; fi; done ;;
  inspect) pid_of "$3" || fail "Error: No such object: $3" ;;
  stop)
    pid="$(pid_of "$3")" || fail "Error response from daemon: No such container: $3"
    kill -TERM "$pid"
    rounds=0
    while kill -0 "$pid" 2>/dev/null; do
      rounds=$((rounds + 1))
      [ "$rounds" -le $(($2 * 10)) ] || kill -KILL "-$pid"
      sleep 0.1
    done
    ;;
  kill) kill -KILL "-$(pid_of "$1")" ;;
  rm)
    pid="$(pid_of "$2")" || fail "Error: No such container: $2"
    kill -KILL "-$pid" 2>/dev/null
    rm -rf "$state/containers/${2:?}"
    ;;
  *) fail "docker: '$verb' is not a docker command." ;;
esac
