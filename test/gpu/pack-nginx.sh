#!/bin/sh
# Packs this machine's nginx with its libraries, for a GPU machine that has none and reaches no package mirror.
#
#   pack-nginx.sh NGINX ARCHIVE.tar.xz
set -eu
nginx=${1:?usage: pack-nginx.sh NGINX ARCHIVE.tar.xz} archive=${2:?usage: pack-nginx.sh NGINX ARCHIVE.tar.xz}

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
trap 'exit 130' INT TERM HUP
mkdir "$stage/nginx-files"
cp "$nginx" "$stage/nginx-files/nginx"
# The C library stays: it is the loader's, and newer there.
ldd "$nginx" | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | grep -v '/libc\.so' | xargs -I{} cp -L {} "$stage/nginx-files"
cat >"$stage/nginx" <<'WRAPPER'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")/nginx-files
exec env LD_LIBRARY_PATH="$here" "$here/nginx" "$@"
WRAPPER
chmod 755 "$stage/nginx"
tar -C "$stage" -cf - nginx nginx-files | xz -9e >"$archive"
ls -l "$archive"
