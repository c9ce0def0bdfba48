"""Training that is aware of quantization."""
