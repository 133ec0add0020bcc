#!/bin/sh
# Compiles the sources to dist/ when one of them changed since the last build, and bundles each program that starts often into one
# file, dist/bundled/*.js: hundreds of modules are slow to find and read. Two builds at once wait for each other.
set -eu
cd "$(dirname "$0")/.."

sources="plan components bootstrap cli stacks policy"
stamp=dist/.built

list_sources() {
  for folder in $sources; do
    if [ -d "$folder" ]; then find "$folder" -name '*.ts' -type f; fi
  done | sort
}

is_fresh() {
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(list_sources | cksum)" ] && [ -f dist/bundled/tandem.js ] &&
    [ -z "$(list_sources | while read -r file; do find "$file" -newer "$stamp"; done)" ] &&
    [ -z "$(find tsconfig.json tsconfig.build.json package-lock.json scripts/build.sh -newer "$stamp")" ]
}

# What was compiled from a source that is gone would still be found by `require`.
remove_stale_outputs() {
  find dist -name '*.js' -type f ! -path 'dist/bundled/*' | while read -r output; do
    base="${output#dist/}"
    base="${base%.js}"
    if [ ! -f "$base.ts" ]; then rm -f "dist/$base.js" "dist/$base.js.map" "dist/$base.d.ts"; fi
  done
}

# Pulumi's SDK must be the one that its providers load, and the clouds' SDKs are large: they stay where npm put them.
bundle() {
  # What is imported late is required late: Node looks through a module for its names before it imports it, but not before it requires it.
  set -- --outdir=dist/bundled --bundle --platform=node --target=node22 --supported:dynamic-import=false --log-level=error
  node_modules/.bin/esbuild tandem=dist/cli/main.js tandem-runner=dist/bootstrap/runner/main.js "$@" \
    --external:@pulumi/* --external:@aws-sdk/* --external:@smithy/* --external:@kubernetes/* &&
    node_modules/.bin/esbuild command-plugin=dist/bootstrap/engine/command/main.js "$@"
}

if is_fresh; then exit 0; fi
mkdir -p dist .cache
if command -v flock >/dev/null 2>&1; then
  exec 9>.cache/build.lock
  flock 9
  if is_fresh; then exit 0; fi
fi

started="$(mktemp .cache/build.XXXXXX)"
list_sources | cksum >"$started"
failed=0
bin/node22 node_modules/typescript7/bin/tsc -p tsconfig.build.json --incremental --tsBuildInfoFile dist/.tsbuildinfo || failed=$?
remove_stale_outputs
[ "$failed" -ne 0 ] || bundle || failed=$?
if [ "$failed" -ne 0 ]; then
  rm -f "$started" "$stamp"
  exit "$failed"
fi
# The stamp is as old as the start of the build, so that a source saved meanwhile is compiled next time.
mv "$started" "$stamp"
