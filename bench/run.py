"""Every benchmark, one after the other: `make bench`. Each prints ratios against a peer or a limit of the same run."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SCRIPTS = ("store", "api", "scheduler", "packing", "openb", "submit", "fleet", "runtime", "cell")
OPTIONS = {"openb": ("--profile", "packing", "--profile", "fgd", "--profile", "best-fit", "--seeds", "3")}


def main() -> int:
    """Run all; the exit code is 1 if one of them failed."""
    wanted = sys.argv[1:] or [name for name in SCRIPTS if name != "openb" or os.environ.get("CORRAL_OPENB")]
    failed = []
    for name in wanted:
        print(f"\n== {name} ==", flush=True)
        script = Path(__file__).with_name(f"{name}.py")
        if _run([sys.executable, str(script), *OPTIONS.get(name, ())]):
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


def _run(command: Sequence[str]) -> int:
    """The exit code of a command that takes its time to clean up when it is told to end."""
    with subprocess.Popen(command) as child:

        def end(*_: object) -> None:
            child.terminate()
            raise KeyboardInterrupt

        signal.signal(signal.SIGTERM, end)
        try:
            return child.wait()
        except KeyboardInterrupt:
            child.wait()  # Ctrl-C has told it, too
            raise


if __name__ == "__main__":
    raise SystemExit(main())
