"""Raw requests, valid and invalid, one rule each: the table of contents.

Each module is a subject and each of its cases a rule, with the section that it comes from.  The
cases are written from the standards (RFC 3986, 6265, 6585, 9110, 9112; PEP 3333) and, where those
leave the server the choice, from docs/design.md.
"""

import chunks
import codings
import connections
import expectations
import fields
import garbage
import hosts
import incomplete
import lengths
import limits
import methods
import request_line
import sequences
import targets
import trailers
import upgrades
import versions

SUBJECTS = [request_line, methods, targets, versions, hosts, fields, lengths, codings, chunks,
            trailers, connections, upgrades, expectations, limits, garbage]


def named(*subjects):
    """{"subject: name": case}"""
    found, same = {}, {}
    for subject in subjects:
        for case in subject.CASES:
            name = f"{subject.__name__.replace('_', ' ')}: {case.name}"
            assert name not in found, name
            assert case.raw not in same, (name, same[case.raw])
            found[name], same[case.raw] = case, name
    return found


CASES = named(*SUBJECTS)
INCOMPLETE = named(incomplete)
# The cases about which there is no choice.
VALID = {name: case for name, case in CASES.items() if case.statuses == {200}}
INVALID = {name: case for name, case in CASES.items() if 200 not in case.statuses}
MIXED = sequences.MIXED
UPGRADES = list(upgrades.OFFERS.values())
SETTINGS = limits.SETTINGS
