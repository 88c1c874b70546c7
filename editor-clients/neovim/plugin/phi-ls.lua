-- Runs when Neovim has read the user's configuration, so that a `cmd` given there is known.
if vim.fn.has('nvim-0.11') == 0 then
  vim.notify('phi-ls needs Neovim 0.11 or newer, and 0.12 for ghost text.', vim.log.levels.WARN)
else
  require('phi-ls').setup()
end
