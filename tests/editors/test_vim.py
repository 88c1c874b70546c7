"""Vim 9 in a terminal: keys are typed into it, and it is asked what it shows over a channel of its own."""

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from editors.conftest import CLIENTS, SERVER, available, children, echo, pasted, until
from editors.install import debian, program
from editors.terminal import Terminal

LONG = "It adds an item. " * 400
BEFORE = "set nocompatible noswapfile\nfiletype plugin indent on\nsyntax on\n"
AFTER = "\nautocmd VimEnter * let g:test = ch_open('127.0.0.1:{port}')\n"
README = CLIENTS / "vim" / "README.md"
EXPLANATION = "join(flatten(map(filter(getbufinfo(), {_, b -> b.name =~# 'explanation'}), {_, b -> getbufline(b.bufnr, 1, '$')})), '|')"


class Vim:
    def __init__(self, terminal: Terminal, connection: socket.socket) -> None:
        self.terminal = terminal
        self._connection = connection
        self._answers = connection.makefile(encoding="utf-8")
        self._numbers = count(1)

    @property
    def keys(self) -> Callable[[str], None]:
        return self.terminal.keys

    def value(self, expression: str) -> Any:
        """The value of a Vim expression."""
        number = -next(self._numbers)
        self._connection.sendall(json.dumps(["expr", expression, number]).encode() + b"\n")
        answered, value = json.loads(self._answers.readline())
        assert answered == number
        assert value != "ERROR", expression
        return value

    def close(self) -> None:
        self._answers.close()
        self._connection.close()

    def until(self, expression: str, what: str) -> Any:
        return until(lambda: self.value(expression), what, lambda: f"Vim's messages: {self.messages()}, {self.terminal.written[-800:]!r}")

    def messages(self) -> str:
        return str(self.value("execute('messages')"))

    def ready(self) -> None:
        self.until("phi_ls#Statusline() =~# ' on '", "an engine that is ready")

    def descendant(self, part: str) -> int:
        """The process below the editor whose command line holds `part`."""
        below = lambda: next((pid for pid, line in children(self.terminal.process).items() if part in line), 0)  # noqa: E731
        return int(until(below, f"a process with {part}"))


Start = Callable[..., Vim]


@pytest.fixture
def start(folder: Path, home: dict[str, str], record_property: Callable[[str, object], None]) -> Iterator[Start]:
    """Starts Vim with the settings given, in the sample file."""
    binary = program(available("Vim", lambda: debian("vim", "vim", suite="sid")), "usr/bin/vim.basic")
    runtime = next(Path(binary[-1]).parents[1].glob("share/vim/vim9*"))
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(60)
    running = ExitStack()

    def run(settings: dict[str, Any], command: list[str] = SERVER) -> Vim:
        changes = {
            "/path/to/phi-ls/editor-clients/vim": str(CLIENTS / "vim"),
            "['/path/to/environment/bin/phi-ls', 'serve']": json.dumps(command),
            "{'model': '/path/to/phi-3', 'device': 'NPU'}": f"json_decode('{json.dumps(settings)}')",
        }
        vimrc = folder.parent / "vimrc"
        vimrc.write_text(BEFORE + pasted(README, "vim", changes) + AFTER.format(port=listener.getsockname()[1]))
        starting = [*binary, "--clean", "-u", str(vimrc), str(folder / "inventory.py")]
        terminal = Terminal(starting, {**home, "VIMRUNTIME": str(runtime)}, folder)
        running.callback(terminal.close)
        vim = Vim(terminal, listener.accept()[0])
        running.callback(vim.close)
        version = int(vim.value("v:versionlong"))
        record_property("editor", f"Vim {version // 1000000}.{version // 10000 % 100}")
        return vim

    yield run
    running.close()
    listener.close()


def test_ghost_text_of_the_embedded_model_is_shown_and_accepted(start: Start, embedded: dict[str, Any]) -> None:
    vim = start(embedded)
    vim.ready()
    assert vim.value("phi_ls#Statusline()") == "phi-ls-nano on CPU"
    vim.keys("Go    def remove(self, name: str) -> None:\rif name not in self.")
    ghost = vim.until("phi_ls#Ghost()", "ghost text")
    assert "".join(vim.value("map(prop_list(line('.')), {_, each -> get(each, 'text', '')})")) == ghost.split("\n")[0]
    before = vim.value("getline('.')")
    vim.keys("\t")
    vim.until(f"getline('$') ==# {json.dumps((before + ghost).split(chr(10))[-1])}", "the accepted text")
    vim.keys("\x1b:Phi status\r")
    assert vim.until("matchstr(execute('messages'), '.* accepted.')", "the status").endswith(" 1 accepted.")
    assert "E" not in {line[:1] for line in vim.messages().splitlines()}


WATCH = """g:seen = []
def g:Watch(_: number)
  const ghost = phi_ls#Ghost()
  if ghost !=# get(g:seen, -1, '')
    add(g:seen, ghost)
  endif
enddef
timer_start(1, g:Watch, {repeat: -1})
"""


def test_what_is_shown_at_the_deadline_grows_when_the_rest_is_there(start: Start, folder: Path) -> None:
    line = "price + tax(price) + shipping(customer) + handling(customer) - discount(customer)"
    vim = start({**echo(line, ms_per_token=10), "deadline_ms": 300})
    vim.ready()
    watch = folder.parent / "watch.vim"
    watch.write_text(f"vim9script\n{WATCH}")
    vim.keys(f":source {watch}\r")
    vim.keys("Gorebate = ")
    vim.until(f"get(g:seen, -1, '') ==# '{line}'", "the whole suggestion")
    first, *later = vim.value("g:seen")
    assert line.startswith(first)
    assert later == [line], "it never goes away in between"


def test_one_word_of_a_suggestion_is_accepted_and_the_rest_is_suggested_again(start: Start) -> None:
    vim = start(echo("price + tax"))
    vim.ready()
    vim.keys("Gorebate = ")
    vim.until("phi_ls#Ghost() ==# 'price + tax'", "ghost text")
    vim.keys("\x0c")
    vim.until("trim(getline('.')) ==# 'rebate = price'", "one word")


def test_several_lines_are_shown_below_and_accepted(start: Start) -> None:
    vim = start(echo("        first = 1\n        return first\n"))
    vim.ready()
    vim.keys("Go\x15    def first(self):\r")
    ghost = vim.until("phi_ls#Ghost()", "ghost text")
    assert "\n" in ghost
    number = vim.value("line('.')")
    vim.keys("\t")
    vim.until(f"line('.') == {number + ghost.count(chr(10))}", "the accepted lines")
    assert vim.value("getline('.')").endswith("return first")


def test_tab_without_a_suggestion_is_tab(start: Start) -> None:
    vim = start({"engine": "echo", "inline_completion": False})
    vim.ready()
    vim.keys("Go\x15x\t1")
    vim.until("getline('.') ==# 'x   1'", "a tab, which the file type makes blanks")


def test_pause_and_resume(start: Start) -> None:
    vim = start(echo("price + tax"))
    vim.ready()
    vim.keys(":Phi pause\rGorebate = ")
    vim.until("trim(getline('.')) ==# 'rebate ='", "the keys")
    assert vim.value("phi_ls#Statusline()").endswith("(paused)")
    assert vim.value("phi_ls#Ghost()") == ""
    vim.keys("\x1b:Phi resume\rA")
    vim.until("phi_ls#Ghost() ==# 'price + tax'", "ghost text")


def test_an_explanation_streams_into_a_buffer_and_closing_it_stops_the_model(start: Start) -> None:
    vim = start(echo(LONG, ms_per_token=2))
    vim.ready()
    vim.keys("/def add\rV3j:Phi explain\r")
    first = vim.until(EXPLANATION, "the beginning of an explanation")
    vim.until(f"strlen({EXPLANATION}) > {len(first)}", "more of it")
    vim.keys("\x17j:quit\r")
    vim.until("winnr('$') == 1", "the end of the window")
    vim.keys(":Phi explain\r")  # its first words would wait for the 6,800 tokens of the one before
    vim.until(f"{EXPLANATION} =~# 'It adds'", "another explanation")


def test_the_menu_of_actions_writes_a_docstring(start: Start, embedded: dict[str, Any]) -> None:
    vim = start(embedded)
    vim.ready()
    vim.keys("/def add\r:Phi actions\r")
    titles = vim.until("empty(popup_list()) ? [] : getbufline(winbufnr(popup_list()[0]), 1, '$')", "a menu")
    vim.keys("j" * titles.index("Write docstring") + "\r")
    vim.until("getline(search('def add', 'n') + 1) =~# '^ *\"\"\"'", "the docstring")
    assert vim.value("getline(search('def load', 'n') + 1)") == '        with open(self.path, encoding="utf-8") as file:'


def test_the_engine_process_may_die(start: Start) -> None:
    vim = start(echo("price + tax"))
    vim.ready()
    os.kill(vim.descendant("phi_backends.worker"), signal.SIGKILL)
    vim.until("phi_ls#Statusline() !~# ' on '", "the news of it")
    vim.ready()
    vim.keys("Gorebate = ")
    vim.until("phi_ls#Ghost() ==# 'price + tax'", "ghost text")


def test_the_server_may_die(start: Start) -> None:
    vim = start(echo("price + tax"))
    vim.ready()
    os.kill(vim.descendant("phi_server"), signal.SIGKILL)
    vim.until("execute('messages') =~# 'phi-ls has ended unexpectedly'", "a message")
    vim.keys(":Phi start\r")
    vim.ready()
    vim.keys("Gorebate = ")
    vim.until("phi_ls#Ghost() ==# 'price + tax'", "ghost text")


def test_a_model_that_is_not_there_is_one_message(start: Start) -> None:
    vim = start({"model": "/no/such/folder"})
    vim.until("phi_ls#Statusline() ==# 'phi-ls: off'", "the news")
    vim.keys("Gorebate = \x1b")
    vim.until("mode() ==# 'n' && execute('messages') =~# 'model folder'", "a message")
    assert vim.messages().count("There is no model folder") == 1


def test_without_a_model_and_a_runtime_there_is_one_message(start: Start, bare: list[str]) -> None:
    vim = start({}, command=bare)
    vim.until("phi_ls#Statusline() ==# 'phi-ls: off'", "the news")
    vim.keys("Gorebate = \x1b")
    vim.until("mode() ==# 'n' && execute('messages') =~# 'Choose a model'", "a message")
    assert vim.messages().count("Choose a model") == 1
    assert not [line for line in vim.messages().splitlines() if line.startswith(("E", "Traceback"))]


def test_a_further_question_is_answered_in_the_same_buffer(start: Start) -> None:
    vim = start(echo("It adds an item."))
    vim.ready()
    vim.keys("/def add\rV3j:Phi explain\r")
    ours = "getscriptinfo({'sid': getscriptinfo({'name': 'autoload/phi_ls'})[0].sid})[0].variables"
    vim.until(f"!empty({ours}.asked_about)", "an explanation that is complete")
    vim.keys(":Phi ask\r")
    vim.until("mode(1) ==# 'c'", "the question for a question")
    vim.keys("Why is there a check?\r")
    vim.until(f"{EXPLANATION} =~# 'Why is there a check.*It adds an item'", "the answer")


def test_a_program_that_is_not_there_is_one_message(start: Start) -> None:
    vim = start({}, command=["no-such-program"])
    vim.until("execute('messages') =~# 'there is no program'", "a message")
    vim.keys(":new other.py\r:edit\r")
    vim.until("bufname() ==# 'other.py'", "another file")
    assert vim.messages().count("there is no program") == 1
