"""Swaps, on the way from stdin to stdout, the first lines that match."""

import re
import sys

lines = sys.stdin.readlines()
one, other = (next(i for i, line in enumerate(lines) if re.search(pattern, line))
              for pattern in sys.argv[1:3])
lines[one], lines[other] = lines[other], lines[one]
sys.stdout.writelines(lines)
