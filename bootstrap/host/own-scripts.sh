# shellcheck shell=sh
# Sourced by steps that leave something behind which starts by itself: it keeps a copy of the scripts, since the client's version may go.

# Puts a copy of the scripts into FOLDER/scripts: keep_scripts FOLDER
keep_scripts() {
  rm -rf "$1/scripts.new"
  cp -RL "$TANDEM_SCRIPTS_DIR" "$1/scripts.new"
  rm -rf "$1/scripts"
  mv -T "$1/scripts.new" "$1/scripts"
}

# A shell word: in single quotes.
quoted() { printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"; }

# What a script of the copy needs in its environment, as lines of shell: scripts_environment FOLDER
scripts_environment() {
  cat <<END
export TANDEM_STACK=$(quoted "$TANDEM_STACK") TANDEM_HOST_DIR=$(quoted "$TANDEM_HOST_DIR")
export TANDEM_CACHE_DIR=$(quoted "$TANDEM_CACHE_DIR") TANDEM_SCRIPTS_DIR=$(quoted "$1/scripts") HOME=$(quoted "$HOME")
END
}
