"""Cases, functions and answers without a run: list, show, explain, and check them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from conformance.adapters import registry
from conformance.adapters.contract import Function
from conformance.adapters.libraries import pinned_installations
from conformance.adapters.registry import Installed
from conformance.api.base import SILENT, Observer, Result
from conformance.casefiles import stated_values
from conformance.casefiles.known_issues import HARVEST_PREFIX, Ledger
from conformance.casefiles.known_issues import read as read_known
from conformance.casefiles.loading import count_cases, read, shipped_cases
from conformance.execution.assessing import NotExecuted, judge_items
from conformance.execution.run import Run
from conformance.execution.targets import open_judge, pool_if_needed
from conformance.explain.explainer import explain as explain_case
from conformance.explain.explanation import Explanation
from conformance.explain.rendering import serialize_explanation
from conformance.explore.relations.catalogue import check_relation_names
from conformance.judging.case_set import load_case_set
from conformance.judging.choice import check_choice, check_sequence, installed_among
from conformance.judging.coverage import Coverage, coverage
from conformance.judging.judge import Judge
from conformance.judging.plan import expand_modes, plan
from conformance.judging.published import PublishedVerdict, published
from conformance.judging.row import Row
from conformance.judging.selection import SelectionError, function_filter
from conformance.judging.unsupported import unsupported_rows
from conformance.judging.verdict import serialize_answer
from conformance.model.case import QUANTITIES, Case, Quantity, Reduction
from conformance.model.errors import CaseErrors, CaseFileError
from conformance.model.row_key import EAGER
from conformance.model.text import suggest
from conformance.power.harvest.pipeline import load_harvest
from conformance.reference.oracle import Oracle, exact_digits
from conformance.report.support import function_cells

EXACT_DIGITS = 20
"""Number of significant digits of the exact answers that are shown."""


def load_case(case_id: str, cases: Path | None = None) -> tuple[Case, Ledger]:
    """Load a case, and the ledger of its suite: the list of known issues, which apply to any of the cases.

    Parameters
    ----------
    case_id : str
        Id of a case, such as `categorical/ignore_index/with_class_weights`.  A harvested case is read from the tests
        of the project that its id names.
    cases : Path, optional
        Folder of case files, or one file; the shipped cases if None.

    Returns
    -------
    case : Case
    ledger : Ledger
        The known issues of the whole suite.

    Raises
    ------
    SelectionError
        If there is no such case.
    CaseErrors
        If the files have errors.
    """
    if cases is None and case_id.startswith(HARVEST_PREFIX):
        case_set, _ = load_harvest([case_id.split("/")[1]])
    else:
        case_set = load_case_set(cases)
    return find_case(case_set.cases, case_id, cases), case_set.ledger


def find_case(cases: list[Case], case_id: str, folder: Path | None = None) -> Case:
    """The case with an id; raises SelectionError if there is none.

    folder: folder of the cases; None means the shipped cases.
    """
    for case in cases:
        if case.id == case_id:
            return case
    ids = [case.id for case in cases]
    if folder is not None:
        hint = suggest(case_id, ids, f"conformance list cases --cases {folder}")
        raise SelectionError(f"there is no case {case_id} in {folder}; {hint}")
    hint = suggest(case_id, ids, "conformance list cases")
    raise SelectionError(f"there is no case {case_id}; {hint}; --cases DIR looks for it in your folder")


@dataclass(frozen=True, eq=False)
class CaseList(Result):
    """Cases, in the order of their ids."""

    command = "list.cases"
    cases: tuple[Case, ...]
    """The cases, sorted by id."""

    def to_dict(self) -> dict[str, Any]:
        return {"cases": [describe_case(case) for case in self.cases]}


def list_cases(cases: Path | None = None) -> CaseList:
    """Load every case of a folder.

    Parameters
    ----------
    cases : Path, optional
        Folder of case files, or one file; the shipped cases if None.

    Returns
    -------
    CaseList

    Raises
    ------
    CaseErrors
        If the files have errors.
    """
    return CaseList(tuple(load_case_set(cases).cases))


@dataclass(frozen=True)
class FunctionEntry:
    """The declaration of a function by its adapter."""

    function: str
    """Name of the function, such as `torch.CrossEntropyLoss`."""
    predictions: str
    """Input kinds that it accepts without a conversion, with the ranks."""
    labels: str
    """Kinds of target, including those that are re-encoded for it."""
    options: str
    """Options that it supports."""
    reductions: str
    """Reductions that it supports."""
    dtypes: str
    """dtypes of the predictions that it accepts."""
    layouts: str
    """Class axes, label dtypes and memory orders."""
    weights: str
    """The shape in which sample weights are passed."""
    untested: tuple[str, ...]
    """Arguments that no case uses."""
    version: str
    """Version of its framework; empty if it is not installed."""
    modes: str
    """Modes in which it can be called, on the current backend."""

    def to_dict(self) -> dict[str, Any]:
        """Convert to builtin values."""
        values = dataclasses.asdict(self)
        return {"not asked" if name == "untested" else name: value for name, value in values.items()}


@dataclass(frozen=True)
class FunctionList(Result):
    """The declarations of all functions."""

    command = "list.functions"
    functions: tuple[FunctionEntry, ...]
    """An entry for each function."""

    def to_dict(self) -> dict[str, Any]:
        return {"functions": [entry.to_dict() for entry in self.functions]}


def list_functions(observer: Observer = SILENT) -> FunctionList:
    """Return the declarations of all known functions, whether or not they are installed.

    Parameters
    ----------
    observer : Observer
        Notified of adapters that cannot be used.

    Returns
    -------
    FunctionList
    """
    installations, _ = registry.installed(registry.frameworks())
    available = {installation.framework.name: installation for installation in installations}
    frameworks = {framework.name: framework for framework in registry.frameworks()}

    def entry(function: Function) -> FunctionEntry:
        untested = tuple(f"{argument} ({description})" for argument, description in function.untested.items())
        installed, framework = available.get(function.framework_name), frameworks[function.framework_name]
        backend = framework.backend({}) if installed is None else installed.backend
        modes = " ".join(mode for mode in framework.modes_in(backend) if function.has_mode(mode))
        version = "" if installed is None else installed.version
        name, predictions, labels, options, reductions, dtypes, layouts = function_cells(function)
        accepted = (predictions, labels, options, reductions, dtypes, layouts)
        return FunctionEntry(name, *accepted, function.sample_weight_shape, untested, version, modes)

    for error in registry.broken_adapters():
        observer.note(error)
    return FunctionList(tuple(map(entry, registry.functions())))


@dataclass(frozen=True)
class LibraryEntry:
    """A known library, and the environments that `run --all` creates for it."""

    library: str
    """Name of its framework."""
    functions: int
    """Number of its functions."""
    environments: tuple[str, ...]
    """Requirements of each environment, one per backend, in the format of `--with`; empty if none are pinned."""
    installed: str
    """Version in the current environment; empty if it is not installed."""


@dataclass(frozen=True)
class LibraryList(Result):
    """The known libraries."""

    command = "list.libraries"
    libraries: tuple[LibraryEntry, ...]
    """The libraries, sorted by name."""

    def to_dict(self) -> dict[str, Any]:
        return {"libraries": [dataclasses.asdict(entry) for entry in self.libraries]}


def list_libraries() -> LibraryList:
    """Return the known libraries with the environments that `run --all` creates for them.

    Returns
    -------
    LibraryList
    """
    count = Counter(function.framework_name for function in registry.functions())
    installations, _ = registry.installed(registry.frameworks())
    versions = {installation.framework.name: installation.version for installation in installations}
    return LibraryList(
        tuple(
            LibraryEntry(
                framework.name,
                count[framework.name],
                tuple(installation.environment for installation in pinned_installations(framework)),
                versions.get(framework.name, ""),
            )
            for framework in registry.frameworks()
        )
    )


@dataclass(frozen=True, eq=False)
class CaseAnswers:
    """The exact answer to a case for one dtype and reduction, and the results of all installed functions."""

    dtype: str
    """dtype of the predictions."""
    reduction: Reduction
    """Reduction of the losses."""
    exact: Any
    """Decimal digits as a string, in nested lists if the answer has axes; `Undefined` or `Invalid` if there is none."""
    rows: list[Row]
    """A row of a report for each function and quantity."""

    def to_dict(self) -> dict[str, Any]:
        """Convert to builtin values."""
        exact = self.exact if isinstance(self.exact, str | list) else serialize_answer(self.exact)
        return {
            "dtype": self.dtype,
            "reduction": self.reduction,
            "exact": exact,
            "functions": [row.cells for row in self.rows],
        }


@dataclass(frozen=True, eq=False)
class ShowResult(Result):
    """A case, its exact answers, and the results of all installed functions."""

    command = "show"
    case: Case
    """The case."""
    answers: tuple[CaseAnswers, ...]
    """The exact answer and the results for each dtype and reduction."""
    published: tuple[PublishedVerdict, ...]
    """Numbers from publications, and whether they hold."""
    unsupported: list[Row]
    """A row for each dtype and reduction for which no installed function supports the case."""
    not_executed: tuple[NotExecuted, ...]
    """Calls that could not be made, each with the reason."""

    def to_dict(self) -> dict[str, Any]:
        return {
            **describe_case(self.case),
            "answers": [answer.to_dict() for answer in self.answers],
            "published": [{**number.record(), **dataclasses.asdict(number.published)} for number in self.published],
            "unsupported": [row.cells for row in self.unsupported],
        }


def describe_case(case: Case) -> dict[str, Any]:
    """A case without its arrays, as builtin values."""
    return {
        "case": case.id,
        "digest": case.digest,
        "why": case.why,
        "loss": case.loss,
        "given": case.input_kind,
        "target": case.target,
        "options": list(case.options.names()),
        "layout": list(case.layout.names()),
        "dtypes": list(case.dtypes),
        "reductions": list(case.reductions),
        "path": case.path,
        "line": case.line,
    }


def show(
    case_id: str,
    cases: Path | None = None,
    dtype: str = "",
    modes: Sequence[str] = (),
    frameworks: Sequence[str] = (),
    functions: Sequence[str] = (),
) -> ShowResult:
    """Call all installed functions on a case, and compare the results with its exact answers.

    Parameters
    ----------
    case_id : str
        Id of a case, such as `categorical/ignore_index/with_class_weights`.
    cases : Path, optional
        Folder of case files, or one file; the shipped cases if None.
    dtype : str, optional
        One of the dtypes of the case; all if empty.
    modes : sequence of str, optional
        Modes of the calls, for frameworks that have them; eager if empty.
    frameworks, functions : sequence of str
        Names of those to call; all installed ones if empty.  Others are not imported.

    Returns
    -------
    ShowResult

    Raises
    ------
    SelectionError
        If there is no such case, dtype, framework or function, or no framework has one of the modes.
    """
    case, ledger = load_case(case_id, cases)
    dtypes = (check_choice("--dtype", dtype, case.dtypes),) if dtype else case.dtypes
    available = frameworks_to_call(frameworks, functions, modes)
    item_filter = function_filter(functions)
    planned = plan([case], available, item_filter)
    run = Run()
    with pool_if_needed(available, ledger) as pool:
        run.execute(judge_items([item for item in planned if item.dtype in dtypes], Judge(Oracle(), ledger), pool))
    answers = [
        CaseAnswers(
            chosen,
            reduction,
            exact_digits(case.problem(chosen, reduction), count=EXACT_DIGITS),
            [row for row in run.rows if (row.key.dtype, row.key.reduction) == (chosen, reduction)],
        )
        for chosen in dtypes
        for reduction in case.reductions
    ]
    unsupported = [row for row in unsupported_rows([case], planned, available, item_filter) if row.key.dtype in dtypes]
    numbers = tuple(published(case))
    return ShowResult(case, tuple(answers), numbers, unsupported, tuple(run.not_executed))


@dataclass(frozen=True, eq=False)
class ExplainResult(Result):
    """An explanation with its case."""

    command = "explain"
    case: Case
    """The case."""
    explanation: Explanation
    """The derivation of the definition's answer, and what each function does differently."""

    def to_dict(self) -> dict[str, Any]:
        return serialize_explanation(self.explanation)


def explain(
    case_id: str,
    cases: Path | None = None,
    functions: Sequence[str] = (),
    dtype: str = "",
    reduction: str = "",
    quantity: str = "loss",
    mode: str = EAGER,
    frameworks: Sequence[str] = (),
) -> ExplainResult:
    """Explain how the answer to a case is derived, and why each installed function returns a different one.

    Parameters
    ----------
    case_id : str
        Id of a case, such as `categorical/ignore_index/with_class_weights`.
    cases : Path, optional
        Folder of case files, or one file; the shipped cases if None.
    functions : sequence of str
        Names of functions; all installed ones if empty.
    dtype, reduction : str, optional
        A dtype and a reduction of the case.  If empty: float32 and mean, or the first of the case if it lacks them.
    quantity : str
        The quantity to explain: `loss`, `gradient`, `perplexity`, `perplexity_gradient`, `d2`, `hessian`, or for
        functions that compute the logits themselves `hidden_gradient`, `weight_gradient` or `bias_gradient`.
    mode : str
        Mode of the calls; frameworks without it are skipped.
    frameworks : sequence of str
        Names of the frameworks of these functions; all installed ones if empty.

    Returns
    -------
    ExplainResult

    Raises
    ------
    SelectionError
        If the case, or a function, framework, dtype, reduction, quantity or mode does not exist.
    """
    case, ledger = load_case(case_id, cases)
    default_reduction = "mean" if "mean" in case.reductions else case.reductions[0]
    default_dtype = "float32" if "float32" in case.dtypes else case.dtypes[0]
    chosen = check_choice("--dtype", dtype or default_dtype, case.dtypes)
    reduced = cast(Reduction, check_choice("--reduction", reduction or default_reduction, case.reductions))
    requested = cast(Quantity, check_choice("--quantity", quantity, QUANTITIES))
    available = frameworks_to_call(frameworks, functions, [mode])
    with open_judge(available, ledger) as judge:
        explanation = explain_case(case, chosen, reduced, available, judge, requested, functions)
    return ExplainResult(case, explanation)


def frameworks_to_call(frameworks: Sequence[str], functions: Sequence[str], modes: Sequence[str]) -> list[Installed]:
    """The installed frameworks to call, once for each mode.

    1. The frameworks with the names in `frameworks`, if there are any.
    2. Otherwise the frameworks of the functions in `functions`, if there are any.
    3. Otherwise the frameworks that a run has by default.
    """
    installations, _ = registry.installed(registry.frameworks())
    check_functions(functions, installations)
    if frameworks or not functions:
        available, _ = installed_among(frameworks, modes)
        return available
    requested = set(functions)
    return expand_modes(
        [one for one in installations if not requested.isdisjoint(function.name for function in one.functions)], modes
    )


def check_functions(names: Sequence[str], available: Sequence[Installed], option: str = "--function") -> None:
    """Raise SelectionError for a name that no installed function has.

    option: the command-line option that contains the names.
    """
    check_sequence(option, names)
    installed = [function.name for installation in available for function in installation.functions]
    known = [function.name for function in registry.functions()]
    for name in names:
        if name in installed:
            continue
        if name in known:
            raise SelectionError(f"{option} {name}: {name.partition('.')[0]} is not installed")
        hint = suggest(name, [*installed, *known], "conformance list functions")
        raise SelectionError(f"{option} {name}: there is no such function; {hint}")


@dataclass(frozen=True)
class ExpectResult(Result):
    """The exact answers to a case, rounded to a number of digits."""

    command = "expect"
    case: str
    """Id of the case."""
    digits: int
    """Number of significant digits."""
    expect: dict[str, Any]
    """The answers, in the format of `expect` in a case file: `value`, with an answer per reduction, or `error`."""

    to_dict = dataclasses.asdict


def expect(case_id: str, digits: int = 25, cases: Path | None = None) -> ExpectResult:
    """Compute the exact answers to a case, in the format of its `expect`.

    Parameters
    ----------
    case_id : str
        Id of a case, such as `categorical/ignore_index/with_class_weights`; it need not pass `lint`.
    cases : Path, optional
        Folder of case files, or one file; the shipped cases if None.
    digits : int
        Number of significant digits.

    Returns
    -------
    ExpectResult

    Raises
    ------
    SelectionError
        If there is no such case.
    """
    cases_read, _ = read(shipped_cases() if cases is None else cases)
    return ExpectResult(case_id, digits, stated_values.expect_block(find_case(cases_read, case_id, cases), digits))


@dataclass(frozen=True, eq=False)
class LintResult(Result):
    """Errors in case files and their ledger, and the coverage of the cases."""

    command = "lint"
    folder: Path
    """Folder or file that was checked."""
    cases: int
    """Number of cases in the files, including wrong ones."""
    uncounted: int
    """Number of files whose cases cannot be counted."""
    problems: list[CaseFileError]
    """The errors, by file and line."""
    coverage: Coverage
    """Coverage of pairs of capabilities by the cases."""
    notes: list[str]
    """Ambiguities in files, with the position, and how they are resolved; they are not errors."""

    def to_dict(self) -> dict[str, Any]:
        names = ("path", "line", "column", "where", "message", "advice")
        problems = [{name: getattr(problem, name) for name in names} for problem in self.problems]
        return {
            "folder": str(self.folder),
            "cases": self.cases,
            "problems": problems,
            "coverage": str(self.coverage),
            "notes": self.notes,
            "uncounted_files": self.uncounted,
        }


def lint(folder: Path | None = None, *, strict: bool = False) -> LintResult:
    """Check case files and their ledger: schema, ids, labels, digits, generated arrays, unused entries.

    Parameters
    ----------
    folder : Path, optional
        Folder of case files, or one file; the shipped cases if None.
    strict : bool
        Also require the properties of published cases: a first line that names the schema, `about`, `source` and `why`.

    Returns
    -------
    LintResult
    """
    root = shipped_cases() if folder is None else folder
    problems: list[CaseFileError] = []
    try:
        check_relation_names(load_case_set(root).ledger)
    except CaseErrors as error:
        problems += error.errors
    cases, wrong = read(root, thorough=True, strict=strict)
    _, wrong_issues = read_known(root, strict=strict)
    wrong += wrong_issues
    problems += [error for error in wrong if str(error) not in set(map(str, problems))]
    problems.sort(key=lambda error: (error.path, error.line, error.column))
    notes = [case.note for case in cases if case.note]
    count, uncounted = count_cases(root) if problems else (len(cases), 0)
    return LintResult(root, count, uncounted, problems, coverage(cases, registry.functions()), notes)
