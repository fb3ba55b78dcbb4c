"""Training of the detector's own nets; needs PyTorch, which the service never imports."""
