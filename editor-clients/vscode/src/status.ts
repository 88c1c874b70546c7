// What is in use and why, as a language status item: engine, model, device, busy or idle, and how long the last suggestion took.

import * as vscode from 'vscode';

export interface ServerStatus {
  readonly state: 'starting' | 'loading' | 'ready' | 'restarting' | 'off';
  readonly engine: string;
  readonly model: string;
  readonly device: string;
  readonly reason: string;
  readonly detail: string;
}

export class Status implements vscode.Disposable {
  private readonly item = vscode.languages.createLanguageStatusItem('phi-ls', [{ scheme: 'file' }, { scheme: 'untitled' }, { scheme: 'phi-ls' }]);
  private working = 0;
  private latencyMs: number | undefined;
  /** The last one of the server; undefined while there is no server. */
  current: ServerStatus | undefined;
  paused = false;

  constructor() {
    this.item.name = 'phi-ls';
    this.show();
  }

  dispose(): void {
    this.item.dispose();
  }

  update(status: ServerStatus | undefined): void {
    this.current = status;
    this.show();
  }

  /** Nothing is running, and this is why. */
  stopped(reason: string): void {
    this.update({ state: 'off', engine: '', model: '', device: '', reason: '', detail: reason });
  }

  pause(paused: boolean): void {
    this.paused = paused;
    this.show();
  }

  /** Counts as busy until the work is done; `timed` is what the user waits for while typing. */
  async during<T>(work: () => PromiseLike<T> | T, timed = false): Promise<T> {
    const started = performance.now();
    this.working += 1;
    this.show();
    try {
      const result = await work();
      if (timed && result) {
        this.latencyMs = Math.round(performance.now() - started);
      }
      return result;
    } finally {
      this.working -= 1;
      this.show();
    }
  }

  private show(): void {
    const { item, current } = this;
    const isReady = current?.state === 'ready';
    const latency = this.latencyMs === undefined ? '' : ` · ${this.latencyMs} ms`;
    item.text = isReady ? `${current.model} on ${current.device}${this.paused ? ' · paused' : latency}` : `phi-ls: ${current?.state ?? 'starting'}`;
    item.detail = current?.detail ?? '';
    item.busy = this.working > 0 || current?.state === 'loading' || current?.state === 'restarting';
    item.severity = current?.state === 'off' ? vscode.LanguageStatusSeverity.Warning : vscode.LanguageStatusSeverity.Information;
    if (current?.state === 'off') {
      item.command = { title: 'Run doctor', command: 'phi-ls.doctor' };
    } else {
      item.command = this.paused ? { title: 'Resume', command: 'phi-ls.resume' } : { title: 'Pause', command: 'phi-ls.pause' };
    }
  }
}
