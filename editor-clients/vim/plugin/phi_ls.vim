vim9script
# phi-ls for Vim 9: the command :Phi, and the server started with the first file. All else is in autoload/phi_ls.vim.

if exists('g:loaded_phi_ls') || !has('channel') || !has('textprop') || !has('patch-9.0.0916')
  finish
endif
g:loaded_phi_ls = 1

import autoload '../autoload/phi_ls.vim' as phi

command -nargs=1 -range -complete=custom,phi.Subcommands Phi phi.Run(<q-args>, <range>, <line1>, <line2>)

augroup phi_ls
  autocmd!
  autocmd BufReadPost,BufNewFile,FileType * phi.Attach()
augroup END
