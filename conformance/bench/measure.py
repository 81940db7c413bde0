"""The measurements and their limits."""

from __future__ import annotations

import dataclasses
import json
import math
import operator
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from conformance.adapters.contract.calling import THREADS
from conformance.adapters.registry import frameworks, installed
from conformance.docs.commands import commands
from conformance.execution.resources import available_cores

RUN_TO_BARE = 2.0
"""Limit of the time of `conformance run` relative to that of imports and calls: 1.66 was measured on a quiet machine,
the speed of which varies by 20 %."""
WORKERS_TO_ONE = "conformance run in worker processes to one process"
SHORT_SWEEP_FUNCTION = "torch.BCEWithLogitsLoss"
"""The function swept by a short sweep."""
CACHELESS = ("called", "imported")
"""Probes that do not use the oracle."""
MIB = 2.0**20
REPORT_BYTES = {"run --baseline": 1.75e9, "accept": 1.75e9, "merge": 1.69e9, "diff": 1.44e9}
"""Limits of the peak memory of a process with reports of 200,000 rows, by command."""
SHORT_REPORT_BYTES = {"run --baseline": 350e6, "accept": 360e6, "merge": 350e6, "diff": 300e6}
"""The same of 10,000 rows: 306, 321, 308 and 258 MB were measured (2026-11-30), 130 of which are modules."""
CASES_BYTES, CASE_BYTES = 334e6, 40e3
"""Limit of the peak memory of a run of small cases: of its modules, and of each case with six rows.

325 MB were measured
for 500 cases and 458 MB for 5,000 (2026-12-01)."""
CHEAPEST = ("torch.CrossEntropyLoss", "sklearn.log_loss")
"""Functions with a short call of their own, so that the overhead dominates."""
AUDITED = ("scikit-learn==1.1.3", "scikit-learn==1.9.1")


T = TypeVar("T")


class BenchError(Exception):
    """A measurement failed; the message contains the standard error of its process."""


@dataclass(frozen=True)
class Measurement:
    """One figure."""

    what: str
    measured: float
    unit: str
    limit: float | None = None
    """Upper limit; None for a figure that only explains another one."""
    note: str = ""
    target: float | None = None
    """Expected upper limit on a quiet machine; exceeding it is not a failure."""
    any_machine: bool = False
    """Whether the limit is also checked in a short run, because it does not depend on the speed of the machine."""

    @property
    def ok(self) -> bool:
        return self.limit is None or self.measured <= self.limit


@dataclass(frozen=True)
class Size:
    """The extent of the measurements."""

    frameworks: tuple[str, ...] = ()
    """Frameworks to execute; all if empty."""
    keyword: str = ""
    """-k expression that selects items."""
    repeats: int = 3
    """Number of repetitions of short processes; the median is used."""
    random_cases: int = 1000
    """Number of cases of the random search."""
    correct_cases: int = 2000
    """Number of cases for the correct implementations."""
    cases: tuple[int, int] = (500, 5_000)
    """Numbers of small cases of two runs."""
    rows: int = 50_000
    """Number of rows of a large report."""
    most_rows: int = 200_000
    """Number of rows of the reports whose memory is measured."""
    short: bool = False
    """Whether only to check that the measurement works; see `probe.SHORT`."""

    @property
    def words(self) -> tuple[str, ...]:
        """Arguments that select these items in probes."""
        return (self.keyword, *self.frameworks)

    @property
    def options(self) -> tuple[str, ...]:
        """Options that select these items in `conformance run`."""
        names = [word for name in self.frameworks for word in ("--framework", name)]
        return (*names, *(("-k", self.keyword) if self.keyword else ()))


WHOLE = Size()
SHORT = Size(
    ("sklearn",),
    "article",
    repeats=1,
    random_cases=10,
    correct_cases=5,
    cases=(10, 100),
    rows=500,
    most_rows=10_000,
    short=True,
)


class Bench:
    """Runs probes, with an oracle cache that is private to this run."""

    def __init__(self, folder: Path, size: Size = WHOLE) -> None:
        self._folder = folder
        self.size = size

    def run(
        self, kind: str, *words: str, cache: str = "off", environment: Mapping[str, str] | None = None
    ) -> tuple[float, dict[str, Any]]:
        """(seconds, result) of a probe in a fresh process; the time includes the start of the process."""
        result = self._folder / "result.json"
        result.unlink(missing_ok=True)
        size = "short" if self.size.short else "whole"
        variables = {**(environment or {}), "CONFORMANCE_BENCH": size, "PYTEST_ADDOPTS": ""}
        began = time.perf_counter()
        process = self._python("conformance.bench.probe", kind, str(result), *words, cache=cache, environment=variables)
        seconds = time.perf_counter() - began
        if process.returncode or not result.exists():
            raise BenchError(f"{kind} {' '.join(words)}: exit status {process.returncode}\n{process.stderr[-2000:]}")
        if cache != "off" and kind not in CACHELESS and not any((self._folder / cache).rglob("*")):
            raise BenchError(f"{kind} {' '.join(words)} kept no answer of the oracle in {self._folder / cache}")
        return seconds, json.loads(result.read_text())

    def _python(
        self, module: str, *words: str, cache: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a module in a separate process, with an oracle cache in the folder."""
        location = "off" if cache == "off" else str(self._folder / cache)
        return subprocess.run(  # noqa: S603
            [sys.executable, "-P", "-m", module, *words],
            cwd=self._folder,
            env={**os.environ, **(environment or {}), "CONFORMANCE_CACHE": location},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def rounds(self, cold: T, warm: T) -> tuple[T, ...]:
        """The measurements without and with cached answers of the oracle; a short run only takes the first."""
        return (cold,) if self.size.short else (cold, warm)

    def command(self, *words: str, cache: str = "off") -> tuple[float, float, Any]:
        """(seconds, processor seconds, output of --json) of the command line with the given arguments."""
        before, began = os.times(), time.perf_counter()
        process = self._python("conformance", *words, cache=cache)
        if process.returncode not in (0, 1):
            raise BenchError(
                f"conformance {' '.join(words)}: exit status {process.returncode}\n{process.stderr[-2000:]}"
            )
        processor = _child_seconds(os.times()) - _child_seconds(before)
        return time.perf_counter() - began, processor, json.loads(process.stdout) if "--json" in words else None

    def processor(self, kind: str, *words: str, cache: str = "off") -> tuple[float, dict[str, Any]]:
        """(processor seconds of the process and its children, result) of a probe."""
        before = os.times()
        result = self.run(kind, *words, cache=cache)[1]
        return _child_seconds(os.times()) - _child_seconds(before), result


def _child_seconds(times: os.times_result) -> float:
    return times.children_user + times.children_system


def startup(bench: Bench) -> Iterator[Measurement]:
    """Start of `conformance --version`, of `--help`, and of `pytest -k sklearn` relative to the import of scikit-learn.

    In processor time, and with a warm cache unless the measurement is short.
    """
    for word in ("--version", "--help"):
        seconds = min(bench.command(word)[1] for _ in range(bench.size.repeats))
        yield Measurement(f"processor time of conformance {word}", seconds, "s", 0.3)
    names = [words for words, _ in commands()][: 1 if bench.size.short else None]
    helps = [(min(bench.command(*words, "--help")[1] for _ in range(bench.size.repeats)), words) for words in names]
    seconds, words = max(helps)
    note = f"{' '.join(words)}, the slowest of {len(names)}; typer imports pydantic, a quarter of it"
    yield Measurement("processor time of conformance COMMAND --help", seconds, "s", 0.4, note, 0.3)
    keyword = " and ".join(filter(None, ("sklearn", bench.size.keyword)))
    if not bench.size.short:
        for words in (("rows", bench.size.keyword, "sklearn"), ("pytest", "-k", keyword)):
            bench.run(*words, cache="startup")  # fills the cache with answers, and with what is remembered of cases
    rounds = []
    for _ in range(bench.size.repeats):
        bare, _ = bench.processor("started", "sklearn.metrics")
        measured_rows = bench.run("rows", bench.size.keyword, "sklearn", cache="startup")[1]
        cases = measured_rows["seconds"]
        total, result = bench.processor("pytest", "-k", keyword, cache="startup")
        if result["status"] not in (0, 1) or "sklearn" not in result["modules"]:
            raise BenchError(f"pytest -k {keyword}: exit status {result['status']}")
        if result["rows"] != len(measured_rows["rows"]):
            raise BenchError(f"pytest -k {keyword} has {result['rows']} rows, not {len(measured_rows['rows'])}")
        note = f"{total:.2f} s, of which import sklearn.metrics {bare:.2f} s and the cases {cases:.2f} s"
        rounds.append((total - bare - cases, note))
    foreign = {module for framework in frameworks() if framework.name != "sklearn" for module in framework.modules}
    loaded = sorted(foreign & set(result["modules"]))
    yield Measurement("other frameworks that pytest -k sklearn imports", len(loaded), "", 0, ", ".join(loaded))
    middle_round, note = sorted(rounds)[bench.size.repeats // 2]
    yield Measurement(
        "processor time of pytest -k sklearn without the import and the cases", middle_round, "s", 1.5, note, 1.0
    )


def per_row(bench: Bench) -> Iterator[Measurement]:
    """Time per row of a small case, excluding the framework's call."""
    for temperature, repeats, limit in bench.rounds(("cold", 1, 3.0), ("warm", 2, 1.0)):
        median, mean, count, note = min(_small_rows(bench) for _ in range(repeats))
        label = f"a small row without the call, oracle {temperature}"
        yield Measurement(f"{label}, median of {count}", median, "ms", limit, note, 0.5)
        yield Measurement(f"{label}, mean", mean, "ms", target=1.0)


def _small_rows(bench: Bench) -> tuple[float, float, int, str]:
    """Median, mean, count and medians by framework of the times of small rows, in ms."""
    spent: dict[str, list[float]] = {}
    for framework, small, seconds in bench.run("rows", *bench.size.words, cache="rows")[1]["rows"]:
        if small:
            spent.setdefault(framework, []).append(seconds * 1e3)
    everything = [ms for times in spent.values() for ms in times]
    note = ", ".join(f"{framework} {statistics.median(times):.2f}" for framework, times in spent.items())
    return statistics.median(everything), statistics.mean(everything), len(everything), note


def whole_corpus(bench: Bench) -> Iterator[Measurement]:
    """`conformance run` in one process relative to a program that only performs the same imports and calls.

    In processor time and alternately, so that other load on the machine affects both.
    """
    ratios = []
    for temperature, repeats, limit in bench.rounds(("cold", 1, None), ("warm", bench.size.repeats, RUN_TO_BARE)):
        rounds = []
        for _ in range(repeats):
            spent, result = bench.processor("corpus", "--in-process", *bench.size.options, cache="corpus")
            bare, _ = bench.processor("imported", *bench.size.frameworks)
            called = bench.run("called", *bench.size.words)[1]
            _whole_run(result, called)
            note = f"{spent:.1f} s; a program that only imports takes {bare:.1f} s, the calls {called['calls']:.1f} s"
            rounds.append((spent / (bare + called["calls"]), f"{note}; {result['rows']} rows"))
        ratio, note = sorted(rounds)[repeats // 2]
        label = f"processor time of conformance run to imports and calls, oracle {temperature}"
        yield Measurement(label, ratio, "", limit, note, 1.4)
        ratios.append(ratio)
    if len(ratios) > 1:
        yield Measurement("the same of a cold oracle to a warm one", ratios[0] / ratios[1], "", target=1.1)


def _whole_run(run: dict[str, Any], called: dict[str, Any]) -> None:
    """Raise BenchError unless a run succeeded and has a row for each call that the bare program makes."""
    if run["status"] not in (0, 1):
        raise BenchError(f"conformance run: exit status {run['status']}")
    if not run["rows"] == called["count"] == called["items"] or not called["calls"] > 0:
        raise BenchError(
            f"conformance run has {run['rows']} rows; bare are {called['count']} calls of {called['items']}"
        )


def isolation(bench: Bench) -> Iterator[Measurement]:
    """Worker processes relative to the same run in one process, in wall-clock time; and a call in a worker."""
    if not bench.size.short:
        bench.run("corpus", cache="isolation")  # fills the cache
    # The faster of two, because other load on the machine only adds time.
    (together, in_one), (in_workers, result) = (
        min(
            (bench.run("corpus", *way, *bench.size.options, cache="isolation") for _ in bench.rounds(0, 1)),
            key=operator.itemgetter(0),
        )
        for way in (("--in-process",), ())
    )
    if in_one["rows"] != result["rows"]:
        raise BenchError(f"conformance run has {result['rows']} rows, and {in_one['rows']} in one process")
    target = 0.55 if available_cores() == 2 else None
    note = f"{in_workers:.1f} s; in one process {together:.1f} s"
    yield Measurement(WORKERS_TO_ONE, in_workers / together, "", target, note, target)
    trips = bench.run("round_trip")[1]
    for kind, subject, limit in (("nothing", "nothing", 200), ("real", "scikit-learn", None)):
        extra = statistics.median(remote - local for remote, local in trips[kind])
        local = statistics.median(local for _, local in trips[kind])
        note = f"{1e6 * local:.0f} us in this process, median of {len(trips[kind])} calls"
        yield Measurement(f"a round trip to a worker with {subject} at its end", 1e6 * extra, "us", limit, note)
    yield Measurement("seconds that a worker takes for 500 MB", 500e6 / trips["rate"], "s", 1.0)


def auditing(bench: Bench) -> Iterator[Measurement]:
    """An audit, with new and with existing environments."""
    for temperature, limit in (("made", None), ("existing", 15.0)):
        seconds = bench.command("audit", *AUDITED, cache="audit")[0]
        yield Measurement(
            f"conformance audit of {' and '.join(AUDITED)}, environments {temperature}", seconds, "s", limit
        )


def relations(bench: Bench) -> Iterator[Measurement]:
    """All relations of all functions."""
    names = [word for name in bench.size.frameworks for word in ("--framework", name)]
    keyword = ("-k", bench.size.keyword) if bench.size.keyword else ()
    _, seconds, result = bench.command("relations", "--json", *names, *keyword)
    note = f"{result['planned']} instances in {seconds:.1f} s, with imports and their selection"
    yield Measurement("a relation with its calls", 1e3 * seconds / result["planned"], "ms", 6.0, note)


def memory(bench: Bench) -> Iterator[Measurement]:
    """Peak memory of the row of a large case, minus that of the call."""
    for name in bench.size.frameworks or [installation.framework.name for installation in installed()[0]]:
        bare = bench.run("bare_memory", name)[1]
        with_harness = bench.run("row_memory", name)[1]
        if with_harness["function"] != bare["function"] or with_harness["status"] not in ("agrees", "diverges"):
            raise BenchError(f"the row of {name} in memory {with_harness['status']}, of {with_harness['function']}")
        note = f"{with_harness['bytes'] / MIB:.0f} MiB, of which {bare['bytes'] / MIB:.0f} MiB without the harness"
        extra = (with_harness["bytes"] - bare["bytes"]) / MIB
        shape = " x ".join(map(str, bare["shape"]))
        yield Measurement(f"memory of a row of {shape} in addition to {bare['function']}", extra, "MiB", 1024, note)


def many_cases(bench: Bench) -> Iterator[Measurement]:
    """`conformance run` of many small cases in one process: peak memory, and processor time of a case."""
    framework, *_ = bench.size.frameworks or ("sklearn",)
    few, many = (bench.run("many_cases", str(count), framework)[1] for count in bench.size.cases)
    for count, result in zip(bench.size.cases, (few, many), strict=True):
        if result["status"] != 0 or result["rows"] < count:
            raise BenchError(f"conformance run of {count} cases: {result}")
        limit = CASES_BYTES + count * CASE_BYTES
        label = f"memory of conformance run, {count:,} cases of {framework}"
        note = f"{result['rows']:,} rows"
        yield Measurement(label, result["bytes"] / 1e6, "MB", limit / 1e6, note, any_machine=True)
    fewer, more = bench.size.cases
    milliseconds = 1e3 * (many["seconds"] - few["seconds"]) / (more - fewer)
    note = f"{few['seconds']:.1f} s for {fewer:,}, {many['seconds']:.1f} s for {more:,}"
    yield Measurement(f"processor time of one more case of {framework}", milliseconds, "ms", 30.0, note)


def assertions(bench: Bench) -> Iterator[Measurement]:
    """`assert_cross_entropy`: processor time, and memory of its process in addition to the logits."""
    rounds = [bench.run("asserted")[1] for _ in range(bench.size.repeats)]
    small, large = (min(result[name] for result in rounds) for name in ("small", "ratio"))
    result = rounds[0]
    shape = " x ".join(map(str, result["shape"]))
    yield Measurement("assert_cross_entropy of 32 x 10 in float64", 1e3 * small, "ms", 5.0)
    yield Measurement(f"assert_cross_entropy of {shape} in bfloat16 to a log-softmax in float64", large, "", 5.0)
    note = f"the logits have {result['array'] / MIB:.0f} MiB"
    yield Measurement(
        "memory of its process beside the logits", (result["bytes"] - result["array"]) / MIB, "MiB", 2048, note
    )


def checks(bench: Bench) -> Iterator[Measurement]:
    """`check` of a NumPy function: time until the first verdict and in total, including the start of its process."""
    seconds, result = bench.run("checked", "index_labels" if bench.size.short else "")
    note = f"{result['calls']} calls, {result['relations']} relations, {result['drawn']} random problems"
    yield Measurement("check of a function of NumPy until its first verdict", seconds - result["after"], "s", 5.0)
    yield Measurement("check of a function of NumPy", seconds, "s", 60.0, note)


def comparisons(bench: Bench) -> Iterator[Measurement]:
    """`compare` of a framework's functions in one process, relative to the slowest of their calls."""
    available = {installation.framework.name for installation in installed()[0]}
    cheapest = [
        name for name in dict.fromkeys(function.partition(".")[0] for function in CHEAPEST) if name in available
    ]
    for name in bench.size.frameworks or cheapest:
        bare, compared = bench.run("bare_compared", name)[1], bench.run("compared", name)[1]
        shape = " x ".join(map(str, bare["shape"]))
        slowest, all_calls = max(bare["calls"]), sum(bare["calls"])
        own_seconds = compared["large"] - all_calls
        note = f"{own_seconds:.2f} s beside {len(bare['calls'])} calls of {all_calls:.2f} s"
        extra = (compared["bytes"] - bare["bytes"]) / compared["array"]
        label = f"compare of {shape} for {name}"
        yield Measurement(f"compare of a small data set for {name}, without imports", compared["small"], "s", 3.0)
        yield Measurement(f"{label} with the slowest call alone, to that", own_seconds / slowest + 1, "", 3.0, note)
        yield Measurement(f"memory of {label} beyond that of its calls, in arrays", extra, "", 3.0, target=2.0)


def fuzzing(bench: Bench) -> Iterator[Measurement]:
    """Time of a random case: its exact answer, its judgement and the framework's call, without imports."""
    names = [function.name for installation in installed()[0] for function in installation.functions]
    cheapest = next((name for name in CHEAPEST if name in names), names[0])
    words = ("--framework", cheapest.partition(".")[0], "-k", f"{cheapest}- and not gradient")
    count = str(bench.size.random_cases)
    rounds = [bench.command("fuzz", "--json", *words, "--cases-count", count)[2] for _ in range(bench.size.repeats)]
    if not all(result["rows"] >= result["cases"] > 0 for result in rounds):
        raise BenchError(f"{rounds} for {count} cases")
    milliseconds = min(1e3 * result["seconds"] / result["cases"] for result in rounds)
    note = f"{1e3 / milliseconds:.0f} cases a second"
    yield Measurement(f"a random case for {cheapest}", milliseconds, "ms", 1e3 / 300, note)


def mutation_score(bench: Bench) -> Iterator[Measurement]:
    """Mutation score of the shipped cases, and random cases on the correct implementations."""
    family = ("--family", "returned") if bench.size.short else ()
    for temperature, limit in bench.rounds(("cold", None), ("warm", 60.0)):
        _, seconds, result = bench.command("mutants", "--json", *family, cache="mutants")
        note = f"{result['killed']} of {result['of']} mutants are killed"
        yield Measurement(f"conformance mutants on one core, oracle {temperature}", seconds, "s", limit, note)
    count = bench.size.correct_cases
    _, seconds, result = bench.command("mutants", "--json", "--right", "--generated", str(count))
    if result["items"] < count:
        raise BenchError(f"{result['items']} items of {count} cases")
    note = f"{result['items']} items, {len(result['alarms'])} false alarms; with imports"
    yield Measurement("a random case for correct implementations", 1e3 * seconds / count, "ms", 20.0, note)


def pages(bench: Bench) -> Iterator[Measurement]:
    """The HTML page of a large report, written and opened in a browser."""
    result = bench.run("paged", str(bench.size.rows))[1]
    yield Measurement(f"a page of {bench.size.rows:,} rows, written", result["seconds"], "s", 3.0)
    yield Measurement(f"a page of {bench.size.rows:,} rows", result["bytes"] / 1e6, "MB", 15.0)
    if bench.size.short:
        return
    rounds = [bench.run("browsed", str(bench.size.rows))[1] for _ in range(bench.size.repeats)]
    if not all(len(times) > 4 for result in rounds for times in result["filtered"].values()):
        raise BenchError("the page has no choices to filter by")
    yield Measurement(
        "a page of 50,000 rows, until it answers", min(max(result["opened"]) for result in rounds), "s", 2.0
    )
    for view in rounds[0]["filtered"]:
        middle = min(statistics.median(result["filtered"][view]) for result in rounds)
        note = f"slowest {1e3 * min(result['filtered'][view][-1] for result in rounds):.0f} ms"
        yield Measurement(f"a filter in {view.removesuffix('_view')}, 50,000 rows", 1e3 * middle, "ms", 100, note)


def reports(bench: Bench) -> Iterator[Measurement]:
    """A large report written to disk, with repeated texts like those of the shipped cases, and with distinct texts."""
    for texts in ("repeated", "distinct"):
        rounds = [bench.run("reported", str(bench.size.rows), texts)[1] for _ in range(bench.size.repeats)]
        result = min(rounds, key=lambda candidate: candidate["seconds"])
        if not result["pairs"] or not result["summary"]:
            raise BenchError(f"a report without pairs or summary: {result}")
        note = f"{result['pairs']} pairs; {result['framing']:.1f} s before it to put the rows into a frame"
        yield Measurement(
            f"a report of {bench.size.rows:,} rows, texts {texts}, written", result["seconds"], "s", 3.0, note
        )
        yield Measurement(f"summary.md of {bench.size.rows:,} rows, texts {texts}", result["summary"] / 1e3, "kB", 60.0)


def large_reports(bench: Bench) -> Iterator[Measurement]:
    """Peak memory of a process with large reports: of a run beside its calls, and of commands on reports.

    It is the resident memory with the interpreter and all modules; none of these processes has a child, and a framework
    is in the process of its calls.
    """
    rows = bench.size.most_rows
    limits = SHORT_REPORT_BYTES if bench.size.short else REPORT_BYTES
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: str(Path(folder, name)) for name in ("old", "new", "first", "second", "run", "whole")}
        bench.run("stored", str(rows), folder)
        run = bench.run("recorded", paths["old"], str(rows), paths["run"])[1]
        commands = {
            "diff": ("diff", paths["old"], paths["new"]),
            "merge": ("merge", paths["first"], paths["second"], "--report", paths["whole"]),
            "accept": ("accept", paths["new"], "--baseline", paths["old"], "--yes"),
        }
        taken = {"run --baseline": run} | {
            name: bench.run("large_command", *words)[1] for name, words in commands.items()
        }
    for name, result in taken.items():
        if result.get("status", 0) != 0:
            raise BenchError(f"conformance {name}: exit status {result['status']}")
        label = f"memory of conformance {name}, {rows:,} rows"
        yield Measurement(label, result["bytes"] / 1e6, "MB", limits[name] / 1e6, any_machine=True)
    milliseconds = 1e3 * run["seconds"] / rows
    yield Measurement(f"processor time of a row in a report of {rows:,}, written", milliseconds, "ms", 0.15)


def sweeps(bench: Bench) -> Iterator[Measurement]:
    """Sweeps relative to the calls they make, and the duration of exhaustive sweeps of narrow dtypes."""
    single = dict.fromkeys(THREADS, "1")
    functions = [f.name for installation in installed()[0] for f in installation.functions if "none" in f.reductions]
    if bench.size.short:
        functions = [name for name in functions if name == SHORT_SWEEP_FUNCTION] or functions[:1]
    ratios = [
        ratio for name in functions for ratio in bench.run("swept", name, environment=single)[1]["ratios"]
    ]  # a process each: none profits from what another has computed
    for dtype in ("float16", "bfloat16", "float32"):
        ratio, key, call = max((ratio, key, call) for key, ratio, call in ratios if key.endswith(f"|{dtype}"))
        note = (
            f"{key.partition('|')[0]}, {call:.1f} ns an input; middle {statistics.median(r for k, r, _ in ratios):.2f}"
        )
        yield Measurement(f"a sweep to the calls it makes, {dtype}, worst function", ratio, "", 3.0, note)
    binary = [
        f.name
        for installation in installed()[0]
        for f in installation.functions
        if "binary" in f.ranks and not f.default_files
    ]
    names = [name for name in functions if name in binary]
    _, seconds, swept = bench.command("sweep", "--json", *names, "--dtype", "float16", "--dtype", "bfloat16")
    note = f"{sum(line['count'] for line in swept['lines'])} inputs, with imports"
    yield Measurement("every float16 and bfloat16 for every binary function", seconds, "s", 60, note)


PARTS: dict[str, Callable[[Bench], Iterator[Measurement]]] = {
    "startup": startup,
    "rows": per_row,
    "corpus": whole_corpus,
    "isolation": isolation,
    "relations": relations,
    "audit": auditing,
    "memory": memory,
    "cases": many_cases,
    "assert": assertions,
    "check": checks,
    "compare": comparisons,
    "fuzz": fuzzing,
    "sweep": sweeps,
    "mutants": mutation_score,
    "page": pages,
    "report": reports,
    "large": large_reports,
}


NOT_SHORT = ("audit",)
"""Parts without a short form, because they need a package index."""


def measure(parts: list[str], size: Size = WHOLE) -> Iterator[Measurement]:
    """Yield the measurements of the given parts as they are taken; raises BenchError.

    A short run checks that the measurements work, and has no limit that a slow machine could exceed.
    """
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), size)
        for part in parts:
            if size.short and part in NOT_SHORT:
                continue
            count = 0
            for measurement in PARTS[part](bench):
                count += 1
                if not math.isfinite(measurement.measured):
                    raise BenchError(f"{measurement.what}: {measurement.measured}")
                unlimited = size.short and not measurement.any_machine
                yield dataclasses.replace(measurement, limit=None) if unlimited else measurement
            if not count:
                raise BenchError(f"{part}: nothing was measured")
