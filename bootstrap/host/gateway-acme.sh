# shellcheck shell=sh
# shellcheck disable=SC2154 # What is read is gateway.sh's, and of the document.
# Sourced by gateway.sh: a certificate from an ACME authority, by certbot, which answers the authority on port 80 for that moment.
# All that certbot keeps lies in the unit's folder, so that it touches nothing of /etc/letsencrypt and goes with the stack. A timer of
# our own renews: certbot's knows neither this folder nor the authority's own certificate, and lets the gateway know nothing.
# Reads: $folder, $doc_domain, $doc_email, $doc_acmeDirectory, $doc_acmeDirectoryCa
# Keeps in $folder/acme: live/tandem (the newest certificate), asked (for what), log (of the last try), renew (what the timer runs)
# shellcheck source=own-scripts.sh
. "$TANDEM_SCRIPTS_DIR/own-scripts.sh"

# Leaves a valid certificate in $folder; one that is still good is enough where the authority can't be had.
acme_certificate() {
  [ "$(id -u)" -eq 0 ] || die 38 "ACME needs root, to answer on port 80 — fix: connect as root, or set gateway.tls.mode to files"
  command -v certbot >/dev/null 2>&1 || {
    say "installing certbot"
    apt_install certbot
  }
  private_dir "$folder/acme"
  acme_renew || {
    if [ "$acme_is_new" = yes ] || ! tls_is_before "$tls_end"; then die 38 "$acme_why"; fi
    say "the certificate is not renewed: $acme_why"
  }
  acme_arm
}

# Asks for a certificate where it is time. Status 1 with $acme_why when none came; $acme_is_new says whether there is none yet.
acme_renew() {
  live="$folder/acme/live/tandem" asked="$doc_domain ${doc_acmeDirectory:-}"
  exec 7>>"$folder/acme/lock"
  flock -w 300 7 || die 75 "another program has been asking for the certificate for five minutes — fix: try again"
  acme_is_new=yes acme_status=0
  read_line "$folder/acme/asked"
  if [ "$file_line" = "$asked" ] && [ -f "$live/privkey.pem" ]; then
    acme_is_new=no
    if [ ! -f "$folder/tls.times" ] || ! cmp -s "$live/fullchain.pem" "$folder/tls.crt"; then acme_use; fi
  fi
  tls_read_times
  if [ "$acme_is_new" = yes ] || ! tls_is_before "$tls_renew"; then acme_ask || acme_status=1; fi
  if [ "$acme_status" -eq 0 ]; then
    put_file "$folder/acme/asked" "$asked"
    acme_use
  fi
  exec 7>&-
  return "$acme_status"
}

acme_use() { tls_copy "$live/fullchain.pem" "$live/privkey.pem"; }

acme_ask() {
  holder="$(port_holder 80)"
  if [ -n "$holder" ]; then
    acme_why="no certificate for $doc_domain: port 80 is taken by process $holder, and the authority asks there — fix: stop it, or set gateway.tls.mode to files"
    return 1
  fi
  say "asking for a certificate for $doc_domain"
  acme="$folder/acme"
  set -- certonly --non-interactive --agree-tos --standalone --force-renewal --renew-with-new-domains --key-type ecdsa \
    --cert-name tandem --domain "$doc_domain" --config-dir "$acme" --work-dir "$acme/work" --logs-dir "$acme/logs"
  if [ -n "${doc_email:-}" ]; then set -- "$@" --email "$doc_email"; else set -- "$@" --register-unsafely-without-email; fi
  if [ -n "${doc_acmeDirectory:-}" ]; then set -- "$@" --server "$doc_acmeDirectory"; fi
  if [ -n "${doc_acmeDirectoryCa:-}" ]; then
    [ -r "$doc_acmeDirectoryCa" ] || die 38 "the file $doc_acmeDirectoryCa can't be read — fix: put it there, or change gateway.tls.directoryCa"
    export REQUESTS_CA_BUNDLE="$doc_acmeDirectoryCa"
  fi
  certbot "$@" >"$acme/log" 2>&1 || {
    acme_why="no certificate for $doc_domain: $(acme_reason)"
    return 1
  }
}

# What certbot's output means: the authority's own words and what to do.
acme_reason() {
  detail="$(sed -n 's/^ *Detail: *//p' "$acme/log" | tail -n 1)"
  [ -n "$detail" ] || detail="$(grep -vE '^(Saving debug log|Ask for help|See the logfile|Some challenges|An unexpected error|Requesting|Account registered| *$)' "$acme/log" | tail -n 1)"
  case "$(sed -n 's/^ *Type: *//p' "$acme/log" | tail -n 1) $(cat "$acme/log")" in
    dns* | *NXDOMAIN* | *"no such host"*) cure="set the record of $doc_domain in your DNS to this host's public address" ;;
    connection*) cure="port 80 of this host must be open to the authority, and $doc_domain lead to this host" ;;
    unauthorized*) cure="another machine answers for $doc_domain: set its record in your DNS to this host" ;;
    *rateLimited*) cure="the authority gives out no more for this name for now: try again later, or set gateway.tls.mode to files" ;;
    *CERTIFICATE_VERIFY_FAILED* | *"certificate verify failed"*) cure="set gateway.tls.directoryCa to the root certificate of the authority's own server" ;;
    # certbot's own words for an authority that is not there, and those of the library below it.
    *" Requesting "*": "* | *NewConnectionError* | *ConnectTimeout*) cure="this host must reach ${doc_acmeDirectory:-the authority}: check gateway.tls.directory and the way out" ;;
    *) cure="see $acme/log on the host" ;;
  esac
  printf '%s — fix: %s' "$detail" "$cure"
}

# The units' name, as $timer.
acme_name() {
  timer="$(unit_name gateway-renew)"
  timer="${timer%.service}"
}

# The hour is for certificates that last a day, as some companies' do; when it is not time it costs next to nothing.
acme_arm() {
  if [ "$(service_manager)" != systemd-system ]; then
    say "without systemd nothing renews the certificate by itself — fix: run tandem up once a month"
    return
  fi
  acme_name
  keep_scripts "$folder/acme"
  {
    scripts_environment "$folder/acme"
    # shellcheck disable=SC2016 # For the script to expand.
    echo 'exec sh "$TANDEM_SCRIPTS_DIR/gateway.sh" renew'
  } | write_file "$folder/acme/renew"
  for kind in service timer; do
    journal_add unit "$timer.$kind" system
    (umask 022 && "acme_$kind" | write_file "/etc/systemd/system/$timer.$kind")
  done
  systemctl daemon-reload
  systemctl enable --quiet "$timer.timer"
  systemctl restart "$timer.timer"
}

acme_service() {
  cat <<UNIT
[Unit]
Description=Tandem: renews the certificate of the stack $TANDEM_STACK when it is time
After=network-online.target

[Service]
Type=oneshot
ExecStart=/bin/sh "$folder/acme/renew"
NoNewPrivileges=yes
PrivateTmp=yes
ProtectSystem=strict
ReadWritePaths="$TANDEM_STACK_DIR"
ProtectHome=read-only
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes
LockPersonality=yes
UNIT
}

acme_timer() {
  cat <<UNIT
[Unit]
Description=Tandem: looks hourly whether the certificate of the stack $TANDEM_STACK is to be renewed

[Timer]
OnCalendar=hourly
RandomizedDelaySec=20m
Persistent=true

[Install]
WantedBy=timers.target
UNIT
}

# Another certificate is no longer asked for.
acme_end() {
  [ -d "$folder/acme" ] || return 0
  acme_name
  if [ -f "/etc/systemd/system/$timer.timer" ]; then
    systemctl disable --quiet --now "$timer.timer" 2>/dev/null || :
    systemctl stop "$timer.service" 2>/dev/null || :
    rm -f "/etc/systemd/system/$timer.timer" "/etc/systemd/system/$timer.service"
    systemctl daemon-reload || :
  fi
  journal_remove unit "$timer.timer"
  journal_remove unit "$timer.service"
  rm -rf "$folder/acme"
}
