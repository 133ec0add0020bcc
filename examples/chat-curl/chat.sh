#!/bin/sh
# Asks the served model a question and prints the server's answer, JSON.
#   eval "$(tandem outputs --env-vars)"
#   ./chat.sh "What is the capital of France? Answer in one sentence."
set -eu

hint="is not set; the variables come from: tandem outputs --env-vars"
: "${TANDEM_BASE_URL:?$hint}" "${TANDEM_API_KEY:?$hint}" "${TANDEM_MODEL:?$hint}"

question=$(printf '%s' "${1:-What is the capital of France? Answer in one sentence.}" | sed 's/[\\"]/\\&/g')
body=$(printf '{"model": "%s", "messages": [{"role": "user", "content": "%s"}], "max_completion_tokens": 64, "temperature": 0}' \
  "$TANDEM_MODEL" "$question")

# The key goes in by standard input: the arguments of a process can be read by every user of the machine.
printf 'Authorization: Bearer %s\n' "$TANDEM_API_KEY" |
  curl --silent --show-error --fail-with-body --max-time 120 \
    --header @- --header 'Content-Type: application/json' --data "$body" "$TANDEM_BASE_URL/chat/completions"
echo
