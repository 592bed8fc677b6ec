#!/usr/bin/env python3
"""Memory and size of the profile of a table with thousands of columns.

usage: bench-profile.py PROGRAM [COLUMNS] [ROWS]

Writes a CSV file of COLUMNS (default 2000) columns and ROWS (default 20000) rows into a temporary folder: half of the columns are
fractions, a fifth each are small whole numbers and row numbers, and a tenth are texts, all different. Profiles it with
`rekindle profile`, and prints the peak resident memory of the program (bar 300 MB) and the bytes of the profile per column.
"""

import pathlib
import random
import resource
import subprocess
import sys
import tempfile

BAR_MB = 300


def cell(draw, column, row):
    kind = column % 10
    if kind < 5:
        return f"{draw.random():.5f}"
    if kind < 7:
        return str(draw.randrange(1000))
    return str(row) if kind < 9 else f"t{draw.getrandbits(32):x}"


def main():
    program = sys.argv[1]
    columns, rows = (int(text) for text in [*sys.argv[2:], *["2000", "20000"][len(sys.argv) - 2 :]])
    with tempfile.TemporaryDirectory(prefix="bench-profile-") as folder:
        table, profile = pathlib.Path(folder, "wide.csv"), pathlib.Path(folder, "wide.json")
        draw = random.Random(1)
        with table.open("w") as file:
            file.write(",".join(f"c{column}" for column in range(columns)) + "\n")
            for row in range(rows):
                file.write(",".join(cell(draw, column, row) for column in range(columns)) + "\n")
        command = [program, "profile", str(table), "-o", str(profile)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
        size, each = table.stat().st_size / 1e6, profile.stat().st_size / columns / 1e3
        print(f"profile of {columns} columns, CSV of {size:.0f} MB: peak {peak:.0f} MB resident (bar {BAR_MB}), {each:.1f} kB a column")


main()
