# shellcheck shell=sh
# Sourced: nginx from the distribution, whose packaged site and service never start.
# Needs common.sh, journal.sh, packages.sh and cache.sh.

# Prints the path of nginx: the host's own, else one that is brought: find_nginx package | unpack
# package: installed by apt, so that the host's security updates reach it; unpack: its binary alone, into the cache, changing
# nothing else. Where apt can't install (no root, no systemd to keep the packaged service down) it is unpacked.
find_nginx() {
  if own="$(PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v nginx)"; then
    printf '%s\n' "$own"
    return
  fi
  command -v apt-get >/dev/null 2>&1 ||
    die 25 "nginx is missing on this host — fix: install the package nginx by hand (its own service is not needed)"
  if [ "$1" = package ] && [ "$(id -u)" -eq 0 ] && [ -d /run/systemd/system ]; then
    install_nginx
  else
    unpack_nginx
  fi
}

# The package starts its service when it is installed, with a site for everybody on port 80; a masked unit does not start.
install_nginx() {
  say "installing nginx"
  mask=/etc/systemd/system/nginx.service
  journal_add file "$mask"
  [ -e "$mask" ] || [ -L "$mask" ] || ln -s /dev/null "$mask"
  systemctl daemon-reload
  apt_install nginx
  printf '/usr/sbin/nginx\n'
}

unpack_nginx() {
  private_dir "$TANDEM_CACHE_DIR"
  mkdir -p "$TANDEM_CACHE_DIR/tools"
  exec 4<"$TANDEM_CACHE_DIR/tools"
  flock -w 120 4 || die 75 "another program has been unpacking nginx for two minutes — fix: try again"
  # apt is asked for a newer one once a day: it takes seconds.
  asked="$(find "$TANDEM_CACHE_DIR"/tools/nginx-*/version -mtime -1 2>/dev/null | sort -V | tail -n 1)"
  if [ -n "$asked" ]; then
    version="$(cat "$asked")"
  else
    version="$(LC_ALL=C apt-cache show --no-all-versions nginx 2>/dev/null | sed -n 's/^Version: //p' | head -n 1 | tr ':~' '--')"
  fi
  nginx_home="$TANDEM_CACHE_DIR/tools/nginx-${version:-unlisted}"
  if [ -z "$version" ] || [ ! -x "$nginx_home/nginx" ]; then
    building="$(mktemp -d "$TANDEM_CACHE_DIR/tools/building.XXXXXX")"
    (download_nginx "$building" >&2) || {
      rm -rf "$building"
      die 25 "nginx is missing and apt can't download it — fix: install the package nginx by hand, or set gateway.enabled to false"
    }
    version="$(cat "$building/version")"
    nginx_home="$TANDEM_CACHE_DIR/tools/nginx-$version"
    cache_use "$nginx_home" made
    rm -rf "$nginx_home"
    mv -T "$building" "$nginx_home"
  else
    [ -n "$asked" ] || touch "$nginx_home/version"
    cache_use "$nginx_home" found
  fi
  exec 4>&-
  printf '%s\n' "$nginx_home/nginx"
}

# Leaves nginx and its version in a folder: download_nginx FOLDER. In older releases the package nginx holds no binary.
download_nginx() (
  cd "$1" || return 1
  say "fetching nginx"
  for package in nginx nginx-light nginx-core; do
    fetch_package "$package" || continue
    dpkg-deb -x ./*.deb files
    dpkg-deb -f ./*.deb Version | tr ':~' '--' >version
    rm -f ./*.deb
    if [ ! -x files/usr/sbin/nginx ]; then continue; fi
    mv files/usr/sbin/nginx nginx
    rm -rf files lists cache
    # Its libraries are those of every Debian; where one is missing it is said here.
    ./nginx -v
    return
  done
  return 1
)

# With lists of its own where the host's are empty: they are no business of ours to fill. fetch_package PACKAGE
fetch_package() {
  apt-get -qq -o APT::Sandbox::User=root download "$1" 2>/dev/null && return
  mkdir -p lists/partial cache/archives/partial
  own="-o Dir::State::Lists=$PWD/lists -o Dir::Cache=$PWD/cache -o APT::Sandbox::User=root"
  # shellcheck disable=SC2086 # Options are meant to be split; the cache's path has no blanks in them.
  { [ -e cache/fetched ] || { apt-get -qq $own update && touch cache/fetched; }; } && apt-get -qq $own download "$1"
}
