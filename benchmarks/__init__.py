"""What `make bench` measures: this library against the code that one writes with TransformerLens today."""
