"""What becomes of each code block of the pages: run, read by its own parser, or marked with the reason.

Part of `make check`. Exit code 1: something is wrong with one, and is said with its place.
"""

from __future__ import annotations

import sys

from tests.unit.blocks import PROJECT, become, blocks, pages


def main() -> int:
    """Print the three counts, and what is wrong."""
    counts, wrong = become(block for page in pages() for block in blocks(page, PROJECT))
    for one in wrong:
        print(one)
    print(f"code blocks: {counts['run']} run, {counts['read']} read, {counts['marked']} marked, {len(wrong)} wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
