"""What runs on GitHub: workflows say what they may do and what they use, and the action's steps do what they say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conformance import report
from conformance.adapters.libraries import pinned_releases
from conformance.casefiles.loading import load
from conformance.cli import github as on_github
from conformance.cli import run
from conformance.report.sarif import Failure
from conformance.tests.repository.test_plugin import CASES

FAKES = """
from conformance.adapters import registry
from conformance.tests import miniatures

registry.frameworks = lambda: (miniatures.framework(miniatures.{loss}),)
"""
COMMAND = """\
#!{python}
import sys

sys.path.insert(0, {folder!r})
import fakes

if sys.argv[1:2] == ["run"]:
    sys.argv.append("--in-process")  # no worker has the fakes

from conformance.cli import main

main()
"""
PYTHON = """\
#!/bin/sh
printf '%s\\n' "$@" >"$RUNNER_TEMP/installed"
"""

NEEDS_MORE = {"sarif"}
"""Inputs of the action that need more than to read; a workflow that is called for less could not have them."""

needs_bash = pytest.mark.skipif(os.name == "nt", reason="the action's steps are run by a bash of Unix")


def read(file):
    return yaml.load(file.read_text(encoding="utf-8"), yaml.BaseLoader)


@pytest.fixture(scope="session")
def github(checkout):
    return checkout / ".github"


@pytest.fixture(scope="session")
def workflows(github):
    return {file.name: read(file) for file in sorted(github.glob("workflows/*.yml"))}


@pytest.fixture(scope="session")
def action(github):
    return read(github / "actions" / "conformance" / "action.yml")


@pytest.fixture(scope="session")
def template(checkout):
    """The workflow for others that audits what Dependabot upgrades."""
    return read(checkout / "conformance" / "docs" / "templates" / "audit-upgrade.yml")


@pytest.fixture(scope="session")
def shown(checkout):
    """The workflows and jobs that the how-to page shows."""
    names = ("conformance/docs/pages/how-to/use-it-in-ci.md",)
    found = [
        (name, yaml.load(block, yaml.BaseLoader))
        for name in names
        for block in re.findall(r"^```yaml\n(.*?)^```$", (checkout / name).read_text(encoding="utf-8"), re.M | re.S)
    ]
    return [(name, one) for name, one in found if "jobs" in one]


def steps_of(workflow):
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


def test_permissions_are_declared_per_job(workflows):
    assert {"audit.yml", "check.yml", "comment.yml", "conform.yml", "release.yml", "reusable.yml"} <= set(workflows)
    for name, workflow in workflows.items():
        assert workflow["permissions"] == {}, name
        for job in workflow["jobs"].values():
            assert job["permissions"], name
            assert "timeout-minutes" in job, name


def test_actions_are_pinned_by_commit_sha_or_local(workflows, action):
    for step in [*action["runs"]["steps"], *(step for workflow in workflows.values() for step in steps_of(workflow))]:
        used = step.get("uses", "")
        assert not used or used.startswith("$/") or re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", used), used
        if used.startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] == "false"


def test_each_action_is_pinned_to_one_commented_sha(github, checkout):
    found = {}
    templates = checkout.glob("conformance/docs/templates/*.yml")
    for file in [*github.glob("workflows/*.yml"), *github.glob("actions/*/action.yml"), *templates]:
        for name, rest in re.findall(r"uses: ([\w./-]+)@(.*)", file.read_text(encoding="utf-8")):
            assert re.fullmatch(r"[0-9a-f]{40} # v\d+\.\d+\.\d+", rest), (file, rest)
            found.setdefault(name, set()).add(rest)
    assert found
    assert {name for name, pins in found.items() if len(pins) > 1} == set()


def test_run_steps_contain_no_expressions(workflows, action):
    for step in [*action["runs"]["steps"], *(step for workflow in workflows.values() for step in steps_of(workflow))]:
        assert "${{" not in step.get("run", "")


def test_reusable_workflow_passes_all_inputs(workflows, action):
    reusable = workflows["reusable.yml"]
    inputs = reusable["on"]["workflow_call"]["inputs"]
    used = next(step for step in steps_of(reusable) if step.get("uses", "").startswith("$/"))
    passed = {name: said["default"] for name, said in action["inputs"].items() if name not in NEEDS_MORE}
    assert used["with"] == {name: f"${{{{ inputs.{name} }}}}" for name in passed}
    assert {name: said["default"] for name, said in inputs.items() if name != "python"} == passed


class Runner:
    """A runner of GitHub with a checkout that has one case file, and a fake framework in place of the real ones."""

    def __init__(self, action, folder, loss):
        self.action = action
        self.workspace, self.temporary, tools = (folder / name for name in ("checkout", "temporary", "tools"))
        file = self.workspace / "mine" / "categorical" / "x.yaml"
        for made in (file.parent, self.temporary, tools):
            made.mkdir(parents=True)
        file.write_text(CASES, encoding="utf-8")
        (tools / "fakes.py").write_text(FAKES.format(loss=loss), encoding="utf-8")
        for name, text in {
            "conformance": COMMAND.format(python=sys.executable, folder=str(tools)),
            "python": PYTHON,
        }.items():
            (tools / name).write_text(text, encoding="utf-8")
            (tools / name).chmod(0o755)
        self.files = {name: self.temporary / name for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
        for written in self.files.values():
            written.touch()
        self.environment = {
            **os.environ,
            **{name: str(written) for name, written in self.files.items()},
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(folder / "action" / ".github" / "actions" / "conformance"),
            "GITHUB_WORKSPACE": str(self.workspace),
            "RUNNER_TEMP": str(self.temporary),
            "PATH": os.pathsep.join([str(tools), os.environ["PATH"]]),
        }
        Path(self.environment["GITHUB_ACTION_PATH"]).mkdir(parents=True)

    def step(self, name, **inputs):
        """One step as GitHub runs it, its inputs in its environment."""
        step = next(step for step in self.action["runs"]["steps"] if step["name"] == name)
        values = {key: said["default"] for key, said in self.action["inputs"].items()}
        values |= {key.replace("_", "-"): value for key, value in inputs.items()}
        variables = {
            key: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: values[found[1]], value)
            for key, value in step["env"].items()
        }
        script = self.temporary / "step.sh"
        script.write_text(step["run"], encoding="utf-8")
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(script)],
            cwd=self.workspace,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def said(self, name):
        return self.files[name].read_text(encoding="utf-8")


@pytest.fixture
def runner(action, tmp_path):
    return lambda loss="Categorical": Runner(action, tmp_path, loss)


@needs_bash
def test_action_writes_the_summary(runner):
    there = runner()
    ended = there.step("Run the cases", cases="mine", report="reports/a b")
    assert ended.returncode == 0, ended.stderr
    assert "::error" not in ended.stdout
    assert there.said("GITHUB_OUTPUT") == "status=0\n"
    assert there.step("Show the summary", report="reports/a b").returncode == 0
    assert there.said("GITHUB_STEP_SUMMARY") == (there.workspace / "reports/a b/summary.md").read_text(encoding="utf-8")


@needs_bash
def test_action_annotates_failure_at_case_line(runner):
    there = runner("DropsSmoothing")
    ended = there.step("Run the cases", cases="mine")
    assert ended.returncode == 1, ended.stderr
    beside = re.findall(r"^::error file=(.*?),line=(\d+),title=(.*?)::(.+)$", ended.stdout, re.MULTILINE)
    assert beside
    for file, line, title, _ in beside:
        assert file == "mine/categorical/x.yaml"
        assert CASES.splitlines()[int(line) - 1] == "  smoothed:"
        assert "categorical/x/smoothed" in title
    assert there.said("GITHUB_OUTPUT") == "status=1\n"
    there.step("Show the summary")
    assert "smoothed" in there.said("GITHUB_STEP_SUMMARY")
    folder = there.workspace / "reports" / "conformance"
    assert (folder / "comment.md").read_text(encoding="utf-8").startswith(report.marker("conformance"))
    assert len(json.loads((folder / "results.sarif").read_text(encoding="utf-8"))["runs"][0]["results"]) == len(beside)


@needs_bash
def test_fail_on_never_still_fails_on_usage_error(runner):
    there = runner("DropsSmoothing")
    assert there.step("Run the cases", cases="mine", fail_on="never").returncode == 0
    assert there.said("GITHUB_OUTPUT") == "status=1\n"
    assert there.step("Run the cases", cases="nowhere", fail_on="never").returncode == 2
    assert there.step("Run the cases", cases="mine", fail_on="sometimes").returncode == 2


@needs_bash
@pytest.mark.parametrize("fail_on", ["unexpected", "never"])
def test_action_fails_on_internal_error(runner, tmp_path, fail_on):
    there = runner()
    broken = "def judge(*_):\n    raise RuntimeError\n\n\nJudge.judge = judge\n"
    with (tmp_path / "tools" / "fakes.py").open("a", encoding="utf-8") as fakes:
        fakes.write(f"\nfrom conformance.judging.judge import Judge\n\n\n{broken}")
    ended = there.step("Run the cases", cases="mine", fail_on=fail_on)
    assert ended.returncode == 3, ended.stderr
    assert there.said("GITHUB_OUTPUT") == "status=3\n"
    assert "::error title=the suite itself failed::RuntimeError; please report it: " in ended.stderr
    assert "The suite itself failed, which is not a finding" in there.said("GITHUB_STEP_SUMMARY")


@needs_bash
def test_action_passes_with_baseline_of_same_failures(runner):
    there = runner("DropsSmoothing")
    there.step("Run the cases", cases="mine", report="accepted")
    ended = there.step("Run the cases", cases="mine", baseline="accepted")
    assert ended.returncode == 0, ended.stdout
    assert "::error" not in ended.stdout


@needs_bash
@pytest.mark.parametrize("name", ["cases", "baseline", "frameworks", "with", "report"])
def test_action_does_not_execute_input_text(runner, name):
    there = runner()
    there.step("Run the cases", **{"cases": "mine", name: "$(touch ran) `touch ran`; touch ran\n\"; touch ran '"})
    assert not list(there.workspace.rglob("ran"))


@needs_bash
@pytest.mark.parametrize(("environments", "extra"), [("", ""), ("torch==2.0\n\ntorch==2.1", "[audit]")])
def test_action_installs_its_own_version(runner, tmp_path, environments, extra):
    there = runner()
    assert (
        there.step("Install the suite", requirements="torch==2.13.0\nnumpy<3", **{"with": environments}).returncode == 0
    )
    listed = there.temporary / "conformance-requirements.txt"
    installed = (there.temporary / "installed").read_text(encoding="utf-8").splitlines()
    assert installed == ["-m", "pip", "install", f"{tmp_path / 'action'}{extra}", "-r", str(listed)]
    assert listed.read_text(encoding="utf-8") == "torch==2.13.0\nnumpy<3\n"


def test_workflow_commands_escapes_message(tmp_path, monkeypatch):
    file = tmp_path / "a,b:c%" / "x.yaml"
    file.parent.mkdir()
    file.write_text(CASES, encoding="utf-8")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    cases = load(file)
    asked = {"case": "x/plain", "digest": "", "dtype": "", "reduction": "", "quantity": "loss"}
    evil = {**asked, "function": "100%: a, b\r\n::warning::c"}
    failed = [Failure("disagrees", evil, "50%\r\n::error::d\x1b[2J: e, f")] * 12
    text = run.workflow_commands(failed, cases)
    assert len(text) == on_github.MAX_ANNOTATIONS
    assert text[0] == (
        "::error file=a%2Cb%3Ac%25/x.yaml,line=9,title=100%25%3A a%2C b%0D%0A%3A%3Awarning%3A%3Ac-x/plain-- disagrees::"
        r"50%25%0D%0A::error::d\x1b[2J: e, f"
    )
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path / "elsewhere"))
    assert run.workflow_commands(failed[:1], cases)[0].startswith("::error title=")


def test_write_permissions_are_limited_to_release_and_comment_jobs(workflows):
    may = {
        (name, key, what)
        for name, workflow in workflows.items()
        for key, job in workflow["jobs"].items()
        for what, how in job["permissions"].items()
        if how != "read"
    }
    assert may == {
        ("audit.yml", "report", "issues"),
        ("comment.yml", "comment", "pull-requests"),
        ("release.yml", "attest", "attestations"),
        ("release.yml", "attest", "id-token"),
        ("release.yml", "publish", "id-token"),
    }


def test_publish_job_needs_test_job(workflows):
    jobs = workflows["release.yml"]["jobs"]
    assert [jobs[name].get("needs") for name in ("build", "test", "attest", "publish")] == [
        None,
        "build",
        "test",
        "attest",
    ]


class Scripts:
    """The scripts of the audit workflow, with a command in place of each that they call; `calls` is what was called."""

    def __init__(self, github, folder):
        self.github, self.folder = github, folder
        self.log = folder / "calls"
        self.tools = folder / "tools"
        self.tools.mkdir()

    def tool(self, name, prints="", status=0):
        script = f'#!/bin/sh\n{{ printf "%s|" "$@"; echo; }} >>"{self.log}"\ncat <<"END"\n{prints}END\nexit {status}\n'
        (self.tools / name).write_text(script, encoding="utf-8")
        (self.tools / name).chmod(0o755)

    def run(self, name, *arguments):
        path = os.pathsep.join([str(self.tools), os.environ["PATH"]])
        command = [str(self.github / name), *map(str, arguments)]
        return subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)

    def step(self, workflow):
        """The one step of a workflow that is a script, in this folder, for pull request 5 of a repository."""
        (script,) = [step["run"] for step in steps_of(workflow) if "run" in step]
        path = os.pathsep.join([str(self.tools), os.environ["PATH"]])
        variables = {**os.environ, "PATH": path, "REPOSITORY": "me/mine", "NUMBER": "5"}
        return subprocess.run(
            ["bash", "-e", "-c", script], cwd=self.folder, env=variables, capture_output=True, text=True, check=False
        )

    @property
    def calls(self):
        return [line.split("|")[:-1] for line in self.log.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def scripts(github, tmp_path):
    return Scripts(github, tmp_path)


@needs_bash
@pytest.mark.parametrize(("releases", "least"), [("newest", "{}"), ("pre-releases", "{}.dev0")])
def test_audit_script_compares_pins_with_newer_releases(scripts, github, workflows, releases, least):
    pins = pinned_releases()
    scripts.tool("conformance", "# what was found\n", status=1)
    strategy = workflows["audit.yml"]["jobs"]["audit"]["strategy"]["matrix"]
    assert releases in strategy["releases"]
    for framework in strategy["framework"]:
        folder = scripts.folder / framework
        assert scripts.run("audit", framework, releases, folder).returncode == 0
        names = [framework, *(["tensorflow-cpu"] if framework == "keras" else [])]
        old, new = (" ".join(f"{name}{said.format(pins[name])}" for name in names) for said in ("=={}", f">={least}"))
        assert scripts.calls[-1][:3] == ["audit", old, new]
        assert (folder / "issue.md").read_text(encoding="utf-8") == "# what was found\n"
        assert (folder / "status").read_text(encoding="utf-8") == "1\n"
    assert scripts.run("audit", "numpy-but-unknown", releases, scripts.folder / "x").returncode == 2


@needs_bash
def test_audit_script_reports_failed_audit(scripts):
    scripts.tool("conformance", status=2)
    assert scripts.run("audit", "torch", "newest", scripts.folder / "torch").returncode == 2
    assert (scripts.folder / "torch" / "issue.md").read_text(encoding="utf-8").startswith("# torch, newest: no audit")
    scripts.tool("conformance", status=3)
    assert scripts.run("audit", "torch", "newest", scripts.folder / "torch").returncode == 3
    found = (scripts.folder / "torch" / "issue.md").read_text(encoding="utf-8")
    assert found.startswith("# torch, newest: the suite itself failed")


@needs_bash
@pytest.mark.parametrize(
    ("statuses", "number", "called"),
    [
        ("00", "", []),
        ("01", "", ["create"]),
        ("01", "7\n", ["edit", "7"]),
        ("00", "7\n", ["edit", "7"]),
        ("", "", []),
        ("03", "", []),
        ("13", "", ["create"]),
        ("03", "7\n", ["edit", "7"]),
    ],
)
def test_audit_issue_creates_or_edits_one_issue(scripts, statuses, number, called):
    for place, status in enumerate(statuses):
        folder = scripts.folder / "audits" / f"audit-{place}"
        folder.mkdir(parents=True)
        (folder / "status").write_text(f"{status}\n", encoding="utf-8")
        (folder / "issue.md").write_text("\u00e9" * 70_000, encoding="utf-8")
    scripts.tool("gh", number)
    (scripts.tools / "gh").write_text(
        (scripts.tools / "gh")
        .read_text(encoding="utf-8")
        .replace(
            "#!/bin/sh\n",
            f'#!/bin/sh\nfor last; do :; done\nif [ -f "$last" ]; then cp "$last" "{scripts.folder}/body"; fi\n',
        ),
        encoding="utf-8",
    )
    ended = scripts.run("audit-issue", scripts.folder / "audits", "https://example.org/1")
    assert ended.returncode == 0, ended.stderr
    assert [call[1 : 1 + len(called)] for call in scripts.calls[1:]] == ([called] if called else [])
    if called:
        body = (scripts.folder / "body").read_text(encoding="utf-8")
        assert body.endswith("The reports: https://example.org/1\n")
        assert len(body.encode()) < 65_536
        assert ("\u00e9" in body) == ("1" in statuses or "3" in statuses)
        assert ("Nothing" in body) == (set(statuses) == {"0"})


def test_comment_job_does_not_run_pull_request_code(workflows):
    (job,) = workflows["comment.yml"]["jobs"].values()
    assert job["permissions"] == {"pull-requests": "write"}
    assert "pull_request_target" not in str(workflows.values())
    used = [step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step]
    assert used == ["actions/download-artifact"]


@needs_bash
@pytest.mark.parametrize(("there", "method"), [("", "POST"), ("17\n18\n", "PATCH")])
def test_comment_job_creates_or_updates_one_comment(scripts, workflows, there, method):
    (scripts.folder / "report").mkdir()
    body = f"{report.marker('latest')}\n$(touch ran) `touch ran`\n"
    (scripts.folder / "report" / "comment.md").write_text(body, encoding="utf-8")
    scripts.tool("gh", there)
    assert scripts.step(workflows["comment.yml"]).returncode == 0
    asked, told = scripts.calls
    assert asked[:3] == ["api", "--paginate", "repos/me/mine/issues/5/comments?per_page=100"]
    assert told[-1] == "body=@report/comment.md"
    assert told[3] == method
    assert told[4] == ("repos/me/mine/issues/comments/17" if there else "repos/me/mine/issues/5/comments")
    assert not (scripts.folder / "ran").exists()


@needs_bash
@pytest.mark.parametrize(
    "body", ["hello\n", f"{report.marker('x')}\n" + "a" * 70_000, f"x{report.marker('x')}\n", None]
)
def test_comment_job_rejects_body_without_marker(scripts, workflows, tmp_path, body):
    (scripts.folder / "report").mkdir()
    if body is None:
        (tmp_path / "secret").write_text(report.marker("x"), encoding="utf-8")
        (scripts.folder / "report" / "comment.md").symlink_to(tmp_path / "secret")
    else:
        (scripts.folder / "report" / "comment.md").write_text(body, encoding="utf-8")
    scripts.tool("gh")
    assert scripts.step(workflows["comment.yml"]).returncode == 1
    assert not scripts.log.exists()


OURS = "cross-entropy-conformance/cross-entropy-conformance/"


def test_documented_workflows_use_existing_inputs_and_permissions(shown, checkout, template):
    ours = [(name, workflow) for name, workflow in shown if workflow != template]  # which uses nothing of ours
    assert (len(ours), len(shown)) == (2, 3)
    for name, workflow in ours:
        for job in workflow["jobs"].values():
            (used,) = [one for one in [job, *job.get("steps", [])] if one.get("uses", "").startswith(OURS)]
            path = used["uses"].removeprefix(OURS).partition("@")[0]
            file = checkout / path if path.endswith(".yml") else checkout / path / "action.yml"
            said = read(file)
            inputs = said["on"]["workflow_call"]["inputs"] if "on" in said else said["inputs"]
            assert set(used.get("with", {})) <= set(inputs), name
            granted = job["permissions"]
            for asked in (one["permissions"] for one in said.get("jobs", {}).values()):
                assert asked.items() <= granted.items(), f"{name}: GitHub starts no workflow that asks for more"
            if used.get("with", {}).get("sarif") == "true":
                assert granted["security-events"] == "write"


def test_template_only_reads_and_expands_no_text(template):
    assert template["permissions"] == {}
    assert [job["permissions"] for job in template["jobs"].values()] == [{"contents": "read"}]
    assert set(template["on"]) == {"pull_request"}
    for step in steps_of(template):
        assert "${{" not in step.get("run", "")
        assert step.get("with", {}).get("persist-credentials", "false") == "false"
    before = next(step["with"] for step in steps_of(template) if step.get("with", {}).get("path") == "before")
    assert before["ref"] == "${{ github.event.pull_request.base.sha }}"


@needs_bash
@pytest.mark.parametrize("status", [0, 1, 2, 3])
def test_template_fails_with_status_of_audit(scripts, template, status):
    (step,) = [step for step in steps_of(template) if step.get("name") == "Audit the upgrade"]
    scripts.tool("conformance", status=status)
    if status < 2:
        (scripts.folder / "audit").mkdir()
        (scripts.folder / "audit" / "audit.md").write_text("# From here to there\n", encoding="utf-8")
    variables = {**step["env"], "GITHUB_STEP_SUMMARY": str(scripts.folder / "summary")}
    path = os.pathsep.join([str(scripts.tools), os.environ["PATH"]])
    ended = subprocess.run(
        ["bash", "-e", "-c", step["run"]],
        cwd=scripts.folder,
        env={**os.environ, **variables, "PATH": path},
        check=False,
    )
    assert ended.returncode == status
    file = step["env"]["FILE"]
    assert scripts.calls == [["audit", f"before/{file}", f"after/{file}", "--report", "audit", "--fail-on", "change"]]
    assert template["on"]["pull_request"]["paths"] == [file]
    if status < 2:
        assert (scripts.folder / "summary").read_text(encoding="utf-8") == "# From here to there\n"


def test_ci_runs_on_three_pythons_and_three_systems(workflows):
    matrix = workflows["check.yml"]["jobs"]["tests"]["strategy"]["matrix"]
    jobs = [(system, python) for system in matrix["os"] for python in matrix["python"]]
    jobs += [(one["os"], one["python"]) for one in matrix["include"]]
    assert len(jobs) == 5
    assert {python for _, python in jobs} == {"3.11", "3.12", "3.13"}
    assert {system.partition("-")[0] for system, _ in jobs} == {"ubuntu", "macos", "windows"}
