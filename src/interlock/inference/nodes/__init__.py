"""What a graph of ONNX is made of: its nodes, and trees of each library as one of them."""
