# shellcheck shell=sh
# Sourced: where the trainer's package and its lists of requirements lie beside the scripts.

# On a host behind SSH it comes with the scripts; in the package it is their neighbour.
trainer_source() {
  if [ -d "$TANDEM_SCRIPTS_DIR/trainer" ]; then printf '%s/trainer' "$TANDEM_SCRIPTS_DIR"; else printf '%s/../trainer' "$TANDEM_SCRIPTS_DIR"; fi
}

# One hash over the files that are given, by name and content: digest_of FILE...
digest_of() { cat "$@" | sha256sum | cut -c 1-16; }
