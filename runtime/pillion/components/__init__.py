"""The components of one runtime: opened in their order, looked up by blocks, changed live."""
