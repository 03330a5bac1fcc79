"""Which modules does Python's standard library lean on most? A batch program on real input: the machine's own Python.

Reads every source file of the standard library in parallel, counts what it imports, prints the top of the table and
writes the whole of it to out/imports.csv.
"""

import ast
import csv
import os
import sys
import sysconfig
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path


def imports_of(path: Path) -> Counter[str]:
    """How often each top-level module is imported in one file."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return Counter()
    found: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found[node.module.split(".")[0]] += 1
    return found


def main() -> None:
    library = Path(sys.argv[1] if len(sys.argv) > 1 else sysconfig.get_paths()["stdlib"])
    sources = sorted(path for path in library.rglob("*.py") if "-packages" not in str(path))
    print(f"reading {len(sources)} files under {library} on {os.uname().nodename}", flush=True)
    total: Counter[str] = Counter()
    with ProcessPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        for found in pool.map(imports_of, sources, chunksize=32):
            total.update(found)

    print(f"{sum(total.values())} imports of {len(total)} modules; the ten most wanted:")
    for module, count in total.most_common(10):
        print(f"{count:6} {module}")

    out = Path("out")
    out.mkdir(exist_ok=True)
    with (out / "imports.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("module", "imports"), *total.most_common()])
    print(f"wrote {out / 'imports.csv'}")


if __name__ == "__main__":
    main()
