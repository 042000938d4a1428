"""ragdemo: what retrieval-augmented generation does, shown on your own documents."""

import os

# On a busy two-core host OpenMP's default spin-wait makes torch ten times slower. It is read once,
# when torch is imported, so it has to be said here, before anything can import torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
