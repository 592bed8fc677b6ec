"""Writes the pair of files for the comparison of drift tools: 16 numeric and 4 categorical columns without drift.

usage: make_data.py FOLDER ROWS    writes FOLDER/ROWS-reference.parquet and FOLDER/ROWS-current.parquet, unless they exist

Four numeric columns each are normal, lognormal, uniform and integers with many ties; the categories have 20 levels of
unequal shares. Both files have the same distribution and different seeds. Their format is the default of
`DataFrame.to_parquet`: snappy, row groups of 2^20 rows, plain strings. Row groups are drawn and written one at a time, so
that memory does not grow with the rows.
"""

import pathlib
import sys

import numpy
import pyarrow
import pyarrow.parquet

ROW_GROUP = 1 << 20
LEVELS = numpy.array([f"level-{n:02}" for n in range(20)])
SHARES = 1 / numpy.arange(3, 23)
SHARES /= SHARES.sum()
# Part of the seeds. A change of the columns must change it, and the old files must be removed.
SEED = 20130101

NUMERIC = {
    "normal": lambda random, n, size: random.normal(10 * n, 1 + n, size),
    "lognormal": lambda random, n, size: random.lognormal(n, 0.25 * (n + 1), size),
    "uniform": lambda random, n, size: random.uniform(-n, 10, size),
    # About 30 to 60 distinct values each.
    "integer": lambda random, n, size: random.poisson(10 * (n + 1), size),
}


def row_group(random, size):
    columns = {
        f"{name}_{n}": pyarrow.array(draw(random, n, size)) for name, draw in NUMERIC.items() for n in range(4)
    }
    for n in range(4):
        codes = random.choice(len(LEVELS), size, p=SHARES).astype("int8")
        columns[f"category_{n}"] = pyarrow.DictionaryArray.from_arrays(codes, LEVELS).cast(pyarrow.string())
    return pyarrow.table(columns)


def write(path, rows, side):
    random = numpy.random.default_rng([SEED, rows, side])
    # An interrupted run must not leave an incomplete file under the final name.
    unfinished = path.with_suffix(".unfinished")
    writer = None
    for start in range(0, rows, ROW_GROUP):
        table = row_group(random, min(ROW_GROUP, rows - start))
        writer = writer or pyarrow.parquet.ParquetWriter(unfinished, table.schema, compression="snappy")
        writer.write_table(table, row_group_size=ROW_GROUP)
    writer.close()
    unfinished.rename(path)


def main():
    folder, rows = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for side, name in enumerate(["reference", "current"]):
        path = folder / f"{rows}-{name}.parquet"
        if not path.exists():
            write(path, rows, side)


main()
