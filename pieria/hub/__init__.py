"""Models from elsewhere, and ours for elsewhere: checkpoints in the model hub's format, and ARPA files of n-grams.

reading.py     a checkpoint's config.json and safetensors, also in shards; nothing pickled, nothing executed
fetching.py    a checkpoint of the hub, by its id
tokenizer.py   tokenizer.json and what stands beside it
gpt2.py, llama.py, bert.py    an architecture each: our settings and weights from theirs, and theirs from ours
arpa.py        n-grams as probabilities and back-offs, in KenLM's text format
bringing.py    a run from any of them; taking.py any of them from a run
"""
