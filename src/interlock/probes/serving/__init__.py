"""What is done with a model before it is measured as it is served, and the model servers that are asked then."""
