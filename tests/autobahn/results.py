"""Prints the suite's index.json as one line per case: its number, what became of it, of its close, and the code.

For Python 2.7 and 3. `run` compares the lines with `expected.txt`.
"""

import json
import sys


def number(case):
    return [int(part) for part in case.split(".")]


def main(index):
    with open(index) as file:
        agents = json.load(file)
    # There is none if no case reached the relay.
    cases = agents.get("fanwire", {})
    for case in sorted(cases, key=number):
        result = cases[case]
        code = result["remoteCloseCode"]
        print("\t".join([case, result["behavior"], result["behaviorClose"], str(code or "-")]))


main(*sys.argv[1:])
