-- What Neovim lacks for phi-ls: the command :Phi, a floating window that an explanation streams into, and a text for the statusline.
-- Not here: ghost text, code actions and documents, which are Neovim's own (vim.lsp).
local M = {}

M.status = nil -- the last phi-ls/status: { state, engine, model, device, reason, detail }

local explaining = nil -- { client, request, token, thread, window, buffer }: at most one at a time
local tokens = 0

local function client_here()
  local client = vim.lsp.get_clients({ name = 'phi-ls', bufnr = 0 })[1]
  if not client then
    vim.notify('phi-ls is not running for this file. :checkhealth vim.lsp says why.', vim.log.levels.WARN)
  end
  return client
end

local function say(error)
  vim.notify('phi-ls: ' .. error.message, vim.log.levels.WARN)
end

-- The window

local function open_window(title)
  local buffer = vim.api.nvim_create_buf(false, true)
  vim.bo[buffer].filetype = 'markdown'
  vim.bo[buffer].bufhidden = 'wipe'
  local width = math.min(90, vim.o.columns - 8)
  local window = vim.api.nvim_open_win(buffer, true, {
    relative = 'cursor', row = 1, col = 0, width = width, height = 3, style = 'minimal', border = 'rounded', title = title,
  })
  vim.wo[window].wrap = true
  vim.wo[window].linebreak = true
  vim.wo[window].conceallevel = 2
  for _, key in ipairs({ 'q', '<Esc>' }) do
    vim.keymap.set('n', key, '<Cmd>close<CR>', { buffer = buffer, desc = 'Close the explanation, and stop the model' })
  end
  vim.api.nvim_create_autocmd('BufWipeout', { buffer = buffer, once = true, callback = M.cancel })
  return window, buffer
end

local function append(view, text)
  if not vim.api.nvim_buf_is_valid(view.buffer) then
    return
  end
  local last = vim.api.nvim_buf_get_lines(view.buffer, -2, -1, false)[1]
  vim.api.nvim_buf_set_lines(view.buffer, -2, -1, false, vim.split(last .. text, '\n', { plain = true }))
  local needed = vim.api.nvim_win_text_height(view.window, {}).all
  vim.api.nvim_win_set_height(view.window, math.max(3, math.min(needed, math.floor(vim.o.lines / 2))))
end

-- Explanations and answers. `argument` is what the server's command takes.

local function tell(view, command, argument)
  M.cancel()
  tokens = tokens + 1
  view.token = 'phi-ls-explanation-' .. tokens
  view.thread = nil
  explaining = view
  local argument_with_token = vim.tbl_extend('force', argument, { partialResultToken = view.token })
  local params = { command = command, arguments = { argument_with_token } }
  local _, request = view.client:request('workspace/executeCommand', params, function(error, result)
    if explaining == view then
      explaining = nil
    end
    if error and vim.api.nvim_win_is_valid(view.window) then
      append(view, (vim.api.nvim_buf_line_count(view.buffer) > 1 and '\n\n' or '') .. error.message)
    elseif result and type(result.thread) == 'number' and vim.api.nvim_win_is_valid(view.window) then -- else the model takes no questions
      view.thread = result.thread
      vim.api.nvim_win_set_config(view.window, { footer = ' a: ask further ' })
    end
  end)
  view.request = request
end

local function ask(view)
  if not view.thread then
    vim.notify('phi-ls: there is nothing to ask about: it is not complete, or the model takes no questions.', vim.log.levels.WARN)
    return
  end
  vim.ui.input({ prompt = 'A further question: ' }, function(question)
    if question and question:find('%S') and vim.api.nvim_win_is_valid(view.window) then
      append(view, '\n\n**' .. question .. '**\n\n')
      tell(view, 'phi-ls.followUp', { thread = view.thread, question = question })
    end
  end)
end

function M.explain(client, argument)
  M.cancel()
  local window, buffer = open_window(' phi-ls explains ')
  local view = { client = client, window = window, buffer = buffer }
  vim.keymap.set('n', 'a', function() ask(view) end, { buffer = buffer, desc = 'Ask further' })
  tell(view, 'phi-ls.explain', argument)
end

function M.cancel()
  if explaining then
    explaining.client:cancel_request(explaining.request)
    explaining = nil
  end
end

local function on_progress(error, params, context)
  if explaining and params.token == explaining.token then
    append(explaining, params.value.text)
  elseif not tostring(params.token):find('^phi%-ls%-explanation') then
    return vim.lsp.handlers['$/progress'](error, params, context)
  end
end

-- Ghost text

-- Accepts the first word of the suggestion, or the line end and indentation before it. Returns whether there was a suggestion.
function M.accept_word()
  return vim.lsp.inline_completion.get({
    on_accept = function(item)
      item.insert_text = item.insert_text:match('^%s*[%w_]+') or item.insert_text:match('^%s*.')
      item.command = nil
      return item
    end,
  })
end

-- For the statusline: the model and the device, or what the server is busy with; empty without phi-ls.
function M.statusline()
  local status = M.status
  if not status then
    return ''
  end
  local paused = M.paused and ' (paused)' or ''
  return status.state == 'ready' and ('%s on %s%s'):format(status.model, status.device, paused) or 'phi-ls: ' .. status.state
end

local function pause(paused)
  M.paused = paused
  vim.lsp.inline_completion.enable(not paused)
  vim.notify('phi-ls: suggestions are ' .. (paused and 'paused. :Phi resume brings them back.' or 'on.'))
end

-- :Phi

local subcommands = {
  explain = function(client, range)
    local encoding = client.offset_encoding
    local last = vim.fn.getline(range.line2)
    M.explain(client, {
      uri = vim.uri_from_bufnr(0),
      version = vim.lsp.util.buf_versions[vim.api.nvim_get_current_buf()],
      range = {
        start = { line = range.line1 - 1, character = 0 },
        ['end'] = range.range > 0 and { line = range.line2 - 1, character = vim.str_utfindex(last, encoding) }
          or { line = range.line1 - 1, character = 0 },
      },
    })
  end,
  cancel = M.cancel,
  status = function(client)
    client:request('workspace/executeCommand', { command = 'phi-ls.status' }, function(error, result)
      if error then
        return say(error)
      end
      vim.notify(('phi-ls: %s %d suggestions shown, %d accepted.'):format(result.detail, result.shown, result.accepted))
    end)
  end,
  restart = function(client)
    client:request('workspace/executeCommand', { command = 'phi-ls.restart' }, function(error)
      return error and say(error)
    end)
  end,
  pause = function() pause(true) end,
  resume = function() pause(false) end,
  log = function() vim.cmd.tabedit(vim.lsp.log.get_filename()) end,
}

local function run(options)
  local subcommand = subcommands[options.args]
  if not subcommand then
    local names = vim.tbl_keys(subcommands)
    table.sort(names)
    vim.notify('phi-ls: :Phi takes one of ' .. table.concat(names, ', ') .. '.', vim.log.levels.WARN)
    return
  end
  local client = client_here()
  if client then
    subcommand(client, options)
  end
end

function M.setup()
  vim.lsp.config('phi-ls', {
    handlers = {
      ['$/progress'] = on_progress,
      ['phi-ls/status'] = function(_, status)
        M.status = status
        vim.cmd.redrawstatus()
      end,
      ['$/phi-ls/more'] = function(_, more) -- the suggestion on show has become longer
        local buffer = vim.uri_to_bufnr(more.uri)
        if buffer == vim.api.nvim_get_current_buf() and vim.startswith(vim.api.nvim_get_mode().mode, 'i') then
          vim.api.nvim_exec_autocmds('CursorMovedI', { buffer = buffer, modeline = false }) -- this is when Neovim asks
        end
      end,
    },
    commands = {
      ['phi-ls.explain'] = function(command, context)
        M.explain(assert(vim.lsp.get_client_by_id(context.client_id)), command.arguments[1])
      end,
    },
    on_attach = function(client, buffer)
      if client:supports_method('textDocument/inlineCompletion') and vim.lsp.inline_completion then
        if not M.paused then
          vim.lsp.inline_completion.enable(true, { client_id = client.id })
        end
      else -- Neovim 0.11, which would insert the only suggestion without asking, and of any suggestion only the first word
        vim.bo[buffer].completeopt = 'menuone,noselect,popup'
        local function first_line(item)
          return { word = item.textEdit.newText:match('^[^\n]*') }
        end
        vim.lsp.completion.enable(true, client.id, buffer, { autotrigger = true, convert = first_line })
      end
    end,
    on_exit = function() -- Neovim itself says so when the server has crashed
      M.status, explaining = nil, nil
    end,
  })
  vim.api.nvim_create_user_command('Phi', run, {
    nargs = 1,
    range = true,
    desc = 'phi-ls: explain, status, pause and more',
    complete = function(start)
      return vim.iter(vim.tbl_keys(subcommands)):filter(function(name) return vim.startswith(name, start) end):totable()
    end,
  })
  local program = vim.lsp.config['phi-ls'].cmd[1]
  if vim.fn.executable(program) == 0 then
    local problem = ('phi-ls is not installed: there is no program "%s". `pip install phi-ls[openvino]` brings it,'):format(program)
    vim.notify(problem .. ' or name it in vim.lsp.config("phi-ls", { cmd = … }).', vim.log.levels.WARN)
    return
  end
  vim.lsp.enable('phi-ls')
end

return M
