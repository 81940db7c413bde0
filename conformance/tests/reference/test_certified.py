"""The certified answers that travel with the package: found by content, refused where they are not whole."""

import warnings
import zipfile

import numpy as np
import pytest

from conformance.casefiles.known_issues import Ledger
from conformance.judging import certify
from conformance.judging.judge import Judge, gradient_axis
from conformance.judging.plan import plan
from conformance.model.case import is_derivative
from conformance.model.convention import Convention
from conformance.reference import certified, oracle
from conformance.reference.certified import CertifiedAnswers, CertifiedAnswersWarning
from conformance.reference.oracle import Exact, Invalid, Oracle, Undefined, decode, encode
from conformance.tests.reference.test_oracle import OTHER, PROBLEM, RIGHT
from conformance.tests.stated import shipped

ANSWERS = {
    "scalar": encode(Exact(*(np.array(x) for x in (0.1, 1e-18, 1e-35)))),
    "array": encode(Exact(*(np.full((2, 3), x) for x in (-np.inf, 0.0, 0.0)))),
    "empty": encode(Exact(*(np.zeros((0, 3)) for _ in range(3)))),
    "kinks": encode(Exact(*(np.arange(10.0) for _ in range(3)), np.arange(10) % 3 == 0)),
    "nan": encode(Exact(*(np.array([np.nan, 1.0]) for _ in range(3)))),
    "undefined": encode(Undefined("nothing counts")),
    "invalid": encode(Invalid(("shape_mismatch", "trailing_axis"))),
    "twin": encode(Undefined("nothing counts")),
}


@pytest.fixture
def file(tmp_path):
    """A file of certified answers."""
    path = tmp_path / "answers.npz"
    certified.write(ANSWERS, path)
    return path


def opened(path, folder):
    """An oracle on an empty cache on top of a file of certified answers."""
    return Oracle(oracle.Cache(folder / "cache.sqlite", CertifiedAnswers(path)))


def test_file_returns_every_answer_bit_for_bit(file):
    found = CertifiedAnswers(file)
    assert {key: found.get(key) for key in ANSWERS} == ANSWERS
    assert len(found) == len(ANSWERS)
    assert found.get("scala") is None
    again = decode(ANSWERS["kinks"])
    assert isinstance(again, Exact)
    assert again.unconstrained is not None
    assert again.unconstrained.tolist() == [i % 3 == 0 for i in range(10)]


def test_oracle_answers_from_file_without_evaluating(tmp_path, monkeypatch):
    path = tmp_path / "answers.npz"
    certified.write({oracle.answer_key(PROBLEM, Convention()): RIGHT}, path)
    monkeypatch.setattr(oracle, "evaluate", lambda *_: pytest.fail("evaluated again"))
    assert encode(opened(path, tmp_path).answer(PROBLEM)) == RIGHT


def test_oracle_evaluates_unmatched_digests_and_versions(tmp_path, monkeypatch):
    path = tmp_path / "answers.npz"
    wrong = encode(Undefined("not this one"))
    certified.write({oracle.answer_key(OTHER, Convention()): wrong}, path)
    assert encode(opened(path, tmp_path).answer(PROBLEM)) == RIGHT
    monkeypatch.setattr(oracle, "VERSION", f"{oracle.VERSION}+1")
    assert encode(opened(path, tmp_path).answer(OTHER)) != wrong


@pytest.mark.parametrize("name", ["keys", "places", "lengths", "heads", "numbers", "planes", "tails", "checksum"])
def test_oracle_rejects_file_with_a_changed_byte(tmp_path, name):
    """One bit of any array differs, in a file that is well formed otherwise: all of it is computed again."""
    path = tmp_path / "answers.npz"
    certified.write({**ANSWERS, oracle.answer_key(PROBLEM, Convention()): encode(Undefined("wrong"))}, path)
    with np.load(path) as content:
        arrays = {key: content[key].copy() for key in content.files}
    flat = arrays[name].reshape(-1).view(np.uint8)
    flat[len(flat) // 2] ^= 1
    np.savez_compressed(path, **arrays)
    found = opened(path, tmp_path)
    with pytest.warns(CertifiedAnswersWarning, match="not used"):
        assert encode(found.answer(PROBLEM)) == RIGHT
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it says so once
        found.answer(OTHER)


@pytest.mark.parametrize("damage", ["cut off", "not an archive", "bytes", "empty", "missing", "lacks an array"])
def test_oracle_rejects_file_that_cannot_be_read(file, tmp_path, damage):
    content = file.read_bytes()
    middle = len(content) // 2
    match damage:
        case "cut off":
            file.write_bytes(content[:middle])
        case "not an archive":
            file.write_bytes(b"\x93NUMPY" + content)
        case "bytes":
            file.write_bytes(content[:200] + bytes(255 - byte for byte in content[200:260]) + content[260:])
        case "empty":
            file.write_bytes(b"")
        case "missing":
            file.unlink()
        case _:
            np.savez_compressed(file, keys=np.zeros(1))
    with pytest.warns(CertifiedAnswersWarning, match="not used"):
        assert encode(opened(file, tmp_path).answer(PROBLEM)) == RIGHT


def test_check_finds_missing_wrong_and_superfluous_answers(file):
    stored = CertifiedAnswers(file)
    assert certify.differences(ANSWERS, stored) == []
    less = {key: answer for key, answer in ANSWERS.items() if key != "empty"}
    assert certify.differences(less, stored) == ["1 answers belong to no shipped case"]
    assert certify.differences({**ANSWERS, "new": RIGHT}, stored) == ["new: is missing"]
    for key, other in {
        "scalar": Exact(*(np.array(x) for x in (0.1, 2e-18, 1e-35))),
        "array": Exact(*(np.full((3, 2), x) for x in (-np.inf, 0.0, 0.0))),
        "kinks": Exact(*(np.arange(10.0) for _ in range(3))),
        "undefined": Undefined("another reason"),
        "invalid": Undefined("shape_mismatch,trailing_axis"),
    }.items():
        assert certify.differences({**ANSWERS, key: encode(other)}, stored) == [f"{key}: is another answer"]


def test_shipped_file_holds_answers_of_shipped_cases():
    """Of a few dozen losses and gradients it has what is computed now; `certify --check` holds all of them so."""
    stored = CertifiedAnswers()
    memory = certify.Memory()
    exact, found = Oracle(memory), 0
    for case in shipped()[::17]:
        if case.predicted <= 100:
            for dtype in case.dtypes:
                exact.answer(case.problem(dtype, case.reductions[0]))
    for key, answer in memory.answers.items():
        if (kept := stored.get(key)) is not None:
            one, other = decode(answer), decode(kept)
            assert type(one) is type(other)
            if isinstance(one, Exact) and isinstance(other, Exact):
                np.testing.assert_array_equal(one.hi, other.hi)
                assert np.all(np.abs(one.lo - other.lo) <= one.rad + other.rad)
            found += 1
    assert found > 20


def test_gradient_of_certified_answers_is_right():
    """Where it is wrong, answers are computed that no run looks up: those of the search for a cause."""
    cases = [case for case in shipped() if case.layout.class_axis != -1 and case.predicted < 100]
    items = [item for item in plan(cases[::4], certify._newest_releases()) if is_derivative(item.quantity)]
    judge = Judge(Oracle(), Ledger())
    calls = list(certify._distinct_calls(items))[::4]
    assert sum(gradient_axis(prepared) is not None for prepared in calls) > 20
    for prepared in calls:
        verdict = judge.judge(prepared, certify._right_outcome(prepared, judge.oracle)).verdict
        assert verdict.status != "disagrees", (prepared.description, verdict.explanation)


def test_file_in_the_package_is_an_archive_without_pickles():
    with zipfile.ZipFile(certified.FILE) as archive:
        assert archive.testzip() is None
        assert all(not archive.read(name).startswith(b"\x80") for name in archive.namelist())
