"""What works on a `TransformerBridge` of transformer-lens 4.x: measured there, and compared with 3.9."""
