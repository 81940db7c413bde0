"""One measurement in a separate process: `python -m conformance.bench.probe KIND RESULT [WORD...]`.

KIND is the name of a function below and the WORDs are its arguments; its result is written to RESULT as JSON.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import math
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from conformance.adapters.arrays import Tensor
from conformance.adapters.contract import Framework
from conformance.adapters.contract.calling import perform
from conformance.adapters.contract.lowering import Call, lower
from conformance.adapters.contract.signatures import resolve
from conformance.adapters.registry import Installed, installed
from conformance.bench import echo
from conformance.casefiles.generated_arrays import GeneratedCase
from conformance.execution.assessing import judge_items
from conformance.execution.targets import worker_spec
from conformance.execution.workers.pool import LocalWorkerPool, WorkerSpec
from conformance.judging.case_set import load_case_set
from conformance.judging.choice import selected
from conformance.judging.judge import Judge
from conformance.judging.plan import Item, plan
from conformance.judging.prepare import prepare
from conformance.judging.row import COLUMNS, DEFAULTS, FLOATS, Row
from conformance.model.case import Case, numpy_dtype
from conformance.model.outcome import Outcome, Returned

SHORT = os.environ.get("CONFORMANCE_BENCH") == "short"
"""Whether only to check that the measurement works."""
SMALL = (32, 10)
"""Samples and classes of the cases on which the time per row is measured."""
LARGE = (2_000, 10) if SHORT else (100_000, 100)
"""Samples and classes of the case on which memory is measured."""
VOCABULARY = (64, 1024) if SHORT else (4096, 32_768)
"""Samples and classes of the logits of a large assertion."""
BLOCK = 64
"""Number of samples in a block of the log-softmax."""
COMPARED = ((20, 5), (2_000, 10)) if SHORT else ((1_000, 5), (1_000_000, 10))
"""Samples and classes of the two compared data sets."""
ASSERTIONS = 20
"""Number of repetitions of a small assertion."""
SLICES = 2 if SHORT else 40
"""Number of float32 chunks that a sweep samples."""
ROUNDS, NARROW_ROUNDS = (1, 1) if SHORT else (3, 30)
"""Number of repetitions of a sweep, and of one of a narrow dtype, which is a single call of about a millisecond."""
ECHO = "conformance.bench.echo.first"
LARGE_BYTES = (10 if SHORT else 200) * 2**20
"""Size of the array whose transfer to a worker is timed."""
QUIET = ("-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:xdist")
"""Options that load only this plugin in pytest; importing Hypothesis's alone takes as long as the rest of the start."""
Result = dict[str, Any]


class Stopwatch:
    """Performs calls; accumulates the time of the frameworks' own calls, without conversions from and to numpy."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.calls = 0.0
        self.count = 0
        self._began = self._ended = 0.0
        self._watched: dict[str, Framework] = {}

    def __call__(self, framework: Framework, call: Call, description: str, copied: bool = True) -> Outcome:
        if framework.name not in self._watched:
            arrays = framework.runtime()[0]
            watched = dataclasses.replace(
                arrays,
                native=lambda memory: self._convert_arguments(arrays.native, memory),
                numpy=lambda result: self._convert_result(arrays.numpy, result),
            )
            backends = {
                name: dataclasses.replace(backend, arrays=watched) for name, backend in framework.backends.items()
            }
            self._watched[framework.name] = dataclasses.replace(framework, arrays=watched, backends=backends)
        self.count += 1
        self._began = self._ended = 0.0
        outcome = perform(self._watched[framework.name], call, description, copied)
        assert self._began or not call.arrays, f"nothing of {description} went through the framework's arrays"
        self.calls += (self._ended or self.clock()) - self._began
        return outcome

    def _convert_arguments(self, convert: Callable[..., Any], memory: Any) -> Any:
        converted = convert(memory)
        self._began = self.clock()
        return converted

    def _convert_result(self, convert: Callable[..., Any], result: Any) -> Any:
        self._ended = self.clock()
        return convert(result)


def started(module: str) -> Result:
    """Only import a module."""
    importlib.import_module(module)
    return {}


def imported(*frameworks: str) -> Result:
    """Only import frameworks; all by default."""
    _import(_find_installed(frameworks))
    return {}


def called(keyword: str, *frameworks: str) -> Result:
    """Only call every item; processor and wall-clock seconds of the calls, excluding their preparation."""
    available = _find_installed(frameworks)
    _import(available)
    processor, wall = Stopwatch(time.process_time), Stopwatch()
    items = _select_items(keyword, available)
    for item in items:
        prepared = prepare(item)
        for watch in (processor, wall):  # each call twice, so that neither clock counts the other's
            watch(item.framework, prepared.call, prepared.description)
    return {"calls": processor.calls, "wall": wall.calls, "count": processor.count, "items": len(items)}


def pytest(*arguments: str) -> Result:
    """Run `pytest` on the conformance test without other plugins; its rows and the modules loaded at the end."""
    import pytest

    from conformance.plugin.arguments import TEST_FILE

    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report")
        status = pytest.main([str(TEST_FILE), "--rootdir", folder, "--report", str(report), *QUIET, *arguments])
        rows = _count_finished_rows(report)
    return {"status": int(status), "modules": sorted(sys.modules), "rows": rows}


def rows(keyword: str, *frameworks: str) -> Result:
    """Compute the rows of some frameworks (default: all) one by one, after the imports.

    The time of a row is the processor time of its thread, so that other load on the machine matters less; `seconds` is
    that of the process for all rows.
    """
    from conformance.reference.oracle import cached_oracle

    ledger = load_case_set().ledger
    available = _find_installed(frameworks)
    _import(available)
    watch = Stopwatch(time.thread_time)
    small_rows = []
    began = time.process_time()
    with cached_oracle() as oracle:
        items = _select_items(keyword, available)
        judged = judge_items(items, Judge(oracle, ledger, performer=watch))
        for item in items:
            before, start = watch.calls, time.thread_time()
            row = next(judged)
            assert isinstance(row, Row), row
            row.cells  # noqa: B018
            spent = time.thread_time() - start
            small_rows.append((item.framework.name, _small(item.case), spent - (watch.calls - before)))
    assert watch.count == len(small_rows), f"{watch.count} calls for {len(small_rows)} rows"
    return {"rows": small_rows, "seconds": time.process_time() - began}


def corpus(*options: str) -> Result:
    """Run `conformance run` and return its number of rows."""
    with tempfile.TemporaryDirectory() as folder:
        status = _command("run", "--report", str(Path(folder, "report")), *options)
        return {"status": status, "rows": _count_finished_rows(Path(folder, "report"))}


def many_cases(count: str, framework: str) -> Result:
    """Run `conformance run` in one process on this number of small generated cases; peak memory, and seconds."""
    with tempfile.TemporaryDirectory() as folder:
        file, report = Path(folder, "drawn.yaml"), Path(folder, "report")
        case = "  c{0}: {{predictions: {1}, labels: {2}}}\n"
        drawn = np.random.default_rng(0)
        with file.open("w", encoding="utf-8") as text:
            text.write("loss: categorical\ngiven: logits\ntarget: index\ncases:\n")
            for number in range(int(count)):
                predictions, labels = drawn.normal(size=(4, 3)).round(3), drawn.integers(0, 3, 4)
                text.write(case.format(number, predictions.tolist(), labels.tolist()))
        began = time.process_time()
        options = ("--in-process", "--cases", str(file), "--framework", framework)
        status = _command("run", "--report", str(report), *options)
        seconds = time.process_time() - began
        return {"status": status, "rows": _count_finished_rows(report), "seconds": seconds, "bytes": _peak()}


def _command(*words: str) -> int:
    """Run the command line in this process and return its exit status."""
    from conformance.cli import app

    try:
        app(list(words))
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def _count_finished_rows(report: Path) -> int:
    """The number of rows with a call in a complete report."""
    record = json.loads((report / "run.json").read_text(encoding="utf-8"))
    assert record["complete"], record
    return int(record["finished"]) - int(record["status"].get("unsupported", 0))


def round_trip() -> Result:
    """Seconds of small calls of scikit-learn in a worker and in this process, and the same of calls that do nothing.

    Also the bytes per second of a transfer to a worker.
    """
    framework = next(
        installation.framework for installation in installed()[0] if installation.framework.name == "sklearn"
    )
    calls = [prepared.call for prepared in map(prepare, _small_items("sklearn")[:: 50 if SHORT else 1])]
    calls = [call for call in calls if isinstance(perform(framework, call, ""), Returned)]
    empty = [dataclasses.replace(call, text=f"{ECHO}({', '.join(call.arrays)})") for call in calls]
    specs = [worker_spec("sklearn", framework), WorkerSpec("echo", "conformance.bench.echo:FRAMEWORK")]
    with LocalWorkerPool(specs) as pool:

        def beside(framework: Framework, call: Call) -> tuple[float, float]:
            """Alternate between both, so that other load on the machine affects both."""
            name = framework.name
            remote = _each(lambda call: pool.wait(pool.submit(name, call, "")), [call])
            return remote[0], _each(lambda call: perform(framework, call, ""), [call])[0]

        nothing = [beside(echo.FRAMEWORK, call) for call in empty]
        real = [beside(framework, call) for call in calls]
        large = Call(f"{ECHO}(x)", {"x": Tensor(np.zeros(LARGE_BYTES // 8))})
        sent, without_copy = (
            min(measured) for measured in zip(*(beside(echo.FRAMEWORK, large) for _ in range(5)), strict=True)
        )
    return {"nothing": nothing, "real": real, "rate": LARGE_BYTES / max(sent - without_copy, 1e-9)}


def swept(*functions: str) -> Result:
    """Sweeps of some functions and their bare calls on the same arrays, in processor time of this process.

    Every value of the narrow dtypes; a sample of the float32 chunks, evenly spread over all magnitudes.
    """
    from conformance.explore.sweep.comparer import Subject, sweep_chunk
    from conformance.explore.sweep.inputs import NARROW_DTYPES, end_pattern
    from conformance.explore.sweep.reference_values import Chunk, chunk_of
    from conformance.explore.sweep.runner import CHUNK_SIZE, SweepRequest, keep_memory, plan

    def chunks(subject: Subject) -> Iterator[Chunk]:
        family = subject.family
        last = end_pattern(family.input_kind, family.dtype)
        if family.dtype in NARROW_DTYPES:
            yield chunk_of(family, np.arange(last).astype(np.uint16))
        else:
            step = CHUNK_SIZE[family.input_kind]
            for start in range(0, last - step, last // SLICES):
                yield Chunk(family, np.arange(start, start + step, dtype=np.uint32))

    jobs, _ = plan(
        installed()[0], lambda name: name in functions, SweepRequest(dtypes=("float16", "bfloat16", "float32"))
    )
    ratios = []
    keep_memory()
    for subject in (job.subject for job in jobs):
        sweep_chunk(subject, next(chunks(subject)))  # warm-up
        rounds = []
        watch = Stopwatch(time.process_time)
        for _ in range(NARROW_ROUNDS if subject.family.dtype in NARROW_DTYPES else ROUNDS):
            watch.calls = 0.0
            began, inputs = time.process_time(), 0
            for chunk in chunks(subject):
                sweep_chunk(subject, chunk, functools.partial(watch, copied=not inputs))  # as `Job.run_unit` does
                inputs += len(chunk.patterns) * len(subject.family.signs) * len(subject.labels)
            rounds.append((time.process_time() - began, watch.calls))
        spent, calls = min(rounds)
        ratios.append((subject.key, spent / calls, 1e9 * calls / inputs))
    return {"ratios": ratios}


def _each(make: Callable[[Call], object], calls: list[Call]) -> list[float]:
    """Seconds of each call, after a warm-up with the first one."""
    make(calls[0])
    times = []
    for call in calls:
        began = time.perf_counter()
        outcome = make(call)
        times.append(time.perf_counter() - began)
        assert isinstance(outcome, Returned), outcome
    return times


def _small_items(framework: str) -> list[Item]:
    available = [installation for installation in installed()[0] if installation.framework.name == framework]
    return plan([case for case in load_case_set().cases if _small(case)], available)


def bare_memory(framework: str) -> Result:
    """Peak memory of arrays like those of the large case and one call with them."""
    item = _large_item(framework)
    problem = item.case.representative.problem(item.dtype, item.reduction)
    random = np.random.default_rng(0)
    predictions = random.random(LARGE, dtype=np.float32)
    predictions /= predictions.sum(axis=1, keepdims=True)
    call = lower(
        item.function,
        dataclasses.replace(
            problem,
            input_kind=item.function.input_kind_for(problem.input_kind),
            predictions=predictions.astype(numpy_dtype(item.dtype), copy=False),
            labels=random.integers(LARGE[1], size=LARGE[0]),
        ),
    )
    assert isinstance(perform(item.framework, call, "", copied=False), Returned)
    return {"function": item.function.name, "bytes": _peak(), "shape": LARGE}


def row_memory(framework: str) -> Result:
    """Peak memory of the large case's row, with its exact answer computed instead of cached."""
    from conformance.reference.oracle import Oracle

    item = _large_item(framework)
    row = Judge(Oracle(), load_case_set().ledger).assess(item).row
    return {"function": item.function.name, "bytes": _peak(), "status": row.status}


def asserted() -> Result:
    """`assert_cross_entropy` on a small problem and on a vocabulary, and a blocked log-softmax in float64."""
    from conformance.testing import assert_cross_entropy

    random = np.random.default_rng(0)
    rows, classes = VOCABULARY
    logits = np.empty(VOCABULARY, numpy_dtype("bfloat16"))
    for start in range(0, rows, BLOCK):
        logits[start : start + BLOCK] = random.normal(size=(BLOCK, classes))
    labels = random.integers(classes, size=rows)
    losses = np.empty(rows)
    began = time.process_time()
    for start in range(0, rows, BLOCK):
        x = logits[start : start + BLOCK].astype(np.float64)
        shifted = x - x.max(axis=1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        losses[start : start + BLOCK] = -log_p[np.arange(BLOCK), labels[start : start + BLOCK]]
    bare = time.process_time() - began
    small, few_labels = logits[: SMALL[0], : SMALL[1]].astype(np.float64), labels[: SMALL[0]] % SMALL[1]
    mean = (np.log(np.exp(small).sum(axis=1)) - small[np.arange(len(few_labels)), few_labels]).mean()
    times = []
    for _ in range(ASSERTIONS):
        began = time.process_time()
        assert_cross_entropy(mean, logits=small, labels=few_labels)
        times.append(time.process_time() - began)
    began = time.process_time()
    assert_cross_entropy(np.float32(losses.mean()), logits=logits, labels=labels)
    large = time.process_time() - began
    return {"small": min(times), "ratio": large / bare, "bytes": _peak(), "array": logits.nbytes, "shape": VOCABULARY}


def checked(keyword: str) -> Result:
    """A check of a NumPy function: seconds after its first verdict, and numbers of calls, random cases and relations.

    keyword: selects cases as `-k` does, without relations and random problems; all if empty.
    """
    from conformance import api

    verdicts: list[float] = []

    class Clock(api.Observer):
        def note(self, text: str) -> None:
            if text.startswith("the first "):
                verdicts.append(time.perf_counter())

    described = api.CheckedCallable(
        target="conformance.bench.echo:cross_entropy",
        like="torch.CrossEntropyLoss",
        arrays="numpy",
        targets=("index",),
        ranks=(2,),
    )
    with tempfile.TemporaryDirectory() as folder:
        result = api.check(described, api.CheckRequest(report=Path(folder), keyword=keyword), Clock())
    assert result.complete, result.stopped
    assert not result.wrong, result.mistakes
    after = time.perf_counter() - verdicts[0] if verdicts else 0.0
    return {"after": after, "calls": len(result.run.rows), "drawn": result.drawn, "relations": len(result.relations)}


def _data(shape: tuple[int, int]) -> tuple[Any, Any]:
    """Labels and logits in float32."""
    random = np.random.default_rng(0)
    return random.integers(shape[1], size=shape[0]), random.normal(size=shape).astype(np.float32)


def compared(framework: str) -> Result:
    """`compare` of a small and a large data set, without imports."""
    from conformance import api

    _import(_find_installed([framework]))
    small, large = map(_data, COMPARED)
    began = time.perf_counter()
    api.compare(*small, frameworks=[framework])
    seconds = time.perf_counter() - began
    began = time.process_time()
    result = api.compare(*large, frameworks=[framework])
    spent = time.process_time() - began
    functions = [function for function in result.explanation.functions if function.value is not None]
    assert functions, f"nothing of {framework} was called"
    return {"small": seconds, "large": spent, "bytes": _peak(), "array": large[1].nbytes, "functions": len(functions)}


def bare_compared(framework: str) -> Result:
    """Seconds of the calls that `compare` makes for the large data set, and their memory and that of a small one."""
    from conformance import api
    from conformance.api.data import read_data

    small, large = map(_data, COMPARED)
    api.compare(*small, frameworks=[framework])
    case, calls = read_data(*large).case, []
    for item in plan([case], _find_installed([framework])):
        if (item.dtype, item.reduction, item.quantity) == (case.dtypes[0], "mean", "loss"):
            watch = Stopwatch(time.process_time)
            watch(item.framework, prepare(item).call, item.id, copied=False)
            calls.append(watch.calls)
    return {"calls": calls, "bytes": _peak(), "shape": COMPARED[1]}


def _find_installed(names: Sequence[str]) -> list[Installed]:
    """The installed frameworks with these names; all if empty.  Raises LookupError for one that is not installed."""
    available = [installation for installation in installed()[0] if not names or installation.framework.name in names]
    if missing := {*names} - {installation.framework.name for installation in available}:
        raise LookupError(f"not installed: {', '.join(sorted(missing))}")
    return available


def _select_items(keyword: str, available: list[Installed]) -> list[Item]:
    """The items that `conformance run -k` executes."""
    items = selected(load_case_set().cases, available, keyword)
    assert items, f"no item matches {keyword!r}"
    return items


def _import(available: list[Installed]) -> None:
    """Import the frameworks."""
    for installation in available:
        installation.framework.prepare()
        for function in installation.functions:
            if not function.signature:  # else what it calls has no path that can be imported
                resolve(function.path)


def _shape(case: Case) -> tuple[int, int]:
    """(samples, classes), without generating arrays."""
    if isinstance(case, GeneratedCase):
        shape = (*case.recipe.shape, case.recipe.classes)
    else:
        shape = case.predictions.shape if case.loss == "categorical" else (*case.predictions.shape, 1)
    return math.prod(shape[:-1]), shape[-1]


def _small(case: Case) -> bool:
    samples, classes = _shape(case)
    return samples * classes <= SMALL[0] * SMALL[1]


def _large_item(framework: str) -> Item:
    available = [installation for installation in installed()[0] if installation.framework.name == framework]
    large = [case for case in load_case_set().cases if _shape(case) == LARGE]
    items = [item for item in plan(large, available) if item.case.target == "index"]
    if not items:
        raise LookupError(f"no case of {LARGE[0]} x {LARGE[1]} with index labels that {framework} takes")
    return items[0]


def _peak() -> int:
    """Peak memory of this process in bytes.

    On Linux `ru_maxrss` is at least the memory of the process that started this one, so it is not used there.
    """
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def paged(count: str) -> Result:
    """The HTML page of a report with this number of rows."""
    from conformance import report

    results = report.from_records(_large_rows(int(count)))
    began = time.perf_counter()
    text = report.page(results, report.RunInfo(len(results)))
    return {"seconds": time.perf_counter() - began, "bytes": len(text)}


def browsed(count: str) -> Result:
    """A page with this number of rows in headless Chromium: seconds until it responds, and of filters, by view."""
    import shutil

    from selenium import webdriver

    from conformance import report

    results = report.from_records(_large_rows(int(count)))
    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--lang=en-US"):
        options.add_argument(flag)
    filters = """
        const took = [];
        for (const name of ['framework', 'function', 'status', 'dtype']) {
            const choices = [...document.getElementById(`by-${name}`).options].slice(1, 3).map((one) => one.value);
            for (const value of [...choices, '']) {
                const select = document.getElementById(`by-${name}`), began = performance.now();
                select.value = value;
                select.dispatchEvent(new Event('change'));
                document.body.getBoundingClientRect();
                took.push((performance.now() - began) / 1000);
            }
        }
        return took;"""
    opened, filtered = [], {}
    with tempfile.TemporaryDirectory() as folder, webdriver.Chrome(options) as browser:
        file = Path(folder) / "index.html"
        file.write_text(report.page(results, report.RunInfo(len(results))), encoding="utf-8")
        browser.set_window_size(1300, 1000)
        for view in ("matrix", "causes", "errors", "known_view", "table"):
            browser.get("about:blank")
            began = time.perf_counter()
            browser.get(f"{file.as_uri()}#lang=en&view={view}")
            while not browser.execute_script("return document.body.dataset.ready"):
                time.sleep(0.01)
            opened.append(time.perf_counter() - began)
            filtered[view] = sorted(browser.execute_script(filters))
    return {"opened": opened, "filtered": filtered}


def reported(count: str, texts: str = "repeated") -> Result:
    """Write a report with this number of rows.  texts: `repeated` as in the shipped cases, or all `distinct`."""
    from conformance import report

    lines = list(_large_rows(int(count), distinct=texts == "distinct"))
    with tempfile.TemporaryDirectory() as folder:
        report.check_writable(Path(folder))
        began = time.perf_counter()
        results = report.from_records(lines)
        framed = time.perf_counter()
        record = report.write(Path(folder), results, report.RunInfo(len(results)))
        written = time.perf_counter()
        summary = (Path(folder) / "summary.md").stat().st_size
    pairs = sum(record["relations"].values())
    return {"framing": framed - began, "seconds": written - framed, "summary": summary, "pairs": pairs}


def stored(count: str, folder: str) -> Result:
    """Write reports with this number of rows, `old` and `new`, which differ in each hundredth row, and two halves."""
    from conformance import report

    old = report.from_records(_large_rows(int(count)))
    new = old.assign(got=old["got"].mask(old.index % 100 == 0, "0.5"))
    for name, results in (("old", old), ("new", new), ("first", new[::2]), ("second", new[1::2])):
        report.check_writable(Path(folder, name))
        report.write(Path(folder, name), report.merged([results]), report.RunInfo(len(results)))
    return {}


def large_command(*words: str) -> Result:
    """Run a command on large reports; peak memory of its process."""
    return {"status": _command(*words), "bytes": _peak()}


def recorded(baseline: str, count: str, folder: str) -> Result:
    """The part of `conformance run --baseline` beside the calls: peak memory, and processor time of the report.

    Rows arrive one by one, as from workers, and are journaled, written, and compared with the baseline.
    """
    from conformance.comparison.baseline import Baseline, ExpectedRows
    from conformance.report.recording import RecordedRun, empty_plan, iso_time

    accepted = Baseline.read(Path(baseline))
    run = RecordedRun(Path(folder), lambda _: None)
    run.plan(empty_plan(iso_time(run.started), int(count)))
    absent = {name: None if name in FLOATS else "" for name in COLUMNS}
    for line in _large_rows(int(count)):
        run.accept(Row.of({**absent, **DEFAULTS, **line}))
    began = time.process_time()
    record = run.write()
    seconds = time.process_time() - began
    check = accepted.check(run.results, ExpectedRows())
    assert record["complete"]
    assert check.ok, check.lines()
    return {"bytes": _peak(), "seconds": seconds}


def _large_rows(count: int, distinct: bool = False) -> Iterator[dict[str, Any]]:
    """Distinct rows of five functions per problem: one diverges, and one disagrees on every fourth problem.

    As in the report on the shipped cases, two answers in five are distinct, and nearly every call.
    distinct: all answers, exact answers and messages are distinct.
    """
    for n in range(count):
        problem, function = divmod(n, 5)
        scale = n if distinct else 2 * problem + function % 2
        disagrees = function == 3 and problem % 4 == 0
        status = "diverges" if function == 2 else "disagrees" if disagrees else "agrees"
        values = [((n if distinct else problem) + 1) / k for k in range(3, 15 if problem % 2 == 0 else 4)]
        off = {"diverges": 1.5, "disagrees": 1 + n / count}.get(status, 1.0)
        yield {
            "case": f"drawn/family_{problem % 40}/case_{problem}",
            "digest": f"{problem:016x}",
            "function": f"framework_{function % 3}.Function{function}",
            "framework": f"framework_{function % 3}",
            "dtype": ("float16", "float32", "float64")[problem % 3],
            "reduction": ("none", "mean")[problem % 2],
            "quantity": "loss",
            "status": status,
            "expected": "known" if status == "disagrees" else "ok",
            "known": f"reason {n if distinct else problem % 50}" if status == "disagrees" else "",
            "convention": f"choice_{n if distinct else problem % 7}=value" if status == "diverges" else "",
            "explanation": f"error of {n} times the tolerance" if distinct or status == "disagrees" else "",
            "warnings": f"RuntimeWarning: {n} was rounded" if distinct else "",
            **{name: (scale + 1) / place for place, name in enumerate(("error", "budget", "ratio", "ulps"), start=3)},
            "got": str([off * value + (scale + 1) * 1e-12 for value in values]),
            "want": str(values),
            "want_by_convention": str([1.5 * value for value in values]) if status == "diverges" else "",
            "budgets": str([float(f"{value * 1e-7 + n * 1e-12:.4g}") for value in values]),
            "call": f"import framework; framework.Function{function}({[problem / k for k in range(3, 25)]}, {n})",
        }


if __name__ == "__main__":
    kind, result, *words = sys.argv[1:]
    Path(result).write_text(json.dumps(globals()[kind](*words)))
