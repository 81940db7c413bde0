"""`conformance check`: verify a user's callable like a known function."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import typer
from rich.table import Table
from rich.text import Text

from conformance import api
from conformance.api.checking import NO_DTYPE
from conformance.cli.run import print_groups
from conformance.cli.shared import Printer, print_stderr
from conformance.cli.terminal import UNEXPECTED, USAGE, out
from conformance.explore.sweep import rendering as sweep_rendering
from conformance.judging.row import Elements, Row
from conformance.judging.verdict import FAILING_ROWS
from conformance.model.case import DTYPES, REDUCTIONS, is_derivative
from conformance.model.convention import Divisor
from conformance.model.errors import UserError
from conformance.report.recording import duration_text

CANCELS = "cancellation"
"""Kind of wrong rows that a convention with cancellation explains; not a reason code."""
DIVISORS = Divisor.__args__  # type: ignore[attr-defined]
MAX_FINDINGS = 3
"""Maximum number of violated relations, and of findings among random problems, that are printed."""
MAX_MISTAKES = 6
"""Maximum number of mistakes that are printed."""
COMMON_SHARE = 0.5
"""Share of the wrong calls from which on advice is printed for their common property."""

DETERMINISM = "asked_again"
"""The relation that a callable violates which is not deterministic."""
ADVICE = {
    "wrong_shape": "if it returns something else than the mean, say --reduction none or --reduction sum",
    "wrong_dtype": "if it returns a dtype of its own, say --result-dtype",
    "mutated_argument": "it writes into its arguments, so nothing that its callers do with them is safe",
    "timed_out": "--timeout says how long a call may take",
    "crashed": "it ends its process; make the call that is printed above alone, in a debugger",
    "no_number": "it has to return the loss alone, as floats; if the loss is the first of several results, check a "
    "function with the same parameters that returns {name}(...)[0]",
    CANCELS: "terms that are larger than their sum cancel, which --cancellation accepts",
    "raised": "--dtype, --targets and --rank leave out what it does not take",
}
"""What to do about the reason code that most of the wrong rows have."""
RAISED = {
    ("cuda", "gpu", "nvidia", "driver", "hip error"): "it needs a device that is not there: check it on a machine that "
    "has it",
    ("does not require grad",): "the result does not depend on the array of the gradient, or is detached from it",
    ("'float' object has no attribute",): "the result is a Python number, which has no gradient",
    ("modulenotfounderror", "importerror"): "it imports what is not installed here",
    (
        "tensor' object has no attribute",
        "tensor object has no attribute",
        "ndarray' object has no attribute",
        "must be tensor, not",
    ): "it takes arrays of another library: name that by --arrays",
}
"""Words of exceptions -> what to do."""


def check(
    described: api.CheckedCallable,
    request: api.CheckRequest,
    arguments: Sequence[str],
    as_json: bool,
) -> None:
    for option, value, choices in (
        ("--reduction", described.reduction, REDUCTIONS),
        ("--mean-divides-by", described.mean_divides_by, DIVISORS),
        ("--result-dtype", described.result_dtype, DTYPES),
        *(("--dtype", name, DTYPES) for name in described.dtypes),
    ):
        if value and value not in choices:
            raise UserError(f"{option} {value}: expected one of {', '.join(choices)}")
    described = dataclasses.replace(described, arguments=_arguments(arguments))
    result = api.check(described, request, Printer())
    out.print_result(result, _print, as_json)
    for line in result.not_executed[:MAX_FINDINGS]:
        print_stderr(f"not executed: {line}")
    if result.run.failure is not None and not result.stopped:
        raise result.run.failure
    raise typer.Exit(UNEXPECTED if result.wrong else 0 if result.complete else USAGE)


def _arguments(texts: Iterable[str]) -> dict[str, str]:
    pairs = [pair.strip() for text in texts for pair in text.split(",") if pair.strip()]
    for pair in pairs:
        if not re.fullmatch(r"\w+\s*=\s*\w+", pair):
            raise UserError(f"--arguments {pair}: write NAME=WORD, as in logits=predictions")
    return {name.strip(): word.strip() for name, word in (pair.split("=") for pair in pairs)}


def _print(outcome: api.CheckResult) -> None:
    """Print the failures by cause, the table, and the verdict in a sentence."""
    failing = [row for row in outcome.run.rows if row.expected in FAILING_ROWS]
    print_groups(
        sorted(failing, key=lambda row: bool(row.known)),  # what the known function does, too, comes last
        outcome.run.cases,
        outcome.installed.framework,
    )
    out.paragraphs(map(_in_words, outcome.mistakes[:MAX_MISTAKES]))
    first = {result.instance.relation.name: result for result in reversed(outcome.broken)}
    out.lines([*first.values()][:MAX_FINDINGS])
    out.lines(finding.message for finding in outcome.findings[:MAX_FINDINGS])
    if outcome.sweep is not None:
        out.print_each(sweep_rendering.terminal(outcome.sweep.regions, outcome.sweep.means))
    out.print(table(outcome.cells))
    out.paragraphs(filter(None, [not_called(outcome.cells), *hints(outcome)]))
    out.print(Text(verdict(outcome)))
    out.print(f"report: {outcome.run.report / 'index.html'}", soft_wrap=True)


def _in_words(mistake: api.Mistake) -> str:
    options_text = f" with {' and '.join(mistake.options)}" if mistake.options else ""
    return f"{mistake.results} of {mistake.tried} wrong results{options_text} are what this gives: {mistake.text}"


def table(cells: Sequence[api.Cell]) -> Table:
    """Options by dtype, with the number of calls, the largest error, and the largest error divided by its tolerance."""
    dtypes = [name for name in DTYPES if any(cell.dtype == name and cell.calls for cell in cells)]
    grid = Table(box=None, pad_edge=False)
    grid.add_column("")
    for dtype in dtypes:
        grid.add_column(dtype)
    for option in dict.fromkeys(cell.option for cell in cells if cell.calls):
        grid.add_row(option, *(_text(cell) for cell in cells if cell.option == option and cell.dtype in dtypes))
    return grid


def not_called(cells: Sequence[api.Cell]) -> str:
    """The options without calls in any dtype, each with the reason; "" if there are none."""
    called = {cell.option for cell in cells if cell.calls}
    reasons = {cell.option: cell.why for cell in cells if cell.option not in called and cell.why != NO_DTYPE}
    listed = ", ".join(f"{option} ({why})" for option, why in reasons.items())
    return f"not asked: {listed}" if listed else ""


def _text(cell: api.Cell) -> Text:
    if not cell.calls:
        return Text("not asked", "dim")
    counts = {"wrong": f"{cell.wrong} of {cell.calls}", "certified": str(cell.calls)}
    count = counts.get(cell.status, f"{cell.deviating} of {cell.calls}")
    numbers = f"\n{cell.error:.2g}, {cell.ratio:.2g} of the tolerance" if cell.ratio else ""
    return Text(f"{cell.status} ({count}){numbers}", "bold" if cell.wrong else "")


def hints(outcome: api.CheckResult) -> list[str]:
    """Advice on the common properties of the wrong rows."""
    failing = [row for row in outcome.run.rows if row.expected in FAILING_ROWS and not row.known]
    lines = [f"its process printed: {' | '.join(outcome.printed)}"] if outcome.printed else []
    if any(result.instance.relation.name == DETERMINISM for result in outcome.broken):
        lines.append("called again with the same arrays, it returns something else: seed what is random")
    if not failing:
        return lines
    if all(is_derivative(row.key.quantity) for row in failing):
        lines.append(
            "the losses are right: a backward pass has to multiply by the upstream gradient that it is given, "
            "`upstream` or 2 in the calls, by that of each loss if they are not reduced"
            if sum(map(_may_lack_upstream, failing)) >= COMMON_SHARE * len(failing)
            else "the losses are right, and gradients are wrong"
        )
    code, count = Counter(CANCELS if CANCELS in row.candidate else row.reason_code for row in failing).most_common(1)[0]
    if count >= COMMON_SHARE * len(failing) and (advice := _advice(outcome, failing, code)):
        lines.append(f"{count} of {len(failing)} wrong rows are of one kind: {advice}")
    return lines


def _advice(result: api.CheckResult, failing: Sequence[Row], code: str) -> str:
    """What to do about the reason that most of the wrong rows have; empty if nothing is known.

    code: code of that reason.
    """
    raised = " ".join(row.explanation for row in failing[:3]).lower()
    for words, advice in RAISED.items():
        if any(word in raised for word in words):
            return advice
    with_code = [row for row in failing if row.reason_code == code]
    if code == "wrong_dtype" and all(is_derivative(row.key.quantity) for row in with_code):
        return "a gradient has the dtype of what it is the gradient of"
    if code == "wrong_dtype" and any(row.result_dtype not in DTYPES for row in with_code):
        return "a loss is a float, in the dtype of the predictions"
    if code == "raised" and len(with_code) == sum(row.status != "unsupported" for row in result.run.rows):
        return "no call returns, whatever it is passed; make the one that is printed above alone"
    name = result.checked.target.rpartition(":")[2]
    return ADVICE.get(code, "").format(name=name)


def _may_lack_upstream(row: Row) -> bool:
    """Whether a wrong gradient may be the one without the upstream gradient, which is 2 for a reduced loss.

    One that is not finite has another fault.
    """
    if row.got is None or not isinstance(row.want, Elements) or row.got.shape != row.want.shape:
        return False
    if not np.isfinite(row.got.values).all():
        return False
    return row.key.reduction == "none" or np.allclose(2 * row.got.values, row.want.values, rtol=1e-3)


def verdict(result: api.CheckResult) -> str:
    """The verdict as a sentence."""
    rows = result.run.rows
    calls = len([row for row in rows if row.status != "unsupported"])
    counts = [
        (sum(row.expected in FAILING_ROWS for row in rows), calls, "calls"),
        (len(result.broken), len(result.relations), "relations"),
        (len(result.findings), result.drawn, "random problems"),
    ]
    wrong = [f"{bad} of {total:,} {noun}" for bad, total, noun in counts if bad]
    if shared := sum(row.expected in FAILING_ROWS and bool(row.known) for row in rows):
        wrong[0] += f" ({shared} of them where {result.checked.like} has a known issue)"
    right = [f"{total:,} {noun}" for bad, total, noun in counts if not bad and total]
    sure = (
        f"wrong: {', '.join(wrong)}" if wrong else "certified" if result.certified and calls else "nothing wrong so far"
    )
    passing = f"; {', '.join(right)} held" if right else ""
    narrowed = result.keyword and not result.wrong
    left_out = "; not certified: -k left out other cases, all relations and random problems" if narrowed else ""
    given_up = f"; {result.stopped}" if result.stopped else ""
    return f"{sure}{passing}{left_out}{given_up}; cases took {duration_text(result.run.record['duration'])}"
