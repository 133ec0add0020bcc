# shellcheck shell=sh
# Sourced by lease.sh, which sets $lease and $exclusive: who else is on this host.
# shellcheck disable=SC2154 # Set by lease.sh.
# shellcheck source=gpu.sh
. "$TANDEM_SCRIPTS_DIR/gpu.sh"

# Ends with 30 when another stack has this host for itself, or has it at all and we want it for ourselves.
refuse_other_stacks() {
  for other in "$TANDEM_HOST_DIR"/stacks/*/lease.json $(leases_of_others); do
    if [ ! -r "$other" ] || [ "$other" = "$lease" ]; then continue; fi
    other_stack='' other_owner='' other_createdAt='' other_exclusive=false
    eval "$(json_assignments other_ <"$other")"
    if [ "$exclusive" = true ] || [ "$other_exclusive" = true ]; then
      die 30 "this host is taken by the stack $other_stack, since $other_createdAt, by $other_owner — fix: destroy that stack first (tandem destroy), or, where it may be shared, set exclusive to false for both"
    fi
  done
  refuse_unseen_stacks
}

# Leases of stacks of this host's other users: root sees all of them, others what they may read.
leases_of_others() {
  is_usual_host_folder || return 0
  getent passwd | cut -d: -f6 | sort -u | while IFS= read -r home; do
    for other in "$home"/.local/state/tandem/host/stacks/*/lease.json /var/lib/tandem/stacks/*/lease.json; do
      case "$other" in
        "$TANDEM_HOST_DIR"/* | *' '*) ;;
        *) if [ -r "$other" ]; then printf '%s\n' "$other"; fi ;;
      esac
    done
  done | sort -u
}

# A workspace with a host folder of its own, as tests have, does not look into those of others.
is_usual_host_folder() {
  case "$TANDEM_HOST_DIR" in
    /var/lib/tandem | "$HOME/.local/state/tandem/host") ;;
    *) return 1 ;;
  esac
}

# A user can't read the leases of root, but sees their services.
refuse_unseen_stacks() {
  is_usual_host_folder || return 0
  if [ "$exclusive" != true ] || [ "$(id -u)" -eq 0 ] || [ ! -d /run/systemd/system ]; then return 0; fi
  unseen="$(timeout 5 systemctl list-units --system --plain --no-legend --state=active 'tandem-*.service' 2>/dev/null | sed -n '1s/ .*Tandem: /: /p')"
  [ -z "$unseen" ] || die 30 "this host is in use by a stack of root ($unseen) — fix: destroy that stack first, or set exclusive to false for both"
}

# Ends with 30 when programs that are not this stack's hold memory of the GPUs, and names them; only says so where we share.
refuse_strangers_on_gpus() {
  strangers="$(gpu_strangers "$(document_numbers gpus)")"
  [ -n "$strangers" ] || return 0
  printf '%s\n' "$strangers" >&2
  [ "$exclusive" != true ] || die 30 "other programs use this host's GPUs: $(printf '%s\n' "$strangers" | head -n 3 | paste -sd ';' -) — fix: end them, choose other GPUs with devices, or set exclusive to false"
}

# An array of numbers in the document, which json.awk does not read: document_numbers NAME
document_numbers() {
  LC_ALL=C sed -n "s/.*\"$1\":\\[\\([0-9, ]*\\)\\].*/\\1/p" "$TANDEM_REQUEST" | tr ',' ' '
}
