# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034 # What is read is gateway.sh's, what is set is for it.
# Sourced by gateway.sh: the gateway's certificate, in tls.crt and tls.key of the unit's folder.
# Reads: $folder, and of the document $doc_tls, $doc_certificate, $doc_certificateKey, $doc_domain, $doc_name, $doc_email, $doc_acmeDirectory
# Sets:  $tls_changed   not empty when the certificate is another one than before

# A certificate of our own is made anew this long before its end; it lasts 13 months.
SELF_SIGNED_DAYS=397
RENEW_SECONDS=2592000

tls_certificate() {
  tls_changed='' before="$(tls_sum)"
  case "${doc_tls:-off}" in
    off) rm -f "$folder/tls.crt" "$folder/tls.key" ;;
    self-signed) tls_self_signed ;;
    files) tls_copy "$doc_certificate" "$doc_certificateKey" ;;
    acme) tls_acme ;;
    *) die 2 "gateway.tls.mode — got '$doc_tls' — allowed: off, self-signed, files, acme" ;;
  esac
  [ "$before" = "$(tls_sum)" ] || tls_changed=yes
}

tls_sum() { sha256sum "$folder/tls.crt" 2>/dev/null || :; }

tls_self_signed() {
  if [ "$(cat "$folder/tls.name" 2>/dev/null)" = "$doc_name" ] && openssl x509 -checkend "$RENEW_SECONDS" -noout -in "$folder/tls.crt" >/dev/null 2>&1; then return; fi
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
  printf '%s\n%s\n' "$1" "$2" | write_file "$folder/tls.files"
}

# certbot answers the authority on port 80 itself, for the moment of the challenge; its timer renews, and the step's check sees it.
tls_acme() {
  [ "$(id -u)" -eq 0 ] || die 38 "ACME needs root, to answer on port 80 — fix: connect as root, or set gateway.tls.mode to files"
  command -v certbot >/dev/null 2>&1 || apt_install certbot
  lineage="tandem-$TANDEM_STACK"
  for kind in archive live; do journal_add dir "/etc/letsencrypt/$kind/$lineage" tree; done
  journal_add file "/etc/letsencrypt/renewal/$lineage.conf"
  set -- certonly --non-interactive --agree-tos --standalone --keep-until-expiring --cert-name "$lineage" --domain "$doc_domain"
  if [ -n "${doc_email:-}" ]; then set -- "$@" --email "$doc_email"; else set -- "$@" --register-unsafely-without-email; fi
  if [ -n "${doc_acmeDirectory:-}" ]; then set -- "$@" --server "$doc_acmeDirectory"; fi
  say "asking for a certificate for $doc_domain"
  certbot "$@" >"$folder/certbot.log" 2>&1 ||
    die 38 "no certificate for $doc_domain: $(grep -E 'Detail|error|Error' "$folder/certbot.log" | tail -n 1) — fix: its name must lead to this host, and port 80 be reachable"
  tls_copy "/etc/letsencrypt/live/$lineage/fullchain.pem" "/etc/letsencrypt/live/$lineage/privkey.pem"
}

# Whether the certificate in use is not the one that should be. Status 0 when it is due.
tls_is_due() {
  [ -f "$folder/tls.crt" ] || return 1
  if [ -f "$folder/tls.files" ]; then
    source_file="$(head -n 1 "$folder/tls.files")"
    [ -r "$source_file" ] && ! cmp -s "$source_file" "$folder/tls.crt"
  else
    command -v openssl >/dev/null 2>&1 && ! openssl x509 -checkend "$((RENEW_SECONDS / 2))" -noout -in "$folder/tls.crt" >/dev/null 2>&1
  fi
}

# SHA-256 of the certificate, as browsers and `openssl x509 -fingerprint` show it; nothing without one.
tls_fingerprint() {
  [ -f "$folder/tls.crt" ] || return 0
  openssl x509 -noout -fingerprint -sha256 -in "$folder/tls.crt" 2>/dev/null | sed 's/.*=//'
}
