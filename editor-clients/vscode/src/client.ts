// The language client: what it is started with, and where it does more than LSP asks for: a Cancel button on everything that takes long,
// the latency of suggestions, those that grow while they are on show, and answers beside the code.

import * as vscode from 'vscode';
import {
  type ExecuteCommandParams, ExecuteCommandRequest, LanguageClient, type LanguageClientOptions, RevealOutputChannelOn, State,
  WorkDoneProgress,
} from 'vscode-languageclient/node';
import type { FollowUps, Told } from './followup';
import type { Server } from './server';
import type { ServerStatus, Status } from './status';

/** What the extension itself uses; the server would refuse them. */
const OWN_SETTINGS = ['command', 'interpreter'];
const TAKES_LONG = ['phi-ls.explain', 'phi-ls.followUp', 'phi-ls.fix', 'phi-ls.docstring', 'phi-ls.tests', 'phi-ls.simplify'];
const TITLES: Record<string, string> = { 'phi-ls.explain': 'Explaining', 'phi-ls.followUp': 'Answering' };
/** Embedded models load in less; larger ones are worth a notification. */
const LOADING_IS_LONG_MS = 3000;
let tokens = 0;

/** What `$/phi-ls/more` tells: the suggestion on show has become longer. */
interface More {
  readonly uri: string;
  readonly version: number;
}

export function createClient(server: Server, status: Status, followUps: FollowUps, log: vscode.LogOutputChannel): LanguageClient {
  let longer: More | undefined;
  const options: LanguageClientOptions = {
    documentSelector: [{ scheme: 'file' }, { scheme: 'untitled' }],
    outputChannel: log,
    revealOutputChannelOn: RevealOutputChannelOn.Never,
    markdown: { isTrusted: false },
    middleware: {
      provideInlineCompletionItems: (document, position, asked, token, next) => {
        // The command below counts as invoked by the user, for whom the server would write more lines.
        const isMore = longer?.version === document.version && longer.uri === client.code2ProtocolConverter.asUri(document.uri);
        const context = isMore ? { ...asked, triggerKind: vscode.InlineCompletionTriggerKind.Automatic } : asked;
        return status.paused ? [] : status.during(async () => await next(document, position, context, token), true);
      },
      executeCommand: async (command, args, next) => {
        const result = await (TAKES_LONG.includes(command) ? runWithCancel(client, status, command, args) : next(command, args));
        if (command === 'phi-ls.explain' || command === 'phi-ls.followUp') {
          followUps.note(result as Told | undefined);
        }
        return result;
      },
      resolveCodeAction: (action, token, next) =>
        withCancel('Writing', (_, cancelled) => status.during(async () => await next(action, cancelled))),
      window: {
        showDocument: async (params, token, next) => {
          if (!params.uri.startsWith('phi-ls:')) {
            return await next(params, token);
          }
          const document = await vscode.workspace.openTextDocument(vscode.Uri.parse(params.uri));
          const before = vscode.window.visibleTextEditors.find((each) => each.document.uri.scheme === 'phi-ls'); // an answer opens beside the code, too
          const viewColumn = before?.viewColumn ?? vscode.ViewColumn.Beside;
          await vscode.window.showTextDocument(document, { viewColumn, preserveFocus: true, preview: before === undefined });
          return { success: true };
        },
      },
      workspace: {
        // Only that something has changed; the server then asks, and is answered below.
        didChangeConfiguration: () => client.sendNotification('workspace/didChangeConfiguration', { settings: null }),
        configuration: async (params, token, next) => {
          const answers = await next(params, token);
          return Array.isArray(answers) ? answers.map(withoutOwn) : answers;
        },
      },
    },
  };
  const run = { command: server.command, args: [...server.arguments, 'serve'], options: { env: server.environment } };
  const client = new LanguageClient('phi-ls', 'phi-ls', run, options);
  let loading: (() => void) | undefined;
  client.onNotification('phi-ls/status', (news: ServerStatus) => {
    status.update(news);
    if (news.state === 'loading') {
      loading ??= whileLoading(client, status);
    } else {
      loading?.();
      loading = undefined;
    }
  });
  client.onNotification('$/phi-ls/more', async (more: More) => {
    const document = vscode.window.activeTextEditor?.document;
    if (document && client.code2ProtocolConverter.asUri(document.uri) === more.uri && document.version === more.version) {
      longer = more;
      try { // it keeps what is on show until the new text is there, and does nothing where that was dismissed
        await vscode.commands.executeCommand('editor.action.inlineSuggest.showNext');
      } finally {
        longer = undefined;
      }
    }
  });
  client.onDidChangeState(({ newState }) => {
    if (newState !== State.Running) {
      status.update(undefined);
    }
  });
  return client;
}

/** Runs one of the server's commands with its progress in a notification; Cancel keeps what was written so far. */
async function runWithCancel(client: LanguageClient, status: Status, command: string, args: unknown[]): Promise<unknown> {
  return await withCancel(TITLES[command] ?? 'Writing', async (progress, cancelled) => {
    const workDoneToken = `phi-ls-vscode-${++tokens}`;
    const reports = client.onProgress(WorkDoneProgress.type, workDoneToken, (value) => {
      if (value.kind !== 'end' && value.message) {
        progress.report({ message: value.message });
      }
    });
    const cancelling = cancelled.onCancellationRequested(() => client.sendNotification('window/workDoneProgress/cancel', { token: workDoneToken }));
    try {
      const params: ExecuteCommandParams = { command, arguments: args, workDoneToken };
      return await status.during(() => client.sendRequest(ExecuteCommandRequest.type, params));
    } catch (error) {
      if (!cancelled.isCancellationRequested && client.isRunning()) {
        void vscode.window.showWarningMessage(`phi-ls: ${(error as Error).message}`);
      }
      return undefined;
    } finally {
      reports.dispose();
      cancelling.dispose();
    }
  });
}

type Report = vscode.Progress<{ message?: string }>;

function withCancel<T>(title: string, work: (progress: Report, cancelled: vscode.CancellationToken) => PromiseLike<T>): Thenable<T> {
  return vscode.window.withProgress({ location: vscode.ProgressLocation.Notification, title: `phi-ls: ${title}`, cancellable: true }, work);
}

/** Shows that a model loads, when that takes long; Cancel stops the server. Returns what ends it. */
function whileLoading(client: LanguageClient, status: Status): () => void {
  let end = (): void => undefined;
  const ended = new Promise<void>((resolve) => { end = resolve; });
  const timer = setTimeout(() => void withCancel('Loading the model', async (progress, cancelled) => {
    progress.report({ message: status.current?.detail ?? '' });
    cancelled.onCancellationRequested(async () => {
      end();
      await client.stop();
      status.stopped('Loading the model was cancelled. Restart phi-ls to load it.');
    });
    await ended;
  }), LOADING_IS_LONG_MS);
  return () => {
    clearTimeout(timer);
    end();
  };
}

function withoutOwn(section: unknown): unknown {
  if (typeof section !== 'object' || section === null) {
    return section;
  }
  return Object.fromEntries(Object.entries(section).filter(([key]) => !OWN_SETTINGS.includes(key)));
}
