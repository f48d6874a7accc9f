"""The admin plane: health checks and metrics, on a listener of its own. It never holds a token or a secret."""
