#!/usr/bin/env python3
"""Checks proofs of eventstore with none of its code, and prints the roots that they are for: compare these with what you kept.
    verify_proof.py event TEXT PROOF    the event's jsonb_build_array(...)::text, and what es_proof gives
    verify_proof.py log PROOF           what es_prove_consistency gives"""
import json
import sys
from hashlib import sha256

def demand(condition, complaint):
    if not condition:
        sys.exit(complaint)

def climb(path, i, last, first, second):
    """Goes up from node i of a level that ends with the last one; the first tree is not joined with what is right of it."""
    for sibling in path:
        demand(last > 0, "the path is too long")
        if i % 2 or i == last:
            first, second = (sha256(b"\1" + sibling + left).digest() for left in (first, second))
            while i % 2 == 0 and i > 0:
                i, last = i // 2, last // 2
        else:
            second = sha256(b"\1" + second + sibling).digest()
        i, last = i // 2, last // 2
    demand(last == 0, "the path is too short")
    return [first, second]

kind, proof = sys.argv[1], json.loads(sys.argv[-1])
path = [bytes.fromhex(digest) for digest in proof["path"]]
if kind == "event":
    leaf, roots = sha256(b"\0" + sys.argv[2].encode()).digest(), [bytes.fromhex(proof["root"])]
    demand(leaf.hex() == proof["leaf"], "this is not the event that was sealed")
    demand(climb(path, proof["index"], proof["size"] - 1, leaf, leaf)[1:] == roots, "the path leads to another root")
else:
    roots, i, last = [bytes.fromhex(proof[r]) for r in ("first_root", "second_root")], proof["first_size"] - 1, proof["second_size"] - 1
    while i % 2 or i == last > 0:
        i, last = i // 2, last // 2
    start = [roots[0] if i == 0 else path.pop(0)] * 2
    demand(climb(path, i, last, *start) == roots, "one log is not the beginning of the other")
print(*[root.hex() for root in roots])
