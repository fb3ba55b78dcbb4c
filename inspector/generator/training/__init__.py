"""Training of the shipped nets: PyTorch, the `train` extra. Nothing the service runs imports this package."""
