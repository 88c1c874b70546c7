;;; phi-ls.el --- Code completed and explained by a model on your machine  -*- lexical-binding: t; -*-

;; Package-Requires: ((emacs "30.1"))
;; SPDX-License-Identifier: Apache-2.0

;;; Commentary:

;; Registers phi-ls with Eglot (code actions, completion) and with lsp-mode 10 (these and ghost text), and shows explanations in a
;; buffer while the model writes them.  Not here: documents and edits, which are the business of Eglot and lsp-mode.

;;; Code:

(require 'cl-lib)
(require 'eglot)
(require 'map)

(defgroup phi-ls nil "Code completed and explained by a model on your machine." :group 'tools)

(defcustom phi-ls-command '("phi-ls" "serve")
  "The program of phi-ls, with its arguments."
  :type '(repeat string))

(defcustom phi-ls-settings nil
  "Settings of phi-ls as a property list, such as (:model \"/models/phi-3\" :device \"NPU\")."
  :type 'plist)

(defvar phi-ls-status nil
  "What is in use and why, as the server last said: a property list with :state, :engine, :model, :device, :reason and :detail.")

(defvar phi-ls--explaining nil
  "The explanation that is being written: a property list with :token, :buffer and :notify; nil when there is none.")

(defvar phi-ls--tokens 0)

(defun phi-ls-mode-line ()
  "The model and the device, or what the server is busy with, for the mode line."
  (pcase (plist-get phi-ls-status :state)
    ('nil "")
    ("ready" (format "%s on %s" (plist-get phi-ls-status :model) (plist-get phi-ls-status :device)))
    (state (format "phi-ls: %s" state))))

(defvar phi-ls--warned nil "Whether the user was told that the program is not there.")

(defun phi-ls--installed-p ()
  "Whether the program is there; tells the user, once, when it is not."
  (or (executable-find (car phi-ls-command))
      (prog1 nil (unless phi-ls--warned
        (setq phi-ls--warned t)
        (display-warning 'phi-ls (format "phi-ls is not installed: there is no program \"%s\".  \
Install it as its README says, or name it in `phi-ls-command'." (car phi-ls-command)))))))

;; Explanations

(defvar phi-ls--asked-about nil
  "The last complete explanation that can be asked about: a property list with :thread, :request and :notify.")

(defun phi-ls--explain (argument request notify)
  "Have the code that ARGUMENT names explained, in a buffer that is returned.
REQUEST sends a request, given its parameters, what to do with the result and with an error message; NOTIFY sends a notification."
  (phi-ls-cancel)
  (let ((buffer (get-buffer-create "*phi-ls explanation*")))
    (with-current-buffer buffer
      (let ((inhibit-read-only t)) (erase-buffer))
      (if (fboundp 'markdown-view-mode) (markdown-view-mode) (special-mode))
      (visual-line-mode)
      (use-local-map (make-composed-keymap (define-keymap "a" #'phi-ls-ask) (current-local-map)))
      (add-hook 'kill-buffer-hook #'phi-ls-cancel nil t))
    (display-buffer buffer)
    (phi-ls--stream "phi-ls.explain" argument request notify)
    buffer))

(defun phi-ls--stream (command argument request notify)
  "Have COMMAND run with ARGUMENT, and its text appended to the explanation's buffer.  REQUEST and NOTIFY as above."
  (phi-ls-cancel)
  (let* ((token (format "phi-ls-explanation-%d" (cl-incf phi-ls--tokens)))
         (buffer (get-buffer-create "*phi-ls explanation*"))
         (explaining (list :token token :buffer buffer :notify notify))
         (end (lambda () (when (eq phi-ls--explaining explaining) (setq phi-ls--explaining nil)))))
    (setq phi-ls--explaining explaining
          phi-ls--asked-about nil)
    (funcall request
             (list :command command :workDoneToken (concat token "-work")
                   :arguments (vector (append argument (list :partialResultToken token))))
             (lambda (result)
               (funcall end)
               (let ((thread (if (hash-table-p result) (gethash "thread" result) (plist-get result :thread))))
                 (when (integerp thread)
                   (setq phi-ls--asked-about (list :thread thread :request request :notify notify)))))
             (lambda (message) (funcall end) (phi-ls--append buffer message)))))

(defun phi-ls-ask (question)
  "Ask a further QUESTION about the last explanation."
  (interactive "sA further question: ")
  (pcase phi-ls--asked-about
    ('nil (message "phi-ls: there is no explanation to ask about: it is not complete, or the model takes no questions."))
    ((map :thread :request :notify)
     (phi-ls--append "*phi-ls explanation*" (format "\n\n**%s**\n\n" question))
     (phi-ls--stream "phi-ls.followUp" (list :thread thread :question question) request notify))))

(defun phi-ls--append (buffer text)
  "Put TEXT at the end of BUFFER."
  (when (buffer-live-p (get-buffer buffer))
    (with-current-buffer buffer
      (let ((inhibit-read-only t))
        (save-excursion (goto-char (point-max)) (insert text))))))

(defun phi-ls--progress (token text)
  "Append TEXT if it belongs to the explanation that is being written.  Returns whether TOKEN is one of ours."
  (when (and text (equal token (plist-get phi-ls--explaining :token)))
    (phi-ls--append (plist-get phi-ls--explaining :buffer) text))
  (and (stringp token) (string-prefix-p "phi-ls-explanation-" token)))

(defun phi-ls-cancel ()
  "Stop the explanation that is being written."
  (interactive)
  (when-let* ((explaining phi-ls--explaining))
    (setq phi-ls--explaining nil)
    (funcall (plist-get explaining :notify) (list :token (concat (plist-get explaining :token) "-work")))))

(defun phi-ls-explain ()
  "Explain the region, or the definition on the line of point."
  (interactive)
  (if (and (bound-and-true-p lsp-mode) (lsp-find-workspace 'phi-ls))
      (phi-ls--lsp-explain (lsp--buffer-uri)
                           (if (use-region-p) (lsp--region-to-range (region-beginning) (region-end))
                             (lsp--region-to-range (pos-bol) (pos-bol))))
    (let ((start (if (use-region-p) (region-beginning) (pos-bol)))
          (end (if (use-region-p) (region-end) (pos-bol))))
      (phi-ls--eglot-explain (eglot--current-server-or-lose)
                             (append (eglot--TextDocumentIdentifier)
                                     (list :range (list :start (eglot--pos-to-lsp-position start)
                                                        :end (eglot--pos-to-lsp-position end))))))))

;; Eglot

(defclass phi-ls-server (eglot-lsp-server) () "phi-ls as Eglot sees it.")

(defun phi-ls-eglot (modes)
  "Have Eglot start phi-ls for the major MODES: a symbol or a list of them."
  (when (phi-ls--installed-p)
    (add-to-list 'eglot-server-programs (cons modes (lambda (&rest _) (cons 'phi-ls-server phi-ls-command))))))

(cl-defmethod eglot-initialization-options ((_server phi-ls-server))
  "The settings."
  (or phi-ls-settings eglot--{}))

(cl-defmethod eglot-handle-notification ((_server phi-ls-server) (_method (eql phi-ls/status)) &rest status)
  "Remember STATUS."
  (setq phi-ls-status status)
  (force-mode-line-update t))

(cl-defmethod eglot-handle-notification :around ((_server phi-ls-server) (_method (eql $/progress)) &key token value)
  "Take the pieces of explanations out of what TOKEN and VALUE say."
  (unless (phi-ls--progress token (plist-get value :text))
    (cl-call-next-method)))

(cl-defmethod eglot-execute ((server phi-ls-server) action)
  "Have SERVER do ACTION without making Emacs wait for the model, which may take longer than Eglot's ten seconds."
  (let ((command (plist-get action :command)))
    (cond
     ((plist-get action :edit) (cl-call-next-method))
     ((null command) (phi-ls--eglot-request server :codeAction/resolve action
                                            (lambda (resolved)
                                              (when (plist-get resolved :edit) (eglot-execute server resolved)))))
     ((not (stringp command)) (eglot-execute server command))
     ((equal command "phi-ls.explain") (phi-ls--eglot-explain server (aref (plist-get action :arguments) 0)))
     (t (phi-ls--eglot-request server :workspace/executeCommand
                               (list :command command :arguments (or (plist-get action :arguments) [])))))))

(defun phi-ls--eglot-request (server method params &optional then failed)
  "Send the request METHOD with PARAMS to SERVER, and call THEN with the result, or FAILED with a message."
  (let ((buffer (current-buffer)))
    (jsonrpc-async-request server method params
                           :success-fn (lambda (result)
                                         (when (and then (buffer-live-p buffer))
                                           (with-current-buffer buffer (funcall then result))))
                           :error-fn (lambda (error)
                                       (funcall (or failed (lambda (text) (message "phi-ls: %s" text))) (plist-get error :message)))
                           :timeout nil)))

(defun phi-ls--eglot-explain (server argument)
  "Have SERVER explain what ARGUMENT names."
  (phi-ls--explain argument
                   (lambda (params then failed)
                     (phi-ls--eglot-request server :workspace/executeCommand params then failed))
                   (lambda (params) (jsonrpc-notify server :window/workDoneProgress/cancel params))))

;; lsp-mode

(declare-function lsp-register-client "ext:lsp-mode")
(declare-function make-lsp-client "ext:lsp-mode")
(declare-function lsp-stdio-connection "ext:lsp-mode")
(declare-function lsp-find-workspace "ext:lsp-mode")
(declare-function lsp-request-async "ext:lsp-mode")
(declare-function lsp-notify "ext:lsp-mode")
(declare-function lsp-get "ext:lsp-mode")
(declare-function lsp--buffer-uri "ext:lsp-mode")
(declare-function lsp--region-to-range "ext:lsp-mode")
(defvar lsp-progress-function)
(defvar lsp-inline-completion-idle-delay)
(defvar lsp--cur-workspace)
(defvar lsp--buffer-workspaces)

(defun phi-ls-lsp-mode ()
  "Have lsp-mode start phi-ls beside the server of the language, with ghost text soon after one stops typing."
  (require 'lsp-mode)
  (setq lsp-inline-completion-idle-delay 0.2)
  (when (phi-ls--installed-p)
    (lsp-register-client
     (make-lsp-client
      :server-id 'phi-ls
      :add-on? t
      :priority -10
      :new-connection (lsp-stdio-connection (lambda () phi-ls-command))
      :activation-fn (lambda (file _mode) (and file t))
      :initialization-options (lambda () (or phi-ls-settings (make-hash-table)))
      :action-handlers (let ((handlers (make-hash-table :test 'equal)))
                         (puthash "phi-ls.explain"
                                  (lambda (action)
                                    (let ((argument (aref (lsp-get action :arguments) 0)))
                                      (phi-ls--lsp-explain (lsp-get argument :uri) (lsp-get argument :range))))
                                  handlers)
                         handlers)
      :notification-handlers
      (let ((handlers (make-hash-table :test 'equal)))
        (puthash "phi-ls/status"
                 (lambda (_workspace status)
                   (setq phi-ls-status (cl-loop for key in '(:state :engine :model :device :reason :detail)
                                                append (list key (lsp-get status key))))
                   (force-mode-line-update t))
                 handlers)
        (puthash "$/progress"
                 (lambda (workspace params)
                   (let ((value (lsp-get params :value)))
                     (unless (phi-ls--progress (lsp-get params :token) (lsp-get value :text))
                       (funcall lsp-progress-function workspace params))))
                 handlers)
        handlers)))))

(defun phi-ls--lsp-explain (uri range)
  "Have phi-ls explain the code at URI in RANGE."
  (let ((workspace (lsp-find-workspace 'phi-ls)))
    (cl-flet ((alone (function) (let* ((lsp--cur-workspace workspace) (lsp--buffer-workspaces (list workspace))) (funcall function))))
      (phi-ls--explain
       (list :uri uri :range range)
       (lambda (params then failed)
         (alone (lambda ()
                  (lsp-request-async "workspace/executeCommand" params then :mode 'detached
                                     :error-handler (lambda (error) (funcall failed (lsp-get error :message)))))))
       (lambda (params) (alone (lambda () (lsp-notify "window/workDoneProgress/cancel" params))))))))

(provide 'phi-ls)
;;; phi-ls.el ends here
