// Where the server is: the setting `command`, an interpreter that has phi-ls, or the bundled copy with any Python 3.11.
// Not here: when it is started (client.ts).

import { execFile } from 'node:child_process';
import * as path from 'node:path';
import { promisify } from 'node:util';
import * as vscode from 'vscode';

const run = promisify(execFile);
const HAS_PHI_LS = 'import phi_server';
const IS_NEW_ENOUGH = 'import sys; assert sys.version_info >= (3, 11)';

export interface Server {
  readonly command: string;
  readonly arguments: readonly string[];
  readonly environment: NodeJS.ProcessEnv;
  /** Said in the log: why this one. */
  readonly origin: string;
  /** A Python that packages can be installed with, beside the bundled server; absent where the server is the user's own. */
  readonly bundledPython?: string;
}

/** The server, or undefined when there is none and the user is to be told. */
export async function findServer(context: vscode.ExtensionContext): Promise<Server | undefined> {
  const settings = vscode.workspace.getConfiguration('phi-ls');
  const [command, ...rest] = settings.get<string[]>('command', []);
  if (command !== undefined) {
    return { command, arguments: rest, environment: process.env, origin: 'the setting phi-ls.command' };
  }
  const chosen = settings.get<string>('interpreter', '');
  const active = await activeInterpreter();
  for (const [python, origin] of [[chosen, 'the setting phi-ls.interpreter'], [active, 'the active Python environment']] as const) {
    if (python && await succeeds(python, HAS_PHI_LS)) {
      return { command: python, arguments: ['-P', '-m', 'phi_server'], environment: process.env, origin };
    }
  }
  for (const python of [chosen, active, 'python3', 'python']) {
    if (python && await succeeds(python, IS_NEW_ENOUGH)) {
      const PYTHONPATH = [context.asAbsolutePath(path.join('bundled', 'libs')), runtimeFolder(context)].join(path.delimiter);
      return {
        command: python,
        arguments: ['-P', '-m', 'phi_server'],
        environment: { ...process.env, PYTHONPATH },
        origin: `the server that comes with the extension, run by ${python}`,
        bundledPython: python,
      };
    }
  }
  return undefined;
}

/** Where runtimes for the bundled server are installed. */
export function runtimeFolder(context: vscode.ExtensionContext): string {
  return path.join(context.globalStorageUri.fsPath, 'runtime');
}

/** What `phi-ls doctor` and its like print; it may fail with an exit code and still have printed. */
export async function output(server: Server, ...command: string[]): Promise<string> {
  try {
    const options = { env: server.environment, timeout: 120_000, windowsHide: true };
    return (await run(server.command, [...server.arguments, ...command], options)).stdout;
  } catch (error) {
    const { stdout, message } = error as { stdout?: string; message: string };
    return stdout || message;
  }
}

async function activeInterpreter(): Promise<string> {
  const extension = vscode.extensions.getExtension('ms-python.python');
  if (!extension) {
    return '';
  }
  const python = await extension.activate();
  return python?.environments?.getActiveEnvironmentPath?.(vscode.workspace.workspaceFolders?.[0]?.uri)?.path ?? '';
}

async function succeeds(python: string, code: string): Promise<boolean> {
  try {
    await run(python, ['-P', '-c', code], { timeout: 20_000, windowsHide: true });
    return true;
  } catch {
    return false;
  }
}
