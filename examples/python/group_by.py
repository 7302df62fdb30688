"""Sums by group of a table in parquet files, with dask.dataframe.

    python group_by.py DIRECTORY
"""

import os
import sys

import dask.dataframe as dd
import pandas as pd

import dagmar


def write_files(directory, files=8, rows=50_000):
    """A table of payments in several files, unless it is there."""
    os.makedirs(directory, exist_ok=True)
    for file in range(files):
        path = os.path.join(directory, f"payments-{file}.parquet")
        numbers = range(file * rows, (file + 1) * rows)
        table = pd.DataFrame({"shop": [number % 5 for number in numbers], "cents": [number % 1000 for number in numbers]})
        if not os.path.exists(path):
            table.to_parquet(path)


def main():
    directory = os.path.abspath(sys.argv[1])
    write_files(directory)
    with dagmar.Client() as client:
        payments = dd.read_parquet(directory)
        sums = payments.groupby("shop").cents.agg(["sum", "mean"]).compute(scheduler=client)
    for shop, row in sums.sort_index().iterrows():
        print(f"shop {shop}: {row['sum'] / 100:12.2f} in all, {row['mean'] / 100:.3f} each")


if __name__ == "__main__":
    main()
