-- How Neovim starts phi-ls, for `vim.lsp.enable('phi-ls')`. Copied to ~/.config/nvim/lsp it works without the rest of this folder.
local folder = vim.fs.root(0, '.git')

return {
  cmd = { 'phi-ls', 'serve' },
  -- No `filetypes`: phi-ls completes any text, and Neovim attaches it to files only.
  root_dir = folder,
  settings = { ['phi-ls'] = vim.empty_dict() },
}
