"""The server's own counters, in Prometheus' text format. Counting must cost a request almost nothing."""

from bisect import bisect_left
from collections import Counter

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the duration histogram, in seconds."""


class Metrics:
    """Requests by verb, resource and code; durations by verb; watches that are open."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._durations: dict[str, list[int]] = {}
        self._sums: Counter[str] = Counter()
        self.watchers = 0

    def count(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """One finished request."""
        self._requests[verb, resource, code] += 1
        buckets = self._durations.get(verb)
        if buckets is None:
            buckets = self._durations[verb] = [0] * (len(BUCKETS) + 1)
        buckets[bisect_left(BUCKETS, seconds)] += 1
        self._sums[verb] += seconds  # type: ignore[assignment]

    def render(self, revision: int) -> bytes:
        """The text of `/metrics`; `revision` is the store's."""
        lines = ["# HELP apiserver_request_total Requests by verb, resource and HTTP code."]
        lines.append("# TYPE apiserver_request_total counter")
        for (verb, resource, code), total in sorted(self._requests.items()):
            labels = f'verb="{_escape(verb)}",resource="{_escape(resource)}",code="{code}"'
            lines.append(f"apiserver_request_total{{{labels}}} {total}")
        lines.append("# HELP apiserver_request_duration_seconds Time to answer by verb, watches excepted.")
        lines.append("# TYPE apiserver_request_duration_seconds histogram")
        for verb, buckets in sorted(self._durations.items()):
            lines += self._histogram(verb, buckets)
        lines += [
            "# HELP apiserver_longrunning_requests Watches that are open.",
            "# TYPE apiserver_longrunning_requests gauge",
            f'apiserver_longrunning_requests{{verb="watch"}} {self.watchers}',
            "# HELP corral_store_revision Revision of the latest acknowledged write.",
            "# TYPE corral_store_revision counter",
            f"corral_store_revision {revision}",
        ]
        return ("\n".join(lines) + "\n").encode()

    def _histogram(self, verb: str, buckets: list[int]) -> list[str]:
        name, label = "apiserver_request_duration_seconds", f'verb="{_escape(verb)}"'
        lines, total = [], 0
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), buckets, strict=True):
            total += count
            lines.append(f'{name}_bucket{{{label},le="{bound}"}} {total}')
        return [*lines, f"{name}_sum{{{label}}} {self._sums[verb]:.6f}", f"{name}_count{{{label}}} {total}"]


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
