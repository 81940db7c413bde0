"""The loader: what it reads, and what it says about files that are wrong."""

import contextlib
import json
import math
import pickle
import random
import re
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from conformance.casefiles import document, generated_arrays, loading, parsed
from conformance.casefiles.generated_arrays import ArrayRecipe, GeneratedCase
from conformance.casefiles.loading import read_file
from conformance.casefiles.writing import case_file_text
from conformance.model.case import Case, Digits, MustRaise, NoRightAnswer
from conformance.model.convention import EDGE, INVALID
from conformance.model.errors import CaseErrors, CaseFileError

MODELINE = "# yaml-language-server: $schema=../../conformance/case.schema.json\n"
HEAD = MODELINE + "about: a\nsource: b\nloss: categorical\ngiven: logits\ntarget: index\n"
BINARY = HEAD.replace("categorical", "binary").replace("index", "binary")
SOFT = HEAD.replace("index", "distribution")
CASE = "cases:\n  y:\n    why: w\n    predictions: [[1.0, 2.0, 0.5], [3.0, 4.0, 0.5]]\n    labels: [0, 1]\n"
GENERATE = "cases:\n  y:\n    why: w\n    generate: {seed: 1, samples: 3, classes: 4%s}\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes one case file and reads its folder, strictly; the paths in messages start with `cases/`."""
    monkeypatch.chdir(tmp_path)

    def written(
        content: "str | bytes", name: str = "categorical/x.yaml", *, thorough: bool = False, strict: bool = True
    ):
        file = tmp_path / "cases" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return loading.read(Path("cases"), thorough=thorough, strict=strict)

    return written


def only(read: "tuple[list[Case], list[CaseFileError]]") -> Case:
    cases, errors = read
    assert not errors, "\n".join(map(str, errors))
    (case,) = cases
    return case


def said(read: "tuple[list[Case], list[CaseFileError]]") -> str:
    assert read[0] == []
    assert all(error.line > 0 and error.column > 0 for error in read[1])
    return "\n".join(map(str, read[1]))


# What it reads


def stated_fields(cases: "list[Case]") -> "list[tuple[str, str]]":
    return [
        (case.digest, repr([vars(case)[name] for name in sorted(parsed.FIELDS[type(case)] & vars(case).keys())]))
        for case in cases
    ]


def test_cached_cases_equal_those_of_files(tmp_path, monkeypatch):
    monkeypatch.setenv("CONFORMANCE_CACHE", "off")
    plain = loading.read(loading.shipped_cases())[0]
    monkeypatch.setenv("CONFORMANCE_CACHE", str(tmp_path))
    loading.read(loading.shipped_cases())
    parsed_again = []
    monkeypatch.setattr(
        loading, "read_file", lambda file, prefix: (parsed_again.append(prefix), read_file(file, prefix))[1]
    )
    remembered = loading.read(loading.shipped_cases())[0]
    assert stated_fields(remembered) == stated_fields(plain)
    assert len(parsed_again) < 10  # those whose arrays have another order in memory
    assert [case.predictions.flags.c_contiguous for case in remembered if type(case) is Case] == [
        case.predictions.flags.c_contiguous for case in plain if type(case) is Case
    ]


def test_changed_file_or_damaged_cache_is_read_again(write, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "shipped_cases", lambda: tmp_path / "cases")
    monkeypatch.setenv("CONFORMANCE_CACHE", str(tmp_path / "cache"))
    assert only(write(HEAD + CASE, strict=False)).labels.tolist() == [0, 1]
    assert only(write(HEAD + CASE.replace("[0, 1]", "[2, 1]"), strict=False)).labels.tolist() == [2, 1]
    with contextlib.closing(sqlite3.connect(tmp_path / "cache/remembered.sqlite")) as database, database:
        assert database.execute("UPDATE answers SET value = replace(value, '[2, 1]', '[0, 0]')").rowcount == 1
    assert only(loading.read(Path("cases"))).labels.tolist() == [2, 1]
    assert said(write(HEAD + CASE.replace("[0, 1]", "[0, 7]"), strict=False))


def test_read_returns_case(write):
    case = only(write(HEAD + CASE + "    options: {ignore_index: -100, class_weights: [1, 2, 0.5]}\n"))
    assert (case.id, case.path, case.line) == ("categorical/x/y", "cases/categorical/x.yaml", 8)
    assert case.predictions.dtype == np.float64
    assert case.labels.dtype == np.int64
    assert case.options.ignore_index == -100
    assert case.options.class_weights.tolist() == [1, 2, 0.5]
    assert (case.reductions, case.dtypes) == (("mean",), ("float32", "float64"))


def test_read_applies_defaults_of_file(write):
    case = only(write(HEAD + "reduction: [none, sum]\ndtypes: float64\n" + CASE + "    reduction: sum\n"))
    assert (case.reductions, case.dtypes) == (("sum",), ("float64",))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("+12", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("017", 17),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("2020-01-01", "2020-01-01"),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("!!float 1", 1.0),
        ("<<", "<<"),
    ],
)
@pytest.mark.parametrize("reader", [document._YAML_LOADER, yaml.SafeLoader])
def test_read_resolves_scalars_by_yaml_1_2_core_schema(monkeypatch, text, value, reader):
    monkeypatch.setattr(document, "_YAML_LOADER", reader)
    read = document._Composer("x", f"a: {text}").compose().value["a"]
    assert (read, type(read)) == (value, type(value))


def test_read_resolves_nan(write):
    case = only(write(HEAD + CASE.replace("2.0", ".nan").replace("4.0", "-.inf")))
    assert math.isnan(case.predictions[0, 1])
    assert case.predictions[1, 1] == -math.inf


@pytest.mark.parametrize(
    ("head", "labels", "dtype"),
    [
        (HEAD, "[0, 1]", np.int64),
        (SOFT, "[[1, 0, 0], [0, 0, 1]]", np.int64),
        (SOFT, "[[0.5, 0.5, 0], [0, 0, 1]]", np.float64),
        (BINARY, "[[true, false, true], [true, true, true]]", np.bool_),
    ],
)
def test_read_keeps_kind_of_labels(write, head, labels, dtype):
    assert only(write(head + CASE.replace("[0, 1]", labels))).labels.dtype == dtype


def test_read_accepts_empty_arrays_with_shape(write):
    empty = CASE.replace("[[1.0, 2.0, 0.5], [3.0, 4.0, 0.5]]", "[]\n    shape: [0, 3]").replace("[0, 1]", "[]")
    case = only(write(HEAD + empty))
    assert (case.predictions.shape, case.labels.shape) == ((0, 3), (0,))


def test_read_returns_expectation(write):
    value = "{value: {none: ['1', '2.5e-3'], mean: nan}}"
    case = only(write(HEAD + CASE + f"    reduction: [none, mean]\n    expect: {value}\n"))
    assert case.expect == Digits({"none": ["1", "2.5e-3"], "mean": "nan"})
    assert only(write(HEAD + CASE + "    expect: {undefined: so}\n")).expect == NoRightAnswer("so")
    raising = only(write(HEAD + CASE.replace("[0, 1]", "[0, 7]") + "    expect: {error: label_out_of_range}\n"))
    assert raising.expect == MustRaise("label_out_of_range")


def test_read_normalises_class_axis(write):
    cube = (
        HEAD + "cases:\n  y:\n    why: w\n    predictions: [[[1, 2, 3], [4, 5, 6]]]\n    labels: [[0, 1]]\n    layout: "
    )
    assert only(write(cube + "{class_axis: 2}\n")).layout.class_axis == -1
    assert only(write(cube + "{class_axis: -2}\n")).layout.class_axis == 1


def test_read_accepts_byte_order_mark(write):
    only(write(b"\xef\xbb\xbf" + (HEAD + CASE).encode()))


def test_read_accepts_schema_url(write):
    only(write(HEAD.replace("../../conformance/", "https://example.org/") + CASE))


def test_read_returns_valid_files_beside_broken_ones(write):
    write(HEAD + CASE, "categorical/good.yaml")
    cases, errors = write(HEAD + CASE.replace("why", "whi"), "categorical/bad.yaml")
    assert [case.id for case in cases] == ["categorical/good/y"]
    assert {error.path for error in errors} == {"cases/categorical/bad.yaml"}


def test_read_skips_ledger(write):
    write("known: nothing", "known/framework.yaml")
    only(write(HEAD + CASE))


def test_load_accepts_single_file(write, tmp_path):
    write(HEAD + CASE)
    assert [case.id for case in loading.load(Path("cases/categorical/x.yaml"))] == ["categorical/x/y"]
    (tmp_path / "mine.yaml").write_text(HEAD + CASE)
    assert [case.id for case in loading.load(tmp_path / "mine.yaml")] == ["mine/y"]


def test_read_is_the_same_without_libyaml(write, monkeypatch):
    monkeypatch.setattr(document, "_YAML_LOADER", yaml.SafeLoader)
    assert only(write(HEAD + CASE)).id == "categorical/x/y"
    assert "broken YAML" in said(write(HEAD + "cases: [1"))


def test_shipped_cases_load_with_their_digests():
    cases, errors = loading.read(loading.shipped_cases(), thorough=True, strict=True)
    assert cases
    assert not errors, "\n".join(map(str, errors))


# What it says


def test_error_is_one_line_with_position_message_and_advice(write):
    read = write(HEAD + CASE + "    options: {label_smoothing: 1.5}\n")
    where = "cases/categorical/x.yaml:12:32: $.cases.y.options.label_smoothing"
    assert said(read) == f"{where}: 1.5 is not in [0, 1]; give a number from 0 to 1"


def test_read_reports_errors_of_all_files(write):
    write(HEAD + CASE.replace("[0, 1]", "[0, 9]"), "categorical/a.yaml")
    write(HEAD + "cases: [", "categorical/b.yaml")
    write(HEAD + CASE + "    lables: 1\n    reduction: average\n", "categorical/c.yaml")
    with pytest.raises(CaseErrors) as caught:
        loading.load(Path("cases"))
    places = [(Path(error.path).name, error.line) for error in caught.value.errors]
    assert places == [("a.yaml", 11), ("b.yaml", 8), ("c.yaml", 12), ("c.yaml", 13)]
    assert str(caught.value).count("\n") == 3


def test_read_reports_all_errors_of_a_file(write):
    text = (
        (HEAD + CASE).removeprefix(MODELINE).replace("source: b\n", "")
        + """\
    options: {class_weights: [1], label_smoothing: 2}
    expect: {value: {sum: '1'}}
    published: [{value: '1', source: s, reduction: none}]
  ragged:
    predictions: [[1.0, 2.0], [3.0]]
    labels: [0.5]
    layout: {order: sorted}
  labels:
    predictions: [[1.0, 2.0]]
    labels: [2]
    layout: {class_axis: 2}
  digits: {why: w, predictions: [[1.0, 2.0]], labels: [0], expect: {value: '0.5'}}
  torch_digest: {why: w, generate: {seed: 1, samples: 3, classes: 4, digest: 0123456789abcdef}}
"""
    )
    _, errors = write(text, thorough=True)
    assert [(error.line, error.where.removeprefix("$.cases.")) for error in errors] == [
        (1, ""),
        (1, "$"),
        (10, "y.options.class_weights"),
        (10, "y.options.label_smoothing"),
        (11, "y.expect.value.sum"),
        (12, "y.published[0]"),
        (13, "ragged"),
        (14, "ragged.predictions[1]"),
        (15, "ragged.labels[0]"),
        (16, "ragged.layout.order"),
        (17, "labels"),
        (19, "labels.labels[0]"),
        (20, "labels.layout.class_axis"),
        (21, "digits.expect"),
        (22, "torch_digest"),
        (22, "torch_digest.generate.digest"),
    ]
    assert all(error.advice for error in errors)


def but(old: str, new: str, *, head: str = HEAD) -> str:
    """The case with one thing changed."""
    assert old in CASE
    return head + CASE.replace(old, new)


def plus(*lines: str, head: str = HEAD) -> str:
    """The case with more said about it."""
    return head + CASE + "".join(f"    {line}\n" for line in lines)


ROWS = "[[1.0, 2.0, 0.5], [3.0, 4.0, 0.5]]"
ONE_HOT = "[[1, 0, 0], [0, 1, 0]]"
PROBABILITIES = HEAD.replace("logits", "probabilities")
LOG_PROBABILITIES = HEAD.replace("logits", "log_probabilities")
WRONG = {
    # YAML
    ":8:1: broken YAML": HEAD + "cases: [1, 2\n",
    "not tabs": HEAD + "cases:\n\ty: 1\n",
    ":1:1: $: the file is empty": "",
    ":12:1: $: a second document": HEAD + CASE + "---\na: 1\n",
    "read as YAML 1.2": "%YAML 1.1\n---\n" + HEAD + CASE,
    '"y" is given twice, on lines 8 and 12': HEAD + CASE + "  y: {}\n",
    '"why" is given twice, on lines 9 and 12': plus("why: v"),
    "the key 1 is not a string": but("  y:", "  1:"),
    "a key that is a list": HEAD + "cases:\n  ? [a]\n  : 1\n",
    ":8:6: $.cases.y: the tag !!python/name": HEAD + "cases:\n  y: !!python/name:os.system x\n",
    "what it is inside of": HEAD + "cases: &a [*a]\n",
    "not defined before": HEAD + "cases: *b\n",
    "nested deeper than 64 levels": HEAD + "cases: " + "[" * 100_000,
    ":7:4: control character U+0000": HEAD + "a: \0\n",
    "1e999 overflows float64; write .inf": but("4.0", "1e999"),
    "an integer of 9001 characters": but("4.0", "1" + "0" * 9000),
    # Keys and names
    "make the first line: # yaml-language-server: $schema=https://": (HEAD + CASE).removeprefix(MODELINE),
    ":2:1: $: source is missing; add it: where the cases come from": (HEAD + CASE).replace("source: b\n", ""),
    'unknown key "<<"; YAML 1.2 has no merge keys': plus("<<: {}"),
    'unknown key "reduction"; it belongs to the case, beside options': plus("options: {reduction: sum}"),
    "(null) is not a mapping; indent its keys below it": HEAD + "cases:\n  y:\n  why: w\n",
    "say reduction: [mean, none] for the case": plus("published: [{value: ['1'], source: s, reduction: none}]"),
    'unknown key "class_axis"; write layout: {class_axis: ...}': plus("class_axis: 1"),
    'unknown key "class_weights"; write options: {class_weights: ...}': plus("class_weights: [1, 2]"),
    '$.cases.y.given: unknown key "given"; it belongs to the file, beside cases': plus("given: logits"),
    '$.options: unknown key "options"; it belongs to a case': "options: {ignore_index: 1}\n".join([HEAD, CASE]),
    ':12:5: $.cases.y.lables: unknown key "lables"': plus("lables: [0]"),
    'did you mean "why"?': but("why", "whi"),
    ":8:3: $.cases.y: why is missing; add it: what would go wrong unnoticed": but("    why: w\n", ""),
    '"torch" in it, the name of a framework': but("  y:", "  torch_y:"),
    "is not [a-z][a-z0-9_]*": but("  y:", "  Y:"),
    "a categorical loss has no binary target": HEAD.replace("index", "binary") + CASE,
    # Arrays
    ":10:36: $.cases.y.predictions[1]: ragged: row 1 has 1 element, row 0 has 3 elements": but("3.0, 4.0, 0.5", "3.0"),
    "row 1 is a single value": but("[3.0, 4.0, 0.5]", "3"),
    ':10:42: $.cases.y.predictions[1][1]: "four"': but("4.0", "four"),
    "a single number for all classes; give a list with a number per class, or a list of those": but(ROWS, "7"),
    "where predictions of shape [2] need a single value": but(ROWS, "[1, 2]"),
    "add shape: [0, 3]": but(ROWS, "[]"),
    "... overflows float64": but("4.0", "1" + "0" * 400),
    "$.cases.y.predictions[1][1]: 10000000000000000000... overflows": but("3.0, 4.0", f"{10**308}, {10**309}"),
    ":10:42: $.cases.y.predictions[1][1]: 1e39 overflows float32; give dtypes: [float64]": but("4.0", "1e39"),
    "70000.0 overflows float16; give dtypes: [float32]": but("4.0", "70000") + "    dtypes: [float16, float32]\n",
    "1e-60 becomes 0 in float32": but("4.0", "1e-60"),
    ":11:17: $.cases.y.labels[1]: labels of the wrong kind: 1.5 is not an index": but("[0, 1]", "[0, 1.5]"),
    "2.0 is not an index; write 2, without a point": but("[0, 1]", "[2.0, 1.0]"),
    "0.5 is not an index; write whole numbers, or say target: distribution": but("[0, 1]", "[0.5, 1.0]"),
    "labels of shape [2] where predictions of shape [2, 3] need [2, 3]; say target: index": SOFT + CASE,
    "shape [2] where predictions of shape [2, 3] need [2, 3]; say target: index": HEAD.replace("index", "one_hot")
    + CASE,
    "labels of shape [2, 3] where predictions of shape [2, 3] need [2]; say target: distribution": but(
        "[0, 1]", ONE_HOT
    ),
    "labels[1]: [0.0, 0.5, 0.5] is not one 1 and zeros; correct it, or say target: distribution": but(
        "[0, 1]", "[[1, 0, 0], [0, 0.5, 0.5]]", head=HEAD.replace("index", "one_hot")
    ),
    "soft is for targets other than index and one_hot only": HEAD.replace("index", "one_hot")
    + GENERATE % ", soft: true",
    "labels of two kinds": but("[0, 1]", "[true, 1]"),
    '"a" (a string) is not true or false or a number': but("[0, 1]", "[a, 1]"),
    "does not fit into int64": but("[0, 1]", f"[0, {2**63}]"),
    "labels of shape [3] where predictions of shape [2, 3] need [2]": but("[0, 1]", "[0, 1, 2]"),
    "labels has 7, outside [0, 3); correct it, or say expect: {error: label_out_of_range}": but("[0, 1]", "[0, 7]"),
    "outside [0, 3); correct it (labels count from 0)": but("[0, 1]", "[3, 1]"),
    '$.cases.y.logits: unknown key "logits"; did you mean predictions, and given: logits in the file?': but(
        "predictions:", "logits:"
    ),
    '$.log_probabilities: unknown key "log_probabilities"; did you mean predictions': "log_probabilities: [1]\n".join(
        [HEAD, CASE]
    ),
    "outside [0, 1]; correct it (perhaps given: logits)": PROBABILITIES + CASE,
    "predictions has 2.0, outside [0, 1]": PROBABILITIES + CASE,
    "predictions[0][0]: predictions has 1.0, above 0; correct it (perhaps given: logits)": (LOG_PROBABILITIES + CASE),
    "predictions[1][0]: predictions has 3.0, above 0": LOG_PROBABILITIES + CASE + "    options: {ignore_index: 0}\n",
    "labels has 2, outside [0, 1]": but("[0, 1]", ONE_HOT.replace("1,", "2,"), head=SOFT),
    # Options and layout
    ".nan is not in [0, 1]": plus("options: {label_smoothing: .nan}"),
    '"no" (a string) is not a number': plus("options: {label_smoothing: no}"),
    "shape [2] for 3 classes": plus("options: {class_weights: [1, 2]}"),
    "does not fit samples of shape [2]": plus("options: {sample_weights: [1]}"),
    "positive_weight is for binary losses only": plus("options: {positive_weight: 2}"),
    "ignore_index is for index targets only": but("[0, 1]", ONE_HOT, head=SOFT) + "    options: {ignore_index: 2}\n",
    "there is no axis 2": plus("layout: {class_axis: 2}"),
    "sample 1 differs from sample 0": plus("layout: {order: broadcast}"),
    "sample 1 differs from sample 0, so": plus("layout: {order: broadcast, written_class_axis: 0}"),
    "layout: {label_dtype: bool} hands them over as booleans": but("[0, 1]", "[false, true]"),
    "-7 does not fit into uint8": but("1]", "-7]")
    + "    options: {ignore_index: -7}\n    layout: {label_dtype: uint8}\n",
    # Expectations
    "there is no invalid_probability in this case": plus("expect: {error: invalid_probability}"),
    "put it in quotes": plus("expect: {value: 0.25}"),
    "Digits in quotes": plus("expect: {value: '0.x'}"),
    "digits of shape [1] where there should be [2]": plus("reduction: none", "expect: {value: ['1']}"),
    "does not have the reduction sum": plus("expect: {value: {sum: '1'}}"),
    "one value for several reductions": plus("reduction: [sum, mean]", "expect: {value: '1'}"),
    "write oracle": plus("expect: oracel"),
    "published[0]: the case does not have the reduction sum": plus(
        "published: [{value: '1', source: s, reduction: sum}]"
    ),
    # Generated arrays
    "digest is missing; add digest: e51bc801efd933ee": HEAD + GENERATE % "",
    "have digest e51bc801efd933ee; the file says 0123456789abcdef": HEAD + GENERATE % ", digest: 0123456789abcdef",
    "there is no ignore_index": HEAD + GENERATE % ", ignored: 0.5",
    "labels has no place beside generate": HEAD + GENERATE % "" + "    labels: [1]\n",
}


def test_published_losses_may_be_of_averaged_outputs(write):
    outputs = "cases:\n  y:\n    why: w\n    predictions: [[1.0, 2.0], [3.0, 4.0]]\n    labels: [[0, 1], [1, 1]]\n"
    outputs += "    reduction: none\n    published: [{value: %s, source: s}]\n"
    for value in ("['1', '2']", "[['1', '2'], ['3', '4']]"):
        assert only(write(BINARY + outputs % value)).published
    _, errors = write(BINARY + outputs % "['1', '2', '3']")
    assert "digits of shape [3] where there should be [2, 2]" in str(errors[0])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *[(text, ".inf") for text in ("inf", "Inf", "+inf", "Infinity", "INFINITY", "'.inf'")],
        *[(text, "-.inf") for text in ("-inf", "-Infinity", "'-.inf'")],
        *[(text, ".nan") for text in ("nan", "NaN", "-nan", "NAN", "np.nan")],
        ("'1.5'", "1.5, without quotes"),
        ("\u22121e-3", "-1e-3"),
        ("1_000", "1000"),
        ("\u00a02.0\u200b", "2.0"),
    ],
)
def test_read_suggests_spelling_of_numbers(write, text, number):
    assert f"is not a number; write {number}" in said(write(but("4.0", text)))
    assert f"is not a number; write {number}" in said(write(plus(f"options: {{label_smoothing: {text}}}")))


def test_read_requires_schema_line_and_texts_only_if_strict(write):
    text = (HEAD + CASE).removeprefix(MODELINE).replace("about: a\nsource: b\n", "").replace("    why: w\n", "")
    text += '    published: [{value: "0.5"}]\n'
    case = only(write(text, strict=False))
    assert (case.about, case.why, case.source, case.published[0].source) == ("", "", "", "")
    assert only(write(case_file_text([case]), strict=False)).published == case.published
    assert [(error.where, error.message) for error in write(text)[1]] == [
        ("", "the first line does not name the schema that editors check it by"),
        ("$", "about is missing"),
        ("$", "source is missing"),
        ("$.cases.y", "why is missing"),
        ("$.cases.y.published[0]", "source is missing"),
    ]


def test_unknown_key_causes_no_further_errors(write):
    _, errors = write(but("[0, 1]\n", "[0, -100]\n    option: {ignore_index: -100}\n"), thorough=True)
    assert [error.where for error in errors] == ["$.cases.y.option"]


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (but("[0, 1]", "[0, 7]"), "correct it, or say expect: {error: label_out_of_range}"),
        (but("[0, 1]", "[0, 1, 2, 0]"), "correct it, or say expect: {error: shape_mismatch}"),
        (but("[0, 1]", "[3, 1]"), "correct it (labels count from 0)"),
        (PROBABILITIES + CASE, "correct it (perhaps given: logits)"),
        (but("[0, 1]", ONE_HOT), "say target: distribution"),
        (but("[0, 1]", "[0, 7]") + "    published: [{value: '1.5', source: b}]\n", "correct it"),
        (but("[0, 1]", "[0, 7]") + "    expect: {value: {mean: '1.5'}}\n", "correct it"),
        (but("[0, 1]", "[0, 1, 2, 0]") + "    expect: {undefined: because}\n", "correct it"),
    ],
)
def test_exception_is_suggested_as_expectation_only_if_allowed(write, text, advice):
    _, (error,) = write(text, strict=False)
    assert error.advice == advice


def test_invalid_kind_with_expected_edge_suggests_expectation(write):
    text = "about: a\nloss: binary\ngiven: logits\ntarget: binary\ncases:\n  y:\n    predictions: [[1.0], [2.0]]\n"
    text += "    labels: [1, 0]\n    expect: {error: trailing_axis}\n"
    _, (error,) = write(text, strict=False)
    assert error.advice == "correct it, or say expect: {error: shape_mismatch}"
    assert not write(text.replace("trailing_axis", "shape_mismatch"), strict=False)[1]


def test_read_takes_one_hot_and_soft_binary_targets(write):
    rows = but("[0, 1]", ONE_HOT, head=SOFT)
    assert only(write(rows.replace("distribution", "one_hot"))).digest == only(write(rows)).digest
    binary = BINARY + CASE.replace("[0, 1]", "[[0.5, 0, 1], [1, 0, 0.25]]")
    assert only(write(binary.replace("target: binary", "target: soft_binary"))).digest == only(write(binary)).digest
    generated = GENERATE % ", digest: '0000000000000000'"
    cases, _ = write(HEAD.replace("index", "one_hot") + generated)
    assert set(np.unique(cases[0].recipe.generate().labels)) == {0.0, 1.0}


def test_generated_probability_may_round_to_zero(write):
    recipe = ", distribution: confident, digest: %s}\n    dtypes: [float16]\n"
    text = PROBABILITIES + GENERATE.replace("classes: 4%s}\n", "classes: 5000" + recipe)
    (error,) = write(text % "'0123456789abcdef'", thorough=True)[1]
    case = only(write(text % f"'{re.search('[0-9a-f]{16}', error.message)[0]}'", thorough=True))
    assert (case.problem("float16", "mean").predictions == 0).any()
    written = PROBABILITIES + CASE.replace(ROWS, "[[0.5, 0.5, 1.0e-09], [0.5, 0.25, 0.25]]") + "    dtypes: [float16]\n"
    assert "becomes 0 in float16" in said(write(written))


@pytest.mark.parametrize("message", WRONG)
def test_read_reports_error(write, message):
    assert message in said(write(WRONG[message], thorough=True))


def test_read_locates_invalid_utf_8(write):
    assert ":2:5: not UTF-8: byte 0xff at offset 71" in said(write(MODELINE.encode() + b"abou\xff"))


def test_read_rejects_large_files(write):
    assert "more than 4194304 bytes; split the file" in said(write(b"#" * (2**22 + 1)))


def test_read_rejects_alias_bomb(write):
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
    bomb += "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
    assert "more than 1000000 values once aliases are expanded" in said(write(HEAD + bomb))


def test_read_limits_number_of_errors(write):
    _, errors = write(HEAD + CASE + "".join(f"    key{i}: 1\n" for i in range(100_000)))
    assert len(errors) == 101
    assert "more than 100 things are wrong" in str(errors[-1])


def test_tags_execute_nothing(write, tmp_path):
    write(
        HEAD
        + f"cases:\n  y: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{tmp_path}/x]]\n"
    )
    assert not (tmp_path / "x").exists()


def test_shape_mismatch_is_accepted_if_expected(write):
    text = HEAD + CASE.replace("[0, 1]", "[0, 1, 2]") + "    expect: {error: shape_mismatch}\n"
    assert only(write(text)).labels.shape == (3,)
    text = HEAD + CASE + "    options: {class_weights: [1, 2]}\n    expect: {error: shape_mismatch}\n"
    assert only(write(text)).options.class_weights.shape == (2,)


def test_undefined_case_rejects_only_shape_mismatch(write):
    undefined = "    expect: {undefined: so}\n"
    only(write(HEAD + CASE.replace("[0, 1]", "[0, 7]") + undefined))
    assert "need [2]" in said(write(HEAD + CASE.replace("[0, 1]", "[0]") + undefined))


def test_files_with_same_ids_are_rejected(write):
    write(HEAD + CASE)
    _, errors = write(HEAD + CASE, "categorical/x.yml")
    assert "its cases have the same ids as those of cases/categorical/x.yaml" in str(errors[0])


def test_folder_names_are_validated(write):
    assert '"keras" in it' in said(write(HEAD + CASE, "my_keras/x.yaml"))


@pytest.mark.parametrize(("name", "message"), [("none", "no such folder"), ("empty", "no case files in it")])
def test_folder_without_cases_is_an_error(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CaseErrors, match=message):
        loading.load(tmp_path / name)


def test_loading_imports_no_framework():
    frameworks = "{'torch', 'keras', 'sklearn', 'pandas'}"
    code = f"import sys, conformance.casefiles.loading; print(sorted({frameworks} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# The schema


def test_schema_properties_are_described():
    def walk(node, path=()):
        if isinstance(node, dict):
            for name, rule in node.get("properties", {}).items() if isinstance(node.get("properties"), dict) else ():
                # `false` forbids the property beside another, which describes it.
                assert rule is False or rule.get("description"), f"{path}: {name}"
            for name, inside in node.items():
                walk(inside, (*path, name))
        elif isinstance(node, list):
            for index, inside in enumerate(node):
                walk(inside, (*path, index))

    for name in ("case.schema.json", "known.schema.json"):
        schema = json.loads((document.PACKAGE / name).read_text(encoding="utf-8"))
        walk(schema)
        assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
        assert schema["$id"].endswith(f"/conformance/{name}")


def test_schema_lists_every_kind_of_input():
    value = document.schema_of("case.schema.json")["definitions"]["case"]["properties"]["expect"]
    assert set(value["else"]["properties"]["error"]["enum"]) == INVALID | EDGE


# Generated arrays


def make(**changed) -> ArrayRecipe:
    stated = {"loss": "categorical", "input_kind": "logits", "target": "index", "seed": 1, "shape": (3,), "classes": 4}
    return ArrayRecipe(**{**stated, **changed})


@pytest.mark.parametrize(
    ("recipe", "digest"),
    [
        (make(), "e51bc801efd933ee"),
        (make(distribution="uniform"), "513e0810b864b966"),
        (make(distribution="confident"), "5b8b82f863df9663"),
        (make(distribution="wrong"), "ba3184d50b64d722"),
        (make(input_kind="probabilities"), "bcbfebe0dd749962"),
        (make(input_kind="probabilities", distribution="wrong"), "47bbd085d088d129"),
        (make(target="distribution", soft=True), "635c1c2d20f6981c"),
        (make(ignored=0.5, sample_weights=True, class_weights=True), "d9ce8c9bcb5d7fe9"),
        (make(loss="binary", target="binary", classes=1, shape=(2, 3), distribution="confident"), "4796b270ca6b862e"),
        (make(loss="binary", input_kind="probabilities", target="binary", classes=1, soft=True), "98631b62c601cc8f"),
    ],
)
def test_generated_arrays_are_pinned(recipe, digest):
    assert recipe.generate().digest == digest


def test_generated_arrays_have_known_values():
    arrays = make(sample_weights=True).generate()
    assert arrays.predictions.tolist() == [
        [-4.271312713623047, 1.6640968322753906, -1.3341293334960938, -3.733783721923828],
        [-2.8100509643554688, -2.2960739135742188, 3.8799819946289062, -5.803871154785156],
        [4.4588470458984375, -3.488811492919922, 4.5697174072265625, 3.1368141174316406],
    ]
    assert arrays.labels.tolist() == [2, 0, 1]
    assert arrays.sample_weights.tolist() == [1.25, 0.875, 1.625]


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_random_words_match_python_mersenne_twister(seed):
    other = random.Random(seed + (generated_arrays._LABELS << 32))
    words = generated_arrays._stream(make(seed=seed), generated_arrays._LABELS)((5,))
    assert words.tolist() == [other.getrandbits(32) for _ in range(5)]


def test_generated_arrays_do_not_depend_on_chunk(monkeypatch):
    recipe = make(shape=(50,), distribution="confident", input_kind="probabilities")
    whole = recipe.generate().digest
    monkeypatch.setattr(generated_arrays, "CHUNK", 7)
    assert make(shape=(2,)).generate().digest  # forget the one that is kept
    assert recipe.generate().digest == whole


def test_optional_arrays_do_not_change_the_others():
    plain, weighted = make().generate(), make(sample_weights=True, ignored=0.5).generate()
    assert plain.predictions.tolist() == weighted.predictions.tolist()


def test_confident_and_wrong_distributions_predict_as_named():
    right, wrong = (make(shape=(200,), distribution=name).generate() for name in ("confident", "wrong"))
    assert np.mean(right.predictions.argmax(axis=-1) == right.labels) > 0.95
    assert np.mean(wrong.predictions.argmax(axis=-1) == wrong.labels) < 0.05


def test_generated_probabilities_sum_to_one():
    arrays = make(input_kind="probabilities", target="distribution", soft=True, shape=(100,)).generate()
    assert np.abs(arrays.predictions.sum(axis=-1) - 1).max() < 1e-15
    assert np.abs(arrays.labels.sum(axis=-1) - 1).max() < 1e-15


def test_equal_rows_accept_broadcast_layout(write):
    text = HEAD + GENERATE % ", distribution: equal_rows, digest: X" + "    layout: {order: broadcast}\n"
    digest = make(distribution="equal_rows").generate().digest
    case = only(write(text.replace("X", f'"{digest}"'), thorough=True))
    assert len(np.unique(case.predictions, axis=0)) == 1


def test_read_generates_no_large_arrays(write, monkeypatch):
    text = (HEAD + GENERATE % ", digest: 0123456789abcdef").replace("samples: 3", "shape: [300, 200]")
    monkeypatch.setattr(generated_arrays, "CHUNK", 0)  # one row at a time, so that drawing would take long
    case = only(write(text))
    assert isinstance(case, GeneratedCase)
    assert case.representative.predictions.shape == (2, 2, 4)
    assert len(case.digest) == 16
    assert pickle.loads(pickle.dumps(case)).digest == case.digest


def test_generated_case_rejects_wrong_digest(write):
    case = only(write(HEAD + GENERATE % ", digest: 0123456789abcdef"))
    with pytest.raises(CaseFileError, match="the file says 0123456789abcdef"):
        case.problems()


def test_representative_has_kind_of_its_case(write):
    text = HEAD + GENERATE % ", ignored: 0.01, digest: 0123456789abcdef" + "    options: {ignore_index: -100}\n"
    small = only(write(text.replace("samples: 3", "samples: 1000"))).representative
    assert -100 in small.labels
    assert small.options.ignore_index == -100


def test_representative_of_literal_case_is_the_case(write):
    case = only(write(HEAD + CASE))
    assert case.representative is case


def test_cases_option_selects_the_case(write, tmp_path, monkeypatch):
    (case,), _ = write(HEAD + CASE)
    assert loading.cases_option(case) == "--cases cases "
    assert loading.load(Path(shlex.split(loading.cases_option(case))[1]))[0].id == case.id
    assert loading.cases_option(loading.load(loading.shipped_cases())[0]) == ""
    monkeypatch.chdir(tmp_path / "cases" / "categorical")
    (alone,) = loading.load(Path("x.yaml"))
    assert (alone.id, loading.cases_option(alone)) == (case.id, "--cases x.yaml ")
