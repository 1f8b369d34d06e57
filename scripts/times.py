#!/usr/bin/python3
"""Passes the output of `cargo test` on, notes how long each test took, and shows the slowest in the end.

libtest says when a test ends, not how long it took. But it starts the tests in the order of their names, as many at once as there are
threads, and the next one when one has ended; so the ends give the starts.
"""

import os
import sys
import time

output, shown = sys.argv[1], 20
threads = int(os.environ.get("RUST_TEST_THREADS") or len(os.sched_getaffinity(0)))
times, program = [], ""


def finish(begin, ends):
    starts = [begin] * threads + [end for _, end in ends]
    took = {name: max(0, end - start) for (name, end), start in zip(sorted(ends), starts)}
    times.extend((seconds, program, name) for name, seconds in took.items())


begin, ends = 0, []
for raw in iter(sys.stdin.buffer.readline, b""):
    sys.stdout.buffer.write(raw)
    sys.stdout.buffer.flush()
    words = raw.decode(errors="replace").split()
    if words[:1] in (["Running"], ["Doc-tests"]):
        program = words[-1].strip("()").split("/")[-1].rsplit("-", 1)[0]
    elif words[:1] == ["running"] and words[-1] in ("test", "tests"):
        begin, ends = time.monotonic(), []
    elif words[:1] == ["test"] and "..." in words and words[-1] in ("ok", "FAILED"):
        ends.append((" ".join(words[1 : words.index("...")]), time.monotonic()))
    elif words[:2] == ["test", "result:"]:
        finish(begin, ends)

times.sort(reverse=True)
with open(output, "w") as file:
    file.writelines(f"{seconds:8.2f} {program} {name}\n" for seconds, program, name in times)
if times:
    print(f"\nThe {min(shown, len(times))} slowest of {len(times)} tests (seconds; all in {output}):")
for seconds, program, name in times[:shown]:
    print(f"{seconds:8.2f} {program} {name}")
