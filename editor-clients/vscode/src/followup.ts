// Further questions: above an explanation that can be asked about stands "Ask a further question"; the answer opens as the explanation did.

import * as vscode from 'vscode';

/** What the server returns for an explanation or an answer. `thread` is null where the model takes no further questions. */
export interface Told {
  readonly uri: string | null;
  readonly thread: number | null;
}

export class FollowUps implements vscode.CodeLensProvider, vscode.Disposable {
  private readonly threads = new Map<string, number>();
  private readonly changed = new vscode.EventEmitter<void>();
  private readonly registered = vscode.languages.registerCodeLensProvider({ scheme: 'phi-ls' }, this);
  readonly onDidChangeCodeLenses = this.changed.event;

  dispose(): void {
    this.registered.dispose();
    this.changed.dispose();
  }

  note(told: Told | undefined): void {
    if (told?.uri && told.thread !== null) {
      this.threads.set(vscode.Uri.parse(told.uri).toString(), told.thread);
      this.changed.fire();
    }
  }

  provideCodeLenses(document: vscode.TextDocument): vscode.CodeLens[] {
    const uri = document.uri.toString();
    const command = { title: 'Ask a further question', command: 'phi-ls.ask', arguments: [uri] };
    return this.threads.has(uri) ? [new vscode.CodeLens(new vscode.Range(0, 0, 0, 0), command)] : [];
  }

  /** Asks for a question, and has it answered: about the document given, or the explanation that is to be seen. */
  async ask(uri?: string): Promise<void> {
    const seen = vscode.window.visibleTextEditors.map(({ document }) => document.uri.toString());
    const thread = [uri ?? '', ...seen].map((each) => this.threads.get(each)).find((each) => each !== undefined);
    if (thread === undefined) {
      void vscode.window.showInformationMessage('phi-ls: There is no explanation to ask about. Have some code explained first; the embedded model takes no questions.');
      return;
    }
    const question = await vscode.window.showInputBox({ title: 'phi-ls: A further question', placeHolder: 'Why is that so?', ignoreFocusOut: true });
    if (question?.trim()) {
      await vscode.commands.executeCommand('phi-ls.followUp', { thread, question });
    }
  }
}
