// phi-ls in VS Code: starts the server and offers the commands. Ghost text, code actions and answers come from the server over LSP.

import { spawn } from 'node:child_process';
import * as vscode from 'vscode';
import { type LanguageClient, State } from 'vscode-languageclient/node';
import { createClient } from './client';
import { FollowUps } from './followup';
import { findServer, output, runtimeFolder, type Server } from './server';
import { Status } from './status';

const RUNTIME = ['openvino>=2026.4.1,<2027', 'openvino-genai>=2026.4.1,<2027', 'tokenizers>=0.22', 'numpy>=2.0'];

class Extension {
  private readonly log = vscode.window.createOutputChannel('phi-ls', { log: true });
  private readonly status = new Status();
  private readonly followUps = new FollowUps();
  private server: Server | undefined;
  private client: LanguageClient | undefined;

  constructor(private readonly context: vscode.ExtensionContext) {
    const commands: Record<string, (...args: never[]) => unknown> = {
      'phi-ls.restartServer': () => this.restart(),
      'phi-ls.pause': () => this.status.pause(true),
      'phi-ls.resume': () => this.status.pause(false),
      'phi-ls.showLogs': () => this.log.show(),
      'phi-ls.chooseModel': () => this.chooseModel(),
      'phi-ls.chooseDevice': () => this.chooseDevice(),
      'phi-ls.doctor': () => this.doctor(),
      'phi-ls.explainSelection': () => this.explainSelection(),
      'phi-ls.ask': (uri?: string) => this.followUps.ask(uri),
      'phi-ls.installRuntime': () => this.installRuntime(),
    };
    for (const [name, run] of Object.entries(commands)) {
      context.subscriptions.push(vscode.commands.registerCommand(name, run));
    }
    context.subscriptions.push(this.log, this.status, this.followUps, vscode.workspace.onDidChangeConfiguration((event) => {
      if (event.affectsConfiguration('phi-ls.command') || event.affectsConfiguration('phi-ls.interpreter')) {
        void this.restart();
      }
    }));
  }

  async start(): Promise<void> {
    this.server = await findServer(this.context);
    if (!this.server) {
      this.status.stopped('phi-ls needs Python 3.11 or newer, and found none.');
      await this.offer('phi-ls needs Python 3.11 or newer, and found none. Install it, or name one in the settings.', {
        'Open settings': () => vscode.commands.executeCommand('workbench.action.openSettings', 'phi-ls.interpreter'),
      });
      return;
    }
    this.log.info(`Starting ${this.server.origin}: ${[this.server.command, ...this.server.arguments].join(' ')} serve`);
    this.client = createClient(this.server, this.status, this.followUps, this.log);
    try {
      await this.client.start();
    } catch (error) {
      this.log.error(String(error));
      this.status.stopped('The server could not be started.');
      await this.offer(`phi-ls could not be started from ${this.server.origin}.`, {
        'Show logs': () => this.log.show(),
        'Open settings': () => vscode.commands.executeCommand('workbench.action.openSettings', 'phi-ls'),
      });
    }
  }

  async stop(): Promise<void> {
    const client = this.client;
    this.client = undefined;
    if (client?.state === State.Running) {
      await client.stop();
    }
    await client?.dispose();
  }

  private async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  private async offer(message: string, actions: Record<string, () => unknown>): Promise<void> {
    const chosen = await vscode.window.showWarningMessage(message, ...Object.keys(actions));
    await actions[chosen ?? '']?.();
  }

  private async explainSelection(): Promise<void> {
    const editor = vscode.window.activeTextEditor;
    if (!editor || !this.client?.isRunning()) {
      void vscode.window.showWarningMessage(editor ? 'phi-ls is not running. Restart it, or run doctor.' : 'Open a file and select some code first.');
      return;
    }
    const { document, selection } = editor;
    const range = this.client.code2ProtocolConverter.asRange(selection);
    await vscode.commands.executeCommand('phi-ls.explain', { uri: this.client.code2ProtocolConverter.asUri(document.uri), range });
  }

  private async chooseModel(): Promise<void> {
    const folder = { label: 'A folder…', description: 'with a Phi-3 model as OpenVINO IR' };
    const auto = { label: 'auto', description: 'the best that is on this machine' };
    const embedded = { label: 'embedded', description: 'the small model that ships with phi-ls' };
    const chosen = await vscode.window.showQuickPick([auto, embedded, folder], { title: 'phi-ls: Choose Model' });
    let model: string | undefined = chosen?.label;
    if (chosen === folder) {
      const [uri] = await vscode.window.showOpenDialog({ canSelectFolders: true, canSelectFiles: false, openLabel: 'Use this model' }) ?? [];
      model = uri?.fsPath;
    }
    if (model) {
      await vscode.workspace.getConfiguration('phi-ls').update('model', model, vscode.ConfigurationTarget.Global);
    }
  }

  private async chooseDevice(): Promise<void> {
    const items = this.devices().then((devices) => [{ label: 'auto', description: 'the fastest that works' }, ...devices]);
    const chosen = await vscode.window.showQuickPick(items, { title: 'phi-ls: Choose Device', placeHolder: 'Looking for devices…' });
    if (chosen) {
      await vscode.workspace.getConfiguration('phi-ls').update('device', chosen.label, vscode.ConfigurationTarget.Global);
    }
  }

  private async devices(): Promise<vscode.QuickPickItem[]> {
    try {
      const report = JSON.parse(this.server ? await output(this.server, 'doctor', '--json', '--engine=echo') : '{}');
      return (report.devices as { name: string; description: string }[]).map(({ name, description }) => ({ label: name, description }));
    } catch {
      return [];
    }
  }

  private async doctor(): Promise<void> {
    const server = this.server;
    if (!server) {
      await this.start();
      return;
    }
    const settings = vscode.workspace.getConfiguration('phi-ls');
    const asked = ['engine', 'model', 'device'].map((key) => `--${key}=${settings.get<string>(key)}`);
    const looking = { location: vscode.ProgressLocation.Notification, title: 'phi-ls: Looking at engines and devices' };
    const report = await vscode.window.withProgress(looking, () => output(server, 'doctor', ...asked));
    await vscode.window.showTextDocument(await vscode.workspace.openTextDocument({ language: 'plaintext', content: report }), { preview: true });
  }

  private async installRuntime(): Promise<void> {
    const python = this.server?.bundledPython;
    if (!python) {
      void vscode.window.showInformationMessage(
        this.server ? `phi-ls uses ${this.server.origin}: install the runtime there.` : 'phi-ls needs Python 3.11 or newer first.');
      return;
    }
    const folder = runtimeFolder(this.context);
    const question = 'Install OpenVINO for phi-ls? About 300 MB are downloaded with pip, into a folder of this extension.';
    if (await vscode.window.showInformationMessage(question, { modal: true, detail: folder }, 'Install') !== 'Install') {
      return;
    }
    const installing = { location: vscode.ProgressLocation.Notification, title: 'phi-ls: Installing OpenVINO', cancellable: true };
    const problem = await vscode.window.withProgress(installing, (progress, cancelled) => new Promise<string>((resolve) => {
      const pip = spawn(python, ['-m', 'pip', 'install', '--disable-pip-version-check', '--target', folder, '--upgrade', ...RUNTIME]);
      let last = '';
      const hear = (data: Buffer): void => {
        last = data.toString().trim().split('\n').at(-1) ?? last;
        this.log.info(last);
        progress.report({ message: last.slice(0, 80) });
      };
      pip.stdout.on('data', hear);
      pip.stderr.on('data', hear);
      cancelled.onCancellationRequested(() => pip.kill());
      pip.on('error', (error) => resolve(error.message));
      pip.on('close', (code) => resolve(code === 0 || cancelled.isCancellationRequested ? '' : last));
    }));
    if (problem) {
      await this.offer(`phi-ls: pip could not install OpenVINO: ${problem}`, { 'Show logs': () => this.log.show() });
    } else {
      await this.restart();
    }
  }
}

let extension: Extension | undefined;

/** Resolves when the server answers. What is returned is for tests. */
export async function activate(context: vscode.ExtensionContext): Promise<Extension> {
  extension = new Extension(context);
  await extension.start();
  return extension;
}

export async function deactivate(): Promise<void> {
  await extension?.stop();
}
