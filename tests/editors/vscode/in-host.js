// Runs inside VS Code's extension host, with the whole API: what can be seen without eyes. PHI_LS_TEST_FILE is the sample file.
const assert = require('node:assert');
const { execFileSync } = require('node:child_process');
const { readFileSync, readdirSync } = require('node:fs');
const vscode = require('vscode');

const WITHIN_MS = 60_000;
const LONG = 'It adds an item. '.repeat(400);

async function until(what, condition) {
  const deadline = Date.now() + WITHIN_MS;
  for (;;) {
    const value = await condition();
    if (value) {
      return value;
    }
    if (Date.now() > deadline) {
      throw new Error(`${what} did not happen.`);
    }
    await new Promise((resolve) => setTimeout(resolve, 30)); // between two looks
  }
}

const settings = () => vscode.workspace.getConfiguration('phi-ls');
const set = (key, value) => settings().update(key, value, vscode.ConfigurationTarget.Global);

let extension;
const status = () => extension.status.current ?? {};
const ready = (engine) => until(`An engine ${engine} that is ready`, () => status().state === 'ready' && status().engine === engine);

/** Has the echo engine answer this, in that time, and waits until the new one is there. */
async function useEcho(reply, msPerToken = 0) {
  if (status().engine !== 'echo') {
    await set('engine', 'echo');
    await ready('echo');
  }
  const before = heard.length;
  await set('engine_options', { reply, ms_per_token: msPerToken, templates: 'phi3', load_ms: ++changes });
  await until('Another engine', () => heard.slice(before).includes('starting') && status().state === 'ready');
}
let changes = 0;
const heard = []; // the states that the server told of

/** What the registered provider of inline completions gives, middleware included. */
async function suggestions(document, position) {
  const provider = extension.client.getFeature('textDocument/inlineCompletion').getProvider(document);
  const source = new vscode.CancellationTokenSource();
  const found = await provider.provideInlineCompletionItems(document, position, { triggerKind: 0 }, source.token);
  return Array.isArray(found) ? found : found?.items ?? [];
}

async function actions(document, line) {
  const place = new vscode.Range(line, 0, line, 0);
  return await vscode.commands.executeCommand('vscode.executeCodeActionProvider', document.uri, place);
}

/** The processes below this one whose command line holds `part`. */
function descendants(part) {
  const parents = new Map(readdirSync('/proc').filter((name) => /^\d+$/.test(name)).flatMap((pid) => {
    try {
      return [[Number(pid), Number(readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/.*\) /s, '').split(' ')[1])]];
    } catch {
      return []; // it has ended
    }
  }));
  const isBelow = (pid) => pid === process.pid || (parents.has(pid) && isBelow(parents.get(pid)));
  return [...parents.keys()].filter((pid) => {
    try {
      return pid !== process.pid && isBelow(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(part);
    } catch {
      return false;
    }
  });
}

const lineOf = (document, text) => document.positionAt(document.getText().indexOf(text)).line;
const answers = () => vscode.workspace.textDocuments.filter((document) => document.uri.scheme === 'phi-ls');
const LAST = () => answers().at(-1)?.getText() ?? '';

const tests = {
  'the extension is there, with its commands': async () => {
    const known = await vscode.commands.getCommands(true);
    const missing = ['explainSelection', 'pause', 'resume', 'showLogs', 'chooseModel', 'chooseDevice', 'doctor', 'restartServer', 'installRuntime',
      'explain', 'fix', 'docstring', 'accepted'].filter((name) => !known.includes(`phi-ls.${name}`));
    assert.deepStrictEqual(missing, []);
    assert.strictEqual(status().model, 'phi-ls-nano');
    assert.strictEqual(status().device, 'CPU');
  },
  'the embedded model suggests code, and acceptance is counted': async (document) => {
    const end = await typed(document, '\n\n    def remove(self, name: str) -> None:\n        if name not in self.');
    const [item] = await suggestions(document, end);
    assert.ok(item.insertText.length > 0);
    const before = await vscode.commands.executeCommand('phi-ls.status');
    assert.ok(before.shown >= 1);
    await vscode.commands.executeCommand(item.command.command, ...(item.command.arguments ?? []));
    const after = await vscode.commands.executeCommand('phi-ls.status');
    assert.strictEqual(after.accepted, before.accepted + 1);
  },
  'a docstring is written when the code action is applied': async (document) => {
    const number = lineOf(document, 'def add');
    const action = await until('The code action', async () => (await actions(document, number)).find(({ title }) => title === 'Write docstring'));
    assert.strictEqual(action.edit, undefined); // no model runs until it is chosen
    const provider = extension.client.getFeature('textDocument/codeAction').getProvider(document);
    const offered = (await provider.provideCodeActions(document, new vscode.Range(number, 0, number, 0), { diagnostics: [], triggerKind: 1 },
      new vscode.CancellationTokenSource().token)).find(({ title }) => title === 'Write docstring');
    const resolved = await provider.resolveCodeAction(offered, new vscode.CancellationTokenSource().token);
    assert.ok(await vscode.workspace.applyEdit(resolved.edit));
    assert.match(document.lineAt(number + 1).text, /^ {8}"""/);
  },
  'pausing stops suggestions, and resuming brings them back': async (document) => {
    await useEcho('price + tax');
    const end = await typed(document, '\nrebate = ');
    await vscode.commands.executeCommand('phi-ls.pause');
    assert.deepStrictEqual(await suggestions(document, end), []);
    await vscode.commands.executeCommand('phi-ls.resume');
    assert.strictEqual((await suggestions(document, end))[0].insertText, 'price + tax');
  },
  'Fix applies an edit': async (document) => {
    const number = lineOf(document, 'return self.price * self.quantity');
    await useEcho('```python\n    def total(self) -> float:\n        return self.price * max(self.quantity, 0)\n```\n');
    const problems = vscode.languages.createDiagnosticCollection('test');
    problems.set(document.uri, [new vscode.Diagnostic(document.lineAt(number).range, 'The quantity may be negative')]);
    await vscode.commands.executeCommand('phi-ls.fix', {
      uri: document.uri.toString(), range: { start: { line: number, character: 0 }, end: { line: number, character: 0 } },
      diagnostics: [{ line: number, message: 'The quantity may be negative' }],
    });
    problems.dispose();
    assert.strictEqual(document.lineAt(number).text, '        return self.price * max(self.quantity, 0)');
  },
  'an explanation streams into a document beside the code': async (document) => {
    await useEcho(LONG, 2);
    await select(document, 'def add');
    const explaining = vscode.commands.executeCommand('phi-ls.explainSelection');
    const first = await until('The beginning of an explanation', LAST);
    await until('More of it', () => LAST().length > first.length);
    const shown = vscode.window.visibleTextEditors.find(({ document }) => document.uri.scheme === 'phi-ls');
    assert.strictEqual(shown.document.languageId, 'markdown');
    assert.notStrictEqual(shown.viewColumn, vscode.ViewColumn.One);
    await vscode.commands.executeCommand('notifications.clearAll'); // closing the progress is Cancel
    await vscode.commands.executeCommand('phi-ls.restart');
    await explaining;
    await ready('echo');
  },
  'the engine process may die': async (document) => {
    await useEcho('price + tax');
    const [engine] = descendants('phi_backends.worker');
    process.kill(engine, 'SIGKILL');
    await until('The news of it', () => status().state !== 'ready');
    await ready('echo');
    assert.strictEqual((await suggestions(document, await typed(document, '\nrebate = ')))[0].insertText, 'price + tax');
  },
  'the server may die': async (document) => {
    const [server] = descendants('phi_server');
    process.kill(server, 'SIGKILL');
    await until('The news of it', () => status().state !== 'ready');
    await ready('echo');
    assert.strictEqual((await suggestions(document, await typed(document, '\nrebate = ')))[0].insertText, 'price + tax');
  },
  'restarting works': async (document) => {
    await vscode.commands.executeCommand('phi-ls.restartServer');
    await ready('echo');
    assert.strictEqual((await suggestions(document, await typed(document, '\nrebate = ')))[0].insertText, 'price + tax');
  },
  'the doctor reports': async () => {
    await vscode.commands.executeCommand('phi-ls.doctor');
    await until('The report', () => vscode.window.activeTextEditor?.document.getText().includes('phi-ls is ready.'));
  },
};

async function typed(document, text) {
  const editor = await vscode.window.showTextDocument(document, vscode.ViewColumn.One);
  await editor.edit((edit) => edit.insert(document.lineAt(document.lineCount - 1).range.end, text));
  return document.lineAt(document.lineCount - 1).range.end;
}

async function select(document, text) {
  const editor = await vscode.window.showTextDocument(document, vscode.ViewColumn.One);
  const line = lineOf(document, text);
  editor.selection = new vscode.Selection(line, 0, line + 3, 0);
}

exports.run = async () => {
  const failed = [];
  const document = await vscode.workspace.openTextDocument(process.env.PHI_LS_TEST_FILE);
  await vscode.window.showTextDocument(document);
  extension = await vscode.extensions.getExtension('phi-ls.phi-ls').activate();
  const { update } = extension.status;
  extension.status.update = (news) => {
    heard.push(news?.state);
    update.call(extension.status, news);
  };
  await ready('openvino');
  for (const [name, test] of Object.entries(tests)) {
    const started = Date.now();
    try {
      await test(document);
      console.log(`PHI passed: ${name} (${Date.now() - started} ms)`);
    } catch (error) {
      failed.push(name);
      console.log(`PHI failed: ${name}: ${error.stack} Status: ${JSON.stringify(status())}`);
    }
  }
  await vscode.commands.executeCommand('workbench.action.files.revert');
  if (failed.length) {
    throw new Error(failed.join('; '));
  }
};
