"""The 720-ConvNet search space on proxy sets. Holds nothing yet."""
