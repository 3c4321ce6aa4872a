"""What travels in the V2 inference protocol: bodies as they arrive, tensors in both of their forms, and answers."""
