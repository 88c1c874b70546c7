"""Training of the embedded model: corpus, tokenizer, documents, model, export, evaluation and card.

Nothing here is imported by the server or by the backends: only the folder that `export` writes leaves this package.
"""
