"""switch-proxy: a sidecar that lets an app call the Switch API without ever touching a secret."""

__version__ = "0.1.0"
