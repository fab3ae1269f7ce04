"""Prints one line for each case in the suite's index.json: its number, its result, the result of its close, and the code.

For Python 2.7 and 3. `run` compares the lines with `expected.txt`.
"""

import json
import sys


def number(case):
    return [int(part) for part in case.split(".")]


def main(index):
    with open(index) as file:
        agents = json.load(file)
    # If no case reached the relay, there is no entry.
    cases = agents.get("fanwire", {})
    for case in sorted(cases, key=number):
        result = cases[case]
        code = result["remoteCloseCode"]
        print("\t".join([case, result["behavior"], result["behaviorClose"], str(code or "-")]))


main(*sys.argv[1:])
