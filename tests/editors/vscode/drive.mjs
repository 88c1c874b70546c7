// Drives VS Code in headless Chromium as a person would. usage: node drive.mjs '{"what": "in-host" | "story" | "more" | "growing" | "restricted" | "newcomer", …}'
// Prints a JSON object a line: {"passed": …}, {"log": …}, and at the end {"toasts": …}.
import assert from 'node:assert';
import { createRequire } from 'node:module';
import { readFileSync, writeFileSync } from 'node:fs';

const options = JSON.parse(process.argv[2]);
const { chromium } = createRequire(`${options.modules}/`)('playwright-core');
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const remote = (path) => `vscode-remote://${options.host}${path}`;
const browser = await chromium.launch({
  executablePath: options.chromium,
  args: ['--no-sandbox', '--disable-gpu', '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1'],
});
const page = await browser.newPage({ viewport: { width: 1180, height: 680 } });
page.setDefaultTimeout(30_000);
await page.addInitScript(() => { // every toast that is ever shown, also those that go away by themselves
  globalThis.toasts = [];
  new MutationObserver(() => {
    for (const toast of document.querySelectorAll('.notification-toast .notification-list-item')) {
      const text = toast.querySelector('.notification-list-item-message')?.textContent ?? '';
      const kind = /codicon-(error|warning|info)/.exec(toast.querySelector('.notification-list-item-icon')?.className ?? '')?.[1] ?? '';
      if (text && !globalThis.toasts.some((known) => known.text === text)) {
        globalThis.toasts.push({ kind, text });
      }
    }
  }).observe(document, { childList: true, subtree: true });
});

async function open(...payload) {
  const query = new URLSearchParams({ folder: options.folder, payload: JSON.stringify([['skipWelcome', 'true'], ...payload]) });
  await page.goto(`http://${options.host}/?${query}`);
}

const logged = [];

async function inHost() {
  page.on('console', (message) => { // no toasts are shown then, but errors that would be are logged
    if (message.type() === 'error' && message.text().includes('phi-ls')) {
      logged.push({ kind: 'error', text: message.text() });
    }
  });
  const ended = new Promise((resolve) => page.exposeFunction('codeAutomationExit', resolve));
  await page.exposeFunction('codeAutomationLog', (_, args) => say({ log: args.join(' ') }));
  await open(['extensionDevelopmentPath', remote(options.extension)], ['extensionTestsPath', remote(options.tests)]);
  say({ exit: await ended });
}

const file = `${options.folder}/inventory.py`;
const saved = () => readFileSync(file, 'utf8');
const picture = async (name) => options.pictures && await page.screenshot({ path: `${options.pictures}/${name}.png` });

async function until(what, condition) {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const value = await condition();
    if (value) {
      return value;
    }
    if (Date.now() > deadline) {
      await page.screenshot({ path: `${options.failure}` });
      throw new Error(`${what} did not happen.`);
    }
    await page.waitForTimeout(30); // between two looks
  }
}

async function command(name) {
  await page.keyboard.press('F1');
  await page.locator('.quick-input-widget input').fill(`>${name}`);
  await page.locator('.quick-input-list .monaco-list-row').filter({ hasText: name }).first().waitFor();
  await page.keyboard.press('Enter');
}

async function goTo(line) {
  await command('Go to Line/Column...');
  await page.locator('.quick-input-widget input').fill(`:${line}`);
  await page.keyboard.press('Enter');
  await page.locator('.quick-input-widget').waitFor({ state: 'hidden' });
}

const editor = (number) => page.locator('.editor-group-container').nth(number).locator('.view-lines');
const textOf = async (number) => (await editor(number).innerText()).replaceAll('\u00a0', ' ');
const lineOf = (text) => saved().split('\n').findIndex((line) => line.includes(text)) + 1;

/** Opens the file, and waits until what the status tells is there. */
async function openFile(engine) {
  await open(['openFile', remote(file)]);
  await editor(0).waitFor();
  await editor(0).click();
  await until('An engine that is ready', async () => (await statusText()).includes(engine));
}

async function toTheEnd(number = 0) {
  await editor(number).click();
  await page.keyboard.press('Control+End');
}

async function story() {
  await openFile('phi-ls-nano on CPU');

  await page.keyboard.press('Control+End');
  await page.keyboard.type('\n    def remove(self, name: str) -> None:\n', { delay: 20 });
  await page.keyboard.type('if name not in self.', { delay: 40 });
  const ghost = await until('Ghost text', async () => (await page.locator('.ghost-text-decoration, .ghost-text').allInnerTexts()).join(''));
  await picture('vscode-ghost-text');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Control+S');
  await until('The accepted text', () => saved().includes(`if name not in self.${ghost.replaceAll('\u00a0', ' ').split('\n')[0]}`));
  say({ passed: `ghost text of the embedded model is shown and accepted: ${ghost}` });

  await page.keyboard.press('Escape');
  await goTo(lineOf('def add'));
  const entry = (title) => page.locator('.action-widget .monaco-list-row').filter({ hasText: title });
  await until('The menu', async () => { // it closes again when the focus is only just coming back to the editor
    await page.keyboard.press('Control+.');
    return await entry('Write docstring').waitFor({ timeout: 3000 }).then(() => true, () => false);
  });
  await picture('vscode-code-actions');
  await entry('Write docstring').click();
  await until('The docstring', async () => {
    await page.keyboard.press('Control+S');
    return /def add.*\n {8}"""/.test(saved());
  });
  say({ passed: 'the menu of code actions writes a docstring' });

  await goTo(lineOf('def load'));
  for (let line = 0; line < 4; line++) {
    await page.keyboard.press('Shift+ArrowDown');
  }
  await command('phi-ls: Explain Selection');
  await until('The explanation', async () => (await page.locator('.editor-group-container').count()) > 1 && (await textOf(1)).includes('Written by'));
  await picture('vscode-explanation');
  say({ passed: 'Explain Selection opens beside the code' });

  writeFileSync(options.settings, JSON.stringify(options.later));
  await until('The slow engine', async () => (await statusText()).includes('echo on none'));
  await editor(0).click();
  await goTo(lineOf('class Item'));
  await command('phi-ls: Explain Selection');
  await until('The beginning of it', async () => (await textOf(1)).includes('It adds'));
  const toast = page.locator('.notification-toast').filter({ hasText: 'Explaining' });
  await toast.getByRole('button', { name: 'Cancel' }).click();
  await until('The end of it', async () => (await everything(1)).includes('Cancelled'));
  say({ passed: 'Cancel stops an explanation' });
}

const ghostText = async () => (await page.locator('.ghost-text-decoration, .ghost-text').allInnerTexts()).join('').replaceAll('\u00a0', ' ');
const settings = () => [options.settings, options.userSettings].map((path) => readFileSync(path, 'utf8')).join('\n');
const row = (text) => page.locator('.quick-input-list .monaco-list-row').filter({ hasText: text }).first();

/** What the first story leaves out, with an engine that answers two lines. */
async function more() {
  await openFile('echo on none');

  await toTheEnd();
  await page.keyboard.type('\n    def first(self):\n', { delay: 20 });
  await until('Ghost text', async () => (await ghostText()).includes('first = 1'));
  await page.keyboard.press('Alt+]');
  await page.keyboard.press('Alt+[');
  await until('The same suggestion, the only one', async () => (await ghostText()).includes('first = 1'));
  say({ passed: 'next and previous keep what is shown' });
  await page.keyboard.press('Control+Alt+L');
  const written = (text) => until(text, async () => {
    await page.keyboard.press('Control+S');
    return saved().includes(text);
  });
  await written('        first = 1\n');
  await until('The rest of it', async () => (await ghostText()).includes('return first'));
  say({ passed: 'a line of a suggestion is accepted, and the rest stays' });
  await page.keyboard.press('Control+ArrowRight');
  await written('        return');
  assert(!saved().includes('return first\n'), 'more than a word was accepted');
  await page.keyboard.press('Tab');
  await written('        return first');
  say({ passed: 'a word of a suggestion is accepted, and then the rest' });

  await command('phi-ls: Pause Suggestions');
  await until('The pause', async () => (await statusText()).includes('paused'));
  await command('phi-ls: Resume Suggestions');
  await until('Its end', async () => !(await statusText()).includes('paused'));
  await toTheEnd();
  await page.keyboard.type('\n\ndef second(self):\n', { delay: 20 });
  await until('Ghost text', async () => (await ghostText()).includes('first = 1'));
  await page.keyboard.press('Escape');
  say({ passed: 'suggestions are paused and resumed' });

  await goTo(lineOf('def add'));
  await command('phi-ls: Explain Selection');
  const ask = page.locator('.codelens-decoration a').filter({ hasText: 'Ask a further question' });
  await ask.click();
  await page.locator('.quick-input-widget input').fill('Why is there a check?');
  await page.keyboard.press('Enter');
  await until('The answer', async () => /Why is there a check\?[^]*Written by echo/.test(await textOf(1)));
  await picture('vscode-follow-up');
  say({ passed: 'a further question is answered' });

  await command('phi-ls: Choose Device');
  await row('CPU').click();
  await until('The device in the settings', () => settings().includes('"phi-ls.device": "CPU"'));
  say({ passed: 'a device is chosen' });

  await editor(0).click();
  await command('phi-ls: Restart');
  await until('An engine that is ready', async () => (await statusText()).includes('echo on'));
  say({ passed: 'the server is restarted' });

  await command('Open Walkthrough...');
  await row('Phi-3 on your own machine').click();
  await page.getByText('Have code explained').first().waitFor();
  await picture('vscode-walkthrough');
  say({ passed: 'the walkthrough is there' });
}

/** With an engine that is slower than the deadline. */
async function growing() {
  await openFile('echo on none');
  await toTheEnd();
  await page.evaluate(() => { // what is painted, each time that it is another text
    globalThis.seen = [];
    const look = () => {
      const ghost = [...document.querySelectorAll('.ghost-text-decoration, .ghost-text')].map((each) => each.innerText).join('').replaceAll('\u00a0', ' ');
      if (ghost !== (globalThis.seen.at(-1) ?? '')) {
        globalThis.seen.push(ghost);
      }
      requestAnimationFrame(look);
    };
    look();
  });
  await page.keyboard.type('\nrebate = ', { delay: 20 });
  const seen = async () => await page.evaluate(() => globalThis.seen);
  await until('The whole suggestion', async () => (await seen()).at(-1)?.endsWith('zone_of(address)'));
  say({ seen: await seen() });
}

/** In a folder that is not trusted, whose settings name programs and models. */
async function restricted() {
  await openFile('echo on none');
  await page.locator('.statusbar-item').filter({ hasText: 'Restricted Mode' }).waitFor();
  await toTheEnd();
  await page.keyboard.type('\nrebate = ', { delay: 20 });
  await until('The suggestion of the engine that the user chose', async () => (await ghostText()) === 'price + tax');
}

/** With neither a model nor a runtime, and then with both. */
async function newcomer() {
  await nothing();
  say({ nothing: await page.evaluate(() => globalThis.toasts) });
  await command('phi-ls: Install OpenVINO Runtime');
  await page.locator('.monaco-dialog-box').getByRole('button', { name: 'Install' }).click();
  await page.locator('.notification-toast').filter({ hasText: 'Installing OpenVINO' }).waitFor();
  await picture('vscode-install');
  page.setDefaultTimeout(280_000);
  await page.locator('.notification-toast').filter({ hasText: 'Installing OpenVINO' }).waitFor({ state: 'detached' });
  page.setDefaultTimeout(30_000);
  say({ passed: 'the runtime is installed' });

  const where = page.locator('.quick-input-widget input').first();
  const isChosen = () => settings().includes(options.model);
  await until('The model in the settings', async () => { // on a busy machine, the dialog may not yet have taken what was filled in
    await command('phi-ls: Choose Model');
    await row('A folder').click();
    await until('A choice of folders', async () => (await where.inputValue()).startsWith('/'));
    await where.fill(`${options.model}/`);
    await page.locator('.quick-input-widget').getByRole('button', { name: 'Use this model' }).click();
    await page.waitForTimeout(isChosen() ? 0 : 2000);
    return isChosen();
  });
  await until('The model', async () => (await statusText()).includes('phi-ls-nano on CPU'));
  say({ passed: 'a model is chosen, and runs' });
  await toTheEnd();
  await page.keyboard.type('\n\nfor item in self.', { delay: 40 });
  await until('Ghost text', ghostText);
  say({ passed: 'there is ghost text' });
}

async function nothing() {
  await open(['openFile', remote(file)]);
  await editor(0).click();
  await until('A message', async () => (await page.evaluate(() => globalThis.toasts)).length > 0);
  await page.keyboard.press('Control+End');
  await page.keyboard.type('\n\nrebate = ', { delay: 20 });
  await goTo(lineOf('def add'));
  await until('The reason in the status', async () => (await statusText()).includes('phi-ls: off'));
}

/** The language status, as the hover of `{}` tells it. */
async function statusText() {
  await page.mouse.move(500, 300); // a hover that a key has closed opens again only when one comes anew
  await page.locator('[id="status.languageStatus"]').first().hover();
  const hover = page.locator('.hover-language-status').first();
  await hover.waitFor();
  return (await page.locator('.hover-language-status').allInnerTexts()).join(' ');
}

/** All of an editor's text, not only what fits the window. */
async function everything(number) {
  await toTheEnd(number);
  return await textOf(number);
}

try {
  await { 'in-host': inHost, story, more, growing, restricted, newcomer }[options.what]();
  say({ toasts: [...logged, ...await page.evaluate(() => globalThis.toasts).catch(() => [])] });
} catch (error) {
  await command('phi-ls: Show Logs').catch(() => undefined);
  const log = await page.locator('.panel .view-lines').innerText({ timeout: 5000 }).catch(() => '');
  await page.screenshot({ path: options.failure }).catch(() => undefined);
  say({ failed: error.stack, log });
} finally {
  await browser.close();
}
