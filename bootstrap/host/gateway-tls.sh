# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034 # What is read is gateway.sh's, what is set is for it.
# Sourced by gateway.sh: the gateway's certificate, in tls.crt and tls.key of the unit's folder.
# Reads: $folder, and of the document $doc_tls, $doc_certificate, $doc_certificateKey, $doc_name
# Sets:  $tls_changed   not empty when the certificate is another one than before
# Keeps beside it: tls.mode, tls.times (see tls_read_times), tls.name (of our own), tls.files (where it was copied from)
# shellcheck source=gateway-acme.sh
. "$TANDEM_SCRIPTS_DIR/gateway-acme.sh"

# A certificate of our own lasts 13 months.
SELF_SIGNED_DAYS=397
RENEW_SECONDS=2592000

tls_certificate() {
  tls_changed='' before="$(tls_sum)"
  read_line "$folder/tls.mode"
  # What is known of the one before does not hold for another kind; it serves on until that is there.
  if [ "$file_line" != "${doc_tls:-off}" ]; then rm -f "$folder/tls.name" "$folder/tls.files" "$folder/tls.times"; fi
  case "${doc_tls:-off}" in
    off) rm -f "$folder/tls.crt" "$folder/tls.key" ;;
    self-signed) tls_self_signed ;;
    files)
      tls_copy "$doc_certificate" "$doc_certificateKey"
      tls_warn
      ;;
    acme) acme_certificate ;;
    *) die 2 "gateway.tls.mode — got '$doc_tls' — allowed: off, self-signed, files, acme" ;;
  esac
  [ "${doc_tls:-off}" = acme ] || acme_end
  put_file "$folder/tls.mode" "${doc_tls:-off}"
  [ "$before" = "$(tls_sum)" ] || tls_changed=yes
}

tls_sum() { sha256sum "$folder/tls.crt" 2>/dev/null || :; }

tls_warn() {
  tls_read_times
  if [ "$tls_end" -gt 0 ] && ! tls_is_before "$tls_renew"; then
    say "the certificate $doc_certificate ends on $(date -u -d "@$tls_end" +%Y-%m-%d) — fix: put a new one there, and run tandem up"
  fi
}

tls_self_signed() {
  tls_read_times
  if [ "$(cat "$folder/tls.name" 2>/dev/null)" = "$doc_name" ] && [ -f "$folder/tls.crt" ] && tls_is_before "$tls_renew"; then return; fi
  tls_need_openssl
  say "making a certificate for $doc_name"
  case "$doc_name" in
    *[!0-9.]*) kind=DNS ;;
    *) kind=IP ;;
  esac
  case "$doc_name" in
    *:*) kind=IP ;;
  esac
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days "$SELF_SIGNED_DAYS" -subj "/CN=Tandem $TANDEM_STACK" \
    -addext "subjectAltName=$kind:$doc_name,IP:127.0.0.1,DNS:localhost" -addext extendedKeyUsage=serverAuth \
    -keyout "$folder/tls.key.new" -out "$folder/tls.crt.new" 2>/dev/null || die 38 "openssl could not make a certificate for '$doc_name'"
  mv -f "$folder/tls.key.new" "$folder/tls.key"
  mv -f "$folder/tls.crt.new" "$folder/tls.crt"
  tls_note_times
  printf '%s' "$doc_name" | write_file "$folder/tls.name"
}

tls_need_openssl() {
  command -v openssl >/dev/null 2>&1 && return
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then die 38 "openssl is missing on this host — fix: install it"; fi
  apt_install openssl
}

# tls_copy CERTIFICATE KEY
tls_copy() {
  for path in "$1" "$2"; do
    [ -r "$path" ] || die 38 "the file $path can't be read — fix: put it there, or change gateway.tls"
  done
  # A pair that does not belong together would stop nginx. Both give the same public key.
  if command -v openssl >/dev/null 2>&1; then
    [ "$(openssl x509 -pubkey -noout -in "$1" 2>/dev/null)" = "$(openssl pkey -pubout -in "$2" 2>/dev/null)" ] ||
      die 38 "the certificate $1 and the key $2 don't belong together"
  fi
  write_file "$folder/tls.crt" <"$1"
  write_file "$folder/tls.key" <"$2"
  tls_note_times
  printf '%s\n%s\n' "$1" "$2" | write_file "$folder/tls.files"
}

# The certificate's times in seconds since 1970, as $tls_renew (another one should be had), $tls_late (it should have been) and
# $tls_end; 0 where nothing is known. It is renewed 30 days before its end, one that lasts less than 90 days in its last third.
tls_read_times() {
  tls_renew=0 tls_late=0 tls_end=0
  if [ -f "$folder/tls.times" ]; then read -r tls_renew tls_late tls_end <"$folder/tls.times" || :; fi
}

tls_note_times() {
  rm -f "$folder/tls.times"
  dates="$(openssl x509 -noout -startdate -enddate -in "$folder/tls.crt" 2>/dev/null)" || return 0
  begins="$(date -d "$(printf '%s\n' "$dates" | sed -n 's/^notBefore=//p')" +%s)"
  ends="$(date -d "$(printf '%s\n' "$dates" | sed -n 's/^notAfter=//p')" +%s)"
  left=$(((ends - begins) / 3))
  if [ "$left" -gt "$RENEW_SECONDS" ]; then left="$RENEW_SECONDS"; fi
  put_file "$folder/tls.times" "$((ends - left)) $((ends - left / 2)) $ends
"
}

# Whether it is before a moment: tls_is_before SECONDS_SINCE_1970
tls_is_before() { [ "$(date +%s)" -lt "$1" ]; }

# Why the certificate in use is not the one that should be, for people; nothing when it is.
tls_drift() {
  [ -f "$folder/tls.crt" ] || return 0
  tls_read_times
  read_line "$folder/tls.files"
  if [ -n "$file_line" ] && [ -r "$file_line" ] && ! cmp -s "$file_line" "$folder/tls.crt"; then
    echo "the gateway's certificate is another one than was applied; repair interrupts nothing"
  elif [ -f "$folder/acme/renew" ] && { acme_name && [ "$(systemctl is-active "$timer.timer" 2>/dev/null)" != active ]; }; then
    echo "the timer $timer.timer, which renews the gateway's certificate, does not run"
  elif [ "$tls_late" -gt 0 ] && ! tls_is_before "$tls_late"; then
    # What comes from files is the user's to renew.
    if [ -z "$file_line" ] || [ -d "$folder/acme" ]; then echo "the gateway's certificate ends soon; repair interrupts nothing"; fi
  fi
}

# SHA-256 of the certificate, as browsers and `openssl x509 -fingerprint` show it; nothing without one.
tls_fingerprint() {
  [ -f "$folder/tls.crt" ] || return 0
  openssl x509 -noout -fingerprint -sha256 -in "$folder/tls.crt" 2>/dev/null | sed 's/.*=//'
}
