"""The documentation is true: its commands run, its files are valid, its links lead somewhere.

Commands are read from fenced and indented blocks of README.md and docs/*.md. Each is one of these:

- run: in this process, in a folder with a finished small workdir and `my-images`, in the order of the page. Budgets
  are replaced by one that every machine can meet (`BUDGET`), so exports may replace one another; what takes long is
  made shorter (`SHORTER`); a command that ran already is not run twice.
- parsed: under a comment `<!-- not run: REASON -->`. The real parser reads the command with its options; of Python,
  the imports are run.
- of another program: `make`, `pip` and benchmarks are looked up, others are listed in `OTHERS`.
"""

import ast
import json
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BUDGET = "1000"
SHORTER = {
    ("lut", "build"): ["--resolution", "24"],
    ("lut", "validate"): ["--subnets", "3"],
    ("predictor", "fit"): ["--archs", "13"],
    ("export",): ["--force"],
}
LONG, LONG_OPTIONS = {("demo",), ("zoo", "import")}, {"--space", "--recipe", "--restart", "--dry-run"}
OTHERS = {"tensorboard", "mkdocs", "adb", "edgetpu_compiler", "git", "cd", "export", "scp", "ssh", "rsync", "unzip"}
SHELL = {"sh", "bash", "console", ""}
NOT_RUN = re.compile(r"<!-- not run: (.+) -->")


@dataclass(frozen=True)
class Snippet:
    """A block of a page: what it is written in, its text, and why it is not run, if it is not."""

    page: Path
    line: int
    language: str
    title: str | None
    text: str
    not_run: str | None

    @property
    def commands(self) -> list[str]:
        """Its commands, continued lines joined, without prompts and comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def read_snippets(page: Path) -> list[Snippet]:
    """The fenced blocks of a page, and the indented ones that hold commands."""
    found, lines, number = [], page.read_text().splitlines(), 0
    while number < len(lines):
        start, line = number, lines[number]
        number += 1
        before = next((text for text in reversed(lines[:start]) if text.strip()), "")
        reason = NOT_RUN.fullmatch(before.strip())
        not_run = reason and reason[1]
        if fence := re.fullmatch(r"```(\w*)(?: title=\"(.+)\")?", line):
            number = lines.index("```", number) + 1
            text = "\n".join(lines[start + 1 : number - 1])
            found.append(Snippet(page, start + 1, fence[1], fence[2], text, not_run))
        elif re.match(r"    (\S+=\S+ )*(ofa-tf|make|pip|python) ", line):
            while number < len(lines) and lines[number].startswith("    "):
                number += 1
            text = "\n".join(text[4:] for text in lines[start:number])
            found.append(Snippet(page, start + 1, "sh", None, text, not_run))
    return found


def words_of(command: str) -> list[str]:
    """A command's words, without the variables set before it, a trailing comment, and `.venv/bin/`."""
    words = shlex.split(command, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0], re.DOTALL):
        words = words[1:]
    return [words[0].removeprefix(".venv/bin/"), *words[1:]] if words else []


def find_command(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that words begin with, and the words left over."""
    from ofa_tf.cli.main import cli

    command, rest = cli, list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(click.Context(command), rest[0])
        if found is None:
            break
        command, rest = found, rest[1:]
    return command, rest


def check_parsed(words: list[str]) -> None:
    command, rest = find_command(words[1:])
    assert not isinstance(command, click.Group), f"there is no command {shlex.join(words)}"
    command.make_context(words[0], rest)


def check_other(words: list[str]) -> None:
    """A command of another program refers to what there is."""
    program, rest = words[0], words[1:]
    if program == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in rest if "=" not in word} <= set(targets)
    elif program == "pip":
        extras = re.findall(r"\[([a-z,]+)\]", " ".join(rest))
        known = re.findall(r"^([a-z]+) =$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
        assert {name for names in extras for name in names.split(",")} <= set(known)
    elif program == "python" and rest[0].startswith("benchmarks/"):
        text = (ROOT / rest[0]).read_text()
        assert all(f'"{word}"' in text for word in rest[1:] if word.startswith("--"))
    else:
        assert program in OTHERS, f"{program} is no program that the documentation is known to use"


@pytest.fixture(scope="module")
def desk(tmp_path_factory, finished, image_folder) -> Path:
    """A folder as a reader has it who has followed the tutorial: a workdir, and `my-images`."""
    folder = tmp_path_factory.mktemp("desk")
    shutil.copytree(finished, folder, dirs_exist_ok=True)
    shutil.copytree(image_folder, folder / "my-images")
    shutil.rmtree(folder / "exports")
    config = json.loads((folder / "config.json").read_text())
    config["data"] = str(folder / "my-images")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def done() -> set[tuple[str, ...]]:
    """Arguments of the commands that ran already."""
    return set()


def test_there_is_something_to_check():
    commands = [command for page in PAGES for snippet in read_snippets(page) for command in snippet.commands]
    assert sum(command.startswith("ofa-tf ") for command in commands) > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_run(page, desk, done, ofa, monkeypatch):
    from ofa_tf.latency.host import HostDevice

    monkeypatch.setattr("ofa_tf.project.opened.HostDevice", partial(HostDevice, seconds=0.1, least_rounds=2))
    monkeypatch.setattr("ofa_tf.project.export.EXPORT_SECONDS", 0.1)
    monkeypatch.setattr("ofa_tf.project.lut.CALIBRATION_SUBNETS", 8)
    monkeypatch.setattr("ofa_tf.export.block_files.n_cores", lambda: 1)
    # The network of the tests is hardly trained: its files need not agree with it.
    monkeypatch.setattr("ofa_tf.export.gate.Parity.complaint", lambda *_: None)
    monkeypatch.chdir(desk)
    kinds = []  # what is done with each line; `pytest -rP` shows them
    for snippet in read_snippets(page):
        where = f"{page.name}:{snippet.line}"
        if snippet.title:
            (desk / snippet.title).write_text(snippet.text)
        if snippet.language == "python":
            code = ast.parse(snippet.text)
            if snippet.not_run:
                code.body = [line for line in code.body if isinstance(line, ast.Import | ast.ImportFrom)]
            exec(compile(code, where, "exec"), {})
            continue
        for command in snippet.commands if snippet.language in SHELL else ():
            words = words_of(command)
            if not words or words[0] != "ofa-tf":
                assert words or not command, where
                check_other(words)
                kinds.append(f"{where}: other: {command}")
            elif snippet.not_run:
                check_parsed(words)
                kinds.append(f"{where}: parsed, {snippet.not_run}: {command}")
            else:
                long = {tuple(words[1:2]), tuple(words[1:3])} & LONG or LONG_OPTIONS & set(words)
                assert not long, f"{where}: {command} takes long: say `<!-- not run: REASON -->` above its block"
                arguments = tuple(runnable(words)[1:])
                if arguments not in done:
                    run = ofa(*arguments)
                    assert run.code == 0, f"{where}: {command}\n{run.err}"
                done.add(arguments)
                kinds.append(f"{where}: run: {command}")
    sys.stdout.write("\n".join(kinds))


def runnable(words: list[str]) -> list[str]:
    """A command with a budget that every machine can meet, and made shorter."""
    words = [BUDGET if before == "--latency" else word for before, word in zip(["", *words], words, strict=False)]
    return words + SHORTER.get(tuple(words[1:3]), SHORTER.get(tuple(words[1:2]), []))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_running_text_exist(page):
    spans = re.findall(r"(?<!`)`(ofa-tf [^`]+)`", page.read_text())
    for words in (shlex.split(span.replace("\\|", "|").replace("…", "")) for span in spans):
        command, rest = find_command(words[1:])
        assert command.name != "cli" or rest[0].startswith("-") or rest[0].isupper(), words
        options = {name for param in command.params for name in (*param.opts, *param.secondary_opts)} | {"--help"}
        options |= {"--version"} if command.name == "cli" else set()
        assert {word for word in rest if word.startswith("--")} <= options, words


def test_files_that_are_shown_are_valid():
    from ofa_tf.space import SearchSpace

    shown = {snippet.title: snippet.text for page in PAGES for snippet in read_snippets(page) if snippet.title}
    document = json.loads(shown["my-space.json"])
    assert document.pop("schema") in (1, 2)
    assert SearchSpace.from_document(document).size() > 1000


def anchors_of(page: Path) -> set[str]:
    """Anchors of the headings, as GitHub and mkdocs make them."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors_of(path), target


def test_every_page_is_in_the_navigation():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert set(re.findall(r"\w+\.md", str(nav))) == {path.name for path in (ROOT / "docs").glob("*.md")}


def test_messages_of_the_troubleshooting_are_those_of_the_program():
    text = (ROOT / "Makefile").read_text()
    for path in [*(ROOT / "ofa_tf").rglob("*.py"), *(ROOT / "cli").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text += node.value
            elif isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                text += "".join(map(str, parts))
    headings = re.findall(r"^### .*?\"(.+)\".*$", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    assert len(headings) > 15
    for heading in headings:
        for part in heading.split("…"):
            assert part.strip(" :,`") in text, heading
