"""Sweeps: answers and budgets for many inputs are the oracle's, faults are found where they are, nothing is lost."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from collections import defaultdict

import numpy as np
import pytest
from typer.testing import CliRunner

from conformance import api
from conformance.adapters import registry
from conformance.adapters.contract.calling import perform
from conformance.adapters.contract.lowering import lower
from conformance.casefiles.known_issues import SWEEP_PREFIX, KnownIssue, Ledger
from conformance.cli import app
from conformance.explore.state_file import StateError
from conformance.explore.sweep import long_means, runner, table
from conformance.explore.sweep.comparer import Comparer, Subject, sweep_chunk, sweep_outside
from conformance.explore.sweep.counts import BINS, LargestError, RegionCounts, add_ulps
from conformance.explore.sweep.inputs import (
    NARROW_DTYPES,
    band_slices,
    bands,
    bit_pattern,
    end_pattern,
    sampled_patterns,
    sparse_patterns,
    values,
    values_outside,
)
from conformance.explore.sweep.reference_values import FLOAT64_LOSS_ERROR, Chunk, ProblemFamily, has_formula, ulps_of
from conformance.explore.sweep.runner import Job, load_state, sweep
from conformance.judging.case_set import CaseSet, load_case_set
from conformance.judging.effects import loss_choices, with_numeric_choices
from conformance.judging.verdict import judge
from conformance.model.case import ByOracle, numpy_dtype
from conformance.model.convention import DEFINITION, Convention
from conformance.reference import error_bound, oracle
from conformance.reference.oracle import Oracle
from conformance.tests import miniatures

NARROWER = ("float16", "bfloat16", "float32")
CLIPS = Convention(clip=1e-7)
CONVENTIONS = {
    "logits": (DEFINITION, Convention(cancellation="logits")),
    "log_probabilities": (DEFINITION,),
    "probabilities": (
        DEFINITION,
        CLIPS,
        Convention(clip="dtype"),
        Convention(log_floor=-100.0),
        Convention(log_offset=1e-7),
        Convention(renormalise="before_clip"),
        Convention(renormalise="after_clip"),
        Convention(clip=1e-7, renormalise="before_clip"),
        Convention(clip=1e-7, renormalise="after_clip"),
    ),
}


def families(dtypes=NARROWER):
    for dtype in dtypes:
        for input_kind in ("logits", "probabilities"):
            yield ProblemFamily("binary", input_kind, "binary", dtype)
        for target in ("index", "one_hot"):
            for input_kind in CONVENTIONS:
                yield ProblemFamily("categorical", input_kind, target, dtype)
            yield ProblemFamily("categorical", "logits", target, dtype, -16.0)


def answers(dtypes=NARROWER):
    for family in families(dtypes):
        for convention in CONVENTIONS[family.input_kind]:
            if family.loss == "binary" and convention.renormalise != "no":
                continue
            for sign in family.signs:
                for label in family.labels:
                    yield family, convention, sign, label


# Exactness.


@pytest.mark.parametrize("dtype", NARROWER)
def test_reference_values_match_oracle_within_certified_bound(dtype):
    compared = 0
    for family, convention, sign, label in answers((dtype,)):
        chunk = Chunk(family, sparse_patterns(family.input_kind, dtype, 40, family.shift))
        want = chunk.exact_losses(sign, label, convention, convention).hi
        assert len(want) > 20
        exact = oracle.evaluate(family.problem(chunk.x(sign), np.full(len(want), label)), loss_choices(convention))
        hi = exact.hi.reshape(-1)
        finite = np.isfinite(hi)
        assert (np.isfinite(want) == finite).all(), (family, convention)
        assert (want[~finite] == hi[~finite]).all()
        error = np.abs((want[finite] - hi[finite]) - exact.lo.reshape(-1)[finite])
        if has_formula(family, convention, convention):
            assert (error <= FLOAT64_LOSS_ERROR * np.abs(hi[finite])).all(), (family, convention, sign, label)
            compared += 1
    assert compared > 30


@pytest.mark.parametrize("dtype", NARROWER)
def test_tolerances_equal_those_of_error_bound(dtype):
    for family, convention, sign, label in answers((dtype,)):
        for part in (DEFINITION, convention):
            chunk = Chunk(family, sparse_patterns(family.input_kind, dtype, 60, family.shift))
            tolerance = chunk.exact_losses(sign, label, part, convention).tolerance
            problem = family.problem(chunk.x(sign), np.full(len(tolerance), label))
            want = error_bound.tolerance(problem, with_numeric_choices(part, convention)).reshape(-1)
            assert tolerance == pytest.approx(want, rel=1e-9, abs=1e-300), (family, part, convention, sign, label)


def test_float64_uses_ball_arithmetic():
    family = ProblemFamily("binary", "logits", "binary", "float64")
    chunk = Chunk(family, sparse_patterns("logits", "float64", 30))
    answer = chunk.exact_losses(-1, 1, DEFINITION, DEFINITION)
    exact = oracle.evaluate(family.problem(chunk.x(-1), np.ones(len(answer.hi), int)))
    assert answer.lo is not None
    assert np.abs(answer.lo).max() > 0
    assert (answer.hi == exact.hi.reshape(-1)).all()


def subject_of(loss, family, labels=None):
    return Subject(miniatures.installed(loss), f"miniature.{loss.__name__}", family, labels or family.labels)


def said(tallies):
    return {name: dict(tally.said) for name, tally in tallies.items()}


@pytest.mark.parametrize(
    ("loss", "input_kind", "dtype"),
    [
        (miniatures.Binary, "logits", "float16"),
        (miniatures.CancelsLogits, "logits", "float32"),
        (miniatures.FloorsTheLog, "probabilities", "float32"),
        (miniatures.FloorsTheLog, "probabilities", "bfloat16"),
        (miniatures.LogOfSigmoid, "logits", "float16"),
    ],
)
def test_verdicts_equal_those_of_judge_input_by_input(loss, input_kind, dtype):
    family = ProblemFamily("binary", input_kind, "binary", dtype)
    subject = subject_of(loss, family)
    chunk = Chunk(family, sparse_patterns(input_kind, dtype, 60))
    counted = defaultdict(int)
    for sign in family.signs:
        for label in family.labels:
            for place in range(len(chunk.patterns)):
                one = family.problem(chunk.x(sign)[place : place + 1], np.array([label]))
                outcome = perform(subject.framework, lower(subject.function, one), "")
                verdict = judge(one, one, ByOracle(), subject.function, loss.documented, outcome, Oracle())
                counted[verdict.status, verdict.convention] += 1
    swept = defaultdict(int)
    for tally in sweep_chunk(subject, chunk).values():
        for key, count in tally.by_verdict.items():
            swept[key] += count
    assert swept == counted


@pytest.mark.parametrize("dtype", NARROWER)
def test_correctly_rounded_losses_have_the_counts_of_elementwise_comparison(dtype, monkeypatch):
    compared = 0
    for family in families((dtype,)):
        chunk = Chunk(family, sparse_patterns(family.input_kind, dtype, 300, family.shift))
        subject = subject_of(miniatures.Binary if family.loss == "binary" else miniatures.Categorical, family)
        for label in family.labels:
            for sign in family.signs:
                comparer = Comparer(subject, chunk, sign, label, dtype)
                answer = chunk.exact_losses(sign, label, DEFINITION, subject.row_convention)
                known, each = {}, {}
                comparer.compare(answer.rounded, known)
                with monkeypatch.context() as one_by_one:
                    one_by_one.setattr(
                        Comparer,
                        "_correctly_rounded",
                        lambda self, here, of: self._compare_band(of.rounded[here], here, of),
                    )
                    comparer.compare(answer.rounded, each)
                assert {k: v.as_record() for k, v in known.items()} == {k: v.as_record() for k, v in each.items()}, (
                    family
                )
                assert {tally.status for tally in known.values()} == {"agrees"}
                compared += 1
                at = len(chunk.patterns) // 2
                wrong, mixed = answer.rounded.copy(), {}
                wrong[at] -= 1
                comparer.compare(wrong, mixed)
                changed = [name for name, tally in mixed.items() if tally.as_record() != known[name].as_record()]
                regions = zip(chunk.regions(sign, label), chunk.bands, strict=True)
                assert changed == [name for name, (_, band) in regions if band.start <= at < band.stop]
    assert compared > 20


def test_ulp_of_negative_loss_is_positive():
    assert ulps_of(np.array([-2.0, -2.5]), "float32").tolist() == [2.0**-22]


def test_error_near_tolerance_is_decided_by_oracle(monkeypatch):
    family = ProblemFamily("binary", "logits", "binary", "float32")
    chunk = Chunk(family, np.array([bit_pattern(3.0, "float32")], dtype=np.uint32))
    answer = chunk.exact_losses(1, 0, DEFINITION, DEFINITION)
    asked = []
    real = oracle.evaluate
    monkeypatch.setattr(oracle, "evaluate", lambda *input_kind: asked.append(1) or real(*input_kind))
    near = ((0.9, "agrees", 0), (1 - 1e-9, "agrees", 1), (1 + 1e-9, "disagrees", 1), (1.1, "disagrees", 0))
    for off, status, decided in near:
        tallies = defaultdict(RegionCounts)
        asked.clear()
        comparer = Comparer(subject_of(miniatures.Binary, family), chunk, 1, 0, "float32")
        comparer.compare(answer.hi + off * answer.tolerance, tallies)
        assert tallies["positive_central_label_0"].status == status, off
        assert len(asked) == decided, off


# Inputs.


@pytest.mark.parametrize("dtype", sorted(NARROW_DTYPES))
def test_sweep_of_narrow_dtype_has_each_value_once(dtype):
    family = ProblemFamily("binary", "logits", "binary", dtype)
    asked = [Chunk(family, sampled_patterns("logits", dtype)).x(sign) for sign in family.signs]
    asked += list(values_outside("logits", dtype).values())
    bits = np.concatenate(asked).view(np.uint16)
    with np.errstate(invalid="ignore"):
        every = np.arange(1 << 16).astype(np.uint16).view(numpy_dtype(dtype)).astype(np.float64)
    assert len(np.unique(bits)) == len(bits) == (1 << 16) - int(np.isnan(every).sum()) + 1
    probable = values(sampled_patterns("probabilities", dtype), dtype).astype(np.float64)
    assert len(probable) == int(((every >= 0) & (every <= 1)).sum()) - 1  # -0.0 is 0.0


def test_units_of_exhaustive_sweep_have_each_float32_once():
    job = Job(subject_of(miniatures.Binary, ProblemFamily("binary", "logits", "binary", "float32")), exhaustive=True)
    last = end_pattern("logits", "float32")
    assert np.array([last], dtype=np.uint32).view(np.float32)[0] == np.inf
    edges = [next(job.patterns(unit))[0] for unit in range(job.units)] + [last]
    assert edges[0] == 0
    for unit in (0, 511, job.units - 1):
        found = np.concatenate(list(job.patterns(unit)))
        assert (found == np.arange(edges[unit], edges[unit + 1])).all()
        assert job.inputs(unit) == 4 * len(found)
    assert sum(job.inputs(unit) for unit in range(job.units)) == 2 * (2**32 - 2**24)


@pytest.mark.parametrize("input_kind", ["logits", "probabilities"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_band_slices_begin_at_band_limits(input_kind, dtype):
    patterns = sampled_patterns(input_kind, dtype)
    pieces = band_slices(patterns, input_kind, dtype)
    assert [where.start for _, where in pieces] == [0, *(where.stop for _, where in pieces[:-1])]
    assert pieces[-1][1].stop == len(patterns)
    assert [name for name, _ in pieces] == [band.name for band in bands(input_kind, dtype)]
    for (name, where), band in zip(pieces, bands(input_kind, dtype), strict=True):
        assert patterns[where.start] == band.low, name


# Faults.


class WrongSignBelowMinusTen(miniatures.Binary):
    """Forgets the sign of a logit below -10: the loss of a confident mistake is that of a success."""

    def losses(self, x, y):
        return super().losses(np.where(x < -10, -x, x), y)


class ClampsTheWrongEnd(miniatures.FloorsTheLog):
    """Clips a loss at 100 and then everything else to at least 100."""

    def losses(self, x, y):
        loss, weight = super().losses(x, y)
        return np.maximum(loss, x.dtype.type(100)), weight


class RaisesAtSeven(miniatures.Binary):
    """Refuses one logit."""

    def losses(self, x, y):
        miniatures.raise_if(np.any(x == 7), "seven")
        return super().losses(x, y)


class WritesIntoItsLogits(miniatures.Categorical):
    """Shifts the logits that it is handed."""

    def __call__(self, predictions, labels):
        loss = super().__call__(predictions, labels)
        predictions += 1
        return loss


class RefusesNan(miniatures.Binary):
    documented = Convention(rejects=frozenset({"nan_prediction"}))

    def losses(self, x, y):
        miniatures.raise_if(np.any(np.isnan(x)), "nan")
        return super().losses(x, y)


for found in (WrongSignBelowMinusTen, ClampsTheWrongEnd, RaisesAtSeven, RefusesNan, WritesIntoItsLogits):
    setattr(miniatures, found.__name__, found)  # where `path_of` looks for them


def wrong(loss, input_kind, dtype):
    family = ProblemFamily("binary", input_kind, "binary", dtype)
    job = Job(subject_of(loss, family))
    return {line["case"].rpartition("/")[2]: line for line in table.region_lines(job, job.run_unit(0), Ledger())}


def disagreeing(found):
    return {name for name, line in found.items() if line["status"] == "disagrees"}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_sweep_locates_wrong_sign_below_minus_ten(dtype):
    found = wrong(WrongSignBelowMinusTen, "logits", dtype)
    regions = {f"negative_{band}_label_{label}" for band in ("tail", "saturated") for label in (0, 1)}
    if dtype == "float32":
        regions |= {"negative_central_label_0", "negative_central_label_1"}
    assert disagreeing(found) - {"negative_infinite_label_0", "negative_infinite_label_1"} == regions
    worst = found["negative_tail_label_1"]
    assert float.fromhex(worst["ratio_at_hex"]) < -10
    assert worst["ratio"] > 100
    assert worst["disagrees"] <= worst["count"]


def test_sweep_locates_dropped_log1p_in_tail():
    found = disagreeing(wrong(miniatures.DropsTheTail, "logits", "float32"))
    central = {f"{side}_central_label_{label}" for side in ("positive", "negative") for label in (0, 1)}
    assert found == central | {"positive_tail_label_1", "negative_tail_label_0"}


def test_sweep_detects_clamp_at_wrong_end():
    found = disagreeing(wrong(ClampsTheWrongEnd, "probabilities", "float32"))
    assert {"lower_label_1", "upper_label_0", "one_label_1"} <= found
    assert "zero_label_1" not in found


def test_documented_choice_is_named_without_error():
    found = wrong(miniatures.FloorsTheLog, "probabilities", "float32")
    assert not disagreeing(found)
    zero = found["zero_label_1"]
    assert (zero["status"], zero["convention"], zero["diverges"]) == ("diverges", "log_floor=-100.0", 1)
    assert found["lower_label_1"]["status"] == "agrees"


def test_sweep_locates_single_rejected_input():
    found = wrong(RaisesAtSeven, "logits", "float16")
    assert disagreeing(found) == {"positive_central_label_0", "positive_central_label_1"}
    line = found["positive_central_label_0"]
    assert line["disagrees"] == 1
    assert line["ratio_at"] == 7.0
    assert "seven" in line["why"]
    assert line["count"] == len(
        [
            m
            for m in sampled_patterns("logits", "float16")
            if bit_pattern(2**-11, "float16") <= m < bit_pattern(7.6246, "float16")
        ]
    )


def test_documented_rejection_is_no_error():
    found = wrong(RefusesNan, "logits", "float32")
    assert found["nan_label_0"]["status"] == "diverges"
    assert "nan_prediction" in found["nan_label_0"]["convention"]


@pytest.mark.parametrize("loss", [miniatures.ReturnsDouble, miniatures.ReturnsColumns, WritesIntoItsLogits])
def test_result_of_wrong_form_fails_in_each_region(loss):
    family = ProblemFamily("categorical", "logits", "index", "float32")
    tallies = sweep_chunk(subject_of(loss, family), Chunk(family, sparse_patterns("logits", "float32", 20)))
    assert {tally.status for tally in tallies.values()} == {"disagrees"}
    assert all(tally.why for tally in tallies.values())


def test_values_outside_unit_interval_are_recorded_by_kind():
    subject = subject_of(miniatures.Binary, ProblemFamily("binary", "probabilities", "binary", "float32"))
    tallies = sweep_outside(subject)
    assert {name.rpartition("_label_")[0] for name in tallies} == set(values_outside("probabilities", "float32"))
    assert tallies["below_zero_label_0"].by_verdict == {("agrees", ""): 64}


@pytest.mark.parametrize("loss", [miniatures.Categorical, miniatures.ClipsAndRenormalises])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_sweep_of_correct_function_finds_no_error(loss, dtype, monkeypatch):
    monkeypatch.setattr(
        runner, "sampled_patterns", lambda input_kind, dtype, shift: sparse_patterns(input_kind, dtype, 600)
    )
    for input_kind in ("logits", "probabilities", "log_probabilities"):
        for target in ("index", "one_hot"):
            family = ProblemFamily("categorical", input_kind, target, dtype)
            job = Job(subject_of(loss, family))
            for line in table.region_lines(job, job.run_unit(0), Ledger()):
                assert line["status"] != "disagrees", (line["case"], line["why"])


# Tallies, state, processes.


def test_histogram_counts_each_error_once():
    ulps = np.array([0.0, 0.5, 0.6, 1.0, 1.5, 2.0, 3.0, 5.0, 1e3, 2.0**60, np.inf])
    histogram = np.zeros(BINS + 1, dtype=np.int64)
    add_ulps(histogram, ulps, np.inf)
    assert histogram[:5].tolist() == [2, 2, 2, 1, 1]
    assert histogram[11] == 1  # up to 1024
    assert histogram[-2:].tolist() == [1, 1]
    assert histogram.sum() == len(ulps)
    edges = np.array(table.HISTOGRAM_EDGES)
    for value in (0.7, 4.0, 4.1, 31.0, 900.0, 2.0**30):
        one = np.zeros(BINS + 1, dtype=np.int64)
        add_ulps(one, np.array([value]), value)
        assert one[int(np.searchsorted(edges, value))] == 1


def test_region_counts_merge_in_any_order_and_round_trip_json():
    one = RegionCounts({("agrees", ""): 3}, error_ratio=LargestError(0.5, 7, "0x1p+0", 1.0, 1.0))
    two = RegionCounts(
        {("agrees", ""): 1, ("disagrees", ""): 1}, error_ratio=LargestError(0.5, 3, "-0x1p+0", 1.0, 1.0), why="b"
    )
    three = RegionCounts(error_ratio=LargestError(math.inf, 9, "0x1p+1", math.nan, 1.0), why="a")
    left, right = RegionCounts(), RegionCounts()
    for part in (one, two, three):
        left.merge(RegionCounts.from_record(json.loads(json.dumps(part.as_record()))))
    for part in (three, two, one):
        right.merge(part)
    assert json.dumps(left.as_record()) == json.dumps(right.as_record())
    assert left.by_verdict == {("agrees", ""): 4, ("disagrees", ""): 1}
    assert (left.why, left.error_ratio.pattern, left.status) == ("a", 9, "disagrees")


@pytest.fixture
def short_units(monkeypatch):
    """An exhaustive float32 sweep of a few units."""
    last = 5 * (1 << 12) + 100
    monkeypatch.setattr(runner, "UNIT_SIZE", 1 << 12)
    monkeypatch.setattr(runner, "end_pattern", lambda *_: last)
    monkeypatch.setattr(runner, "SAVE_SECONDS", 0.0)
    return last


def exhaustive_job(loss=miniatures.CancelsLogits):
    return Job(subject_of(loss, ProblemFamily("binary", "logits", "binary", "float32")), exhaustive=True)


def records(state):
    """As text, in which a nan is like another."""
    found = {key: {name: tally.as_record() for name, tally in of.items()} for key, of in state.regions.items()}
    return json.dumps(found, sort_keys=True)


def test_resumed_sweep_equals_uninterrupted_sweep(short_units, tmp_path):
    job = exhaustive_job()
    assert job.units == 6
    whole = load_state(None, [job])
    sweep([job], whole)
    path = tmp_path / "state.json"

    def stop_at_the_third(what, count, calls=[]):  # noqa: B006
        calls.append(count)
        if len(calls) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep([job], load_state(path, [job]), advance=stop_at_the_third)
    resumed = load_state(path, [job])
    assert resumed.done[job.key] == {0, 1, 2}
    text = []
    sweep([job], resumed, advance=lambda what, count: text.append(count))
    assert sum(text) == 4 * short_units
    assert records(resumed) == records(whole)
    assert sum(tally.count for tally in resumed.regions[job.key].values()) == 4 * short_units + 6


def test_load_state_rejects_foreign_or_invalid_file(short_units, tmp_path):
    path = tmp_path / "state.json"
    load_state(path, [exhaustive_job()])
    with pytest.raises(StateError, match="another sweep"):
        load_state(path, [exhaustive_job(miniatures.Binary)])
    path.write_text('{"format": 1, "tallies"')
    with pytest.raises(StateError, match="not a state of a sweep"):
        load_state(path, [exhaustive_job()])
    with pytest.raises(StateError, match="cannot be read"):
        load_state(path / "nowhere" / "state.json", [exhaustive_job()])


KILLED = """
import sys
from pathlib import Path
from conformance.explore.sweep import runner
from conformance.tests.explore import test_sweep

runner.UNIT_SIZE, runner.SAVE_SECONDS = 1 << 12, 0.0
runner.end_pattern = lambda *_: 5 * (1 << 12) + 100
job = test_sweep.exhaustive_job()
state = runner.load_state(Path(sys.argv[1]), [job])
calls = []
def advance(what, count):
    calls.append(count)
    if len(calls) == 4:
        print("ready", flush=True)
        sys.stdin.read()
runner.sweep([job], state, advance=advance)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_sweep_resumes_after_sigkill(short_units, tmp_path):
    path = tmp_path / "state.json"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, signal.SIGKILL)
    job = exhaustive_job()
    resumed = load_state(path, [job])
    assert resumed.done[job.key] == {0, 1, 2}
    sweep([job], resumed)
    whole = load_state(None, [job])
    sweep([job], whole)
    assert records(resumed) == records(whole)


def test_memory_is_bounded_in_number_of_inputs(short_units):
    import tracemalloc

    job = exhaustive_job()
    job.run_unit(1)
    tracemalloc.start()
    try:
        peaks = []
        for units in ((1,), (1, 2, 3, 4)):
            tracemalloc.reset_peak()
            for unit in units:
                job.run_unit(unit)
            peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[0] < 64 * 2**20


# Means.


def test_mean_oracle_equals_oracle():
    family = ProblemFamily("categorical", "logits", "index", "float64")
    means = long_means.draw_inputs(family, 300)
    exact = oracle.evaluate(means.problem())
    mine = long_means.MeanOracle(means).answer(means.problem())
    assert abs((mine.hi - exact.hi) + (mine.lo - exact.lo)) <= mine.rad + exact.rad
    assert mine.rad <= abs(mine.hi) * 2.0**-70


def test_long_means_locate_overflow_of_float16_sum():
    family = ProblemFamily("categorical", "logits", "index", "float16")
    installed = miniatures.installed(miniatures.HalfAccumulator)
    found = list(long_means.mean_lines(installed, "miniature.HalfAccumulator", family, Ledger(), (10, 1000, 100_000)))
    assert found[0]["status"] == "agrees"
    assert found[-1]["status"] == "disagrees"
    right = miniatures.installed(miniatures.Categorical)
    for line in long_means.mean_lines(right, "miniature.Categorical", family, Ledger(), (10, 1000, 100_000)):
        assert line["status"] == "agrees"
        assert line["ratio"] <= 1


# The command.


@pytest.fixture
def command(monkeypatch):
    losses = (miniatures.Binary, WrongSignBelowMinusTen, miniatures.FloorsTheLog)
    framework = miniatures.framework(*losses)
    monkeypatch.setattr(registry, "frameworks", lambda: (framework,))
    monkeypatch.setattr(registry, "installed", lambda candidates=None: ([miniatures.installed(*losses)], []))
    monkeypatch.setattr("conformance.api.exploration.load_case_set", lambda cases: CaseSet([], Ledger()))

    def run(*words):
        return CliRunner().invoke(app, ["sweep", *words])

    return run


@pytest.mark.parametrize(("option", "value"), [("--dtype", "float8"), ("--given", "odds")])
def test_sweep_rejects_unknown_choice(command, option, value):
    rejected = command("miniature.Binary", option, value)
    assert f"{option} {value}: expected one of " in str(rejected.exception)


def test_sweep_exit_status_depends_on_verdicts(command, tmp_path):
    fast = ("--dtype", "float16", "--given", "logits")
    assert command("miniature.Binary", *fast).exit_code == 0
    failed = command("miniature.WrongSignBelowMinusTen", *fast, "--report", str(tmp_path))
    assert failed.exit_code == 1
    assert "negative_tail_label_1" in failed.output
    kept = json.loads((tmp_path / "sweep.json").read_text())
    worst = max((line for line in kept["lines"] if isinstance(line["ratio"], float)), key=lambda line: line["ratio"])
    assert worst["status"] == "disagrees"
    assert worst["case"].startswith("sweep/binary/logits/negative_")
    rows = list(csv.DictReader((tmp_path / "sweep.csv").open()))
    assert len(rows) == len(kept["lines"])
    assert "disagrees" in (tmp_path / "sweep.md").read_text()


def test_known_issue_is_no_failure_until_stale(command, monkeypatch):
    words = ("--dtype", "float16", "--given", "logits")
    about = {"case": "sweep/binary/logits/negative_*", "reason": "told"}

    def known(function, **more):
        ledger = Ledger([KnownIssue(function=function, **about, **more)])
        monkeypatch.setattr("conformance.api.exploration.load_case_set", lambda cases: CaseSet([], ledger))

    known("miniature.Wrong*", dtypes=("float32",))
    assert "unexpected" in command("miniature.WrongSignBelowMinusTen", *words).output
    known("miniature.Binary")
    stale = command("miniature.Binary", *words)
    assert stale.exit_code == 1
    assert "stale" in stale.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("miniature.Nothing",), "no such function"),
        (("miniature.Binary", "--dtype", "float64", "--exhaustive"), "2^64"),
        (("miniature.Binary", "--given", "log_probabilities"), "nothing of this selection can be swept"),
        (("miniature.Binary", "--lengths", "--pairs"), "--lengths goes with"),
    ],
)
def test_sweep_rejects_unsupported_functions(command, words, said):
    done = command(*words)
    assert said in str(done.exception)
    assert isinstance(done.exception, registry.UserError)


def test_sweep_returns_written_and_printed_results(command, tmp_path):
    request = api.SweepRequest(("float16",), ("logits",))
    result = api.sweep(["miniature.WrongSignBelowMinusTen"], request, folder=tmp_path)
    assert json.loads(result.to_json()) == json.loads((tmp_path / "sweep.json").read_text())
    assert {line["expected"] for line in result.failing} == {"unexpected"}
    printed = command("miniature.WrongSignBelowMinusTen", "--dtype", "float16", "--given", "logits", "--json")
    assert json.loads(printed.stdout)["lines"] == json.loads(result.to_json())["lines"]


def test_interrupted_sweep_has_finished_units(command, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "sweep", interrupt)
    result = api.sweep(["miniature.Binary"])
    assert (result.interrupted, result.regions, result.about["complete"]) == (True, [], False)


def test_sweep_in_processes_equals_sweep_in_this_process():
    pytest.importorskip("torch")
    request = api.SweepRequest(("float16",), ("logits",))
    one, two = (api.sweep(["torch.BCEWithLogitsLoss", "torch.CrossEntropyLoss"], request, processes=n) for n in (1, 2))
    assert repr(one.regions) == repr(two.regions) != "[]"
    assert one.not_executed == two.not_executed == []


def test_sweep_tables_fit_80_columns(command):
    for line in command("miniature.FloorsTheLog", "--dtype", "float32", "--label", "1").output.splitlines():
        assert len(line) <= 80


def test_check_ledger_rejects_unknown_region():
    shipped = load_case_set().ledger
    assert any(entry.case.startswith(SWEEP_PREFIX) for entry in shipped.entries)
    table.check_ledger(shipped)
    table.check_ledger(Ledger([KnownIssue(case="sweep/categorical/logits/index/mean_of_100000", function="x.Y")]))
    with pytest.raises(Exception, match="no sweep has a region"):
        table.check_ledger(Ledger([KnownIssue(case="sweep/binary/logits/nowhere", function="x.Y")]))


def test_function_without_unreduced_form_is_called_per_input(monkeypatch):
    installed = miniatures.installed(miniatures.Binary)
    family = ProblemFamily("binary", "logits", "binary", "float16")
    subject = Subject(installed, "miniature.Binary", family, (0, 1))
    only_sums = dataclasses.replace(subject.function, reductions={"sum": "reduction='sum'"})
    vars(subject)["function"] = only_sums
    tallies = Job(subject).run_unit(0)
    assert {tally.status for tally in tallies.values()} == {"agrees"}
    assert 300 < sum(tally.count for tally in tallies.values()) < 1000
