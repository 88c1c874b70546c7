// Takes a picture of a terminal. Reads JSON from stdin: what was written to it, its size, and where things are.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const options = JSON.parse(readFileSync(0, 'utf8'));
const { chromium } = createRequire(`${options.modules}/`)('playwright-core');
const browser = await chromium.launch({ executablePath: options.chromium, args: ['--no-sandbox', '--disable-gpu'] });
const page = await browser.newPage({ viewport: { width: 1000, height: 700 } });
await page.setContent('<body style="margin: 0"><div id="terminal" style="display: inline-block"></div></body>');
await page.addStyleTag({ path: `${options.xterm}/css/xterm.css` });
await page.addScriptTag({ path: `${options.xterm}/lib/xterm.js` });
await page.evaluate(({ rows, columns, written }) => new Promise((resolve) => {
  const terminal = new globalThis.Terminal({ rows, cols: columns, fontFamily: 'DejaVu Sans Mono', fontSize: 14 });
  terminal.open(document.getElementById('terminal'));
  terminal.write(written, () => requestAnimationFrame(() => requestAnimationFrame(resolve)));
}), options);
await page.locator('.xterm-screen').screenshot({ path: options.picture });
await browser.close();
