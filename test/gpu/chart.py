#!/usr/bin/env python3
"""Draws the tokens a second of some cases by the number of streams, as a chart that Markdown viewers show.

chart.py results.json [results.json ...]    what cases.py wrote; prints a block for docs/measurements.md
"""

import json
import sys


def main():
    rates = {}
    for path in sys.argv[1:]:
        with open(path) as file:
            for row in json.load(file)["rows"]:
                if row.get("load"):
                    rates[row["case"]] = {int(n): max(two) for n, two in row["load"]["tokensPerSecond"].items()}
    if not rates:
        sys.exit(f"no case with a load in {sys.argv[1:]} - needs results.json of cases.py")
    streams = sorted(set().union(*rates.values()))
    print("```mermaid\nxychart-beta")
    print(f'  title "tokens a second; lines from the top of this list: {", ".join(rates)}"')
    print(f'  x-axis "streams at once" {json.dumps([str(count) for count in streams])}')
    print('  y-axis "tokens a second"')
    for of_case in rates.values():
        print(f"  line {json.dumps([of_case.get(count, 0) for count in streams])}")
    print("```")


if __name__ == "__main__":
    main()
