vim9script
# A small LSP client for phi-ls alone, on Vim's own channels: ghost text as text properties, code actions, explanations that stream into
# a buffer. Positions count characters, which the server is asked for as utf-32.

const MAX_LINES = 20000  # a larger file would be slow to send with each change

var server: job
var is_ready = false  # the server has answered `initialize`
var paused = false
var status: dict<any> = {}
var versions: dict<number> = {}  # of the buffers that the server knows, by buffer number
var ticks: dict<number> = {}
var suggestion: dict<any> = {}  # what is shown as ghost text: { text, lnum, col, overwrites, command }
var asked = -1  # the request for a suggestion that is under way
var timer = -1
var explaining: dict<any> = {}  # { id, token, buffer }
var asked_about: dict<any> = {}  # the last explanation that is complete and can be asked about: { thread, buffer }
var tokens = 0

# The server

def Start()
  const command = get(g:, 'phi_ls_command', ['phi-ls', 'serve'])
  if !executable(command[0])
    g:phi_ls_off = 1
    Warn($'phi-ls is not installed: there is no program "{command[0]}". Install it as its README says, or name it in g:phi_ls_command.')
    return
  endif
  server = job_start(command, {in_mode: 'lsp', out_mode: 'lsp', err_mode: 'nl', out_cb: OnMessage, err_cb: (_, _) => 0, exit_cb: OnExit})
  const capabilities = {
    general: {positionEncodings: ['utf-32']},
    textDocument: {
      inlineCompletion: {},
      codeAction: {codeActionLiteralSupport: {codeActionKind: {valueSet: ['', 'quickfix', 'refactor']}}},
    },
    workspace: {applyEdit: true, configuration: true},
  }
  const parameters = {processId: getpid(), rootUri: Uri(getcwd()), capabilities: capabilities, clientInfo: {name: 'Vim'}}
  Ask('initialize', parameters, (_) => {
    is_ready = true
    Tell('initialized', {})
    for buffer in getbufinfo({bufloaded: true})
      AttachBuffer(buffer.bufnr)
    endfor
  })
enddef

def IsRunning(): bool
  return server != null_job && job_status(server) ==# 'run'
enddef

def Ask(method: string, parameters: dict<any>, Then: func(any)): number
  const sent = ch_sendexpr(server, {method: method, params: parameters}, {callback: (_, answer) => {
    if has_key(answer, 'error')
      if answer.error.code != -32800  # cancelled: by ourselves
        Warn('phi-ls: ' .. answer.error.message)
      endif
    else
      Then(get(answer, 'result', null))
    endif
  }})
  return sent.id
enddef

def Nothing(_: any)
enddef

def Tell(method: string, parameters: dict<any>)
  ch_sendexpr(server, {method: method, params: parameters})
enddef

def OnMessage(_: channel, message: dict<any>)
  const method = get(message, 'method', '')
  if has_key(message, 'id')
    var result: any = null
    if method ==# 'workspace/configuration'
      result = [get(g:, 'phi_ls_settings', {})]
    elseif method ==# 'workspace/applyEdit'
      result = {applied: ApplyEdit(message.params.edit)}
    endif
    Reply(message.id, result)
  elseif method ==# 'phi-ls/status'
    status = message.params
    redrawstatus
  elseif method ==# '$/phi-ls/more'  # the suggestion on show has become longer
    if !empty(suggestion) && UriOf(bufnr()) ==# message.params.uri && get(versions, bufnr(), 0) == message.params.version
      Suggest()
    endif
  elseif method ==# 'window/showMessage'
    Warn(message.params.message)
  elseif method ==# '$/progress' && get(explaining, 'token', '') ==# message.params.token
    AppendExplanation(message.params.value.text)
  endif
enddef

# ch_sendexpr() refuses ids that are texts (E475), as this server's are.
def Reply(id: any, result: any)
  const json = json_encode({jsonrpc: '2.0', id: id, result: result})
  ch_sendraw(server, $"Content-Length: {strlen(json)}\r\n\r\n{json}")
enddef

def OnExit(_: job, code: number)
  is_ready = false
  status = {}
  versions = {}
  explaining = {}
  Hide()
  if code != 0 && v:dying == 0
    Warn('phi-ls has ended unexpectedly. `:Phi start` starts it again.')
  endif
enddef

# Documents: the whole text with each change, which is the simplest thing that cannot go wrong.

export def Attach()
  if exists('g:phi_ls_off') || !IsFile(bufnr())
    return
  elseif !IsRunning()
    Start()
  elseif is_ready
    AttachBuffer(bufnr())
  endif
enddef

def IsFile(buffer: number): bool
  return getbufvar(buffer, '&buftype') ==# '' && bufname(buffer) !=# '' && len(getbufline(buffer, 1, '$')) <= MAX_LINES
enddef

def AttachBuffer(buffer: number)
  if has_key(versions, buffer) || !IsFile(buffer)
    return
  endif
  versions[buffer] = 1
  ticks[buffer] = getbufvar(buffer, 'changedtick')
  const document = {languageId: getbufvar(buffer, '&filetype') ?? 'plaintext', version: 1, text: Text(buffer)}
  Tell('textDocument/didOpen', {textDocument: extend({uri: UriOf(buffer)}, document)})
  augroup phi_ls_buffer
    execute $'autocmd! * <buffer={buffer}>'
    execute $'autocmd TextChanged,TextChangedI,TextChangedP,CursorMovedI,InsertEnter <buffer={buffer}> OnChange()'
    execute $'autocmd InsertLeave <buffer={buffer}> Hide()'
    execute $'autocmd BufUnload <buffer={buffer}> OnUnload({buffer})'
  augroup END
enddef

def OnUnload(buffer: number)
  if has_key(versions, buffer) && is_ready
    remove(versions, buffer)
    Tell('textDocument/didClose', {textDocument: {uri: UriOf(buffer)}})
  endif
enddef

def OnChange()
  if !is_ready || !has_key(versions, bufnr())
    return
  endif
  Hide()
  Sync(bufnr())
  timer_stop(timer)
  if mode() =~# '^i' && !paused
    timer = timer_start(0, (_) => Suggest())  # once for a burst of keys; the server waits for a pause in typing
  endif
enddef

def Sync(buffer: number)
  const tick = getbufvar(buffer, 'changedtick')
  if ticks[buffer] != tick
    ticks[buffer] = tick
    versions[buffer] += 1
    const document = {uri: UriOf(buffer), version: versions[buffer]}
    Tell('textDocument/didChange', {textDocument: document, contentChanges: [{text: Text(buffer)}]})
  endif
enddef

def Text(buffer: number): string
  return join(getbufline(buffer, 1, '$'), "\n") .. "\n"
enddef

# Ghost text

def Suggest()
  Cancel(asked)
  const [buffer, version, line, column] = [bufnr(), get(versions, bufnr(), 0), line('.'), col('.')]
  const here = {textDocument: {uri: UriOf(buffer)}, position: {line: line - 1, character: Characters(getline('.'), column)}}
  asked = Ask('textDocument/inlineCompletion', extend({context: {triggerKind: 2}}, here), (result) => {
    asked = -1
    const items = type(result) == v:t_dict ? result.items : []
    if !empty(items) && bufnr() == buffer && get(versions, buffer, 0) == version && [line('.'), col('.')] == [line, column] && mode() =~# '^i'
      Show(items[0], line, column)
    endif
  })
enddef

def Show(item: dict<any>, line: number, column: number)
  Hide()
  if empty(prop_type_get('PhiGhost'))
    hlset([{name: 'PhiGhost', default: true, linksto: 'Comment'}])
    prop_type_add('PhiGhost', {highlight: 'PhiGhost'})
  endif
  const lines = split(item.insertText, "\n", true)
  const range = item.range
  const overwrites = range.end.character - range.start.character
  suggestion = {text: item.insertText, line: line, column: column, overwrites: overwrites, command: get(item, 'command', {})}
  if lines[0] !=# ''
    prop_add(line, column, {type: 'PhiGhost', text: lines[0]})
  endif
  for more in lines[1 :]
    prop_add(line, 0, {type: 'PhiGhost', text: more ?? ' ', text_align: 'below'})
  endfor
enddef

def Hide()
  if !empty(suggestion)
    prop_remove({type: 'PhiGhost', all: true})
    suggestion = {}
  endif
enddef

# What is shown as ghost text; empty when nothing is.
export def Ghost(): string
  return get(suggestion, 'text', '')
enddef

# For a mapping of insert mode: accepts the suggestion, or does what the key does without one.
export def Accept(key: string)
  if empty(suggestion)
    feedkeys(key, 'ni')
    return
  endif
  const accepted = suggestion
  Hide()
  Insert(accepted.text, accepted.overwrites)
  if !empty(accepted.command)
    Ask('workspace/executeCommand', {command: accepted.command.command, arguments: []}, Nothing)
  endif
enddef

# Accepts the first word of the suggestion.
export def AcceptWord(key: string)
  if empty(suggestion)
    feedkeys(key, 'ni')
    return
  endif
  const text = suggestion.text
  Hide()
  Insert(matchstr(text, '^\_s*\(\w\+\|.\)'), 0)
enddef

def Insert(text: string, overwrites: number)
  const line = getline('.')
  const [before, after] = [strpart(line, 0, col('.') - 1), strcharpart(strpart(line, col('.') - 1), overwrites)]
  var lines = split(before .. text, "\n", true)
  const last = lines[-1]
  lines[-1] ..= after
  setline('.', lines[0])
  append('.', lines[1 :])
  cursor(line('.') + len(lines) - 1, strlen(last) + 1)
  OnChange()
enddef

# Edits of the server, for one document; they are made for its present version or refused by it.

def ApplyEdit(edit: dict<any>): bool
  if !has_key(edit, 'changes')
    return false
  endif
  for [uri, edits] in items(edit.changes)
    const buffer = BufferOf(uri)
    if buffer < 0
      return false
    endif
    for each in sort(copy(edits), (a, b) => b.range.start.line - a.range.start.line)
      const [start, end] = [each.range.start, each.range.end]
      const lines = getbufline(buffer, 1, '$')
      const before = strcharpart(get(lines, start.line, ''), 0, start.character)
      const after = strcharpart(get(lines, end.line, ''), end.character)
      const fresh = split(before .. each.newText .. after, "\n", true)
      const behind_the_end = end.line >= len(lines) && fresh[-1] ==# ''
      deletebufline(buffer, start.line + 1, min([end.line + 1, len(lines)]))
      appendbufline(buffer, start.line, behind_the_end ? fresh[: -2] : fresh)
      if start.line == 0 && end.line >= len(lines) - 1
        deletebufline(buffer, '$')  # a buffer never has no line at all
      endif
    endfor
    Sync(buffer)
  endfor
  return true
enddef

def BufferOf(uri: string): number
  for buffer in keys(versions)
    if UriOf(str2nr(buffer)) ==# uri
      return str2nr(buffer)
    endif
  endfor
  return -1
enddef

# :Phi

const SUBCOMMANDS = ['actions', 'ask', 'cancel', 'explain', 'pause', 'restart', 'resume', 'start', 'status']

export def Subcommands(_: string, _: string, _: number): string
  return join(SUBCOMMANDS, "\n")
enddef

export def Run(subcommand: string, given: number, first: number, last: number)
  if subcommand ==# 'pause' || subcommand ==# 'resume'
    paused = subcommand ==# 'pause'
    Hide()
    echo 'phi-ls: suggestions are ' .. (paused ? 'paused. :Phi resume brings them back.' : 'on.')
  elseif subcommand ==# 'start'
    unlet! g:phi_ls_off
    Attach()
  elseif index(SUBCOMMANDS, subcommand) < 0
    Warn('phi-ls: :Phi takes one of ' .. join(SUBCOMMANDS, ', ') .. '.')
  elseif !IsRunning() || !is_ready
    Warn('phi-ls is not running. `:Phi start` starts it.')
  elseif subcommand ==# 'explain'
    Explain({uri: UriOf(bufnr()), range: Lines(given, first, last), version: get(versions, bufnr(), 0)})
  elseif subcommand ==# 'actions'
    Actions(Lines(given, first, last))
  elseif subcommand ==# 'ask'
    AskFurther()
  elseif subcommand ==# 'cancel'
    CancelExplanation()
  elseif subcommand ==# 'restart'
    Ask('workspace/executeCommand', {command: 'phi-ls.restart', arguments: []}, Nothing)
  else
    Ask('workspace/executeCommand', {command: 'phi-ls.status', arguments: []}, (result) => {
      echomsg $'phi-ls: {result.detail} {result.shown} suggestions shown, {result.accepted} accepted.'
    })
  endif
enddef

def Lines(given: number, first: number, last: number): dict<any>
  const end = given > 0 ? {line: last - 1, character: strchars(getline(last))} : {line: first - 1, character: 0}
  return {start: {line: first - 1, character: 0}, end: end}
enddef

def Actions(range: dict<any>)
  const context = {diagnostics: []}
  Ask('textDocument/codeAction', {textDocument: {uri: UriOf(bufnr())}, range: range, context: context}, (result) => {
    const actions: list<any> = empty(result) ? [] : result
    if empty(actions)
      echo 'phi-ls: there is nothing to be done here. Select some code, or put the cursor on a definition.'
      return
    endif
    popup_menu(mapnew(actions, (_, action) => action.title), {title: ' phi-ls ', callback: (_, chosen) => {
      if chosen > 0
        Perform(actions[chosen - 1])
      endif
    }})
  })
enddef

def Perform(action: dict<any>)
  const command: dict<any> = action.command
  if command.command ==# 'phi-ls.explain'
    Explain(command.arguments[0])
  else
    echo 'phi-ls is writing…'
    Ask('workspace/executeCommand', {command: command.command, arguments: command.arguments}, Nothing)
  endif
enddef

def Explain(argument: dict<any>)
  const from = win_getid()
  botright new
  setlocal buftype=nofile bufhidden=wipe noswapfile filetype=markdown wrap linebreak
  execute 'silent file' fnameescape($'phi-ls explanation {tokens + 1}')
  autocmd BufWipeout <buffer> CancelExplanation()
  const buffer = bufnr()
  win_gotoid(from)
  Stream('phi-ls.explain', argument, buffer)
enddef

# A further question about the last explanation.
def AskFurther()
  if empty(asked_about) || !bufexists(asked_about.buffer)
    Warn('phi-ls: there is no explanation to ask about: it is not complete, or the model takes no questions.')
    return
  endif
  const about = asked_about
  const question = input('A further question: ')
  if question =~# '\S'
    explaining = {buffer: about.buffer}
    AppendExplanation($"\n\n**{question}**\n\n")
    Stream('phi-ls.followUp', {thread: about.thread, question: question}, about.buffer)
  endif
enddef

def Stream(command: string, argument: dict<any>, buffer: number)
  CancelExplanation()
  asked_about = {}
  tokens += 1
  const token = $'phi-ls-explanation-{tokens}'
  explaining = {token: token, buffer: buffer, id: -1}
  const with_token = extend({partialResultToken: token}, argument)
  explaining.id = Ask('workspace/executeCommand', {command: command, arguments: [with_token]}, (result) => {
    if get(explaining, 'token', '') ==# token
      explaining = {}
      if type(result) == v:t_dict && type(result.thread) == v:t_number
        asked_about = {thread: result.thread, buffer: buffer}
      endif
    endif
  })
enddef

def AppendExplanation(text: string)
  const buffer = explaining.buffer
  const lines = split(getbufoneline(buffer, '$') .. text, "\n", true)
  setbufline(buffer, '$', lines[0])
  appendbufline(buffer, '$', lines[1 :])
  redraw
enddef

def CancelExplanation()
  Cancel(get(explaining, 'id', -1))
  explaining = {}
enddef

def Cancel(id: number)
  if id >= 0 && IsRunning()
    Tell('$/cancelRequest', {id: id})
  endif
enddef

# For the statusline: the model and the device, or what the server is busy with.
export def Statusline(): string
  if empty(status)
    return ''
  endif
  return status.state ==# 'ready' ? $'{status.model} on {status.device}' .. (paused ? ' (paused)' : '') : 'phi-ls: ' .. status.state
enddef

def Warn(message: string)
  echohl WarningMsg
  echomsg message
  echohl None
enddef

def Characters(line: string, column: number): number
  return strchars(strpart(line, 0, column - 1))
enddef

def UriOf(buffer: number): string
  return Uri(fnamemodify(bufname(buffer), ':p'))
enddef

def Uri(path: string): string
  const slashes = substitute(path, '\\', '/', 'g')
  const encoded = substitute(slashes, '[^A-Za-z0-9/._~-]', (found) => Escaped(found[0]), 'g')
  return 'file://' .. (encoded =~# '^/' ? '' : '/') .. encoded
enddef

def Escaped(character: string): string
  return join(mapnew(range(strlen(character)), (_, byte) => printf('%%%02X', char2nr(strpart(character, byte, 1)))), '')
enddef
