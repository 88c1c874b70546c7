;;; phi-ls-test.el --- The story that each editor's test tells, in Emacs  -*- lexical-binding: t; -*-
;; PHI_LS_INIT in the environment is what the README says to put into init.el, PHI_LS_FILE the sample file.

(require 'ert)
(require 'json)
(load (getenv "PHI_LS_INIT"))

(setq eglot-events-buffer-config '(:size 0)
      eglot-confirm-server-edits nil
      lsp-auto-guess-root t
      lsp-session-file (expand-file-name "~/lsp-session")
      lsp-enable-file-watchers nil
      lsp-lens-enable nil
      lsp-enable-snippet nil
      create-lockfiles nil)

(defun test-until (what condition)
  "Wait until CONDITION is true, and return what it returned; WHAT says what did not happen otherwise."
  (let ((deadline (+ (float-time) 60)) value)
    (while (not (setq value (funcall condition)))
      (when (> (float-time) deadline)
        (ert-fail (format "%s did not happen. Status: %S. Messages: %s" what phi-ls-status
                          (with-current-buffer "*Messages*" (buffer-string)))))
      (accept-process-output nil 0.05))
    value))

(defun test-open ()
  "Visit the sample file."
  (find-file (getenv "PHI_LS_FILE"))
  (python-mode))

(defun test-eglot ()
  "Visit the sample file with Eglot, and wait for the engine."
  (test-open)
  (call-interactively #'eglot)
  (test-until "An engine that is ready" (lambda () (equal (plist-get phi-ls-status :state) "ready"))))

(defun test-lsp-mode ()
  "Visit the sample file with lsp-mode, and wait for the engine."
  (require 'lsp-inline-completion)
  (setq lsp-enabled-clients '(phi-ls))
  (test-open)
  (lsp)
  (test-until "An engine that is ready" (lambda () (equal (plist-get phi-ls-status :state) "ready"))))

(defun test-explanation ()
  (with-current-buffer "*phi-ls explanation*" (buffer-string)))

(defun test-go-to (text)
  (goto-char (point-min))
  (search-forward text)
  (beginning-of-line))

(ert-deftest eglot-completes-as-the-embedded-model-says ()
  (test-eglot)
  (should (equal (phi-ls-mode-line) "phi-ls-nano on CPU"))
  (goto-char (point-max))
  (insert "\n    def remove(self, name: str) -> None:\n        if name not in self.")
  (let* ((capf (eglot-completion-at-point))
         (candidates (all-completions "" (nth 2 capf))))
    (should (= (length candidates) 1))
    (let ((before (point)))
      (insert (car candidates))
      (funcall (plist-get (nthcdr 3 capf) :exit-function) (car candidates) 'finished)
      (should (> (point) before))
      (should-not (string-match-p "…" (buffer-string))))))

(ert-deftest eglot-streams-an-explanation-and-stops-it ()
  (test-eglot)
  (test-go-to "def add")
  (let ((code (current-buffer)))
    (phi-ls-explain)
    (let ((first (test-until "The beginning of an explanation" (lambda () (let ((text (test-explanation))) (and (> (length text) 0) text))))))
      (test-until "More of it" (lambda () (> (length (test-explanation)) (length first)))))
    (kill-buffer "*phi-ls explanation*")
    (should-not phi-ls--explaining)
    (with-current-buffer code
      (phi-ls-explain)                  ; its first words would wait for all of the one before
      (test-until "Another explanation" (lambda () (> (length (test-explanation)) 0)))
      (phi-ls-cancel))))

(ert-deftest eglot-writes-a-docstring ()
  (test-eglot)
  (test-go-to "def add")
  (let ((action (seq-find (lambda (action) (equal (plist-get action :title) "Write docstring"))
                          (eglot-code-actions (point) (point)))))
    (should action)
    (eglot-execute (eglot-current-server) action)
    (test-until "The docstring" (lambda () (save-excursion (test-go-to "def add") (forward-line) (looking-at " *\"\"\""))))))

(ert-deftest eglot-explains-by-a-code-action ()
  (test-eglot)
  (test-go-to "def add")
  (eglot-execute (eglot-current-server)
                 (seq-find (lambda (action) (equal (plist-get action :title) "Explain add")) (eglot-code-actions (point) (point))))
  (test-until "The explanation" (lambda () (string-match-p "A guess by phi-ls-nano" (test-explanation)))))

(ert-deftest eglot-survives-the-death-of-the-engine-process ()
  (test-eglot)
  (let* ((server (process-id (jsonrpc--process (eglot-current-server))))
         (engine (seq-find (lambda (process)
                             (let ((attributes (process-attributes process)))
                               (and (eql (alist-get 'ppid attributes) server)
                                    (string-match-p "phi_backends.worker" (or (alist-get 'args attributes) "")))))
                           (list-system-processes))))
    (should engine)
    (signal-process engine 'KILL)
    (test-until "The news of it" (lambda () (not (equal (plist-get phi-ls-status :state) "ready"))))
    (test-until "An engine that is ready" (lambda () (equal (plist-get phi-ls-status :state) "ready")))))

(ert-deftest lsp-mode-shows-ghost-text-of-the-embedded-model-and-accepts-it ()
  (test-lsp-mode)
  (goto-char (point-max))
  (insert "\n    def remove(self, name: str) -> None:\n        if name not in self.")
  (let ((line (buffer-substring (pos-bol) (pos-eol))))
    (lsp-inline-completion-display 'implicit)
    (should (lsp-inline-completion--active-p))
    (let ((ghost (lsp-get (car lsp-inline-completion--items) :insertText)))
      (should (> (length ghost) 0))
      (lsp-inline-completion-accept)
      (should (equal (buffer-substring (- (point) (length line) (length ghost)) (point)) (concat line ghost))))))

(ert-deftest lsp-mode-streams-an-explanation ()
  (test-lsp-mode)
  (test-go-to "def add")
  (phi-ls-explain)
  (test-until "The explanation" (lambda () (string-match-p "A guess by phi-ls-nano" (test-explanation)))))

(ert-deftest a-model-that-is-not-there-is-one-message ()
  (test-open)
  (call-interactively #'eglot)
  (test-until "The news" (lambda () (equal (plist-get phi-ls-status :state) "off")))
  (test-until "The message" (lambda () (with-current-buffer "*Messages*" (string-match-p "There is no model folder" (buffer-string)))))
  (should (= 1 (with-current-buffer "*Messages*" (how-many "There is no model folder" (point-min) (point-max))))))

(ert-deftest without-a-model-and-a-runtime-there-is-one-message ()
  (test-open)
  (call-interactively #'eglot)
  (test-until "The news" (lambda () (equal (plist-get phi-ls-status :state) "off")))
  (test-until "The message" (lambda () (with-current-buffer "*Messages*" (string-match-p "Choose a model" (buffer-string)))))
  (should (= 1 (with-current-buffer "*Messages*" (how-many "Choose a model" (point-min) (point-max)))))
  (should-not (get-buffer "*Warnings*"))
  (should-not (get-buffer "*Backtrace*")))

(defun test-ask-further ()
  "Have code explained, and ask about it."
  (test-go-to "def add")
  (phi-ls-explain)
  (test-until "An explanation that is complete" (lambda () phi-ls--asked-about))
  (with-current-buffer "*phi-ls explanation*"
    (should (eq (key-binding "a") #'phi-ls-ask)))
  (phi-ls-ask "Why is there a check?")
  (test-until "The answer" (lambda () (string-match-p "Why is there a check[^z-a]*It adds an item" (test-explanation)))))

(ert-deftest eglot-answers-a-further-question ()
  (test-eglot)
  (test-ask-further))

(ert-deftest lsp-mode-answers-a-further-question ()
  (test-lsp-mode)
  (test-ask-further))

(ert-deftest a-program-that-is-not-there-is-one-message ()
  (should (= 1 (with-current-buffer "*Warnings*" (how-many "there is no program \"no-such-program\"" (point-min) (point-max))))))
