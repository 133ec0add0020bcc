"""Reads vLLM's log: what a line means for people, and which line is the root cause of a failed start.

Standard library only, Python 3.9 or newer. The patterns were seen in the logs of vLLM 0.26 and 0.32.
"""

from __future__ import annotations

import re

# `(EngineCore_DP0 pid=12) ERROR 11-25 04:33:00 [core.py:700] ` and its parts, each of which may be missing.
PREFIX = re.compile(r"^(?:\((?P<process>[\w:. -]+?) pid=\d+\) )?(?:(?:ERROR|WARNING|INFO) [\d-]+ [\d:.]+ \[[^\]]+\] )?")
EXCEPTION = re.compile(r"^(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Failure|OutOfMemory\w*)\b(?::.*)?$")
# What one process says because another one failed.
GENERIC = re.compile(
    r"Engine core initialization failed|Engine process failed to start|WorkerProc initialization failed"
    r"|Engine core proc|See root cause|cancelled|KeyboardInterrupt|SystemExit|CancelledError|EngineDeadError"
    r"|Executor failed|BrokenPipeError",
    re.IGNORECASE,
)
OTHER_CAUSES = re.compile(
    r"error: (?:unrecognized arguments|argument |the following)|^tandem: can't start|fatal error: |^Killed$"
)
VALIDATION = re.compile(r"\d+ validation errors? for ")


def root_cause(lines: list[str]) -> str:
    """
    The line that says why vLLM did not start: the last exception of the engine or a worker, else of any process,
    leaving out those that only say that another process failed. An empty string when there is none.
    """
    deep: list[str] = []
    shallow: list[str] = []
    for number, line in enumerate(lines):
        match = PREFIX.match(line)
        process = (match.group("process") if match else None) or ""
        text = line[match.end() :].strip() if match else line.strip()
        cause = _cause(text, lines[number + 1 : number + 4])
        if cause:
            is_engine = process.startswith(("EngineCore", "Worker"))
            (deep if is_engine else shallow).append(cause)
    found = deep or shallow
    return found[-1][:600] if found else ""


def _cause(text: str, following: list[str]) -> str:
    if OTHER_CAUSES.search(text):
        return text
    exception = EXCEPTION.match(text)
    if not exception or GENERIC.search(text):
        return ""
    if VALIDATION.search(text):
        # Pydantic's first line names only the class; the reason stands below, indented.
        reasons = [PREFIX.sub("", line).strip() for line in following]
        reason = next((reason for reason in reasons if reason and "pydantic.dev" not in reason), text)
        return re.sub(r"^Value error, |\s*\[type=.*", "", reason)
    return text


class Progress:
    """Turns vLLM's start-up lines into progress for people; says nothing twice."""

    PATTERNS = (
        (
            re.compile(r"Loading (?:safetensors|pt|pytorch|bin) checkpoint shards:\s+(\d+)% Completed"),
            "loading weights {0} %",
        ),
        (re.compile(r"Starting to load model (\S+?)\.*$"), "loading weights"),
        (re.compile(r"Loading weights took ([\d.]+) seconds"), "weights loaded in {0} s"),
        (re.compile(r"Model loading took ([\d.]+) ?GiB"), "model takes {0} GiB"),
        (re.compile(r"(?:GPU|CPU) KV cache size: ([\d,]+) tokens"), "KV cache {0} tokens"),
        (
            re.compile(
                r"[Uu]sing cache directory: .*torch_compile|Compiling a graph|torch\.compile takes|Dynamo bytecode"
            ),
            "compiling",
        ),
        (re.compile(r"Capturing (?:CUDA|cudagraph)\S* ?graphs?.*?(\d+)%"), "capturing CUDA graphs {0} %"),
        (re.compile(r"Graph capturing finished in (\d+) secs"), "CUDA graphs captured in {0} s"),
        (re.compile(r"Warming up model"), "warming up"),
        (re.compile(r"init engine .*?took ([\d.]+) s"), "engine started in {0} s"),
        (re.compile(r"Starting vLLM (?:API )?server"), "starting the API server"),
        (re.compile(r"Application startup complete"), "API is up"),
    )

    def __init__(self) -> None:
        self._told: set[str] = set()
        self.last_line = ""

    def tell(self, line: str) -> str | None:
        """Progress for people, or None when the line is none."""
        if line.strip():
            self.last_line = line.strip()[:300]
        for pattern, text in self.PATTERNS:
            match = pattern.search(line)
            if match:
                told = text.format(*match.groups())
                if told in self._told:
                    return None
                self._told.add(told)
                return told
        return None
