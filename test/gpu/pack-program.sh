#!/bin/sh
# Packs this program for a machine that reaches no package registry: `tandem`'s compiled code, its scripts and presets, and what it
# needs of node_modules at run time, in one archive.
#
#   pack-program.sh ARCHIVE.tar.xz
#
# There: mkdir DIR && tar -C DIR -xJf ARCHIVE.tar.xz; Node 22 and `pulumi` have to be on PATH; then DIR/bin/tandem.
# The packages are fetched into the cache and kept there for the next time.
set -eu
cd "$(dirname "$0")/../.."

archive=${1:?usage: pack-program.sh ARCHIVE.tar.xz}
case $archive in
  /*) ;;
  *) archive=$PWD/$archive ;;
esac
mkdir -p "$(dirname "$archive")"
modules=${XDG_CACHE_HOME:-$HOME/.cache}/tandem/program-modules

sh scripts/build.sh

lock=$(cksum <package-lock.json)
if [ "$(cat "$modules/.lock" 2>/dev/null || :)" != "$lock" ]; then
  rm -rf "$modules"
  mkdir -p "$modules"
  cp package.json package-lock.json "$modules"
  (cd "$modules" && npm ci --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error)
  # Types, maps, other module formats and documents are never read at run time.
  find "$modules/node_modules" -type f \( -name '*.map' -o -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' -o -name '*.md' \
    -o -name '*.markdown' -o -name '*.flow' -o -name '*.tsbuildinfo' \) -delete
  find "$modules/node_modules" -type d \( -name test -o -name tests -o -name __tests__ -o -name docs -o -name example -o -name examples \) \
    -prune -exec rm -rf {} +
  rm -rf "$modules"/node_modules/@opentelemetry/*/build/esm "$modules"/node_modules/@opentelemetry/*/build/esnext
  # Pulumi loads TypeScript only for programs that are not compiled yet; types are for compilers.
  rm -rf "$modules/node_modules/typescript" "$modules/node_modules/@types"
  printf '%s\n' "$lock" >"$modules/.lock"
fi

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
trap 'exit 130' INT TERM HUP
cp -R package.json bin bootstrap dist "$stage"
find "$stage/dist" "$stage/bootstrap" -type f \( -name '*.map' -o -name '*.d.ts' -o -name '.tsbuildinfo' \) -delete
find "$stage/bootstrap" -type f -name '*.ts' -delete
mkdir "$stage/stacks"
cp stacks/*.yaml "$stage/stacks"
cp Pulumi.yaml "$stage"
ln -s "$modules/node_modules" "$stage/node_modules"
tar -C "$stage" --dereference --exclude=.bin -cf - . | xz -9e -T1 >"$archive"
ls -l "$archive"
