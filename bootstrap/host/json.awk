# Prints one shell assignment for each scalar member of the JSON object on standard input: <prefix>name='value'.
# Hosts have awk but not always Python or jq. Nested values and null are left out; a NUL can't be in a shell variable and is dropped.
# Variables: prefix  put before each name, e.g. "export " or "doc_"
#            only    start that every name must have; another name ends the program with status 2
# Run it with LC_ALL=C, so that bytes are bytes.
BEGIN { RS = "\001"; text = "" }
{ text = text $0 }
END {
  at = 1
  skip_space()
  if (here() != "{") fail("not a JSON object")
  at++
  for (;;) {
    skip_space()
    if (here() == "}") exit 0
    if (here() == ",") { at++; continue }
    name = unescape(take_string())
    skip_space()
    if (here() != ":") fail("a member has no value")
    at++
    skip_space()
    member(name)
  }
}

function here() { return substr(text, at, 1) }

function fail(why) {
  print "json.awk: " why " (at byte " at ")" > "/dev/stderr"
  exit 2
}

function skip_space() { while (here() ~ /^[ \t\r\n]$/) at++ }

function take_string(  raw) {
  if (!match(substr(text, at), /^"([^"\\]|\\.)*"/)) fail("expected a string")
  raw = substr(text, at + 1, RLENGTH - 2)
  at += RLENGTH
  return raw
}

function member(name,  value) {
  if (here() == "\"") value = unescape(take_string())
  else if (here() == "{" || here() == "[") { skip_nested(); return }
  else {
    if (!match(substr(text, at), /^[-+.0-9A-Za-z]+/)) fail("expected a value")
    value = substr(text, at, RLENGTH)
    at += RLENGTH
    if (value == "null") return
  }
  if (only != "" && index(name, only) != 1) fail("the name " name " does not start with " only)
  if (name !~ /^[A-Za-z_][A-Za-z0-9_]*$/) fail("the name " name " is not a variable's name")
  gsub(/'/, "'\\''", value)
  print prefix name "='" value "'"
}

function skip_nested(  depth, character) {
  depth = 0
  do {
    character = here()
    if (character == "") fail("the text ends too early")
    if (character == "\"") { take_string(); continue }
    if (character == "{" || character == "[") depth++
    if (character == "}" || character == "]") depth--
    at++
  } while (depth > 0)
}

function unescape(raw,  out, position, letter) {
  out = ""
  while ((position = index(raw, "\\")) > 0) {
    out = out substr(raw, 1, position - 1)
    letter = substr(raw, position + 1, 1)
    if (letter == "u") {
      code = hexadecimal(substr(raw, position + 2, 4))
      raw = substr(raw, position + 6)
      # Two escapes, a surrogate pair, stand for one character beyond 16 bits.
      if (code >= 55296 && code < 56320 && substr(raw, 1, 2) == "\\u") {
        code = 65536 + (code - 55296) * 1024 + hexadecimal(substr(raw, 3, 4)) - 56320
        raw = substr(raw, 7)
      }
      out = out utf8(code)
      continue
    }
    if (letter == "n") letter = "\n"
    else if (letter == "t") letter = "\t"
    else if (letter == "r") letter = "\r"
    else if (letter == "b") letter = "\b"
    else if (letter == "f") letter = "\f"
    out = out letter
    raw = substr(raw, position + 2)
  }
  return out raw
}

function hexadecimal(digits,  i, value) {
  value = 0
  for (i = 1; i <= 4; i++) value = value * 16 + index("0123456789abcdef", tolower(substr(digits, i, 1))) - 1
  return value
}

function utf8(code) {
  if (code == 0) return ""
  if (code < 128) return sprintf("%c", code)
  if (code < 2048) return sprintf("%c%c", 192 + int(code / 64), 128 + code % 64)
  if (code < 65536) return sprintf("%c%c%c", 224 + int(code / 4096), 128 + int(code / 64) % 64, 128 + code % 64)
  return sprintf("%c%c%c%c", 240 + int(code / 262144), 128 + int(code / 4096) % 64, 128 + int(code / 64) % 64, 128 + code % 64)
}
