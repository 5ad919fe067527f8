"""
Time to load the bundled 20 stocks over 33 years with all features, in a fresh process each: the first time, when the feature
tables are computed and kept, and afterwards, when they are read.

Usage: ``python benchmarks/data.py [--out data.json] [--rounds 5]``
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

LOAD = """
import time
begin, cpu = time.perf_counter(), time.process_time()
from quantflux_sb3.features import FeatureConfig
from quantflux_sb3.market import bundled_prices, load_bundled
from quantflux_sb3.regimes import detect_regimes
imported, imported_cpu = time.perf_counter(), time.process_time()
market = load_bundled(tuple(bundled_prices()[0].columns))
shapes = [table.shape for _, table in FeatureConfig().blocks(market)]
regimes = detect_regimes(market).probs.shape
end, end_cpu = time.perf_counter(), time.process_time()
print(imported - begin, end - imported, imported_cpu - cpu, end_cpu - imported_cpu, shapes, regimes, sep=";")
"""
LIMIT = 1.0  # [s]


def load(folder: str) -> dict[str, float]:
    """
    :param folder: of the cache
    :return: seconds of wall clock and of CPU, for imports and for loading
    """
    environment = {**os.environ, "QUANTFLUX_CACHE_DIR": folder}
    out = subprocess.run([sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True, check=True).stdout
    numbers = [float(value) for value in out.split(";")[:4]]
    return dict(zip(("import_wall", "load_wall", "import_cpu", "load_cpu"), numbers, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--rounds", type=int, default=5, help="processes after the first")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first = load(folder)
        later = [load(folder) for _ in range(options.rounds)]
    median = {name: statistics.median(run[name] for run in later) for name in first}
    figures = {"first": first, "later": median, "limit": LIMIT, "met": median["load_wall"] <= LIMIT}
    for name in ("first", "later"):
        print(name, {key: round(value, 3) for key, value in figures[name].items()}, "seconds")
    print(f"loading after the first time: {median['load_wall']:.2f} s (limit {LIMIT:.0f} s)")
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
